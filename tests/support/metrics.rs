//! Reads what `/metrics` says, and holds the books against their invariants.

use std::collections::BTreeMap;

use serde_json::Value;

/// The samples of one scrape, by name and labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Reads the Prometheus text format, version 0.0.4. A line that is none stops the test.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            samples: lines
                .map(|line| parse_line(line).unwrap_or_else(|| panic!("not a sample: {line:?}")))
                .collect(),
        }
    }

    /// The sum of the samples of this name that have all these labels; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|found| found == value))
        };
        let values =
            self.samples.iter().filter(|(of, found, _)| of == name && has(found)).map(|(_, _, value)| value);
        values.map(|value| whole(*value)).sum()
    }

    /// Whether there is a sample of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|(of, _, _)| of == name)
    }

    /// The books.
    pub(crate) fn books(&self) -> Books {
        let sum = |name: &str| self.sum(&format!("braze_datadog_{name}"), &[]);
        Books {
            received: sum("events_received_total"),
            ignored: sum("events_ignored_total"),
            malformed: sum("events_malformed_total"),
            duplicate: sum("events_duplicate_total"),
            counted: sum("sends_counted_total"),
            accepted: sum("sends_accepted_total"),
            dropped: sum("sends_dropped_total"),
            pending: sum("sends_pending"),
        }
    }
}

/// What became of every event, over all connections and reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) received: u64,
    pub(crate) ignored: u64,
    pub(crate) malformed: u64,
    pub(crate) duplicate: u64,
    pub(crate) counted: u64,
    pub(crate) accepted: u64,
    pub(crate) dropped: u64,
    pub(crate) pending: u64,
}

impl Books {
    /// From the program's own JSON: `books` of `/status`, or the last line of `--once`.
    pub(crate) fn told(json: &Value) -> Self {
        let number = |name: &str| json[name].as_u64().unwrap();
        Self {
            received: number("received"),
            ignored: number("ignored"),
            malformed: number("malformed"),
            duplicate: number("duplicate"),
            counted: number("counted"),
            accepted: number("accepted"),
            dropped: number("dropped"),
            pending: number("pending"),
        }
    }

    /// The two invariants of the contract.
    pub(crate) fn balance(&self) -> bool {
        self.received == self.ignored + self.malformed + self.duplicate + self.counted
            && self.counted == self.accepted + self.dropped + self.pending
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked in the line before")]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0 && value < 9e15, "{value} is not a count");
    value as u64
}

fn parse_line(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let name_length = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')?;
    let (name, mut rest) = line.split_at(name_length);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = parse_label_value(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then(|| (name.to_owned(), labels, value))
}

/// Up to the closing quote, unescaped, and what follows the quote.
fn parse_label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}
