use std::sync::Arc;

use foldhash::fast::RandomState;

use super::*;
use braze_events::{FIELDS, Field, SendEvent};
use datadog_points::site::Site;
use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings};
use send_counts::route::ConnectionId;

fn shown(campaign: &str) -> String {
    let tags = TagSettings {
        include: vec![Tag::Field(Field::CampaignName)],
        static_tags: Vec::new(),
        names: Names::AsSent,
    };
    let settings = send_counts::testing::aggregate_settings(10);
    let mut cut = Aggregator::new(Arc::new(Layout::new(&tags)), &settings, RandomState::default());
    let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
    fields[Field::CampaignName as usize] = campaign.as_bytes();
    let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
    cut.record(ConnectionId(0), &event, "email", 10, 10);
    let connection = Connection {
        site: Site::parse("US1").unwrap().0,
        metric: "m".into(),
        ..Connection::named("acme".into())
    };
    preview(&cut, &[0], &connection)
}

#[test]
fn what_would_steer_a_terminal_is_masked_and_what_is_drawn_is_not() {
    for unseen in
        ['\u{1b}', '\u{7}', '\u{9b}', '\u{200b}', '\u{200e}', '\u{2028}', '\u{202e}', '\u{2066}', '\u{feff}']
    {
        let text = shown(&format!("a{unseen}b"));
        assert!(text.contains("campaign_name:a\u{fffd}b\n"), "{unseen:?}: {text:?}");
    }
    for seen in ["Ünïcode ✓", "名前", "עברית", "❤\u{fe0f}"] {
        let text = shown(seen);
        assert!(text.contains(&format!("campaign_name:{seen}\n")), "{text:?}");
    }
}
