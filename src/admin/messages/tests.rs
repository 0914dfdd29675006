use super::*;
use datadog_points::site::Site;

fn eu1(dry_run: bool) -> Connection {
    Connection {
        site: Site::parse("EU1").unwrap().0,
        metric: "m".into(),
        dry_run,
        ..Connection::named("acme".into())
    }
}

#[test]
fn a_connection_is_told_by_its_last_outcome() {
    let books = |dropped, at| ConnectionBooks {
        last_outcome: Some(("…".into(), at)),
        last_dropped: dropped,
        ..ConnectionBooks::default()
    };
    let say = |books: &ConnectionBooks| connection(books, &eu1(false), 100);
    assert_eq!(say(&books(None, 98)), (FlowState::Flowing, "accepted 2 s ago".into()));
    assert_eq!(
        say(&books(Some(DropReason::Failed(FailureReason::Http403)), 98)),
        (FlowState::Trouble, "403: this key is not valid on EU1 (2 s ago)".into())
    );
    assert_eq!(say(&ConnectionBooks::default()), (FlowState::Quiet, "nothing was sent yet".into()));
}

#[test]
fn the_failure_of_a_proxy_is_not_told_as_datadog_s() {
    for (reason, last, words) in [
        (FailureReason::Connect, "connect: connecting failed", "EU1 can't be reached"),
        (FailureReason::Connect, "connect: the proxy (HTTPS_PROXY): …", "the proxy on the way to EU1 failed"),
        (FailureReason::Dns, "dns: the name …", "the name of EU1 can't be looked up"),
        (
            FailureReason::Dns,
            "dns: the proxy (ALL_PROXY): …",
            "the name of the proxy on the way to EU1 can't be looked up",
        ),
    ] {
        let books = ConnectionBooks {
            last_outcome: Some((last.into(), 98)),
            last_dropped: Some(DropReason::Failed(reason)),
            ..ConnectionBooks::default()
        };
        assert_eq!(connection(&books, &eu1(false), 100), (FlowState::Trouble, format!("{words} (2 s ago)")));
    }
}

#[test]
fn what_a_key_or_a_url_did_is_not_told_of_the_next_one() {
    let stats = event_lanes::stats::Stats::new();
    let tell = || connection(&stats.snapshot().connections["acme"], &eu1(false), 100);
    let sends =
        |counted| event_lanes::stats::Tally { counted: vec![("acme".into(), counted)], ..Default::default() };
    let refused = Some(DropReason::Failed(FailureReason::Http403));
    stats.book(&sends(3));
    stats.mark_retargeted("acme");
    assert_eq!(tell(), (FlowState::Quiet, "nothing was sent yet".into()));
    stats.book_outcome("acme", 1, refused, "403", 22);
    assert_eq!(tell().0, FlowState::Trouble);
    stats.mark_retargeted("acme");
    let not_since = |before| (FlowState::Quiet, format!("{NOT_SINCE}; sends before that were {before} ago"));
    assert_eq!(tell(), not_since("dropped 1 minute"));
    stats.book_outcome("acme", 1, refused, "403", 98);
    assert_eq!(tell(), (FlowState::Trouble, "403: this key is not valid on EU1 (2 s ago)".into()));
    stats.mark_retargeted("acme");
    stats.book_outcome("acme", 1, None, "accepted", 99);
    assert_eq!(tell(), (FlowState::Flowing, "accepted 1 s ago".into()));
    stats.mark_retargeted("acme");
    assert_eq!(tell(), not_since("accepted 1 s"));
}

#[test]
fn of_a_dry_run_it_is_said_that_nothing_was_sent() {
    let none = ConnectionBooks::default();
    let last = |is_printed| ConnectionBooks {
        last_outcome: Some(("…".into(), 98)),
        last_is_printed: is_printed,
        ..ConnectionBooks::default()
    };
    for (books, dry_run, words) in [
        (none, true, "dry run: nothing was printed yet"),
        (last(true), true, "dry run: printed 2 s ago, not sent"),
        (last(false), true, "dry run since the last send, accepted 2 s ago"),
        (last(true), false, "nothing was sent since the dry run, which printed 2 s ago"),
    ] {
        assert_eq!(connection(&books, &eu1(dry_run), 100), (FlowState::Quiet, words.into()));
    }
}

#[test]
fn drops_that_no_request_tells_are_told_of_their_connection() {
    let drops = |connection: &str, reason, sends| Dropping { connection: connection.into(), reason, sends };
    let dropping = [
        drops("acme", DropReason::Failed(FailureReason::Timeout), 900),
        drops("beta", DropReason::Early, 1),
        drops("acme", DropReason::Late, 1_500),
        drops("acme", DropReason::Early, 5),
        drops("gamma", DropReason::Failed(FailureReason::Timeout), 1),
    ];
    let told = |name| untimely(&dropping).remove(name);
    let late = "1,500 sends were dropped lately: too old for Datadog, which takes the last hour";
    assert_eq!(told("acme").as_deref(), Some(late));
    let early = "1 send was dropped lately: too far in the future for Datadog";
    assert_eq!((told("beta").as_deref(), told("gamma")), (Some(early), None));
}
