use proptest::prelude::*;
use serde_json::json;

use super::registry::ANSWER_BYTES_MAX;
use super::scripted::{Behaviour, ScriptedRegistry};
use super::*;
use crate::Secret;
use crate::kafka::SchemaIds;

fn schemas(scripted: &ScriptedRegistry) -> Schemas {
    of(SchemaRegistry::new(&Secret::new(&scripted.url()), None, SchemaIds::Auto, "test/1").unwrap())
}

fn of(registry: SchemaRegistry) -> Schemas {
    Schemas::new(registry, Arc::default())
}

fn not_now(answer: Lookup) -> String {
    match answer {
        Lookup::NotNow(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn is_schema(answer: &Lookup) -> bool {
    matches!(answer, Lookup::Schema(_))
}

fn paths(scripted: &ScriptedRegistry) -> Vec<String> {
    scripted.asked().into_iter().map(|asked| asked.path).collect()
}

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let scripted = ScriptedRegistry::start();
    scripted.register(7, "\"string\"");
    let mut schemas = schemas(&scripted);
    for _ in 0..3 {
        let Lookup::Schema(schema) = schemas.look_up(SchemaKey::Id(7)).await else { panic!() };
        assert_eq!(schema.text(), "\"string\"");
    }
    assert_eq!(paths(&scripted), ["/schemas/ids/7"]);
    assert_eq!(scripted.asked()[0].user_agent, "test/1");
    assert_eq!(scripted.asked()[0].accept_encoding, "identity");
    assert!(schemas.away.is_none());
}

/// A proxy comes from the environment, which a process can't change for itself: the test runs itself once more.
#[tokio::test]
async fn a_registry_on_this_machine_is_asked_past_the_proxy_of_the_environment() {
    const REGISTRY: &str = "SCHEMA_REGISTRY_OF_THE_TEST";
    if let Ok(url) = std::env::var(REGISTRY) {
        let registry = SchemaRegistry::new(&Secret::new(&url), None, SchemaIds::Auto, "test/1").unwrap();
        assert!(is_schema(&of(registry).look_up(SchemaKey::Id(7)).await));
        return;
    }
    let scripted = ScriptedRegistry::start();
    scripted.register(7, "\"string\"");
    let (_, name) = std::any::type_name_of_val(&paths).split_once("::").unwrap();
    let test = "a_registry_on_this_machine_is_asked_past_the_proxy_of_the_environment";
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name.replace("paths", test)])
        .env(REGISTRY, scripted.url())
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(paths(&scripted), ["/schemas/ids/7"]);
}

#[tokio::test]
async fn a_registry_that_fails_is_asked_again_and_its_trouble_is_told_until_it_answers() {
    let scripted = ScriptedRegistry::start();
    scripted.register(7, "\"string\"");
    let mut schemas = schemas(&scripted);
    let unhappy = [401, 403, 429, 500, 502, 503].map(|status| Behaviour::Status(status, String::new()));
    scripted.next(unhappy);
    for failures in 1..=6 {
        let reason = not_now(schemas.look_up(SchemaKey::Id(7)).await);
        assert!(reason.contains(schemas.registry.address()), "{reason}");
        assert_eq!(schemas.away.as_ref().unwrap().failures, failures);
    }
    assert!(is_schema(&schemas.look_up(SchemaKey::Id(7)).await));
    assert!(schemas.away.is_none());
}

#[tokio::test]
async fn a_schema_is_waited_for_until_the_registry_answers_or_nobody_needs_it() {
    let scripted = ScriptedRegistry::start();
    scripted.register(7, "\"string\"");
    let health = Arc::<Health>::default();
    health.set_connected(true);
    let watch = super::super::health::KafkaWatch(Arc::clone(&health));
    let registry =
        SchemaRegistry::new(&Secret::new(&scripted.url()), None, SchemaIds::Auto, "test/1").unwrap();
    let mut schemas = Schemas::new(registry, health);
    let fail = || Behaviour::Status(500, String::new());
    scripted.next([fail(), fail()]);
    let is_over = || {
        assert!(watch.trouble().unwrap().contains("500: it has failed"));
        true
    };
    not_now(schemas.wait_for(SchemaKey::Id(7), is_over).await);
    assert_eq!(watch.trouble(), None, "nobody asks again");
    assert!(is_schema(&schemas.wait_for(SchemaKey::Id(7), || false).await));
    assert_eq!((watch.trouble(), scripted.asked().len()), (None, 3));
}

#[tokio::test]
async fn what_is_no_registry_makes_nothing_final() {
    let scripted = ScriptedRegistry::start();
    scripted.register(1, "\"int\"");
    let mut schemas = schemas(&scripted);
    for (status, body) in [(200, "<html>"), (404, "<html>"), (302, ""), (308, ""), (204, "")] {
        scripted.next([Behaviour::Status(status, body.to_owned())]);
        not_now(schemas.look_up(SchemaKey::Id(7)).await);
    }
    assert_eq!(scripted.asked().len(), 5, "a redirect was followed");
    drop(scripted);
    let reason = not_now(schemas.look_up(SchemaKey::Id(7)).await);
    assert!(reason.contains("connect") || reason.contains("no usable answer"), "{reason}");
}

#[tokio::test]
async fn a_registry_that_hangs_costs_the_timeout_and_a_body_without_end_its_bound() {
    let scripted = ScriptedRegistry::start();
    let timeout = Duration::from_millis(200);
    let registry =
        SchemaRegistry::with_timeout(&Secret::new(&scripted.url()), None, SchemaIds::Auto, "test/1", timeout)
            .unwrap();
    scripted.next([Behaviour::Hang]);
    let asked = Instant::now();
    assert!(not_now(of(registry).look_up(SchemaKey::Id(7)).await).contains("within 200ms"));
    assert!(asked.elapsed() < Duration::from_secs(5));

    let mut schemas = schemas(&scripted);
    let large = |bytes: usize| json!({ "schema": "x".repeat(bytes) }).to_string();
    let page = || Behaviour::Status(200, "<html>".repeat(ANSWER_BYTES_MAX / 4));
    for _ in 0..2 {
        scripted.next([page()]);
        assert!(not_now(schemas.look_up(SchemaKey::Id(7)).await).contains("more than 1048576 bytes"));
    }
    scripted.next([Behaviour::Status(200, large(ANSWER_BYTES_MAX - 100))]);
    assert!(is_schema(&schemas.look_up(SchemaKey::Id(7)).await));
}

/// It stays as long as it is, so waiting for it would be waiting for good.
#[tokio::test]
async fn a_schema_that_is_too_long_is_none() {
    let scripted = ScriptedRegistry::start();
    scripted.answer("/schemas/ids/7", json!({ "schema": "x".repeat(ANSWER_BYTES_MAX) }));
    let mut schemas = schemas(&scripted);
    // The one doubt of this minute.
    not_now(schemas.look_up(SchemaKey::Id(1)).await);
    let answer = schemas.look_up(SchemaKey::Id(7)).await;
    assert!(
        matches!(&answer, Lookup::Never(reason) if reason.contains("more than 1048576 bytes")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_unknown_id_is_final_once_it_was_doubted_for_a_while_and_then_it_is_not_asked_for_again() {
    let scripted = ScriptedRegistry::start();
    let mut schemas = schemas(&scripted);
    let asked = Instant::now();
    let reason = loop {
        match schemas.look_up(SchemaKey::Id(7)).await {
            Lookup::Never(reason) => break reason,
            Lookup::NotNow(_) => assert!(schemas.away.is_some()),
            found => panic!("{found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(reason.contains("no such schema (schema 7)"), "{reason}");
    assert!((3..10).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert!(schemas.away.is_none());
    let before = scripted.asked().len();
    assert_eq!(schemas.look_up(SchemaKey::Id(7)).await, Lookup::Never(reason));
    assert_eq!(scripted.asked().len(), before);
    // The next one in the same minute is believed at once.
    assert!(matches!(schemas.look_up(SchemaKey::Id(8)).await, Lookup::Never(_)));
}

#[tokio::test]
async fn a_schema_of_another_language_is_final_and_one_of_json_is_none_to_be_read_by() {
    let scripted = ScriptedRegistry::start();
    let mut schemas = schemas(&scripted);
    // The one doubt of this minute.
    not_now(schemas.look_up(SchemaKey::Id(1)).await);
    scripted.answer("/schemas/ids/7", json!({ "schema": "syntax", "schemaType": "PROTOBUF" }));
    let answer = schemas.look_up(SchemaKey::Id(7)).await;
    assert!(matches!(answer, Lookup::Never(reason) if reason.contains("the schema 7 is PROTOBUF")));
    scripted.answer("/schemas/ids/8", json!({ "schema": "{}", "schemaType": "JSON" }));
    assert_eq!(schemas.look_up(SchemaKey::Id(8)).await, Lookup::Json);
}

#[tokio::test]
async fn credentials_are_sent_and_are_in_no_word_of_it() {
    let scripted = ScriptedRegistry::start();
    let host = scripted.address();
    let all = [
        (format!("http://key:s3cret%2F%2B@{host}"), None, "Basic a2V5OnMzY3JldC8r"),
        (format!("http://{host}"), Some("key:s3cret/+\n"), "Basic a2V5OnMzY3JldC8r"),
        (format!("http://{host}"), Some("s3cret"), "Bearer s3cret"),
        (format!("http://{host}/base/"), None, ""),
    ];
    for (url, auth, header) in all {
        let (url, auth) = (Secret::new(&url), auth.map(Secret::new));
        let mut schemas = of(SchemaRegistry::new(&url, auth.as_ref(), SchemaIds::Auto, "test/1").unwrap());
        scripted.next([Behaviour::Status(401, "s3cret".to_owned())]);
        let reason = not_now(schemas.look_up(SchemaKey::Id(7)).await);
        assert_eq!(scripted.asked().last().unwrap().authorization, header);
        assert!(!format!("{reason}{url:?}{auth:?}{schemas:?}").contains("s3cret"), "{reason}");
    }
    assert_eq!(paths(&scripted).last().unwrap(), "/base/schemas/ids/7");
}

#[test]
fn the_waits_double_up_to_the_longest() {
    let longest = |failures| wait(failures, u64::MAX).as_millis();
    assert_eq!([0, 1, 2, 3, 4].map(longest), [199, 199, 399, 799, 1_599]);
    assert_eq!(longest(8), 14_999);
    assert_eq!(longest(u32::MAX), 14_999);
    assert_eq!(wait(1, 0), Duration::from_millis(100));
}

proptest! {
    /// A wait is never shorter than half of the longest that is possible after as many failures, never
    /// longer than [`WAIT_MAX`], and more failures never make it possible to wait less.
    #[test]
    fn a_wait_lies_between_the_half_and_the_whole(failures in 0u32..100, chance: u64) {
        let (least, most) = (wait(failures, 0), wait(failures, u64::MAX));
        let found = wait(failures, chance);
        prop_assert!((least..=most).contains(&found));
        prop_assert!(most <= least * 2 && most <= WAIT_MAX);
        prop_assert!(wait(failures + 1, 0) >= least);
    }
}
