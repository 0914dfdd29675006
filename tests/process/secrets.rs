//! API keys, tokens and passwords are planted in every place that they can come from; then nothing that the binary says,
//! at whatever level and in whatever trouble, has any of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::support;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{eventually, unix_now};
use serde_json::json;

/// Keys as Datadog makes them, by where they are planted.
const IN_FILE: &str = "a1b0c2d3e4f5061728394a5b6c7d8e9f";
const IN_KEY_FILE: &str = "b2c1d0e3f4a5162738495a6b7c8d9e0f";
const IN_VARIABLE: &str = "c3d2e1f0a4b5263748596a7b8c9d0e1f";
const IN_DIRECTORY: &str = "d4e3f2a1b0c5364758697a8b9c0d1e2f";
const IN_LAYER: &str = "e5f4a3b2c1d0465768798a9b0c1d2e3f";
const AFTER_RELOAD: &str = "f6a5b4c3d2e1506778899a0b1c2d3e4f";

/// Tokens and passwords, which can look like anything.
const TOKEN: &str = "Zplanted3Token5Unbound7Q==";
const BOUND_TOKEN: &str = "Zplanted4Token6Bound8QQ==";
const WRONG_TOKEN: &str = "Zplanted5Token7Wrong9QQ==";
const PROXY_PASSWORD: &str = "Zplanted6Proxy8Password1";
const KAFKA_PASSWORD: &str = "Zplanted7Kafka9Password2";
const REGISTRY_PASSWORD: &str = "Zplanted8Registry1Password3";
const REGISTRY_TOKEN: &str = "Zplanted9RegistryA2Token4";

const ALL: [&str; 13] = [
    IN_FILE,
    IN_KEY_FILE,
    IN_VARIABLE,
    IN_DIRECTORY,
    IN_LAYER,
    AFTER_RELOAD,
    TOKEN,
    BOUND_TOKEN,
    WRONG_TOKEN,
    PROXY_PASSWORD,
    KAFKA_PASSWORD,
    REGISTRY_PASSWORD,
    REGISTRY_TOKEN,
];

/// Letters of a secret in a row that nobody may see.
const PIECE: usize = 10;

/// Neither a secret nor a piece of one is in what was said.
fn assert_silent(what: &str, said: &str) {
    for secret in ALL {
        for start in 0..=secret.len() - PIECE {
            let piece = &secret[start..start + PIECE];
            // What tells the planted ones apart is no secret.
            if ALL.iter().filter(|other| other.contains(piece)).count() == 1 {
                assert!(!said.contains(piece), "{piece} of {secret} is in {what}:\n{said}");
            }
        }
    }
}

fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A connection for each place that a key can be in.
fn planted(intake: &Intake) -> Configuration {
    let mut configuration = Configuration::new();
    let directory = configuration.home().join("connections");
    fs::create_dir_all(&directory).unwrap();
    let fourth =
        format!("url = \"{}\"\napi_key = \"{IN_DIRECTORY}\"\napp_group_ids = [\"g-4\"]\n", intake.url());
    fs::write(directory.join("fourth.toml"), fourth).unwrap();
    private(&directory.join("fourth.toml"));
    let key_file = configuration.file("key", format!("{IN_KEY_FILE}\n"));
    let tokens = configuration.file("tokens", format!("{TOKEN}\n{BOUND_TOKEN} g-1,g-2\n"));
    for (name, id) in [("first", "g-1"), ("second", "g-2"), ("third", "g-3"), ("fifth", "g-5")] {
        configuration = configuration
            .text(&format!("connections.{name}.url"), &intake.url())
            .set(&format!("connections.{name}.app_group_ids"), &format!("[\"{id}\"]"));
    }
    private(&configuration.write());
    configuration
        .text("connections.first.api_key", IN_FILE)
        .text("connections.second.api_key_file", key_file.to_str().unwrap())
        .text("connections.third.api_key_env", "PLANTED_KEY")
        .environment("PLANTED_KEY", IN_VARIABLE)
        .environment("BRAZE_DATADOG__CONNECTIONS__FIFTH__API_KEY", IN_LAYER)
        .text("connections.beyond.url", "https://198.51.100.1")
        .text("connections.beyond.api_key", IN_FILE)
        .environment("HTTPS_PROXY", &format!("http://user:{PROXY_PASSWORD}@127.0.0.1:1"))
        .environment("NO_PROXY", "127.0.0.1")
        .text("connections_directory", directory.to_str().unwrap())
        .text("push.token_file", tokens.to_str().unwrap())
        .environment("RUST_LOG", "trace")
}

fn batch(round: u64) -> String {
    let time = unix_now();
    let event = |number: u64| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("{round}-{number}"),
            "time": time,
            "properties": { "app_group_id": format!("g-{number}") },
        })
    };
    json!({ "events": (1..8).map(event).collect::<Vec<_>>() }).to_string()
}

/// Pushes with right, bound, wrong and no tokens.
async fn push(forwarder: &Forwarder, round: u64) -> String {
    let mut said = String::new();
    for (token, status) in [(TOKEN, 200), (BOUND_TOKEN, 200), (WRONG_TOKEN, 401)] {
        let answer = forwarder.push_request(batch(round)).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{token}");
        said.extend([format!("{:?}", answer.headers()), answer.text().await.unwrap()]);
    }
    let foreign = forwarder.push_url("/v1/events?app_group_id=g-4");
    let foreign = support::client(None).post(foreign).bearer_auth(BOUND_TOKEN).send().await.unwrap();
    assert_eq!(foreign.status(), 401);
    said + &foreign.text().await.unwrap() + &forwarder.push(batch(round)).await.text().await.unwrap()
}

/// Reloads, and waits until the log has this message once more.
async fn hang_up(forwarder: &Forwarder, message: &str) {
    let told = || forwarder.stderr().matches(message).count();
    let before = told();
    forwarder.signal("HUP");
    eventually(message, async || (told() > before).then_some(())).await;
}

/// A whole life: start, pushes, a Datadog that repeats the request, reloads, every page, the stop.
async fn live(format: &str) {
    let intake = Intake::start();
    intake.decide(|request| {
        let echo =
            format!("{:?} {:?} {} no", request.headers, request.headers.get("dd-api-key"), request.key());
        Behaviour::Status(if request.key() == IN_FILE { 403 } else { 500 }, echo.leak())
    });
    let configuration = planted(&intake).text("log.format", format);
    let checked = configuration.run(&["check"]).await;
    assert!(checked.status.success(), "{checked:?}");
    assert_silent("check", &format!("{checked:?}"));

    let forwarder = configuration.start().await;
    let mut said = push(&forwarder, 1).await;
    eventually("every connection has failed", async || {
        (forwarder.metrics().await.sum("braze_datadog_sends_dropped_total", &[]) >= 7).then_some(())
    })
    .await;
    let keys: Vec<String> = intake.requests().iter().map(|request| request.key().to_owned()).collect();
    for key in [IN_FILE, IN_KEY_FILE, IN_VARIABLE, IN_DIRECTORY, IN_LAYER] {
        assert!(keys.iter().any(|used| used == key), "{key} was not used: {keys:?}");
    }
    // Good files, then bad ones of every kind.
    configuration.file("key", AFTER_RELOAD);
    hang_up(&forwarder, "the configuration was read again").await;
    said += &push(&forwarder, 2).await;
    eventually("the new key is used", async || {
        intake.requests().iter().any(|request| request.key() == AFTER_RELOAD).then_some(())
    })
    .await;
    for broken in [
        format!("connections.first.api_key = {IN_FILE}\n"),
        format!("connections.first.api_key = \"{IN_FILE}\n"),
        format!("[connections.first]\napi_key = [\"{IN_FILE}\"]\n{TOKEN} = 1\n"),
        format!("[connections.first]\nsite = \"{IN_FILE}\"\napi_key_env = \"{TOKEN}\"\n"),
    ] {
        configuration.file("braze-datadog.toml", broken);
        hang_up(&forwarder, "configuration was refused").await;
    }
    private(&configuration.write());
    for broken in [format!("{TOKEN} {BOUND_TOKEN},,"), format!("Bearer {TOKEN}"), format!("{TOKEN}\u{200b}")]
    {
        configuration.file("tokens", broken);
        hang_up(&forwarder, "configuration was refused").await;
    }
    configuration.file("tokens", TOKEN);
    hang_up(&forwarder, "the configuration was read again").await;
    configuration.file("key", "bro\u{200b}ken");
    hang_up(&forwarder, "configuration was refused").await;
    for path in ["/", "/status", "/metrics", "/livez", "/readyz", "/nothing"] {
        said += &forwarder.admin(path).await.1;
    }
    said += &forwarder.log();
    assert!(said.contains("(is the API key valid on this site?)"), "{said}");
    assert!(said.contains("198.51.100.1") || said.contains("beyond"), "{said}");
    forwarder.signal("TERM");
    let mut forwarder = forwarder;
    forwarder.wait().await;
    assert_silent(&format!("a life in {format}"), &(said + &forwarder.log()));
}

#[tokio::test]
async fn a_whole_life_tells_no_secret_in_text() {
    live("text").await;
}

#[tokio::test]
async fn a_whole_life_tells_no_secret_in_json() {
    live("json").await;
}

/// A configuration with one mistake (a key, and its value in TOML as it is written) that has a secret in it.
fn mistakes() -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    for secret in [IN_FILE, TOKEN, WRONG_TOKEN] {
        for (key, value) in [
            ("connections.acme.api_key", format!("123{secret}")),
            ("connections.acme.api_key", format!("\"{secret}")),
            ("connections.acme.api_key", format!("'''{secret}")),
            ("connections.acme.api_key", format!("[\"{secret}\"]")),
            ("connections.acme.api_key", format!("{{ a = \"{secret}\" }}")),
            ("connections.acme.api_key", format!("\"{}\\n{}\"", &secret[..5], &secret[5..])),
            ("connections.acme.api_key", format!("\"{secret}\\u200B.\"")),
            ("connections.acme.api_key", format!("\"{secret}\" {secret}")),
            ("connections.acme.apikey", format!("\"{secret}\"")),
            ("connections.acme.site", format!("\"{secret}\"")),
            ("connections.acme.url", format!("\"https://{secret}@127.0.0.1\"")),
            ("connections.acme.url", format!("\"https://127.0.0.1/?api_key={secret}\"")),
            ("connections.acme.api_key_env", format!("\"{secret}\"")),
            ("connections.acme.api_key_file", format!("\"{secret}\"")),
            ("connections.acme.metric", format!("\"{secret}\"")),
            ("connections.acme.dry_run", format!("\"{secret}\"")),
            ("log.level", format!("\"{secret}\"")),
            ("queue.kind", format!("\"{secret}\"")),
            ("flush.interval", format!("\"{secret}\"")),
            ("push.listen", format!("\"{secret}\"")),
            ("push.token_file", format!("\"{secret}\"")),
            ("push.max_body", format!("\"{secret}\"")),
            ("lanes", format!("\"{secret}\"")),
            ("queue.kafka.brokers", format!("[\"user:{secret}@broker:9092\"]")),
            ("queue.kafka.schema_registry", format!("\"{secret}\"")),
            ("queue.kafka.schema_registry_auth_file", format!("\"user:{secret}\"")),
            ("queue.kafka.options.\"sasl.password.file\"", format!("\"{secret}\"")),
            ("queue.kafka.options.\"sasl.password\"", format!("[\"{secret}\"]")),
        ] {
            mistakes.push((key.to_owned(), value));
        }
        for key in
            [format!("\"{secret}\""), format!("connections.\"{secret}\".site"), format!("log.\"{secret}\"")]
        {
            mistakes.push((key, "\"EU1\"".to_owned()));
        }
    }
    mistakes
}

#[tokio::test]
async fn mistakes_are_named_without_the_secret_that_was_in_them() {
    for (key, value) in mistakes() {
        let configuration = Configuration::new().text("connections.acme.site", "EU1").set(&key, &value);
        for command in ["check", "run"] {
            let ended = configuration.run(&[command]).await;
            assert_eq!(ended.status.code(), Some(78), "{command}, {key} = {value}: {ended:?}");
            assert_silent(&format!("{command}, {key} = {value}"), &(ended.stdout + &ended.stderr));
        }
    }
    for (variable, value) in [
        ("BRAZE_DATADOG__CONNECTIONS__ACME__DRY_RUN".to_owned(), IN_LAYER),
        ("BRAZE_DATADOG__LANES".to_owned(), TOKEN),
        (format!("BRAZE_DATADOG__{IN_LAYER}"), "1"),
        (format!("BRAZE_DATADOG__CONNECTIONS__ACME__{}", TOKEN.trim_end_matches('=')), "1"),
        ("BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY".to_owned(), "e5f4a3b2c1d04657\n68798a9b0c1d2e3f"),
    ] {
        let configuration =
            Configuration::new().text("connections.acme.site", "EU1").environment(&variable, value);
        let ended = configuration.run(&["check"]).await;
        assert_eq!(ended.status.code(), Some(78), "{variable}: {ended:?}");
        assert_silent(&variable, &(ended.stdout + &ended.stderr));
    }
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn a_broker_and_a_registry_that_are_away_tell_no_password() {
    let configuration = Configuration::new();
    let password = configuration.file("password", KAFKA_PASSWORD);
    let auth = configuration.file("auth", REGISTRY_TOKEN);
    let configuration = configuration
        .without("push.listen")
        .text("connections.acme.site", "EU1")
        .set("connections.acme.dry_run", "true")
        .text("queue.kind", "kafka")
        .set("queue.kafka.brokers", "[\"127.0.0.1:1\"]")
        .text("queue.kafka.options.\"security.protocol\"", "SASL_PLAINTEXT")
        .text("queue.kafka.options.\"sasl.mechanisms\"", "PLAIN")
        .text("queue.kafka.options.\"sasl.username\"", "user")
        .text("queue.kafka.options.debug", "all")
        .environment("RUST_LOG", "trace");
    let in_file =
        configuration.clone().text("queue.kafka.options.\"sasl.password.file\"", password.to_str().unwrap());
    let registry = format!("http://user:{REGISTRY_PASSWORD}@127.0.0.1:1");
    let in_file = in_file.text("queue.kafka.schema_registry", &registry);
    let inline = configuration
        .text("queue.kafka.schema_registry", "http://127.0.0.1:1")
        .text("queue.kafka.schema_registry_auth_file", auth.to_str().unwrap())
        .environment("BRAZE_DATADOG__QUEUE__KAFKA__OPTIONS__SASL_PASSWORD", KAFKA_PASSWORD);
    for configuration in [in_file, inline] {
        let checked = configuration.run(&["check"]).await;
        assert!(checked.status.success(), "{checked:?}");
        let mut forwarder = configuration.spawn(&["run"]);
        eventually("the broker is missed", async || forwarder.stderr().contains("127.0.0.1:1").then_some(()))
            .await;
        forwarder.signal("TERM");
        forwarder.wait().await;
        assert_silent("kafka", &(format!("{checked:?}") + &forwarder.log()));
    }
    let refused = Configuration::new()
        .without("push.listen")
        .set("connections.acme.dry_run", "true")
        .text("queue.kind", "kafka")
        .text("queue.kafka.options.\"ssl.key.pem\"", KAFKA_PASSWORD)
        .text("queue.kafka.options.\"security.protocol\"", "ssl");
    let ended = refused.run(&["run"]).await;
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert_silent("a private key that is none", &(ended.stdout + &ended.stderr));
}

#[tokio::test]
async fn a_crash_leaves_no_core_dump_though_one_could_be_had() {
    let configuration = Configuration::new().set("connections.acme.dry_run", "true");
    let home = configuration.home().display().to_string();
    let mut forwarder =
        configuration.wrapper(&format!("cd '{home}' && ulimit -S -c $(ulimit -H -c) && exec")).start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", forwarder.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
    let [soft, hard] = [4, 5].map(|at| limit.split_whitespace().nth(at).unwrap());
    // With one byte the kernel hands nothing to a program in its core_pattern either, as it would with none.
    assert_eq!(soft, if hard == "0" { "0" } else { "1" }, "{limit}");
    forwarder.signal("ABRT");
    assert!(!forwarder.wait().await.core_dumped(), "{limit}");
}

#[tokio::test]
async fn the_key_goes_neither_in_the_clear_nor_where_a_redirect_points() {
    let clear = Configuration::new()
        .text("connections.acme.url", "http://192.0.2.1:8126")
        .text("connections.acme.api_key", IN_FILE);
    for command in ["check", "run"] {
        let ended = clear.run(&[command]).await;
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        assert!(
            ended.stderr.contains("allow_plain_http") && ended.stderr.contains("unencrypted"),
            "{ended:?}"
        );
        assert_silent("plain http", &ended.stderr);
    }
    let allowed = clear.set("connections.acme.allow_plain_http", "true").run(&["check"]).await;
    assert!(allowed.status.success() && allowed.stderr.contains("unencrypted"), "{allowed:?}");

    let (intake, elsewhere) = (Intake::start(), Intake::start());
    intake.always(Behaviour::Redirect(format!("{}/api/v1/distribution_points", elsewhere.url())));
    let configuration = Configuration::new().connection("acme", &intake.url(), IN_FILE, &[]);
    let forwarder = configuration.start().await;
    assert_eq!(forwarder.push_accepted(batch(1)).await, 7);
    forwarder.settled(7).await;
    assert!(!intake.requests().is_empty());
    assert!(elsewhere.requests().is_empty() && elsewhere.violations().is_empty(), "the key has travelled");
    let metrics = forwarder.metrics().await;
    assert_eq!(metrics.sum("braze_datadog_sends_dropped_total", &[("reason", "http_unexpected")]), 7);
}

#[tokio::test]
async fn each_open_file_with_secrets_is_warned_of_once_at_the_start() {
    let intake = Intake::start();
    let configuration = planted(&intake);
    let path = configuration.write();
    let files = [path, configuration.home().join("key"), configuration.home().join("tokens")];
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let checked = configuration.run(&["check"]).await;
    for file in &files {
        let told = format!("{} holds ", file.display());
        assert_eq!(checked.stderr.matches(&told).count(), 1, "{told}: {checked:?}");
    }
    assert_eq!(checked.stderr.matches("chmod o=").count(), files.len(), "{checked:?}");
}
