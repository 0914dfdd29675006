//! The thread that writes.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::changes::{Job, RowChanges};
use crate::directory::ObjectDirectory;
use crate::history::{HistoryState, Inbox, Shared, lock};
use crate::store::{self, Store, StoredObjects};
use crate::{DAY, HistorySettings};
use redb_file::FileFault;

/// How often an unusable file is tried again, a message is repeated, and the bounds are checked.
const AGAIN: Duration = Duration::from_mins(1);

/// Rows that may wait for a disk that accepts no writes.
const ROWS_MAX: usize = 200_000;

/// Bytes of a row in the file, with its object, where both are new.
const ROW_BYTES: u64 = 256;

/// Bytes that the names may have in memory.
const fn names_max(settings: &HistorySettings) -> u64 {
    settings.size_max / 8
}

/// Bytes that are written without a look at the bound of the file.
const fn write_bytes_max(settings: &HistorySettings) -> u64 {
    settings.size_max / 40
}

/// The state of the thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    settings: HistorySettings,
    store: Option<Store>,
    /// Changes that are not written yet.
    changes: RowChanges,
    /// Changes whose write failed, which may be in the file all the same.
    in_doubt: Option<RowChanges>,
    /// How many times the file had been written when it was lost; `None`: it never was open.
    turn: Option<u64>,
    opened: Option<Instant>,
    trimmed: Option<Instant>,
    /// Of the sends that are left out, those of new campaigns without room.
    left_out_for_room: u64,
    told: LoggedState,
}

/// The messages that were logged, each once.
#[derive(Debug, Default)]
struct LoggedState {
    trouble: Option<String>,
    /// Sends that are left out, but those without room.
    left_out: u64,
    at: Option<Instant>,
    left_out_for_room: u64,
    no_room_at: Option<Instant>,
    full_at: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, settings: HistorySettings) -> Self {
        shared.directory_mut().bytes_max = Some(names_max(&settings));
        Self {
            shared,
            settings,
            store: None,
            changes: RowChanges::default(),
            in_doubt: None,
            turn: None,
            opened: None,
            trimmed: None,
            left_out_for_room: 0,
            told: LoggedState::default(),
        }
    }

    pub(crate) fn run(&mut self, clock: impl Fn() -> u64, turn: Duration) {
        loop {
            let now = clock();
            self.open(now);
            let jobs = {
                let mut inbox = lock(&self.shared.inbox);
                inbox.size = 0;
                std::mem::take(&mut inbox.jobs)
            };
            self.heed_clock(now);
            self.work(jobs, now);
            self.heed_readers(now);
            self.write(now);
            self.log_left_out();
            let inbox = lock(&self.shared.inbox);
            let is_waiting = |inbox: &mut Inbox| !inbox.is_stopping;
            let (inbox, _) = self
                .shared
                .wake
                .wait_timeout_while(inbox, turn, is_waiting)
                .unwrap_or_else(PoisonError::into_inner);
            if inbox.is_stopping && inbox.jobs.is_empty() {
                drop(inbox);
                return self.write_the_rest(clock());
            }
        }
    }

    /// Writes at a stop what an earlier write did not take, if the disk has room again; what it still does not take is counted.
    fn write_the_rest(&mut self, now: u64) {
        let is_all_written = |keeper: &Self| keeper.changes.is_empty() && keeper.in_doubt.is_none();
        if !is_all_written(self) {
            self.opened = None;
            self.open(now);
            self.write(now);
        }
        if !is_all_written(self) {
            let mut unwritten = self.in_doubt.take().unwrap_or_default();
            unwritten.add(std::mem::take(&mut self.changes));
            self.shared.left_out.fetch_add(unwritten.leave_out(), Ordering::Relaxed);
        }
        let told = self.told.left_out + self.told.left_out_for_room;
        let sends = self.shared.left_out.load(Ordering::Relaxed).saturating_sub(told);
        if sends > 0 {
            tracing::warn!(
                sends,
                directory = %self.settings.directory.display(),
                "the history of sends lacks the count or the outcome of these sends at the stop; counting is not touched"
            );
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Closes the file.
    pub(crate) fn close(mut self) -> Arc<Shared> {
        *lock(&self.shared.file) = None;
        self.store = None;
        self.shared
    }

    /// Opens the file, unless that failed less than a minute ago.
    fn open(&mut self, now: u64) {
        if self.store.is_some() || self.opened.is_some_and(|opened| opened.elapsed() < AGAIN) {
            return;
        }
        self.opened = Some(Instant::now());
        let opened = match Store::open(&self.settings, now) {
            Err(FileFault::Damaged(reason)) => self.begin_anew(&reason, now),
            opened => opened,
        };
        match opened {
            Ok((store, objects)) => self.opened(store, objects),
            Err(error) => self.fail(&error),
        }
    }

    fn opened(&mut self, store: Store, objects: StoredObjects) {
        let in_doubt = self.in_doubt.take();
        // A write that reported failure may have succeeded.
        if in_doubt.is_none() || self.turn.is_none_or(|turn| turn + 1 != store.turn) {
            self.changes.add(in_doubt.unwrap_or_default());
            if self.turn != Some(store.turn) {
                // It is another file, or another process has written: the numbers are not ours.
                let mut directory = self.shared.directory_mut();
                *directory = ObjectDirectory::read(directory.generation + 1, objects.next, objects.all);
                directory.bytes_max = Some(names_max(&self.settings));
                let sends = std::mem::take(&mut self.changes).leave_out();
                self.shared.left_out.fetch_add(sends, Ordering::Relaxed);
                if sends > 0 {
                    self.told.left_out += sends;
                    let message = "the history of sends is another file than before: the count or the outcome of these sends is not in it";
                    tracing::warn!(sends, "{message}; counting is not touched");
                }
            }
        }
        *lock(&self.shared.file) = Some(Arc::clone(&store.file));
        self.show(&store);
        lock(&self.shared.inbox).is_closed = false;
        if self.told.trouble.take().is_some() {
            tracing::info!(directory = %self.settings.directory.display(), "the history of sends is kept again");
        }
        self.store = Some(store);
    }

    /// Sets a damaged file aside, and begins a new one.
    fn begin_anew(&self, reason: &str, now: u64) -> Result<(Store, StoredObjects), FileFault> {
        let directory = &self.settings.directory;
        let (path, aside) = (store::path(directory), store::damaged_path(directory));
        fs::rename(&path, &aside).map_err(|error| {
            FileFault::Failed(format!("{} is damaged and can't be set aside: {error}", path.display()))
        })?;
        tracing::warn!(
            file = %path.display(),
            set_aside = %aside.display(),
            reason,
            "the history of sends is damaged: it was set aside, and a new one is begun; what was sent before is not known \
             any more, counting is not touched. Look after the disk"
        );
        Store::open(&self.settings, now)
    }

    /// Bounds the times of sends to come, and notes a new day.
    fn heed_clock(&self, now: u64) {
        let believed = self.store.as_ref().map(|store| &store.believed);
        let mut directory = self.shared.directory_mut();
        directory.latest = believed.and_then(|believed| believed.latest_send(now));
        if let Some(believed) = believed {
            directory.begin_day(believed.day_at(now));
        }
    }

    /// Applies the jobs, and writes as soon as there is much to write.
    fn work(&mut self, jobs: Vec<Job>, now: u64) {
        for job in jobs {
            self.digest(&[job]);
            if self.changes.rows.len() as u64 * ROW_BYTES >= write_bytes_max(&self.settings) {
                self.write(now);
            }
        }
    }

    /// Applies the jobs.
    fn digest(&mut self, jobs: &[Job]) {
        let mut left_out = 0;
        let rows = self.changes.rows.len() + self.in_doubt.as_ref().map_or(0, |changes| changes.rows.len());
        if self.store.is_none() && (self.turn.is_none() || rows > ROWS_MAX) {
            left_out = jobs.iter().map(Job::leave_out).sum();
        } else {
            for job in jobs {
                // The lock is held for one job at a time, for readers.
                let sends = self.changes.take(&mut self.shared.directory_mut(), job);
                left_out += sends;
                self.left_out_for_room += if matches!(job, Job::Counted(_)) { sends } else { 0 };
            }
        }
        self.shared.left_out.fetch_add(left_out, Ordering::Relaxed);
    }

    /// Writes the changes, and checks the bounds every minute, and when one of them may be reached.
    fn write(&mut self, now: u64) {
        let Some(store) = &mut self.store else { return };
        let is_due = self.trimmed.is_none_or(|trimmed| trimmed.elapsed() >= AGAIN);
        if self.changes.is_empty() && !is_due && !store.doubts_since(now) {
            return;
        }
        if !self.changes.is_empty() {
            let directory = self.shared.directory();
            let written = store.write(&self.changes, &directory);
            drop(directory);
            if let Err(error) = written {
                return self.doubt(error, now);
            }
        }
        self.changes = RowChanges::default();
        if let Err(error) = store.correct_since(now) {
            return self.lose(error, now);
        }
        let is_much = store.written >= write_bytes_max(&self.settings);
        if is_due || is_much || self.shared.directory().is_overfull() {
            self.trimmed = Some(Instant::now());
            if let Err(error) = self.trim(now) {
                return self.lose(error, now);
            }
        }
        if let Some(store) = &self.store {
            self.show(store);
        }
    }

    /// Publishes the state, which is well.
    fn show(&self, store: &Store) {
        let objects = self.shared.directory().len();
        let shown =
            HistoryState { since: Some(store.since), objects, size: store.size(), ..HistoryState::default() };
        *lock(&self.shared.state) = shown;
    }

    /// Removes days that are too old, and the oldest days while there is too much, in the file or in memory: whole days, so
    /// that all is known since the first one that is left.
    ///
    /// The file grows by doubling when its pages are used up: while less than half of the bound is in use, it stays within.
    fn trim(&mut self, now: u64) -> Result<(), FileFault> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let today = store.believed.heed(now, Instant::now());
        let aged = today.saturating_sub(self.settings.days_max.saturating_sub(1));
        let used = store.used()?;
        let (most, enough) = (self.settings.size_max / 20 * 9, self.settings.size_max / 20 * 8);
        let excess = if used > most { used - enough } else { 0 };
        self.shared.directory_mut().begin_day(store.believed.day_at(now));
        let (before, gone) = {
            let directory = self.shared.directory();
            let before = directory.first_day_kept().max(aged);
            (before, directory.sent_before(before))
        };
        let since = store.since;
        let first = store.trim(now, before, excess, &gone)?;
        self.shared.directory_mut().forget(&gone);
        if first > aged && store.since > since {
            if self.told.full_at.is_some_and(|at| at.elapsed() < AGAIN) {
                return Ok(());
            }
            self.told.full_at = Some(Instant::now());
            tracing::info!(
                bytes = used,
                objects_left = self.shared.directory().len(),
                days_left = today.saturating_add(1).saturating_sub(first),
                "the history of sends is full: its oldest days have left"
            );
        } else if store.since.saturating_sub(since) > u64::from(DAY) {
            let days = (store.since - since) / u64::from(DAY);
            tracing::info!(
                days,
                "days of the history of sends have left, for they were older than history.keep_days"
            );
        }
        Ok(())
    }

    /// Gives up a file in which a reader has found damage, if it is the open one: a reader may have been late. If there is none, the
    /// damage may be why: the file is opened again at once, which shows it.
    fn heed_readers(&mut self, now: u64) {
        let Some(damaged) = lock(&self.shared.damaged).take() else { return };
        match &self.store {
            Some(store) if Weak::ptr_eq(&damaged, &Arc::downgrade(&store.file)) => {
                self.lose(FileFault::Damaged("a reader has found it".to_owned()), now);
            }
            Some(_) => {}
            None => self.opened = None,
        }
    }

    /// A write of the changes has failed: whether they are in the file shows when it is open again.
    fn doubt(&mut self, error: FileFault, now: u64) {
        self.in_doubt = Some(std::mem::take(&mut self.changes));
        self.lose(error, now);
    }

    /// The file can't be used any more: closes it, to be opened again later.
    fn lose(&mut self, error: FileFault, now: u64) {
        if let Some(store) = self.store.take() {
            self.turn = Some(store.turn);
        }
        *lock(&self.shared.file) = None;
        self.opened = Some(Instant::now());
        match error {
            // A row's content can be wrong although all pages of the file are right.
            FileFault::Damaged(reason) => match self.begin_anew(&reason, now) {
                Ok((store, objects)) => self.opened(store, objects),
                Err(error) => self.fail(&error),
            },
            error => self.fail(&error),
        }
    }

    /// Logs why there is no history, once.
    fn fail(&mut self, error: &FileFault) {
        let (directory, error) = (self.settings.directory.display(), store::explain(error));
        let trouble = format!("the history of sends can't be kept in {directory}: {error}");
        lock(&self.shared.state).trouble = Some(trouble.clone());
        if self.turn.is_none() {
            lock(&self.shared.inbox).is_closed = true;
        }
        if self.told.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(
                %directory,
                %error,
                "the history of sends can't be kept; counting goes on, and it is tried again every minute. See history.directory"
            );
            self.told.trouble = Some(trouble);
        }
    }

    fn log_left_out(&mut self) {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at.elapsed() >= AGAIN);
        let without_room = self.left_out_for_room;
        if without_room > self.told.left_out_for_room && is_due(self.told.no_room_at) {
            tracing::warn!(
                sends = without_room - self.told.left_out_for_room,
                "the history of sends has no room for more new campaigns: the sends of those that are new are not in it; those \
                 that it knows go on, and counting is not touched. Raise history.max_size"
            );
            (self.told.left_out_for_room, self.told.no_room_at) = (without_room, Some(Instant::now()));
        }
        let left_out = self.shared.left_out.load(Ordering::Relaxed).saturating_sub(without_room);
        if left_out > self.told.left_out && is_due(self.told.at) && self.told.trouble.is_none() {
            let sends = left_out - self.told.left_out;
            tracing::warn!(
                sends,
                "the history of sends lags behind: the count or the outcome of sends is not in it; counting is not touched"
            );
            (self.told.left_out, self.told.at) = (left_out, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
