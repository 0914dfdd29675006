use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn due(rule: &str, start: Date, number: usize) -> Vec<String> {
    let rule = Recurrence::parse(rule).unwrap();
    rule.days(start).take(number).map(|day| day.to_string()).collect()
}

fn refused(rule: &str) -> String {
    Recurrence::parse(rule).unwrap_err().to_string()
}

#[test]
fn days_are_those_that_the_rule_names() {
    let start = date(2026, 1, 1);
    assert_eq!(due("FREQ=DAILY", start, 2), ["2026-01-01", "2026-01-02"]);
    assert_eq!(due("FREQ=DAILY;INTERVAL=10", start, 3), ["2026-01-01", "2026-01-11", "2026-01-21"]);
    assert_eq!(due("FREQ=WEEKLY;BYDAY=MO,WE", start, 3), ["2026-01-05", "2026-01-07", "2026-01-12"]);
    assert_eq!(due("FREQ=MONTHLY;BYMONTHDAY=31", start, 3), ["2026-01-31", "2026-03-31", "2026-05-31"]);
    assert_eq!(due("FREQ=MONTHLY;BYDAY=1MO", start, 3), ["2026-01-05", "2026-02-02", "2026-03-02"]);
    assert_eq!(due("FREQ=MONTHLY;BYDAY=-1FR", start, 2), ["2026-01-30", "2026-02-27"]);
    assert_eq!(due("FREQ=MONTHLY;BYMONTHDAY=-1", start, 2), ["2026-01-31", "2026-02-28"]);
    // Those of Datadog's guide.
    let last = "FREQ=MONTHLY;BYMONTHDAY=28,29,30,31;BYSETPOS=-1";
    assert_eq!(due(last, start, 3), ["2026-01-31", "2026-02-28", "2026-03-31"]);
    assert_eq!(
        due("FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU", start, 4),
        ["2026-01-04", "2026-01-25", "2026-03-01", "2026-03-29"]
    );
    // That of RFC 5545: the last working day of the month.
    assert_eq!(due("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", start, 2), ["2026-01-30", "2026-02-27"]);
    // And the one that shows what WKST is for.
    let weeks = |start_of_week: &str| {
        due(&format!("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST={start_of_week}"), date(1997, 8, 5), 4)
    };
    assert_eq!(weeks("MO"), ["1997-08-05", "1997-08-10", "1997-08-19", "1997-08-24"]);
    assert_eq!(weeks("SU"), ["1997-08-05", "1997-08-17", "1997-08-19", "1997-08-31"]);
    assert_eq!(due("FREQ=MONTHLY;BYMONTHDAY=30;BYMONTH=2", start, 1), [""; 0]);
}

#[test]
fn what_datadog_does_not_take_is_refused_with_what_to_write() {
    for (rule, words) in [
        ("FREQ=HOURLY", "more than once a day"),
        ("FREQ=MINUTELY;INTERVAL=5", "more than once a day"),
        ("FREQ=YEARLY;BYMONTH=2", "FREQ=MONTHLY with BYMONTH"),
        ("FREQ=FORTNIGHTLY", "DAILY, WEEKLY or MONTHLY"),
        ("BYDAY=MO", "has no FREQ"),
        ("FREQ=WEEKLY", "BYDAY=MO"),
        ("FREQ=MONTHLY", "BYMONTHDAY=1"),
        ("FREQ=WEEKLY;BYDAY=MO;DTSTART=20260101", "from 2026-01-05"),
        ("FREQ=DAILY;DURATION=PT1H", "DURATION, which Datadog does not take"),
        ("FREQ=DAILY;BYHOUR=9", "behind the rule"),
        ("FREQ=DAILY;COUNT=3", "silent for good"),
        ("FREQ=DAILY;UNTIL=20270101", "silent for good"),
        ("FREQ=DAILY;BYWEEKNO=3", "are taken"),
        ("FREQ=DAILY;FREQ=WEEKLY", "twice"),
        ("FREQ=DAILY;;", "KEY=VALUE"),
        ("FREQ=DAILY;INTERVAL=0", "from 1 to 366"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "from 1 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "from 1 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=--1", "from 1 to 31"),
        ("FREQ=MONTHLY;BYMONTH=13;BYMONTHDAY=1", "from 1 to 12"),
        ("FREQ=MONTHLY;BYDAY=6MO", "from 1 to 5"),
        ("FREQ=WEEKLY;BYDAY=1MO", "goes with FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYDAY=MON", "no weekday"),
        ("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=1", "goes with FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYDAY=MO;BYMONTHDAY=1", "goes with FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYDAY=MO;WKST=XX", "no weekday"),
    ] {
        assert!(refused(rule).contains(words), "{rule}: {}", refused(rule));
    }
}

#[test]
fn what_no_rule_says_a_day_later_is_not_made_up() {
    let later = |rule: &str| Recurrence::parse(rule).unwrap().a_day_later().map(|rule| rule.to_string());
    assert_eq!(later("FREQ=DAILY").as_deref(), Some("FREQ=DAILY;INTERVAL=1"));
    assert_eq!(later("FREQ=WEEKLY;BYDAY=SU").as_deref(), Some("FREQ=WEEKLY;INTERVAL=1;BYDAY=MO"));
    assert_eq!(later("FREQ=MONTHLY;BYMONTHDAY=27").as_deref(), Some("FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=28"));
    assert_eq!(
        later("FREQ=MONTHLY;BYMONTHDAY=-28").as_deref(),
        Some("FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=-27")
    );
    assert_eq!(
        later("FREQ=MONTHLY;BYMONTHDAY=28,29,30,31;BYSETPOS=-1").as_deref(),
        Some("FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=1")
    );
    for rule in [
        "FREQ=MONTHLY;BYMONTHDAY=28",
        "FREQ=MONTHLY;BYMONTHDAY=-1",
        // Some months have a 28th to last day and no 29th to last.
        "FREQ=MONTHLY;BYMONTHDAY=-29",
        "FREQ=MONTHLY;BYMONTHDAY=-5,-31",
        "FREQ=MONTHLY;BYDAY=1MO",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU",
        "FREQ=DAILY;BYMONTH=1",
        "FREQ=DAILY;BYMONTHDAY=1",
    ] {
        assert_eq!(later(rule), None, "{rule}");
    }
}

fn rules() -> impl Strategy<Value = String> {
    let weekday = proptest::sample::subsequence(vec!["MO", "TU", "WE", "TH", "FR", "SA", "SU"], 1..=7);
    let days: Vec<i8> = (-31..=31).filter(|day| *day != 0).collect();
    let day = proptest::sample::subsequence(days, 1..=4);
    let names = |days: Vec<i8>| days.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    prop_oneof![
        (1..5).prop_map(|interval| format!("FREQ=DAILY;INTERVAL={interval}")),
        (1..5, weekday)
            .prop_map(|(interval, days)| format!("FREQ=WEEKLY;INTERVAL={interval};BYDAY={}", days.join(","))),
        (1..5, day).prop_map(move |(interval, days)| format!(
            "FREQ=MONTHLY;INTERVAL={interval};BYMONTHDAY={}",
            names(days)
        )),
        (1..=5, any::<bool>())
            .prop_map(|(nth, end)| format!("FREQ=MONTHLY;BYDAY={}{nth}FR", if end { "-" } else { "" })),
    ]
}

proptest! {
    /// A rule is read back as it is written, and a day later is a day later each time.
    #[test]
    fn rules_survive_writing_and_shifting(text in rules()) {
        let rule = Recurrence::parse(&text).unwrap();
        prop_assert_eq!(Recurrence::parse(&rule.to_string()).unwrap(), rule.clone());
        let start = rule.days(date(2026, 1, 1)).next().unwrap();
        if let Some(later) = rule.a_day_later() {
            let shifted: Vec<Date> = rule.days(start).map(|day| day.tomorrow().unwrap()).take(40).collect();
            let written: Vec<Date> = later.days(start.tomorrow().unwrap()).take(40).collect();
            prop_assert_eq!(shifted, written, "{} as {}", text, later);
        }
    }
}
