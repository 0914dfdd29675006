use std::time::Duration;

use send_history::{FlushedSends, HistorySettings, ObjectFields};
use tempfile::TempDir;

use super::*;

const NOW: u32 = 1_800_000_000;
const LIMIT: Duration = Duration::from_secs(30);

/// A history of campaigns, each with when it was sent, and of a Canvas.
fn history(campaigns: &[(String, u32)]) -> (TempDir, SendHistory) {
    let directory = tempfile::tempdir().unwrap();
    let settings = HistorySettings::new(directory.path().to_owned());
    let open = || SendHistory::start(&settings, || u64::from(NOW)).unwrap();
    let history = open();
    assert!(history.is_open_within(LIMIT));
    let mut flushed = FlushedSends::new(vec!["acme".into()]);
    let of = |kind| ObjectFields::of(kind);
    for (id, time) in campaigns {
        let fields =
            ObjectFields { id: id.as_bytes(), name: b"Weekly newsletter:", ..of(ObjectKind::Campaign) };
        flushed.series([fields], [(*time, 1)]);
    }
    flushed.series([ObjectFields { id: b"canvas", ..of(ObjectKind::Canvas) }], [(NOW - 5, 1)]);
    history.note(flushed).unwrap();
    assert!(history.stop(LIMIT));
    // Over a restart.
    let again = open();
    assert!(again.is_open_within(LIMIT));
    (directory, again)
}

#[test]
fn an_age_has_the_tags_of_the_sends_and_is_told_once_a_minute() {
    let (_directory, history) = history(&[("8a3f".to_owned(), NOW - 100)]);
    let mut ages = LastSendAges::default();
    let mut told = |time| {
        let points = ages.points(&history, &["env:test".into()], u64::from(time));
        points.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let line = |age| {
        [format!(
            "braze.forwarder.campaign_last_send_age {age}  campaign_id:8a3f campaign_name:Weekly newsletter connection:acme env:test"
        )]
    };
    assert_eq!(told(NOW), line(100));
    assert_eq!(told(NOW + 59), [""; 0]);
    assert_eq!(told(NOW + 60), line(160));
    assert_eq!(told(NOW - 100), line(0), "a clock that was put back");
}

#[test]
fn of_a_send_in_days_to_come_no_age_is_told() {
    let sent = [("ahead".to_owned(), NOW + 86_400), ("early".to_owned(), NOW + 600)];
    let (_directory, history) = history(&sent);
    let points = LastSendAges::default().points(&history, &[], u64::from(NOW));
    assert_eq!(points.len(), 1, "{points:?}");
    assert!(points[0].tags.contains(&"campaign_id:early".into()) && points[0].value == 0);
}

#[test]
fn a_campaign_is_forgotten_after_35_days_and_of_many_the_latest_are_told() {
    let day = 86_400;
    let old = [("gone".to_owned(), NOW - 35 * day), ("monthly".to_owned(), NOW - 35 * day + 1)];
    let (_directory, two) = history(&old);
    let points = LastSendAges::default().points(&two, &[], u64::from(NOW));
    assert_eq!(points.len(), 1, "{points:?}");
    assert!(points[0].tags.contains(&"campaign_id:monthly".into()));
    let many: Vec<_> = (0..1_500).map(|number| (format!("c{number}"), NOW - 2_000 + number)).collect();
    let (_directory, many) = history(&many);
    let points = LastSendAges::default().points(&many, &[], u64::from(NOW));
    assert_eq!((points.len(), points[0].value, points[999].value), (CAMPAIGNS_MAX, 501, 1_500));
}

#[test]
fn nothing_is_told_until_something_is_known() {
    let settings = HistorySettings::new(tempfile::tempdir().unwrap().path().to_owned());
    let closed = SendHistory::start(&settings, || u64::from(NOW)).unwrap();
    let mut ages = LastSendAges::default();
    assert_eq!(ages.points(&closed, &[], u64::from(NOW)), []);
    assert_eq!(ages.told, None, "it is asked again at the next flush");
}
