//! An HTTP/1.1 server for ports that the world may reach: it accepts, bounds and ends connections, and
//! leaves every answer to a closure.
//!
//! [`ConnectionLimits`] bounds the cost of a peer before it has shown a token: connections, header bytes, and time. The
//! handler bounds the cost of a *request* (its body). When connections are short, peers that are not vouched for
//! ([`Caller::vouch`]) make room, and then senders with more than their share: thousands of idle or slow connections keep
//! nobody out.

pub mod file;
pub mod sampled;
pub mod tls;

mod certificate;
mod connection;
mod connection_limit;
mod counts;
mod descriptors;
mod observed;
mod progress;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod worker_pool;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, warn};

use self::connection::PeerConnection;
use self::connection_limit::{ConnectionLimit, ConnectionSlot};
pub use self::counts::Counts;
use self::sampled::Sampled;
pub use self::worker_pool::StartError;

/// A complete response: every answer here is small.
pub type Answer = Response<Full<Bytes>>;

/// How long accepting rests after the system refused it: with no file descriptor left, `accept` fails at
/// once, again and again.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The limits of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Vouched connections at a time. One more takes the slot of one without a request under way, else, below its sender's
    /// share, of one above its sender's share.
    pub connections_max: usize,
    /// Slots beside those for strangers, who may also use free ones of the others. One more takes the slot of the oldest.
    pub strangers_min: usize,
    /// For a TLS handshake.
    pub handshake_time_max: Duration,
    /// From the connection to the end of the first request's header. A peer that sends nothing, or a byte now and then,
    /// keeps its slot no longer than this.
    pub first_request_time_max: Duration,
    /// From one answer to the end of the next request's header. Longer than the 60 s after which common load balancers give
    /// up an idle connection, so that they close it, rather than we under a request.
    pub idle_time_max: Duration,
    /// After this a connection ends with its next answer, so that peers come back under the newest
    /// certificate, spread over all addresses, and nothing lives for ever. Without a further request it ends as an idle one.
    pub age_max: Duration,
    /// What a request that is under way then, or comes before `idle_time_max` is over, gets on top of both.
    pub request_time_max: Duration,
    /// For a peer to stop sending after a refusal that left its body unread. To close at once would reset the
    /// connection, and a reset takes the answer with it before the peer could read it.
    pub linger_time_max: Duration,
    /// Lingering ends earlier after this long without a byte from the peer.
    pub linger_idle_time_max: Duration,
    /// Bytes thrown away while lingering.
    pub linger_bytes_max: usize,
    /// After a stop is requested: the time for half a header, and for lingering.
    pub stop_time_max: Duration,
}

impl Default for ConnectionLimits {
    /// For a port that the world may reach. A thousand connections carry Braze's published peak (3,500 batches a second at
    /// 0.2 s each is 700), and cost at most 64 MiB of read buffers.
    fn default() -> Self {
        Self {
            connections_max: 1024,
            strangers_min: 256,
            handshake_time_max: Duration::from_secs(10),
            first_request_time_max: Duration::from_secs(15),
            idle_time_max: Duration::from_secs(75),
            age_max: Duration::from_hours(1),
            request_time_max: Duration::from_mins(2),
            linger_time_max: Duration::from_secs(30),
            linger_idle_time_max: Duration::from_secs(5),
            linger_bytes_max: 64 * 1024 * 1024,
            stop_time_max: Duration::from_secs(1),
        }
    }
}

/// File descriptors that are no connections: the queue's files, the history, threads' event queues, and a few to spare.
const DESCRIPTORS_OF_THE_REST: usize = 40;

impl ConnectionLimits {
    /// The same with no more connections than leave file descriptors to the rest of the process: a peer that took all of
    /// them would block requests to Datadog and the files of the queue.
    #[must_use]
    pub fn within_descriptors(self) -> Self {
        self.within(descriptors::soft_limit())
    }

    fn within(self, descriptors_max: usize) -> Self {
        let free = descriptors_max.saturating_sub(DESCRIPTORS_OF_THE_REST);
        Self {
            connections_max: self.connections_max.min((free / 2).max(1)),
            strangers_min: self.strangers_min.min((free / 8).max(1)),
            ..self
        }
    }
}

/// Whether a request may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Welcome,
    /// A stop was asked for before this request began.
    Stopping,
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The other end of the connection, which may be a proxy.
    pub peer: SocketAddr,
    /// Whether the request may be served.
    pub admission: Admission,
    slot: Arc<ConnectionSlot>,
}

impl Caller {
    /// Says that this peer may be here, as one of several senders (by number) where they are told apart. Whether there is a
    /// slot for it; without one, refuse the request and [`hang_up`].
    ///
    /// Its connection then makes room for others only while it is idle, or where its sender holds more than its share
    /// ([`Caller::displaced`]).
    #[must_use]
    pub fn vouch(&self, sender: Option<usize>) -> bool {
        self.slot.vouch(sender)
    }

    /// Resolves when this request's slot was given to another: refuse it, and [`hang_up`].
    pub async fn displaced(&self) {
        self.slot.progress.displaced().await;
    }

    /// Protects this request from being cut off from here on.
    pub fn keep(&self) {
        self.slot.progress.keep();
    }
}

/// Marks an answer with [`hang_up`]; a response extension, never on the wire.
#[derive(Debug, Clone, Copy)]
struct HangUp;

/// Ends the connection after this answer. Needed for an answer that leaves the request's body unread, so
/// that the rest of the body is not taken for a request; the peer still gets to read the answer.
pub fn hang_up(mut answer: Answer) -> Answer {
    answer.extensions_mut().insert(HangUp);
    answer
}

/// The address can't be listened on. The message names the setting and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = \"{address}\": {}", advice(.source))]
pub struct ListenError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// A port can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenPortError {
    /// Its address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The threads for long requests can't be made.
    #[error(transparent)]
    Threads(#[from] StartError),
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is already in use; stop the program that listens there, or choose another port"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use one of its own, 127.0.0.1, or 0.0.0.0 for all".into()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, so choose a higher port".into()
        }
        _ => format!("can't listen there: {error}"),
    }
}

/// A port that is open, and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    limits: ConnectionLimits,
    counts: Arc<Counts>,
}

impl Listener {
    /// Opens the port. `setting` is the configuration key that errors name.
    ///
    /// # Errors
    /// When the address is taken, foreign or forbidden.
    pub async fn bind(
        address: SocketAddr,
        setting: &'static str,
        limits: ConnectionLimits,
    ) -> Result<Self, ListenError> {
        let refused = |source| ListenError { setting, address, source };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address, limits, counts: Arc::default() })
    }

    /// Where it listens; with port 0 in the settings, the port that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counts, which live on while [`Listener::run`] runs.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Serves until `stop` turns true (or its sender is gone), then closes the port and the idle connections
    /// and gives requests under way `grace` to be answered. Returns how many connections were cut off
    /// because they took longer.
    ///
    /// `tls` is asked once for every connection; `handle` answers requests, and is dropped without an answer where the
    /// connection is cut off. A peer that is gone in the middle of a body ends that body; one that is gone after it is noticed
    /// when it is answered, for it may only have closed its half.
    pub async fn run<T, H, F>(
        self,
        tls: T,
        handle: H,
        mut stop: watch::Receiver<bool>,
        grace: Duration,
    ) -> usize
    where
        T: Fn() -> Option<Arc<ServerConfig>>,
        H: Fn(Request<Incoming>, Caller) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let handle = Arc::new(handle);
        let limit = ConnectionLimit::new(self.limits, self.address, Arc::clone(&self.counts));
        let (handshake_log, unreadable_log) = (Arc::new(Sampled::default()), Arc::new(Sampled::default()));
        let accept_log = Sampled::default();
        let mut connections = JoinSet::new();
        let asked = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, peer)) => {
                        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                        let Some((slot, displaces)) = limit.enter() else { continue };
                        let connection = PeerConnection {
                            handle: Arc::clone(&handle),
                            peer,
                            limits: self.limits,
                            stop: asked.clone(),
                            counts: Arc::clone(&self.counts),
                            handshake_log: Arc::clone(&handshake_log),
                            unreadable_log: Arc::clone(&unreadable_log),
                            slot: Arc::new(slot),
                        };
                        connections.spawn(connection.hold(socket, tls()));
                        // A displaced connection ends at its next step, so there are never more sockets than slots.
                        if displaces && let Some(ended) = connections.join_next().await {
                            report(ended);
                        }
                    }
                    Err(error) => rest(&accept_log, self.address, &error).await,
                },
            }
        }
        drop(self.socket);
        drain(connections, grace).await
    }
}

/// Resolves when a stop is requested. A sender that is gone can never request one: that is a stop as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left who could ask for a stop");
    }
}

/// Waits after a failed `accept`. A peer that left before it was accepted is not an error; anything else (no file
/// descriptors, no memory) would fail again at once.
async fn rest(log: &Sampled, address: SocketAddr, error: &io::Error) {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted];
    if gone.contains(&error.kind()) {
        return;
    }
    if let Some(hidden) = log.pass() {
        warn!(%address, %error, hidden, "can't accept connections; if files are short, raise LimitNOFILE");
    }
    tokio::time::sleep(ACCEPT_REST).await;
}

/// Waits for connections to end, up to `grace`; returns how many had to be cut off.
async fn drain(mut connections: JoinSet<()>, grace: Duration) -> usize {
    let mut over = pin!(tokio::time::sleep(grace));
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                Some(ended) => report(ended),
                None => return 0,
            },
            () = &mut over => {
                let cut_off = connections.len();
                connections.shutdown().await;
                return cut_off;
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a connection ended in a panic; please report it");
    }
}

#[cfg(test)]
mod tests;
