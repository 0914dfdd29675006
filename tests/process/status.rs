//! What `/status` and `/search` tell people: of dry runs, of what is wrong, and of many connections.

use serde_json::{Value, json};

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{self, KEY};

/// A push of so many sends of one campaign.
fn sends(mark: &str, app_group: &str, count: usize) -> String {
    let event = |number| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("{mark}-{number}"),
            "time": support::unix_now(),
            "properties": {"app_group_id": app_group, "campaign_id": mark, "campaign_name": "Weekly newsletter"},
        })
    };
    json!({ "events": (0..count).map(event).collect::<Vec<_>>() }).to_string()
}

async fn ask(forwarder: &Forwarder, path: &str) -> Value {
    let (status, text) = forwarder.admin(path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Waits until the headline is in trouble, and returns the status that says so.
async fn trouble(forwarder: &Forwarder) -> Value {
    support::eventually("the headline is in trouble", async || {
        let status = ask(forwarder, "/status").await;
        (status["headline"]["state"] == "trouble").then_some(status)
    })
    .await
}

#[tokio::test]
async fn of_a_dry_run_it_is_never_said_that_it_reaches_datadog() {
    let intake = Intake::start();
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .set("connections.acme.dry_run", "true")
        .start()
        .await;
    forwarder.push_accepted(sends("c1", "one", 70)).await;
    let books = forwarder.settled(70).await;
    assert_eq!(books.accepted, 70, "the books are those of a real run");
    let headline = support::eventually("the minute is told", async || {
        let status = ask(&forwarder, "/status").await;
        (status["rates"]["last_minute"]["counted"] == 70).then_some(status["headline"].clone())
    })
    .await;
    assert_eq!(headline["state"], "quiet");
    assert!(headline["words"].as_str().unwrap().starts_with("Dry run: sends are printed, none is sent ("));
    let status = ask(&forwarder, "/status").await;
    let connection = &status["connections"][0];
    assert!(connection["words"].as_str().unwrap().starts_with("dry run: printed "), "{connection}");
    assert_eq!(connection["last_outcome"]["outcome"], "printed, not sent (dry run)");
    let found = ask(&forwarder, "/search?q=weekly").await;
    let result = &found["results"][0];
    assert_eq!((&result["state"], &result["words"]), (&json!("quiet"), &json!("dry run: printed, not sent")));
    assert_eq!(result["accepted_at"], Value::Null);
    assert!(forwarder.stop().await.success());
    assert_eq!(intake.requests().len(), 0);
}

/// Those of the sums that `/status` tells of accepted sends: all of them, and those that were printed.
fn accepted_and_printed(status: &Value) -> Vec<(u64, u64)> {
    let of = |sends: &Value| (sends["accepted"].as_u64().unwrap(), sends["printed"].as_u64().unwrap());
    let hour = |name: &str| -> u64 {
        status["rates"][name].as_array().unwrap().iter().map(|slot| slot.as_u64().unwrap()).sum()
    };
    let books = &status["books"];
    let sums =
        [&status["connections"][0], books, &books["connections"]["acme"], &status["rates"]["last_minute"]];
    sums.into_iter().map(of).chain([(hour("accepted"), hour("printed"))]).collect()
}

#[tokio::test]
async fn when_a_dry_run_begins_or_ends_what_was_printed_and_what_was_sent_stay_apart() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let forwarder = configuration.start().await;
    forwarder.push_accepted(sends("c1", "one", 3)).await;
    forwarder.settled(3).await;
    for is_dry in [true, false] {
        configuration.clone().set("connections.acme.dry_run", &is_dry.to_string()).write();
        forwarder.signal("HUP");
        support::eventually("it is in force", async || {
            let status = ask(&forwarder, "/status").await;
            (status["connections"][0]["dry_run"] == is_dry).then_some(())
        })
        .await;
        if is_dry {
            forwarder.push_accepted(sends("c2", "one", 2)).await;
            forwarder.settled(5).await;
        }
        support::eventually("two of five were printed", async || {
            let told = accepted_and_printed(&ask(&forwarder, "/status").await);
            (told == vec![(5, 2); 5]).then_some(())
        })
        .await;
    }
    assert_eq!(ask(&forwarder, "/status").await["connections_dry_run"], 0);
    assert!(forwarder.stop().await.success());
    assert_eq!(intake.sends(), 3);
}

#[tokio::test]
async fn a_mended_connection_is_not_told_as_in_trouble() {
    let intake = Intake::start();
    intake.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let forwarder = configuration.start().await;
    forwarder.push_accepted(sends("c1", "one", 7)).await;
    forwarder.settled(7).await;
    let one = ask(&forwarder, "/status").await["connections"][0].clone();
    let words = one["words"].as_str().unwrap();
    assert!(words.starts_with("403: this key is not valid on ") && words.ends_with(" s ago)"), "{words}");

    intake.always(Behaviour::Accept);
    let configuration = configuration.connection("acme", &intake.url(), "another-key", &[]);
    configuration.write();
    forwarder.signal("HUP");
    let status = support::eventually("the key is another one", async || {
        let status = ask(&forwarder, "/status").await;
        (status["connections_in_trouble"] == 0).then_some(status)
    })
    .await;
    let one = &status["connections"][0];
    let words = one["words"].as_str().unwrap();
    assert_eq!(one["state"], "quiet", "{words}");
    assert!(words.starts_with("nothing was sent since its key or URL was changed"), "{words}");
    forwarder.push_accepted(sends("c2", "one", 7)).await;
    forwarder.settled(14).await;
    // What `/status` says may be a quarter of a second old.
    support::eventually("it is accepted", async || {
        let words = ask(&forwarder, "/status").await["connections"][0]["words"].clone();
        words.as_str().unwrap().starts_with("accepted ").then_some(())
    })
    .await;

    // A request that was under way says nothing about the next key either.
    intake.always(Behaviour::Hang);
    let before = intake.requests().len();
    forwarder.push_accepted(sends("c3", "one", 7)).await;
    support::eventually("it hangs", async || (intake.requests().len() > before).then_some(())).await;
    configuration.connection("acme", &intake.url(), "a-third-key", &[]).write();
    forwarder.signal("HUP");
    forwarder.settled(21).await;
    let one = ask(&forwarder, "/status").await["connections"][0].clone();
    let words = one["words"].as_str().unwrap();
    assert_eq!(
        (&one["state"], &one["dropped_by_reason"]["timeout"]),
        (&json!("quiet"), &json!(7)),
        "{words}"
    );
    assert!(words.starts_with("nothing was sent since its key or URL was changed"), "{words}");
}

/// What a search says of the series of one campaign.
async fn verdict(forwarder: &Forwarder, campaign: &str) -> (String, String) {
    let found = ask(forwarder, &format!("/search?q=campaign_id:{campaign}")).await;
    let text = |key: &str| found["results"][0][key].as_str().unwrap().to_owned();
    (text("state"), text("words"))
}

#[tokio::test]
async fn what_a_search_says_of_an_outcome_is_said_of_the_connection_that_had_it() {
    let (good, bad) = (Intake::start(), Intake::start());
    bad.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    let of = |all: Configuration, name: &str, intake: &Intake, is_dry: bool| {
        let dry_run = format!("connections.{name}.dry_run");
        all.connection(name, &intake.url(), KEY, &[name]).set(&dry_run, &is_dry.to_string())
    };
    let gone = of(Configuration::new(), "gone", &bad, false);
    let rest = |all, moved: &Intake, was_dry: bool| {
        let all = of(of(all, "moved", moved, false), "ended", &good, was_dry);
        of(of(all, "begun", &bad, !was_dry), "real", &good, !was_dry)
    };
    let forwarder = rest(gone.clone(), &bad, true).start().await;
    for name in ["moved", "gone", "ended", "begun", "real"] {
        forwarder.push_accepted(sends(name, name, 3)).await;
    }
    forwarder.settled(15).await;
    let (state, words) = verdict(&forwarder, "gone").await;
    assert!(state == "trouble" && words.starts_with("does not reach Datadog: 403: "), "{words}");
    assert_eq!(verdict(&forwarder, "ended").await, ("quiet".into(), "dry run: printed, not sent".into()));

    let keys = ["url", "api_key", "app_group_ids", "allow_plain_http", "dry_run"];
    let without = keys.iter().fold(gone, |all, key| all.without(&format!("connections.gone.{key}")));
    rest(without, &good, false).write();
    forwarder.signal("HUP");
    for (name, said) in [
        ("moved", "nothing was sent since its key or URL was changed; sends before that were dropped "),
        ("gone", "its connection has been removed; sends before that were dropped "),
        ("ended", "nothing was sent since the dry run, which printed "),
        ("begun", "dry run since the last send, dropped "),
        ("real", "dry run since the last send, accepted "),
    ] {
        support::eventually(&format!("{name}: {said}"), async || {
            let (state, words) = verdict(&forwarder, name).await;
            (state == "quiet" && words.starts_with(said)).then_some(())
        })
        .await;
    }
    // What is sent since is told as ever.
    forwarder.push_accepted(sends("moved", "moved", 4)).await;
    support::eventually("it is accepted", async || {
        verdict(&forwarder, "moved").await.1.starts_with("reaches Datadog: accepted ").then_some(())
    })
    .await;
}

/// Of sends that come too late there is no request, and no outcome of one.
#[tokio::test]
async fn a_connection_all_of_whose_sends_are_late_is_in_trouble() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), KEY, &[]).start().await;
    forwarder.push_accepted(sends("c1", "one", 5)).await;
    forwarder.settled(5).await;
    let old = support::unix_now() - 7_200;
    let late = json!({ "events": [{
        "event_type": "users.messages.email.Send",
        "id": "00000000-0000-4000-8000-00000000late",
        "time": old,
        "properties": { "app_group_id": "one", "campaign_id": "c1" },
    }] });
    forwarder.push_accepted(late.to_string()).await;
    forwarder.settled(6).await;
    let headline = "Sends of acme are being dropped: too old for Datadog, which takes the last hour";
    let status = support::eventually("the headline tells of it", async || {
        let status = ask(&forwarder, "/status").await;
        (status["headline"]["words"] == headline).then_some(status)
    })
    .await;
    let one = &status["connections"][0];
    assert_eq!((&one["state"], &status["connections_in_trouble"]), (&json!("trouble"), &json!(1)));
    assert_eq!(one["words"], "1 send was dropped lately: too old for Datadog, which takes the last hour");
}

#[tokio::test]
async fn the_headline_names_the_gravest_cause_and_whom_it_hits() {
    let (good, refusing, failing) = (Intake::start(), Intake::start(), Intake::start());
    refusing.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    failing.always(Behaviour::Status(500, "oops"));
    let forwarder = Configuration::new()
        .connection("good", &good.url(), KEY, &["one"])
        .connection("acme", &refusing.url(), KEY, &["two"])
        .connection("busy", &failing.url(), KEY, &["three"])
        .start()
        .await;
    // The most is dropped by what is less grave.
    for (mark, group, count) in [("c1", "one", 5), ("c2", "two", 5), ("c3", "three", 90)] {
        forwarder.push_accepted(sends(mark, group, count)).await;
    }
    forwarder.settled(100).await;
    let status = support::eventually("both causes are told", async || {
        // That a key is refused is known before the second's drops are.
        let status = trouble(&forwarder).await;
        let headline = &status["headline"];
        (headline["cause"] == "http_403" && headline["others"] == 1).then_some(status)
    })
    .await;
    let headline = &status["headline"];
    let words = "Sends of acme are being dropped: HTTP 403 (API key refused); and one more problem";
    assert_eq!((&headline["words"], &headline["connection"]), (&json!(words), &json!("acme")));
    assert_eq!((&status["connections_total"], &status["connections_in_trouble"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn of_300_connections_those_that_need_a_look_are_listed_unless_all_are_asked_for() {
    const CONNECTIONS: usize = 300;
    let intake = Intake::start();
    intake.revoke("void");
    let mut configuration = Configuration::new();
    for number in 0..CONNECTIONS {
        let key = if number == 277 { "void" } else { KEY };
        let (name, group) = (format!("customer_{number:03}"), format!("group-{number}"));
        configuration = configuration.connection(&name, &intake.url(), key, &[&group]);
    }
    let forwarder = configuration.start().await;
    forwarder.push_accepted(sends("void", "group-277", 3)).await;
    forwarder.push_accepted(sends("busy", "group-123", 40)).await;
    forwarder.push_accepted(sends("lost", "nobody", 2)).await;
    forwarder.settled(45).await;
    let status = support::eventually("the key is void", async || {
        let status = ask(&forwarder, "/status").await;
        (status["connections_in_trouble"] == 1).then_some(status)
    })
    .await;
    let names = |status: &Value| -> Vec<String> {
        let all = status["connections"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = names(&status);
    assert_eq!((listed.len(), &*listed[0], &*listed[1]), (50, "customer_277", "customer_123"));
    assert_eq!(status["connections_total"], CONNECTIONS);
    assert_eq!(status["books"]["connections"]["_unrouted"]["dropped"], 2);
    assert_eq!(status["books"]["connections"].as_object().unwrap().len(), 51);
    assert_eq!((&status["books"]["counted"], &status["books"]["dropped"]), (&json!(45), &json!(5)));

    let all = ask(&forwarder, "/status?connections=all").await;
    assert_eq!((names(&all).len(), &*names(&all)[0]), (CONNECTIONS, "customer_000"));
    assert_eq!(all["books"]["connections"].as_object().unwrap().len(), CONNECTIONS + 1);
    let (status, text) = forwarder.admin("/status?connections=none").await;
    assert_eq!((status, &*text), (400, "connections can be all, or left out\n"));
    let (short, whole) =
        (forwarder.admin("/status").await.1.len(), forwarder.admin("/status?connections=all").await.1.len());
    assert!(short < 110_000 && whole > 200_000, "{short} and {whole} bytes");
}
