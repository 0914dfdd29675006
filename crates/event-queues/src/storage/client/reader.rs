//! The thread that reads new objects one after the other, and hands over bodies of whole events.

mod outbox;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use object_store::{Error, ObjectMeta};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::outbox::ObjectOutbox;
use super::bucket::{Bucket, advice};
use super::bucket_state::{ContentHash, ObjectRecord, ObjectStanding};
use super::download::{self, Account, Download};
use super::health::BucketHealth;
use super::pending::ObjectKey;
use crate::EventDefaults;
use crate::content::{BufferPool, Content, Cut, READ_LIMITS, ReadPlace, Stop};
use crate::event_type::event_type_of_path;
use crate::unread::Unread;

/// How many bodies wait between the reader and the pipeline.
const HANDED_MAX: usize = 2;
/// How many objects are fetched ahead, to hide a store's delay before the first byte.
const FETCHED_AHEAD: usize = 3;

/// An object to be read.
#[derive(Debug)]
pub(super) struct FoundObject {
    pub(super) source: usize,
    pub(super) meta: ObjectMeta,
    pub(super) version: String,
    /// Its record, of whichever version: of what is settled, or of what this run has handed out before an interruption.
    pub(super) record: Option<ObjectRecord>,
}

impl FoundObject {
    pub(super) fn key(&self) -> ObjectKey {
        (self.source, self.meta.location.to_string())
    }
}

/// The input of the reader.
#[derive(Debug)]
pub(super) enum ObjectInput {
    Object(Box<FoundObject>),
    /// All objects have been found, in a run that ends.
    End,
    /// No more objects can be found, in a run that ends.
    Failed(String),
}

/// The output of the reader.
pub(super) enum ObjectOutput {
    Chunk(Box<ObjectChunk>),
    /// An object needs nothing more than the chunks before.
    Passed(Arc<ReadObject>, ObjectRecord),
    /// An object is not there any more. Its record stays that of the chunks before: it may come back.
    Gone(Arc<ReadObject>),
    End,
    Failed(String),
}

/// Some whole events of an object.
pub(super) struct ObjectChunk {
    pub(super) object: Arc<ReadObject>,
    pub(super) cut: Cut,
    /// The object's record once this is settled.
    pub(super) record: ObjectRecord,
}

/// An object that is being read.
pub(super) struct ReadObject {
    pub(super) key: ObjectKey,
    /// Its name in messages.
    pub(super) name: Arc<str>,
    pub(super) defaults: Arc<EventDefaults>,
}

pub(super) struct ObjectReader {
    pub(super) buckets: Arc<[Bucket]>,
    pub(super) health: Arc<BucketHealth>,
    pub(super) runtime: Handle,
    /// How long an object that fails waits for the first time, and whether the run ends: then each is told.
    pub(super) poll_interval: Duration,
    pub(super) ends: bool,
}

/// An object that is fetched and not read yet.
struct Ahead {
    object: Box<FoundObject>,
    download: (Download, Account),
}

/// Why an object is not read to its end.
enum Interrupted {
    Closed,
    /// The store fails; it is tried again.
    Store(Error),
    /// The content is damaged, behind this position. What was handed out of it came from so many first stored bytes.
    Content {
        position: u64,
        counted_bytes: Option<u64>,
        error: io::Error,
    },
}

/// Starts reading. The thread ends with the objects found, or when the receiver is dropped.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(
    reader: ObjectReader,
    found: mpsc::Receiver<ObjectInput>,
) -> io::Result<mpsc::Receiver<ObjectOutput>> {
    let (handed, receiver) = mpsc::channel(HANDED_MAX);
    thread::Builder::new().name("storage".to_owned()).spawn(move || {
        let last = reader.run(found, &handed);
        if let Some(last) = last {
            // The receiver is gone only when the process is about to end.
            let _nobody = handed.blocking_send(last);
        }
    })?;
    Ok(receiver)
}

impl ObjectReader {
    fn run(
        &self,
        mut found: mpsc::Receiver<ObjectInput>,
        handed: &mpsc::Sender<ObjectOutput>,
    ) -> Option<ObjectOutput> {
        let pool = BufferPool::new(READ_LIMITS.chunk_bytes);
        let mut ahead: VecDeque<Ahead> = VecDeque::new();
        let mut last = None;
        let mut unread = Unread::new("object");
        loop {
            while ahead.len() < FETCHED_AHEAD && last.is_none() {
                let next = if ahead.is_empty() { found.blocking_recv() } else { found.try_recv().ok() };
                match next {
                    Some(ObjectInput::Object(object)) => {
                        let download = self.fetch(&object);
                        ahead.push_back(Ahead { object, download });
                    }
                    Some(ObjectInput::End) => last = Some(Ok(())),
                    Some(ObjectInput::Failed(problem)) => last = Some(Err(problem)),
                    None => break,
                }
            }
            // Nothing is ahead once everything was found, or the poller is gone.
            let Some(Ahead { object, download }) = ahead.pop_front() else {
                return last.map(|last| match last.and_then(|()| unread.ensure_none()) {
                    Ok(()) => ObjectOutput::End,
                    Err(problem) => ObjectOutput::Failed(problem),
                });
            };
            match self.read(&object, download, &pool, handed) {
                Ok(None) => {}
                Ok(Some(problem)) => unread.add(problem),
                Err(Closed) => return None,
            }
        }
    }

    fn fetch(&self, object: &FoundObject) -> (Download, Account) {
        let store = Arc::clone(&self.buckets[object.source].store);
        Download::start(&self.runtime, store, &object.meta, Arc::clone(&self.health))
    }

    /// Reads an object. Says why it was not read to its end, if it was not.
    fn read(
        &self,
        object: &FoundObject,
        download: (Download, Account),
        pool: &BufferPool,
        handed: &mpsc::Sender<ObjectOutput>,
    ) -> Result<Option<String>, Closed> {
        let bucket = &self.buckets[object.source];
        let name: Arc<str> = bucket.name(&object.meta.location).into();
        let mut outbox = ObjectOutbox { handed, held: None, handed_out: None };
        let read = self.begin(object, &name).and_then(|begin| match begin {
            Begin::Passed(record) => {
                let passed = ObjectOutput::Passed(Arc::new(self.read_object(object, &name)), record);
                handed.blocking_send(passed).map_err(|_| Interrupted::Closed)
            }
            Begin::Behind(start) => {
                outbox.handed_out = start;
                self.hand_over(object, &name, download, pool, &mut outbox)
            }
        });
        match read {
            Ok(()) => {
                self.end_trouble(object);
                Ok(None)
            }
            Err(Interrupted::Closed) => Err(Closed),
            Err(Interrupted::Store(error)) => {
                let handed_out = outbox.handed_out.or_else(|| object.record.clone());
                self.interrupted(object, &name, handed_out, &error, handed).map(Some)
            }
            Err(Interrupted::Content { position, counted_bytes, error }) => {
                tracing::error!(
                    object = &*name,
                    position,
                    counted_bytes = counted_bytes.unwrap_or_default(),
                    %error,
                    "an object of a bucket can't be read on: what comes before was counted, the rest is left out until the \
                     object is written anew; it goes on there if its first counted_bytes are the same, and is counted from its \
                     start if not"
                );
                self.health.left_out.fetch_add(1, Ordering::Relaxed);
                self.end_trouble(object);
                // Until it is written anew.
                let (version, standing) = (object.version.clone(), ObjectStanding::LeftOut);
                let (place, print) = outbox.handed_out.map_or((None, None), |at| (at.place, at.print));
                let print = self.print_of(object, counted_bytes).or(print);
                let record = ObjectRecord { version, standing, place, print };
                let passed = ObjectOutput::Passed(Arc::new(self.read_object(object, &name)), record);
                handed.blocking_send(passed).map_err(|_| Closed)?;
                Ok(Some(format!("{name}, behind byte {position} of its content: {error}")))
            }
        }
    }

    /// The print of the stored bytes that stand for the chunks handed out, `bytes` of them, which are fetched once more.
    /// `None` if that fails.
    fn print_of(&self, object: &FoundObject, bytes: Option<u64>) -> Option<ContentHash> {
        let bytes = bytes.filter(|bytes| *bytes > 0)?;
        let ObjectMeta { location, e_tag, .. } = &object.meta;
        let store = &*self.buckets[object.source].store;
        let print = download::print_of(store, location, e_tag.clone(), bytes);
        self.runtime.block_on(print).inspect_err(|error| {
            let advice = advice(error);
            tracing::warn!(object = %location, advice, "what was counted of an object can't be read once more");
        }).ok()
    }

    /// An object is gone, or its store can't be read: the next listing finds it again if it is there. Says why.
    fn interrupted(
        &self,
        object: &FoundObject,
        name: &Arc<str>,
        handed_out: Option<ObjectRecord>,
        error: &Error,
        handed: &mpsc::Sender<ObjectOutput>,
    ) -> Result<String, Closed> {
        match error {
            Error::NotFound { .. } => {
                self.health.log_gone(name);
                self.health.pending.calm(&object.key());
                self.health.clear_reading(object.source, &self.buckets[object.source].url);
                let gone = ObjectOutput::Gone(Arc::new(self.read_object(object, name)));
                handed.blocking_send(gone).map_err(|_| Closed)?;
                Ok(format!("{name} was removed before it was read"))
            }
            Error::Precondition { .. } => {
                tracing::info!(object = &**name, "an object was written over while it was read");
                self.health.pending.interrupt(&object.key(), handed_out, None);
                Ok(format!("{name} was written over while it was read"))
            }
            _ => {
                let trouble = advice(error);
                // Its trouble lasts until it is read, so it begins with that.
                self.health.pending.interrupt(&object.key(), handed_out, Some(self.poll_interval));
                // The same for all objects: where none can be read, it is told once.
                let words =
                    format!("an object of {} can't be read: {trouble}", self.buckets[object.source].url);
                if self.health.note_reading_trouble(object.source, &words) || self.ends {
                    tracing::error!(object = &**name, trouble, "an object of a bucket can't be read for now");
                }
                Ok(format!("{name} can't be read: {trouble}"))
            }
        }
    }

    /// Notes that an object was read, as far as the store is concerned.
    fn end_trouble(&self, object: &FoundObject) {
        self.health.pending.read(&object.key());
        self.health.clear_reading(object.source, &self.buckets[object.source].url);
    }

    fn read_object(&self, object: &FoundObject, name: &Arc<str>) -> ReadObject {
        let bucket = &self.buckets[object.source];
        let path = &object.meta.location;
        let event_type = event_type_of_path(std::path::Path::new(path.as_ref()));
        let defaults = EventDefaults {
            event_type,
            app_group_id: bucket.app_group_id.clone(),
            ..EventDefaults::default()
        };
        ReadObject { key: object.key(), name: Arc::clone(name), defaults: Arc::new(defaults) }
    }

    /// Decides from where an object is read.
    fn begin(&self, object: &FoundObject, name: &str) -> Result<Begin, Interrupted> {
        let Some(record) = &object.record else { return Ok(Begin::Behind(None)) };
        if record.version == object.version {
            return Ok(Begin::Behind(Some(record.clone())));
        }
        let record = ObjectRecord { version: object.version.clone(), ..record.clone() };
        let told = |what: &str| tracing::warn!(object = name, "an object was written over: {what}");
        if let Some(print) = record.print.filter(|print| print.bytes <= object.meta.size) {
            let bucket = &self.buckets[object.source];
            let ObjectMeta { location, e_tag, .. } = &object.meta;
            let same = download::begins_with(&*bucket.store, location, e_tag.clone(), print);
            if self.runtime.block_on(same).map_err(Interrupted::Store)? {
                if print.bytes == object.meta.size && record.standing == ObjectStanding::Counted {
                    told("its bytes are the same, so nothing of it is counted again");
                    return Ok(Begin::Passed(record));
                }
                told("it begins with what was counted, so only what follows is counted");
                return Ok(Begin::Behind(Some(record)));
            }
        }
        if let Some(what) = warning_of_new(&record) {
            told(what);
        } else {
            tracing::info!(object = name, "an object was written over of which nothing was counted");
        }
        Ok(Begin::Behind(None))
    }

    fn hand_over(
        &self,
        object: &FoundObject,
        name: &Arc<str>,
        (download, account): (Download, Account),
        pool: &BufferPool,
        outbox: &mut ObjectOutbox<'_>,
    ) -> Result<(), Interrupted> {
        let read_object = Arc::new(self.read_object(object, name));
        let record =
            |place, standing, print| ObjectRecord { version: object.version.clone(), standing, place, print };
        let start = outbox.last_place();
        let path = PathBuf::from(&**name);
        let mut counted_bytes = None;
        let content = Content::open(Box::new(download), path, None, start, READ_LIMITS);
        let read = content.map_err(Stop::from).and_then(|mut content| {
            let read = content.read(pool, READ_LIMITS, &mut |cut, content| {
                let place =
                    ReadPlace { layout: content.layout, position: cut.position, container: cut.container };
                // All that was read, which may be more than the place: an object that has grown begins with it as well.
                let record = record(Some(place), ObjectStanding::Begun, Some(account.print()));
                outbox.put(ObjectChunk { object: Arc::clone(&read_object), cut, record })
            });
            if read.is_err() {
                counted_bytes = outbox.last_place().map(|place| content.input.file_position(place.position));
            }
            read?;
            let Content { layout, container, .. } = content;
            Ok(ReadPlace { layout, position: content.input.position(), container })
        });
        match read {
            Ok(end) => {
                let whole = record(Some(end), ObjectStanding::Counted, Some(account.print()));
                outbox.finish(read_object, whole).map_err(|Closed| Interrupted::Closed)
            }
            Err(Stop::Closed) => Err(Interrupted::Closed),
            Err(Stop::Failed(position, error)) => {
                outbox.put_held().map_err(|Closed| Interrupted::Closed)?;
                let position = position.unwrap_or_default();
                Err(account
                    .take_error()
                    .map_or(Interrupted::Content { position, counted_bytes, error }, Interrupted::Store))
            }
        }
    }
}

/// The warning for an object that was written over and is counted from its start; none where nothing of it was counted before.
fn warning_of_new(record: &ObjectRecord) -> Option<&'static str> {
    match (record.standing, record.place) {
        (ObjectStanding::Passed, _) => Some(
            "it was passed when it was first seen, and what was in it then is not known, so all of it is counted",
        ),
        (ObjectStanding::LeftOut, None) => None,
        _ => Some("its bytes are others than those that were counted, so it is counted as a new object"),
    }
}

/// The receiver is gone: the process is about to end.
struct Closed;

/// Where reading of an object begins.
enum Begin {
    /// Behind what this record of its version stands for.
    Behind(Option<ObjectRecord>),
    /// Nothing of it needs to be read.
    Passed(ObjectRecord),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::FileLayout;

    #[test]
    fn only_of_what_was_counted_before_it_is_told_that_it_was_counted() {
        let some = ReadPlace { layout: FileLayout::Lines, position: 3, container: 0 };
        for (standing, place, expected) in [
            (ObjectStanding::Passed, None, Some("it was passed when it was first seen")),
            (ObjectStanding::Counted, Some(some), Some("others than those that were counted")),
            (ObjectStanding::Begun, Some(some), Some("others than those that were counted")),
            (ObjectStanding::LeftOut, Some(some), Some("others than those that were counted")),
            (ObjectStanding::LeftOut, None, None),
        ] {
            let record = ObjectRecord { version: "1".to_owned(), standing, place, print: None };
            let told = warning_of_new(&record);
            assert_eq!(told.is_some(), expected.is_some(), "{standing:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{told:?}");
        }
    }
}
