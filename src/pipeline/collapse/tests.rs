use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use braze_events::{FIELDS, Field, SendEvent};
use send_counts::aggregate::Aggregator;
use send_counts::aggregate::tags::{Layout, Names as NamesAre, Tag, TagSettings};

/// The flush thread's part of the work: campaigns by id and name, in the order of the time. An id may stand behind
/// its app group and a stroke.
struct Flushes {
    known: KnownNames,
    collapse: Collapse,
    now: u64,
}

fn layout(names: NamesAre, ids: bool) -> Arc<Layout> {
    let include = Tag::ALL.into_iter().filter(|tag| ids || *tag != Tag::Field(Field::CampaignId)).collect();
    Arc::new(Layout::new(&TagSettings { include, static_tags: Vec::new(), names }))
}

impl Flushes {
    fn new(names_max: usize) -> Self {
        Self { known: KnownNames::new(names_max), collapse: Collapse::default(), now: 0 }
    }

    fn flush_under(
        &mut self,
        layout: Arc<Layout>,
        campaigns: &[(u32, &str, &str)],
    ) -> Option<BTreeMap<ConnectionId, Collapsing>> {
        let settings = send_counts::testing::aggregate_settings(1000);
        let mut cut = Aggregator::new(layout, &settings, RandomState::default());
        for (connection, id, name) in campaigns {
            self.now += 1;
            let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
            let (app_group, id) = id.split_once('/').unwrap_or(("", id));
            fields[Field::AppGroupId as usize] = app_group.as_bytes();
            fields[Field::CampaignId as usize] = id.as_bytes();
            fields[Field::CampaignName as usize] = name.as_bytes();
            let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
            cut.record(ConnectionId(*connection), &event, "email", 0, self.now);
        }
        self.known.settle(&mut cut);
        self.collapse.follow(&mut self.known)
    }

    fn flush(&mut self, campaigns: &[(u32, &str, &str)]) -> Option<BTreeMap<ConnectionId, Collapsing>> {
        self.flush_under(layout(NamesAre::Latest, true), campaigns)
    }

    /// What is found when all names known are looked at together: per connection and stored tag its names and ids.
    fn expected(&self) -> BTreeMap<(u32, String), (BTreeSet<String>, u64)> {
        let mut tags: BTreeMap<(u32, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        for of in self.known.iter() {
            let id = if of.id.is_empty() { of.name } else { of.id };
            let names = tags.entry((of.connection.0, stored(of))).or_default();
            names.entry(text(of.name)).or_default().push(text(id));
        }
        tags.retain(|_, names| names.values().flatten().collect::<BTreeSet<_>>().len() > 1);
        let ids_total =
            |names: &BTreeMap<_, Vec<String>>| names.values().flatten().collect::<BTreeSet<_>>().len() as u64;
        tags.into_iter()
            .map(|(tag, names)| (tag, (names.keys().cloned().collect(), ids_total(&names))))
            .collect()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn two_campaigns_whose_names_become_one_value_are_told_with_what_tells_them_apart() {
    let mut flushes = Flushes::new(100);
    let found = flushes
        .flush(&[(0, "c1", "Weekly newsletter"), (0, "c2", "weekly_newsletter!"), (0, "c3", "Welcome")])
        .unwrap();
    let expected = CollapsingTag {
        tag: "campaign_name:weekly_newsletter".into(),
        names: texts(&["Weekly newsletter", "weekly_newsletter!"]),
        names_total: 2,
        ids: texts(&["c1", "c2"]),
        ids_total: 2,
        group_by: "campaign_id",
    };
    let expected = Collapsing { tags_total: 1, shared_total: 0, tags: vec![expected] };
    assert_eq!(found, BTreeMap::from([(ConnectionId(0), expected)]));
    assert_eq!(
        flushes.flush(&[(0, "c1", "Weekly newsletter"), (0, "c9", "New")]),
        None,
        "nothing has changed"
    );
    // Renamed, it is over.
    let found = flushes.flush(&[(0, "c2", "Monthly newsletter")]).unwrap();
    assert_eq!(found[&ConnectionId(0)], Collapsing::default());
}

#[test]
fn each_connection_and_each_kind_of_name_is_by_itself() {
    let mut flushes = Flushes::new(100);
    assert_eq!(flushes.flush(&[(0, "c1", "Weekly"), (1, "c2", "weekly")]), None);
    let found = flushes.flush(&[(1, "c3", "WEEKLY")]).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&ConnectionId(1)]);
}

#[test]
fn a_name_that_several_ids_have_is_told_but_is_not_counted() {
    let mut flushes = Flushes::new(100);
    let found = flushes.flush(&[(0, "c1", "Email 1"), (0, "c2", "Email 1")]).unwrap();
    let found = &found[&ConnectionId(0)];
    assert_eq!((found.tags_total, found.tags.len()), (0, 1));
    assert!(found.tags[0].is_same_name());
    assert_eq!((&found.tags[0].names, &found.tags[0].ids), (&texts(&["Email 1"]), &texts(&["c1", "c2"])));
    // With another name beside it, it is one entry, and comes first.
    let more = [(0, "c3", "email 1"), (0, "a1", "A"), (0, "a2", "A")];
    let found = flushes.flush(&more).unwrap();
    let found = &found[&ConnectionId(0)];
    assert_eq!((found.tags_total, found.tags.len()), (1, 2));
    assert_eq!((found.tags[0].names_total, found.tags[0].ids_total), (2, 3));
    assert!(found.tags[1].is_same_name());
}

#[test]
fn a_campaign_of_several_app_groups_is_one() {
    let mut flushes = Flushes::new(100);
    assert_eq!(
        flushes.flush(&[(0, "emea/c1", "Weekly"), (0, "c1", "Weekly"), (0, "apac/c1", "weekly")]),
        None
    );
    let found = flushes.flush(&[(0, "emea/c2", "WEEKLY"), (0, "c2", "WEEKLY")]).unwrap();
    let tag = &found[&ConnectionId(0)].tags[0];
    assert_eq!((tag.names_total, tag.ids_total, &tag.ids), (3, 2, &texts(&["c1", "c2"])));
    // Renamed in one app group after the other, it is over with the last.
    flushes.flush(&[(0, "emea/c2", "Monthly")]).unwrap();
    let found = flushes.flush(&[(0, "c2", "Monthly")]).unwrap();
    assert_eq!(found[&ConnectionId(0)], Collapsing::default());
}

#[test]
fn the_gravest_come_first() {
    let mut flushes = Flushes::new(100);
    let shared = [(0, "a1", "A"), (0, "a2", "A"), (0, "z1", "Z"), (0, "z2", "Z"), (0, "z3", "Z")];
    let different =
        [(0, "b1", "B"), (0, "b2", "b"), (0, "c1", "C"), (0, "c2", "c"), (0, "c3", "c"), (0, "c4", "C!")];
    let found = flushes.flush(&[&shared[..], &different[..]].concat()).unwrap();
    let found = &found[&ConnectionId(0)];
    let tags: Vec<&str> = found.tags.iter().map(|tag| tag.tag.as_str()).collect();
    assert_eq!(tags, ["campaign_name:c", "campaign_name:b", "campaign_name:z", "campaign_name:a"]);
    assert_eq!((found.tags_total, found.shared_total), (2, 2));
}

#[test]
fn an_emoji_is_nothing_to_datadog() {
    let mut flushes = Flushes::new(100);
    let found = flushes.flush(&[(0, "c1", "🎉"), (0, "c2", "🔥🔥")]).unwrap();
    assert_eq!(found[&ConnectionId(0)].tags[0].tag, "campaign_name:");
}

#[test]
fn names_as_sent_collapse_too_but_not_those_of_one_campaign() {
    let mut flushes = Flushes::new(100);
    let layout = layout(NamesAre::AsSent, true);
    let renamed = [(0, "c1", "Weekly"), (0, "c1", "weekly")];
    assert_eq!(flushes.flush_under(Arc::clone(&layout), &renamed), None, "one campaign, renamed");
    let found = flushes.flush_under(layout, &[(0, "c2", "WEEKLY")]).unwrap();
    let found = &found[&ConnectionId(0)];
    assert_eq!((found.tags_total, found.tags[0].names_total), (1, 3));
    assert_eq!(found.tags[0].ids, texts(&["c1", "c2"]));
}

#[test]
fn without_ids_among_the_tags_the_id_that_would_help_is_named() {
    let mut flushes = Flushes::new(100);
    let found =
        flushes.flush_under(layout(NamesAre::Latest, false), &[(0, "c1", "Weekly"), (0, "c2", "weekly")]);
    let found = &found.unwrap()[&ConnectionId(0)];
    assert_eq!((found.tags_total, found.tags[0].group_by), (1, "campaign_id"));
    assert_eq!(found.tags[0].ids, Vec::<String>::new());
}

#[test]
fn what_is_shown_is_bounded_and_what_is_counted_is_not() {
    let mut flushes = Flushes::new(10_000);
    let campaigns: Vec<_> = (0..90)
        .map(|number| {
            (format!("c{number}"), format!("Weekly{}{}", " ".repeat(number % 45), "!".repeat(number)))
        })
        .collect();
    let mut all: Vec<(u32, &str, &str)> = campaigns.iter().map(|(id, name)| (0, &**id, &**name)).collect();
    let pairs: Vec<_> =
        (0..50).flat_map(|number| [format!("pair {number}"), format!("Pair {number}")]).collect();
    all.extend(pairs.iter().map(|name| (0, &**name, &**name)));
    let found = flushes.flush(&all).unwrap();
    let found = &found[&ConnectionId(0)];
    assert_eq!((found.tags_total, found.tags.len()), (51, TAGS_MAX));
    assert!(found.tags.iter().all(|tag| tag.names.len() <= NAMES_MAX && tag.ids.len() <= IDS_MAX));
    for tag in found.tags.iter().filter(|tag| tag.tag.ends_with("weekly")) {
        assert_eq!((tag.names_total, tag.ids_total), (90, 90));
    }
}

proptest! {
    /// Whatever is learnt, renamed, forgotten for want of room and laid out anew: what is told is what one finds
    /// who looks at all names known together, and nothing is kept of names that are gone.
    #[test]
    fn what_is_told_is_what_a_look_at_all_names_finds(
        names_max in 2usize..40,
        usual in 0u8..3,
        flushes in prop::collection::vec(
            (0u8..12, prop::collection::vec((0u32..2, 0u8..24, 0usize..6), 0..12)), 1..25),
    ) {
        const NAMES: [&str; 6] = ["Weekly", "weekly", "Weekly!", "Welcome", "WELCOME", ""];
        let mut of = Flushes::new(names_max);
        let mut told = BTreeMap::new();
        for (mode, campaigns) in flushes {
            let ids: Vec<_> = campaigns.iter().map(|(_, id, _)| format!("g{}/c{}", id / 12, id % 12)).collect();
            let sends = campaigns.iter().zip(&ids);
            let sends: Vec<_> = sends.map(|((connection, _, name), id)| (*connection, &**id, NAMES[*name])).collect();
            let layout = match if mode < 3 { mode } else { usual } {
                0 => layout(NamesAre::AsSent, true),
                1 => layout(NamesAre::Latest, false),
                _ => layout(NamesAre::Latest, true),
            };
            if let Some(found) = of.flush_under(layout, &sends) {
                told = found;
            }
            let shown: BTreeMap<_, _> = told.iter().flat_map(|(connection, found)| {
                found.tags.iter().map(|tag| {
                    ((connection.0, tag.tag.clone()), {
                        assert_eq!(tag.names.len() as u64, tag.names_total);
                        (tag.names.iter().cloned().collect(), tag.ids_total)
                    })
                })
            }).collect();
            let expected = of.expected();
            prop_assert_eq!(&shown, &expected);
            let several = |connection: u32| {
                let of_it = expected.iter().filter(|((of, _), (names, _))| *of == connection && names.len() > 1);
                of_it.count() as u64
            };
            for (connection, found) in &told {
                prop_assert_eq!(found.tags_total, several(connection.0));
                prop_assert_eq!(found.shared_total, found.tags.len() as u64 - found.tags_total);
            }
            let tags: BTreeSet<_> = of.known.iter().map(|of| (of.connection, stored(of))).collect();
            let names: BTreeSet<_> = of.known.iter().map(|of| (of.connection, of.name.to_vec())).collect();
            let known_names: usize = of.collapse.tags.values().map(TagNames::len).sum();
            prop_assert_eq!((of.collapse.tags.len(), known_names), (tags.len(), names.len()));
        }
    }
}
