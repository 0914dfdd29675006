use std::time::Duration;

use send_history::{FlushedSends, HistorySettings, ObjectFields};

use super::*;

/// Sunday, 2026-03-29 12:00 UTC.
const NOON: u64 = 1_774_785_600;
const DAY: u64 = 86_400;
const LONG: Duration = Duration::from_mins(1);

/// So many sends of campaigns, days ago, and what became of them.
type Sent<'s> = (&'s str, &'s str, u64, u64, Option<&'static str>);

/// A history with these sends.
fn kept(sends: &[Sent<'_>]) -> (tempfile::TempDir, SendHistory) {
    kept_for(0, sends)
}

/// The same, of which the first start was so many days ago.
fn kept_for(days: u64, sends: &[Sent<'_>]) -> (tempfile::TempDir, SendHistory) {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings::new(directory.path().to_owned());
    let history = SendHistory::start(&settings, move || NOON - days * DAY).unwrap();
    assert!(history.is_open_within(LONG) && history.stop(LONG));
    let history = SendHistory::start(&settings, || NOON).unwrap();
    for (id, name, days, count, dropped) in sends {
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        let fields = ObjectFields {
            id: id.as_bytes(),
            name: name.as_bytes(),
            ..ObjectFields::of(if id.starts_with('s') { ObjectKind::Step } else { ObjectKind::Campaign })
        };
        flushed.series([fields], [(u32::try_from(NOON - days * DAY).unwrap(), *count)]);
        let flushed = history.note(flushed).unwrap();
        history.land(&flushed, vec![0], *dropped, 0, 0);
    }
    assert!(history.stop(LONG));
    let history = SendHistory::start(&settings, || NOON).unwrap();
    assert!(history.is_open_within(LONG));
    (directory, history)
}

fn ask(history: &SendHistory, query: &str) -> Result<History, HistoryRefusal> {
    answer(Some(history), query, NOON)
}

#[test]
fn days_are_told_by_object_page_by_page() {
    let (_directory, history) = kept(&[
        ("1", "Weekly", 0, 5, None),
        ("2", "Other", 1, 7, Some("late")),
        ("s3", "Step", 6, 1, None),
        ("4", "Old", 7, 9, None),
    ]);
    let all = ask(&history, "").unwrap();
    assert_eq!((&*all.from, &*all.to, &*all.time_zone), ("2026-03-23", "2026-03-29", "UTC"));
    assert_eq!((all.since, all.next.as_deref()), (Some(NOON), None));
    let told: Vec<_> =
        all.objects.iter().map(|one| (&*one.id, one.kind, &*one.days[0].day, one.days[0].counted)).collect();
    let campaign = HistoryKind::Campaign;
    let expected = [
        ("1", campaign, "2026-03-29", 5),
        ("2", campaign, "2026-03-28", 7),
        ("s3", HistoryKind::Step, "2026-03-23", 1),
    ];
    assert_eq!(told, expected);
    assert_eq!((all.objects[0].days[0].accepted, all.objects[1].days[0].accepted), (5, 0));
    assert_eq!(all.objects[1].days[0].dropped, [("late".to_owned(), 7)].into());

    let first = ask(&history, "limit=2").unwrap();
    assert_eq!((first.objects.len(), first.next.as_deref()), (2, Some("1")));
    let second = ask(&history, "limit=2&after=1").unwrap();
    assert_eq!((&*second.objects[0].id, second.next), ("s3", None));
    let ids = |query| ask(&history, query).unwrap().objects.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids("kind=step"), ["s3"]);
    assert_eq!(ids("id=2&kind=campaign"), ["2"]);
    assert_eq!(ids("from=2026-03-22&to=2026-03-22"), ["4"]);
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_sentence() {
    let (_directory, history) = kept(&[]);
    for (query, words) in [
        ("from=29.3.2026", "`29.3.2026` is not a day; write it as 2026-03-29"),
        ("time_zone=Paris", "`Paris` is not a time zone; write its IANA name, like Europe/Paris or UTC"),
        ("from=2025-01-01&to=2026-03-01", "425 days are more than the 400 that can be asked for at once"),
        (
            "form=2026-03-01",
            "there are the parameters from, to, time_zone, kind, id, after and limit, and no others",
        ),
        ("limit=0", "`limit` is a number from 1 to 5000"),
        ("limit=5001", "`limit` is a number from 1 to 5000"),
        ("kind=email", "`kind` is campaign, canvas or step"),
        ("after=x", "`after` is not what an answer said as its `next`"),
    ] {
        assert_eq!(ask(&history, query), Err(HistoryRefusal::Wrong(words.into())), "{query}");
    }
    assert_eq!(answer(None, "", NOON), Err(HistoryRefusal::NotKept));
}

#[test]
fn of_what_was_before_the_history_a_search_says_nothing() {
    for (days, comparison, unknown) in [
        (0, "last 7 days 5", 27),
        (7, "last 7 days 5", 20),
        (8, "the same day a week before 0; last 7 days 5", 19),
        (13, "the same day a week before 0; last 7 days 5", 14),
        (14, "the same day a week before 0; last 7 days 5, the 7 before 0", 13),
        (90, "the same day a week before 0; last 7 days 5, the 7 before 0", 0),
    ] {
        let (_directory, history) = kept_for(days, &[("1", "Weekly", 0, 5, None)]);
        let found = search(Some(&history), "weekly", "UTC", NOON).unwrap();
        assert_eq!(found.objects[0].comparison, comparison, "{days}");
        let told = &found.objects[0].days;
        let is_known =
            |day: &ChartDay| (day.counted.is_some(), day.accepted.is_some(), day.dropped.is_some());
        let expected = |at| if at < unknown { (false, false, false) } else { (true, true, true) };
        let told: Vec<_> = told.iter().map(is_known).collect();
        assert_eq!(told, (0..28).map(expected).collect::<Vec<_>>(), "{days}");
    }
    // What was imported of a time before it began is told, and compared with nothing.
    let (_directory, history) = kept(&[("1", "Weekly", 0, 5, None), ("1", "Weekly", 7, 9, None)]);
    let found = search(Some(&history), "weekly", "UTC", NOON).unwrap();
    assert_eq!(found.objects[0].comparison, "last 7 days 5");
    assert_eq!(found.objects[0].days[20].counted, Some(9));
}

#[test]
fn a_search_says_when_how_many_and_whether_they_reached_datadog() {
    let (_directory, history) = kept_for(
        90,
        &[
            ("1", "Weekly newsletter", 1, 1_100, None),
            ("1", "Weekly newsletter", 8, 1_000, None),
            ("2", "Weekly digest", 2, 4, Some("http_403")),
            ("3", "Weekly, long ago", 60, 7, None),
        ],
    );
    let found = search(Some(&history), "weekly", "Europe/Paris", NOON).unwrap();
    let told: Vec<_> =
        found.objects.iter().map(|one| (&*one.id, one.state, &*one.words, &*one.comparison)).collect();
    let expected = [
        (
            "1",
            FlowState::Flowing,
            "last sent Sat 28 Mar 2026, 13:00 CET: 1,100 sends that day, all accepted by Datadog",
            "the same day a week before 1,000 (+10 %); last 7 days 1,100, the 7 before 1,000 (+10 %)",
        ),
        (
            "2",
            FlowState::Trouble,
            "last sent Fri 27 Mar 2026, 13:00 CET: 4 sends that day, 0 accepted by Datadog, 4 dropped (http_403 4)",
            "the same day a week before 0; last 7 days 4, the 7 before 0",
        ),
        (
            "3",
            FlowState::Flowing,
            "last sent Wed 28 Jan 2026, 13:00 CET: 7 sends that day, all accepted by Datadog",
            "last 7 days 0, the 7 before 0",
        ),
    ];
    assert_eq!(told, expected);
    let days = &found.objects[0].days;
    assert_eq!((days.len(), &*days[0].day, &*days[27].day), (28, "2026-03-02", "2026-03-29"));
    assert_eq!([26, 19, 27].map(|at| days[at].counted), [Some(1_100), Some(1_000), Some(0)]);
    assert_eq!(search(Some(&history), "weekly newsletter", "UTC", NOON).unwrap().objects_total, 1);
    assert_eq!(search(Some(&history), "nothing", "UTC", NOON).unwrap(), PastMatches::default());
    for history in [Some(&history), None] {
        assert!(search(history, "weekly", "Mars/Olympus", NOON).unwrap_err().contains("is not a time zone"));
    }
}

#[test]
fn a_send_that_is_ahead_of_the_clock_is_told_of_its_own_day() {
    let (_directory, history) = kept(&[("1", "Weekly", 1, 15, None), ("1", "Weekly", 0, 2, None)]);
    // Noon is the midnight of a zone that is twelve hours ahead.
    for (now, last, comparison) in [
        (NOON - 300, ("2026-03-29", Some(15)), "last 7 days 15"),
        (NOON, ("2026-03-30", Some(2)), "last 7 days 17"),
    ] {
        let found = search(Some(&history), "weekly", "Etc/GMT-12", now).unwrap().objects.remove(0);
        let words = "last sent Mon 30 Mar 2026, 00:00 +12: 2 sends that day, all accepted by Datadog";
        assert_eq!((&*found.words, &*found.comparison), (words, comparison));
        assert_eq!((&*found.days[27].day, found.days[27].counted), last);
    }
}

#[test]
fn what_a_dry_run_printed_is_said_to_be_printed() {
    let (_directory, history) = kept(&[
        ("1", "Dry", 0, 5, Some(send_history::PRINTED)),
        ("2", "Mixed", 0, 3, Some(send_history::PRINTED)),
        ("2", "Mixed", 0, 4, None),
        ("3", "Worse", 0, 1, Some(send_history::PRINTED)),
        ("3", "Worse", 0, 2, Some("timeout")),
    ]);
    let words = |word| {
        let found = search(Some(&history), word, "UTC", NOON).unwrap().objects.remove(0);
        (found.state, found.words.split_once(" that day, ").unwrap().1.to_owned())
    };
    assert_eq!(words("dry"), (FlowState::Quiet, "all printed, not sent (dry run)".to_owned()));
    let mixed = "4 accepted by Datadog, 3 printed, not sent (dry run)";
    assert_eq!(words("mixed"), (FlowState::Quiet, mixed.to_owned()));
    let worse = "0 accepted by Datadog, 1 printed, not sent (dry run), 2 dropped (timeout 2)";
    assert_eq!(words("worse"), (FlowState::Trouble, worse.to_owned()));
    let day = &ask(&history, "id=2").unwrap().objects[0].days[0];
    assert_eq!((day.counted, day.accepted, day.printed, day.dropped.len()), (7, 4, 3, 0));
}

/// So little room that no day stays.
#[test]
fn of_a_campaign_whose_days_have_left_it_is_said_that_nothing_is_known_any_more() {
    for dropped in [Some("http_403"), None] {
        let directory = tempfile::tempdir().unwrap();
        let whole = HistorySettings::new(directory.path().to_owned());
        let history = SendHistory::start(&whole, || NOON - 90 * DAY).unwrap();
        assert!(history.is_open_within(LONG));
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        let fields =
            ObjectFields { id: b"1", name: b"Old newsletter", ..ObjectFields::of(ObjectKind::Campaign) };
        flushed.series([fields], [(u32::try_from(NOON - 60 * DAY).unwrap(), 7)]);
        let flushed = history.note(flushed).unwrap();
        history.land(&flushed, vec![0], dropped, 0, 0);
        assert!(history.stop(LONG));

        let little = HistorySettings { size_max: 16 << 10, ..whole };
        let history = SendHistory::start(&little, || NOON - 59 * DAY).unwrap();
        assert!(history.is_open_within(LONG) && history.stop(LONG));
        let history = SendHistory::start(&little, || NOON - 59 * DAY).unwrap();
        assert!(history.is_open_within(LONG));
        let found = search(Some(&history), "newsletter", "Europe/Paris", NOON).unwrap().objects.remove(0);
        let words = "last sent Wed 28 Jan 2026, 13:00 CET; what became of it is not known any more (the history begins \
                     Thu 29 Jan 2026, 01:00 CET)";
        assert_eq!((found.state, &*found.words), (FlowState::Quiet, words));
        assert_eq!(fate(&FateCounts::default()).0, FlowState::Quiet);
    }
}

/// The days of more campaigns than one answer tells come with the next ones, each once.
#[test]
fn an_answer_has_so_many_days_of_campaigns_at_most_and_says_where_the_next_one_begins() {
    const CAMPAIGNS: usize = 300;
    let days: Vec<u64> = (0..400).collect();
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings::new(directory.path().to_owned());
    let history = SendHistory::start(&settings, || NOON).unwrap();
    assert!(history.is_open_within(LONG));
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    for number in 0..CAMPAIGNS {
        let id = number.to_string();
        let fields = ObjectFields { id: id.as_bytes(), ..ObjectFields::of(ObjectKind::Campaign) };
        flushed.series([fields], days.iter().map(|day| (u32::try_from(NOON - day * DAY).unwrap(), 1)));
    }
    let dropped = (CAMPAIGNS / 2..CAMPAIGNS).map(|number| u32::try_from(number).unwrap()).collect();
    let flushed = history.note(flushed).unwrap();
    history.land(&flushed, dropped, Some("timeout"), 0, 0);
    assert!(history.stop(LONG));
    let history = SendHistory::start(&settings, || NOON).unwrap();
    assert!(history.is_open_within(LONG));

    let (mut pages, mut ids, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = ask(&history, &format!("from=2025-02-23&to=2026-03-29&limit=5000{after}")).unwrap();
        let days: usize =
            page.objects.iter().flat_map(|object| &object.days).map(|day| 1 + day.dropped.len()).sum();
        assert!(days <= OBJECT_DAYS_MAX, "{days}");
        pages.push(page.objects.len());
        ids.extend(page.objects.into_iter().map(|object| object.id));
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(ids, (0..CAMPAIGNS).map(|number| number.to_string()).collect::<Vec<_>>());
    // Of drops the reason counts, too.
    assert_eq!(pages, [125, 75, 62, 38]);
}
