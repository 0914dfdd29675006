//! SIGHUP: connections, keys, tags, tokens and the log level change without losing a count; what is wrong is
//! refused. And what the service manager is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::net::SocketAddrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::braze::{Load, app_group, assert_each_once, mark};
use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::{self, KEY};
use serde_json::{Value, json};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

const READ_AGAIN: &str = "the configuration was read again";

/// The log lines that have this message.
fn logged(forwarder: &Forwarder, message: &str) -> Vec<Value> {
    let lines = forwarder.stderr();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"].as_str().is_some_and(|found| found.contains(message))).collect()
}

/// Reads the configuration again, and waits until the log has this message once more.
async fn hang_up(forwarder: &Forwarder, message: &str) -> Value {
    let before = logged(forwarder, message).len();
    forwarder.signal("HUP");
    support::eventually(message, async || logged(forwarder, message).into_iter().nth(before)).await
}

#[tokio::test]
async fn connections_keys_and_tags_change_under_load_and_no_count_is_lost() {
    const GROUPS: &[&str] = &["g-one", "g-two", "g-three"];
    let (one, two) = (Intake::start(), Intake::start());
    let configuration = Configuration::new();
    let key_file = configuration.file("acme.key", "acme-first-key");
    let configuration = configuration
        .connection("acme", &one.url(), "", &["g-one"])
        .without("connections.acme.api_key")
        .text("connections.acme.api_key_file", key_file.to_str().unwrap())
        .connection("rest", &one.url(), "rest-key", &[]);
    let forwarder = configuration.start().await;
    let load = Load::start(&forwarder.push_url("/v1/events"), 6, GROUPS);
    load.more(60).await;

    // A new connection takes an app group over.
    let with_new = configuration.clone().connection("beta", &two.url(), "beta-key", &["g-two"]);
    with_new.write();
    hang_up(&forwarder, READ_AGAIN).await;
    load.more(60).await;
    two.wait_for_requests(1).await;
    // Another key in the same file.
    configuration.file("acme.key", "acme-second-key\n");
    hang_up(&forwarder, READ_AGAIN).await;
    load.more(60).await;
    // Other tags.
    with_new.set("tags.static", "[\"env:test\"]").write();
    hang_up(&forwarder, READ_AGAIN).await;
    load.more(60).await;
    // The connection goes, and its app group is the others' again.
    configuration.set("tags.static", "[\"env:test\"]").write();
    hang_up(&forwarder, READ_AGAIN).await;
    load.more(60).await;

    let batches = load.finish().await;
    forwarder.settled(batches * support::braze::BATCH).await;
    let books = forwarder.books_balance().await;
    assert_eq!((books.accepted, books.dropped), (batches * support::braze::BATCH, 0));
    // That of a connection that is gone is not gone.
    let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let accepted = status["books"]["connections"].as_object().unwrap();
    let accepted = |name: &str| accepted[name]["accepted"].as_u64().unwrap();
    assert_eq!(["acme", "beta", "rest"].map(accepted).iter().sum::<u64>(), books.accepted);
    assert!(accepted("beta") > 0 && status["connections"].as_array().unwrap().len() == 2, "{status}");
    let mut points = one.accepted();
    points.extend(two.accepted());
    assert_each_once(&points, batches);
    assert_eq!((one.violations(), two.violations()), (vec![], vec![]));

    let seen: BTreeSet<(&str, &str, bool)> = points
        .iter()
        .map(|point| {
            let tagged = point.tags.iter().any(|tag| tag == "env:test");
            (app_group(GROUPS, mark(point)), point.key.as_str(), tagged)
        })
        .collect();
    let expected = [
        ("g-one", "acme-first-key", false),
        ("g-one", "acme-second-key", false),
        ("g-one", "acme-second-key", true),
        ("g-three", "rest-key", false),
        ("g-three", "rest-key", true),
        ("g-two", "beta-key", false),
        ("g-two", "beta-key", true),
        ("g-two", "rest-key", false),
        ("g-two", "rest-key", true),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn the_name_of_an_app_group_that_is_taken_out_of_the_file_is_sent_no_more() {
    // Whether the send under the old name is flushed before the file is read, or by that.
    for interval in ["1s", "10m"] {
        let intake = Intake::start();
        let configuration = Configuration::new()
            .connection("acme", &intake.url(), KEY, &["g-one"])
            .text("flush.interval", interval);
        let forwarder = configuration.clone().app_group_name("acme", "g-one", "Acme EMEA").start().await;
        let push = async |number: u64| {
            let event = json!({
                "event_type": "users.messages.email.Send",
                "id": format!("00000000-0000-4000-8000-{number:012}"),
                "time": support::unix_now(),
                "properties": { "app_group_id": "g-one", "campaign_id": "c1", "campaign_name": "Weekly" },
            });
            forwarder.push_accepted(json!({ "events": [event] }).to_string()).await;
            support::eventually("it is counted", async || {
                let books = forwarder.metrics().await.books();
                let is_flushed = interval == "10m" || books.pending == 0;
                (books.accepted + books.pending == number && is_flushed).then_some(())
            })
            .await;
        };
        push(1).await;
        configuration.write();
        hang_up(&forwarder, READ_AGAIN).await;
        assert_eq!(forwarder.settled(1).await.accepted, 1);
        push(2).await;
        assert!(forwarder.stop().await.success());
        let tags = |app_group: &[&str]| -> Vec<String> {
            let others = ["campaign_id:c1", "campaign_name:Weekly"];
            app_group.iter().chain(&others).map(ToString::to_string).collect()
        };
        let sums = BTreeMap::from([
            (tags(&["app_group_id:g-one", "app_group_name:Acme EMEA"]), 1),
            (tags(&["app_group_id:g-one"]), 1),
        ]);
        assert_eq!(intake.sums_of(KEY), sums, "flush.interval {interval}");
    }
}

/// Whether the configuration was taken over when it was read last, and when it was taken over last.
async fn last_success(forwarder: &Forwarder) -> (u64, u64) {
    let metrics = forwarder.metrics().await;
    let of = |name: &str| metrics.sum(&format!("braze_datadog_config_last_reload_{name}"), &[]);
    (of("successful"), of("success_timestamp_seconds"))
}

#[tokio::test]
async fn a_bad_file_is_refused_whole_and_the_old_configuration_stays() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), "old-key", &[]);
    let tokens = configuration.file("tokens", "old-token\n");
    let configuration = configuration.text("push.token_file", tokens.to_str().unwrap());
    let forwarder = configuration.start().await;
    let started = last_success(&forwarder).await;
    let changed = configuration.clone().connection("acme", &intake.url(), "new-key", &[]);
    let refused = "the configuration was refused";

    changed.clone().set("flush.intervall", "3").write();
    let line = hang_up(&forwarder, refused).await;
    let reason = line["reason"].as_str().unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(reason.contains("flush.intervall") && reason.contains("\"interval\""), "{line}");
    let asked = changed.run(&["health"]).await;
    assert_eq!(asked.status.code(), Some(0), "the process goes on: {asked:?}");
    let slip = std::fs::read_to_string(changed.write()).unwrap() + "oops = = 1\n";
    let slip = configuration.file("slip.toml", slip);
    let asked = configuration.run_by_variable(&slip, &["health"]).await;
    assert_eq!(asked.status.code(), Some(0), "it is asked where it is: {asked:?}");
    let elsewhere = configuration.clone().environment("BRAZE_DATADOG__ADMIN__LISTEN", "127.0.0.1:808i");
    let asked = elsewhere.run(&["health"]).await;
    let told = "environment variable BRAZE_DATADOG__ADMIN__LISTEN: admin.listen: \"127.0.0.1:808i\" ";
    assert!(asked.status.code() == Some(1) && asked.stderr.contains(told), "nobody is asked: {asked:?}");
    configuration.file("braze-datadog.toml", "this is no TOML [");
    assert_eq!(hang_up(&forwarder, refused).await["level"], "ERROR");
    // A token file that can't be used refuses the connections beside it, too.
    changed.write();
    configuration.file("tokens", "");
    let line = hang_up(&forwarder, refused).await;
    assert!(line["reason"].as_str().unwrap().contains("push.token_file"), "{line}");

    let mut events = Events::new(1);
    let push = forwarder.push_request(events.push_body(100)).bearer_auth("old-token");
    assert_eq!(push.send().await.unwrap().status(), 200);
    forwarder.settled(100).await;
    assert_eq!(&intake.sums_of("old-key"), &events.truth().by_tags);
    assert_eq!(intake.sums_of("new-key").len(), 0);
    assert!(logged(&forwarder, READ_AGAIN).is_empty());
    support::eventually("a second has passed", async || (support::unix_now() > started.1).then_some(()))
        .await;
    assert_eq!(last_success(&forwarder).await, (0, started.1));

    // And it goes on when the files are right again.
    configuration.file("tokens", "new-token\n");
    hang_up(&forwarder, READ_AGAIN).await;
    let (is_successful, at) = last_success(&forwarder).await;
    assert!(is_successful == 1 && at > started.1, "{is_successful} {at}, {started:?}");
    let push = forwarder.push_request(events.push_body(100)).bearer_auth("new-token");
    assert_eq!(push.send().await.unwrap().status(), 200);
    intake.wait_for_sends(events.truth().sends).await;
    assert!(!intake.sums_of("new-key").is_empty());
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_named_and_the_log_level_changes_at_once() {
    let intake = Intake::start();
    let configuration =
        Configuration::new().connection("acme", &intake.url(), KEY, &[]).text("log.level", "warn");
    let forwarder = configuration.start().await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    forwarder.settled(100).await;
    assert_eq!(forwarder.stderr().matches("\"INFO\"").count(), 0, "{}", forwarder.stderr());

    let restart = "needs a restart";
    configuration.clone().text("flush.interval", "3s").set("lanes", "3").write();
    hang_up(&forwarder, restart).await;
    support::eventually("both keys are named", async || {
        (logged(&forwarder, restart).len() == 2).then_some(())
    })
    .await;
    let lines = logged(&forwarder, restart);
    let named: BTreeSet<&str> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(named, BTreeSet::from(["flush.interval", "lanes"]));
    assert!(lines.iter().all(|line| line["level"] == "WARN"), "{lines:?}");

    configuration.clone().text("log.level", "info").write();
    assert_eq!(hang_up(&forwarder, READ_AGAIN).await["level"], "INFO");
    assert_eq!(logged(&forwarder, restart).len(), 2, "what is as it was started with needs no restart");
    forwarder.push_accepted(Events::new(2).push_body(100)).await;
    support::eventually("flushes are logged now", async || {
        (!logged(&forwarder, "flushed").is_empty()).then_some(())
    })
    .await;
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn rust_log_wins_over_the_level_of_a_file_that_is_read_again_too() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), KEY, &["g"])
        .environment("RUST_LOG", "warn")
        .text("log.level", "info");
    let forwarder = configuration.start().await;
    configuration.connection("beta", &intake.url(), KEY, &[]).text("log.level", "debug").write();
    forwarder.signal("HUP");
    support::eventually("it was read again", async || {
        let active = forwarder.metrics().await.sum("braze_datadog_connections", &[("state", "active")]);
        (active == 2).then_some(())
    })
    .await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    forwarder.settled(100).await;
    let log = forwarder.stderr();
    assert!(!log.contains("\"INFO\"") && !log.contains("\"DEBUG\""), "{log}");
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn push_tokens_are_rotated_without_a_restart() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let tokens = configuration.file("tokens", "first\n");
    let configuration = configuration.text("push.token_file", tokens.to_str().unwrap());
    let forwarder = configuration.start().await;
    let client = support::client(None);
    // All on one connection, which knows the new tokens too.
    let status = async |token: &str| {
        let request = client.post(forwarder.push_url("/v1/events")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!([status("first").await, status("second").await], [200, 401]);
    for (content, expected) in [("first\nsecond\n", [200, 200]), ("second\n", [401, 200])] {
        std::fs::write(&tokens, content).unwrap();
        hang_up(&forwarder, READ_AGAIN).await;
        assert_eq!([status("first").await, status("second").await], expected, "{content:?}");
    }
    // Until a restart takes over another file, this one is in force, and watched.
    let other = configuration.file("other-tokens", "other\n");
    configuration.text("push.token_file", other.to_str().unwrap()).write();
    hang_up(&forwarder, "needs a restart").await;
    // Twice: the first may be read because other files are watched now.
    for (content, expected) in [("first\n", [200, 401]), ("second\n", [401, 200])] {
        std::fs::write(&tokens, content).unwrap();
        support::eventually("the old file is read again", async || {
            ([status("first").await, status("second").await] == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_main_file_waits_for_sighup_whatever_other_files_change() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let tokens = configuration.file("tokens", "first\n");
    let configuration = configuration.text("push.token_file", tokens.to_str().unwrap());
    let forwarder = configuration.start().await;
    let push = async |token: &str| {
        let push = forwarder.push_request(Events::new(1).push_body(1)).bearer_auth(token);
        push.send().await.unwrap().status().as_u16()
    };
    let reloaded = async || forwarder.metrics().await.sum("braze_datadog_config_last_reload_successful", &[]);
    // It is being written: half of it, and then something that is right and is not wanted yet.
    let prepared = configuration.clone().connection("beta", &intake.url(), KEY, &["g"]);
    for (number, token) in (0..).zip(["second", "third"]) {
        if number == 0 {
            configuration.file("braze-datadog.toml", "this is no TOML [");
        } else {
            prepared.write();
        }
        std::fs::write(&tokens, token).unwrap();
        support::eventually("the token is in force", async || (push(token).await == 200).then_some(())).await;
        assert_eq!((reloaded().await, logged(&forwarder, READ_AGAIN).len()), (1, 0));
    }
    // What SIGHUP was refused for stays to be seen, and another file is taken all the same.
    configuration.file("braze-datadog.toml", "this is no TOML [");
    hang_up(&forwarder, "the configuration was refused").await;
    std::fs::write(&tokens, "fourth").unwrap();
    support::eventually("the token is in force", async || (push("fourth").await == 200).then_some(())).await;
    assert_eq!(reloaded().await, 0);
    prepared.write();
    assert_eq!(hang_up(&forwarder, READ_AGAIN).await["added"], "beta");
    assert_eq!(reloaded().await, 1);
}

/// The next datagram to the service manager, as its lines.
async fn told(manager: &UnixDatagram) -> Vec<String> {
    let mut datagram = [0; 1024];
    let length = timeout(support::PATIENCE, manager.recv(&mut datagram)).await.unwrap().unwrap();
    str::from_utf8(&datagram[..length]).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// The next datagram that is no sign of life.
async fn news(manager: &UnixDatagram) -> Vec<String> {
    loop {
        let lines = told(manager).await;
        if lines != ["WATCHDOG=1"] {
            return lines;
        }
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_start_reload_life_and_stop() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let socket = configuration.home().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let configuration = configuration
        .environment("NOTIFY_SOCKET", socket.to_str().unwrap())
        .environment("WATCHDOG_USEC", "300000");
    let mut forwarder = configuration.start().await;
    assert_eq!(news(&manager).await, ["READY=1"]);
    // The signs of life keep coming.
    for _ in 0..5 {
        let alive = timeout(support::PATIENCE, told(&manager)).await.unwrap();
        assert_eq!(alive, ["WATCHDOG=1"]);
    }

    for refused in [false, true] {
        if refused {
            configuration.file("braze-datadog.toml", "lanes = ");
        }
        forwarder.signal("HUP");
        let reloading = news(&manager).await;
        let monotonic = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(monotonic.parse::<u64>().unwrap() > 0);
        assert!(reloading.len() == 2 && reloading.contains(&"RELOADING=1".to_owned()), "{reloading:?}");
        assert_eq!(news(&manager).await, ["READY=1"]);
    }

    forwarder.signal("TERM");
    assert_eq!(news(&manager).await, ["STOPPING=1"]);
    assert!(forwarder.wait().await.success());
}

#[tokio::test]
async fn a_service_manager_that_could_not_be_told_of_the_start_is_told_once_it_reads() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let socket = configuration.home().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let others = std::os::unix::net::UnixDatagram::unbound().unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send_to(b"STATUS=", &socket).is_ok() {}
    let forwarder = configuration.environment("NOTIFY_SOCKET", socket.to_str().unwrap()).start().await;
    forwarder.says("the service manager could not be told").await;
    loop {
        let said = timeout(support::PATIENCE, told(&manager)).await.unwrap();
        if said != ["STATUS="] {
            assert_eq!(said, ["READY=1"]);
            break;
        }
    }
}

/// A directory of connections with one.
fn connections_directory(configuration: &Configuration, intake: &Intake) -> PathBuf {
    let directory = configuration.home().join("connections");
    std::fs::create_dir(&directory).unwrap();
    let one = format!("url = \"{}\"\napi_key = \"{KEY}\"\n", intake.url());
    std::fs::write(directory.join("acme.toml"), one).unwrap();
    directory
}

#[tokio::test]
async fn the_end_of_a_refusal_is_logged_where_nothing_else_has_changed() {
    let intake = Intake::start();
    let configuration = Configuration::new();
    let directory = connections_directory(&configuration, &intake);
    let forwarder = configuration.text("connections_directory", directory.to_str().unwrap()).start().await;
    let away = directory.with_extension("away");
    for (from, to, message) in
        [(&directory, &away, "configuration was refused"), (&away, &directory, "nothing is refused any more")]
    {
        std::fs::rename(from, to).unwrap();
        forwarder.says(message).await;
    }
}

/// Makes a pipe with a name, which nobody writes to.
fn make_fifo(path: &Path) {
    // A file may be there; it is replaced.
    let _absent = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_is_refused_and_holds_nothing_up() {
    let intake = Intake::start();
    let configuration = Configuration::new();
    let directory = connections_directory(&configuration, &intake);
    let tokens = configuration.file("tokens", "token");
    let configuration = configuration
        .text("connections_directory", directory.to_str().unwrap())
        .text("push.token_file", tokens.to_str().unwrap());
    let mut forwarder = configuration.start().await;
    let written = configuration.home().join("braze-datadog.toml");
    for path in [&written, &directory.join("acme.toml"), &tokens] {
        let content = std::fs::read(path).unwrap();
        make_fifo(path);
        let refused = hang_up(&forwarder, "configuration was refused").await;
        assert!(refused["reason"].as_str().unwrap().contains("is not a regular file"), "{refused}");
        let checked = Command::new(env!("CARGO_BIN_EXE_braze-datadog"))
            .args(["check", "--config"])
            .arg(&written)
            .output()
            .unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(78), "{said}");
        assert!(said.contains("is not a regular file"), "{said}");
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, content).unwrap();
    }
    hang_up(&forwarder, READ_AGAIN).await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_service_manager_with_an_abstract_socket_is_told_and_one_that_does_not_read_holds_nothing_up() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let name = format!("braze-datadog-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let manager = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = UnixDatagram::from_std(manager).unwrap();
    let configuration =
        configuration.environment("NOTIFY_SOCKET", &format!("@{name}")).environment("WATCHDOG_USEC", "3000");
    let mut forwarder = configuration.start().await;
    assert_eq!(news(&manager).await, ["READY=1"]);
    // By then so many signs of life wait that no more fit.
    forwarder.says("the service manager could not be told").await;
    forwarder.push_accepted(Events::new(1).push_body(10)).await;
    hang_up(&forwarder, READ_AGAIN).await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_is_heard_and_others_have_no_effect() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .wrapper("exec env --block-signal=TERM --ignore-signal=HUP");
    let mut forwarder = configuration.start().await;
    for signal in ["USR1", "USR2", "QUIT", "ALRM", "XFSZ"] {
        forwarder.signal(signal);
    }
    hang_up(&forwarder, READ_AGAIN).await;
    assert_eq!(forwarder.ended(), None);
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
}
