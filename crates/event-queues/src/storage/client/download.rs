//! The bytes of an object on their way: asked for by a task, read by the thread that cuts them.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use twox_hash::XxHash3_128;

use super::memory::Print;
use super::watch::BucketHealth;

/// How many pieces of a body wait to be read; a piece is what a socket gives at once, 64 KiB or less mostly.
const PIECES_MAX: usize = 16;

/// Reads what a task fetches, and keeps account of it.
pub(super) struct Download {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    piece: Bytes,
    account: Account,
}

/// What was read of a download, and how it failed; shared with whoever has the content read.
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
    /// Begins to fetch an object of which this version was found. Where the store can tell, another version is refused with
    /// [`Error::Precondition`].
    pub(super) fn start(
        runtime: &Handle,
        store: Arc<dyn ObjectStore>,
        path: Path,
        e_tag: Option<String>,
        health: Arc<BucketHealth>,
    ) -> (Self, Account) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        runtime.spawn(async move {
            let options = GetOptions::new().with_if_match(e_tag);
            let mut stream = match store.get_opts(&path, options).await {
                Ok(answer) => answer.into_stream(),
                Err(error) => {
                    // Nobody listens any more only where the process is about to end.
                    let _nobody = sender.send(Err(error)).await;
                    return;
                }
            };
            while let Some(piece) = stream.next().await {
                let is_last = piece.is_err();
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        let account = Account { read: Arc::default(), health };
        (Self { pieces, piece: Bytes::new(), account: account.clone() }, account)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    let told = io::Error::other(error.to_string());
                    self.account.read.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
                    return Err(told);
                }
                None => return Ok(0),
            }
        }
        let bytes = self.piece.len().min(buffer.len());
        let piece = self.piece.split_to(bytes);
        buffer[..bytes].copy_from_slice(&piece);
        let mut stored = self.account.read.lock().unwrap_or_else(PoisonError::into_inner);
        stored.hasher.write(&piece);
        stored.bytes += bytes as u64;
        self.account.health.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Account {
    /// What all bytes that were read are known by.
    pub(super) fn print(&self) -> Print {
        let stored = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Print { bytes: stored.bytes, hash: stored.hasher.finish_128() }
    }

    /// Why the store gave no more, if that is why reading failed; content that is damaged is no error of the store.
    pub(super) fn take_error(&self) -> Option<Error> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).error.take()
    }
}

/// Whether an object begins with the bytes that this print is of; they are fetched once more for that.
pub(super) async fn begins_with(
    store: &dyn ObjectStore,
    path: &Path,
    e_tag: Option<String>,
    print: Print,
) -> Result<bool, Error> {
    let options = GetOptions::new().with_if_match(e_tag).with_range(Some(0..print.bytes));
    let mut stream = store.get_opts(path, options).await?.into_stream();
    let (mut hasher, mut bytes) = (XxHash3_128::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        hasher.write(&piece);
        bytes += piece.len() as u64;
    }
    Ok(Print { bytes, hash: hasher.finish_128() } == print)
}
