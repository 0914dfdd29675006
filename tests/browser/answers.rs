//! What the page makes of answers that a test makes up, or holds back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::{assert_clean, busy, campaign, sends, support};

/// Lets the page be told this by `/status`, whatever it asks.
async fn tell(browser: &Browser, told: &Value) {
    browser
        .run(&format!("window.told = {told}; window.fetch = async () => new Response(JSON.stringify(told))"))
        .await;
}

/// Types a search.
async fn type_search(browser: &Browser, query: &str) {
    let typed = format!(
        "const box = document.querySelector('#search'); box.value = {query:?}; box.dispatchEvent(new Event('input'))"
    );
    browser.run(&typed).await;
}

async fn status(forwarder: &Forwarder) -> Value {
    serde_json::from_str(&forwarder.admin("/status").await.1).unwrap()
}

async fn chart_words(browser: &Browser) -> String {
    browser.text("return document.querySelector('#chart svg')?.getAttribute('aria-label') ?? ''").await
}

/// A page that looks at a forwarder with one connection, and what its forwarder says.
async fn looked_at() -> (Intake, Forwarder, Browser, Value) {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#fresh", "live").await;
    browser.shows("#connection-rows", "acme").await;
    let told = status(&forwarder).await;
    (intake, forwarder, browser, told)
}

#[tokio::test]
async fn beside_a_dry_run_nothing_that_was_printed_is_said_to_be_accepted() {
    let refusing = Intake::start();
    refusing.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    let forwarder = Configuration::new()
        .connection("acme", &refusing.url(), "key", &["one"])
        .connection("dry", "http://127.0.0.1:9", "key", &["two"])
        .set("connections.dry.dry_run", "true")
        .start()
        .await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    forwarder.push_accepted(sends("a", "one", 3, 0, &campaign("1", "Refused"))).await;
    forwarder.push_accepted(sends("b", "two", 600, 0, &campaign("2", "Printed"))).await;
    forwarder.settled(603).await;
    browser.shows("#accepted-legend", "printed (dry run)").await;
    browser.shows("#facts", "printed a second, not sent").await;
    support::eventually("the chart tells of it", async || {
        chart_words(&browser).await.contains("600 printed (dry run)").then_some(())
    })
    .await;
    let page = browser.seen("#main").await.to_lowercase();
    assert!(!page.contains("accepted by datadog"), "{page}");
    refusing.always(Behaviour::Accept);
    forwarder.push_accepted(sends("c", "one", 5, 0, &campaign("1", "Sent"))).await;
    forwarder.settled(608).await;
    browser.shows("#accepted-legend", "accepted or printed").await;
    browser.shows("#facts", "accepted or printed a second").await;
    assert_clean(&browser, &forwarder).await;
}

/// What the connections are now says nothing of what became of the sends before.
#[tokio::test]
async fn when_a_dry_run_begins_or_ends_sends_are_called_by_what_became_of_them() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    for (is_dry, printed, chart, row) in [
        (true, 0, "5 accepted,", "accepted"),
        (true, 2, "5 accepted or printed,", "2 of them printed, not sent"),
        (false, 2, "5 accepted or printed,", "2 of them printed, not sent"),
        (false, 5, "5 printed (dry run),", "printed, not sent"),
    ] {
        told["connections_dry_run"] = json!(u64::from(is_dry));
        told["connections"][0]["dry_run"] = json!(is_dry);
        for sends in ["/connections/0", "/books", "/rates/last_minute"] {
            let sends = told.pointer_mut(sends).unwrap();
            (sends["accepted"], sends["printed"]) = (json!(5), json!(printed));
        }
        for (name, sends) in [("accepted", 5), ("printed", printed)] {
            told["rates"][name].as_array_mut().unwrap()[300] = json!(sends);
        }
        told["uptime_seconds"] = json!(7_200);
        tell(&browser, &told).await;
        support::eventually(chart, async || chart_words(&browser).await.contains(chart).then_some(())).await;
        let seen = browser.seen("#main").await.to_lowercase();
        assert!(seen.contains(row), "{row} is not in {seen}");
        assert_eq!(seen.contains("accepted by datadog"), printed == 0, "{printed}: {seen}");
        assert_eq!(seen.contains("printed a second, not sent"), printed == 5, "{printed}: {seen}");
        assert_eq!(seen.contains("accepted or printed"), printed == 2, "{printed}: {seen}");
    }
}

/// A dry run that has ended since, or one of another connection, changes nothing of it.
#[tokio::test]
async fn what_is_beside_brazes_number_is_called_by_what_it_is() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    let workspace = |connection: &str, printed: u64| {
        json!({"connection": connection, "state": "quiet", "words": "…", "compared": {
            "at": told["now"], "from": "2026-11-01", "to": "2026-11-07", "time_zone": "UTC", "braze": 9, "counted": 9,
            "accepted": 9, "printed": printed, "difference": 0,
        }})
    };
    let differing = json!({"kind": "campaign", "id": "1", "name": "Printed", "braze": 10, "accepted": 9, "printed": 9,
        "difference": -1, "explanation": []});
    told["reconcile"] = json!({
        "tolerance_percent": 1.0, "workspaces_total": 3, "differing_total": 1, "not_compared_total": 0, "not_compared": [],
        "workspaces": [workspace("sent", 0), workspace("printed", 9), workspace("both", 4)], "differing": [differing],
    });
    tell(&browser, &told).await;
    let said = browser.shows("#workspaces", "Braze 9, accepted or printed 9").await;
    for words in ["Braze 9, accepted by Datadog 9", "Braze 9, printed (dry run) 9"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(browser.seen("#differing-accepted").await.to_lowercase(), "printed");
}

#[tokio::test]
async fn what_is_not_remembered_is_not_said_to_be_unsent() {
    let (_intake, forwarder, browser, _) = looked_at().await;
    type_search(&browser, "weekly").await;
    browser.shows("#search-said", "No series is remembered since ").await;
    // What is dropped as late has no series.
    forwarder.push_accepted(sends("a", "emea", 2, 0, &campaign("1", "Daily"))).await;
    forwarder.push_accepted(sends("b", "emea", 40, 3 * 3600, &campaign("2", "Weekly"))).await;
    forwarder.settled(42).await;
    let said = browser.shows("#search-said", "None of the 1 series remembered since ").await;
    assert!(said.contains("too old") && !said.contains("Nothing sent"), "{said}");
    assert_clean(&browser, &forwarder).await;
}

#[tokio::test]
async fn a_filter_that_is_in_force_can_be_seen_and_taken_back() {
    let (_intake, forwarder) = busy().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#connection-rows", "403").await;
    let filter = |value: &str| {
        format!(
            "const box = document.querySelector('#filter'); box.value = '{value}'; box.dispatchEvent(new Event('input'))"
        )
    };
    browser.run(&filter("market_8")).await;
    browser.shows("#connections-said", "1 shown").await;
    let mut told = status(&forwarder).await;
    told["connections"].as_array_mut().unwrap().truncate(3);
    told["connections_total"] = json!(3);
    tell(&browser, &told).await;
    browser.shows("#connections-said", "3 connections").await;
    let is_shown = "return document.querySelector('#filter-box').checkVisibility()";
    assert_eq!(browser.run(is_shown).await, true);
    browser.run(&filter("")).await;
    assert_eq!(browser.run("return document.querySelectorAll('#connection-rows tr').length").await, 3);
    assert_eq!(browser.run(is_shown).await, false);
}

#[tokio::test]
async fn a_result_stands_under_its_own_query_and_holds_nothing_up() {
    let (intake, forwarder, browser, _) = looked_at().await;
    forwarder.push_accepted(sends("a", "emea", 9, 0, &campaign("1", "Weekly"))).await;
    intake.wait_for_sends(9).await;
    type_search(&browser, "weekly").await;
    browser.shows("#results", "reaches Datadog").await;
    browser.shows("#past", "all accepted by Datadog").await;
    let instead = |answer: &str| {
        format!(
            "window.real ??= window.fetch; window.asked = 0; window.fetch = (url, options) => {{ \
               if (/search\\?/.test(String(url))) return {answer}; window.asked += 1; return window.real(url, options); }}"
        )
    };
    browser.run(&instead("Promise.resolve(new Response('busy', { status: 503 }))")).await;
    type_search(&browser, "monthly").await;
    browser.shows("#search-said", "The search had no answer; it is tried again.").await;
    let results =
        "return document.querySelector('#results').innerText + document.querySelector('#past').innerText";
    assert_eq!(browser.text(results).await, "");
    assert_eq!(browser.seen("#past-said").await, "");

    browser.run("window.fetch = window.real").await;
    type_search(&browser, "weekly").await;
    browser.shows("#results", "reaches Datadog").await;
    browser.run(&instead("new Promise(() => {})")).await;
    type_search(&browser, "daily").await;
    browser.shows("#search-said", "Searching …").await;
    assert_eq!(browser.text(results).await, "");
    support::eventually("the status is asked for all the same", async || {
        (browser.run("return window.asked").await.as_u64() >= Some(3)).then_some(())
    })
    .await;
    assert_eq!(browser.seen("#fresh").await, "live");
}

#[tokio::test]
async fn what_is_not_answered_for_long_is_not_called_live() {
    let (_intake, _forwarder, browser, _) = looked_at().await;
    browser.run("window.fetch = () => new Promise(() => {})").await;
    browser.shows("#fresh", "no answer for ").await;
}

#[tokio::test]
async fn of_the_time_before_the_start_nothing_is_told() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    (told["uptime_seconds"], told["busiest"]) = (json!(606), json!({"campaigns": [], "steps": []}));
    tell(&browser, &told).await;
    browser.shows("#campaigns-said", "No campaign has sent since the start 10 minutes ago.").await;
    browser.shows("#steps-said", "No Canvas step has sent since the start 10 minutes ago.").await;
    let words = chart_words(&browser).await;
    assert!(words.contains("since the start 10 minutes ago") && !words.contains("hour"), "{words}");
    // A line of ten minutes.
    let points = "return document.querySelector('#chart .line.counted').getAttribute('d').split('L').length";
    assert_eq!(browser.run(points).await, 60);
    told["uptime_seconds"] = json!(7_200);
    tell(&browser, &told).await;
    browser.shows("#campaigns-said", "No campaign has sent in the last hour.").await;
    assert!(chart_words(&browser).await.contains("In that hour 0 were counted"));
}

#[tokio::test]
async fn the_most_that_was_counted_is_told_as_it_was() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    told["uptime_seconds"] = json!(7_200);
    for slot in [300, 358] {
        let mut counted = vec![0; 360];
        counted[slot] = 9_000;
        (told["rates"]["counted"], told["rates"]["accepted"]) = (json!(counted), json!(counted));
        tell(&browser, &told).await;
        let words = support::eventually("the chart tells of it", async || {
            Some(chart_words(&browser).await).filter(|words| words.contains("9,000 were counted"))
        })
        .await;
        assert!(words.contains("at most 900 counted"), "{words}");
    }
}

#[tokio::test]
async fn a_rate_that_changes_is_read_to_nobody_and_a_change_of_state_is() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    let observe = "window.spoken = []; for (const one of document.querySelectorAll('[role=status], [aria-live]')) \
                   new MutationObserver(() => window.spoken.push(one.textContent)) \
                     .observe(one, { childList: true, characterData: true, subtree: true })";
    browser.run(observe).await;
    let spoken = async || browser.run("return window.spoken").await;
    for rate in ["410 a second", "411 a second", "412 a second"] {
        told["headline"] = json!({"state": "flowing", "words": format!("Sends flow: {rate}"), "others": 0});
        tell(&browser, &told).await;
        browser.shows("#headline", rate).await;
    }
    assert_eq!(spoken().await, json!(["Sends flow: 410 a second"]));
    let words = "Sends of acme are being dropped: HTTP 403 (API key refused)";
    told["headline"] =
        json!({"state": "trouble", "words": words, "cause": "http_403", "connection": "acme", "others": 0});
    tell(&browser, &told).await;
    browser.shows("#headline", words).await;
    assert_eq!(spoken().await, json!(["Sends flow: 410 a second", words]));
    browser.run("window.fetch = async () => { throw new TypeError('gone') }").await;
    browser.shows("#headline", "The forwarder does not answer").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(spoken().await[2], "The forwarder does not answer");
}

#[tokio::test]
async fn why_a_configuration_was_refused_is_told_and_no_outcome_that_is_well_stands_below_trouble() {
    let (_intake, _forwarder, browser, mut told) = looked_at().await;
    let reason =
        "conns/Bad Name.toml: connections.<i>Bad Name</i>: a name is lower-case letters, digits and _";
    let mut misnamed = told["connections"][0].clone();
    (misnamed["name"], misnamed["state"]) = (json!("_misnamed"), json!("trouble"));
    misnamed["words"] = json!("left out: its configuration is wrong");
    (misnamed["refused"], misnamed["last_outcome"]) = (json!(reason), Value::Null);
    let acme = &mut told["connections"][0];
    (acme["state"], acme["words"]) =
        (json!("trouble"), json!("6 sends were dropped lately: too far in the future for Datadog"));
    acme["last_outcome"] = json!({"outcome": "accepted", "dropped": null, "at": 1, "seconds_ago": 2});
    told["connections"].as_array_mut().unwrap().push(misnamed);
    told["connections_total"] = json!(2);
    told["last_reload"]["refused_because"] = json!("flush.interval: \"10\" is no duration");
    told["last_reload"]["push_files_refused_because"] = json!("tls.key: is not the certificate's");
    told["history"] = json!({"trouble": "its file is used by another process", "objects": 0});
    let busy = json!({"connection": "acme", "id": "8a3f", "name": "   ", "canvas": " ", "sends": 3, "minutes": vec![1; 60]});
    told["busiest"]["campaigns"] = json!([busy]);
    tell(&browser, &told).await;
    let rows = browser.shows("#connection-rows", reason).await;
    assert!(!rows.lines().any(|line| line.trim() == "accepted"), "{rows}");
    let hero = browser.seen("#hero").await;
    for told in [
        "The configuration was refused: flush.interval: \"10\" is no duration",
        "Files of the push port were refused: tls.key: is not the certificate's",
        "The history of sends is not kept: its file is used by another process",
    ] {
        assert!(hero.contains(told), "{told} is not in {hero}");
    }
    assert_eq!(browser.seen("#campaigns th bdi").await, "8a3f");
    told["connections"][0]["last_outcome"] =
        json!({"outcome": "http_403: 403 Forbidden", "dropped": "http_403", "at": 1, "seconds_ago": 2});
    tell(&browser, &told).await;
    browser.shows("#connection-rows", "http_403: 403 Forbidden").await;
}
