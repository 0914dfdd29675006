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
    assert_eq!(
        keys.status("custom", 0).words,
        "not asked: custom url (whether it is valid shows when something is sent)"
    );
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
