//! `queue.kind = "storage"`, the real binary: on a directory, and on servers that speak the protocols of S3, Azure Blob Storage
//! and Google Cloud Storage, behind a proxy that makes them fail.

mod proxy;
mod servers;

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use serde_json::json;

use self::proxy::{Fault, Proxy};
use self::servers::Server;
use crate::crash::{Round, assert_rounds, kill};
use crate::support::braze::{by_mark, marked_events};
use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{self, KEY, gzip};

const HOURS: [&str; 3] = ["2026-11-27-10", "2026-11-27-11", "2026-11-27-12"];

/// A bucket, and what must come of it.
struct Bucket<'s> {
    server: &'s Server,
    events: Events,
    written: u32,
}

impl<'s> Bucket<'s> {
    async fn of(server: &'s Server) -> Self {
        server.make_bucket().await;
        Self { server, events: Events::new(7), written: 0 }
    }

    async fn put(&self, path: &str, content: Vec<u8>) {
        self.server.put(path, content).await;
    }

    /// Writes objects as Currents does, every other one packed; also such of a type that is not counted.
    async fn write(&mut self, objects: u32, events: usize) {
        for _ in 0..objects {
            let body = self.events.ndjson(events).into_bytes();
            self.write_object(body).await;
        }
    }

    /// As [`Bucket::write`], each object a marked batch: its number among those that were written is the mark.
    async fn write_marked(&mut self, objects: u32) {
        for _ in 0..objects {
            let events = marked_events(u64::from(self.written), "group-a");
            let body: String = events.flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
            self.write_object(body.into_bytes()).await;
        }
    }

    async fn write_object(&mut self, body: Vec<u8>) {
        let hour = HOURS[self.written as usize % HOURS.len()];
        let body = if self.written.is_multiple_of(2) { gzip(&body) } else { body };
        // A path without an event type: the events say theirs.
        self.put(&format!("currents/mixed/date={hour}/{:04}", self.written), body).await;
        let other = format!("currents/event_type=users.behaviors.Purchase/date={hour}/{:04}", self.written);
        self.put(&other, b"not even JSON".to_vec()).await;
        self.written += 1;
    }

    fn sends(&self) -> u64 {
        self.events.truth().sends
    }
}

fn configuration(intake: &Intake, url: &str, options: &[(&str, String)]) -> Configuration {
    let configuration = Configuration::new().without("push.listen");
    let state = configuration.home().join("state");
    let configuration = configuration
        .text("queue.kind", "storage")
        .text("queue.storage.url", url)
        .text("queue.storage.start", "beginning")
        .text("queue.storage.poll_interval", "1s")
        .text("queue.storage.state_directory", state.to_str().unwrap())
        .connection("acme", &intake.url(), KEY, &[])
        .text("events.late", "restamp")
        // Objects are repeated as a whole after a kill, if at all: nothing may hide that.
        .text("dedup.window", "0s");
    options.iter().fold(configuration, |configuration, (key, value)| {
        configuration.text(&format!("queue.storage.options.{key}"), value)
    })
}

async fn wait_until_settled(forwarder: &Forwarder) {
    support::eventually("everything is settled", async || {
        (forwarder.metrics().await.sum("braze_datadog_queue_depth", &[]) == 0).then_some(())
    })
    .await;
}

/// Waits until each of the objects that were written by [`Bucket::write_marked`] is counted.
async fn wait_for_marks(intake: &Intake, written: u32) {
    support::eventually("every object is counted", async || {
        (by_mark(&intake.accepted()).len() == written as usize).then_some(())
    })
    .await;
}

async fn wait_until_ready(forwarder: &Forwarder, is_ready: bool) -> String {
    support::eventually("readiness changes", async || {
        let (status, words) = forwarder.admin("/readyz").await;
        ((status == 200) == is_ready).then_some(words)
    })
    .await
}

/// Everything is counted, once, over a kill between two flushes and failures of the store.
async fn counts_every_object_once(server: Server) {
    let intake = Intake::start();
    let proxy = Proxy::start(server.address(), server.is_known_by_name());
    let mut bucket = Bucket::of(&server).await;
    bucket.write(6, 200).await;
    let (url, options) = server.settings(proxy.address());
    let configuration = configuration(&intake, &url, &options);
    let forwarder = configuration.start().await;
    intake.wait_for_sends(bucket.sends()).await;
    wait_until_settled(&forwarder).await;
    forwarder.crash().await;

    bucket.write(6, 200).await;
    proxy.fail_with([Fault::Busy, Fault::CutAfter(600), Fault::Closed, Fault::CutAfter(3000), Fault::Busy]);
    let forwarder = configuration.start().await;
    intake.wait_for_sends(bucket.sends()).await;
    wait_until_settled(&forwarder).await;
    assert_eq!(proxy.faults_left(), 0, "the faults were not met");

    // No rights any more, and credentials that have expired: that is told, and ends.
    for (refusal, advice) in [
        (("403 Forbidden", "AccessDenied"), "the right to list and read is missing"),
        (("400 Bad Request", "ExpiredToken"), "check credentials"),
    ] {
        proxy.refuse(Some(refusal));
        let words = wait_until_ready(&forwarder, false).await;
        assert!(words.contains("can't be listed") && words.contains(advice), "{words}");
        bucket.write(2, 100).await;
        proxy.refuse(None);
        intake.wait_for_sends(bucket.sends()).await;
        wait_until_ready(&forwarder, true).await;
    }
    wait_until_settled(&forwarder).await;
    forwarder.books_balance().await;
    assert!(forwarder.stop().await.success());
    // Nothing comes again.
    let finished = configuration.run(&["run", "--once"]).await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(intake.sends(), bucket.sends());
    assert_eq!(intake.violations(), [""; 0]);
}

/// Killed over and over in the middle of things: nothing is lost, and what is counted again was in the flush that was under
/// way.
#[tokio::test]
async fn kills_lose_nothing_and_repeat_what_was_under_way_at_most() {
    /// How long a run lives, in milliseconds; `None`: until all is settled, and Datadog has something that came behind it.
    const LIVES: [Option<u64>; 9] =
        [Some(150), None, Some(400), None, Some(900), Some(1100), None, Some(1500), Some(2100)];
    let intake = Intake::start();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    let (url, options) = server.settings(server.address());
    let configuration = configuration(&intake, &url, &options);
    // Each run has a key of its own, by which its requests are known.
    let key_of = |run: usize| format!("{KEY}-{run}");
    let of_run = |run: usize| configuration.clone().text("connections.acme.api_key", &key_of(run));
    bucket.write_marked(40).await;
    for (run, life) in LIVES.into_iter().enumerate() {
        let mut forwarder = of_run(run).start().await;
        if let Some(milliseconds) = life {
            bucket.write_marked(10).await;
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            forwarder.signal("KILL");
        } else {
            wait_for_marks(&intake, bucket.written).await;
            wait_until_settled(&forwarder).await;
            let process = forwarder.id();
            intake.decide(move |_| {
                kill(process);
                Behaviour::Accept
            });
            bucket.write_marked(10).await;
        }
        assert_eq!(forwarder.wait().await.signal(), Some(9));
        intake.always(Behaviour::Accept);
    }
    let last = LIVES.len();
    let finished = of_run(last).run(&["run", "--once"]).await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let sent = intake.sends();
    let finished = of_run(last).run(&["run", "--once"]).await;
    assert!(finished.status.success() && intake.sends() == sent, "something came again after the end");

    let requests = intake.requests();
    let rounds = (0..=last).map(|run| Round::of(&requests, |request| request.key() == key_of(run)));
    assert_rounds(rounds, u64::from(bucket.written));
}

#[tokio::test]
async fn a_directory_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    let (url, options) = server.settings(server.address());
    let configuration = configuration(&intake, &url, &options);
    let forwarder = configuration.start().await;
    for _ in 0..3 {
        bucket.write(2, 50).await;
        intake.wait_for_sends(bucket.sends()).await;
    }
    wait_until_settled(&forwarder).await;
    support::eventually("the books say so", async || {
        let counted = forwarder.metrics().await.sum("braze_datadog_storage_objects_counted_total", &[]);
        (counted == 6).then_some(())
    })
    .await;
    // A second forwarder with the same state is told whose it is.
    let second = configuration.clone().without("admin.listen").text("admin.listen", "127.0.0.1:0");
    let finished = second.run(&["run"]).await;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("another process has it"), "{}", finished.stderr);
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_url_is_imported_once() {
    let directory = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    bucket.write(3, 50).await;
    let (url, _) = server.settings(server.address());
    let followed = configuration(&intake, &url, &[]);
    let import = ["run", "--once", "--import", &url];
    let refused = followed.run(&import).await;
    assert!(refused.stderr.contains("--import of a URL can't be used with"), "{}", refused.stderr);
    let configuration = followed.text("queue.kind", "embedded");
    for arguments in [&import[..], &import[..]] {
        let finished = configuration.run(arguments).await;
        assert!(finished.status.success(), "{}", finished.stderr);
        assert_eq!(intake.sends(), bucket.sends());
    }
    let again: Vec<&str> = import.iter().copied().chain(["--again"]).collect();
    assert!(configuration.run(&again).await.status.success());
    assert_eq!(intake.sends(), 2 * bucket.sends());
}

#[tokio::test]
async fn a_url_that_may_hold_a_secret_or_is_cut_off_is_not_imported() {
    let intake = Intake::start();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    bucket.write(1, 50).await;
    let (url, _) = server.settings(server.address());
    let url = url.trim_end_matches('/');
    let configuration = configuration(&intake, url, &[]).text("queue.kind", "embedded");
    for (url, expected) in [
        (format!("{url}/#TOPSECRET/"), "has a ? or # in it"),
        (format!("{url}/?TOPSECRET"), "has a ? or # in it"),
        (format!("{url}/TOPSECRET@b/"), "has an @ in it; credentials belong into queue.storage.options"),
    ] {
        let finished = configuration.run(&["run", "--once", "--import", &url]).await;
        assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(!finished.stderr.contains("TOPSECRET"), "{}", finished.stderr);
    }
    assert_eq!(intake.sends(), 0);
}

/// A service manager starts it anew then, and that opens the file anew, which a failed write has shut.
#[tokio::test]
async fn a_state_that_can_not_be_written_ends_the_process_whatever_writes_it() {
    let intake = Intake::start();
    let directory = tempfile::tempdir().unwrap();
    let bucket = directory.path().join("bucket");
    let configuration = configuration(&intake, &format!("file://{}", bucket.display()), &[]);
    // It is not ready.
    let mut forwarder = configuration.spawn(&["run"]);
    forwarder.says("a bucket can't be listed").await;
    let state = configuration.home().join("state");
    std::fs::rename(&state, configuration.home().join("away")).unwrap();
    // Its first listing writes where its reading begins.
    std::fs::create_dir(&bucket).unwrap();
    assert_eq!(forwarder.wait().await.code(), Some(1), "{}", forwarder.log());
    let log = forwarder.log();
    assert!(log.contains("the queue can't acknowledge any more"), "{log}");
    assert!(log.contains("the next start opens it anew"), "{log}");
}

#[tokio::test]
async fn what_a_start_now_passes_is_told_where_it_is_imported_or_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    bucket.write(3, 50).await;
    let (url, _) = server.settings(server.address());
    let followed = configuration(&intake, &url, &[]).text("queue.storage.start", "now");
    let passed = followed.run(&["run", "--once"]).await;
    assert!(passed.status.success() && intake.sends() == 0, "{}", passed.stderr);
    let import = followed.clone().text("queue.kind", "embedded");
    let finished = import.run(&["run", "--once", "--import", &url]).await;
    assert!(finished.status.success() && intake.sends() == 0, "{}", finished.stderr);
    let told = "objects are passed because an earlier run with this state_directory passed them";
    assert!(
        finished.stderr.contains(told) && finished.stderr.contains("\"objects\":3"),
        "{}",
        finished.stderr
    );
    let events = Events::new(8).ndjson(50).into_bytes();
    bucket.put(&format!("currents/mixed/date={}/0000", HOURS[0]), events).await;
    let finished = followed.run(&["run", "--once"]).await;
    assert!(finished.status.success() && intake.sends() > 0, "{}", finished.stderr);
    assert!(finished.stderr.contains("it was passed when it was first seen"), "{}", finished.stderr);
}

#[tokio::test]
async fn an_import_with_an_object_that_is_damaged_counts_the_others_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let server = Server::directory(directory.path());
    let mut bucket = Bucket::of(&server).await;
    bucket.write(3, 50).await;
    bucket.put("event_type=users.messages.email.Send/cut.gz", vec![0x1f, 0x8b, 8, 0, 0]).await;
    let (url, _) = server.settings(server.address());
    let configuration = configuration(&intake, &url, &[]).text("queue.kind", "embedded");
    let finished = configuration.run(&["run", "--once", "--import", &url]).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let told = "one object was not read to its end, and all others were counted: ";
    assert!(finished.stderr.contains(told) && finished.stderr.contains("/cut.gz"), "{}", finished.stderr);
    assert_eq!(intake.sends(), bucket.sends());
}

#[tokio::test]
async fn what_is_configured_wrongly_is_named() {
    let intake = Intake::start();
    let of = |url: &str, key: &str, value: &str| configuration(&intake, url, &[]).text(key, value);
    for (configuration, expected) in [
        (of("events/currents", "log.level", "info"), "write s3://BUCKET/PREFIX/"),
        (
            of("s3://b/", "queue.storage.options.regoin", "x"),
            "queue.storage.options.regoin: S3 has no such option",
        ),
        (of("s3://b/", "queue.storage.start", "yesterday"), "\"now\", \"beginning\", a date"),
        (of("s3://b/", "queue.storage.poll_interval", "10ms"), "queue.storage.poll_interval"),
        (of("s3://b/", "push.listen", "127.0.0.1:0"), "can't be used with queue.kind = \"storage\""),
        (of("s3://b/", "queue.storage.sources.\"s3://b/acme/\"", "g"), "lies within s3://b/"),
        (of("s3://b/x/", "queue.storage.sources.\"s3a://b/x/y/\"", "g"), "s3a://b/x/y lies within s3://b/x"),
        (of("", "log.level", "info"), "queue.storage.url"),
        (
            of("s3://b/", "queue.storage.notifications", "arn:aws:sqs:eu-central-1:1:q"),
            "https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",
        ),
        (
            of("gs://b/", "queue.storage.notifications", "https://sqs.eu-central-1.amazonaws.com/1/q"),
            "none of the URLs is a bucket of S3",
        ),
    ] {
        for command in ["check", "run"] {
            let finished = configuration.run(&[command]).await;
            assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
            assert!(finished.stderr.contains(expected), "{expected}: {}", finished.stderr);
        }
    }
}

/// On real servers, which are installed from the registries.
mod real {
    use super::*;

    #[tokio::test]
    async fn s3_by_moto() {
        counts_every_object_once(Server::s3()).await;
    }

    /// Between two listings that are an hour apart, new objects are known by what S3 puts into a queue of SQS.
    #[tokio::test]
    async fn s3_notifies_by_sqs() {
        let server = Server::s3();
        let intake = Intake::start();
        let mut bucket = Bucket::of(&server).await;
        let queue = server.notify().await;
        bucket.write(2, 50).await;
        let (url, options) = server.settings(server.address());
        let configuration = configuration(&intake, &url, &options)
            .text("queue.storage.poll_interval", "1h")
            .text("queue.storage.notifications", &queue);
        let forwarder = configuration.start().await;
        intake.wait_for_sends(bucket.sends()).await;
        let stray = json!({"QueueUrl": queue, "MessageBody": "what somebody else has put here"});
        server.ask_sqs("SendMessage", &stray).await;
        for _ in 0..2 {
            bucket.write(4, 50).await;
            intake.wait_for_sends(bucket.sends()).await;
        }
        wait_until_settled(&forwarder).await;
        assert_eq!(forwarder.metrics().await.sum("braze_datadog_storage_listings_total", &[]), 1);
        support::eventually("what is known is deleted, and what is no notification is not", async || {
            let asked = json!({"QueueUrl": queue, "AttributeNames": ["All"]});
            let attributes = server.ask_sqs("GetQueueAttributes", &asked).await["Attributes"].take();
            let count = |name: &str| attributes[name].as_str().map_or(0, |count| count.parse().unwrap());
            let all = count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible");
            (all == 1).then_some(())
        })
        .await;
        assert!(forwarder.log().contains("is no notification of S3"), "{}", forwarder.log());

        // Away, it is told, and the bucket is listed as if there were none.
        server.ask_sqs("DeleteQueue", &json!({"QueueUrl": queue})).await;
        assert!(forwarder.stop().await.success());
        let configuration = configuration.text("queue.storage.poll_interval", "1s");
        let forwarder = configuration.start().await;
        bucket.write(3, 50).await;
        intake.wait_for_sends(bucket.sends()).await;
        wait_until_ready(&forwarder, true).await;
        assert!(forwarder.log().contains("there is no such queue"), "{}", forwarder.log());
        assert!(forwarder.stop().await.success());
        assert_eq!(intake.sends(), bucket.sends());
    }

    #[tokio::test]
    async fn google_cloud_storage_by_fake_gcs_server() {
        counts_every_object_once(Server::google()).await;
    }

    #[tokio::test]
    async fn azure_blob_storage_by_azurite() {
        counts_every_object_once(Server::azure()).await;
    }
}
