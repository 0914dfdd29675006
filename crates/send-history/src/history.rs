//! The handle of the history, for the flush, the views and queries.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::thread;
use std::time::{Duration, Instant};

use redb_file::{FileFault, RedbFile};

use crate::HistorySettings;
use crate::changes::{Job, Landing};
use crate::directory::{ObjectDirectory, SentObject};
use crate::flushed::FlushedSends;
use crate::keeper::Keeper;
use crate::store::{self, ReadError};
use crate::time_range::{DaySends, TimeRange};

/// How often changes are written; a kill loses that much of the history.
const TURN: Duration = Duration::from_secs(5);

/// Bytes that may wait for the thread: two million series of few campaigns, or half a million each of its own.
pub(crate) const WAITING_MAX: usize = 128 << 20;

/// Bytes that may wait beside a flush of any size, outcomes of series most of all: one that alone were beyond the bound would
/// else never be taken.
const BESIDE_MAX: usize = 16 << 20;

/// The history of sends.
#[derive(Debug)]
pub struct SendHistory {
    pub(crate) shared: Arc<Shared>,
}

/// The state of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryState {
    /// Since when it is kept, in Unix seconds; `None`: it is not open.
    pub since: Option<u64>,
    /// How many campaigns, Canvases and steps it knows.
    pub objects: usize,
    /// Bytes of its file.
    pub size: u64,
    /// Sends whose count or outcome is not in it, since the start.
    pub left_out: u64,
    /// Why it is not kept at present.
    pub trouble: Option<String>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) wake: Condvar,
    ended: Condvar,
    directory: RwLock<ObjectDirectory>,
    /// The open file, for readers.
    pub(crate) file: Mutex<Option<Arc<RedbFile>>>,
    /// As of the last turn; apart from the inbox, so that readers never wait for the writer.
    pub(crate) state: Mutex<HistoryState>,
    pub(crate) left_out: AtomicU64,
    /// The file in which a reader has found damage.
    pub(crate) damaged: Mutex<Option<Weak<RedbFile>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, ObjectDirectory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn directory_mut(&self) -> RwLockWriteGuard<'_, ObjectDirectory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work that waits for the thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) jobs: Vec<Job>,
    /// Of the jobs, in bytes; one counts for no more than leaves [`BESIDE_MAX`].
    pub(crate) size: usize,
    pub(crate) is_stopping: bool,
    is_ended: bool,
    /// There is no file, and no work is accepted.
    pub(crate) is_closed: bool,
}

impl SendHistory {
    /// Starts the thread, which opens the file. `clock` returns the Unix second.
    ///
    /// # Errors
    /// When the system gives no thread. A file that can't be used is no error: it is logged, and tried again every minute.
    pub fn start(
        settings: &HistorySettings,
        clock: impl Fn() -> u64 + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(settings, clock, TURN)
    }

    pub(crate) fn start_with(
        settings: &HistorySettings,
        clock: impl Fn() -> u64 + Send + 'static,
        turn: Duration,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut keeper = Keeper::new(Arc::clone(&shared), settings.clone());
        thread::Builder::new().name("history".into()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| keeper.run(clock, turn))).is_err() {
                tracing::error!(
                    "the thread of the history of sends ended in a panic: from here on no history is kept"
                );
                let trouble = "the thread of the history of sends ended in a panic".to_owned();
                let mut state = lock(&keeper.shared().state);
                *state = HistoryState { trouble: Some(trouble), ..HistoryState::default() };
            }
            // The file is closed before the end is announced.
            let shared = keeper.close();
            lock(&shared.inbox).is_ended = true;
            shared.ended.notify_all();
        })?;
        Ok(Self { shared })
    }

    /// Accepts a flush. Returns the handle for [`SendHistory::land`] with the outcome of its series; `None`: it is left out.
    pub fn note(&self, flushed: FlushedSends) -> Option<Arc<FlushedSends>> {
        let flushed = Arc::new(flushed);
        self.hand_over(Job::Counted(Arc::clone(&flushed))).then_some(flushed)
    }

    /// Notes the outcome of some series of a flush, by their numbers: `dropped` is the reason, or
    /// [`PRINTED`](crate::PRINTED), `None`: accepted. Of their sends the `late` oldest and the `early` newest
    /// had been left out before.
    pub fn land(
        &self,
        flushed: &Arc<FlushedSends>,
        series: Vec<u32>,
        dropped: Option<&'static str>,
        late: u64,
        early: u64,
    ) {
        let landing = Landing { dropped, late, early };
        self.hand_over(Job::Landed { flushed: Arc::clone(flushed), series, landing });
    }

    fn hand_over(&self, job: Job) -> bool {
        let size = job.size().min(WAITING_MAX - BESIDE_MAX);
        let mut inbox = lock(&self.shared.inbox);
        if inbox.is_closed || inbox.is_ended || inbox.size + size > WAITING_MAX {
            drop(inbox);
            self.shared.left_out.fetch_add(job.leave_out(), Ordering::Relaxed);
            return false;
        }
        inbox.size += size;
        inbox.jobs.push(job);
        true
    }

    /// The present state.
    pub fn state(&self) -> HistoryState {
        let left_out = self.shared.left_out.load(Ordering::Relaxed);
        HistoryState { left_out, ..lock(&self.shared.state).clone() }
    }

    /// Waits until the file is open, or can't be used. For tests; a second is long.
    pub fn is_open_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let state = self.state();
            if state.since.is_some() || state.trouble.is_some() || Instant::now() > until {
                return state.since.is_some();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The objects that `is_wanted` selects, with their numbers for [`SendHistory::days`].
    pub fn find(&self, is_wanted: impl Fn(&SentObject) -> bool) -> Vec<(u32, SentObject)> {
        let directory = self.shared.directory();
        let wanted = directory.iter().filter(|(_, object)| is_wanted(object));
        wanted.map(|(number, object)| (number, object.clone())).collect()
    }

    /// The `objects_max` last sent of the objects that `is_wanted` selects, the latest first.
    pub fn latest(&self, is_wanted: impl Fn(&SentObject) -> bool, objects_max: usize) -> Vec<SentObject> {
        let directory = self.shared.directory();
        let mut wanted: Vec<(u64, u32)> = directory
            .iter()
            .filter(|(_, object)| is_wanted(object))
            .map(|(number, object)| (object.last_send, number))
            .collect();
        wanted.sort_unstable_by_key(|latest| Reverse(*latest));
        wanted.truncate(objects_max);
        wanted.into_iter().filter_map(|(_, number)| directory.get(number).cloned()).collect()
    }

    /// The days with sends of each object, in the order of `numbers`. It reads the disk: call it on a thread that may block.
    ///
    /// # Errors
    /// When the file is not open, or can't be read.
    pub fn days(&self, numbers: &[u32], range: &TimeRange) -> Result<Vec<Vec<DaySends>>, ReadError> {
        let file = lock(&self.shared.file).clone().ok_or_else(|| {
            let trouble = self.state().trouble;
            ReadError(
                trouble.unwrap_or_else(|| "the history of sends is not open yet, or not any more".to_owned()),
            )
        })?;
        store::days(&file, numbers, range).map_err(|fault| {
            if matches!(fault, FileFault::Damaged(_)) {
                *lock(&self.shared.damaged) = Some(Arc::downgrade(&file));
            }
            ReadError(format!("the history of sends can't be read: {}", store::explain(&fault)))
        })
    }

    /// Writes the remaining work, and ends the thread. `false`: it has not ended within `limit`.
    pub fn stop(&self, limit: Duration) -> bool {
        let mut inbox = lock(&self.shared.inbox);
        inbox.is_stopping = true;
        self.shared.wake.notify_all();
        let ended = self.shared.ended.wait_timeout_while(inbox, limit, |inbox| !inbox.is_ended);
        let (inbox, _) = ended.unwrap_or_else(PoisonError::into_inner);
        inbox.is_ended
    }
}

impl Drop for SendHistory {
    fn drop(&mut self) {
        lock(&self.shared.inbox).is_stopping = true;
        self.shared.wake.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic a flush may be missing, nothing else.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
