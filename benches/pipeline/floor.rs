//! The least that could be done with a library: each line into a struct by `serde_json`, the tags of a send
//! into one string, a count in a hash map. No windows, no books, no rules of decoding.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;

use serde::Deserialize;

use crate::measure::{Cost, Watch};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "event_type")]
    type_name: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    time: u64,
    #[serde(borrow)]
    properties: Properties<'a>,
}

/// Within an option, serde borrows only through a type of its own.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    app_group_id: Option<Text<'a>>,
    app_group_name: Option<Text<'a>>,
    campaign_id: Option<Text<'a>>,
    campaign_name: Option<Text<'a>>,
    canvas_id: Option<Text<'a>>,
    canvas_name: Option<Text<'a>>,
    canvas_step_id: Option<Text<'a>>,
    canvas_step_name: Option<Text<'a>>,
}

impl Properties<'_> {
    fn tags(&self) -> [&Option<Text<'_>>; 8] {
        [
            &self.app_group_id,
            &self.app_group_name,
            &self.campaign_id,
            &self.campaign_name,
            &self.canvas_id,
            &self.canvas_name,
            &self.canvas_step_id,
            &self.canvas_step_name,
        ]
    }
}

/// Counts the sends of NDJSON per set of tags.
pub(crate) fn count(lines: &[u8], sends: u64) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let mut counts: HashMap<String, u64> = HashMap::new();
    let (mut events, mut key) = (0, String::new());
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Event<'_> = serde_json::from_slice(line)?;
        events += 1;
        if !crate::stations::COUNTED.contains(&&*event.type_name) || event.id.is_empty() || event.time == 0 {
            continue;
        }
        key.clear();
        for tag in event.properties.tags() {
            key.push_str(tag.as_ref().map_or("", |text| &text.0));
            key.push('\n');
        }
        match counts.get_mut(&key) {
            Some(count) => *count += 1,
            None => drop(counts.insert(key.clone(), 1)),
        }
    }
    let cost = watch.cost(events)?;
    assert_eq!(counts.values().sum::<u64>(), sends, "every send is counted");
    Ok(cost)
}
