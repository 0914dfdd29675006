//! Whether keys are valid: `check --online`, and what the running process finds out beside its work. Datadog's sites
//! are stand-ins behind an HTTPS proxy, so that names, TLS and the proxy are as they are in earnest.

mod tunnel;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Finished, Forwarder};
use crate::support::intake::Intake;
use crate::support::{self, KEY};
use serde_json::Value;
use tunnel::Tunnel;

const INVALID: i32 = 78;
const UNKNOWN: i32 = 1;

/// Some of Datadog's sites; the others can't be reached.
struct World {
    sites: BTreeMap<&'static str, Intake>,
    tunnel: Tunnel,
}

impl World {
    async fn of(sites: &[(&'static str, &str)]) -> Self {
        Self::slow(sites, Duration::ZERO).await
    }

    async fn slow(sites: &[(&'static str, &str)], delay: Duration) -> Self {
        let host = |parameter: &str| format!("api.{parameter}");
        let started = sites.iter().map(|(name, parameter)| (*name, Intake::start_tls_for(&host(parameter))));
        let started: BTreeMap<_, _> = started.collect();
        let routes = sites.iter().map(|(name, parameter)| (host(parameter), started[name].address()));
        let tunnel = Tunnel::open(routes.collect(), delay).await;
        Self { sites: started, tunnel }
    }

    fn site(&self, name: &str) -> &Intake {
        &self.sites[name]
    }

    /// A configuration that reaches them, without a connection.
    fn configuration(&self) -> Configuration {
        let certificates: String = self.sites.values().map(Intake::certificate).collect();
        let configuration = Configuration::new().environment("HTTPS_PROXY", &self.tunnel.url());
        if certificates.is_empty() { configuration } else { configuration.trust(&certificates) }
    }

    /// The same with the connection `acme` on a site.
    fn acme_on(&self, site: &str) -> Configuration {
        connected(self.configuration(), "acme", site, KEY)
    }
}

fn connected(configuration: Configuration, name: &str, site: &str, key: &str) -> Configuration {
    configuration
        .text(&format!("connections.{name}.site"), site)
        .text(&format!("connections.{name}.api_key"), key)
        .set(&format!("connections.{name}.app_group_ids"), &format!("[\"group-{name}\"]"))
}

const EU1: (&str, &str) = ("EU1", "datadoghq.eu");
const US5: (&str, &str) = ("US5", "us5.datadoghq.com");

/// `check --online`, with more arguments. It never shows a key.
async fn check(configuration: &Configuration, more: &[&str]) -> Finished {
    let finished = configuration.run(&[&["check", "--online"], more].concat()).await;
    assert!(!format!("{finished:?}").contains(&KEY[..8]), "{finished:?}");
    finished
}

fn lines(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().filter(|line| line.starts_with("key of ")).collect()
}

#[tokio::test]
async fn a_valid_key_is_said_to_be_valid() {
    let world = World::of(&[EU1, US5]).await;
    let finished = check(&world.acme_on("EU1"), &["--find-site"]).await;
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(lines(&finished), ["key of acme: valid on EU1"]);
    assert!(
        finished.stdout.contains("https://api.datadoghq.eu"),
        "the description comes first: {finished:?}"
    );
    assert_eq!(world.tunnel.hosts(), ["api.datadoghq.eu"], "a valid key is shown to no other site");
    assert_eq!(world.site("EU1").validations(), [KEY]);
}

#[tokio::test]
async fn a_key_of_another_site_is_a_wrong_configuration_and_is_found_when_that_is_asked_for() {
    let world = World::of(&[EU1, US5]).await;
    world.site("EU1").revoke(KEY);
    let configuration = world.acme_on("EU1");
    let finished = check(&configuration, &[]).await;
    assert_eq!(finished.status.code(), Some(INVALID), "{finished:?}");
    assert_eq!(lines(&finished), ["key of acme: 403: this key is not valid on EU1"]);
    assert!(finished.stderr.contains("--find-site"), "{finished:?}");
    assert_eq!(world.tunnel.hosts(), ["api.datadoghq.eu"], "nobody asked for the key to be shown around");

    let finished = check(&configuration, &["--find-site"]).await;
    assert_eq!(finished.status.code(), Some(INVALID), "{finished:?}");
    assert_eq!(lines(&finished), ["key of acme: this key belongs to US5, not EU1: set site = \"US5\""]);
    assert_eq!(world.site("US5").validations(), [KEY]);
    assert_eq!(world.tunnel.hosts().len(), 1 + 9, "each site once: {:?}", world.tunnel.hosts());

    world.site("US5").revoke(KEY);
    let finished = check(&configuration, &["--find-site"]).await;
    assert_eq!(finished.status.code(), Some(INVALID));
    let line = lines(&finished)[0];
    assert!(
        line.starts_with("key of acme: not valid on EU1, nor on US5; no answer from US1, US3, AP1"),
        "{line}"
    );
}

#[tokio::test]
async fn a_site_that_can_not_be_reached_is_a_failure_that_says_what_to_try() {
    let world = World::of(&[]).await;
    let direct =
        connected(Configuration::new(), "acme", "EU1", KEY).environment("HTTPS_PROXY", "http://127.0.0.1:1");
    for configuration in [world.acme_on("EU1"), direct] {
        let finished = check(&configuration, &["--find-site"]).await;
        assert_eq!(finished.status.code(), Some(UNKNOWN), "{finished:?}");
        let line = lines(&finished)[0];
        assert!(
            line.starts_with("key of acme: unknown: no answer from https://api.datadoghq.eu: "),
            "{line}"
        );
        assert!(line.contains("HTTPS_PROXY"), "{line}");
        assert!(finished.stderr.contains("1 of 1 keys"), "{finished:?}");
    }
    assert_eq!(world.tunnel.hosts(), ["api.datadoghq.eu"], "what is unknown is not shown around");
    // A proxy that opens TLS has a certificate of its own.
    let (world, other) = (World::of(&[EU1]).await, Intake::start_tls());
    let finished = check(&world.acme_on("EU1").trust(other.certificate()), &[]).await;
    assert_eq!(finished.status.code(), Some(UNKNOWN), "{finished:?}");
    assert!(lines(&finished)[0].contains("SSL_CERT_FILE"), "{finished:?}");
}

#[tokio::test]
async fn a_wrong_configuration_is_one_whatever_comes_of_the_questions() {
    let acme = connected(Configuration::new(), "acme", "EU1", KEY);
    // Nobody can be asked.
    let configuration = acme.environment("HTTPS_PROXY", "http://127.0.0.1:1");
    let warned = configuration.clone().without("push.listen");
    let finished = check(&warned, &[]).await;
    assert!(finished.stderr.contains("warning: "), "{finished:?}");
    assert_eq!(finished.status.code(), Some(UNKNOWN), "{finished:?}");
    let wrong = configuration.text("connections.beta.urll", "http://127.0.0.1:1");
    for (configuration, more, part) in
        [(&warned, &["--deny-warnings"][..], "and --deny-warnings"), (&wrong, &[], "1 left out")]
    {
        let finished = check(configuration, more).await;
        assert_eq!(finished.status.code(), Some(INVALID), "{finished:?}");
        assert!(finished.stderr.contains(part), "{finished:?}");
        assert!(finished.stderr.contains("1 of 1 keys: whether they are valid could not be"), "{finished:?}");
    }
}

#[tokio::test]
async fn every_connection_has_its_line_and_a_few_are_asked_at_a_time() {
    let world = World::slow(&[EU1, US5], Duration::from_millis(100)).await;
    let mut configuration = world.configuration();
    let mut expected = Vec::new();
    for number in 0..40 {
        let (name, key) = (format!("c{number:02}"), format!("{number:032x}"));
        let site = if number % 2 == 0 { "EU1" } else { "US5" };
        configuration = connected(configuration, &name, site, &key);
        let words =
            if number == 7 { "403: this key is not valid on US5".into() } else { format!("valid on {site}") };
        expected.push(format!("key of {name}: {words}"));
    }
    world.site("US5").revoke(&format!("{:032x}", 7));
    let configuration = configuration.set("connections.dry.dry_run", "true");
    expected.push("key of dry: has none: a dry run needs none".to_owned());
    let finished = check(&configuration, &[]).await;
    assert_eq!(finished.status.code(), Some(INVALID), "{finished:?}");
    assert_eq!(lines(&finished), expected);
    assert!(!format!("{finished:?}").contains("00000000"), "{finished:?}");
    assert!(finished.stderr.contains("1 of 40 keys"), "{finished:?}");
    assert!((2..=8).contains(&world.tunnel.at_once_max()), "{}", world.tunnel.at_once_max());
}

#[tokio::test]
async fn only_datadogs_own_answer_makes_a_key_valid_or_invalid() {
    let world = World::of(&[EU1]).await;
    let configuration = world.acme_on("EU1");
    for (status, body, code, words) in [
        (404, "page not found", UNKNOWN, "unknown: 404"),
        (200, "welcome", UNKNOWN, "proxy"),
        (403, "<html>blocked</html>", UNKNOWN, "proxy"),
        (403, "Forbidden", INVALID, "403: this key is not valid on EU1"),
        (500, "0123456789abcdef0123456789abcdef", UNKNOWN, "unknown: 500"),
    ] {
        world.site("EU1").validate_with(Some((status, body)));
        let finished = check(&configuration, &[]).await;
        assert_eq!(finished.status.code(), Some(code), "{finished:?}");
        assert!(lines(&finished)[0].contains(words), "{finished:?}");
    }
    // Without --online nobody is asked.
    let asked = world.site("EU1").validations().len();
    assert!(configuration.run(&["check"]).await.status.success());
    assert_eq!(world.site("EU1").validations().len(), asked);
}

/// A proxy there need not know the question; and no site is shown a key that nobody asked about.
#[tokio::test]
async fn check_asks_nobody_about_a_connection_with_a_url_or_a_dry_run() {
    let (intake, world) = (Intake::start(), World::of(&[EU1]).await);
    intake.validate_with(Some((403, "Forbidden")));
    let configuration = world.acme_on("EU1").connection("proxied", &intake.url(), KEY, &["group-proxied"]);
    let configuration =
        connected(configuration, "quiet", "EU1", KEY).set("connections.quiet.dry_run", "true");
    let finished = check(&configuration, &["--find-site"]).await;
    assert!(finished.status.success(), "{finished:?}");
    let expected = [
        "key of acme: valid on EU1",
        "key of proxied: not asked about, for it has a url: whether it is valid shows when something is sent",
        "key of quiet: not asked about: a dry run sends nothing",
    ];
    assert_eq!(lines(&finished), expected);
    assert_eq!((intake.validations().len(), world.site("EU1").validations().len()), (0, 1));
}

/// What `/status` says of a connection's key.
async fn key_of(forwarder: &Forwarder, name: &str) -> Value {
    let (status, text) = forwarder.admin("/status").await;
    assert_eq!(status, 200);
    let status: Value = serde_json::from_str(&text).unwrap();
    let connections = status["connections"].as_array().unwrap();
    connections.iter().find(|connection| connection["name"] == name).unwrap()["key"].clone()
}

/// Waits until a key is in this state; the words for it.
async fn becomes(forwarder: &Forwarder, name: &str, state: &str) -> String {
    support::eventually(&format!("the key of {name} is {state}"), async || {
        let key = key_of(forwarder, name).await;
        (key["state"] == state && key["words"] != "not asked yet")
            .then(|| key["words"].as_str().unwrap().to_owned())
    })
    .await
}

async fn gauge(forwarder: &Forwarder, name: &str) -> Option<String> {
    let (_, text) = forwarder.admin("/metrics").await;
    let sample = format!("braze_datadog_key_valid{{connection=\"{name}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)).map(ToOwned::to_owned)
}

/// Log lines about keys: level, connection.
fn told(forwarder: &Forwarder) -> Vec<(String, String)> {
    let lines = forwarder.stderr();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about_keys = lines.filter(|line| line["target"] == "braze_datadog::app::keys");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    about_keys.map(|line| (text(&line["level"]), text(&line["connection"]))).collect()
}

/// The same, once there are so many.
async fn all_told(forwarder: &Forwarder, lines: usize) -> Vec<(String, String)> {
    support::eventually(&format!("{lines} lines about keys"), async || {
        Some(told(forwarder)).filter(|told| told.len() >= lines)
    })
    .await
}

async fn is_ready(forwarder: &Forwarder) -> bool {
    forwarder.admin("/readyz").await.0 == 200
}

/// It has said no key anywhere, and ends well.
async fn ends_well(forwarder: Forwarder) {
    for path in ["/status", "/metrics", "/"] {
        assert!(!forwarder.admin(path).await.1.contains(&KEY[..8]), "{path}");
    }
    assert!(!forwarder.log().contains(&KEY[..8]), "{}", forwarder.log());
    assert!(forwarder.stop().await.success());
}

async fn push_to(forwarder: &Forwarder, seed: u64) {
    forwarder.push_accepted(Events::new(seed).push_body(20)).await;
}

#[tokio::test]
async fn a_key_that_is_revoked_and_restored_while_the_process_runs_is_shown_so() {
    let world = World::of(&[EU1]).await;
    let configuration = world.acme_on("EU1").without("connections.acme.app_group_ids");
    let forwarder = configuration.text("log.level", "debug").start().await;
    assert_eq!(becomes(&forwarder, "acme", "valid").await, "valid on EU1");
    assert!(key_of(&forwarder, "acme").await["seconds_ago"].is_u64());
    assert_eq!(gauge(&forwarder, "acme").await.as_deref(), Some("1"));

    world.site("EU1").revoke(KEY);
    push_to(&forwarder, 1).await;
    assert_eq!(becomes(&forwarder, "acme", "invalid").await, "403: this key is not valid on EU1");
    assert_eq!(gauge(&forwarder, "acme").await.as_deref(), Some("0"));
    assert!(is_ready(&forwarder).await, "a bad key makes nobody unready");

    world.site("EU1").restore(KEY);
    push_to(&forwarder, 2).await;
    becomes(&forwarder, "acme", "valid").await;
    assert_eq!(gauge(&forwarder, "acme").await.as_deref(), Some("1"));
    let levels: Vec<_> = all_told(&forwarder, 3).await.into_iter().map(|(level, _)| level).collect();
    assert_eq!(levels, ["DEBUG", "ERROR", "INFO"]);
    let books = forwarder.settled(40).await;
    assert!(books.dropped > 0 && books.accepted > 0, "{books:?}");
    ends_well(forwarder).await;
}

/// The intake takes points with the key of another site: that they were accepted says nothing then.
#[tokio::test]
async fn what_is_sent_with_a_refused_key_is_not_found_to_reach_datadog() {
    let world = World::of(&[EU1]).await;
    world.site("EU1").validate_with(Some((403, "{\"errors\":[\"Forbidden\"]}")));
    let forwarder = world.acme_on("EU1").without("connections.acme.app_group_ids").start().await;
    let words = becomes(&forwarder, "acme", "invalid").await;
    push_to(&forwarder, 1).await;
    assert_eq!(forwarder.settled(20).await.dropped, 0);
    let found = support::eventually("the history has the outcomes", async || {
        let found: Value = serde_json::from_str(&forwarder.admin("/search?q=connection").await.1).unwrap();
        let objects = found["objects"].as_array().unwrap();
        let is_told = |one: &Value| one["words"].as_str().unwrap().contains("all accepted by Datadog");
        (!objects.is_empty() && objects.iter().all(is_told)).then_some(found)
    })
    .await;
    let found_lately: Value = serde_json::from_str(&forwarder.admin("/search?q=campaign").await.1).unwrap();
    let results = found_lately["results"].as_array().unwrap();
    assert!(!results.is_empty(), "{found_lately:#}");
    for one in results.iter().chain(found["objects"].as_array().unwrap()) {
        let said = one["words"].as_str().unwrap();
        assert_eq!(one["state"], "trouble", "{said}");
        assert!(said.contains("accepted") && said.ends_with(&format!(" nobody: {words}")), "{said}");
    }
    ends_well(forwarder).await;
}

#[tokio::test]
async fn a_key_that_is_replaced_is_asked_about_at_once() {
    let world = World::of(&[EU1]).await;
    world.site("EU1").revoke(KEY);
    let configuration = connected(world.acme_on("EU1"), "other", "EU1", "another-key");
    let forwarder = configuration.start().await;
    becomes(&forwarder, "acme", "invalid").await;
    becomes(&forwarder, "other", "valid").await;
    let asked = world.site("EU1").validations().len();
    connected(configuration.clone(), "acme", "EU1", "the-right-key").write();
    forwarder.signal("HUP");
    becomes(&forwarder, "acme", "valid").await;
    assert_eq!(
        world.site("EU1").validations()[asked..],
        ["the-right-key"],
        "the other one is not asked again"
    );
    let expected = [("ERROR", "acme"), ("INFO", "acme")].map(|(level, name)| (level.into(), name.into()));
    assert_eq!(all_told(&forwarder, 2).await, expected);
    // Switched off, nothing is known of them any more.
    configuration.set("validate_keys", "false").write();
    forwarder.signal("HUP");
    support::eventually("validation is off", async || {
        (key_of(&forwarder, "acme").await["words"] == "not asked: validate_keys = false").then_some(())
    })
    .await;
    assert_eq!(gauge(&forwarder, "other").await, None);
    ends_well(forwarder).await;
}

#[tokio::test]
async fn a_site_that_can_not_be_asked_is_calm() {
    let world = World::of(&[EU1, US5]).await;
    world.site("US5").validate_with(Some((503, "later")));
    let configuration = connected(world.acme_on("US1"), "five", "US5", KEY);
    let forwarder = configuration.start().await;
    let words = becomes(&forwarder, "acme", "unknown").await;
    assert!(words.starts_with("unknown: no answer from https://api.datadoghq.com: "), "{words}");
    let words = becomes(&forwarder, "five", "unknown").await;
    assert!(words.starts_with("unknown: 503"), "{words}");
    assert_eq!((gauge(&forwarder, "acme").await, gauge(&forwarder, "five").await), (None, None));
    assert!(is_ready(&forwarder).await);
    let told = all_told(&forwarder, 2).await;
    assert!(told.len() == 2 && told.iter().all(|(level, _)| level == "INFO"), "{told:?}");
    ends_well(forwarder).await;
}

#[tokio::test]
async fn validation_is_in_nobodys_way() {
    let world = World::of(&[EU1]).await;
    world.site("EU1").never_validate();
    let configuration = world.acme_on("EU1").without("connections.acme.app_group_ids");
    let mut events = Events::new(3);
    let file = configuration.file("events.ndjson", events.ndjson(50));
    let finished = configuration.run(&["run", "--once", "--import", file.to_str().unwrap()]).await;
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(world.site("EU1").sends(), events.truth().sends);

    let forwarder = configuration.start().await;
    forwarder.push_accepted(events.push_body(50)).await;
    world.site("EU1").wait_for_sends(events.truth().sends).await;
    assert_eq!(key_of(&forwarder, "acme").await["words"], "not asked yet");
    ends_well(forwarder).await;
}

#[tokio::test]
async fn the_running_process_asks_no_custom_url() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let forwarder = configuration.start().await;
    push_to(&forwarder, 4).await;
    forwarder.settled(20).await;
    let key = key_of(&forwarder, "acme").await;
    assert_eq!((&key["state"], &key["seconds_ago"]), (&"unknown".into(), &Value::Null));
    assert!(key["words"].as_str().unwrap().starts_with("not asked: custom url"), "{key}");
    // What the intake itself says is known all the same.
    intake.revoke(KEY);
    push_to(&forwarder, 5).await;
    let words = becomes(&forwarder, "acme", "invalid").await;
    assert_eq!(words, format!("403: {} refuses points with this key", intake.address()));
    assert_eq!(gauge(&forwarder, "acme").await.as_deref(), Some("0"));
    intake.restore(KEY);
    push_to(&forwarder, 6).await;
    becomes(&forwarder, "acme", "unknown").await;
    assert_eq!((intake.validations(), told(&forwarder)), (vec![], vec![]));
    ends_well(forwarder).await;
}
