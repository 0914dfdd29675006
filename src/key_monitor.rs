//! The validity of the connections' API keys, and when to ask next.
//!
//! A pure value: time and answers are passed in, and it returns the questions to ask. It weighs two sources:
//!
//! - Datadog's answer about a key ([`Validity`]) decides. An inconclusive one leaves the previous state.
//! - The intake's outcomes are a reason to ask again, not an answer: it takes points with the key of another
//!   site, too. Only where no question is allowed is its 403 believed.

use std::collections::BTreeMap;

use datadog_points::ApiKey;
use datadog_points::outcome::{FailureReason, Outcome};
use datadog_points::site::Site;
use datadog_points::validity::Validity;

use crate::connection::Connection;

/// How long a valid key is believed. Datadog's own Agent asks hourly; the endpoint may be rate-limited.
const VALID_FOR: u64 = 60 * MINUTE;

/// How long until an invalid or unknown key is asked about again: soon enough for people who have just fixed it.
const ASK_AGAIN_AFTER: u64 = 10 * MINUTE;

/// How soon after a question the intake's outcomes may cause another. It doubles with each that changes nothing, up to
/// [`ASK_AGAIN_AFTER`], so that an intake which contradicts Datadog does not cause a flood of questions.
const PATIENCE: u64 = 10_000;

/// How long an answer may take before its question counts as lost.
const ANSWER_WITHIN: u64 = MINUTE;

const MINUTE: u64 = 60_000;

/// Why a key is not asked about.
const DRY_RUN: &str = "not asked: dry run";
const SWITCHED_OFF: &str = "not asked: validate_keys = false";
const CUSTOM_URL: &str = "not asked: custom url (whether it is valid shows when something is sent)";

/// The state of all connections' keys. Times are milliseconds that never step back.
#[derive(Debug, Default)]
pub struct Keys {
    watched: BTreeMap<Box<str>, MonitoredKey>,
}

/// One connection's key.
#[derive(Debug)]
struct MonitoredKey {
    site: Site,
    key: ApiKey,
    /// Why it is not asked about.
    not_asked: Option<&'static str>,
    verdict: Option<Verdict>,
    /// Why the last question gave no verdict.
    unknown: Option<String>,
    /// When it was asked about last.
    asked: Option<u64>,
    /// When that was answered, whatever the answer.
    answered: Option<u64>,
    /// When it is asked about next by schedule.
    due: u64,
    /// When it is asked about next because of the intake's outcomes.
    nudged: Option<u64>,
    /// Whether the last question was because of those.
    was_nudged: bool,
    patience: u64,
    heard: Option<Heard>,
    /// The last state of this key that was reported.
    told: Option<State>,
    /// Whether this key, or the one before, was reported as invalid, and nothing better since.
    is_invalid_told: bool,
}

/// A definite answer, in words, and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    is_valid: bool,
    words: String,
    at: u64,
}

/// The intake's outcome for the last points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Accepts,
    Refuses,
    /// It could not be reached.
    Silent,
}

/// Whether a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Datadog has said that it is.
    Valid,
    /// Datadog has said that it is not.
    Invalid,
    /// No verdict.
    #[default]
    Unknown,
}

impl State {
    /// As in `/status`.
    pub const fn label(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Invalid => "invalid",
            State::Unknown => "unknown",
        }
    }
}

/// The state of a key, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// The state.
    pub state: State,
    /// The state in words, with the site and, where it is unknown, the reason.
    pub words: String,
    /// How long ago that was found, in seconds; `None`: never asked.
    pub seconds_ago: Option<u64>,
}

/// A question: whether this key is valid on this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The connection's name.
    pub connection: Box<str>,
    /// The site to ask.
    pub site: Site,
    /// Never shown.
    pub key: ApiKey,
}

/// A change to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEvent {
    /// The key is valid, and that was not known before.
    Valid,
    /// The key is valid, and the one before, or the same, was not.
    ValidAgain,
    /// The key is invalid, and that was not known before.
    Invalid,
    /// A question got no verdict, and none is known.
    Unknown,
}

impl Keys {
    /// Takes over the connections of a configuration. The state of a key stays as long as key and site do; others are due at
    /// once.
    pub fn configure(&mut self, connections: &[Connection], validate: bool, now: u64) {
        let mut before = std::mem::take(&mut self.watched);
        for connection in connections {
            let known = before.remove(&connection.name);
            let not_asked = why_not_asked(connection, validate);
            let is_invalid_told = known.as_ref().is_some_and(|known| known.is_invalid_told);
            let stays = |known: &MonitoredKey| known.is_of(connection) && known.not_asked == not_asked;
            let watched = known.filter(stays).unwrap_or_else(|| MonitoredKey {
                site: connection.site.clone(),
                key: connection.api_key.clone(),
                not_asked,
                verdict: None,
                unknown: None,
                asked: None,
                answered: None,
                due: if not_asked.is_none() { now } else { u64::MAX },
                nudged: None,
                was_nudged: false,
                patience: PATIENCE,
                heard: None,
                told: None,
                is_invalid_told,
            });
            self.watched.insert(connection.name.clone(), watched);
        }
    }

    /// Takes the questions that are due, at most `questions_max`, those that have waited longest first. A question without an
    /// answer within a minute is due again.
    pub fn due(&mut self, questions_max: usize, now: u64) -> Vec<Question> {
        let mut due: Vec<_> = self.watched.iter_mut().filter(|(_, watched)| watched.next() <= now).collect();
        due.sort_by_key(|(_, watched)| watched.next());
        due.into_iter()
            .take(questions_max)
            .map(|(name, watched)| {
                watched.asked = Some(now);
                watched.was_nudged = watched.due > now;
                watched.due = now + ANSWER_WITHIN;
                watched.nudged = None;
                Question { connection: name.clone(), site: watched.site.clone(), key: watched.key.clone() }
            })
            .collect()
    }

    /// When the next question is due; `None`: never, as things are.
    pub fn next_due(&self) -> Option<u64> {
        self.watched.values().map(MonitoredKey::next).min().filter(|next| *next < u64::MAX)
    }

    /// Takes an answer; one about a key that has been replaced since is ignored. `random` spreads the questions of many
    /// forwarders and connections that were started together.
    pub fn answered(
        &mut self,
        question: &Question,
        validity: &Validity,
        random: u64,
        now: u64,
    ) -> Option<KeyEvent> {
        let watched = self.watched.get_mut(&question.connection)?;
        if watched.key != question.key || watched.site != question.site || watched.not_asked.is_some() {
            return None;
        }
        let before = watched.state();
        let after = match validity {
            Validity::Valid => State::Valid,
            Validity::Invalid(_) => State::Invalid,
            Validity::Unknown(_) => State::Unknown,
        };
        let words = validity.message(&question.site);
        watched.answered = Some(now);
        if after == State::Unknown {
            watched.unknown = Some(words);
        } else {
            watched.unknown = None;
            watched.verdict = Some(Verdict { is_valid: after == State::Valid, words, at: now });
        }
        if watched.state() != before {
            watched.nudged = None;
        }
        watched.patience = if watched.state() == before && watched.was_nudged {
            (watched.patience * 2).min(ASK_AGAIN_AFTER)
        } else {
            PATIENCE
        };
        let wait = if after == State::Valid { VALID_FOR } else { ASK_AGAIN_AFTER };
        watched.due = now + wait - random % (wait / 10);
        watched.take_event()
    }

    /// Takes an outcome of a connection's points. Returns whether something is due earlier than before.
    pub fn heard(&mut self, connection: &Connection, outcome: &Outcome, now: u64) -> bool {
        let heard = match outcome.reason() {
            None => Heard::Accepts,
            Some(FailureReason::Http403) => Heard::Refuses,
            Some(FailureReason::Timeout | FailureReason::Connect | FailureReason::Dns) => Heard::Silent,
            Some(_) => return false,
        };
        // Outcomes of the previous key tell nothing about the new one.
        let Some(watched) = self.watched.get_mut(&connection.name).filter(|known| known.is_of(connection))
        else {
            return false;
        };
        let is_news = watched.heard.replace(heard) != Some(heard);
        let state = watched.state();
        if watched.not_asked.is_some() {
            watched.believe(heard, now);
            return false;
        }
        let is_reason = match heard {
            Heard::Refuses => state != State::Invalid,
            Heard::Accepts => state != State::Valid && is_news,
            Heard::Silent => false,
        };
        if !is_reason || watched.nudged.is_some() {
            return false;
        }
        let earliest = watched.asked.map_or(now, |asked| now.max(asked + watched.patience));
        watched.nudged = Some(earliest);
        earliest < watched.due
    }

    /// The state of a connection's key, for people.
    pub fn status(&self, name: &str, now: u64) -> KeyStatus {
        let Some(watched) = self.watched.get(name) else {
            return KeyStatus { state: State::Unknown, words: "not asked yet".to_owned(), seconds_ago: None };
        };
        let ago = |at: u64| now.saturating_sub(at) / 1000;
        let (words, at) = match (&watched.verdict, &watched.unknown, watched.not_asked) {
            (Some(verdict), None, _) => (verdict.words.clone(), Some(verdict.at)),
            (Some(verdict), Some(unknown), _) => {
                (format!("{}; asked again since: {unknown}", verdict.words), Some(verdict.at))
            }
            (None, Some(unknown), _) => (unknown.clone(), watched.answered),
            (None, None, Some(reason)) => (reason.to_owned(), None),
            (None, None, None) => ("not asked yet".to_owned(), None),
        };
        KeyStatus { state: watched.state(), words, seconds_ago: at.map(ago) }
    }

    /// The connections whose key is known to be valid or invalid, by name.
    pub fn known(&self) -> impl Iterator<Item = (&str, bool)> {
        let known = |(name, watched)| match MonitoredKey::state(watched) {
            State::Valid => Some((name, true)),
            State::Invalid => Some((name, false)),
            State::Unknown => None,
        };
        self.watched.iter().map(|(name, watched)| (&**name, watched)).filter_map(known)
    }
}

impl MonitoredKey {
    fn is_of(&self, connection: &Connection) -> bool {
        self.key == connection.api_key && self.site == connection.site
    }

    fn state(&self) -> State {
        match &self.verdict {
            Some(verdict) if verdict.is_valid => State::Valid,
            Some(_) => State::Invalid,
            None => State::Unknown,
        }
    }

    fn next(&self) -> u64 {
        self.due.min(self.nudged.unwrap_or(u64::MAX))
    }

    /// Takes the intake's verdict where no question is allowed: a refusal stands until it accepts.
    fn believe(&mut self, heard: Heard, now: u64) {
        match heard {
            Heard::Refuses => {
                let words = format!("403: {} refuses points with this key", self.site.name);
                self.verdict = Some(Verdict { is_valid: false, words, at: now });
            }
            Heard::Accepts => self.verdict = None,
            Heard::Silent => {}
        }
    }

    /// The change to report, if any.
    fn take_event(&mut self) -> Option<KeyEvent> {
        let state = self.state();
        if self.told.replace(state) == Some(state) {
            return None;
        }
        Some(match state {
            State::Unknown => KeyEvent::Unknown,
            State::Invalid => {
                self.is_invalid_told = true;
                KeyEvent::Invalid
            }
            State::Valid if std::mem::take(&mut self.is_invalid_told) => KeyEvent::ValidAgain,
            State::Valid => KeyEvent::Valid,
        })
    }
}

fn why_not_asked(connection: &Connection, validate: bool) -> Option<&'static str> {
    if connection.dry_run {
        Some(DRY_RUN)
    } else if !validate {
        Some(SWITCHED_OFF)
    } else if !connection.site.is_datadogs() {
        // A proxy or a test server need not support the question, and may count its requests.
        Some(CUSTOM_URL)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
