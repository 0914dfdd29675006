//! An HTTPS proxy that leads to stand-ins for Datadog's hosts, and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the proxy has seen.
#[derive(Debug, Default)]
struct Seen {
    hosts: Vec<String>,
    under_way: usize,
    at_once_max: usize,
}

/// The proxy. It stops when it is dropped.
pub(crate) struct Tunnel {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _serving: JoinSet<()>,
}

impl Tunnel {
    /// Opens the proxy; a tunnel to a host without a route is refused. A tunnel takes `delay` to open, so that those
    /// that are asked for at the same time meet.
    pub(crate) async fn open(routes: BTreeMap<String, SocketAddr>, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (routes, noted) = (Arc::new(routes), Arc::clone(&seen));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tunnels.spawn(serve(client, Arc::clone(&routes), Arc::clone(&noted), delay));
            }
        });
        Self { address, seen, _serving: serving }
    }

    /// For `HTTPS_PROXY`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts that were asked for, in order.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.seen.lock().unwrap().hosts.clone()
    }

    /// How many tunnels were being opened at the same time, at most.
    pub(crate) fn at_once_max(&self) -> usize {
        self.seen.lock().unwrap().at_once_max
    }
}

async fn serve(
    mut client: TcpStream,
    routes: Arc<BTreeMap<String, SocketAddr>>,
    seen: Arc<Mutex<Seen>>,
    delay: Duration,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let host = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next()).unwrap().to_owned();
    {
        let mut seen = seen.lock().unwrap();
        seen.hosts.push(host.clone());
        seen.under_way += 1;
        seen.at_once_max = seen.at_once_max.max(seen.under_way);
    }
    tokio::time::sleep(delay).await;
    seen.lock().unwrap().under_way -= 1;
    match routes.get(&host) {
        None => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await.unwrap(),
        Some(route) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut site = TcpStream::connect(route).await.unwrap();
            // A tunnel ends as its ends do.
            let _ = copy_bidirectional(&mut client, &mut site).await;
        }
    }
}
