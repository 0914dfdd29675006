//! What the rig's intake does not do: a server that closes its connections whenever it likes, and an HTTPS
//! proxy. Both see the bytes as they come.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// When a [`Wire`] closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closes {
    /// When the client does.
    Never,
    /// Right after each answer, without having said so.
    AfterItsAnswer,
    /// It answers once, takes the second request, and is gone.
    WithTheSecondRequest,
}

/// The bodies that came whole, each with the number of its connection.
pub(crate) type Bodies = Vec<(usize, Vec<u8>)>;

/// A server that answers 202 and counts bodies by connection.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    bodies: Arc<Mutex<Bodies>>,
    _serving: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn start(closes: Closes) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), closes, "").await
    }

    /// The same at this address; each answer has these header lines, too.
    pub(crate) async fn start_at(address: SocketAddr, closes: Closes, headers: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        let answer: Arc<str> = format!("HTTP/1.1 202 Accepted\r\n{headers}content-length: 0\r\n\r\n").into();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, number, closes, Arc::clone(&answer), Arc::clone(&seen)));
            }
        });
        Self { address, bodies, _serving: serving }
    }

    /// What came so far.
    pub(crate) fn bodies(&self) -> Bodies {
        self.bodies.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    number: usize,
    closes: Closes,
    answer: Arc<str>,
    bodies: Arc<Mutex<Bodies>>,
) {
    for request in 0.. {
        let Some(head) = head(&mut stream).await else { return };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        bodies.lock().unwrap().push((number, body));
        if closes == Closes::WithTheSecondRequest && request == 1 {
            return;
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if closes == Closes::AfterItsAnswer {
            return;
        }
    }
}

/// The head of a request in lower case; none when the client is done.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_lowercase())
}

/// An HTTPS proxy that leads every tunnel to one place, whatever was asked for.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    serving: JoinSet<()>,
}

impl Proxy {
    async fn open() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self { address, heads: Arc::default(), serving: JoinSet::new() }, listener)
    }

    pub(crate) async fn start(to: SocketAddr) -> Self {
        let (mut proxy, listener) = Self::open().await;
        let seen = Arc::clone(&proxy.heads);
        proxy.serving.spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&seen);
                tunnels.spawn(async move {
                    let Some(head) = head(&mut stream).await else { return };
                    seen.lock().unwrap().push(head);
                    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    let mut there = TcpStream::connect(to).await.unwrap();
                    // A tunnel ends as its ends do.
                    let _ = copy_bidirectional(&mut stream, &mut there).await;
                });
            }
        });
        proxy
    }

    /// One that answers every request so, and leads nowhere.
    pub(crate) async fn refusing(answer: &'static [u8]) -> Self {
        let (mut proxy, listener) = Self::open().await;
        let seen = Arc::clone(&proxy.heads);
        proxy.serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(head) = head(&mut stream).await else { continue };
                seen.lock().unwrap().push(head);
                stream.write_all(answer).await.unwrap();
            }
        });
        proxy
    }

    /// The heads of what it was asked for, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
