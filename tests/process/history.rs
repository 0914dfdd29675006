//! What was sent on which day, over restarts, kills and trouble with the file.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{self, KEY};

fn events(start: usize, sends: usize, campaign: &str, name: &str) -> String {
    let event = |number: usize| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("00000000-0000-4000-8000-{number:012}"),
            "time": support::unix_now(),
            "properties": { "app_group_id": "group", "campaign_id": campaign, "campaign_name": name },
        })
    };
    json!({ "events": (start..start + sends).map(event).collect::<Vec<_>>() }).to_string()
}

/// Id, name and the sums of all days: counted, accepted, dropped.
type Told = Vec<(String, String, u64, u64, u64)>;

async fn history(forwarder: &Forwarder, query: &str) -> Value {
    let (status, text) = forwarder.admin(&format!("/history{query}")).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn told(forwarder: &Forwarder) -> Told {
    let answer = history(forwarder, "").await;
    let object = |object: &Value| {
        let text = |key: &str| object[key].as_str().unwrap().to_owned();
        let days = object["days"].as_array().unwrap();
        let sum = |key: &str| days.iter().map(|day| day[key].as_u64().unwrap()).sum();
        let dropped = days.iter().flat_map(|day| day["dropped"].as_object().unwrap().values());
        let dropped = dropped.map(|sends| sends.as_u64().unwrap()).sum();
        (text("id"), text("name"), sum("counted"), sum("accepted"), dropped)
    };
    answer["objects"].as_array().unwrap().iter().map(object).collect()
}

async fn wait_for(forwarder: &Forwarder, expected: Told) {
    support::eventually(&format!("the history tells {expected:?}"), async || {
        let (status, _) = forwarder.admin("/history").await;
        (status == 200 && told(forwarder).await == expected).then_some(())
    })
    .await;
}

fn row(id: &str, name: &str, counted: u64, accepted: u64, dropped: u64) -> (String, String, u64, u64, u64) {
    (id.to_owned(), name.to_owned(), counted, accepted, dropped)
}

/// A stop writes what is there, and a kill at any moment leaves what was written before.
#[tokio::test]
async fn what_was_sent_is_known_after_a_stop_and_after_a_kill() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let forwarder = configuration.start().await;
    forwarder.push_accepted(events(0, 5, "8a3f", "Weekly newsletter")).await;
    forwarder.settled(5).await;
    intake.next([Behaviour::Status(403, "{}")]);
    forwarder.push_accepted(events(5, 2, "8a3f", "Weekly newsletter")).await;
    forwarder.settled(7).await;
    assert_eq!(forwarder.stop().await.code(), Some(0));

    let forwarder = configuration.start().await;
    wait_for(&forwarder, vec![row("8a3f", "Weekly newsletter", 7, 5, 2)]).await;
    forwarder.push_accepted(events(7, 3, "9b40", "Digest")).await;
    let expected = vec![row("8a3f", "Weekly newsletter", 7, 5, 2), row("9b40", "Digest", 3, 3, 0)];
    wait_for(&forwarder, expected.clone()).await;
    forwarder.crash().await;

    let forwarder = configuration.start().await;
    wait_for(&forwarder, expected).await;
    // What was sent before this start is found all the same.
    let (_, text) = forwarder.admin("/search?q=newsletter&time_zone=Europe/Paris").await;
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["matches"], found["objects"].as_array().unwrap().len()), (&json!(0), 1));
    let object = &found["objects"][0];
    assert_eq!(
        (object["name"].as_str(), object["state"].as_str()),
        (Some("Weekly newsletter"), Some("trouble"))
    );
    let words = object["words"].as_str().unwrap();
    assert!(words.contains("7 sends that day, 5 accepted by Datadog, 2 dropped (http_403 2)"), "{words}");
    assert_eq!(forwarder.admin("/history?from=soon").await.0, 400);
    assert_eq!(history(&forwarder, "?id=9b40").await["objects"][0]["days"][0]["counted"], 3);
    assert_eq!(forwarder.metrics().await.sum("braze_datadog_history_kept", &[]), 1);
    forwarder.stop().await;
}

/// Kills under load: each time the file opens, and tells not less than before.
#[tokio::test]
async fn kill_9_under_load_leaves_a_history_that_only_grows() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let (mut sent, mut known) = (0, 0);
    for round in 0..4 {
        let forwarder = configuration.start().await;
        support::eventually("the history is open", async || {
            (forwarder.admin("/history").await.0 == 200).then_some(())
        })
        .await;
        let counted: u64 = told(&forwarder).await.iter().map(|one| one.2).sum();
        assert!(counted >= known, "{counted} of {known} are left in round {round}");
        // It is written every five seconds.
        for _ in 0..120 + 7 * round {
            forwarder.push_accepted(events(sent, 50, &format!("c{}", sent % 7), "Campaign")).await;
            sent += 50;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        known = told(&forwarder).await.iter().map(|one| one.2).sum();
        assert!(!forwarder.log().contains("damaged"), "{}", forwarder.log());
        forwarder.crash().await;
    }
    assert!(known > 0);
}

#[tokio::test]
async fn damage_is_told_set_aside_and_stops_nothing() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let directory = configuration.home().join("history");
    fs::create_dir(&directory).unwrap();
    let damaged = vec![7; 50_000];
    fs::write(directory.join("sends-v1.redb"), &damaged).unwrap();
    let forwarder = configuration.start().await;
    forwarder.push_accepted(events(0, 5, "8a3f", "Weekly newsletter")).await;
    wait_for(&forwarder, vec![row("8a3f", "Weekly newsletter", 5, 5, 0)]).await;
    let log = forwarder.says("the history of sends is damaged").await;
    assert!(log.contains("sends-v1.redb.damaged"), "{log}");
    assert_eq!(fs::read(directory.join("sends-v1.redb.damaged")).unwrap(), damaged);
    assert_eq!(forwarder.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_history_counts_without_it() {
    let intake = Intake::start();
    let first = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let directory = first.home().join("history");
    let second = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .text("history.directory", directory.to_str().unwrap());
    let first = first.start().await;
    support::eventually("the history is open", async || {
        (first.admin("/history").await.0 == 200).then_some(())
    })
    .await;
    let second = second.start().await;
    second.push_accepted(events(0, 5, "8a3f", "Weekly newsletter")).await;
    second.settled(5).await;
    assert_eq!(second.books_balance().await.accepted, 5);
    support::eventually("the history is refused", async || {
        let (status, words) = second.admin("/history").await;
        assert_eq!(status, 503, "{words}");
        words.contains("another process keeps its history there").then_some(())
    })
    .await;
    assert_eq!(second.metrics().await.sum("braze_datadog_history_kept", &[]), 0);
    second.says("the history of sends can't be kept").await;
    assert_eq!((first.stop().await.code(), second.stop().await.code()), (Some(0), Some(0)));
}

#[tokio::test]
async fn without_a_directory_there_is_no_history() {
    let intake = Intake::start();
    let configuration =
        Configuration::new().connection("acme", &intake.url(), KEY, &[]).text("history.directory", "");
    let forwarder = configuration.start().await;
    let (status, words) = forwarder.admin("/history").await;
    assert_eq!((status, words.as_str()), (404, "no history of sends is kept: history.directory is empty\n"));
    let (_, text) = forwarder.admin("/status").await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["history"], Value::Null);
    assert!(!configuration.home().join("history").exists());
    forwarder.stop().await;
}
