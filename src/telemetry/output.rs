//! Standard error and standard output on a thread each, so that a reader that stops reading blocks nothing else.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

/// Log lines that may wait for their reader: some seconds of a busy log, a few megabytes.
const LINES_MAX: usize = 8192;

/// Tables of a dry run that may wait for their reader; each has at most 25 rows.
const TABLES_MAX: usize = 16;

/// How often to check whether everything is written.
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// Erases a drawn line.
const WIPE: &[u8] = b"\r\x1b[K";

/// The beginning of a second line of what is one.
const CONTINUED: &[u8] = b"\n    ";

/// A piece for standard error.
enum Piece {
    /// A log line.
    Line(Box<[u8]>),
    /// A line without an end, which the next piece replaces.
    Drawing(Box<[u8]>),
    /// Erases the drawn line.
    Wipe,
}

/// Log lines on their way to standard error.
#[derive(Debug)]
pub(super) struct ErrorOutput {
    pieces: SyncSender<Piece>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    done: AtomicU64,
    lost: AtomicU64,
}

/// There is one standard error, with one writer.
static ERROR_OUTPUT: OnceLock<ErrorOutput> = OnceLock::new();

impl ErrorOutput {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the system gives no thread, or one was started before.
    pub(super) fn start() -> Result<(), String> {
        let (pieces, waiting) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let write = {
            let counts = Arc::clone(&counts);
            move || write_pieces(&waiting, &counts)
        };
        thread::Builder::new()
            .name("log".into())
            .spawn(write)
            .map_err(|error| format!("the log's thread could not be started: {error}"))?;
        ERROR_OUTPUT.set(Self { pieces, counts }).map_err(|_started| "logging was started before".to_owned())
    }

    /// Hands a piece over, or loses it where too many wait; never waits.
    fn send(&self, piece: Piece) {
        let is_line = matches!(piece, Piece::Line(_));
        if self.pieces.try_send(piece).is_ok() {
            self.counts.queued.fetch_add(1, Ordering::Relaxed);
        } else if is_line {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes pieces until the process ends. When a reader is back after lost lines, it reports how many.
fn write_pieces(waiting: &Receiver<Piece>, counts: &Counts) {
    let (mut is_drawn, mut is_torn, mut told) = (false, false, 0);
    while let Ok(piece) = waiting.recv() {
        let wipe: &[u8] = match (is_drawn, is_torn) {
            (true, _) => WIPE,
            // What has been written of a line must not become part of the next.
            (false, true) => b"\n",
            (false, false) => b"",
        };
        let (text, is_line): (&[u8], bool) = match &piece {
            Piece::Line(line) => (line, true),
            Piece::Drawing(drawing) => (drawing, false),
            Piece::Wipe => (b"", false),
        };
        is_drawn = matches!(piece, Piece::Drawing(_));
        let mut stream = io::stderr().lock();
        let written = stream.write_all(wipe).and_then(|()| stream.write_all(text));
        drop(stream);
        is_torn = written.is_err();
        let done = counts.done.fetch_add(1, Ordering::Relaxed) + 1;
        if written.is_err() {
            counts.lost.fetch_add(u64::from(is_line), Ordering::Relaxed);
            continue;
        }
        let lost = counts.lost.load(Ordering::Relaxed);
        // Before the others are written there is no room for one more.
        if lost > told && done >= counts.queued.load(Ordering::Relaxed) {
            let lines = lost - told;
            told = lost;
            tracing::warn!(
                lines,
                "{lines} log lines were lost before this one, for standard error was not read"
            );
        }
    }
}

/// Writes log lines to [`ErrorOutput`]; each write is one line, as the formatter makes them. What has several lines in itself
/// (a file's name may) is indented from the second on: no text can pass for another line of the log.
#[derive(Debug)]
pub(super) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(output) = ERROR_OUTPUT.get() {
            output.send(Piece::Line(as_one(bytes).into()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line of the log whose further lines can't be taken for others.
fn as_one(line: &[u8]) -> Cow<'_, [u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return line.into();
    }
    let mut one = Vec::with_capacity(line.len() + CONTINUED.len());
    for byte in text {
        match byte {
            b'\n' => one.extend_from_slice(CONTINUED),
            b'\r' => one.extend_from_slice(b"\\r"),
            other => one.push(*other),
        }
    }
    one.push(b'\n');
    one.into()
}

/// Draws a line that the next one, or a log line, replaces. Nothing is drawn where standard error is no terminal.
pub fn draw(line: &str) {
    if let Some(output) = ERROR_OUTPUT.get().filter(|_| io::stderr().is_terminal()) {
        output.send(Piece::Drawing([WIPE, line.as_bytes()].concat().into()));
    }
}

/// Erases the drawn line.
pub fn wipe() {
    if let Some(output) = ERROR_OUTPUT.get() {
        output.send(Piece::Wipe);
    }
}

/// Log lines that nobody read.
pub fn lost_lines() -> u64 {
    ERROR_OUTPUT.get().map_or(0, |output| output.counts.lost.load(Ordering::Relaxed))
}

/// Waits until what was logged so far is written, `limit` at most.
pub fn flush(limit: Duration) {
    let Some(ErrorOutput { counts, .. }) = ERROR_OUTPUT.get() else { return };
    let (asked, queued) = (Instant::now(), counts.queued.load(Ordering::Relaxed));
    while counts.done.load(Ordering::Relaxed) < queued && asked.elapsed() < limit {
        thread::sleep(FLUSH_POLL);
    }
}

/// Writes `text` to a stream of this process on a thread of its own, and waits for it `limit` at most. Where the system gives no
/// thread, nothing bounds the wait.
///
/// # Errors
/// When it can't be written, or nobody reads it in time.
pub fn write_within(
    limit: Duration,
    text: &str,
    write: impl Fn(&str) -> io::Result<()> + Copy + Send + 'static,
) -> io::Result<()> {
    let (done, written) = sync_channel(1);
    let own = text.to_owned();
    let writer = thread::Builder::new().name("last words".into()).spawn(move || {
        // The caller may have given up.
        let _given_up = done.send(write(&own));
    });
    if writer.is_err() {
        return write(text);
    }
    written.recv_timeout(limit).unwrap_or_else(|_nobody_reads| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody read it within {limit:?}")))
    })
}

/// Prints tables to standard output, one after the other, on a thread of its own.
#[derive(Debug, Clone)]
pub struct Printer(mpsc::Sender<Table>);

#[derive(Debug)]
struct Table {
    text: String,
    printed: oneshot::Sender<io::Result<()>>,
}

/// Why a table was not printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// Standard output is not read.
    #[error("standard output is not read")]
    NotRead,
    /// It can't be written.
    #[error("standard output can't be written: {0}")]
    Failed(#[from] io::Error),
}

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start() -> io::Result<Self> {
        let (tables, mut waiting) = mpsc::channel::<Table>(TABLES_MAX);
        let print = move || {
            while let Some(Table { text, printed }) = waiting.blocking_recv() {
                let mut out = io::stdout().lock();
                // Left out already, and said to be. What ends the output has waited for the lock, or has been written.
                if printed.is_closed() {
                    continue;
                }
                let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                // The caller may have given up meanwhile.
                let _given_up = printed.send(result);
            }
        };
        thread::Builder::new().name("print".into()).spawn(print)?;
        Ok(Self(tables))
    }

    /// Prints `text` whole, or leaves it out where there is no room for it within `limit`; one that is being
    /// printed by then may still come.
    ///
    /// # Errors
    /// When standard output is not read in time, or can't be written.
    pub async fn print(&self, text: String, limit: Duration) -> Result<(), PrintError> {
        let (printed, outcome) = oneshot::channel();
        let print = async {
            self.0.send(Table { text, printed }).await.map_err(|_ended| PrintError::NotRead)?;
            outcome.await.map_err(|_ended| PrintError::NotRead)?.map_err(PrintError::from)
        };
        tokio::time::timeout(limit, print).await.unwrap_or(Err(PrintError::NotRead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_in_a_line_passes_for_another_line() {
        for (line, one) in [
            ("a line\n", "a line\n"),
            ("without an end", "without an end"),
            (
                "import of x\n2026 ERROR forged\rover it\n\n",
                "import of x\n    2026 ERROR forged\\rover it\n    \n",
            ),
        ] {
            assert_eq!(as_one(line.as_bytes()), one.as_bytes());
        }
    }
}
