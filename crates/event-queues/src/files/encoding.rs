//! How earlier versions wrote `imports.json`: in the second format one record a line, each with its checksum, and one over all
//! of them.
//!
//! ```text
//! {"version":2,"files":[
//! {"path":"/data/a.ndjson", … ,"check":"0a1b2c3d"},
//! {"path":"/data/b.ndjson", … ,"check":"4e5f6a7b"}
//! ],"check":"8c9d0e1f"}
//! ```
//!
//! A checksum is the CRC-32 of the bytes before it: in its line, or in the file. So any change of a file shows, even an
//! added or removed record. The first format had no checksums, and its files were a map: neither can be taken for the other,
//! whatever version they state. The third is this program's: a single line that says where the state is now.

use std::collections::BTreeMap;
#[cfg(test)]
use std::io::Write as _;

use serde::{Deserialize, Serialize};

use super::fingerprint::{Fingerprint, Whole};
use super::import_state::{FileRecord, Mark};
use crate::content::FileLayout;

/// The format that this program writes: `imports-v3.redb`. It reads earlier ones, and refuses newer ones: it can't know what
/// they mean.
pub(super) const VERSION: u32 = 3;
/// Before the first record, in the second format.
const START: &[u8] = b"{\"version\":2,\"files\":[\n";
/// Before each checksum.
const CHECK: &[u8] = b",\"check\":\"";
/// After the last record.
const END: &[u8] = b"]";

/// A record, without its checksum. Unknown values are left out.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    layout: FileLayout,
    position: u64,
    finished: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<u64>,
    end: u64,
    head: u32,
    tail: u32,
    /// 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beginnings: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<u64>,
    settled_at: u64,
}

impl Line {
    #[cfg(test)]
    fn of(record: &FileRecord) -> Self {
        let Mark { layout, position, finished, container, fingerprint } = &record.mark;
        Self {
            path: record.path.clone(),
            layout: *layout,
            position: *position,
            finished: *finished,
            container: (*container > 0).then_some(*container),
            end: fingerprint.end,
            head: fingerprint.head,
            tail: fingerprint.tail,
            hash: fingerprint.whole.as_ref().map(|whole| format!("{:032x}", whole.hash)),
            beginnings: fingerprint.whole.as_ref().map(|whole| (*whole.beginnings).to_owned()),
            changed: record.changed,
            settled_at: record.settled_at,
        }
    }

    fn record(self) -> Result<FileRecord, String> {
        let whole = match (self.hash, self.beginnings) {
            (Some(hash), Some(beginnings)) => {
                let hash = u128::from_str_radix(&hash, 16).map_err(|error| format!("its hash: {error}"))?;
                Some(Whole { hash, beginnings: beginnings.into() })
            }
            (None, None) => None,
            _ => return Err("half of its hash is missing".to_owned()),
        };
        let fingerprint = Fingerprint { end: self.end, head: self.head, tail: self.tail, whole };
        let mark = Mark {
            layout: self.layout,
            position: self.position,
            finished: self.finished,
            container: self.container.unwrap_or_default(),
            fingerprint,
        };
        Ok(FileRecord { path: self.path, mark, changed: self.changed, settled_at: self.settled_at })
    }
}

/// As the second format was written.
#[cfg(test)]
pub(super) fn encode<'r>(records: impl Iterator<Item = &'r FileRecord>) -> std::io::Result<Vec<u8>> {
    let mut bytes = START.to_vec();
    let mut records = records.peekable();
    while let Some(record) = records.next() {
        let start = bytes.len();
        serde_json::to_writer(&mut bytes, &Line::of(record))?;
        bytes.pop();
        let sum = crc32fast::hash(&bytes[start..]);
        bytes.extend_from_slice(CHECK);
        write!(bytes, "{sum:08x}\"}}")?;
        bytes.extend_from_slice(if records.peek().is_some() { b",\n" } else { b"\n" });
    }
    bytes.extend_from_slice(END);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(CHECK);
    write!(bytes, "{sum:08x}\"}}")?;
    Ok(bytes)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The content of `imports.json`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OldState {
    /// What an earlier version remembered.
    Records(Vec<FileRecord>),
    /// The state has moved.
    Moved,
}

/// The line that replaces `imports.json`. Earlier versions refuse it, and advise to use the version that wrote it.
pub(super) fn moved() -> String {
    format!("{{\"version\":{VERSION},\"kept_in\":\"imports-v{VERSION}.redb\"}}\n")
}

/// Reads `imports.json`.
///
/// # Errors
/// When it is damaged, or of a newer version; the message says where, and what to do.
pub(super) fn decode(bytes: &[u8]) -> Result<OldState, String> {
    if let Some(lines) = bytes.strip_prefix(START) {
        return records(lines, bytes).map(OldState::Records).map_err(|problem| damaged(&problem));
    }
    if bytes == moved().as_bytes() {
        return Ok(OldState::Moved);
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
    match version {
        1 => old_records(bytes).map(OldState::Records).map_err(|error| damaged(&error.to_string())),
        0 | 2 | VERSION => Err(damaged("its first line is not what it was")),
        _ => Err(format!(
            "it has format {version}, and this version of braze-datadog reads formats 1 to {VERSION}; use the \
             version that wrote it"
        )),
    }
}

fn damaged(problem: &str) -> String {
    format!(
        "it is damaged ({problem}); restore it, or remove it and import only files that have not been counted yet"
    )
}

fn records(lines: &[u8], all: &[u8]) -> Result<Vec<FileRecord>, String> {
    let mut records = Vec::new();
    let mut lines = lines.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if lines.peek().is_none() {
            let holds = checked(all).is_some_and(|content| content.ends_with(b"\n]"));
            let problem =
                "all its records hold, but not the checksum of all of them: one is missing, or was added";
            return if holds { Ok(records) } else { Err(problem.to_owned()) };
        }
        let is_last = lines.peek().is_some_and(|(_, next)| next.starts_with(END));
        let record = if is_last { Some(line) } else { line.strip_suffix(b",") };
        let record = record.and_then(checked).ok_or("it does not match its checksum".to_owned());
        let record = record.and_then(|content| {
            let line: Line = serde_json::from_slice(&[content, b"}"].concat()).map_err(|e| e.to_string())?;
            line.record()
        });
        records.push(record.map_err(|problem| format!("{}: {problem}", named(number + 2, line)))?);
    }
    Err("its end is missing".to_owned())
}

/// The text before a valid checksum at the end.
fn checked(text: &[u8]) -> Option<&[u8]> {
    let at = text.len().checked_sub(CHECK.len() + "01234567\"}".len())?;
    let (content, check) = text.split_at(at);
    let check = check.strip_prefix(CHECK)?;
    (check == format!("{:08x}\"}}", crc32fast::hash(content)).as_bytes()).then_some(content)
}

/// A name for a damaged record, for messages.
fn named(number: usize, line: &[u8]) -> String {
    let path = line.strip_prefix(b"{\"path\":").and_then(|rest| {
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        values.next()?.ok()
    });
    path.map_or(format!("the record in line {number}"), |path| {
        format!("the record of {path} in line {number}")
    })
}

/// The first format: no checksums, and the files in a map.
fn old_records(bytes: &[u8]) -> Result<Vec<FileRecord>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Old {
        #[serde(rename = "version")]
        _version: u32,
        files: BTreeMap<String, OldRecord>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OldRecord {
        layout: FileLayout,
        position: u64,
        finished: bool,
        fingerprint: OldFingerprint,
        settled_at: u64,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OldFingerprint {
        end: u64,
        head: u32,
        tail: u32,
    }
    let old: Old = serde_json::from_slice(bytes)?;
    let record = |(path, old): (String, OldRecord)| {
        let OldFingerprint { end, head, tail } = old.fingerprint;
        let fingerprint = Fingerprint { end, head, tail, whole: None };
        let mark = Mark {
            layout: old.layout,
            position: old.position,
            finished: old.finished,
            container: 0,
            fingerprint,
        };
        FileRecord { path, mark, changed: None, settled_at: old.settled_at }
    };
    Ok(old.files.into_iter().map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, position: u64, whole: bool) -> FileRecord {
        let whole = whole.then(|| Whole { hash: 0x1234, beginnings: "0f3a".into() });
        let fingerprint = Fingerprint { end: position, head: 7, tail: 4_000_000_000, whole };
        let container = position.saturating_sub(50);
        let mark =
            Mark { layout: FileLayout::Lines, position, finished: position > 50, container, fingerprint };
        FileRecord { path: path.to_owned(), mark, changed: whole_time(position), settled_at: 1_795_341_600 }
    }

    fn whole_time(position: u64) -> Option<u64> {
        (position > 50).then_some(1_795_341_600_123_456_789)
    }

    fn sample() -> Vec<FileRecord> {
        vec![
            record("/a \"b\"/ü\n", 100, true),
            record("/data/c,\"check\":\"", 7, false),
            record("/c", 99, true),
        ]
    }

    fn decode(bytes: &[u8]) -> Result<Vec<FileRecord>, String> {
        super::decode(bytes).map(|state| match state {
            OldState::Records(records) => records,
            OldState::Moved => panic!("it was taken for what is kept elsewhere"),
        })
    }

    fn encoded(records: &[FileRecord]) -> Vec<u8> {
        encode(records.iter()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_is_json() {
        for count in 0..=3 {
            let bytes = encoded(&sample()[..count]);
            assert_eq!(decode(&bytes).unwrap(), sample()[..count]);
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["files"].as_array().unwrap().len(), count);
        }
    }

    /// For each bit that is flipped, each byte that is removed, doubled or set to anything a person might type, and each
    /// place to cut: the file is refused with advice, and never read as if it said something else.
    #[test]
    fn whatever_is_damaged_is_refused() {
        for count in 0..=3 {
            let good = encoded(&sample()[..count]);
            let refused = |bytes: &[u8], what: &str| {
                let problem = decode(bytes).expect_err(what);
                assert!(
                    problem.contains("import only files")
                        || problem.contains("use the version that wrote it"),
                    "{problem}"
                );
            };
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bytes = good.clone();
                    bytes[at] ^= 1 << bit;
                    refused(&bytes, &format!("bit {bit} of byte {at}"));
                }
                let mut bytes = good.clone();
                bytes.remove(at);
                refused(&bytes, &format!("without byte {at}"));
                let mut bytes = good.clone();
                bytes.insert(at, good[at]);
                refused(&bytes, &format!("with byte {at} twice"));
                for digit in b"019 \n\",{}" {
                    let mut bytes = good.clone();
                    bytes[at] = *digit;
                    if bytes != good {
                        refused(&bytes, &format!("byte {at} set to {digit}"));
                    }
                }
                refused(&good[..at], &format!("cut at {at}"));
            }
        }
    }

    #[test]
    fn a_record_that_was_taken_away_or_moved_is_noticed() {
        let bytes = encoded(&sample());
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<_> = text.split('\n').collect();
        for order in [&[0, 1, 2, 4][..], &[0, 1, 3, 4], &[0, 2, 1, 3, 4], &[0, 1, 1, 2, 3, 4], &[0, 4]] {
            let kept: Vec<_> = order.iter().map(|line| lines[*line]).collect();
            let mut kept = kept.join("\n");
            // As a person would take it away, without a comma before the end.
            if let Some(at) = kept.find(",\n]") {
                kept.remove(at);
            }
            let problem = decode(kept.as_bytes()).unwrap_err();
            assert!(problem.contains("one is missing, or was added"), "{order:?}: {problem}");
        }
    }

    #[test]
    fn a_record_that_does_not_hold_is_named() {
        let text = String::from_utf8(encoded(&sample())).unwrap();
        let changed = text.replace("\"position\":99", "\"position\":98");
        let problem = decode(changed.as_bytes()).unwrap_err();
        assert!(problem.contains("the record of /c in line 4: it does not match its checksum"), "{problem}");
        let changed = text.replace("\"path\":\"/c\"", "\"path\":7");
        let problem = decode(changed.as_bytes()).unwrap_err();
        assert!(problem.contains("the record in line 4"), "{problem}");
    }

    #[test]
    fn the_first_format_is_read_and_no_other_is_taken_for_it() {
        let old = r#"{"version":1,"files":{"/a":{"layout":"lines","position":9,"finished":true,"fingerprint":{"end":9,"head":1,"tail":2},"settled_at":5}}}"#;
        let read = decode(old.as_bytes()).unwrap();
        assert_eq!(
            (&*read[0].path, read[0].mark.position, read[0].mark.fingerprint.whole.is_none()),
            ("/a", 9, true)
        );
        assert_eq!(decode(br#"{"version":1,"files":{}}"#).unwrap(), []);
        for (damaged, said) in [
            (old.replace("\"version\":1", "\"version\":2"), "its first line"),
            (old.replace("\"version\":1", "\"version\":0"), "its first line"),
            (
                old.replace("\"version\":1", "\"version\":4"),
                "reads formats 1 to 3; use the version that wrote it",
            ),
            (old.replace("\"settled_at\"", "\"changed\":1,\"settled_at\""), "unknown field"),
            (old[..old.len() - 1].to_owned() + r#","check":"00000000"}"#, "unknown field"),
            (String::from_utf8(encoded(&[])).unwrap().replace(":2,", ":1,"), "expected a map"),
        ] {
            let problem = decode(damaged.as_bytes()).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
