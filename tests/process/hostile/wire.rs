//! Bytes on a socket, for senders that keep to no rules.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use http_listener::testing::{self, Reply};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{PATIENCE, gzip};

pub(crate) async fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(address).await.unwrap())
}

/// A push, with header lines (each with its end) beside the usual ones.
pub(crate) fn push(token: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes on a connection of their own, and reads the first answer; `None` where there is none.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> Option<Reply> {
    let (mut reader, mut writer) = tokio::io::split(connect(address).await);
    // The answer may come, and the connection end, before everything is written.
    let send = async {
        let _refused = writer.write_all(request).await;
        let _refused = writer.flush().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = send => None,
        reply = read_reply(&mut reader) => reply,
    }
}

/// Reads one answer; `None` where the connection ends, or breaks, before it.
pub(crate) async fn read_reply<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Reply> {
    timeout(PATIENCE, testing::read_reply(stream)).await.unwrap()
}

/// Waits until the server has closed the connection; everything that it said until then.
pub(crate) async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _reset = timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
    said
}

/// The content codings that the port speaks, each with what it makes of a body.
pub(crate) fn coded(body: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let gzip = gzip(body);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(body).unwrap();
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
    raw.write_all(body).unwrap();
    [
        ("gzip", gzip.clone()),
        ("x-gzip", gzip),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
    ]
}

/// A TLS connection to `localhost` of one who trusts `certificate` (PEM); what the handshake says where it fails.
pub(crate) async fn connect_tls(
    address: SocketAddr,
    certificate: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

/// The first record of a client that speaks no newer TLS than `version` (0x0301: 1.0 to 0x0303: 1.2), and offers what every
/// server has. Source: RFC 5246.
pub(crate) fn client_hello(version: u16) -> Vec<u8> {
    // Ciphers: ECDHE-ECDSA and ECDHE-RSA with AES-128-GCM and with AES-128-CBC.
    const CIPHERS: [u8; 10] = [0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13];
    // Signatures: RSA and ECDSA with SHA-256; the group X25519; points as they are.
    const EXTENSIONS: [u8; 26] =
        [0, 24, 0, 13, 0, 6, 0, 4, 4, 1, 4, 3, 0, 10, 0, 4, 0, 2, 0, 29, 0, 11, 0, 2, 1, 0];
    let [major, minor] = version.to_be_bytes();
    let mut hello = vec![major, minor];
    hello.extend([7; 32]);
    // No session, no compression.
    hello.push(0);
    hello.extend(CIPHERS);
    hello.extend([1, 0]);
    hello.extend(EXTENSIONS);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

/// Writes and reads on a stream that is no socket of its own.
pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
) -> Option<Reply> {
    stream.write_all(request).await.ok()?;
    stream.flush().await.ok()?;
    read_reply(stream).await
}
