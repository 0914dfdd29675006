//! The admin port: health, metrics, status.

use std::net::SocketAddr;

/// How the admin listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address and port.
    pub listen: SocketAddr,
}
