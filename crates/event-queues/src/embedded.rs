//! The embedded queue: what is pushed, in a durable log on the local disk.
//!
//! A frame of the log is one push: its kind tells how to read the body, its header holds the parameters of the push's URL.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
pub use segment_log::{AppendError, Appender, AtStart, Frame, Gap, OpenError, Opened, Torn};
use segment_log::{Entry, LogReader, SettingNames};

use crate::{Delivery, EventDefaults, Framing, Queue, QueueError, Receipt, Source};

/// The kind of a frame whose body is a JSON document. All frames of format 1 are.
const DOCUMENT: u8 = 0;

/// The kind of a frame whose body is an extract.
const EXTRACT: u8 = 1;

/// The names of the settings, for messages.
const NAMES: SettingNames =
    SettingNames { directory: "queue.embedded.directory", size_max: "queue.embedded.max_size" };

/// Where the log lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The directory; made when it is missing.
    pub directory: PathBuf,
    /// Bytes on disk, at most.
    pub size_max: u64,
}

/// Opens the log, and repairs what a crash left behind. One process at a time can.
///
/// # Errors
/// When another process has it, when its format is another version's, or when the disk refuses.
pub fn open(settings: &EmbeddedSettings) -> Result<(EmbeddedQueue, Appender, Opened), OpenError> {
    let EmbeddedSettings { directory, size_max } = settings.clone();
    let (log, appender, opened) =
        segment_log::open(&segment_log::LogSettings { directory, size_max, names: NAMES })?;
    Ok((EmbeddedQueue { log, cached_defaults: CachedDefaults::default() }, appender, opened))
}

/// One push, which is appended and handed out at once.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Events in `body`. They take as many receipts, at least one.
    pub events: u32,
    /// Facts about the events from outside the body.
    pub defaults: Arc<EventDefaults>,
    /// The events.
    pub body: Bytes,
    /// Whether `body` is a [`Framing::Extract`], else it is a [`Framing::Document`].
    pub is_extract: bool,
}

impl From<Pushed> for Frame {
    fn from(pushed: Pushed) -> Self {
        let Pushed { events, defaults, body, is_extract } = pushed;
        let kind = if is_extract { EXTRACT } else { DOCUMENT };
        Frame { events, kind, header: encode_defaults(&defaults), body }
    }
}

/// The way out of the log.
#[derive(Debug)]
pub struct EmbeddedQueue {
    log: LogReader,
    cached_defaults: CachedDefaults,
}

impl EmbeddedQueue {
    /// Whether the queue ends once everything durable has been handed out (`--once`), or waits for more.
    pub fn until_empty(&mut self, is_until_empty: bool) {
        self.log.until_empty(is_until_empty);
    }

    /// An entry that can't be read was written by a version that this one does not know.
    fn delivery(&mut self, entry: Entry) -> Delivery {
        let receipt = Receipt(entry.last());
        let defaults = self.cached_defaults.decode(&entry.header);
        let framing = match entry.kind {
            DOCUMENT if defaults.is_some() => Framing::Document,
            EXTRACT if defaults.is_some() => Framing::Extract,
            _ => Framing::Unreadable(entry.events.into()),
        };
        Delivery {
            body: entry.body,
            framing,
            defaults: defaults.unwrap_or_default(),
            source: Source::Push,
            oversized: 0,
            recall: false,
            receipt,
        }
    }
}

fn stopped(error: segment_log::LogError) -> QueueError {
    QueueError(error.0)
}

impl Queue for EmbeddedQueue {
    /// One delivery is one push.
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        let entry = self.log.next().await.map_err(stopped)?;
        Ok(entry.map(|entry| self.delivery(entry)))
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        self.log.acknowledge(receipt.0).await.map_err(stopped)
    }

    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        self.log.ensure_acknowledgeable().map_err(stopped)
    }
}

/// The length of an absent text.
const NO_TEXT: u32 = u32::MAX;

/// Three texts, each a length and its bytes; nothing at all where none is present, the usual case.
fn encode_defaults(defaults: &EventDefaults) -> Bytes {
    if *defaults == EventDefaults::default() {
        return Bytes::new();
    }
    let mut bytes = Vec::new();
    for text in [&defaults.event_type, &defaults.app_group_id, &defaults.app_group_name] {
        match text {
            Some(text) => {
                // A header is refused long before a text is this long.
                bytes.put_u32_le(u32::try_from(text.len()).unwrap_or(NO_TEXT));
                bytes.put_slice(text.as_bytes());
            }
            None => bytes.put_u32_le(NO_TEXT),
        }
    }
    bytes.into()
}

/// `None` when `bytes` are no defaults.
pub(crate) fn decode_defaults(mut bytes: &[u8]) -> Option<EventDefaults> {
    if bytes.is_empty() {
        return Some(EventDefaults::default());
    }
    let mut texts = [None, None, None];
    for text in &mut texts {
        let length = bytes.try_get_u32_le().ok()?;
        if length != NO_TEXT {
            let (head, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *text = Some(Box::from(str::from_utf8(head).ok()?));
            bytes = rest;
        }
    }
    let [event_type, app_group_id, app_group_name] = texts;
    bytes.is_empty().then_some(EventDefaults { event_type, app_group_id, app_group_name })
}

/// The defaults of the last frame, for most frames of a log have the same.
#[derive(Debug, Default)]
pub(crate) struct CachedDefaults {
    bytes: Bytes,
    defaults: Arc<EventDefaults>,
}

impl CachedDefaults {
    /// `None` when `bytes` are no defaults.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Option<Arc<EventDefaults>> {
        if self.bytes != bytes {
            self.defaults = Arc::new(decode_defaults(bytes)?);
            self.bytes = Bytes::copy_from_slice(bytes);
        }
        Some(Arc::clone(&self.defaults))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_defaults() -> impl Strategy<Value = EventDefaults> {
        let text = || proptest::option::of(".{0,20}".prop_map(String::into_boxed_str));
        (text(), text(), text()).prop_map(|(event_type, app_group_id, app_group_name)| EventDefaults {
            event_type,
            app_group_id,
            app_group_name,
        })
    }

    proptest! {
        /// What is encoded is decoded.
        #[test]
        fn defaults_come_back_as_they_went_in(defaults in all_defaults()) {
            prop_assert_eq!(decode_defaults(&encode_defaults(&defaults)), Some(defaults));
        }

        /// Bytes that are no defaults are refused, never misread into a panic.
        #[test]
        fn any_bytes_may_be_offered_as_an_origin(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(defaults) = decode_defaults(&bytes) {
                prop_assert_eq!(decode_defaults(&encode_defaults(&defaults)), Some(defaults));
            }
        }
    }

    #[test]
    fn equal_defaults_are_shared() {
        let mut cached = CachedDefaults::default();
        let defaults = EventDefaults { app_group_id: Some("a".into()), ..EventDefaults::default() };
        let bytes = encode_defaults(&defaults);
        let one = cached.decode(&bytes).unwrap();
        let two = cached.decode(&bytes).unwrap();
        assert_eq!(*one, defaults);
        assert!(Arc::ptr_eq(&one, &two));
    }

    fn open_at(directory: &tempfile::TempDir) -> (EmbeddedQueue, Appender) {
        let settings = EmbeddedSettings { directory: directory.path().join("queue"), size_max: 64 * 1024 };
        let (mut queue, appender, _opened) = open(&settings).unwrap();
        queue.until_empty(true);
        (queue, appender)
    }

    #[tokio::test]
    async fn what_is_pushed_is_delivered_with_its_origin_and_as_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let defaults = EventDefaults { app_group_name: Some("A".into()), ..EventDefaults::default() };
        let (mut queue, appender) = open_at(&directory);
        let document =
            Pushed { events: 3, defaults: Arc::new(defaults.clone()), body: "[1]".into(), is_extract: false };
        let extract = Pushed { events: 1, defaults: Arc::default(), body: "x".into(), is_extract: true };
        for pushed in [document, extract] {
            appender.append(pushed.into()).await.unwrap();
        }
        let one = queue.receive().await.unwrap().unwrap();
        assert_eq!((&*one.body, one.framing, &*one.defaults), (&b"[1]"[..], Framing::Document, &defaults));
        assert_eq!(one.receipt, Receipt(2));
        let two = queue.receive().await.unwrap().unwrap();
        assert_eq!((two.framing, two.defaults, two.receipt), (Framing::Extract, Arc::default(), Receipt(3)));
        assert!(queue.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_this_version_does_not_know_is_so_many_events_that_can_not_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let (mut queue, appender) = open_at(&directory);
        let unknown = Frame { events: 7, kind: 9, header: Bytes::new(), body: "?".into() };
        let strange = Frame { events: 2, kind: DOCUMENT, header: "no defaults".into(), body: "[]".into() };
        for frame in [unknown, strange] {
            appender.append(frame).await.unwrap();
        }
        for events in [7, 2] {
            let delivery = queue.receive().await.unwrap().unwrap();
            assert_eq!(delivery.framing, Framing::Unreadable(events));
        }
    }

    #[tokio::test]
    async fn messages_name_the_settings_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let (_queue, appender) = open_at(&directory);
        let body = Bytes::from(vec![b' '; 64 * 1024]);
        let large = Pushed { events: 1, defaults: Arc::default(), body, is_extract: false };
        let error = appender.append(large.into()).await.unwrap_err().to_string();
        assert!(error.ends_with("raise queue.embedded.max_size"), "{error}");
        let file = directory.path().join("file");
        std::fs::write(&file, "a file").unwrap();
        let error = open(&EmbeddedSettings { directory: file, size_max: 1 << 20 }).unwrap_err().to_string();
        assert!(error.contains("queue.embedded.directory must be a directory"), "{error}");
    }
}
