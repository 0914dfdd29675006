//! How a run ends: what was answered with 200 is counted exactly once over this run and the next, a stop
//! takes no longer than it may, and the exit status says how it was.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::support::braze::{Braze, Load, assert_each_once};
use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Finished, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{self, KEY};
use serde_json::{Value, json};

fn configuration(intake: &Intake) -> Configuration {
    Configuration::new().connection("acme", &intake.url(), KEY, &[])
}

/// The log lines that have this message.
fn logged(forwarder: &Forwarder, message: &str) -> Vec<Value> {
    let lines = forwarder.stderr();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"].as_str().is_some_and(|found| found.contains(message))).collect()
}

async fn wait_for_log(forwarder: &Forwarder, message: &str) {
    support::eventually(message, async || (!logged(forwarder, message).is_empty()).then_some(())).await;
}

/// A forwarder with a flush that hangs, and how many sends are in it.
async fn hanging(configuration: &Configuration, intake: &Intake) -> (Forwarder, u64) {
    intake.always(Behaviour::Hang);
    let forwarder = configuration.start().await;
    let mut events = Events::new(7);
    forwarder.push_accepted(events.push_body(100)).await;
    intake.wait_for_requests(1).await;
    (forwarder, events.truth().sends)
}

#[tokio::test]
async fn sigterm_under_load_counts_every_answered_event_once_over_this_run_and_the_next() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let forwarder = configuration.start().await;
    let load = Load::start(&forwarder.push_url("/v1/events"), 8, &["group-a", "group-b"]);
    let mut running = Some(forwarder);
    for signal in ["TERM", "INT", "TERM"] {
        load.more(60).await;
        let mut stopping = running.take().unwrap();
        stopping.signal(signal);
        assert_eq!(stopping.wait().await.code(), Some(0), "after SIG{signal}");
        assert!(logged(&stopping, "cut off").is_empty() && logged(&stopping, "still open").is_empty());
        running = Some(configuration.start().await);
    }
    load.more(20).await;
    let batches = load.finish().await;
    assert_eq!(running.take().unwrap().stop().await.code(), Some(0));
    assert_each_once(&intake.accepted(), batches);
    assert_eq!(intake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn sigint_flushes_what_is_counted_without_waiting_for_the_next_flush() {
    let intake = Intake::start();
    let forwarder = configuration(&intake).text("flush.interval", "10m").start().await;
    let mut events = Events::new(1);
    for _ in 0..5 {
        forwarder.push_accepted(events.push_body(100)).await;
    }
    support::eventually("everything is counted", async || {
        (forwarder.metrics().await.books().received == events.truth().events).then_some(())
    })
    .await;
    assert_eq!(intake.sends(), 0);
    let mut forwarder = forwarder;
    forwarder.signal("INT");
    assert_eq!(forwarder.wait().await.code(), Some(0));
    assert_eq!(&intake.sums_of(KEY), &events.truth().by_tags);
    let last = logged(&forwarder, "stopped").pop().unwrap();
    assert_eq!((&last["accepted"], &last["dropped"]), (&events.truth().sends.into(), &0.into()), "{last}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_leaves_what_has_no_outcome_in_the_queue() {
    let intake = Intake::start();
    let configuration = configuration(&intake).text("flush.timeout", "60s").text("shutdown_timeout", "60s");
    let (mut forwarder, sends) = hanging(&configuration, &intake).await;
    forwarder.signal("TERM");
    wait_for_log(&forwarder, "stopping").await;
    let braze = Braze::new(&forwarder.push_url("/v1/events"));
    support::eventually("it takes no more events", async || {
        (braze.push(r#"{"events":[{"id":"x"}]}"#).await != Some(200)).then_some(())
    })
    .await;
    let asked = Instant::now();
    forwarder.signal("INT");
    assert_eq!(forwarder.wait().await.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    wait_for_log(&forwarder, "a second signal").await;

    intake.always(Behaviour::Accept);
    let next = configuration.start().await;
    intake.wait_for_sends(sends).await;
    assert_eq!(next.stop().await.code(), Some(0));
    assert_eq!(intake.sends(), sends);
}

#[tokio::test]
async fn a_stop_waits_for_outcomes_up_to_shutdown_timeout_and_books_the_rest() {
    let intake = Intake::start();
    let configuration = configuration(&intake).text("flush.timeout", "60s").text("shutdown_timeout", "2s");
    let (mut forwarder, sends) = hanging(&configuration, &intake).await;
    let asked = Instant::now();
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
    let took = asked.elapsed();
    assert!((Duration::from_millis(1_900)..Duration::from_secs(10)).contains(&took), "it took {took:?}");
    let dropped = logged(&forwarder, "sends were dropped");
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert_eq!((&dropped[0]["level"], &dropped[0]["reason"]), (&"ERROR".into(), &"shutdown".into()));
    assert_eq!((&dropped[0]["connection"], &dropped[0]["sends"]), (&"acme".into(), &sends.into()));
    let last = logged(&forwarder, "stopped").pop().unwrap();
    assert_eq!((&last["accepted"], &last["dropped"]), (&0.into(), &sends.into()), "{last}");

    // What was dropped has its outcome: it is not counted again.
    intake.always(Behaviour::Accept);
    let next = configuration.start().await;
    wait_for_log(&next, "the queue is open").await;
    assert_eq!(logged(&next, "the queue is open")[0]["waiting"], 0);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(next.stop().await.code(), Some(0));
    assert_eq!(intake.sends(), 0);
}

#[tokio::test]
async fn a_push_that_is_under_way_gets_two_seconds_more_and_is_told_where_it_is_cut_off() {
    let intake = Intake::start();
    let mut forwarder = configuration(&intake).text("shutdown_timeout", "60s").start().await;
    let address = forwarder.push_url("").replace("http://", "");
    let mut halves = [address.clone(), address].map(|address| TcpStream::connect(address).unwrap());
    for half in &mut halves {
        half.write_all(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[").unwrap();
    }
    support::eventually("both are open", async || {
        // The answer to a later one says that these were accepted.
        (forwarder.push("[]").await.status() == 200).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
    let took = asked.elapsed();
    assert!((Duration::from_millis(1_900)..Duration::from_secs(20)).contains(&took), "it took {took:?}");
    let cut = logged(&forwarder, "connections were cut off at the stop");
    assert!(matches!(&cut[..], [one] if one["connections"] == 2), "{cut:?}\n{}", forwarder.stderr());
}

/// The exit status, and that the last words name all of this.
fn assert_ended(finished: &Finished, status: i32, named: &[&str]) {
    assert_eq!(finished.status.code(), Some(status), "{finished:?}");
    let last = finished.stderr.lines().last().unwrap_or_default();
    for name in named {
        assert!(last.starts_with("braze-datadog: ") && last.contains(name), "{name:?} is not in {last:?}");
    }
    assert!(!finished.stderr.contains(KEY) && !finished.stdout.contains(KEY), "{finished:?}");
}

#[tokio::test]
async fn a_run_that_cannot_start_ends_with_1_and_says_why() {
    let intake = Intake::start();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for setting in ["push.listen", "admin.listen"] {
        let finished = configuration(&intake).text(setting, &taken).run(&["run"]).await;
        assert_ended(&finished, 1, &[setting, &taken, "already in use"]);
    }

    let configuration = configuration(&intake);
    let file = configuration.file("no-directory", "");
    let path = file.to_str().unwrap();
    let finished = configuration.clone().text("queue.embedded.directory", path).run(&["run"]).await;
    assert_ended(&finished, 1, &["queue.embedded.directory", path]);

    // Another process on other ports, on the same queue.
    let first = configuration.start().await;
    let second = Configuration::new();
    let queue = configuration.home().join("queue");
    let queue = queue.to_str().unwrap();
    let second = second.connection("acme", &intake.url(), KEY, &[]).text("queue.embedded.directory", queue);
    assert_ended(&second.run(&["run"]).await, 1, &[queue, "in use", &first.id().to_string()]);
    assert_eq!(first.admin("/readyz").await.0, 200);
    assert_eq!(first.stop().await.code(), Some(0));
}

#[tokio::test]
async fn check_warns_where_run_can_not_start_for_want_of_root_certificates() {
    let configuration = Configuration::new();
    let (file, directory) = (configuration.file("none.pem", ""), configuration.home().join("none"));
    std::fs::create_dir(&directory).unwrap();
    let configuration = configuration
        .text("connections.acme.site", "EU1")
        .text("connections.acme.api_key", KEY)
        .set("validate_keys", "false")
        .environment("SSL_CERT_FILE", file.to_str().unwrap())
        .environment("SSL_CERT_DIR", directory.to_str().unwrap());
    assert_ended(&configuration.run(&["run"]).await, 1, &["SSL_CERT_FILE"]);
    let checked = configuration.run(&["check"]).await;
    let warned =
        checked.stderr.lines().any(|line| line.contains("warning: ") && line.contains("SSL_CERT_FILE"));
    assert!(warned && checked.status.success(), "{checked:?}");
    assert_eq!(configuration.run(&["check", "--deny-warnings"]).await.status.code(), Some(78));
    // Nothing is sent over TLS.
    let dry = configuration.set("connections.acme.dry_run", "true").run(&["check"]).await;
    assert!(dry.status.success() && !dry.stderr.contains("SSL_CERT_FILE"), "{dry:?}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_names_file_key_and_the_nearest_key() {
    let intake = Intake::start();
    let wrong = configuration(&intake).text("flush.intervall", "1s");
    let path = wrong.write();
    for subcommand in ["run", "check"] {
        let finished = wrong.run(&[subcommand]).await;
        let named = [path.to_str().unwrap(), "flush.intervall", "\"interval\""];
        assert_ended(&finished, 78, &named);
    }
    let finished = configuration(&intake).text("flush.interval", "1500ms").run(&["run"]).await;
    assert_ended(&finished, 78, &["flush.interval", "1500ms"]);
    let finished = Configuration::new().run(&["run"]).await;
    assert_eq!(finished.status.code(), Some(78), "no connection: {finished:?}");
    let finished = configuration(&intake).run(&["check"]).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.stdout.contains("acme") && !finished.stdout.contains(KEY), "{finished:?}");
}

/// Pushes one send of an app group.
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
async fn push_send(forwarder: &Forwarder, group: &str, id: u32) {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let event = json!({
        "event_type": "users.messages.email.Send", "id": format!("{group}-{id}"), "time": now,
        "app_group_id": group, "campaign_id": "c",
    });
    forwarder.push_accepted(json!({"events": [event]}).to_string()).await;
}

#[tokio::test]
async fn a_log_and_tables_that_nobody_reads_stop_nothing() {
    let (healthy, failing) = (Intake::start(), Intake::start());
    failing.always(Behaviour::Status(500, "out of order"));
    let (configuration, _reader) = Configuration::new()
        .connection("healthy", &healthy.url(), KEY, &["g-healthy"])
        .connection("failing", &failing.url(), KEY, &["g-failing"])
        .connection("dry", &healthy.url(), KEY, &["g-dry"])
        .set("connections.dry.dry_run", "true")
        .unread_output();
    let mut forwarder = configuration.start().await;
    for id in 0..20 {
        for group in ["g-healthy", "g-failing", "g-dry"] {
            push_send(&forwarder, group, id).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    healthy.wait_for_sends(20).await;
    let books = forwarder.settled(60).await;
    assert_eq!((books.accepted, books.dropped), (40, 20));
    assert_eq!(forwarder.admin("/readyz").await.0, 200);
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
}

#[tokio::test]
async fn the_books_are_the_last_line_however_late_the_output_is_read() {
    const CONNECTIONS: usize = 24;
    let intake = Intake::start();
    let mut configuration = Configuration::new().text("flush.timeout", "1s");
    let mut events = String::new();
    for number in 0..CONNECTIONS {
        let (name, group) = (format!("dry{number}"), format!("g-{number}"));
        configuration = configuration
            .connection(&name, &intake.url(), &format!("key-{number}"), &[&group])
            .set(&format!("connections.{name}.dry_run"), "true");
        // A table of its own, of 6 KB: all of them are more than a pipe holds.
        for send in 0..40 {
            let long = format!("{send:030}");
            let event = json!({
                "event_type": "users.messages.email.Send",
                "id": format!("00000000-0000-4000-8000-{number:04}{send:08}"),
                "time": support::unix_now(),
                "properties": {
                    "app_group_id": group, "campaign_id": long, "campaign_name": long, "canvas_id": long,
                    "canvas_name": long, "canvas_step_id": long, "canvas_step_name": long,
                },
            });
            events += &event.to_string();
            events.push('\n');
        }
    }
    let path = configuration.file("events.ndjson", events);
    let (configuration, mut reader) = configuration.piped_output();
    let mut forwarder = configuration.spawn(&["run", "--once", "--import", path.to_str().unwrap()]);
    wait_for_log(&forwarder, "a dry run's table was left out").await;
    let reading = std::thread::spawn(move || {
        let mut printed = String::new();
        reader.read_to_string(&mut printed).map(|_| printed)
    });
    forwarder.wait().await;
    let left_out = logged(&forwarder, "a dry run's table was left out").len();
    // They hold the pipe open.
    drop((forwarder, configuration));
    let printed = reading.join().unwrap().unwrap();
    let books: Value = serde_json::from_str(printed.lines().next_back().unwrap()).expect("the books");
    assert_eq!(books["received"], 40 * CONNECTIONS);
    let tables = (0..CONNECTIONS).filter(|number| printed.contains(&format!("\ndry{number} → "))).count();
    // Some may have been half printed when their time was over, and are both.
    assert!(left_out < CONNECTIONS, "{tables} tables are printed, {left_out} are left out");
    assert!(tables + left_out >= CONNECTIONS, "{tables} tables are printed, {left_out} are left out");
}

#[tokio::test]
async fn lost_log_lines_are_counted_and_told_once_somebody_reads() {
    let intake = Intake::start();
    let mut configuration = configuration(&intake);
    // Each is told in a line at the start: more than can wait.
    for number in 0..9_000 {
        let name = format!("c{number}");
        configuration = configuration.connection(&name, &intake.url(), KEY, &[&name]);
    }
    let (configuration, reader) = configuration.unread_output();
    let forwarder = configuration.start().await;
    support::eventually("lines are lost", async || {
        let lost = forwarder.metrics().await.sum("braze_datadog_log_lines_lost_total", &[]);
        (lost > 0).then_some(())
    })
    .await;
    let (status, text) = forwarder.admin("/status").await;
    let status = (status == 200).then(|| serde_json::from_str::<Value>(&text).unwrap()).unwrap();
    assert!(status["log_lines_lost"].as_u64() > Some(0), "{}", status["log_lines_lost"]);

    let told = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines.into_iter().find(|line| line.contains("log lines were lost before this one"))
    });
    support::eventually("the loss is told", async || told.is_finished().then_some(())).await;
    let told: Value = serde_json::from_str(&told.join().unwrap().unwrap()).unwrap();
    assert!(told["lines"].as_u64() > Some(0), "{told}");
}
