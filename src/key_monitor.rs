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
const CUSTOM_URL: &str = "not asked: custom url (braze-datadog check --online asks it)";

/// The state of all connections' keys. Times are milliseconds that never step back.
#[derive(Debug, Default)]
pub struct Keys {
    watched: BTreeMap<Box<str>, Watched>,
}

/// One connection's key.
#[derive(Debug)]
struct Watched {
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
            let stays = |known: &Watched| known.is_of(connection) && known.not_asked == not_asked;
            let watched = known.filter(stays).unwrap_or_else(|| Watched {
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

    /// Takes the questions that are due, at most `questions_max`, those that have waited longest first. A question without an answer within a minute is due again.
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
        self.watched.values().map(Watched::next).min().filter(|next| *next < u64::MAX)
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
        watched.tell()
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
        let known = |(name, watched)| match Watched::state(watched) {
            State::Valid => Some((name, true)),
            State::Invalid => Some((name, false)),
            State::Unknown => None,
        };
        self.watched.iter().map(|(name, watched)| (&**name, watched)).filter_map(known)
    }
}

impl Watched {
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
    fn tell(&mut self) -> Option<KeyEvent> {
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
mod tests {

    use proptest::prelude::*;

    use super::*;

    fn connection(name: &str, site: &str, key: &str) -> Connection {
        let site =
            if site.contains("//") { Site::from_url(site) } else { Site::parse(site).map(|(site, _)| site) };
        Connection {
            site: site.unwrap(),
            api_key: ApiKey::new(key),
            metric: "m".into(),
            dry_run: false,
            ..Connection::named(name.into())
        }
    }

    fn refused() -> Outcome {
        Outcome::dropped(FailureReason::Http403, "403 Forbidden")
    }

    fn unknown() -> Validity {
        Validity::Unknown("no answer".into())
    }

    /// Keys of one connection, asked as soon as something is due.
    struct Asked {
        keys: Keys,
        connection: Connection,
    }

    impl Asked {
        fn new() -> Self {
            let connection = connection("acme", "EU1", "key");
            let mut keys = Keys::default();
            keys.configure(std::slice::from_ref(&connection), true, 0);
            Self { keys, connection }
        }

        /// The one question that is due now is answered.
        fn answer(&mut self, validity: &Validity, now: u64) -> Option<KeyEvent> {
            let due = self.keys.due(9, now);
            assert_eq!(due.len(), 1, "at {now}");
            self.keys.answered(&due[0], validity, 0, now)
        }

        fn hear(&mut self, outcome: &Outcome, now: u64) -> bool {
            self.keys.heard(&self.connection, outcome, now)
        }

        fn status(&self, now: u64) -> (State, String, Option<u64>) {
            let KeyStatus { state, words, seconds_ago } = self.keys.status("acme", now);
            (state, words, seconds_ago)
        }
    }

    #[test]
    fn a_key_is_asked_about_at_once_and_then_hourly() {
        let mut asked = Asked::new();
        assert_eq!(asked.status(0), (State::Unknown, "not asked yet".into(), None));
        assert_eq!(asked.answer(&Validity::Valid, 0), Some(KeyEvent::Valid));
        assert_eq!(asked.status(7_000), (State::Valid, "valid on EU1".into(), Some(7)));
        assert_eq!(asked.keys.next_due(), Some(VALID_FOR));
        assert_eq!(asked.keys.due(9, VALID_FOR - 1), vec![]);
        assert_eq!(asked.answer(&Validity::Valid, VALID_FOR), None, "nothing has changed");
        assert_eq!(asked.keys.known().collect::<Vec<_>>(), [("acme", true)]);
    }

    #[test]
    fn who_has_waited_longest_is_asked_about_first() {
        let names = ["a", "b", "c", "d"];
        let connections = names.map(|name| connection(name, "EU1", name));
        let mut keys = Keys::default();
        keys.configure(&connections, true, 0);
        let mut asked = Vec::new();
        // A site that never answers: each of them is due again a minute later.
        for now in [0, ANSWER_WITHIN, 2 * ANSWER_WITHIN] {
            asked.extend(keys.due(2, now).into_iter().map(|question| question.connection));
        }
        assert_eq!(asked, ["a", "b", "c", "d", "a", "b"].map(Box::from));
    }

    #[test]
    fn questions_are_spread_over_the_last_tenth_of_the_hour() {
        for random in [0, 1, 12_345, u64::MAX] {
            let mut asked = Asked::new();
            let due = asked.keys.due(9, 0);
            asked.keys.answered(&due[0], &Validity::Valid, random, 0);
            let next = asked.keys.next_due().unwrap();
            assert!((VALID_FOR * 9 / 10..=VALID_FOR).contains(&next), "{random}: {next}");
        }
    }

    #[test]
    fn a_key_that_is_not_valid_is_told_once_and_told_again_when_it_is() {
        let mut asked = Asked::new();
        assert_eq!(asked.answer(&Validity::Invalid(403), 0), Some(KeyEvent::Invalid));
        let words = "403: this key is not valid on EU1";
        assert_eq!(asked.status(0), (State::Invalid, words.into(), Some(0)));
        assert_eq!(asked.keys.known().collect::<Vec<_>>(), [("acme", false)]);
        assert_eq!(asked.answer(&Validity::Invalid(403), ASK_AGAIN_AFTER), None);
        assert_eq!(asked.answer(&Validity::Valid, 2 * ASK_AGAIN_AFTER), Some(KeyEvent::ValidAgain));
        let next = 2 * ASK_AGAIN_AFTER + VALID_FOR;
        assert_eq!(asked.answer(&Validity::Invalid(403), next), Some(KeyEvent::Invalid));
    }

    #[test]
    fn no_answer_takes_no_verdict_back() {
        let mut asked = Asked::new();
        assert_eq!(asked.answer(&unknown(), 0), Some(KeyEvent::Unknown));
        assert_eq!(asked.status(5_000), (State::Unknown, "unknown: no answer".into(), Some(5)));
        assert_eq!(asked.keys.known().count(), 0);
        assert_eq!(asked.answer(&unknown(), ASK_AGAIN_AFTER), None, "it is told once");
        let valid = 2 * ASK_AGAIN_AFTER;
        assert_eq!(asked.answer(&Validity::Valid, valid), Some(KeyEvent::Valid));
        assert_eq!(asked.answer(&unknown(), valid + VALID_FOR), None);
        let (state, words, seconds_ago) = asked.status(valid + VALID_FOR);
        assert_eq!((state, seconds_ago), (State::Valid, Some(3600)));
        assert_eq!(words, "valid on EU1; asked again since: unknown: no answer");
        assert_eq!(asked.answer(&Validity::Valid, valid + VALID_FOR + ASK_AGAIN_AFTER), None);
        assert_eq!(asked.status(valid + VALID_FOR + ASK_AGAIN_AFTER).1, "valid on EU1");
    }

    #[test]
    fn a_question_that_is_lost_is_asked_again() {
        let mut asked = Asked::new();
        assert_eq!(asked.keys.due(9, 0).len(), 1);
        assert_eq!(asked.keys.due(9, ANSWER_WITHIN - 1), vec![]);
        assert_eq!(asked.answer(&Validity::Valid, ANSWER_WITHIN), Some(KeyEvent::Valid));
    }

    #[test]
    fn a_refused_request_makes_a_valid_key_asked_about_soon() {
        let mut asked = Asked::new();
        asked.answer(&Validity::Valid, 0);
        assert!(!asked.hear(&Outcome::Accepted, 1_000));
        assert!(asked.hear(&refused(), 2_000));
        assert!(!asked.hear(&refused(), 3_000), "once is enough");
        assert_eq!(asked.keys.next_due(), Some(PATIENCE));
        assert_eq!(asked.answer(&Validity::Invalid(403), PATIENCE), Some(KeyEvent::Invalid));
        assert!(!asked.hear(&refused(), PATIENCE + 1), "that is known");
        // It is put in order: the next points go in, and the key is asked about.
        assert!(asked.hear(&Outcome::Accepted, 60_000));
        assert_eq!(asked.answer(&Validity::Valid, 60_000), Some(KeyEvent::ValidAgain));
        // Long after the last question nobody has to wait.
        assert!(asked.hear(&refused(), 2_000_000));
        assert_eq!(asked.keys.next_due(), Some(2_000_000));
    }

    #[test]
    fn that_points_are_accepted_proves_nothing() {
        let mut asked = Asked::new();
        asked.answer(&Validity::Invalid(403), 0);
        assert!(asked.hear(&Outcome::Accepted, 1_000));
        assert_eq!(asked.status(1_000).0, State::Invalid);
        assert_eq!(asked.answer(&Validity::Invalid(403), PATIENCE), None);
        for second in 0..500 {
            assert!(
                !asked.hear(&Outcome::Accepted, PATIENCE + second * 1_000),
                "a key of another site, as before"
            );
        }
    }

    #[test]
    fn an_intake_that_contradicts_datadog_makes_few_questions() {
        let mut asked = Asked::new();
        let mut questions = 0;
        for second in 0..24 * 3600 {
            asked.hear(&refused(), second * 1_000);
            for due in asked.keys.due(9, second * 1_000) {
                questions += 1;
                asked.keys.answered(&due, &Validity::Valid, 0, second * 1_000);
            }
        }
        assert!((24..24 * 10).contains(&questions), "{questions}");
    }

    #[test]
    fn a_key_that_is_replaced_is_asked_about_at_once_and_an_old_answer_is_not_about_it() {
        let mut asked = Asked::new();
        asked.answer(&Validity::Invalid(403), 0);
        let late = { asked.keys.due(9, ASK_AGAIN_AFTER) };
        let same = asked.connection.clone();
        asked.keys.configure(&[same], true, 700_000);
        assert_eq!(asked.status(700_000).0, State::Invalid, "nothing was replaced");
        asked.connection.api_key = ApiKey::new("another");
        let replaced = asked.connection.clone();
        asked.keys.configure(&[replaced], true, 700_000);
        assert_eq!(asked.status(700_000), (State::Unknown, "not asked yet".into(), None));
        assert_eq!(asked.keys.answered(&late[0], &Validity::Invalid(403), 0, 700_000), None);
        assert_eq!(asked.status(700_000).0, State::Unknown);
        let old = connection("acme", "EU1", "key");
        assert!(!asked.keys.heard(&old, &refused(), 700_000), "points on their way with the old key");
        assert_eq!(asked.answer(&Validity::Valid, 700_000), Some(KeyEvent::ValidAgain));
        // Another site is another question, too.
        let moved = connection("acme", "US5", "another");
        asked.keys.configure(&[moved], true, 800_000);
        assert_eq!(asked.keys.due(9, 800_000).len(), 1);
        asked.keys.configure(&[], true, 900_000);
        assert_eq!((asked.keys.next_due(), asked.keys.known().count()), (None, 0));
    }

    #[test]
    fn a_key_that_is_invalid_like_the_one_before_is_told_anew() {
        let mut asked = Asked::new();
        assert_eq!(asked.answer(&Validity::Invalid(403), 0), Some(KeyEvent::Invalid));
        asked.keys.configure(&[connection("acme", "EU1", "another")], true, 1);
        assert_eq!(asked.answer(&Validity::Invalid(403), 1), Some(KeyEvent::Invalid));
        asked.keys.configure(&[connection("acme", "EU1", "a third")], true, 2);
        assert_eq!(asked.answer(&unknown(), 2), Some(KeyEvent::Unknown));
        assert_eq!(asked.answer(&Validity::Valid, 2 + ASK_AGAIN_AFTER), Some(KeyEvent::ValidAgain));
    }

    #[test]
    fn a_dry_run_a_custom_url_and_a_switch_keep_keys_from_being_asked_about() {
        let mut dry = connection("dry", "EU1", "");
        dry.dry_run = true;
        let custom = connection("custom", "http://127.0.0.1:1", "key");
        let listed = connection("listed", "https://api.datadoghq.eu", "key");
        let new_site = connection("new", "us9.datadoghq.com", "key");
        let all = [dry, custom.clone(), listed, new_site];
        let mut keys = Keys::default();
        keys.configure(&all, true, 0);
        let asked: Vec<_> = keys.due(9, 0).into_iter().map(|question| question.connection).collect();
        assert_eq!(asked, ["listed".into(), "new".into()]);
        assert_eq!(keys.status("dry", 0).words, "not asked: dry run");
        assert!(keys.status("custom", 0).words.starts_with("not asked: custom url"));
        keys.configure(&all, false, 0);
        assert_eq!((keys.due(9, u64::MAX - 1), keys.next_due()), (vec![], None));
        assert_eq!(keys.status("listed", 0).words, "not asked: validate_keys = false");
        // Where nobody may be asked, a refusal is all there is.
        assert!(!keys.heard(&custom, &refused(), 1_000));
        let status = keys.status("custom", 3_000);
        assert_eq!((status.state, status.seconds_ago), (State::Invalid, Some(2)));
        assert_eq!(status.words, "403: 127.0.0.1:1 refuses points with this key");
        keys.heard(&custom, &Outcome::dropped(FailureReason::Timeout, ""), 3_000);
        assert_eq!(keys.status("custom", 3_000).state, State::Invalid);
        keys.heard(&custom, &Outcome::Accepted, 4_000);
        assert_eq!(keys.status("custom", 4_000).state, State::Unknown);
        assert_eq!(keys.next_due(), None);
    }

    #[test]
    fn no_more_is_taken_at_once_than_may_be_asked_at_once() {
        let connections: Vec<_> =
            (0..100).map(|number| connection(&format!("c{number}"), "EU1", "key")).collect();
        let mut keys = Keys::default();
        keys.configure(&connections, true, 0);
        assert_eq!((keys.due(8, 0).len(), keys.due(0, 0).len()), (8, 0));
        assert_eq!(keys.next_due(), Some(0));
        assert_eq!((keys.due(100, 0).len(), keys.due(100, 0).len()), (92, 0));
    }

    proptest! {
        /// Whatever the intake does and Datadog answers: the state shown is that of the last verdict about the key as
        /// it is configured now, a key is never left without a next question, and no key is asked about more often
        /// than its patience and answers allow.
        #[test]
        fn the_last_verdict_about_the_present_key_is_shown(
            steps in prop::collection::vec((0u8..6, 0u8..3, 0u64..400_000), 1..120),
        ) {
            let mut asked = Asked::new();
            let (mut now, mut expected, mut open) = (0, State::Unknown, Vec::new());
            let mut last_asked: Option<u64> = None;
            for (step, choice, wait) in steps {
                now += wait;
                match step {
                    0 | 1 => open.extend(asked.keys.due(9, now).into_iter().inspect(|_| {
                        assert!(last_asked.is_none_or(|last| now >= last + PATIENCE), "asked too soon");
                        last_asked = Some(now);
                    })),
                    2 | 3 => if let Some(question) = open.pop() {
                        let (validity, state) = match choice {
                            0 => (Validity::Valid, State::Valid),
                            1 => (Validity::Invalid(403), State::Invalid),
                            _ => (unknown(), State::Unknown),
                        };
                        asked.keys.answered(&question, &validity, wait, now);
                        if question.key == asked.connection.api_key && state != State::Unknown {
                            expected = state;
                        }
                    },
                    4 => {
                        let outcome = if choice == 0 { Outcome::Accepted } else { refused() };
                        asked.hear(&outcome, now);
                    }
                    _ if choice == 0 => {
                        asked.connection.api_key = ApiKey::new(&format!("key {now}"));
                        let configured = asked.connection.clone();
                        asked.keys.configure(&[configured], true, now);
                        (expected, last_asked) = (State::Unknown, None);
                        open.retain(|question| question.key == asked.connection.api_key);
                    }
                    _ => {}
                }
                prop_assert_eq!(asked.status(now).0, expected);
                prop_assert!(asked.keys.next_due().is_some_and(|next| next <= now + VALID_FOR));
            }
        }
    }
}
