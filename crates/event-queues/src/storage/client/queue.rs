//! The queue: what was read, handed to the pipeline, and what was settled, written down.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::bucket::{Bucket, StorageSetupError};
use super::memory::{MemoryError, ObjectMemory, ObjectRecord, ObjectStanding, Settled};
use super::notifications::Notifications;
use super::poller::{BucketPoller, FOUND_MAX, SourceState};
use super::reader::{self, ObjectChunk, ObjectOutput, ObjectReader, ReadObject};
use super::watch::{BucketHealth, StorageWatch};
use crate::content::Cut;
use crate::storage::{Now, StorageRun, StorageSettings};
use crate::{Delivery, Queue, QueueError, Receipt, Source};

/// Why buckets can't be read. Nothing was counted.
#[derive(Debug, thiserror::Error)]
pub enum StorageOpenError {
    /// What is configured makes no store.
    #[error(transparent)]
    Setup(#[from] StorageSetupError),
    /// What is remembered can't be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The system gives no thread.
    #[error("cannot start a thread that reads buckets: {0}; raise the limit of processes and threads")]
    Thread(io::Error),
}

/// Finds what [`open`] would refuse of the settings, and asks and writes nothing.
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
    settings.sources.iter().map(|source| Bucket::new(source, &settings.options)).collect()
}

/// Opens what is remembered, and begins to list and read; must be called within a tokio runtime. A bucket that is away is
/// waited for while it is followed; read once, the queue ends with what the first listing has found. `now` says the present
/// moment: what a path names that lies days ahead of it is somebody's mistake.
///
/// # Errors
/// When the settings make no store, when what is remembered can't be used, or when the system gives no thread.
pub fn open(
    settings: StorageSettings,
    run: StorageRun,
    now: Now,
) -> Result<(StorageQueue, StorageWatch), StorageOpenError> {
    let buckets = buckets(&settings)?;
    // What is read once is listed whole.
    let notifications = if run == StorageRun::Follow { notifications(&settings)? } else { None };
    let memory = ObjectMemory::open(&settings.state_directory)?;
    if run == StorageRun::Again {
        buckets.iter().try_for_each(|bucket| memory.forget(&bucket.url))?;
    }
    let health = Arc::new(BucketHealth::new(buckets.len()));
    let (found, finding) = mpsc::channel(FOUND_MAX);
    let reader = ObjectReader {
        buckets: Arc::clone(&buckets),
        health: Arc::clone(&health),
        runtime: Handle::current(),
    };
    let handed = reader::start(reader, finding).map_err(StorageOpenError::Thread)?;
    let writer = Writer::start(memory.clone()).map_err(StorageOpenError::Thread)?;
    let states = buckets.iter().map(|_| SourceState::default()).collect();
    let poller = BucketPoller {
        buckets: Arc::clone(&buckets),
        settings,
        memory,
        health: Arc::clone(&health),
        found,
        now,
        states,
        notifications,
        unheard: None,
    };
    let mut listing = JoinSet::new();
    listing.spawn(poller.run(run != StorageRun::Follow));
    let watch = StorageWatch(Arc::clone(&health));
    let queue = StorageQueue {
        buckets,
        handed,
        receipt: 0,
        marks: VecDeque::new(),
        unwritten: Vec::new(),
        writer,
        health,
        ended: None,
        _listing: listing,
    };
    Ok((queue, watch))
}

/// What is remembered of an object once a receipt is settled.
type Mark = (Receipt, Arc<ReadObject>, ObjectRecord);

/// The objects of buckets, as a queue.
pub struct StorageQueue {
    buckets: Arc<[Bucket]>,
    handed: mpsc::Receiver<ObjectOutput>,
    /// The receipt of the last delivery.
    receipt: u64,
    /// Of what has been handed out and is not settled.
    marks: VecDeque<Mark>,
    /// What is settled and not on disk.
    unwritten: Vec<(Arc<ReadObject>, ObjectRecord)>,
    writer: Writer,
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
        let origin = Arc::clone(&object.origin);
        self.marks.push_back((receipt, object, record));
        Delivery { body, framing, origin, source, oversized, recall: false, receipt }
    }

    /// Moves what is settled to what is to be written: of each object the last that is known.
    fn settle(&mut self, receipt: Receipt) {
        let settled = self.marks.partition_point(|(marked, ..)| *marked <= receipt);
        for (_, object, record) in self.marks.drain(..settled) {
            match self.unwritten.last_mut() {
                Some((last, known)) if last.key == object.key => *known = record,
                _ => self.unwritten.push((object, record)),
            }
        }
    }

    /// What is on disk is found no more.
    fn written(&mut self) {
        for (object, record) in self.unwritten.drain(..) {
            if record.standing == ObjectStanding::Begun {
                continue;
            }
            if let Some(modified) = self.health.pending.end(&object.key) {
                self.health.done(modified);
            }
            if record.standing == ObjectStanding::Counted {
                self.health.counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Queue for StorageQueue {
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        while self.ended.is_none() {
            match self.handed.recv().await {
                Some(ObjectOutput::Chunk(chunk)) => return Ok(Some(self.deliver(*chunk))),
                Some(ObjectOutput::Passed(object, record)) => {
                    self.marks.push_back((Receipt(self.receipt), object, record));
                }
                Some(ObjectOutput::End) => self.ended = Some(Ok(())),
                Some(ObjectOutput::Failed(problem)) => self.ended = Some(Err(problem)),
                None => {
                    self.ended = Some(Err("the thread that reads the buckets ended unexpectedly".to_owned()));
                }
            }
        }
        match &self.ended {
            Some(Err(problem)) => Err(QueueError::Storage(problem.clone())),
            _ => Ok(None),
        }
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        // What was begun and given up is waited for: it holds what is to be written now as well.
        let before = self.writer.wait().await;
        before.map_err(QueueError::Storage)?;
        self.settle(receipt);
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let settled = self.unwritten.iter().map(|(object, record)| {
            let (source, path) = &object.key;
            (Arc::clone(&self.buckets[*source].url), path.clone(), record.clone())
        });
        self.writer.begin(settled.collect());
        self.writer.wait().await.map_err(QueueError::Storage)?;
        self.written();
        Ok(())
    }
}

/// The thread that writes what is remembered. It is there from the start, so that it does not fail half-way because the
/// system gives no thread any more.
struct Writer {
    orders: SyncSender<Vec<Settled>>,
    written: mpsc::Receiver<Result<(), MemoryError>>,
    is_writing: bool,
}

impl Writer {
    fn start(memory: ObjectMemory) -> io::Result<Self> {
        let (orders, taken) = sync_channel::<Vec<Settled>>(1);
        let (said, written) = mpsc::channel(1);
        thread::Builder::new().name("storage-memory".to_owned()).spawn(move || {
            while let Ok(settled) = taken.recv() {
                if said.blocking_send(memory.settle(&settled)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, written, is_writing: false })
    }

    /// Begins to write; the one before has been waited for.
    fn begin(&mut self, settled: Vec<Settled>) {
        // A thread that is gone is told by `wait`.
        let _told_later = self.orders.try_send(settled);
        self.is_writing = true;
    }

    /// Waits for what was begun, if anything was. A call that is given up leaves it to the next.
    async fn wait(&mut self) -> Result<(), String> {
        if !self.is_writing {
            return Ok(());
        }
        let written = self.written.recv().await;
        self.is_writing = false;
        match written {
            Some(written) => written.map_err(|error| error.to_string()),
            None => {
                Err("the thread that remembers what was read of the buckets ended unexpectedly".to_owned())
            }
        }
    }
}
