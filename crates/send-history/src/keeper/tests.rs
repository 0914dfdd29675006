use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;

use super::*;
use crate::changes::Landing;
use crate::history::WAITING_MAX;
use crate::{DaySends, FateCounts, FlushedSends, ObjectFields, ObjectKind, SendHistory, TimeRange};

/// 2026-03-29 00:00:00 UTC.
const MIDNIGHT: u64 = 1_774_742_400;
const LONG: Duration = Duration::from_mins(3);
const SOON: Duration = Duration::from_millis(10);

fn settings(directory: &Path) -> HistorySettings {
    HistorySettings::new(directory.to_owned())
}

fn start(settings: &HistorySettings, now: u64) -> SendHistory {
    SendHistory::start_with(settings, move || now, SOON).unwrap()
}

fn open(settings: &HistorySettings, now: u64) -> SendHistory {
    let history = start(settings, now);
    assert!(history.is_open_within(LONG), "{:?}", history.state());
    history
}

fn campaign<'f>(id: &'f str, name: &'f str) -> ObjectFields<'f> {
    ObjectFields { id: id.as_bytes(), name: name.as_bytes(), ..ObjectFields::of(ObjectKind::Campaign) }
}

/// A flush of one send of each of these campaigns.
fn send(history: &SendHistory, campaigns: &[(&str, &str)], time: u64) -> Option<Arc<FlushedSends>> {
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    for (id, name) in campaigns {
        flushed.series([campaign(id, name)], [(u32::try_from(time).unwrap(), 1)]);
    }
    history.note(flushed)
}

/// The name, the last send and the sums of all that is known.
fn known(history: &SendHistory, range: &TimeRange) -> Vec<(String, u64, FateCounts)> {
    let objects = history.find(|_| true);
    let numbers: Vec<u32> = objects.iter().map(|(number, _)| *number).collect();
    let days = history.days(&numbers, range).unwrap();
    let sum = |days: Vec<DaySends>| {
        let mut sum = FateCounts::default();
        for day in days {
            sum.add(&day.sends);
        }
        sum
    };
    objects.into_iter().zip(days).map(|((_, one), days)| (one.name, one.last_send, sum(days))).collect()
}

fn march() -> TimeRange {
    TimeRange::new("2026-03-01", "2026-03-31", "Europe/Paris").unwrap()
}

fn eventually(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG);
        thread::sleep(SOON);
    }
}

#[test]
fn a_last_send_of_a_clock_that_was_ahead_gives_way_to_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let last_send = |now: u64| {
        let history = open(&settings, now);
        send(&history, &[("1", "Weekly")], now).unwrap();
        assert!(history.stop(LONG));
        history.find(|_| true)[0].1.last_send - MIDNIGHT
    };
    let ahead = 300 * u64::from(DAY);
    assert_eq!((last_send(MIDNIGHT), last_send(MIDNIGHT + ahead)), (0, ahead));
    assert_eq!(last_send(MIDNIGHT + 60), 60);
}

#[test]
fn what_was_sent_is_known_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let history = open(&settings, MIDNIGHT);
    let flushed = send(&history, &[("1", "Weekly"), ("2", "Other")], MIDNIGHT - 5).unwrap();
    history.land(&flushed, vec![0], None, 0, 0);
    history.land(&flushed, vec![1], Some("http_403"), 0, 0);
    assert!(history.stop(LONG));
    assert!(send(&history, &[("1", "Weekly")], MIDNIGHT).is_none());
    assert_eq!(history.state().left_out, 1);

    let history = open(&settings, MIDNIGHT + 900);
    assert_eq!((history.state().since, history.state().objects), (Some(MIDNIGHT), 2));
    send(&history, &[("1", "Monthly")], MIDNIGHT + 800).unwrap();
    assert!(history.stop(LONG));
    let history = open(&settings, MIDNIGHT + 900);
    let fate = |counted, accepted, dropped: &[(&str, u64)]| FateCounts {
        counted,
        accepted,
        printed: 0,
        dropped: dropped.iter().map(|(reason, sends)| ((*reason).to_owned(), *sends)).collect(),
    };
    let expected = [
        ("Monthly".to_owned(), MIDNIGHT + 800, fate(2, 1, &[])),
        ("Other".to_owned(), MIDNIGHT - 5, fate(1, 0, &[("http_403", 1)])),
    ];
    assert_eq!(known(&history, &march()), expected);
}

#[test]
fn days_are_those_of_the_time_zone_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let history = open(&settings(directory.path()), MIDNIGHT);
    // Two hours before midnight UTC it is tomorrow in Tokyo; in the hour that Paris leaps over nothing is lost.
    for time in [MIDNIGHT - 7_200, MIDNIGHT + 3_599, MIDNIGHT + 3_600] {
        send(&history, &[("1", "Weekly")], time).unwrap();
    }
    eventually(|| known(&history, &march()).first().is_some_and(|one| one.2.counted == 3));
    for (zone, expected) in [
        ("UTC", vec![("2026-03-28", 1), ("2026-03-29", 2)]),
        ("Asia/Tokyo", vec![("2026-03-29", 3)]),
        ("Europe/Paris", vec![("2026-03-28", 1), ("2026-03-29", 2)]),
        ("America/New_York", vec![("2026-03-28", 3)]),
    ] {
        let range = TimeRange::new("2026-03-27", "2026-03-30", zone).unwrap();
        let days = history.days(&[0], &range).unwrap().remove(0);
        let told: Vec<_> = days.iter().map(|day| (day.day.as_str(), day.sends.counted)).collect();
        assert_eq!(told, expected, "{zone}");
    }
}

#[test]
fn a_second_one_in_the_same_directory_goes_on_without_and_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let first = open(&settings, MIDNIGHT);
    let second = start(&settings, MIDNIGHT);
    assert!(!second.is_open_within(LONG));
    let trouble = second.state().trouble.unwrap();
    assert!(trouble.contains("another process keeps its history there"), "{trouble}");
    eventually(|| send(&second, &[("1", "Weekly")], MIDNIGHT).is_none());
    assert!(second.state().left_out > 0);
    assert!(second.days(&[0], &march()).is_err());
    assert!(send(&first, &[("1", "Weekly")], MIDNIGHT).is_some());
    assert!(second.stop(LONG) && first.stop(LONG));
    let third = open(&settings, MIDNIGHT);
    assert_eq!(third.find(|_| true).len(), 1);
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("sends-v2.redb"), "of the future").unwrap();
    let history = start(&settings(directory.path()), MIDNIGHT);
    assert!(!history.is_open_within(LONG));
    let trouble = history.state().trouble.unwrap();
    assert!(
        trouble
            .contains("sends-v2.redb was written by a newer version, in format 2; this one reads format 1"),
        "{trouble}"
    );
    assert!(history.stop(LONG));
    assert!(!store::path(directory.path()).exists());
    assert_eq!(std::fs::read(directory.path().join("sends-v2.redb")).unwrap(), b"of the future");
}

#[test]
fn a_directory_that_can_not_be_made_is_told_and_nothing_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let history = start(&settings(&file.join("history")), MIDNIGHT);
    assert!(!history.is_open_within(LONG));
    assert!(history.state().trouble.unwrap().contains("can't be kept in"));
}

/// Any bit of the file may be another one: what was sent is still told as it was, or the file is set aside and a new one
/// begun, in which there is nothing wrong.
#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let history = open(&settings, MIDNIGHT);
    let names: Vec<(String, String)> =
        (0..300).map(|n| (format!("id-{n}"), format!("Campaign {n}"))).collect();
    let campaigns: Vec<(&str, &str)> = names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
    for time in [MIDNIGHT, MIDNIGHT + 1_000] {
        send(&history, &campaigns, time).unwrap();
    }
    assert!(history.stop(LONG));
    let path = store::path(directory.path());
    let whole = std::fs::read(&path).unwrap();
    let expected = {
        let history = open(&settings, MIDNIGHT);
        let expected = known(&history, &march());
        assert!(history.stop(LONG));
        expected
    };
    let (mut noticed, mut position) = (0, 0_usize);
    // A step without a common divisor with a page.
    while position < whole.len() {
        let mut file = whole.clone();
        file[position] ^= 1 << (position % 8);
        std::fs::write(&path, &file).unwrap();
        let history = open(&settings, MIDNIGHT);
        let told = known(&history, &march());
        if told.is_empty() {
            noticed += 1;
            assert_eq!(std::fs::read(store::damaged_path(directory.path())).unwrap().len(), whole.len());
            send(&history, &[("1", "Weekly")], MIDNIGHT).unwrap();
            eventually(|| known(&history, &march()).len() == 1);
        } else {
            assert_eq!(told, expected, "byte {position}");
        }
        assert!(history.stop(LONG));
        position += whole.len() / 150 + 1;
    }
    assert!(noticed > 10, "{noticed} of 150 flipped bits were noticed");
}

#[test]
fn a_file_that_is_no_history_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    for content in [b"no history at all".to_vec(), vec![0; 70_000], vec![0xff; 5_000]] {
        std::fs::write(store::path(directory.path()), &content).unwrap();
        let history = open(&settings(directory.path()), MIDNIGHT);
        assert_eq!(std::fs::read(store::damaged_path(directory.path())).unwrap(), content);
        assert!(history.stop(LONG));
    }
}

#[test]
fn damage_while_it_runs_is_noticed_by_readers_and_a_new_file_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let history = open(&settings, MIDNIGHT);
    let names: Vec<String> = (0..3_000).map(|n| format!("id-{n}-{}", "x".repeat(60))).collect();
    let campaigns: Vec<(&str, &str)> = names.iter().map(|id| (id.as_str(), "")).collect();
    for day in 0..10 {
        send(&history, &campaigns, MIDNIGHT + 86_400 * day).unwrap();
    }
    assert!(history.stop(LONG));
    let history = open(&settings, MIDNIGHT);
    let file = OpenOptions::new().write(true).open(store::path(directory.path())).unwrap();
    let length = file.metadata().unwrap().len();
    for page in 3..length / 4096 {
        file.write_all_at(&[0xa5; 64], page * 4096 + 2_000).unwrap();
    }
    let range = TimeRange::new("2026-03-28", "2026-04-09", "UTC").unwrap();
    let numbers: Vec<u32> = history.find(|_| true).into_iter().map(|(number, _)| number).collect();
    assert!(history.days(&numbers, &range).is_err());
    eventually(|| history.state().objects == 0 && store::damaged_path(directory.path()).exists());
    send(&history, &[("1", "Weekly")], MIDNIGHT).unwrap();
    eventually(|| known(&history, &march()).len() == 1);
}

#[test]
fn when_it_is_full_the_oldest_days_leave_first_and_the_file_stays_within_its_bound() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let first = MIDNIGHT / 86_400;
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    keeper.open(MIDNIGHT);
    let names: Vec<String> = (0..500).map(|n| format!("id-{n}")).collect();
    for day in first..first + 200 {
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        for name in &names {
            let points = (0..4).map(|quarter| (u32::try_from(day * 86_400 + quarter * 900).unwrap(), 1_000));
            flushed.series([campaign(name, name)], points);
        }
        keeper.digest(&[Job::Counted(Arc::new(flushed))]);
        keeper.trimmed = None;
        keeper.write(day * 86_400);
        let size = std::fs::metadata(store::path(directory.path())).unwrap().len();
        assert!(size <= settings.size_max, "{size} on day {day}");
    }
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    let (since, last) = (history.state().since.unwrap() / 86_400, first + 199);
    assert!(since > first + 50 && since < last - 20, "{since}");
    let range = TimeRange::last_days(210, last * 86_400, "UTC").unwrap();
    let days = history.days(&[0, 499], &range).unwrap();
    assert_eq!((days[0].len() as u64, days[1].len() as u64), (last - since + 1, last - since + 1));
}

/// One flush a day of 600 campaigns, of which the names of 1,500 fit, and of one that is sent every day.
#[test]
fn when_there_are_too_many_campaigns_the_oldest_days_leave_whole() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings);
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    for day in 0..4 {
        let now = MIDNIGHT + day * 86_400 + 3_600;
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        let mut names: Vec<String> = (0..600).map(|n| format!("campaign {n:05} of day {day}")).collect();
        names.push("every day".to_owned());
        for name in &names {
            flushed.series([campaign(name, name)], [(u32::try_from(now).unwrap(), 1)]);
        }
        keeper.heed_clock(now);
        keeper.digest(&[Job::Counted(Arc::new(flushed))]);
        keeper.trimmed = None;
        keeper.write(now);
    }
    assert_eq!(history.state().since, Some(MIDNIGHT + 2 * 86_400));
    let range = TimeRange::new("2026-03-29", "2026-04-02", "UTC").unwrap();
    let known = known(&history, &range);
    assert_eq!(known.len(), 1_201);
    for (name, _, sends) in known {
        assert_eq!(sends.counted, if name == "every day" { 2 } else { 1 }, "{name}");
    }
}

/// Since its bound was lowered.
#[test]
fn when_not_even_the_campaigns_of_a_day_fit_it_begins_anew_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let now = MIDNIGHT + 36_000;
    let mut keeper = crowded(directory.path(), now);
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.write(now);
    assert_eq!((history.state().objects, history.state().since), (0, Some(now)));
    keeper.digest(&[counted(now + 5)]);
    keeper.write(now + 5);
    assert_eq!((history.state().objects, history.state().since), (1, Some(now)));
    assert_eq!(known(&history, &march())[0].2.counted, 1);
}

#[test]
fn what_is_older_than_it_may_be_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { days_max: 3, ..settings(directory.path()) };
    let history = open(&settings, MIDNIGHT);
    send(&history, &[("1", "Old"), ("2", "Both")], MIDNIGHT + 5).unwrap();
    send(&history, &[("2", "Both")], MIDNIGHT + 86_400).unwrap();
    assert!(history.stop(LONG));
    // It stands still at times, for less than two days.
    for day in [1, 2] {
        let history = open(&settings, MIDNIGHT + day * 86_400);
        assert_eq!(history.state().objects, 2);
        assert!(history.stop(LONG));
    }
    let history = open(&settings, MIDNIGHT + 3 * 86_400);
    eventually(|| history.state().objects == 1);
    let range = TimeRange::new("2026-03-28", "2026-04-02", "UTC").unwrap();
    assert_eq!(known(&history, &range)[0].2.counted, 1);
    assert_eq!(history.state().since, Some(MIDNIGHT + 86_400));
}

#[test]
fn a_clock_that_is_far_ahead_for_a_while_takes_nothing_away() {
    let ahead = MIDNIGHT + 5_000 * 86_400;
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.write(MIDNIGHT);
    keeper.trimmed = None;
    keeper.write(ahead);
    assert_eq!((history.state().objects, history.state().since), (1, Some(MIDNIGHT)));
    assert_eq!(known(&history, &march()).len(), 1);
    // And one that it began with is corrected.
    let directory = tempfile::tempdir().unwrap();
    for (now, since) in [(ahead, ahead), (MIDNIGHT + 1, MIDNIGHT + 1), (MIDNIGHT + 2, MIDNIGHT + 1)] {
        let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
        keeper.open(now);
        keeper.digest(&[counted(MIDNIGHT)]);
        keeper.write(now);
        assert_eq!(lock(&keeper.shared.state).since, Some(since));
    }
}

#[test]
fn since_is_put_right_as_soon_as_a_clock_that_was_ahead_is_and_something_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let ahead = MIDNIGHT + 730 * 86_400;
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    let since = |keeper: &Keeper| lock(&keeper.shared.state).since;
    keeper.open(ahead);
    for now in [ahead, MIDNIGHT] {
        keeper.write(now);
        assert_eq!(since(&keeper), Some(ahead));
    }
    keeper.digest(&[counted(MIDNIGHT + 5)]);
    for now in [MIDNIGHT + 5, MIDNIGHT + 10] {
        keeper.write(now);
        assert_eq!(since(&keeper), Some(MIDNIGHT + 5));
    }
    drop(keeper.close());
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    keeper.open(MIDNIGHT + 15);
    assert_eq!(since(&keeper), Some(MIDNIGHT + 5));
}

/// The clock of the machine is set to a backup's date for a moment, before or after something was sent.
#[test]
fn a_clock_that_is_behind_for_a_moment_makes_no_history_longer() {
    let noon = MIDNIGHT + 43_200;
    for sends_at in [None, Some(noon)] {
        for behind in [noon - 21_600, noon - 86_400, noon - 500 * 86_400] {
            let directory = tempfile::tempdir().unwrap();
            let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
            keeper.open(noon);
            keeper.digest(sends_at.map(counted).as_slice());
            for now in [noon, behind, noon + 1] {
                keeper.write(now);
                assert_eq!(lock(&keeper.shared.state).since, Some(noon));
            }
            drop(keeper.close());
            let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
            keeper.open(behind);
            keeper.write(behind);
            assert_eq!(lock(&keeper.shared.state).since, Some(noon));
        }
    }
}

/// Once a week, for a moment.
#[test]
fn what_is_older_than_it_may_be_is_forgotten_where_no_process_lives_for_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { days_max: 8, ..settings(directory.path()) };
    let known: Vec<_> = (0..5)
        .map(|week| {
            let now = MIDNIGHT + week * 7 * 86_400;
            let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
            keeper.open(now);
            keeper.digest(&[counted(now)]);
            keeper.write(now);
            let history = SendHistory { shared: Arc::clone(&keeper.shared) };
            let range = TimeRange::new("2026-03-29", "2026-04-30", "UTC").unwrap();
            let since = (history.state().since.unwrap() - MIDNIGHT) / 86_400;
            let days = history.days(&[0], &range).unwrap()[0].len();
            drop(keeper.close());
            (since, days)
        })
        .collect();
    // A week is believed at the next start.
    assert_eq!(known, [(0, 1), (0, 2), (0, 3), (7, 3), (14, 3)]);
}

/// Its file of an earlier version, or of a start that ended before the clock was set, says 1970.
#[test]
fn a_history_that_was_begun_before_the_clock_was_set_begins_with_the_start_at_which_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for (now, since) in
        [(100, 100), (200, 100), (MIDNIGHT, MIDNIGHT), (MIDNIGHT + 1, MIDNIGHT), (100, MIDNIGHT)]
    {
        let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
        keeper.open(now);
        assert_eq!(lock(&keeper.shared.state).since, Some(since));
        keeper.write(now);
        assert_eq!(lock(&keeper.shared.state).since, Some(since));
    }
}

/// It keeps only 30 days, or has sends in that time, or is started again in it.
#[test]
fn a_clock_that_is_ahead_for_a_while_takes_no_day_away() {
    for (days_max, days_ahead) in [(30, 45), (400, 730)] {
        let directory = tempfile::tempdir().unwrap();
        let settings = HistorySettings { days_max, ..settings(directory.path()) };
        let ahead = MIDNIGHT + days_ahead * 86_400;
        for times in [&[MIDNIGHT][..], &[ahead, ahead + 60], &[ahead + 120, ahead + 86_400, MIDNIGHT + 180]] {
            let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
            keeper.open(times[0]);
            for now in times {
                keeper.trimmed = None;
                keeper.digest(&[counted(*now)]);
                keeper.write(*now);
            }
            let history = SendHistory { shared: Arc::clone(&keeper.shared) };
            let first_day = known(&history, &march())[0].2.counted;
            assert_eq!((first_day, history.state().since), (1 + u64::from(times.len() == 3), Some(MIDNIGHT)));
            drop(keeper.close());
        }
    }
}

#[test]
fn a_clock_that_is_not_set_at_the_start_does_not_make_the_history_longer() {
    let directory = tempfile::tempdir().unwrap();
    for now in [MIDNIGHT, 0, 1_600_000_000, MIDNIGHT + 1] {
        let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
        keeper.open(now);
        keeper.digest(&[counted(MIDNIGHT)]);
        keeper.write(now);
        assert_eq!(lock(&keeper.shared.state).since, Some(MIDNIGHT), "{now}");
    }
}

#[test]
fn what_is_handed_over_too_fast_is_left_out_and_counted() {
    let shared = Arc::new(Shared::default());
    let history = SendHistory { shared: Arc::clone(&shared) };
    lock(&shared.inbox).size = WAITING_MAX - counted(MIDNIGHT).size();
    let flushed = send(&history, &[("1", "Weekly")], MIDNIGHT).unwrap();
    history.land(&flushed, vec![0], None, 0, 0);
    assert!(send(&history, &[("1", "Weekly"), ("2", "Other")], MIDNIGHT).is_none());
    assert_eq!(history.state().left_out, 3);
    assert_eq!(lock(&shared.inbox).jobs.len(), 1);
}

#[test]
fn a_flush_that_would_take_what_waits_beyond_its_bound_is_left_out() {
    let shared = Arc::new(Shared::default());
    let history = SendHistory { shared: Arc::clone(&shared) };
    lock(&shared.inbox).size = WAITING_MAX - 100;
    assert!(send(&history, &[("1", "Weekly")], MIDNIGHT).is_none());
    assert_eq!((history.state().left_out, lock(&shared.inbox).size), (1, WAITING_MAX - 100));
}

/// And its outcome, and what is small beside it.
#[test]
fn a_flush_that_alone_is_beyond_the_bound_of_what_waits_is_taken_where_little_waits() {
    let shared = Arc::new(Shared::default());
    let history = SendHistory { shared: Arc::clone(&shared) };
    let name = "x".repeat(WAITING_MAX + 1);
    assert!(send(&history, &[("1", "Weekly")], MIDNIGHT).is_some());
    let flushed = send(&history, &[("2", &name)], MIDNIGHT).unwrap();
    history.land(&flushed, vec![0], None, 0, 0);
    assert!(send(&history, &[("1", "Weekly")], MIDNIGHT).is_some());
    assert_eq!((history.state().left_out, lock(&shared.inbox).jobs.len()), (0, 4));
    assert!(send(&history, &[("2", &name)], MIDNIGHT).is_none());
    assert_eq!((history.state().left_out, lock(&shared.inbox).jobs.len()), (1, 4));
}

#[test]
fn what_waits_is_measured_with_its_texts() {
    let size_of = |name: &str| {
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("1", name)], [(u32::try_from(MIDNIGHT).unwrap(), 1)]);
        Job::Counted(Arc::new(flushed)).size()
    };
    assert!(size_of(&"x".repeat(100_000)) >= size_of("Weekly") + 90_000);
}

#[test]
fn a_panic_of_its_thread_is_told_as_trouble() {
    let directory = tempfile::tempdir().unwrap();
    let history =
        SendHistory::start_with(&settings(directory.path()), || panic!("on purpose"), SOON).unwrap();
    assert!(history.stop(LONG));
    let HistoryState { since, trouble, .. } = history.state();
    assert_eq!(trouble.unwrap(), "the thread of the history of sends ended in a panic");
    assert_eq!(since, None);
    assert!(history.days(&[], &march()).unwrap_err().to_string().contains("panic"));
}

/// A flush of one send of each of so many campaigns that there were not before.
fn newcomers(flush: usize, campaigns: usize, time: u64) -> Job {
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    for number in 0..campaigns {
        let name = format!("Campaign {number:05} of flush {flush:05}");
        flushed.series([campaign(&name, &name)], [(u32::try_from(time).unwrap(), 1)]);
    }
    Job::Counted(Arc::new(flushed))
}

/// Between the looks at the bounds that come with every minute, in one turn and in many.
#[test]
fn crowds_of_new_campaigns_stay_within_the_bounds_at_any_time() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    keeper.write(MIDNIGHT);
    for turn in 0..20 {
        let jobs: Vec<Job> = (0..5).map(|job| newcomers(5 * turn + job, 2_500, MIDNIGHT + 60)).collect();
        keeper.work(jobs, MIDNIGHT + 60);
        keeper.write(MIDNIGHT + 60);
        let size = std::fs::metadata(store::path(directory.path())).unwrap().len();
        assert!(size <= settings.size_max, "{size} in turn {turn}");
        let names = keeper.shared.directory().bytes();
        assert!(names <= settings.size_max / 8, "{names} in turn {turn}");
    }
    // None of them alone fits.
    assert!(history.state().left_out > 0);
}

#[test]
fn new_campaigns_beyond_a_bound_are_left_out_and_counted_and_known_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    let crowd = newcomers(0, 5_000, MIDNIGHT);
    keeper.digest(&[crowd, counted(MIDNIGHT)]);
    let objects = keeper.shared.directory().len() as u64;
    assert!(keeper.shared.directory().bytes() <= settings.size_max / 16 * 3);
    assert!(objects > 1_000, "{objects}");
    assert_eq!(history.state().left_out, 5_001 - objects);
    assert_eq!(keeper.changes.rows.values().map(|row| row.0[&0].counted).sum::<u64>(), objects + 1);
    assert_eq!(keeper.changes.sends(), objects + 1);
}

/// A turn with these jobs. Returns how many objects are known then, and how many sends were left out.
fn turn(keeper: &mut Keeper, jobs: Vec<Job>, now: u64) -> (usize, u64) {
    keeper.heed_clock(now);
    keeper.work(jobs, now);
    keeper.write(now);
    (keeper.shared.directory().len(), keeper.shared.left_out.load(Ordering::Relaxed))
}

/// Of a weekly newsletter, and others that are not sent any more, the days of two weeks are known when on one day, and on the
/// next, ids come that are each of one send. The names of some 1,380 campaigns fit.
#[test]
fn for_new_campaigns_beyond_the_bound_no_day_leaves_and_known_ones_go_on() {
    const DAYS: u64 = 14;
    for flushes in [vec![1_200, 500, 100_000], vec![100; 40], vec![5_000], vec![1; 2_000]] {
        let directory = tempfile::tempdir().unwrap();
        let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
        let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
        let history = SendHistory { shared: Arc::clone(&keeper.shared) };
        keeper.open(MIDNIGHT);
        for day in 0..DAYS {
            let now = MIDNIGHT + day * 86_400;
            let known = vec![newcomers(1_000_000 + usize::try_from(day).unwrap(), 20, now), counted(now)];
            assert_eq!(turn(&mut keeper, known, now).1, 0);
        }
        let mut weekly = DAYS;
        for day in [DAYS, DAYS + 1] {
            let now = MIDNIGHT + day * 86_400 + 60;
            for (flush, campaigns) in flushes.iter().enumerate() {
                turn(&mut keeper, vec![newcomers(flush, *campaigns, now), counted(now)], now);
                weekly += 1;
            }
            let (objects, left_out) = turn(&mut keeper, Vec::new(), now);
            assert!(objects > 1_300, "{objects}");
            assert!(left_out >= 600 && keeper.left_out_for_room == left_out, "{left_out}");
            assert!(keeper.shared.directory().bytes() <= settings.size_max / 8);
            assert_eq!(history.state().since, Some(MIDNIGHT), "{flushes:?}");
            let range = TimeRange::last_days(20, now, "UTC").unwrap();
            let days = history.days(&[20], &range).unwrap().remove(0);
            assert_eq!(days.len() as u64, day + 1);
            assert_eq!(days.iter().map(|day| day.sends.counted).sum::<u64>(), weekly);
        }
    }
}

/// Every day, for a month: what is sent daily stays known with the last two days at least.
#[test]
fn new_campaigns_beyond_the_bound_every_day_stay_within_it_and_leave_what_is_sent_daily() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    for day in 0..30 {
        let now = MIDNIGHT + day * 86_400 + 60;
        turn(&mut keeper, vec![counted(now)], now);
        for flush in 0..3 {
            let crowd = newcomers(usize::try_from(10 * day).unwrap() + flush, 1_000, now);
            turn(&mut keeper, vec![crowd, counted(now)], now);
            let size = fs::metadata(store::path(directory.path())).unwrap().len();
            assert!(size <= settings.size_max, "{size} on day {day}");
            let names = keeper.shared.directory().bytes();
            assert!(names <= settings.size_max / 16 * 3, "{names} on day {day}");
        }
        let since = history.state().since.unwrap();
        assert!(since <= MIDNIGHT + day.saturating_sub(1) * 86_400, "{since} on day {day}");
        let days = history.days(&[0], &TimeRange::last_days(40, now, "UTC").unwrap()).unwrap().remove(0);
        assert!(days.len() as u64 >= 2.min(day + 1) && days.iter().all(|day| day.sends.counted == 4));
    }
}

/// Where all that is known is sent daily, and takes all the room.
#[test]
fn new_campaigns_do_not_take_the_place_of_those_of_yesterday() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings);
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    for day in 0..5 {
        let now = MIDNIGHT + day * 86_400;
        turn(&mut keeper, vec![newcomers(1, 1_000, now + 60)], now + 60);
        turn(&mut keeper, vec![newcomers(2, 1_000, now + 120)], now + 120);
        turn(&mut keeper, vec![newcomers(1, 1_000, now + 180)], now + 180);
    }
    assert_eq!(history.state().since, Some(MIDNIGHT));
    let range = TimeRange::new("2026-03-29", "2026-04-04", "UTC").unwrap();
    let daily = |name: &str| name.ends_with("of flush 00001");
    let counted: Vec<_> = known(&history, &range).into_iter().filter(|one| daily(&one.0)).collect();
    assert_eq!(counted.len(), 1_000);
    assert!(counted.iter().all(|(_, _, sends)| sends.counted == 10));
}

/// A flush of one send of a campaign.
fn counted(time: u64) -> Job {
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    flushed.series([campaign("1", "Weekly")], [(u32::try_from(time).unwrap(), 1)]);
    Job::Counted(Arc::new(flushed))
}

/// The outcome of all sends of a flush that [`counted`] has made.
fn landed(counted: &Job) -> Job {
    let Job::Counted(flushed) = counted else { unreachable!("it was counted") };
    let landing = Landing { dropped: None, late: 0, early: 0 };
    Job::Landed { flushed: Arc::clone(flushed), series: vec![0], landing }
}

/// Loses the file as a full disk does, and opens it again.
fn lose_and_open(keeper: &mut Keeper) -> HistoryState {
    keeper.lose(FileFault::Failed("No space left on device".to_owned()), MIDNIGHT);
    let shown = lock(&keeper.shared.state).clone();
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.write(MIDNIGHT);
    assert!(keeper.store.is_none());
    keeper.opened = None;
    keeper.open(MIDNIGHT);
    keeper.write(MIDNIGHT);
    shown
}

#[test]
fn what_a_full_disk_did_not_take_is_written_when_there_is_room_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    let shown = lose_and_open(&mut keeper);
    let trouble = shown.trouble.unwrap();
    assert!(trouble.ends_with("No space left on device"), "{trouble}");
    assert_eq!(history.state().trouble, None);
    assert_eq!(known(&history, &march())[0].2.counted, 2);

    // A commit that was told as failed and is on the disk all the same.
    keeper.digest(&[counted(MIDNIGHT)]);
    let store = keeper.store.as_mut().unwrap();
    store.write(&keeper.changes, &keeper.shared.directory()).unwrap();
    store.turn -= 1;
    keeper.doubt(FileFault::Failed("Input/output error".to_owned()), MIDNIGHT);
    // What comes until it is open again is not in that commit.
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.opened = None;
    keeper.open(MIDNIGHT);
    keeper.write(MIDNIGHT);
    assert_eq!(known(&history, &march())[0].2.counted, 4);

    // And one that is not.
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.doubt(FileFault::Failed("Input/output error".to_owned()), MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.opened = None;
    keeper.open(MIDNIGHT);
    keeper.write(MIDNIGHT);
    assert_eq!(known(&history, &march())[0].2.counted, 6);
    assert_eq!(history.state().left_out, 0);
}

/// A disk that was full, and is freed just before the stop, or is not.
#[test]
fn what_a_full_disk_did_not_take_is_written_at_the_stop_or_counted() {
    for is_freed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
        keeper.open(MIDNIGHT);
        let before = counted(MIDNIGHT);
        keeper.digest(std::slice::from_ref(&before));
        keeper.doubt(FileFault::Failed("No space left on device".to_owned()), MIDNIGHT);
        let after = counted(MIDNIGHT);
        let landed = [landed(&before), landed(&after)];
        keeper.digest(&[after]);
        keeper.digest(&landed);
        let blocker = (!is_freed).then(|| file_in_use(&settings));
        let shared = Arc::clone(&keeper.shared);
        lock(&shared.inbox).is_stopping = true;
        keeper.run(|| MIDNIGHT, SOON);
        drop((keeper.close(), blocker));
        let history = SendHistory { shared };
        assert_eq!(history.state().left_out, if is_freed { 0 } else { 2 });
        let history = open(&settings, MIDNIGHT);
        let known = known(&history, &march());
        assert_eq!(known.first().map_or(0, |one| one.2.counted), if is_freed { 2 } else { 0 });
        assert!(history.stop(LONG));
    }
}

/// Keeps others from the file.
fn file_in_use(settings: &HistorySettings) -> Keeper {
    let mut other = Keeper::new(Arc::new(Shared::default()), settings.clone());
    other.open(MIDNIGHT);
    assert!(other.store.is_some());
    other
}

#[test]
fn what_a_lost_file_did_not_take_is_left_out_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.write(MIDNIGHT);
    let [first, second] = [counted(MIDNIGHT), counted(MIDNIGHT)];
    let [first_landed, second_landed] = [landed(&first), landed(&second)];
    keeper.digest(&[first, first_landed]);
    keeper.doubt(FileFault::Failed("Input/output error".to_owned()), MIDNIGHT);
    keeper.digest(&[second]);
    fs::remove_file(store::path(directory.path())).unwrap();
    keeper.opened = None;
    keeper.open(MIDNIGHT);
    keeper.digest(&[second_landed]);
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    assert_eq!((history.state().left_out, history.state().objects), (2, 0), "each send once");
}

#[test]
fn a_write_that_fails_for_damage_that_a_reader_has_found_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.write(MIDNIGHT);
    let damaged = Arc::downgrade(&keeper.store.as_ref().unwrap().file);
    keeper.lose(FileFault::Failed("previous I/O error".to_owned()), MIDNIGHT);
    let path = store::path(directory.path());
    let length = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for page in 1..length / 4096 {
        file.write_all_at(&[0xa5; 64], page * 4096).unwrap();
    }
    keeper.open(MIDNIGHT);
    assert!(keeper.store.is_none(), "it is tried again in a minute");
    *lock(&keeper.shared.damaged) = Some(damaged);
    keeper.heed_readers(MIDNIGHT);
    keeper.open(MIDNIGHT);
    assert!(keeper.store.is_some() && store::damaged_path(directory.path()).exists());
}

#[test]
fn a_late_reader_of_the_damaged_file_does_not_condemn_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    let file = |keeper: &Keeper| Arc::clone(&keeper.store.as_ref().unwrap().file);
    keeper.open(MIDNIGHT);
    let damaged = file(&keeper);
    let found = |keeper: &Keeper, file: &Arc<_>| *lock(&keeper.shared.damaged) = Some(Arc::downgrade(file));
    found(&keeper, &damaged);
    keeper.heed_readers(MIDNIGHT);
    let new = file(&keeper);
    assert!(!Arc::ptr_eq(&damaged, &new));
    found(&keeper, &damaged);
    keeper.heed_readers(MIDNIGHT);
    assert!(Arc::ptr_eq(&file(&keeper), &new));
}

#[test]
fn a_file_that_was_moved_away_is_told_and_another_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = store::path(directory.path());
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings(directory.path()));
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    fs::rename(&path, directory.path().join("away")).unwrap();
    keeper.write(MIDNIGHT);
    let trouble = lock(&keeper.shared.state).trouble.clone().unwrap();
    assert!(trouble.contains("it was moved away while it was in use"), "{trouble}");
    assert!(!path.exists());
    keeper.opened = None;
    keeper.open(MIDNIGHT);
    keeper.digest(&[counted(MIDNIGHT)]);
    keeper.write(MIDNIGHT);
    assert_eq!(lock(&keeper.shared.state).trouble, None);
    assert_eq!(lock(&keeper.shared.state).objects, 1);
    assert!(path.exists());
}

/// Flushes of 777 sends of the campaign that was sent longest ago and has the highest number, after 1,600 others.
fn crowd(time: u64) -> Vec<Job> {
    let time = u32::try_from(time).unwrap();
    let names: Vec<String> = (0..1_600).map(|n| format!("campaign-{n:05}-of-a-long-name")).collect();
    let mut others = FlushedSends::new(vec!["acme".into()]);
    for name in &names {
        others.series([campaign(name, name)], [(time, 1)]);
    }
    let mut secret = FlushedSends::new(vec!["acme".into()]);
    secret.series([campaign("secret", "Secret")], [(time - 3_000, 777)]);
    [others, secret].map(|flushed| Job::Counted(Arc::new(flushed))).into()
}

/// One of which a crowd was known when its bound was higher.
fn crowded(directory: &Path, now: u64) -> Keeper {
    let mut settings = HistorySettings { size_max: 16 << 20, ..settings(directory) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    keeper.open(MIDNIGHT);
    keeper.digest(&crowd(now));
    keeper.write(now);
    assert_eq!(keeper.shared.directory().len(), 1_601);
    drop(keeper.close());
    settings.size_max = 2 << 20;
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings);
    keeper.open(now);
    keeper
}

#[test]
fn a_campaign_never_has_the_sends_of_one_that_was_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { size_max: 4 << 20, ..settings(directory.path()) };
    let now = MIDNIGHT + 36_000;
    let mut keeper = crowded(directory.path(), now);
    keeper.write(now);
    assert_eq!(keeper.shared.directory().len(), 0);
    drop(keeper.close());

    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings);
    keeper.open(now);
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    let mut flushed = FlushedSends::new(vec!["beta".into()]);
    flushed.series([campaign("first", "First")], [(u32::try_from(now).unwrap(), 1)]);
    keeper.digest(&[Job::Counted(Arc::new(flushed))]);
    keeper.write(now);
    let known = known(&history, &march());
    let first = known.iter().find(|(name, ..)| name == "First").unwrap();
    assert_eq!(first.2.counted, 1);
}

#[test]
fn the_outcome_of_sends_of_a_forgotten_campaign_is_left_out_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings { days_max: 2, ..settings(directory.path()) };
    let mut keeper = Keeper::new(Arc::new(Shared::default()), settings.clone());
    let history = SendHistory { shared: Arc::clone(&keeper.shared) };
    keeper.open(MIDNIGHT);
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    flushed.series([campaign("1", "Old")], [(u32::try_from(MIDNIGHT).unwrap(), 3)]);
    flushed.series([campaign("2", "New")], [(u32::try_from(MIDNIGHT + 86_400).unwrap(), 4)]);
    let flushed = Arc::new(flushed);
    keeper.digest(&[Job::Counted(Arc::clone(&flushed))]);
    keeper.write(MIDNIGHT);
    for day in 1..=2 {
        keeper.trimmed = None;
        keeper.write(MIDNIGHT + day * 86_400);
    }
    assert_eq!(history.state().objects, 1);
    let landing = Landing { dropped: None, late: 0, early: 0 };
    keeper.digest(&[Job::Landed { flushed, series: vec![0, 1], landing }]);
    keeper.write(MIDNIGHT + 2 * 86_400);
    assert_eq!(history.state().left_out, 3);
    let range = TimeRange::new("2026-03-28", "2026-04-02", "UTC").unwrap();
    assert_eq!(history.days(&[0], &range).unwrap()[0], []);
    assert_eq!(history.days(&[1], &range).unwrap()[0][0].sends.accepted, 4);
}
