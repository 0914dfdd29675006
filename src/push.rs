//! The way in for Braze's Currents HTTP push: a request becomes a frame of the embedded queue.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How the push listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address and port.
    pub listen: SocketAddr,
    /// Bearer tokens, one a line; none: no token is asked.
    pub token_file: Option<PathBuf>,
    /// The certificate chain and the private key, both PEM; none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Bytes of a body after decompression, at most.
    pub body_bytes_max: usize,
}

/// The files that TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}
