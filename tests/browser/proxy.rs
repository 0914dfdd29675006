//! A proxy that serves the page below a path of its own.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where it serves the page.
const PREFIX: &str = "/ops/braze";

pub(crate) struct Proxy {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Forwards what comes below the prefix, without it; everything else is 404.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(async move { forward(client, upstream).await.unwrap_or_default() });
            }
        });
        Self { address, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PREFIX}/", self.address)
    }
}

/// One request, one answer.
async fn forward(mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let Some(below) = head.strip_prefix(&format!("GET {PREFIX}/")) else {
        return client
            .write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let kept = below.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let lines: Vec<&str> = kept.take_while(|line| !line.is_empty()).collect();
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(format!("GET /{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
    copy(&mut server, &mut client).await?;
    client.shutdown().await
}
