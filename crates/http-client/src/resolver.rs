//! Looks up the names of hosts: one look-up a host, however many callers, on a few threads of its own.
//!
//! The system is asked (`getaddrinfo`), because only it respects `/etc/hosts`, `nsswitch.conf`, search domains and their
//! substitutes in a container or a VPN. Such a call lasts as long as `resolv.conf` lets it and can't be cancelled, so it
//! must not share threads with other work: many of them would block every thread that unpacks bodies.

mod threads;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;

use self::threads::LookUpThreads;

/// Threads for hosts that were found the last time, or are new.
const THREADS: usize = 4;

/// Threads for hosts that were not found the last time, or only slowly: they wait for each other.
const THREADS_FOR_TROUBLED: usize = 2;

/// Threads of either kind, with those that hang.
const THREADS_MAX: usize = 32;

/// Look-ups that may wait for a thread; further ones fail at once.
const WAITING_MAX: usize = 4096;

/// Hosts that are remembered; beyond it those without callers are forgotten.
const HOSTS_MAX: usize = 4096;

/// How long addresses are used without another look-up.
const FRESH: Duration = Duration::from_secs(10);

/// How long a failure is returned without another look-up: all callers of one flush cause one.
const FAILED: Duration = Duration::from_secs(1);

/// How long addresses are used where no newer answer comes, so that an outage of the name servers stops nothing.
const STALE_MAX: Duration = Duration::from_hours(1);

/// A look-up that took longer makes its host troubled; while it goes on, another thread takes the place of its own.
const SLOW: Duration = Duration::from_secs(1);

/// How often a caller who waits looks for threads that hang.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks the system for the addresses of a host; it may block. A port is 0.
pub type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

type LookUpResult = Result<Arc<[SocketAddr]>, LookUpError>;

/// Where the result of a look-up will be.
type Asked = watch::Receiver<Option<LookUpResult>>;

/// Why a host has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    /// The system reports a failure.
    #[error("the name {host} can't be looked up: {reason}")]
    Failed {
        /// The name.
        host: Arc<str>,
        /// The system's message.
        reason: Arc<str>,
    },
    /// There was no answer in time.
    #[error("the name {host} could not be looked up within {waited:?}; do the name servers answer?")]
    Silent {
        /// The name.
        host: Arc<str>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Too many other names wait.
    #[error("the name {0} was not looked up: {WAITING_MAX} others wait")]
    Busy(Arc<str>),
}

impl LookUpError {
    /// The name.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Failed { host, .. } | Self::Silent { host, .. } | Self::Busy(host) => host,
        }
    }
}

/// The threads that look names up, and the addresses found.
pub struct Resolver {
    hosts: Arc<Hosts>,
    threads: LookUpThreads,
    threads_for_troubled: LookUpThreads,
}

/// A [`Resolver`] whose answers are waited for this long at most.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The resolver.
    pub resolver: Arc<Resolver>,
    /// How long an answer is waited for.
    pub wait_max: Duration,
}

struct Job {
    host: Arc<str>,
    answer: watch::Sender<Option<LookUpResult>>,
}

#[derive(Debug, Default)]
struct Hosts(Mutex<HashMap<Arc<str>, Host>>);

/// The state of a host.
#[derive(Debug, Default)]
struct Host {
    found: Option<(Arc<[SocketAddr]>, Instant)>,
    failed: Option<(LookUpError, Instant)>,
    asked: Option<(Asked, Instant)>,
    is_troubled: bool,
}

impl Host {
    /// The addresses found, if they are not older than `age_max`.
    fn found(&self, age_max: Duration) -> Option<Arc<[SocketAddr]>> {
        let (found, at) = self.found.as_ref()?;
        (at.elapsed() <= age_max).then(|| Arc::clone(found))
    }
}

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Host>> {
        // A panicked holder left it whole, or the process is going down.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of a look-up and its duration.
    fn note(&self, host: &Arc<str>, found: &LookUpResult, took: Duration) {
        let mut hosts = self.lock();
        let known = hosts.entry(Arc::clone(host)).or_default();
        known.asked = None;
        known.is_troubled = found.is_err() || took > SLOW;
        match found {
            Ok(addresses) => {
                known.found = Some((Arc::clone(addresses), Instant::now()));
                known.failed = None;
            }
            Err(error) => known.failed = Some((error.clone(), Instant::now())),
        }
    }

    fn stale(&self, host: &str) -> Option<Arc<[SocketAddr]>> {
        self.lock().get(host)?.found(STALE_MAX)
    }
}

/// The state of a look-up.
enum Begun {
    Known(LookUpResult),
    Asked(Asked),
}

impl Resolver {
    /// Starts the threads, which ask the system.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|host: &str| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// As [`Resolver::start`], with another look-up function; for tests.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_with(
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let look_up: Arc<LookUp> = Arc::new(look_up);
        let hosts = Arc::new(Hosts::default());
        let start = |threads| LookUpThreads::start(threads, THREADS_MAX, &hosts, &look_up);
        let (threads, threads_for_troubled) = (start(THREADS)?, start(THREADS_FOR_TROUBLED)?);
        Ok(Self { hosts, threads, threads_for_troubled })
    }

    /// The addresses of `host`, within `wait_max`. Without an answer, or after a failure, the last addresses are returned,
    /// if they are not too old.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn resolve(&self, host: &str, wait_max: Duration) -> Result<Arc<[SocketAddr]>, LookUpError> {
        let mut asked = match self.begin(host, wait_max) {
            Begun::Known(found) => return found,
            Begun::Asked(asked) => asked,
        };
        match self.wait(&mut asked, wait_max).await {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => self.hosts.stale(host).ok_or(error),
            None => {
                let silent = || LookUpError::Silent { host: host.into(), waited: wait_max };
                self.hosts.stale(host).ok_or_else(silent)
            }
        }
    }

    /// The result of a look-up. `None`: there is none in time.
    async fn wait(&self, asked: &mut Asked, wait_max: Duration) -> Option<LookUpResult> {
        let began = tokio::time::Instant::now();
        loop {
            let left = wait_max.saturating_sub(began.elapsed());
            let found = tokio::time::timeout(left.min(LOOK_AGAIN), asked.wait_for(Option::is_some)).await;
            if let Ok(found) = found {
                return found.ok()?.clone();
            }
            for threads in [&self.threads, &self.threads_for_troubled] {
                // Where the system gives no more threads, those that there are go on.
                let _started = threads.replace_hanging();
            }
            if left <= LOOK_AGAIN {
                return None;
            }
        }
    }

    fn begin(&self, host: &str, wait_max: Duration) -> Begun {
        let mut hosts = self.hosts.lock();
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(host) {
            hosts.retain(|_, known| known.asked.is_some() || known.found(FRESH).is_some());
        }
        let key: Arc<str> = hosts.get_key_value(host).map_or_else(|| host.into(), |(key, _)| Arc::clone(key));
        let known = hosts.entry(Arc::clone(&key)).or_default();
        if let Some(found) = known.found(FRESH) {
            return Begun::Known(Ok(found));
        }
        if let Some((asked, since)) = &known.asked {
            // A caller does not wait twice for a look-up that did not answer in time.
            return match known.found(STALE_MAX).filter(|_| since.elapsed() >= wait_max) {
                Some(stale) => Begun::Known(Ok(stale)),
                None => Begun::Asked(asked.clone()),
            };
        }
        if let Some((error, _)) = known.failed.as_ref().filter(|(_, at)| at.elapsed() <= FAILED) {
            return Begun::Known(known.found(STALE_MAX).ok_or_else(|| error.clone()));
        }
        let (answer, asked) = watch::channel(None);
        let threads = if known.is_troubled { &self.threads_for_troubled } else { &self.threads };
        if threads.try_send(Job { host: Arc::clone(&key), answer }).is_err() {
            return Begun::Known(known.found(STALE_MAX).ok_or(LookUpError::Busy(key)));
        }
        known.asked = Some((asked.clone(), Instant::now()));
        Begun::Asked(asked)
    }
}

impl Resolve for Patient {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { resolver, wait_max } = self.clone();
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str(), wait_max).await?;
            let addresses: Addrs = Box::new((0..addresses.len()).map(move |number| addresses[number]));
            Ok(addresses)
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("hosts", &self.hosts.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(30);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    /// Name servers that answer for `healthy.example` alone until they are opened, and count their questions.
    #[derive(Default)]
    struct Servers {
        asked: AtomicUsize,
        open: Mutex<bool>,
        opened: Condvar,
    }

    impl Servers {
        fn resolver(self: &Arc<Self>) -> Arc<Resolver> {
            let servers = Arc::clone(self);
            let look_up = move |host: &str| {
                servers.asked.fetch_add(1, Ordering::SeqCst);
                let mut open = servers.open.lock().unwrap();
                while host != "healthy.example" && !*open {
                    open = servers.opened.wait(open).unwrap();
                }
                Ok(vec![address(1)])
            };
            Arc::new(Resolver::start_with(look_up).unwrap())
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    #[tokio::test]
    async fn three_hundred_who_ask_for_a_host_that_hangs_ask_once_and_stop_no_other_host() {
        let servers = Arc::new(Servers::default());
        let resolver = servers.resolver();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let resolver = Arc::clone(&resolver);
            asking.spawn(async move { resolver.resolve("hangs.example", SOON).await });
        }
        assert_eq!(resolver.resolve("healthy.example", LONG).await.unwrap()[..], [address(1)]);
        for answer in asking.join_all().await {
            assert_eq!(answer, Err(LookUpError::Silent { host: "hangs.example".into(), waited: SOON }));
        }
        assert_eq!(servers.asked.load(Ordering::SeqCst), 2);
        // The same look-up is waited for once more, and its answer is kept.
        servers.open();
        assert_eq!(resolver.resolve("hangs.example", LONG).await.unwrap()[..], [address(1)]);
        assert_eq!(resolver.resolve("hangs.example", LONG).await.unwrap()[..], [address(1)]);
        assert_eq!(servers.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn hosts_in_trouble_wait_for_each_other_and_leave_threads_to_the_rest() {
        let fails = Arc::new(Mutex::new(true));
        let failing = Arc::clone(&fails);
        let (release, released) = sync_channel::<()>(0);
        let released = Mutex::new(released);
        let look_up = move |host: &str| match host {
            "healthy.example" => Ok(vec![address(1)]),
            _ if *failing.lock().unwrap() => Err(io::Error::other("no such name")),
            _ => {
                let _ended = released.lock().unwrap().recv();
                Ok(vec![address(2)])
            }
        };
        let resolver = Arc::new(Resolver::start_with(look_up).unwrap());
        let bad: Vec<String> = (0..20).map(|number| format!("bad-{number}.example")).collect();
        for host in &bad {
            let error = resolver.resolve(host, LONG).await.unwrap_err();
            assert!(error.to_string().contains("no such name"), "{error}");
        }
        *fails.lock().unwrap() = false;
        tokio::time::sleep(FAILED + Duration::from_millis(100)).await;
        let mut asking = tokio::task::JoinSet::new();
        for host in bad {
            let resolver = Arc::clone(&resolver);
            asking.spawn(async move { resolver.resolve(&host, SOON).await });
        }
        assert!(asking.join_all().await.iter().all(Result::is_err));
        assert_eq!(resolver.resolve("healthy.example", LONG).await.unwrap()[..], [address(1)]);
        drop(release);
    }

    #[tokio::test]
    async fn hosts_that_hang_do_not_keep_the_threads_from_a_new_one_for_long() {
        let servers = Arc::new(Servers::default());
        let resolver = servers.resolver();
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..2 * THREADS {
            let resolver = Arc::clone(&resolver);
            asking.spawn(async move { resolver.resolve(&format!("hangs-{number}.example"), LONG).await });
        }
        while servers.asked.load(Ordering::SeqCst) < THREADS {
            tokio::time::sleep(SLOW / 100).await;
        }
        let healthy = resolver.resolve("healthy.example", LONG).await;
        assert_eq!(healthy.unwrap()[..], [address(1)]);
        // Those whose look-ups end are not needed beside those that took their place.
        servers.open();
        assert!(asking.join_all().await.iter().all(Result::is_ok));
        while resolver.threads.count() > THREADS {
            tokio::time::sleep(SLOW / 100).await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_stays_away_or_fails_leaves_the_last_one_in_use() {
        let answers: [fn() -> io::Result<Vec<SocketAddr>>; 2] =
            [|| Ok(vec![address(1)]), || Err(io::Error::other("the name servers are away"))];
        let asked = AtomicUsize::new(0);
        let look_up = move |_: &str| answers[asked.fetch_add(1, Ordering::SeqCst).min(1)]();
        let resolver = Resolver::start_with(look_up).unwrap();
        assert_eq!(resolver.resolve("a.example", LONG).await.unwrap()[..], [address(1)]);
        resolver.hosts.lock().values_mut().for_each(|known| {
            let (_, at) = known.found.as_mut().unwrap();
            *at = at.checked_sub(FRESH + SOON).unwrap_or(*at);
        });
        assert_eq!(resolver.resolve("a.example", LONG).await.unwrap()[..], [address(1)]);
        assert!(resolver.hosts.lock()["a.example"].failed.is_some(), "it was not asked again");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let resolver = Resolver::start_with(|_: &str| Ok(Vec::new())).unwrap();
        let error = resolver.resolve("a.example", LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "the name a.example can't be looked up: it has no address");
    }
}
