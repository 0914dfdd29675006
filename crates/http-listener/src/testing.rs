//! A small HTTP client for tests that must see every byte, and certificates made on the spot.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::new_without_default,
    reason = "a test stops at the first surprise"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server's answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The first line and the header, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether it says that the connection ends.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A connection.
pub async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Sends a request and reads the answer.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &[u8]) -> Reply {
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    read_reply(stream).await.expect("the connection was closed without an answer")
}

/// Reads an answer that says its length, byte by byte, so that the next one is left alone; `None` where the
/// connection ends, or breaks, before it.
pub async fn read_reply<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Reply> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        if head[0] != b'H' {
            return None;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let mut reply = Reply { status, head, body: String::new() };
    if status >= 200 {
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        reply.body = String::from_utf8(body).unwrap();
    }
    Some(reply)
}

/// Waits until something has happened that no answer tells of.
pub async fn eventually(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it did not happen");
}

/// How many pairs this process has made.
static PAIRS: AtomicUsize = AtomicUsize::new(0);

/// A certificate for `localhost` and its key, as files.
#[derive(Debug)]
pub struct TlsPair {
    /// The certificate, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    der: CertificateDer<'static>,
    directory: PathBuf,
}

impl TlsPair {
    /// A new pair, whose files go with it.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tls-pair-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { certificate, key, der: made.cert.der().clone(), directory }
    }

    /// What a server needs of it.
    pub fn config(&self) -> Arc<ServerConfig> {
        super::tls::load(&self.certificate, &self.key).unwrap().config
    }
}

impl Drop for TlsPair {
    fn drop(&mut self) {
        // What is left of a test in the temporary directory harms nobody.
        let _left = std::fs::remove_dir_all(&self.directory);
    }
}

/// Connects to `localhost` as someone who trusts `pair` and offers `protocols`.
pub async fn tls_client(
    address: SocketAddr,
    pair: &TlsPair,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    handshake(address, pair, protocols, rustls::DEFAULT_VERSIONS).await
}

/// The same with chosen versions of TLS.
pub async fn tls_client_for(
    address: SocketAddr,
    pair: &TlsPair,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<TlsStream<TcpStream>> {
    handshake(address, pair, &[], versions).await
}

async fn handshake(
    address: SocketAddr,
    pair: &TlsPair,
    protocols: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(address).await).await
}
