use super::*;
use crate::reconcile::table;
use braze_rest::{CanvasDay, CanvasStep};
use jiff::civil::date;

/// 2026-11-28, 05:00 in UTC.
const NOW: u64 = 1_795_842_000;
/// 2026-11-22, 12:00 in UTC.
const SINCE: u64 = 1_795_348_800;

const TYPES: &str = "users.messages.email.Send, users.messages.pushnotification.Send";

fn day(day: &str, counted: u64, accepted: u64, dropped: &[(&str, u64)]) -> HistoryDay {
    let dropped = dropped.iter().map(|(reason, sends)| ((*reason).to_owned(), *sends)).collect();
    HistoryDay { day: day.to_owned(), counted, accepted, printed: 0, dropped }
}

fn own(kind: HistoryKind, id: &str, days: Vec<HistoryDay>) -> HistoryObject {
    HistoryObject { kind, id: id.to_owned(), name: format!("Name of {id}"), days, ..Default::default() }
}

fn channels(sent: &[(&str, Option<u64>)]) -> ChannelSends {
    sent.iter().map(|(channel, sends)| ((*channel).to_owned(), *sends)).collect()
}

fn said(number: i8, sent: Option<&[(&str, Option<u64>)]>) -> CampaignDay {
    CampaignDay { day: date(2026, 11, number), sent: sent.map(channels) }
}

fn campaign(id: &str, days: Vec<CampaignDay>) -> BrazeAnswer {
    let said = Ok(BrazeSeries::Campaign(days));
    BrazeAnswer { kind: HistoryKind::Campaign, id: id.to_owned(), name: "Listed".to_owned(), said }
}

fn compared(history: Vec<HistoryObject>, answers: Vec<BrazeAnswer>) -> Reconciliation {
    let range = DayRange::new("UTC", None, 7, NOW).unwrap();
    let types = CountedTypes::parse(TYPES);
    let terms = ComparisonTerms {
        range: &range,
        types: &types,
        tolerance: Tolerance(100),
        since: Some(SINCE),
        left_out: 0,
        now: NOW,
    };
    compare(&terms, history, answers)
}

#[test]
fn a_day_is_compared_only_where_both_sides_can_know_it() {
    let email = |sends| Some(vec![("email", Some(sends))]);
    let answer = |number, sent: Option<Vec<_>>| said(number, sent.as_deref());
    let history = vec![own(
        HistoryKind::Campaign,
        "A",
        ["2026-11-22", "2026-11-24", "2026-11-26", "2026-11-27", "2026-11-28"]
            .map(|text| day(text, 10, 10, &[]))
            .to_vec(),
    )];
    // The 22nd began before the history; nothing is said of the 26th; on the 25th nothing was sent at all.
    let days = vec![
        answer(22, email(90)),
        answer(23, email(7)),
        answer(24, email(10)),
        answer(25, email(0)),
        answer(26, None),
        answer(27, email(10)),
        answer(28, email(3)),
    ];
    let all = compared(history, vec![campaign("a", days)]);
    let [object] = &all.objects[..] else { panic!("{all:?}") };
    let reasons: Vec<_> = object.days.iter().map(|day| (day.day.day(), day.not_compared)).collect();
    assert_eq!(
        reasons,
        [
            (22, Some(UncomparedReason::BeforeHistory)),
            (23, None),
            (24, None),
            (26, Some(UncomparedReason::NotSaid)),
            (27, None),
            (28, Some(UncomparedReason::DayNotOver)),
        ]
    );
    assert_eq!(
        (object.sums.sends.braze, object.sums.sends.accepted, object.sums.sends.difference),
        (27, 20, -7)
    );
    assert_eq!(object.sums.sends.difference_percent, Some(-25.92));
    assert!(!object.within_tolerance && !all.within_tolerance && all.is_incomplete());
    assert_eq!((&*object.name, object.days[3].braze), ("Name of A", None));
}

#[test]
fn a_day_that_has_just_ended_is_not_compared_yet() {
    let range = DayRange::new("UTC", None, 2, NOW).unwrap();
    let types = CountedTypes::parse(TYPES);
    let midnight = u64::try_from(range.begin(range.last)).unwrap();
    for (now, reason) in [(midnight + 3599, Some(UncomparedReason::DayNotOver)), (midnight + 3600, None)] {
        let terms = ComparisonTerms {
            range: &range,
            types: &types,
            tolerance: Tolerance(100),
            since: Some(0),
            left_out: 0,
            now,
        };
        assert_eq!(uncompared_reason(&terms, range.first, Some(1)), reason);
        let without = ComparisonTerms { since: None, ..terms };
        let expected = reason.or(Some(UncomparedReason::BeforeHistory));
        assert_eq!(uncompared_reason(&without, range.first, Some(1)), expected);
    }
}

#[test]
fn channels_that_are_not_counted_are_apart_and_one_without_a_number_makes_the_day_unknown() {
    let history = vec![own(HistoryKind::Campaign, "a", vec![day("2026-11-24", 5, 5, &[])])];
    let sent: &[_] = &[("email", Some(3)), ("ios_push", Some(2)), ("sms", Some(9)), ("in_app_message", None)];
    let all = compared(history.clone(), vec![campaign("a", vec![said(24, Some(sent))])]);
    assert_eq!((all.objects[0].sums.sends.braze, all.objects[0].sums.sends.difference), (5, 0));
    assert_eq!(all.objects[0].channels_apart, ["in_app_message", "sms"]);
    assert!(all.within_tolerance && !all.is_incomplete());
    let half: &[_] = &[("email", Some(3)), ("ios_push", None)];
    let all = compared(history, vec![campaign("a", vec![said(24, Some(half))])]);
    assert_eq!(all.objects[0].days[0].not_compared, Some(UncomparedReason::NotSaid));
    assert!(
        table(&all).contains("2026-11-24 is one that Braze's answer has no number of sends for; counted 5")
    );
}

#[test]
fn what_braze_gives_no_number_of_does_not_agree_where_nothing_was_counted_either() {
    for (days, reason) in [
        (vec![said(24, None)], "2026-11-24 is one that Braze's answer has no number of sends for; counted 0"),
        (
            vec![said(24, Some(&[("email", None)])), said(25, Some(&[("email", Some(0))]))],
            "2026-11-24 is one that Braze's answer has no number of sends for; counted 0",
        ),
        (vec![], "campaign Listed (a), 0 counted: Braze's answer has none of these days"),
        (vec![said(1, Some(&[]))], "campaign Listed (a), 0 counted: Braze's answer has none of these days"),
    ] {
        let all = compared(vec![], vec![campaign("a", days.clone())]);
        let text = table(&all);
        assert!(all.is_incomplete() && !all.is_any_compared(), "{days:?}: {all:?}");
        assert!(text.contains(reason) && !text.contains("Agree to the send: 1"), "{days:?}: {text}");
    }
    let canvas = |days| {
        let said = Ok(BrazeSeries::Canvas(CanvasSeries { name: "Welcome".into(), days }));
        compared(vec![], vec![BrazeAnswer { kind: HistoryKind::Canvas, said, ..campaign("c", vec![]) }])
    };
    for days in [vec![], vec![canvas_day(24, None)]] {
        let all = canvas(days);
        assert!(all.is_incomplete() && !all.is_any_compared(), "{all:?}");
    }
    // Nothing was sent, and a campaign of two days has two.
    let none: &[_] = &[("email", Some(0))];
    let young = campaign("a", vec![said(24, Some(none)), said(25, Some(&[]))]);
    for all in [compared(vec![], vec![young]), canvas(vec![canvas_day(24, Some(&[]))])] {
        assert!(!all.is_incomplete() && table(&all).contains("Agree to the send: 1 of 1"), "{all:?}");
    }
}

#[test]
fn connections_are_added_up_and_the_newest_name_wins() {
    let mut first = own(HistoryKind::Campaign, "a", vec![day("2026-11-24", 5, 4, &[("dns", 1)])]);
    first.last_send = 9;
    let mut second = own(HistoryKind::Campaign, "A", vec![day("2026-11-24", 7, 5, &[("dns", 2)])]);
    second.name = "Old".into();
    let all =
        compared(vec![first, second], vec![campaign("a", vec![said(24, Some(&[("email", Some(12))]))])]);
    let sums = &all.objects[0].sums;
    assert_eq!(
        (sums.sends.counted, sums.sends.accepted, sums.dropped["dns"], sums.sends.difference),
        (12, 9, 3, -3)
    );
    assert_eq!(all.objects[0].name, "Name of a");
}

fn canvas_day(number: i8, steps: Option<&[(&str, ChannelSends)]>) -> CanvasDay {
    let step = |(id, sent): &(&str, ChannelSends)| {
        ((*id).to_owned(), CanvasStep { name: format!("Step {id}"), sent: sent.clone() })
    };
    let steps = steps.map(|steps| steps.iter().map(step).collect());
    CanvasDay { day: date(2026, 11, number), steps }
}

#[test]
fn a_canvas_is_compared_as_a_whole_and_step_by_step() {
    let email = |sends| channels(&[("email", Some(sends))]);
    let mut history = vec![own(HistoryKind::Canvas, "c", vec![day("2026-11-24", 33, 33, &[])])];
    for (id, counted) in [("s1", 20), ("gone", 13)] {
        let mut step = own(HistoryKind::Step, id, vec![day("2026-11-24", counted, counted, &[])]);
        step.canvas_id = "C".into();
        history.push(step);
    }
    // Another Canvas's.
    history.push(own(HistoryKind::Step, "s2", vec![day("2026-11-24", 1, 1, &[])]));
    let days = vec![
        canvas_day(24, Some(&[("s1", email(21)), ("s3", email(4)), ("wait", ChannelSends::new())])),
        canvas_day(25, None),
    ];
    let series = CanvasSeries { name: "Welcome".into(), days };
    let said = Ok(BrazeSeries::Canvas(series));
    let answer = BrazeAnswer { kind: HistoryKind::Canvas, id: "c".into(), name: String::new(), said };
    let all = compared(history, vec![answer]);
    let told: Vec<_> = all
        .objects
        .iter()
        .map(|object| (&*object.id, object.sums.sends.braze, object.sums.sends.difference))
        .collect();
    assert_eq!(told, [("c", 25, 8), ("s3", 4, -4), ("s1", 21, -1)]);
    assert_eq!((&*all.objects[1].name, &*all.objects[1].canvas_name), ("Step s3", "Name of c"));
    assert_eq!((all.total.sends.braze, all.total.sends.accepted), (25, 33));
    let [gone] = &all.not_compared[..] else { panic!("{:?}", all.not_compared) };
    assert_eq!((&*gone.id, gone.counted), ("gone", 13));
    assert!(gone.reason.contains("no such step"), "{gone:?}");
}

#[test]
fn steps_without_an_id_are_told_apart_by_canvas_and_name() {
    let nameless = |canvas: &str, name: &str, sends| HistoryObject {
        canvas_id: canvas.to_owned(),
        name: name.to_owned(),
        ..own(HistoryKind::Step, "", vec![day("2026-11-24", sends, sends, &[])])
    };
    let history = vec![nameless("c1", "Mail", 3), nameless("c1", "Push", 5), nameless("C2", "Mail", 7)];
    let answer = |id: &str| {
        let series = CanvasSeries { name: "Welcome".into(), days: vec![canvas_day(24, Some(&[]))] };
        let said = Ok(BrazeSeries::Canvas(series));
        BrazeAnswer { kind: HistoryKind::Canvas, id: id.to_owned(), name: String::new(), said }
    };
    let all = compared(history, vec![answer("c1"), answer("c2")]);
    let mut told: Vec<_> = all.not_compared.iter().map(|one| (&*one.name, one.counted)).collect();
    told.sort_unstable();
    assert_eq!(told, [("Mail", 3), ("Mail", 7), ("Push", 5)]);
    assert!(all.not_compared.iter().all(|one| one.reason.contains("no id")), "{all:?}");
    assert!(table(&all).contains("\n  step Push without an id, 5 counted: "), "{}", table(&all));
}

#[test]
fn what_could_not_be_asked_about_is_listed_and_is_no_zero() {
    let days = || vec![day("2026-11-24", 1234, 1234, &[])];
    let history = vec![own(HistoryKind::Campaign, "a", days()), own(HistoryKind::Campaign, "", days())];
    let unsaid = |id| {
        let said = Err("Braze does not know it".to_owned());
        BrazeAnswer { said, ..campaign(id, Vec::new()) }
    };
    let all = compared(history, vec![unsaid("a"), unsaid("")]);
    assert!(all.objects.is_empty() && all.is_incomplete() && all.within_tolerance);
    let text = table(&all);
    for part in [
        "Not compared (this is not 0):\n  campaign without an id, 1,234 counted: Braze does not know it",
        "  campaign Name of a (a), 1,234 counted: Braze does not know it",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_table_has_the_largest_difference_first_and_names_do_no_harm() {
    let history = vec![
        own(HistoryKind::Campaign, "small", vec![day("2026-11-24", 99, 99, &[])]),
        own(HistoryKind::Campaign, "same", vec![day("2026-11-24", 7, 7, &[])]),
        own(HistoryKind::Campaign, "today", vec![day("2026-11-28", 7, 7, &[])]),
        own(
            HistoryKind::Campaign,
            "large\u{1b}[31m",
            vec![day("2026-11-24", 60_100, 58_889, &[("http_5xx\u{1b}]0;x\u{7}", 1_211)])],
        ),
    ];
    let sent = |id: &str, number, sends| campaign(id, vec![said(number, Some(&[("email", Some(sends))]))]);
    let answers = vec![
        sent("small", 24, 100),
        sent("same", 24, 7),
        sent("today", 28, 9),
        sent("large\u{1b}[31m", 24, 60_100),
    ];
    let text = table(&compared(history, answers));
    let expected = "\
Braze's dashboard and Datadog, 2026-11-22 to 2026-11-28, days of UTC. Beyond 1 %: !

difference      %   Braze  counted  accepted  dropped
    -1,211  -2.01  60,100   60,100    58,889    1,211  ! campaign Name of large\u{fffd}[31m (large\u{fffd}[31m)
      1,211 dropped here: http_5xx\u{fffd}]0;x\u{fffd} 1,211
      2026-11-24: -1,211 (Braze 60,100, counted 60,100, accepted 58,889)
        -1  -1.00     100       99        99        0    campaign Name of small (small)
      1 never received: did the connector stop, does it leave out an event type, does another forwarder count them, or were they dropped before they were counted by campaign (late, early, unrouted and connection_refused_configuration in the books)?
      2026-11-24: -1 (Braze 100, counted 99, accepted 99)
    -1,212  -2.01  60,207   60,206    58,995    1,211    all campaigns and Canvases together

Agree to the send: 1 of 4 campaigns, Canvases and steps.
Have sends only on days that are left out: 1 of 4 campaigns, Canvases and steps.

Days that are left out:
  2026-11-28 is not over, or not for an hour: events are still coming";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_difference_of_any_size_has_a_percentage_unless_braze_has_none() {
    let of = |braze: u64, accepted: u64| {
        let mut sums = ComparedSums::default();
        (sums.sends.braze, sums.sends.accepted) = (braze, accepted);
        with_difference(sums).sends.difference_percent
    };
    assert_eq!((of(1, 3_000_001), of(1, u64::MAX).is_some()), (Some(300_000_000.0), true));
    assert_eq!((of(4, 3), of(0, 3)), (Some(-25.0), None));
}
