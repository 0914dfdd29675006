//! The queue: hands chunks to the pipeline, and writes settled objects to the state.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bucket::{Bucket, StorageSetupError, ensure_apart};
use super::bucket_state::{BucketState, ObjectRecord, ObjectStanding, Settled, StateError, StateThread};
use super::health::{BucketHealth, StorageWatch};
use super::notifications::Notifications;
use super::poller::{BucketPoller, FOUND_MAX, SourceState};
use super::reader::{self, ObjectChunk, ObjectOutput, ObjectReader, ReadObject};
use crate::content::Cut;
use crate::state_file::StateWriter;
use crate::storage::{Now, StorageRun, StorageSettings};
use crate::{Delivery, Queue, QueueError, Receipt, Source};

/// How long settled objects without a delivery wait for more: each write is a commit.
const PASSED_INTERVAL: Duration = Duration::from_secs(1);

/// Why buckets can't be read. Nothing was counted.
#[derive(Debug, thiserror::Error)]
pub enum StorageOpenError {
    /// The configuration makes no store.
    #[error(transparent)]
    Setup(#[from] StorageSetupError),
    /// The state can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system gives no thread.
    #[error("cannot start a thread that reads buckets: {0}; raise the limit of processes and threads")]
    Thread(io::Error),
}

/// Finds what [`open`] would refuse in the settings; makes no request and writes nothing.
///
/// # Errors
/// When a URL or an option is wrong.
pub fn check(settings: &StorageSettings) -> Result<(), StorageSetupError> {
    buckets(settings)?;
    notifications(settings).map(drop)
}

fn notifications(settings: &StorageSettings) -> Result<Option<Arc<Notifications>>, StorageSetupError> {
    let url = settings.notifications.as_deref();
    url.map(|url| Notifications::new(url, &settings.options).map(Arc::new)).transpose()
}

fn buckets(settings: &StorageSettings) -> Result<Arc<[Bucket]>, StorageSetupError> {
    let buckets = settings.sources.iter().map(|source| Bucket::new(source, &settings.options));
    let buckets = buckets.collect::<Result<Arc<[_]>, _>>()?;
    ensure_apart(&buckets)?;
    Ok(buckets)
}

/// Opens the state, and begins to list and read; must be called within a tokio runtime. Following waits for a bucket that
/// is away; read once, the queue ends with the objects of the first listing. `now` is the present time: an hour in a path
/// that lies days ahead of it is a mistake.
///
/// # Errors
/// When the settings make no store, when what is remembered can't be used, or when the system gives no thread.
pub fn open(
    settings: StorageSettings,
    run: StorageRun,
    now: Now,
) -> Result<(StorageQueue, StorageWatch), StorageOpenError> {
    let buckets = buckets(&settings)?;
    // A single run lists everything.
    let notifications = if run == StorageRun::Follow { notifications(&settings)? } else { None };
    let state = BucketState::open(&settings.state_directory)?;
    if run == StorageRun::Again {
        buckets.iter().try_for_each(|bucket| state.forget(&bucket.url))?;
    }
    let health = Arc::new(BucketHealth::new(buckets.len()));
    let (found, finding) = mpsc::channel(FOUND_MAX);
    let reader = ObjectReader {
        buckets: Arc::clone(&buckets),
        health: Arc::clone(&health),
        runtime: Handle::current(),
        poll_interval: settings.poll_interval,
        ends: run != StorageRun::Follow,
    };
    let handed = reader::start(reader, finding).map_err(StorageOpenError::Thread)?;
    let written = state.clone();
    let write = move |settled: &[Settled]| written.settle(settled).map_err(|error| error.to_string());
    let writer = StateWriter::start("storage-state", write).map_err(StorageOpenError::Thread)?;
    let state_thread = StateThread::start(state.clone()).map_err(StorageOpenError::Thread)?;
    let states = buckets.iter().map(|_| SourceState::default()).collect();
    let poller = BucketPoller {
        buckets: Arc::clone(&buckets),
        settings,
        state,
        state_thread,
        health: Arc::clone(&health),
        found,
        now,
        states,
        notifications,
        unheard: None,
        is_notified: false,
        is_outdated: false,
        stray_told: None,
        foreign_told: None,
    };
    let mut listing = JoinSet::new();
    listing.spawn(poller.run(run != StorageRun::Follow));
    let watch = StorageWatch(Arc::clone(&health));
    let queue = StorageQueue {
        buckets,
        handed,
        receipt: 0,
        settled: Receipt(0),
        marks: VecDeque::new(),
        unwritten: Vec::new(),
        writing: 0,
        due: None,
        writer,
        health,
        ended: None,
        _listing: listing,
    };
    Ok((queue, watch))
}

/// A receipt, its object, and the record to write once it is settled; none where the object is gone.
type Mark = (Receipt, Arc<ReadObject>, Option<ObjectRecord>);

/// The objects of buckets, as a queue.
pub struct StorageQueue {
    buckets: Arc<[Bucket]>,
    handed: mpsc::Receiver<ObjectOutput>,
    /// The receipt of the last delivery.
    receipt: u64,
    /// The last receipt that was acknowledged.
    settled: Receipt,
    /// The marks of chunks that are handed out and not settled.
    marks: VecDeque<Mark>,
    /// Records that are settled and not on disk.
    unwritten: Vec<(Arc<ReadObject>, Option<ObjectRecord>)>,
    /// How many of them are being written.
    writing: usize,
    /// The deadline for writing records without a delivery.
    due: Option<Instant>,
    writer: StateWriter<Settled>,
    health: Arc<BucketHealth>,
    ended: Option<Result<(), String>>,
    /// It ends with the queue.
    _listing: JoinSet<()>,
}

impl StorageQueue {
    fn deliver(&mut self, chunk: ObjectChunk) -> Delivery {
        let ObjectChunk { object, cut, record } = chunk;
        self.receipt += 1;
        let receipt = Receipt(self.receipt);
        let Cut { body, framing, oversized, position, .. } = cut;
        let source = Source::Object { url: Arc::clone(&object.name), end: position };
        let defaults = Arc::clone(&object.defaults);
        if record.standing != ObjectStanding::Begun {
            self.health.pending.take(&object.key);
        }
        self.marks.push_back((receipt, object, Some(record)));
        Delivery { body, framing, defaults, source, oversized, recall: false, receipt }
    }

    /// An object needs nothing more: it is settled with the chunks before it, which may be settled already.
    fn pass(&mut self, object: Arc<ReadObject>, record: Option<ObjectRecord>) {
        self.health.pending.take(&object.key);
        self.marks.push_back((Receipt(self.receipt), object, record));
        self.settle(self.settled);
        if !self.unwritten.is_empty() && self.due.is_none() {
            self.due = Some(Instant::now() + PASSED_INTERVAL);
        }
    }

    /// Moves settled marks to the records to be written: the last one of each object.
    fn settle(&mut self, receipt: Receipt) {
        let settled = self.marks.partition_point(|(marked, ..)| *marked <= receipt);
        for (_, object, record) in self.marks.drain(..settled) {
            match self.unwritten[self.writing..].last_mut() {
                Some((last, known)) if last.key == object.key && record.is_some() => *known = record,
                _ => self.unwritten.push((object, record)),
            }
        }
    }

    /// Writes all settled records. A call that is given up leaves it to the next.
    async fn write(&mut self) -> Result<(), QueueError> {
        self.wait_for_writer().await?;
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let settled = self.unwritten.iter().filter_map(|(object, record)| {
            let (source, path) = &object.key;
            Some((Arc::clone(&self.buckets[*source].url), path.clone(), record.clone()?))
        });
        self.writer.begin(settled.collect());
        self.writing = self.unwritten.len();
        self.wait_for_writer().await
    }

    /// Waits for the write in progress, and then removes its objects from those in progress; a failed write is repeated with
    /// the next.
    async fn wait_for_writer(&mut self) -> Result<(), QueueError> {
        let written = self.writer.wait().await;
        let writing = std::mem::take(&mut self.writing);
        if let Err(problem) = written {
            self.health.fail(problem.clone());
            return Err(QueueError(problem));
        }
        for (object, record) in self.unwritten.drain(..writing) {
            let standing = record.map(|record| record.standing);
            if standing == Some(ObjectStanding::Begun) {
                continue;
            }
            if let Some(modified) = self.health.pending.end(&object.key)
                && standing.is_some()
            {
                self.health.done(modified);
            }
            if standing == Some(ObjectStanding::Counted) {
                self.health.counted.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.due = if self.unwritten.is_empty() { None } else { self.due };
        Ok(())
    }

    /// The reader's next output; none when it is time to write instead.
    async fn next(&mut self) -> Option<Option<ObjectOutput>> {
        let Some(due) = self.due else { return Some(self.handed.recv().await) };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => None,
            handed = self.handed.recv() => Some(handed),
        }
    }
}

impl Queue for StorageQueue {
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        while self.ended.is_none() {
            let Some(handed) = self.next().await else {
                self.write().await?;
                continue;
            };
            match handed {
                Some(ObjectOutput::Chunk(chunk)) => return Ok(Some(self.deliver(*chunk))),
                Some(ObjectOutput::Passed(object, record)) => self.pass(object, Some(record)),
                Some(ObjectOutput::Gone(object)) => self.pass(object, None),
                Some(ObjectOutput::End) => self.ended = Some(Ok(())),
                Some(ObjectOutput::Failed(problem)) => self.ended = Some(Err(problem)),
                None => {
                    self.ended = Some(Err("the thread that reads the buckets ended unexpectedly".to_owned()));
                }
            }
        }
        self.write().await?;
        match &self.ended {
            Some(Err(problem)) => Err(QueueError(problem.clone())),
            _ => Ok(None),
        }
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        // A write begun by a call that was given up ends before anything is added to it.
        self.wait_for_writer().await?;
        self.settled = self.settled.max(receipt);
        self.settle(receipt);
        self.write().await
    }

    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        self.health.state_failure().map_or(Ok(()), |problem| Err(QueueError(problem.clone())))
    }
}
