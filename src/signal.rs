//! Signals from the system, and states for the service manager.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, io, thread};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use sd_notify::NotifyState;
use tokio::sync::Notify;

use http_listener::sampled::Sampled;

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

const OBEYED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Signals that do not end the process: their effect is reported where it shows (a write beyond the file size limit fails),
/// or there is none.
const IGNORED: [Signal; 5] =
    [Signal::SIGXFSZ, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGALRM];

/// The signals that the process obeys.
#[derive(Debug)]
pub struct Signals(Arc<Requests>);

/// What was requested and not taken yet. Several requests of one kind are one.
#[derive(Debug, Default)]
struct Requests {
    is_to_stop: AtomicBool,
    is_to_reload: AtomicBool,
    has_come: Notify,
}

impl Signals {
    /// Takes over the signals, for this thread and all that it starts from now on: so this comes before any other thread. A
    /// thread of its own waits for them, which nothing else can block; the second request to stop calls `end` there, which
    /// ends the process.
    ///
    /// It works even if the parent had blocked or ignored signals.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn new(end: impl Fn() + Send + 'static) -> io::Result<Self> {
        let obeyed: SigSet = OBEYED.into_iter().collect();
        OBEYED.into_iter().chain(IGNORED).collect::<SigSet>().thread_block()?;
        let requests = Arc::new(Requests::default());
        let noted = Arc::clone(&requests);
        let wait = move || {
            let mut is_stopping = false;
            while let Ok(signal) = obeyed.wait() {
                let is_reload = signal == Signal::SIGHUP;
                if !is_reload && std::mem::replace(&mut is_stopping, true) {
                    end();
                }
                let request = if is_reload { &noted.is_to_reload } else { &noted.is_to_stop };
                request.store(true, Ordering::Release);
                noted.has_come.notify_one();
            }
        };
        thread::Builder::new().name("signals".into()).spawn(wait)?;
        Ok(Self(requests))
    }

    /// Waits for the next request; to stop comes first. Cancel-safe.
    pub async fn next(&mut self) -> Request {
        loop {
            for (noted, request) in
                [(&self.0.is_to_stop, Request::Stop), (&self.0.is_to_reload, Request::Reload)]
            {
                if noted.swap(false, Ordering::Acquire) {
                    return request;
                }
            }
            self.0.has_come.notified().await;
        }
    }
}

/// Has a crash leave no core dump, in which API keys and tokens would be. The limit is one byte, for with none the kernel would
/// still hand one to a program in its `core_pattern`; it is the soft one, which can be raised again by whoever debugs.
pub fn leave_no_core_dump() {
    set_soft_limit(Resource::RLIMIT_CORE, |hard| hard.min(1));
}

/// Raises the soft limit of open files to the hard one. The soft one is often 1,024, for programs that use `select(2)`, as
/// nothing here does; connections to Datadog whose requests hang would need more.
pub fn raise_open_files_limit() {
    set_soft_limit(Resource::RLIMIT_NOFILE, |hard| hard);
}

/// Sets a soft limit by the hard one.
fn set_soft_limit(resource: Resource, of: impl FnOnce(rlim_t) -> rlim_t) {
    let limits = getrlimit(resource);
    // Where a filter refuses it, whoever set that has a limit of its own.
    let _refused = limits.and_then(|(_, hard)| setrlimit(resource, of(hard), hard));
}

/// A manager that is gone would be logged at each sign of life.
static NOTIFY_LOG: Sampled = Sampled::new();

/// `READY=1` could not be sent: the manager waits for it.
static IS_READY_OWED: AtomicBool = AtomicBool::new(false);

/// The states for the service manager. Source: `sd_notify(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// Started, or through with a reload.
    Ready,
    /// A reload has begun.
    Reloading,
    /// The process is going down.
    Stopping,
    /// The process is alive.
    Watchdog,
}

/// Notifies the service manager, if there is one. Never waits: a manager that does not read gets nothing, and what it needs is
/// sent by [`notify_if_owed`].
pub fn notify(state: ServiceState) {
    let sent = match state {
        ServiceState::Ready => send(&NotifyState::Ready.to_string()),
        ServiceState::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| send(&format!("{}\n{now}", NotifyState::Reloading))),
        ServiceState::Stopping => send(&NotifyState::Stopping.to_string()),
        ServiceState::Watchdog => send(&NotifyState::Watchdog.to_string()),
    };
    match state {
        ServiceState::Ready => IS_READY_OWED.store(sent.is_err(), Ordering::Relaxed),
        ServiceState::Reloading | ServiceState::Stopping => IS_READY_OWED.store(false, Ordering::Relaxed),
        ServiceState::Watchdog => {}
    }
    if let Err(error) = sent
        && let Some(hidden) = NOTIFY_LOG.pass()
    {
        tracing::warn!(?state, %error, hidden, "the service manager could not be told");
    }
}

/// Says once more that the process is ready, if the manager could not be told.
pub fn notify_if_owed() {
    if IS_READY_OWED.load(Ordering::Relaxed) {
        notify(ServiceState::Ready);
    }
}

/// Sends `state` to `NOTIFY_SOCKET`: a path, or with `@` before it a name of the abstract kind. (`sd_notify::notify` knows
/// paths only, and waits.)
fn send(state: &str) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// How often the service manager wants a sign of life; `None`: it does not, as with 0 (`sd_watchdog_enabled(3)`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}
