//! Opens the log and repairs the state left by an earlier run, or by a power cut.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint, Saved};
use crate::disk::Directory;
use crate::lock::lock;
use crate::progress::Tail;
use crate::ranges::length;
use crate::scan::{DamagedBytes, Scan};
use crate::segments::{self, Active, Sealed, Segments, WriteFailure, file_name};
use crate::{FORMAT, Gap, is_read};

/// The result of opening the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Events that are not yet acknowledged, without those that are lost.
    pub waiting: u64,
    /// Events in the queue that were never answered: the process died, or a sync failed, in between. Known only while the
    /// machine has run on.
    pub found: u64,
    /// Bytes at the end that are no whole frame and were cut off.
    pub torn_bytes: u64,
    /// What the bytes held.
    pub torn: Torn,
    /// Damage in the last segment, and events that are missing altogether. Damage in other segments is found,
    /// logged and counted when they are read.
    pub damaged: Vec<Gap>,
    /// The same, of events that may never have been answered: the machine has died since, and several frames that are written
    /// at once need not reach the disk in order.
    pub doubtful: Vec<Gap>,
    /// The record of what was acknowledged is gone: events may be given out again.
    pub is_acknowledgement_lost: bool,
}

/// What the bytes that were cut off the end of the log held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Torn {
    /// Nothing that was answered: a write was cut short.
    #[default]
    Unanswered,
    /// The machine has died since, so a write was cut short; or the disk has lost bytes that it had called safe.
    PerhapsAnswered {
        /// Events at most; `None`: nothing in the bytes tells.
        events_max: Option<u64>,
    },
}

/// The result of opening at the end of the log, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtStart {
    /// As [`Opened::found`].
    pub found: u64,
    /// Events at most that were cut off, or are missing, and may have been answered, as far as their number is known.
    pub perhaps_lost: u64,
    /// As [`Opened::torn_bytes`].
    pub torn_bytes: u64,
}

impl AtStart {
    pub(crate) fn new(opened: &Opened) -> AtStart {
        let perhaps_lost = match opened.torn {
            Torn::PerhapsAnswered { events_max } => events_max.unwrap_or_default(),
            Torn::Unanswered => 0,
        };
        let doubtful: u64 = opened.doubtful.iter().map(|gap| gap.events).sum();
        AtStart { found: opened.found, perhaps_lost: perhaps_lost + doubtful, torn_bytes: opened.torn_bytes }
    }
}

/// Why the queue can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "queue directory {} is in use by {holder}: stop that process, or give this one a \
         {setting} of its own",
        directory.display()
    )]
    InUse {
        /// The queue's directory.
        directory: PathBuf,
        /// The process, as far as it is known.
        holder: String,
        /// The setting to change.
        setting: &'static str,
    },
    /// It was written in another format, most likely by a newer version of this program.
    #[error(
        "{} has queue format {found}, and this version knows formats up to {FORMAT}: start the version that wrote \
         it, or give this one a {setting} of its own",
        path.display()
    )]
    Format {
        /// The file that states it.
        path: PathBuf,
        /// The format's version.
        found: u32,
        /// The setting to change.
        setting: &'static str,
    },
    /// The disk or the system refuses something.
    #[error("can't {action} {}: {reason}: {advice}", path.display())]
    Storage {
        /// The operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
        /// What may help.
        advice: String,
    },
    /// The disk refuses writes, most likely because it is full.
    #[error("can't open the queue: {0}")]
    Refused(String),
}

/// A log that is ready to be worked on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) lock: File,
    pub(crate) segments: Segments,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) next: u64,
    /// Numbers that are not acknowledged and known to be lost, in order.
    pub(crate) lost: Vec<Range<u64>>,
    pub(crate) opened: Opened,
}

impl Recovered {
    pub(crate) fn tail(&self) -> Tail {
        Tail { segments: self.segments.firsts(), end: self.segments.end(), next: self.next }
    }
}

/// The content of the last segment.
#[derive(Debug, Default)]
struct LastSegment {
    /// Bytes of the file.
    bytes: u64,
    /// The number that follows the last whole frame.
    next: u64,
    gaps: Vec<Gap>,
    /// The damaged bytes behind the last whole frame.
    tail: Option<DamagedBytes>,
    /// How many events those held, as far as their heads tell.
    events_stated: u64,
}

/// Locks `directory`, which is made when it is missing, and brings the log in it into order. Only the last
/// segment is read through.
pub(crate) fn recover(directory: Directory, size_max: u64) -> Result<Recovered, OpenError> {
    make(&directory)?;
    directory.handle().map_err(directory.refuses("open", directory.path()))?;
    let lock = lock(&directory)?;
    let (mut checkpoint, saved) = Checkpoint::open(&directory)?;
    let mut found = list(&directory)?;
    let known = saved.unwrap_or_default();
    let acknowledged = saved.map_or_else(
        // Without a record of acknowledgements, every event is given out.
        || found.front().map_or(0, |segment| segment.first),
        |saved| saved.acknowledged,
    );
    release(&directory, &mut found, acknowledged)?;
    leave_begun(&directory, &mut found)?;
    let mut opened = Opened::default();
    let oldest = found.front().map(|segment| segment.first);
    let last = found.pop_back();
    let scan = match last {
        Some(last) => scan(&directory, last)?,
        None => LastSegment { next: acknowledged, ..LastSegment::default() },
    };
    // No number is given twice, even if much of the log is gone.
    let noted = checkpoint.noted();
    let next = scan.next.max(known.next).max(acknowledged).max(noted.map_or(0, |note| note.next));
    opened.found = noted.filter(|note| note.is_exact).map_or(0, |note| scan.next.saturating_sub(note.next));
    let is_exact = noted.is_some_and(|note| note.is_exact);
    let answered = noted.map_or(0, |note| note.next).max(known.next).max(acknowledged);
    let all = gaps(&directory, acknowledged, oldest, &scan, last, next).into_iter();
    let doubted = checkpoint.doubted();
    let (damaged, doubtful): (Vec<_>, Vec<_>) = all.partition(|gap| {
        !doubted.contains(&gap.first) && (is_exact || gap.first.max(acknowledged) < answered)
    });
    if let (Some(first), Some(last)) = (doubtful.first(), doubtful.last()) {
        checkpoint.doubt(&(first.first..last.first + last.events));
    }
    (opened.damaged, opened.doubtful) = (left(damaged, acknowledged), left(doubtful, acknowledged));
    opened.doubtful.retain(|gap| gap.events > 0);
    // A first start that was killed has made no record yet.
    let is_untouched = next == acknowledged && opened.damaged.is_empty() && opened.doubtful.is_empty();
    opened.is_acknowledgement_lost = saved.is_none() && !is_untouched;
    let active = match last {
        Some(last) if scan.next == next => {
            let good = scan.tail.map_or(scan.bytes, |tail| tail.offset);
            opened.torn_bytes = scan.bytes - good;
            opened.torn = if is_exact || opened.torn_bytes == 0 || scan.bytes < segments::HEAD_BYTES {
                Torn::Unanswered
            } else {
                Torn::PerhapsAnswered { events_max: Some(scan.events_stated).filter(|events| *events > 0) }
            };
            Active::reopen(&directory, last.first, good, scan.bytes)
                .map_err(directory.refuses("repair", &directory.file(&file_name(last.first))))?
        }
        _ => {
            found.extend(last);
            create(&directory, next)?
        }
    };
    // A start that was killed may have named files and not come to sync that.
    directory.sync().map_err(directory.refuses("sync", directory.path()))?;
    prove(&directory, &mut checkpoint, Saved { acknowledged, next })?;
    checkpoint.note(next);
    let missing = missing(&opened);
    opened.waiting = next - acknowledged - missing.iter().map(length).sum::<u64>();
    let segments = Segments::new(directory, found, active, size_max);
    Ok(Recovered { lock, segments, checkpoint, next, lost: missing, opened })
}

/// The numbers of all that is missing, in order.
fn missing(opened: &Opened) -> Vec<Range<u64>> {
    let all = opened.damaged.iter().chain(&opened.doubtful).filter(|gap| gap.events > 0);
    let mut missing: Vec<_> = all.map(|gap| gap.first..gap.first + gap.events).collect();
    missing.sort_by_key(|range| range.start);
    missing
}

fn make(directory: &Directory) -> Result<(), OpenError> {
    let path = directory.path();
    let failed = directory.refuses("make", path);
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    // The content is about people.
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(&failed)?;
    for made in missing {
        // A directory's name must survive a power cut as its content does.
        let parent = made.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(&failed)?;
    }
    Ok(())
}

/// The segments in order. Their heads are read, because a foreign format must not be touched.
fn list(directory: &Directory) -> Result<VecDeque<Sealed>, OpenError> {
    let failed = directory.refuses("read", directory.path());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.path()).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let Some(first) = entry.file_name().to_str().and_then(segments::parse_file_name) else { continue };
        let path = entry.path();
        let (bytes, head) = read_head(&path).map_err(directory.refuses("read", &path))?;
        match segments::decode_head(&head) {
            Some(format) if !is_read(format) => {
                return Err(OpenError::Format { path, found: format, setting: directory.names().directory });
            }
            // Frames behind a damaged segment head are still good.
            _ => found.push(Sealed { first, bytes }),
        }
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found.into())
}

fn read_head(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(segments::HEAD_BYTES).read_to_end(&mut head)?;
    Ok((file.metadata()?.len(), head))
}

/// Removes segments that an earlier run had no time to remove.
fn release(directory: &Directory, found: &mut VecDeque<Sealed>, acknowledged: u64) -> Result<(), OpenError> {
    while found.get(1).is_some_and(|following| following.first <= acknowledged) {
        if let Some(segment) = found.pop_front() {
            let name = file_name(segment.first);
            directory.remove(&name).map_err(directory.refuses("remove", &directory.file(&name)))?;
        }
    }
    Ok(())
}

/// Removes a last segment whose head is not whole, and goes on in the one before it: a full disk has no room to complete it.
/// Removes a last segment without a whole head. It holds no frame. If damage has shortened it, the checkpoint or the note
/// shows the loss.
fn leave_begun(directory: &Directory, found: &mut VecDeque<Sealed>) -> Result<(), OpenError> {
    if found.len() > 1
        && let Some(begun) = found.pop_back_if(|last| last.bytes < segments::HEAD_BYTES)
    {
        let name = file_name(begun.first);
        let removed = directory.remove(&name).and_then(|()| directory.sync());
        removed.map_err(directory.refuses("remove", &directory.file(&name)))?;
    }
    Ok(())
}

fn create(directory: &Directory, next: u64) -> Result<Active, OpenError> {
    Active::create(directory, next).map_err(|failure| match failure {
        WriteFailure::RolledBack(reason) | WriteFailure::Fatal(reason) => OpenError::Refused(reason),
    })
}

/// Saves the present state, so that later losses are noticed, and proves that it can be saved: otherwise every start would
/// give the same events out again. Both slots are overwritten, which takes no room on a full disk.
fn prove(directory: &Directory, checkpoint: &mut Checkpoint, now: Saved) -> Result<(), OpenError> {
    (0..checkpoint::SLOTS).try_for_each(|_| checkpoint.save(now)).map_err(|error| {
        let (path, reason) = (directory.file(checkpoint::NAME), directory.explain(&error));
        OpenError::Refused(format!(
            "{} can't be written and synced: {reason}; nothing was given out",
            path.display()
        ))
    })
}

fn scan(directory: &Directory, last: Sealed) -> Result<LastSegment, OpenError> {
    let path = directory.file(&file_name(last.first));
    let failed = directory.refuses("read", &path);
    if last.bytes < segments::HEAD_BYTES {
        let tail = Some(DamagedBytes { offset: 0, bytes: last.bytes });
        return Ok(LastSegment {
            bytes: last.bytes,
            next: last.first,
            gaps: Vec::new(),
            tail,
            events_stated: 0,
        });
    }
    let file = File::open(&path).map_err(&failed)?;
    let mut scan = Scan::new(path.clone(), file, segments::HEAD_BYTES, last.first);
    let mut gaps = Vec::new();
    while let Some(found) = scan.next(last.bytes, u64::MAX).map_err(&failed)? {
        gaps.extend(found.gap);
    }
    Ok(LastSegment {
        bytes: last.bytes,
        next: scan.expected(),
        gaps,
        tail: scan.damage(),
        events_stated: scan.events_stated(),
    })
}

/// All known losses: before the oldest segment, in the last one, and behind it.
fn gaps(
    directory: &Directory,
    acknowledged: u64,
    oldest: Option<u64>,
    scan: &LastSegment,
    last: Option<Sealed>,
    next: u64,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    if let Some(oldest) = oldest.filter(|oldest| *oldest > acknowledged) {
        let segment = directory.file(&file_name(oldest));
        gaps.push(Gap { segment, offset: 0, bytes: 0, first: acknowledged, events: oldest - acknowledged });
    }
    gaps.extend(scan.gaps.iter().cloned());
    let segment = directory.file(&file_name(last.map_or(next, |last| last.first)));
    if scan.next < next {
        let (offset, bytes) = scan.tail.map_or((scan.bytes, 0), |tail| (tail.offset, tail.bytes));
        gaps.push(Gap { segment, offset, bytes, first: scan.next, events: next - scan.next });
    }
    gaps
}

/// What there is of `gaps` where acknowledged events can't be lost any more.
fn left(mut gaps: Vec<Gap>, acknowledged: u64) -> Vec<Gap> {
    for gap in &mut gaps {
        let first = gap.first.max(acknowledged);
        gap.events = (gap.first + gap.events).saturating_sub(first);
        gap.first = first;
    }
    gaps.retain(|gap| gap.bytes > 0 || gap.events > 0);
    gaps
}
