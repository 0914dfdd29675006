//! The way to an intake, which can be closed, end in the middle of a handshake, or lead to somebody else.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::ports;

/// Where the way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To this address.
    To(SocketAddr),
    /// Nobody listens.
    Closed,
    /// Somebody listens, hears the greeting, and begins an answer that never goes on.
    HalfAHandshake,
}

/// Forwards connections on a port of its own. Those that are open end when the way changes.
pub(crate) struct Road {
    address: SocketAddr,
    way: watch::Sender<Way>,
    thread: Option<JoinHandle<()>>,
}

impl Road {
    pub(crate) fn open(way: Way) -> Self {
        // While the way is closed nobody listens there.
        let [address] = ports::free();
        let listener = TcpListener::bind(address).unwrap();
        let (way, state) = watch::channel(way);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(forward(listener, state));
        });
        Self { address, way, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; the next ones go this way.
    pub(crate) fn lead(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        // The thread ends when nobody can change the way any more.
        self.way = watch::channel(Way::Closed).0;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the road broke down");
        }
    }
}

async fn forward(listener: TcpListener, mut state: watch::Receiver<Way>) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let way = *state.borrow_and_update();
        let mut connections = JoinSet::new();
        if way == Way::Closed {
            listener = None;
        } else if listener.is_none() {
            listener = Some(ports::listen_again(address).await);
        }
        let opened = listener.as_ref().map(|listener| {
            let listener = listener.try_clone().unwrap();
            listener.set_nonblocking(true).unwrap();
            tokio::net::TcpListener::from_std(listener).unwrap()
        });
        loop {
            tokio::select! {
                changed = state.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(client) = accept(opened.as_ref()) => {
                    connections.spawn(lead(client, way));
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn accept(listener: Option<&tokio::net::TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => Some(listener.accept().await.unwrap().0),
        None => std::future::pending().await,
    }
}

async fn lead(mut client: TcpStream, way: Way) {
    match way {
        Way::To(address) => {
            let Ok(mut server) = TcpStream::connect(address).await else { return };
            // An end is an end, whoever made it.
            let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        Way::HalfAHandshake => {
            let mut greeting = [0; 512];
            let heard = client.read(&mut greeting).await;
            // A handshake record of 122 bytes, of which the first four come: a ServerHello of 118.
            if heard.is_ok_and(|bytes| bytes > 0)
                && client.write_all(&[0x16, 3, 3, 0, 122, 2, 0, 0, 118]).await.is_ok()
            {
                std::future::pending::<()>().await;
            }
        }
        Way::Closed => {}
    }
}
