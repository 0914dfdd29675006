//! Threads that look names up, and more of them while some hang.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::{Hosts, Job, LookUp, LookUpError, SLOW, WAITING_MAX};

/// Threads with one line of jobs. A thread in a look-up that takes longer than [`SLOW`] may be there for as long as
/// `resolv.conf` lets it: another one takes its place.
pub(super) struct LookUpThreads {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

/// What the threads know; they end with the sender of jobs.
struct Shared {
    waiting: Mutex<Receiver<Job>>,
    /// How many are kept that do not hang.
    free: usize,
    /// How many there may be with those that hang.
    max: usize,
    state: Mutex<State>,
    hosts: Arc<Hosts>,
    look_up: Arc<LookUp>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// The look-ups under way, by their number, and since when.
    begun: HashMap<u64, Instant>,
    next: u64,
}

impl State {
    fn that_do_not_hang(&self) -> usize {
        self.threads - self.begun.values().filter(|since| since.elapsed() > SLOW).count()
    }
}

impl LookUpThreads {
    /// Starts `free` threads.
    pub(super) fn start(
        free: usize,
        max: usize,
        hosts: &Arc<Hosts>,
        look_up: &Arc<LookUp>,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let shared = Shared {
            waiting: Mutex::new(waiting),
            free,
            max,
            state: Mutex::default(),
            hosts: Arc::clone(hosts),
            look_up: Arc::clone(look_up),
        };
        let threads = Self { jobs, shared: Arc::new(shared) };
        threads.replace_hanging()?;
        Ok(threads)
    }

    /// Hands in a job, unless too many wait.
    pub(super) fn try_send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)
    }

    /// Starts threads in the place of those that hang.
    pub(super) fn replace_hanging(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        while state.threads < self.shared.max && state.that_do_not_hang() < self.shared.free {
            let shared = Arc::clone(&self.shared);
            thread::Builder::new().name("names".into()).spawn(move || shared.work())?;
            state.threads += 1;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shared.state().threads
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panicked holder left it whole, or the process is going down.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks names up until the resolver is gone, or another thread is in the place of this one.
    fn work(&self) {
        let next = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        while let Ok(job) = next() {
            let number = self.begin();
            self.look_up(job);
            if !self.end(number) {
                return;
            }
        }
    }

    fn begin(&self) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.begun.insert(number, Instant::now());
        number
    }

    /// Whether the thread of this look-up goes on.
    fn end(&self, number: u64) -> bool {
        let mut state = self.state();
        state.begun.remove(&number);
        let goes_on = state.that_do_not_hang() <= self.free;
        if !goes_on {
            state.threads -= 1;
        }
        goes_on
    }

    fn look_up(&self, Job { host, answer }: Job) {
        let started = Instant::now();
        let found = match (self.look_up)(&host) {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses.into()),
            Ok(_) => Err("it has no address".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let found =
            found.map_err(|reason| LookUpError::Failed { host: Arc::clone(&host), reason: reason.into() });
        self.hosts.note(&host, &found, started.elapsed());
        // The caller may be gone.
        answer.send_replace(Some(found));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tokio::sync::watch;

    use super::*;

    #[test]
    fn there_is_a_bound_to_threads_that_hang() {
        let (say, said) = sync_channel(9);
        let (open, opened) = sync_channel::<()>(9);
        let opened = Mutex::new(opened);
        let look_up: Arc<LookUp> = Arc::new(move |_: &str| {
            say.send(()).unwrap();
            opened.lock().unwrap().recv().map_err(io::Error::other)?;
            Ok(Vec::new())
        });
        let threads = LookUpThreads::start(1, 2, &Arc::default(), &look_up).unwrap();
        let mut answers = Vec::new();
        for host in ["a", "b", "c"] {
            let (answer, told) = watch::channel(None);
            assert!(threads.try_send(Job { host: host.into(), answer }).is_ok());
            answers.push(told);
        }
        for count in [2, 2] {
            said.recv().unwrap();
            thread::sleep(SLOW + SLOW / 10);
            threads.replace_hanging().unwrap();
            assert_eq!(threads.count(), count);
        }
        assert!(said.try_recv().is_err(), "a third one was begun");
        (0..3).for_each(|_| open.send(()).unwrap());
        said.recv().unwrap();
        while answers.iter().any(|told| told.borrow().is_none()) || threads.count() > 1 {
            thread::yield_now();
        }
    }
}
