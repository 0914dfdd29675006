//! Receives Braze's Currents HTTP push: a request becomes a frame of the embedded queue.
//!
//! Braze counts a batch as delivered at any 2XX, gives it up at 401, 403 and 404, splits it at 400 and 413, and sends it
//! again at all else. So it answers 200 only after the queue has made the batch durable, and 503 to all trouble that may pass.
//!
//! The bounds on a sender, whatever it sends:
//!
//! | what | bound | then |
//! |---|---|---|
//! | connections with a valid token | 1,024, and half of the file descriptors | an idle one of a token that holds more makes room; else, for a token below its share, a slow body of one above it; else an idle one of its own; else 503 |
//! | connections beside those | 256, and what is free of the others | the oldest makes room |
//! | a TLS handshake, the first header, the next one | 10 s, 15 s, 75 s | the connection ends |
//! | a header | 16 KiB, 100 lines | 431 |
//! | a body | `push.max_body` after decompression | 413 |
//! | its time | 15 s for each 64 KiB, 60 s for all of it | 408 |
//! | all bodies, extracts included | 8 times `push.max_body`, 64 MiB at least, taken as they come; half of it for one of several tokens | 503 |
//! | threads that unpack and check large bodies | as many as there are cores, made at the start and used for nothing else | they wait, 10 s at most, then 503 |
//! | a connection | an hour | it ends with the next answer |
//!
//! A request without a valid token gets no further than its header, except for `/healthz`, `/livez` and `/readyz`, which
//! answer everybody with nothing but the state.

mod body;
mod buffer_pool;
mod coding;
mod counters;
mod credentials;
mod handler;
mod health;
mod intermediary;
mod memory;
mod offered;
mod path;
mod query;
mod refusal;
mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::counters::Counters;
pub use self::credentials::{
    CertificateTrouble, CredentialPart, Credentials, CredentialsError, ReadCredentials, Reload, is_loopback,
};
use self::handler::PushHandler;
#[cfg(fuzzing)]
pub use self::handler::fuzzing;
pub use self::health::Readiness;
use self::memory::Share;
use self::refusal::Refusal;
use event_queues::embedded::{AppendError, Appender, Pushed};
use http_listener::worker_pool::WorkerPool;
use http_listener::{Listener, OpenPortError};

/// The settings of the push listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSettings {
    /// The address and port.
    pub listen: SocketAddr,
    /// Bearer tokens, one a line, each with the app groups that it is bound to, if it is; none: no token is asked.
    pub token_file: Option<PathBuf>,
    /// The certificate chain and the private key, both PEM; none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Bytes of a body after decompression, at most.
    pub body_bytes_max: usize,
}

impl PushSettings {
    /// The files of tokens, certificate and key.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        CredentialPart::ALL.into_iter().flat_map(|part| self.files_of(part))
    }

    /// Those of a part.
    pub fn files_of(&self, part: CredentialPart) -> impl Iterator<Item = &Path> {
        let tokens = self.token_file.iter().filter(move |_| part == CredentialPart::Tokens);
        let tls = self.tls.iter().filter(move |_| part == CredentialPart::Certificate);
        tokens.chain(tls.flat_map(|tls| [&tls.certificate, &tls.key])).map(PathBuf::as_path)
    }
}

/// The files that TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// The push port, open but not yet served.
#[derive(Debug)]
pub struct PushListener {
    listener: Listener,
    appender: Appender,
    reload: Reload,
    counters: Arc<Counters>,
    limits: handler::BodyLimits,
    pool: WorkerPool,
}

/// Opens the push port.
///
/// # Errors
/// When it can't be listened on (the message names the setting), or the threads for large bodies can't be made.
pub async fn bind(
    settings: &PushSettings,
    credentials: Credentials,
    appender: Appender,
) -> Result<PushListener, OpenPortError> {
    let limits = http_listener::ConnectionLimits::default().within_descriptors();
    if limits != http_listener::ConnectionLimits::default() {
        tracing::warn!(
            connections = limits.connections_max,
            "push takes fewer connections than it could, for this process may open few files, and requests to Datadog that \
             hang take of them, too; raise LimitNOFILE (ulimit -n) to 4096 or more"
        );
    }
    let listener = Listener::bind(settings.listen, "push.listen", limits).await?;
    let limits = handler::BodyLimits::new(settings.body_bytes_max);
    Ok(PushListener {
        reload: Reload::new(listener.local_addr(), credentials),
        pool: handler::start_pool(limits)?,
        limits,
        counters: Arc::default(),
        listener,
        appender,
    })
}

impl PushListener {
    /// Where it listens; with port 0 in the settings, the port that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The handle for replacing tokens and certificate while the port is open.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// The requests by status.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The connections.
    pub fn connections(&self) -> Arc<http_listener::Counts> {
        self.listener.counts()
    }

    /// Serves until `stop` turns true or its sender is gone, then gives requests under way `grace`, or as long as it is
    /// polled. Returns how many connections were cut off because they took longer. `readiness` answers health checks.
    ///
    /// A push whose sender goes away once it has sent it whole is appended all the same.
    pub async fn run(self, readiness: Readiness, stop: watch::Receiver<bool>, grace: Duration) -> usize {
        let Self { listener, appender, reload, counters, limits, pool } = self;
        let accepts = {
            let appender = appender.clone();
            move || {
                if appender.is_accepting() {
                    Ok(())
                } else if appender.is_full() {
                    Err(Refusal::Append(AppendError::Full))
                } else {
                    Err(Refusal::NotAccepting)
                }
            }
        };
        let append = move |pushed: Pushed, share: Share| {
            let appender = appender.clone();
            // A connection that is cut off takes its push out of the handler, but not out of the queue's memory.
            async move { appender.append_holding(pushed.into(), Box::new(share)).await }
        };
        let handler = PushHandler::new(limits, reload.clone(), counters, pool, readiness);
        serve(listener, handler, reload, accepts, append, stop, grace).await
    }
}

/// Serves pushes on a listener. The queue is passed as two closures so that tests can replace it.
async fn serve<R, A, F>(
    listener: Listener,
    handler: PushHandler,
    reload: Reload,
    accepts: R,
    append: A,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> usize
where
    R: Fn() -> Result<(), Refusal> + Send + Sync + 'static,
    A: Fn(Pushed, Share) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), AppendError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let handle = move |request, caller| {
        let (handler, accepts, append) = (Arc::clone(&handler), accepts(), append.clone());
        async move { handler.answer(request, caller, accepts, append).await }
    };
    listener.run(move || reload.current().tls.clone(), handle, stop, grace).await
}

#[cfg(test)]
mod tests;
