use admin_api::ChartDay;
use datadog_points::outcome::FailureReason;

use super::*;
use event_lanes::stats::DropReason;

fn found(dropped: Option<DropReason>, accepted_at: Option<u64>) -> SearchHit {
    SearchHit {
        connection: "acme".into(),
        tags: Vec::new(),
        sends: 1,
        last_send: 90,
        outcome: Some(LastOutcome { dropped, is_dry_run: false, is_retargeted: false, at: 100 }),
        accepted_at,
        trend: None,
    }
}

fn eu1() -> SiteAndKey {
    SiteAndKey { site: "EU1".into(), is_dry_run: false, key_refused: None }
}

#[test]
fn a_verdict_says_whether_sends_reach_datadog_and_since_when_not() {
    let say = |found: &SearchHit| verdict(found, &Destination::Site(eu1()), 102);
    assert_eq!(
        say(&found(None, Some(100))),
        (FlowState::Flowing, "reaches Datadog: accepted 2 s ago".into())
    );
    let forbidden = found(Some(DropReason::Failed(FailureReason::Http403)), Some(42));
    let words =
        "does not reach Datadog: 403: this key is not valid on EU1 (2 s ago); last accepted 1 minute ago";
    assert_eq!(say(&forbidden), (FlowState::Trouble, words.into()));
    assert!(
        say(&found(Some(DropReason::Failed(FailureReason::Timeout)), None))
            .1
            .ends_with("never accepted since the start")
    );
    assert_eq!(say(&SearchHit { outcome: None, ..forbidden.clone() }).0, FlowState::Quiet);
}

/// What it was then, is not told of what it is now.
#[test]
fn an_outcome_is_told_of_the_connection_that_had_it() {
    let forbidden = Some(DropReason::Failed(FailureReason::Http403));
    let hit = |dropped, was_dry, is_retargeted| {
        let last = LastOutcome { dropped, is_dry_run: was_dry, is_retargeted, at: 100 };
        let accepted_at = (dropped.is_none() && !was_dry).then_some(100);
        SearchHit { outcome: Some(last), ..found(dropped, accepted_at) }
    };
    let now = |is_dry_run| Destination::Site(SiteAndKey { is_dry_run, ..eu1() });
    let not_since = "nothing was sent since its key or URL was changed; sends before that were";
    let removed = "its connection has been removed; sends before that were";
    for (found, to, words) in [
        (hit(None, true, false), now(true), "dry run: printed, not sent".to_owned()),
        (hit(None, true, true), now(true), "dry run: printed, not sent".to_owned()),
        (
            hit(None, true, false),
            now(false),
            "nothing was sent since the dry run, which printed 2 s ago".to_owned(),
        ),
        (hit(None, false, false), now(true), "dry run since the last send, accepted 2 s ago".to_owned()),
        (
            hit(forbidden, false, false),
            now(true),
            "dry run since the last send, dropped 2 s ago: 403: this key is not valid on EU1".to_owned(),
        ),
        (hit(forbidden, false, true), now(false), format!("{not_since} dropped 2 s ago")),
        (hit(None, false, true), now(false), format!("{not_since} accepted 2 s ago")),
        (hit(None, true, true), now(false), format!("{not_since} printed 2 s ago")),
        (hit(forbidden, false, false), Destination::Removed, format!("{removed} dropped 2 s ago")),
        (hit(None, false, false), Destination::Removed, format!("{removed} accepted 2 s ago")),
    ] {
        assert_eq!(verdict(&found, &to, 102), (FlowState::Quiet, words));
    }
    let late = hit(Some(DropReason::Late), true, false);
    assert_eq!(verdict(&late, &now(true), 102).0, FlowState::Trouble, "a dry run drops, too");
    let words = "does not reach Datadog: the configuration of its connection is wrong; last accepted 2 s ago";
    let told = verdict(&hit(None, false, false), &Destination::LeftOut, 102);
    assert_eq!(told, (FlowState::Trouble, words.into()));
}

#[test]
fn what_was_accepted_with_a_refused_key_reaches_nobody() {
    let refused = SiteAndKey { key_refused: Some("403: this key is not valid on EU1".into()), ..eu1() };
    let refused = Destination::Site(refused);
    let words = "accepted 2 s ago, but reaches nobody: 403: this key is not valid on EU1";
    assert_eq!(verdict(&found(None, Some(100)), &refused, 102), (FlowState::Trouble, words.into()));

    let today = |counted| {
        let days = vec![
            ChartDay { counted: Some(5), ..ChartDay::default() },
            ChartDay { counted, ..ChartDay::default() },
        ];
        let words = "last sent …, all accepted by Datadog".into();
        let object = ObjectMatch { days, words, state: FlowState::Flowing, ..ObjectMatch::default() };
        let told = as_of_now(object, |_| refused.clone());
        (told.state, told.words)
    };
    let words =
        "last sent …, all accepted by Datadog, but they reach nobody: 403: this key is not valid on EU1";
    assert_eq!(today(Some(3)), (FlowState::Trouble, words.into()));
    assert_eq!(
        today(Some(0)),
        (FlowState::Flowing, "last sent …, all accepted by Datadog".into()),
        "as it was then"
    );
}
