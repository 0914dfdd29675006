//! Names that become one tag value in Datadog: the running process tells of them, and of what tells them apart.

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::{self, KEY};
use serde_json::{Value, json};

/// One send of a campaign, or of a Canvas step where `kind` says so.
fn send(number: usize, kind: &str, id: &str, name: &str) -> Value {
    json!({
        "event_type": "users.messages.email.Send",
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "time": support::unix_now(),
        "properties": {
            "app_group_id": "group",
            format!("{kind}_id"): id,
            format!("{kind}_name"): name,
        },
    })
}

struct Sends {
    forwarder: Forwarder,
    pushed: usize,
}

impl Sends {
    async fn start(configuration: Configuration) -> Self {
        Self { forwarder: configuration.start().await, pushed: 0 }
    }

    /// Pushes a send of each and waits until they are flushed.
    async fn push(&mut self, kind: &str, sends: &[(&str, &str)]) {
        let events: Vec<_> =
            (self.pushed..).zip(sends).map(|(number, (id, name))| send(number, kind, id, name)).collect();
        self.pushed += sends.len();
        self.forwarder.push_accepted(json!({ "events": events }).to_string()).await;
        let books = self.forwarder.settled(self.pushed as u64).await;
        assert_eq!(books.accepted, self.pushed as u64, "{books:?}");
    }

    /// What `/status` says of the connection.
    async fn connection(&self) -> Value {
        let (_, text) = self.forwarder.admin("/status").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        status["connections"][0].clone()
    }

    /// Waits until so many tags stand for several names; what is told of them.
    async fn collapsing(&self, tags: u64) -> Value {
        support::eventually(&format!("{tags} collapsing tags"), async || {
            let connection = self.connection().await;
            (connection["names_collapsing"] == tags).then(|| connection["collapsing"].clone())
        })
        .await
    }

    async fn gauge(&self) -> u64 {
        self.forwarder.metrics().await.sum("braze_datadog_names_collapsing", &[("connection", "acme")])
    }

    fn warnings(&self) -> Vec<Value> {
        let log = self.forwarder.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "braze_datadog::pipeline::names").collect()
    }
}

fn configuration(intake: &Intake) -> Configuration {
    Configuration::new().connection("acme", &intake.url(), KEY, &[])
}

#[tokio::test]
async fn two_campaigns_that_become_one_value_are_told_in_status_metric_and_log() {
    let intake = Intake::start();
    let mut sends = Sends::start(configuration(&intake)).await;
    sends.push("campaign", &[("c1", "Weekly newsletter"), ("c2", "Welcome")]).await;
    assert_eq!((sends.collapsing(0).await, sends.gauge().await), (json!([]), 0));

    // In another flush, and under another lane as it may be.
    sends.push("campaign", &[("c3", "weekly_newsletter!")]).await;
    let tag = json!({
        "tag": "campaign_name:weekly_newsletter",
        "names": ["Weekly newsletter", "weekly_newsletter!"],
        "names_total": 2,
        "same_name": false,
        "ids": ["c1", "c3"],
        "ids_total": 2,
        "group_by": "campaign_id",
    });
    assert_eq!((sends.collapsing(1).await, sends.gauge().await), (json!([tag]), 1));
    let warned = async || Some(sends.warnings()).filter(|warnings| !warnings.is_empty());
    let warnings = support::eventually("it is logged", warned).await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((&warnings[0]["level"], &warnings[0]["connection"]), (&json!("WARN"), &json!("acme")));
    assert_eq!(warnings[0]["group_by"], "campaign_id");

    // Steps with the very same name are told apart from that.
    sends.push("canvas_step", &[("s1", "Email 1"), ("s2", "Email 1")]).await;
    let told = support::eventually("the steps are told", async || {
        let told = sends.collapsing(1).await;
        (told.as_array().unwrap().len() == 2).then_some(told)
    })
    .await;
    assert_eq!((&told[1]["same_name"], &told[1]["ids"]), (&json!(true), &json!(["s1", "s2"])));
    assert_eq!(told[1]["group_by"], "canvas_step_id");

    // Renamed in Braze, it is over, and nothing new is said in the log.
    sends.push("campaign", &[("c3", "Monthly newsletter")]).await;
    let told = sends.collapsing(0).await;
    assert_eq!((told.as_array().unwrap().len(), sends.gauge().await), (1, 0));
    assert_eq!(sends.warnings().len(), 1);
    assert_eq!(intake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_campaign_with_and_without_an_app_group_is_one() {
    let intake = Intake::start();
    let sends = Sends::start(configuration(&intake)).await;
    let with = send(0, "campaign", "c1", "Weekly newsletter");
    let mut without = send(1, "campaign", "c1", "Weekly newsletter");
    without["properties"].as_object_mut().unwrap().remove("app_group_id");
    let others = [("c2", "Sale"), ("c3", "Sale")];
    let others = (2..).zip(others).map(|(number, (id, name))| send(number, "campaign", id, name));
    let events: Vec<Value> = [with, without].into_iter().chain(others).collect();
    sends.forwarder.push_accepted(json!({ "events": events }).to_string()).await;
    sends.forwarder.settled(4).await;
    let connection = support::eventually("the names that are one are told", async || {
        let connection = sends.connection().await;
        (connection["names_shared"] == 1).then_some(connection)
    })
    .await;
    let told = connection["collapsing"].as_array().unwrap();
    assert_eq!((told.len(), &told[0]["names"]), (1, &json!(["Sale"])), "{told:?}");
}

#[tokio::test]
async fn names_as_sent_are_told_too_and_a_reload_looks_at_them_anew() {
    let intake = Intake::start();
    let latest = configuration(&intake);
    let as_sent = latest.clone().text("tags.names", "as_sent");
    let mut sends = Sends::start(as_sent).await;
    sends.push("campaign", &[("c1", "Weekly"), ("c1", "weekly"), ("c2", "WELCOME"), ("c3", "welcome")]).await;
    let told = sends.collapsing(1).await;
    assert_eq!(told[0]["names"], json!(["WELCOME", "welcome"]), "a campaign does not collapse with itself");

    latest.clone().set("tags.include", "[\"campaign_id\"]").write();
    sends.forwarder.signal("HUP");
    support::eventually("the configuration is read again", async || {
        sends.forwarder.stderr().contains("was read again").then_some(())
    })
    .await;
    sends.push("campaign", &[("c2", "WELCOME")]).await;
    assert_eq!(sends.collapsing(0).await, json!([]), "names are no tags any more");
}

#[tokio::test]
async fn many_warnings_are_few() {
    let intake = Intake::start();
    let mut sends = Sends::start(configuration(&intake)).await;
    let names: Vec<_> = (0..30).map(|number| (format!("Name {number}"), format!("name {number}"))).collect();
    for some in names.chunks(5) {
        let sent: Vec<_> = some.iter().flat_map(|(upper, lower)| [upper, lower]).collect();
        sends.push("campaign", &sent.iter().map(|name| (&***name, &***name)).collect::<Vec<_>>()).await;
    }
    let told = sends.collapsing(30).await;
    assert_eq!(told.as_array().unwrap().len(), 20, "the list is bounded");
    let warnings = sends.warnings().len();
    assert!((1..=5).contains(&warnings), "{warnings}");
}

#[tokio::test]
async fn names_of_a_connection_that_is_gone_ring_nobody() {
    let intake = Intake::start();
    let without = Configuration::new().connection("beta", &intake.url(), KEY, &["other"]);
    let mut sends = Sends::start(without.clone().connection("acme", &intake.url(), KEY, &["group"])).await;
    sends.push("campaign", &[("c1", "Weekly"), ("c2", "weekly")]).await;
    support::eventually("the names are told", async || (sends.gauge().await == 1).then_some(())).await;
    without.write();
    sends.forwarder.signal("HUP");
    support::eventually("nothing rings any more", async || (sends.gauge().await == 0).then_some(())).await;
}
