//! The download of an object: fetched by a task, read by the thread that cuts it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetResultPayload, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use twox_hash::XxHash3_128;

use super::bucket_state::ContentHash;
use super::health::BucketHealth;

/// How many pieces of a body wait to be read.
const PIECES_MAX: usize = 8;
/// The least size of a piece: a socket often gives less at once than what is worth handing over.
const PIECE_BYTES: usize = 128 * 1024;
/// A store's pace is judged after this long; one that gives fewer bytes a second is given up, because other objects wait
/// behind it.
const PACE_WAIT: Duration = Duration::from_mins(1);
const PACE_BYTES_MIN: u64 = 4096;

/// Reads the pieces that a task fetches, and keeps an account of them.
pub(super) struct Download {
    pieces: mpsc::Receiver<Result<Piece, Error>>,
    piece: Bytes,
    /// The rest of the piece.
    rest: std::vec::IntoIter<Bytes>,
    /// A local file, in the place of pieces.
    file: Option<File>,
    /// How many bytes the listing says there are.
    size: u64,
    account: Account,
}

/// How fast a store gives an object.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// # Errors
    /// When it is too slow.
    fn add(&mut self, waited: Duration, bytes: usize) -> Result<(), Error> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < PACE_WAIT {
            return Ok(());
        }
        if self.bytes < self.waited.as_secs() * PACE_BYTES_MIN {
            let words = format!("it gave less than {PACE_BYTES_MIN} bytes a second for a minute");
            return Err(Error::Generic { store: "bucket", source: words.into() });
        }
        *self = Self::default();
        Ok(())
    }
}

/// One piece of a body.
enum Piece {
    Bytes(Vec<Bytes>),
    /// All of it: a local file, which needs no task to be read.
    File(File),
}

/// The bytes read of a download, and its failure; shared with the content's caller.
#[derive(Clone)]
pub(super) struct Account {
    read: Arc<Mutex<Stored>>,
    health: Arc<BucketHealth>,
}

#[derive(Default)]
struct Stored {
    hasher: XxHash3_128,
    bytes: u64,
    error: Option<Error>,
}

impl Download {
    /// Begins to fetch this version of an object. Where the store can tell, another version is refused with
    /// [`Error::Precondition`].
    pub(super) fn start(
        runtime: &Handle,
        store: Arc<dyn ObjectStore>,
        object: &ObjectMeta,
        health: Arc<BucketHealth>,
    ) -> (Self, Account) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let ObjectMeta { location: path, e_tag, size, .. } = object.clone();
        runtime.spawn(async move {
            if let Err(error) = fetch(&*store, &path, e_tag, &sender).await {
                // The receiver is gone only when the process is about to end.
                let _nobody = sender.send(Err(error)).await;
            }
        });
        let account = Account { read: Arc::default(), health };
        let (piece, rest) = (Bytes::new(), Vec::new().into_iter());
        (Self { pieces, piece, rest, file: None, size, account: account.clone() }, account)
    }
}

/// Sends an object piece by piece, as long as there is a receiver.
async fn fetch(
    store: &dyn ObjectStore,
    path: &Path,
    e_tag: Option<String>,
    sender: &mpsc::Sender<Result<Piece, Error>>,
) -> Result<(), Error> {
    let answer = store.get_opts(path, GetOptions::new().with_if_match(e_tag)).await?;
    if let GetResultPayload::File(file, _) = answer.payload {
        // As below.
        let _nobody = sender.send(Ok(Piece::File(file))).await;
        return Ok(());
    }
    let mut stream = answer.into_stream();
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    let (mut failed, mut pace) = (Ok(()), Pace::default());
    loop {
        let asked = Instant::now();
        let next = stream.next().await;
        let mut is_end = !matches!(next, Some(Ok(_)));
        match next {
            Some(Ok(piece)) => {
                failed = pace.add(asked.elapsed(), piece.len());
                is_end = failed.is_err();
                bytes += piece.len();
                gathered.push(piece);
            }
            Some(Err(error)) => failed = Err(error),
            None => {}
        }
        if bytes >= PIECE_BYTES || is_end {
            // The receiver is gone only when the process is about to end.
            if sender.send(Ok(Piece::Bytes(std::mem::take(&mut gathered)))).await.is_err() || is_end {
                return failed;
            }
            bytes = 0;
        }
    }
}

impl Download {
    fn read_next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.file {
                return file.read(buffer).map_err(|error| self.account.note_of_file(error));
            }
            if !self.piece.is_empty() {
                let bytes = self.piece.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&self.piece.split_to(bytes));
                return Ok(bytes);
            }
            if let Some(next) = self.rest.next() {
                self.piece = next;
                continue;
            }
            match self.pieces.blocking_recv() {
                Some(Ok(Piece::Bytes(pieces))) => self.rest = pieces.into_iter(),
                Some(Ok(Piece::File(file))) => self.file = Some(file),
                Some(Err(error)) => return Err(self.account.note(error)),
                None => return Ok(0),
            }
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.read_next(buffer)?;
        if bytes == 0 && !buffer.is_empty() {
            self.account.ensure_whole(self.size)?;
        }
        let mut stored = self.account.read.lock().unwrap_or_else(PoisonError::into_inner);
        stored.hasher.write(&buffer[..bytes]);
        stored.bytes += bytes as u64;
        self.account.health.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Account {
    /// The print of all bytes that were read.
    pub(super) fn print(&self) -> ContentHash {
        let stored = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        ContentHash { bytes: stored.bytes, hash: stored.hasher.finish_128() }
    }

    /// # Errors
    /// When the store gave less of an object than its listing told: its end is not the object's.
    fn ensure_whole(&self, size: u64) -> io::Result<()> {
        ensure_given(self.print().bytes, size).map_err(|error| self.note(error))
    }

    /// Keeps the store's error, and says it as reading does.
    fn note(&self, error: Error) -> io::Error {
        let told = io::Error::other(error.to_string());
        self.read.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
        told
    }

    /// Keeps the error of a local file as the store's: a disk that fails is no damage of the content.
    fn note_of_file(&self, error: io::Error) -> io::Error {
        // Whoever reads tries again by itself.
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        self.note(Error::Generic { store: "LocalFileSystem", source: error.into() })
    }

    /// The store's error, if it made reading fail; damaged content is no error of the store.
    pub(super) fn take_error(&self) -> Option<Error> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).error.take()
    }
}

/// # Errors
/// When the store gave less than it was asked for.
fn ensure_given(bytes: u64, asked: u64) -> Result<(), Error> {
    if bytes >= asked {
        return Ok(());
    }
    let words = format!("it gave {bytes} of {asked} bytes");
    Err(Error::Generic { store: "bucket", source: words.into() })
}

/// Whether an object begins with the bytes of this print; they are fetched once more.
pub(super) async fn begins_with(
    store: &dyn ObjectStore,
    path: &Path,
    e_tag: Option<String>,
    print: ContentHash,
) -> Result<bool, Error> {
    Ok(print_of(store, path, e_tag, print.bytes).await? == print)
}

/// Fetches the first bytes of an object, for their print.
pub(super) async fn print_of(
    store: &dyn ObjectStore,
    path: &Path,
    e_tag: Option<String>,
    bytes: u64,
) -> Result<ContentHash, Error> {
    let options = GetOptions::new().with_if_match(e_tag).with_range(Some(0..bytes));
    let mut stream = store.get_opts(path, options).await?.into_stream();
    let (mut hasher, mut given, mut pace) = (XxHash3_128::new(), 0, Pace::default());
    loop {
        let asked = Instant::now();
        let Some(piece) = stream.next().await else { break };
        let piece = piece?;
        pace.add(asked.elapsed(), piece.len())?;
        hasher.write(&piece);
        given += piece.len() as u64;
    }
    ensure_given(given, bytes)?;
    Ok(ContentHash { bytes: given, hash: hasher.finish_128() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_read_on_is_an_error_of_the_store() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let account = Account { read: Arc::default(), health: Arc::default() };
        let (_, pieces) = mpsc::channel(1);
        let (piece, rest) = (Bytes::new(), Vec::new().into_iter());
        // It can only be written.
        let file = Some(File::create(&path).unwrap());
        let mut download = Download { pieces, piece, rest, file, size: 0, account: account.clone() };
        download.read(&mut [0; 8]).unwrap_err();
        assert!(matches!(account.take_error(), Some(Error::Generic { .. })));
    }

    #[test]
    fn a_store_that_is_slow_for_a_minute_is_too_slow() {
        let second = Duration::from_secs(1);
        let after = |bytes: usize| {
            let mut pace = Pace::default();
            (1..=200).find(|_| pace.add(second, bytes).is_err())
        };
        assert_eq!((after(30), after(4095), after(4096)), (Some(60), Some(60), None));
        // What was fast before may not be slow for long, and the pipeline may be as slow as it likes.
        let mut pace = Pace::default();
        pace.add(second, 1 << 30).unwrap();
        assert_eq!((1..=200).find(|_| pace.add(second, 30).is_err()), Some(119));
        assert!((0..10_000).all(|_| pace.add(Duration::ZERO, 1).is_ok() || pace.waited >= PACE_WAIT));
    }
}
