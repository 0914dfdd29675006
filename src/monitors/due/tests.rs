use super::*;

const GRACE: u64 = 30 * 60;

fn due(text: &str) -> Due {
    Due::read(text, None, GRACE).unwrap_or_else(|error| panic!("{text} {error}"))
}

/// Rule, start, zone, window.
fn told(text: &str) -> [String; 4] {
    let due = due(text);
    let schedule = due.schedule();
    let recurrence = &schedule["custom_schedule"]["recurrences"][0];
    let part = |name: &str| recurrence[name].as_str().unwrap().to_owned();
    [part("rrule"), part("start"), part("timezone"), due.window.to_string()]
}

fn refused(text: &str) -> String {
    Due::read(text, None, GRACE).unwrap_err().to_string()
}

/// What people say, and rule, start, zone and window of what Datadog is told.
const SAID: &[[&str; 5]] = &[
    [
        "Mon 11:00 Europe/Paris",
        "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO",
        "2026-01-05T11:30:00",
        "Europe/Paris",
        "last_167h",
    ],
    ["monday 11:00 utc", "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO", "2026-01-05T11:30:00", "UTC", "last_1w"],
    [
        "Mon, Wed,Fri 09:30 europe/berlin",
        "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,WE,FR",
        "2026-01-02T10:00:00",
        "Europe/Berlin",
        "last_48h",
    ],
    [
        "Mon-Fri 09:00 Asia/Tokyo",
        "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,TU,WE,TH,FR",
        "2026-01-01T09:30:00",
        "Asia/Tokyo",
        "last_1d",
    ],
    [
        "weekdays 09:00 UTC",
        "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,TU,WE,TH,FR",
        "2026-01-01T09:30:00",
        "UTC",
        "last_1d",
    ],
    ["daily 08:00 UTC", "FREQ=DAILY;INTERVAL=1", "2026-01-01T08:30:00", "UTC", "last_1d"],
    // Once a year a day has 23 hours there.
    [
        "every day 08:00 America/New_York",
        "FREQ=DAILY;INTERVAL=1",
        "2026-01-01T08:30:00",
        "America/New_York",
        "last_23h",
    ],
    ["1st 08:00 UTC", "FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=1", "2026-01-01T08:30:00", "UTC", "last_1w"],
    [
        "1st,15th 08:00 UTC",
        "FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=1,15",
        "2026-01-01T08:30:00",
        "UTC",
        "last_1w",
    ],
    [
        "last day 08:00 UTC",
        "FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=28,29,30,31;BYSETPOS=-1",
        "2026-01-31T08:30:00",
        "UTC",
        "last_1w",
    ],
    ["first Mon 08:00 UTC", "FREQ=MONTHLY;INTERVAL=1;BYDAY=1MO", "2026-01-05T08:30:00", "UTC", "last_1w"],
    ["last fri 08:00 UTC", "FREQ=MONTHLY;INTERVAL=1;BYDAY=-1FR", "2026-01-30T08:30:00", "UTC", "last_1w"],
    [
        "FREQ=WEEKLY;BYDAY=MO,TH 08:00 UTC",
        "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,TH",
        "2026-01-01T08:30:00",
        "UTC",
        "last_72h",
    ],
    [
        "rrule:freq=weekly;interval=2;byday=mo 08:00 UTC from 2026-01-12",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO;WKST=MO",
        "2026-01-12T08:30:00",
        "UTC",
        "last_1w",
    ],
    // Looked at on the next day.
    ["Sun 23:45 UTC", "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO", "2026-01-05T00:15:00", "UTC", "last_1w"],
    ["last day 23:45 UTC", "FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=1", "2026-02-01T00:15:00", "UTC", "last_1w"],
];

#[test]
fn people_say_when_it_is_due_and_datadog_is_told_when_to_look() {
    for [text, rule, start, zone, window] in SAID {
        assert_eq!(told(text), [*rule, start, zone, window], "{text}");
    }
    assert_eq!(due("monday 09:00 utc").words, "monday 09:00 UTC");
}

#[test]
fn what_is_no_due_time_is_refused_with_what_to_write() {
    for (text, words) in [
        ("", "write DAYS TIME ZONE"),
        ("Mon", "write DAYS TIME ZONE"),
        ("Mon 11:00", "write DAYS TIME ZONE"),
        ("every Mon 11:00", "names no time zone"),
        ("11:00 Europe/Paris", "on which days"),
        ("Mon 11:00 Europe/Pari", "did you mean Europe/Paris?"),
        ("Mon 11:00 Paris", "did you mean Europe/Paris?"),
        ("Mon 11:00 CET", "no time zone with a place"),
        ("Mon 11:00 +01", "no time zone with a place"),
        ("Mon 11:00 Mars/Olympus", "no time zone"),
        ("Mon 24:00 UTC", "no clock shows"),
        ("Mon 11:60 UTC", "no clock shows"),
        ("Mon 11:00:30 UTC", "seconds are finer"),
        ("Mon 11am UTC", "from 00:00 to 23:59"),
        ("Mon 9:00 UTC", "from 00:00 to 23:59"),
        ("Mo-Fry 09:00 UTC", "\"mo-fry\", which is no day"),
        ("Mon,Tue,Mon 09:00 UTC", "twice"),
        ("Someday 09:00 UTC", "no day"),
        ("30 Feb 09:00 UTC", "no schedule"),
        ("32nd 09:00 UTC", "\"32nd\", which is no day of a month"),
        ("0th 09:00 UTC", "no day of a month"),
        ("15 09:00 UTC", "1st, 2nd"),
        ("sixth Mon 09:00 UTC", "no schedule"),
        ("hourly 09:00 UTC", "more than once a day"),
        ("FREQ=HOURLY 09:00 UTC", "more than once a day"),
        ("FREQ=YEARLY 09:00 UTC", "FREQ=MONTHLY with BYMONTH"),
        ("FREQ=MONTHLY;BYMONTHDAY=30;BYMONTH=2 09:00 UTC", "never comes"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO 09:00 UTC", "from 2026-01-05"),
        ("Mon 09:00 UTC from tomorrow", "no date"),
        ("Mon 09:00 UTC from 2026-02-30", "no date"),
        ("first Mon 23:45 UTC", "shorter --grace"),
        ("31st 23:45 UTC", "shorter --grace"),
        ("FREQ=MONTHLY;BYMONTHDAY=-31 23:45 UTC", "shorter --grace"),
        ("FREQ=MONTHLY;BYMONTHDAY=-29 23:45 UTC", "shorter --grace"),
    ] {
        let said = refused(text);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn a_window_that_would_show_the_sends_of_the_time_before_is_refused() {
    let since =
        |text: &str, window: &str| Due::read(text, Some(AlertWindow::of_threshold(window).unwrap()), GRACE);
    assert_eq!(since("Mon 11:00 UTC", "6h").unwrap().window.to_string(), "last_6h");
    let said = since("daily 11:00 Europe/Paris", "1d").unwrap_err().to_string();
    assert!(said.contains("after 23 hours") && said.contains("--since 23h is the longest"), "{said}");
    assert!(since("1st 11:00 UTC", "1mo").unwrap_err().to_string().contains("--since 1w"));
}

#[test]
fn a_month_is_taken_where_it_is_due_less_often() {
    let since = |text: &str| Due::read(text, Some(AlertWindow::of_threshold("1mo").unwrap()), GRACE);
    for text in [
        "FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=1 08:00 UTC from 2026-01-01",
        "FREQ=WEEKLY;INTERVAL=5;BYDAY=MO 08:00 UTC from 2026-01-05",
        // March to April, and July to August: of 31 days.
        "FREQ=MONTHLY;BYMONTHDAY=1;BYMONTH=3,4,7,8 08:00 UTC",
    ] {
        assert_eq!(since(text).map(|due| due.window.to_string()).as_deref(), Ok("last_1mo"), "{text}");
    }
    let said = since("FREQ=MONTHLY;BYMONTHDAY=1;BYMONTH=4,5 08:00 UTC").unwrap_err().to_string();
    assert!(said.contains("after 720 hours") && said.contains("--since 1w is the longest"), "{said}");
    // By itself it is a week.
    assert_eq!(told("FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=1 08:00 UTC from 2026-01-01")[3], "last_1w");
}

#[test]
fn clocks_and_months_that_surprise_are_pointed_out() {
    assert_eq!(due("Mon 11:00 Europe/Paris").notes, [""; 0]);
    assert!(due("31st 11:00 Europe/Paris").notes[0].contains("passes over the months"));
    assert_eq!(due("last day 11:00 Europe/Paris").notes, [""; 0]);
    for (day, is_missing) in [(-31, true), (-29, true), (-28, false), (29, true), (28, false)] {
        let notes = due(&format!("FREQ=MONTHLY;BYMONTHDAY={day} 11:00 UTC")).notes;
        assert_eq!(
            notes.iter().any(|note| note.contains("passes over the months")),
            is_missing,
            "{day}: {notes:?}"
        );
    }
    let forward = &due("daily 01:45 Europe/Berlin").notes;
    assert!(forward[0].contains("on 2026-03-29 at 02:15, which does not exist"), "{forward:?}");
    let back = &due("FREQ=DAILY;BYMONTH=10 01:45 Europe/Berlin").notes;
    assert!(back[0].contains("on 2026-10-25 at 02:15, which comes twice"), "{back:?}");
}

#[test]
fn a_change_of_the_clock_within_the_grace_is_pointed_out() {
    let notes = |text: &str| Due::read(text, None, 2 * 60 * 60).unwrap().notes;
    let forward = notes("daily 01:45 Europe/Berlin");
    assert!(
        forward[0].contains("put forward") && forward[0].contains("on 2026-03-29 at 03:45"),
        "{forward:?}"
    );
    assert!(forward[0].contains("60 minutes before it is due"), "{forward:?}");
    let back = notes("FREQ=DAILY;BYMONTH=10 01:45 Europe/Berlin");
    assert!(back[0].contains("put back") && back[0].contains("60 minutes after it is due"), "{back:?}");
    // Looked at on the day after.
    let later = notes("Sat 23:45 Atlantic/Azores");
    assert!(later[0].contains("on 2026-03-29 at 01:45"), "{later:?}");
    for text in ["daily 03:00 Europe/Berlin", "daily 01:45 UTC", "Mon 01:45 Europe/Berlin"] {
        assert_eq!(notes(text), [""; 0], "{text}");
    }
}
