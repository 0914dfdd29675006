use admin_api::ChartDay;
use datadog_points::outcome::FailureReason;

use super::*;
use crate::catalogue::LastOutcome;
use event_lanes::stats::DropReason;

fn found(dropped: Option<DropReason>, accepted_at: Option<u64>) -> SearchHit {
    SearchHit {
        connection: "acme".into(),
        tags: Vec::new(),
        sends: 1,
        last_send: 90,
        outcome: Some(LastOutcome { dropped, at: 100 }),
        accepted_at,
        trend: None,
    }
}

fn eu1() -> Destination {
    Destination { site: "EU1".into(), is_dry_run: false, key_refused: None }
}

#[test]
fn a_verdict_says_whether_sends_reach_datadog_and_since_when_not() {
    let say = |found: &SearchHit| verdict(found, &eu1(), 102);
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

    // A dry run reaches nobody, whatever came before it.
    let dry_run = Destination { is_dry_run: true, ..eu1() };
    let say = |found: &SearchHit| verdict(found, &dry_run, 102);
    let printed = SearchHit { outcome: None, accepted_at: None, ..forbidden };
    assert_eq!(say(&printed), (FlowState::Quiet, "dry run: printed, not sent".into()));
    let words = "dry run: printed, not sent; last accepted 2 s ago";
    assert_eq!(say(&found(None, Some(100))), (FlowState::Quiet, words.into()));
}

#[test]
fn what_was_accepted_with_a_refused_key_reaches_nobody() {
    let refused = Destination { key_refused: Some("403: this key is not valid on EU1".into()), ..eu1() };
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
