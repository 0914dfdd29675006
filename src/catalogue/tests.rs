use datadog_points::outcome::FailureReason;
use foldhash::fast::RandomState;
use proptest::prelude::*;

use super::*;
use braze_events::{FIELDS, Field, SendEvent};
use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings};
use send_counts::route::ConnectionId;

const NOW: u64 = 1_800_000_000;

/// The fields of an event.
type Fields<'f> = &'f [(Field, &'f str)];

/// So many sends of events with these fields, in the bucket that starts at a Unix second.
fn cut(layout: &Arc<Layout>, sends: &[(Fields<'_>, u64, u64)]) -> Aggregator {
    let settings = send_counts::testing::aggregate_settings(1_000_000);
    let mut cut = Aggregator::new(Arc::clone(layout), &settings, RandomState::default());
    for (given, count, bucket) in sends {
        let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
        for (field, value) in *given {
            fields[*field as usize] = value.as_bytes();
        }
        let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
        for _ in 0..*count {
            cut.record(ConnectionId(0), &event, "email", *bucket, *bucket);
        }
    }
    cut
}

fn layout(static_tags: &[&str]) -> Arc<Layout> {
    let static_tags = static_tags.iter().map(|tag| (*tag).into()).collect();
    Arc::new(Layout::new(&TagSettings { include: Tag::ALL.to_vec(), static_tags, names: Names::Latest }))
}

fn layout_as_sent() -> Arc<Layout> {
    let include = Tag::ALL.to_vec();
    Arc::new(Layout::new(&TagSettings { include, static_tags: Vec::new(), names: Names::AsSent }))
}

fn note(catalogue: &Catalogue, cut: &Aggregator, now: u64) -> NotedSeries {
    catalogue.note(cut, ["acme"].into_iter(), now)
}

/// An outcome that is no dry run's.
fn outcome(dropped: Option<DropReason>, at: u64) -> LastOutcome {
    LastOutcome { dropped, is_dry_run: false, is_retargeted: false, at }
}

fn landing(outcome: LastOutcome) -> RequestFate {
    RequestFate { outcome, late: 0, early: 0 }
}

const WEEKLY: &[(Field, &str)] =
    &[(Field::CampaignId, "8a3f"), (Field::CampaignName, "Weekly newsletter"), (Field::AppGroupId, "emea")];
const STEP: &[(Field, &str)] = &[
    (Field::CanvasId, "c1"),
    (Field::CanvasName, "Onboarding"),
    (Field::CanvasStepId, "s1"),
    (Field::CanvasStepName, "Welcome"),
];

#[test]
fn a_campaign_is_found_by_name_and_id_with_its_tags_and_its_last_send() {
    let catalogue = Catalogue::default();
    let cut = cut(&layout(&["env:prod"]), &[(WEEKLY, 3, NOW - 20), (WEEKLY, 2, NOW - 10), (STEP, 1, NOW)]);
    note(&catalogue, &cut, NOW);
    for query in ["weekly", "8a3f", "newsletter EMEA"] {
        let search = catalogue.search(query);
        assert_eq!((search.matches, search.remembered), (1, 2), "{query}");
        let found = &search.found[0];
        assert_eq!((found.sends, found.last_send), (5, NOW - 10));
        assert_eq!((&*found.connection, found.outcome), ("acme", None));
        assert!(found.tags.contains(&"campaign_name:Weekly newsletter".to_owned()), "{:?}", found.tags);
        assert!(found.tags.contains(&"env:prod".to_owned()), "{:?}", found.tags);
        assert_eq!(found.trend.as_ref().unwrap().sum(NOW), 5);
    }
    assert_eq!(catalogue.search("monthly").found, []);
    assert_eq!(catalogue.search(" "), SearchHits::default());
}

#[test]
fn a_line_feed_in_a_name_parts_no_tags() {
    let catalogue = Catalogue::default();
    let two_lines: Fields<'_> =
        &[(Field::CampaignId, "8a3f"), (Field::CampaignName, "Weekly\ncampaign_id:8a40")];
    note(&catalogue, &cut(&layout(&[]), &[(two_lines, 1, NOW)]), NOW);
    let tags = catalogue.search("weekly").found[0].tags.clone();
    assert_eq!(tags, ["campaign_id:8a3f", "campaign_name:Weekly campaign_id:8a40", "channel:email"]);
}

#[test]
fn each_series_has_the_outcome_of_the_request_that_it_was_in() {
    let catalogue = Catalogue::default();
    let cut = cut(&layout(&[]), &[(WEEKLY, 1, NOW), (STEP, 1, NOW)]);
    let noted = note(&catalogue, &cut, NOW);
    let (first, second) = (noted.track(&[0]), noted.track(&[1]));
    let dropped = outcome(Some(DropReason::Failed(FailureReason::Http403)), NOW + 1);
    let accepted = outcome(None, NOW + 2);
    catalogue.settle(second, landing(dropped));
    catalogue.settle(first, landing(accepted));
    let of = |query| catalogue.search(query).found[0].clone();
    assert_eq!((of("weekly").outcome, of("weekly").accepted_at), (Some(accepted), Some(NOW + 2)));
    assert_eq!((of("welcome").outcome, of("welcome").accepted_at), (Some(dropped), None));
    let again = noted.track(&[0]);
    let dropped = outcome(Some(DropReason::Failed(FailureReason::Timeout)), NOW + 9);
    catalogue.settle(again, landing(dropped));
    assert_eq!((of("weekly").outcome, of("weekly").accepted_at), (Some(dropped), Some(NOW + 2)));
}

#[test]
fn an_outcome_is_marked_once_its_connection_has_another_key_and_the_next_one_is_not() {
    let catalogue = Catalogue::default();
    let cut = cut(&layout(&[]), &[(WEEKLY, 1, NOW), (STEP, 1, NOW)]);
    let noted = note(&catalogue, &cut, NOW);
    let is_marked = |query| catalogue.search(query).found[0].outcome.map(|outcome| outcome.is_retargeted);
    catalogue.retarget(["acme"].into_iter());
    catalogue.settle(noted.track(&[0]), landing(outcome(None, NOW)));
    assert_eq!((is_marked("weekly"), is_marked("welcome")), (Some(false), None));
    catalogue.retarget(["other"].into_iter());
    assert_eq!(is_marked("weekly"), Some(false));
    for _ in 0..3 {
        catalogue.retarget(["acme"].into_iter());
    }
    assert_eq!(lock(&catalogue.news).len(), 1);
    assert_eq!((is_marked("weekly"), is_marked("welcome")), (Some(true), None));
    catalogue.settle(noted.track(&[0]), landing(outcome(None, NOW)));
    assert_eq!(is_marked("weekly"), Some(false));

    let printed = LastOutcome { is_dry_run: true, ..outcome(None, NOW + 7) };
    catalogue.settle(noted.track(&[0]), landing(printed));
    let found = catalogue.search("weekly").found[0].clone();
    assert_eq!((found.outcome, found.accepted_at), (Some(printed), Some(NOW)));
}

#[test]
fn the_busiest_are_told_by_kind_with_their_newest_names() {
    let catalogue = Catalogue::default();
    let layout = layout(&[]);
    let other = &[(Field::CampaignId, "1"), (Field::CampaignName, "Other")];
    note(&catalogue, &cut(&layout, &[(WEEKLY, 3, NOW), (other, 9, NOW), (STEP, 2, NOW)]), NOW);
    let renamed = &[
        (Field::CampaignId, "8a3f"),
        (Field::CampaignName, "Monthly newsletter"),
        (Field::AppGroupId, "emea"),
    ];
    note(&catalogue, &cut(&layout, &[(renamed, 30, NOW + 60)]), NOW + 60);
    let busiest = catalogue.busiest();
    let all = busiest.steps.iter().chain(&busiest.campaigns);
    let told: Vec<(&str, &str, u64)> =
        all.map(|(busy, trend)| (&*busy.name, &*busy.canvas, trend.sum(NOW + 60))).collect();
    assert_eq!(told, [("Welcome", "Onboarding", 2), ("Monthly newsletter", "", 33), ("Other", "", 9)]);
    assert_eq!(catalogue.search("weekly").matches, 0);
    assert_eq!(catalogue.search("monthly").found[0].sends, 33);
}

/// Without sends there is no flush, for an hour or more.
#[test]
fn what_is_busiest_once_others_are_too_long_ago_is_among_the_busiest_of_the_last_flush() {
    let layout = layout(&[]);
    let flushed = |flushes: &[(usize, u64, u64)]| {
        let (catalogue, mut number) = (Catalogue::default(), 0);
        for (campaigns, count, at) in flushes {
            let ids: Vec<String> =
                (number..number + campaigns).map(|number| format!("id-{number}")).collect();
            let fields: Vec<[(Field, &str); 1]> = ids.iter().map(|id| [(Field::CampaignId, &**id)]).collect();
            let sent: Vec<_> = fields.iter().map(|fields| (&fields[..], *count, *at)).collect();
            note(&catalogue, &cut(&layout, &sent), *at);
            number += campaigns;
        }
        let busiest = catalogue.busiest();
        move |now| busiest.campaigns.iter().filter(|(_, trend)| trend.sum(now) > 0).count()
    };
    let told = flushed(&[(60, 10, NOW), (60, 6, NOW + 1_500), (60, 2, NOW + 2_700)]);
    let at = [3_500, 3_700, 5_200, 6_400].map(|seconds| told(NOW + seconds));
    assert_eq!(at, [180, 120, 60, 0]);
    // However many there are, it is not said that there is none.
    let told = flushed(&[(500, 10, NOW), (1, 5, NOW + 1_800)]);
    assert_eq!([1_800, 3_700].map(|seconds| told(NOW + seconds)), [201, 1]);
}

/// A step of one Canvas, with these names of both.
const fn step(canvas: &'static str, name: &'static str) -> [(Field, &'static str); 4] {
    [
        (Field::CanvasId, "c1"),
        (Field::CanvasName, canvas),
        (Field::CanvasStepId, "s1"),
        (Field::CanvasStepName, name),
    ]
}

#[test]
fn the_busiest_have_the_name_that_was_sent_last_whichever_series_has_it() {
    let (old, new) = (step("Onboarding", "Welcome"), step("Reception", "Hello"));
    let bare = [(Field::CanvasId, "c1"), (Field::CanvasStepId, "s1"), (Field::AppGroupId, "emea")];
    let told_after = |layout: Arc<Layout>, flushes: &[Fields<'_>]| {
        let catalogue = Catalogue::default();
        for fields in flushes {
            note(&catalogue, &cut(&layout, &[(fields, 1, NOW)]), NOW);
        }
        let busiest = catalogue.busiest();
        let (busy, trend) = &busiest.steps[0];
        (busy.canvas.clone(), busy.name.clone(), trend.sum(NOW), busiest.steps.len())
    };
    let is = |canvas: &str, name: &str, sends| (canvas.to_owned(), name.to_owned(), sends, 1);
    // Each name has series of its own.
    assert_eq!(told_after(layout_as_sent(), &[&old, &new]), is("Reception", "Hello", 2));
    assert_eq!(told_after(layout_as_sent(), &[&old, &new, &old]), is("Onboarding", "Welcome", 3));
    assert_eq!(told_after(layout_as_sent(), &[&old, &new, &bare]), is("Reception", "Hello", 3));
    // One that is new has the new name.
    let mut other_series = new.to_vec();
    other_series.push((Field::AppGroupId, "emea"));
    assert_eq!(told_after(layout(&[]), &[&old, &other_series]), is("Reception", "Hello", 2));
    assert_eq!(told_after(layout(&[]), &[&old, &bare]), is("Onboarding", "Welcome", 2));
}

#[test]
fn of_the_names_of_one_flush_the_busiest_have_that_of_the_newest_send() {
    let (old, new) = (step("Onboarding", "Welcome"), step("Reception", "Hello"));
    let bare = [(Field::CanvasId, "c1"), (Field::CanvasStepId, "s1")];
    let cases: [&[(Fields<'_>, u64, u64)]; 5] = [
        &[(&old, 1, NOW), (&new, 2, NOW)],
        &[(&old, 2, NOW), (&new, 1, NOW)],
        &[(&new, 1, NOW), (&old, 2, NOW - 10)],
        &[(&new, 2, NOW), (&old, 1, NOW - 10)],
        &[(&bare, 9, NOW), (&new, 2, NOW - 5), (&old, 1, NOW - 10)],
    ];
    for sends in cases {
        let catalogue = Catalogue::default();
        // New series, and those that are known.
        for _ in 0..2 {
            note(&catalogue, &cut(&layout_as_sent(), sends), NOW);
            let busiest = catalogue.busiest();
            let busy = &busiest.steps[0].0;
            assert_eq!((&*busy.canvas, &*busy.name), ("Reception", "Hello"), "{sends:?}");
        }
    }
}

#[test]
fn a_last_send_of_a_clock_that_was_ahead_is_not_shown_once_it_is_right() {
    let catalogue = Catalogue::default();
    for now in [NOW, NOW + 300 * 86_400, NOW + 60] {
        note(&catalogue, &cut(&layout(&[]), &[(WEEKLY, 1, now)]), now);
        assert_eq!(catalogue.search("weekly").found[0].last_send, now);
    }
}

#[test]
fn steps_of_one_name_are_told_apart_by_their_canvas_where_none_has_an_id() {
    let catalogue = Catalogue::default();
    let include = vec![Tag::Field(Field::CanvasName), Tag::Field(Field::CanvasStepName)];
    let layout = Arc::new(Layout::new(&TagSettings { include, static_tags: vec![], names: Names::Latest }));
    let step = |canvas| [(Field::CanvasName, canvas), (Field::CanvasStepName, "Email 1")];
    note(&catalogue, &cut(&layout, &[(&step("Welcome"), 1, NOW), (&step("Winback"), 2, NOW)]), NOW);
    let busiest = catalogue.busiest();
    let told: Vec<_> =
        busiest.steps.iter().map(|(step, trend)| (&*step.canvas, &*step.name, trend.sum(NOW))).collect();
    assert_eq!(told, [("Winback", "Email 1", 2), ("Welcome", "Email 1", 1)]);
}

#[test]
fn the_busiest_series_are_those_of_the_last_flush_that_had_sends() {
    let catalogue = Catalogue::default();
    let layout = layout(&[]);
    let told = || -> Vec<(String, u64)> {
        let of = |busy: &BusySeries| (format!("{}: {}", busy.connection, busy.tags[0]), busy.sends);
        catalogue.busiest().series.iter().map(of).collect()
    };
    let other = &[(Field::CampaignId, "1")];
    note(&catalogue, &cut(&layout, &[(other, 90, NOW)]), NOW);
    note(&catalogue, &cut(&layout, &[(STEP, 2, NOW), (other, 9, NOW)]), NOW);
    let expected = [("acme: campaign_id:1".to_owned(), 9), ("acme: canvas_id:c1".to_owned(), 2)];
    assert_eq!(told(), expected);
    note(&catalogue, &cut(&layout, &[]), NOW);
    assert_eq!(told(), expected, "heartbeats alone leave what people look at");
}

#[test]
fn other_fixed_tags_are_told_after_the_next_flush() {
    let catalogue = Catalogue::default();
    let first = layout(&["env:test"]);
    note(&catalogue, &cut(&first, &[(WEEKLY, 1, NOW)]), NOW);
    note(&catalogue, &cut(&layout(&["env:prod"]), &[(WEEKLY, 1, NOW)]), NOW);
    assert_eq!((catalogue.search("env:test").matches, catalogue.search("env:prod").matches), (0, 1));
}

#[test]
fn what_was_sent_longest_ago_makes_room_and_then_what_had_the_fewest_sends() {
    let catalogue = Catalogue::new(CatalogueLimits { series_max: 2, ..CatalogueLimits::default() });
    let layout = layout(&[]);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| [(Field::CampaignId, id)]);
    let known = |id: &str| catalogue.search(&format!("campaign_id:{id}")).matches == 1;
    note(&catalogue, &cut(&layout, &[(&a, 9, NOW)]), NOW);
    let noted = note(&catalogue, &cut(&layout, &[(&b, 2, NOW)]), NOW);
    let late = noted.track(&[0]);
    note(&catalogue, &cut(&layout, &[(&c, 1, NOW), (&b, 2, NOW)]), NOW);
    assert!(!known("a") && known("b") && known("c"));
    note(&catalogue, &cut(&layout, &[(&c, 1, NOW), (&b, 2, NOW), (&d, 5, NOW), (&a, 1, NOW)]), NOW);
    assert!(known("b") && known("d"));
    let search = catalogue.search("campaign_id");
    assert_eq!((search.matches, search.remembered, search.left_out), (2, 2, 1));
    note(&catalogue, &cut(&layout, &[(&a, 1, NOW), (&c, 1, NOW)]), NOW);
    catalogue.settle(late, landing(outcome(None, NOW)));
    assert!(catalogue.search("campaign_id").found.iter().all(|found| found.outcome.is_none()));
}

#[test]
fn long_tags_count_against_the_bytes() {
    let catalogue = Catalogue::new(CatalogueLimits { bytes_max: 10_000, ..CatalogueLimits::default() });
    let names: Vec<String> = (0..500).map(|number| format!("{number:0>180}")).collect();
    let fields: Vec<[(Field, &str); 1]> = names.iter().map(|name| [(Field::CampaignName, &**name)]).collect();
    let sends: Vec<_> = fields.iter().map(|fields| (&fields[..], 1, NOW)).collect();
    note(&catalogue, &cut(&layout(&[]), &sends), NOW);
    let search = catalogue.search("campaign_name");
    assert!(search.remembered < 40 && search.remembered > 10, "{}", search.remembered);
    assert_eq!(search.left_out, 500 - search.remembered);
}

proptest! {
    /// However series come and go, no more are remembered than there is room for, and each of them is found with
    /// the sum of what was sent since it came.
    #[test]
    fn it_stays_within_its_room(
        flushes in prop::collection::vec(prop::collection::vec((0u8..40, 1u64..9), 0..30), 1..12),
        series_max in 1usize..30,
    ) {
        let catalogue = Catalogue::new(CatalogueLimits { series_max, ..CatalogueLimits::default() });
        let layout = layout(&[]);
        for (at, flush) in flushes.iter().enumerate() {
            let ids: Vec<String> = flush.iter().map(|(id, _)| format!("id-{id}-")).collect();
            let fields: Vec<[(Field, &str); 1]> = ids.iter().map(|id| [(Field::CampaignId, &**id)]).collect();
            let sends: Vec<_> =
                fields.iter().zip(flush).map(|(fields, (_, count))| (&fields[..], *count, NOW)).collect();
            let cut = cut(&layout, &sends);
            let noted = note(&catalogue, &cut, NOW + at as u64);
            let search = catalogue.search("campaign_id");
            prop_assert!(search.remembered <= series_max);
            prop_assert_eq!(search.matches, search.remembered);
            let placed = noted.places.iter().flatten().count();
            prop_assert_eq!(placed + search.left_out, cut.len());
            let busiest = catalogue.busiest();
            prop_assert!(busiest.campaigns.len() + busiest.steps.len() <= search.remembered);
        }
    }
}
