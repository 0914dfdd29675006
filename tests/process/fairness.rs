//! One customer floods; the others' counts and the memory of their ids stay what they would be without him.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use crate::support::unix_now;

const OTHERS: u64 = 29;
/// Of each of the others.
const CAMPAIGNS: u64 = 20;
/// More than all ids, and all series, that there is room for.
const FLOOD: u64 = 20_000;

/// A send of connection `connection`.
fn send(connection: u64, campaign: u64, number: u64) -> Value {
    json!({
        "id": format!("{connection}/{campaign}/{number}"),
        "event_type": "users.messages.email.Send",
        "time": unix_now(),
        "properties": {
            "app_group_id": format!("group-{connection}"),
            "campaign_id": format!("campaign-{connection}-{campaign}"),
            "campaign_name": "Newsletter",
        },
    })
}

fn flood(round: u64) -> Vec<Value> {
    (0..FLOOD).map(|number| send(0, round * FLOOD + number, 0)).collect()
}

/// Two sends of each campaign of the others.
fn calm() -> Vec<Value> {
    let campaigns = (1..=OTHERS).flat_map(|other| (0..CAMPAIGNS).map(move |campaign| (other, campaign)));
    campaigns.flat_map(|(other, campaign)| (0..2).map(move |number| send(other, campaign, number))).collect()
}

#[tokio::test]
async fn a_flood_of_one_customer_changes_no_count_of_the_others_and_makes_none_of_their_repetitions_count() {
    let intake = Intake::start();
    let mut configuration = Configuration::new()
        .set("lanes", "2")
        .set("dedup.max_ids", "16_000")
        .set("flush.max_series", "8_000")
        .set("flush.max_series_total", "8_000")
        .connection("flooding", &intake.url(), "key-0", &["group-0"]);
    for other in 1..=OTHERS {
        let (name, key, group) = (format!("other_{other}"), format!("key-{other}"), format!("group-{other}"));
        configuration = configuration.connection(&name, &intake.url(), &key, &[&group]);
    }
    let forwarder = configuration.start().await;
    let push = async |events: Vec<Vec<Value>>| {
        let events: Vec<Value> = events.into_iter().flatten().collect();
        forwarder.push_accepted(json!({ "events": events }).to_string()).await;
        events.len() as u64
    };
    // A flood before theirs and behind it, in one flush; then all that they sent once more.
    let first = push(vec![flood(0), calm(), flood(1)]).await;
    forwarder.settled(first).await;
    let again = push(vec![calm(), flood(2)]).await;
    let books = forwarder.settled(first + again).await;
    assert!(books.balance());
    assert!(forwarder.metrics().await.sum("braze_datadog_dedup_ids_forgotten_total", &[]) > FLOOD);
    assert_eq!(books.duplicate, OTHERS * CAMPAIGNS * 2, "each of theirs once");

    for other in 1..=OTHERS {
        let mut campaigns: BTreeMap<String, u64> = BTreeMap::new();
        for (tags, sends) in intake.sums_of(&format!("key-{other}")) {
            let id = tags.iter().find_map(|tag| tag.strip_prefix("campaign_id:"));
            *campaigns.entry(id.expect("none overflowed").to_owned()).or_default() += sends;
        }
        let expected = (0..CAMPAIGNS).map(|campaign| (format!("campaign-{other}-{campaign}"), 2));
        assert_eq!(campaigns, expected.collect(), "other_{other}");
    }
    let flooding = intake.sums_of("key-0");
    assert!(flooding.keys().any(|tags| tags.contains(&"overflow:true".to_owned())));
    assert_eq!(flooding.values().sum::<u64>(), 3 * FLOOD, "no send is lost");
    assert_eq!(intake.violations(), Vec::<String>::new());
    assert!(forwarder.stop().await.success());
}
