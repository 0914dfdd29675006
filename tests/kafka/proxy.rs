//! A way to the broker that can be cut: what clients see of a broker that is restarted and has kept its data.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::ports;

/// Forwards connections while it is open, and refuses them while it is cut.
pub(crate) struct Proxy {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A port of the loopback that leads nowhere yet: the broker has to be told of it before it starts.
    pub(crate) fn reserve() -> (TcpListener, SocketAddr) {
        // While it is cut nobody listens there.
        let [address] = ports::free();
        (TcpListener::bind(address).unwrap(), address)
    }

    /// Forwards what comes to `listener` to `broker`.
    pub(crate) fn open(listener: TcpListener, broker: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let (is_open, state) = watch::channel(true);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(forward(listener, broker, state, &counted));
        });
        Self { address, is_open, connections, thread: Some(thread) }
    }

    /// Closes all connections and takes no others.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Takes connections again.
    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }

    /// How many there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The thread ends when nobody can cut or mend any more.
        self.is_open = watch::channel(false).0;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn forward(
    listener: TcpListener,
    broker: SocketAddr,
    mut state: watch::Receiver<bool>,
    made: &AtomicUsize,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let opened = match listener.take() {
            Some(listener) => listener,
            None => ports::listen_again(address).await,
        };
        opened.set_nonblocking(true).unwrap();
        let opened = tokio::net::TcpListener::from_std(opened).unwrap();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                changed = state.wait_for(|is_open| !is_open) => match changed {
                    Ok(_) => break,
                    Err(_) => return,
                },
                accepted = opened.accept() => {
                    let (mut client, _) = accepted.unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(async move {
                        let mut server = TcpStream::connect(broker).await.unwrap();
                        // An end is an end, whoever made it.
                        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            }
        }
        // Both are gone before anybody is let in again.
        drop(opened);
        connections.shutdown().await;
        if state.wait_for(|is_open| *is_open).await.is_err() {
            return;
        }
    }
}
