//! Senders that mean harm, against the real binary: each limit holds, the answers are those of the contract, memory stays
//! below what follows from the settings, the books balance, and senders that mean well are served all the time.

mod sender;
mod wire;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::{children, eventually, gzip, unix_now};
use sender::Good;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use wire::{ask, client_hello, coded, connect, connect_tls, converse, push, read_reply, until_closed};

/// The connection of the senders that mean well, and everybody else's.
const GOOD_KEY: &str = "00000000000000000000000000000900";
const REST_KEY: &str = "00000000000000000000000000000666";

/// The token of the senders that mean well, bound to their app group, and one that is bound to nothing.
const GOOD_TOKEN: &str = "good-token";
const EVIL_TOKEN: &str = "evil-token";

/// `push.max_body`, MiB.
const BODY_MIB: u64 = 4;

/// What the process may take beyond what it took when nobody had sent anything, in MiB. It follows from the settings:
///
/// | | MiB |
/// |---|---:|
/// | bodies and extracts on their way into the queue: 8 times `push.max_body`, 64 at least | 64 |
/// | extracts past the disk: 16 waiting, as many received | 32 |
/// | extracts in the lanes' hands: 4 groups a lane, two lanes in these tests, each as large as a body | 32 |
/// | read buffers of 1,024 connections, 64 KiB each | 64 |
/// | buffers that are kept | 8 |
/// | ids remembered (`dedup.max_ids` in these tests is 100,000), series (10,000 of 1.2 KiB in two lanes, two cuts and the \
/// merge), names, payloads | 64 |
/// | keys and tags of the series that can be searched for | 32 |
/// | what the allocator holds back: an eighth | 37 |
const GROWTH_MIB_MAX: u64 = 64 + 32 + 32 + 64 + 8 + 64 + 32 + 37;

/// The binary, with an intake behind it.
struct Rig {
    intake: Intake,
    configuration: Configuration,
    forwarder: Forwarder,
    address: SocketAddr,
    /// `VmHWM` before anything was sent, MiB.
    before: u64,
}

fn configuration(intake: &Intake) -> Configuration {
    let configuration = Configuration::new()
        .connection("good", &intake.url(), GOOD_KEY, &[sender::APP_GROUP])
        .connection("rest", &intake.url(), REST_KEY, &[])
        .text("push.max_body", &format!("{BODY_MIB}MiB"))
        .set("dedup.max_ids", "100_000")
        .set("flush.max_series", "10_000")
        // None may be dropped for the sake of a machine that is slow under all this.
        .text("flush.timeout", "30s")
        .text("shutdown_timeout", "1m")
        .set("lanes", "2");
    let tokens = format!("{GOOD_TOKEN} {}\n{EVIL_TOKEN}\n", sender::APP_GROUP);
    let tokens = configuration.file("tokens", tokens);
    configuration.text("push.token_file", tokens.to_str().unwrap())
}

impl Rig {
    async fn start() -> Self {
        let intake = Intake::start();
        let configuration = configuration(&intake);
        Self::start_with(intake, configuration).await
    }

    async fn start_with(intake: Intake, configuration: Configuration) -> Self {
        let forwarder = configuration.start().await;
        let address = forwarder.push_url("").strip_prefix("http://").unwrap().parse().unwrap();
        let before = high_water_mib(&forwarder);
        Self { intake, configuration, forwarder, address, before }
    }

    fn good(&self) -> Good {
        Good::start(&self.forwarder.push_url("/v1/events"), None, GOOD_TOKEN)
    }

    /// Waits until so many sends of a connection were accepted. The forwarder is asked: to look through all that the intake has
    /// takes long where tags are long, and keeps it from its work.
    async fn accepted(&self, connection: &str, sends: u64) {
        let labels = [("connection", connection)];
        eventually("all of them are accepted", async || {
            let metrics = self.forwarder.metrics().await;
            (metrics.sum("braze_datadog_sends_accepted_total", &labels) >= sends).then_some(())
        })
        .await;
    }

    /// Everything that the good senders pushed is counted once, the books balance, and memory kept its bound.
    async fn ends(self, good: Good) {
        good.more(10).await;
        let sends = good.finish().await;
        self.accepted("good", sends).await;
        assert_eq!(self.intake.sums_of(GOOD_KEY).values().sum::<u64>(), sends);
        let books = self.forwarder.books_balance().await;
        let grown = high_water_mib(&self.forwarder) - self.before;
        assert!(grown <= GROWTH_MIB_MAX, "{grown} MiB more than at the start; {books:?}");
        assert_eq!(self.intake.violations(), Vec::<String>::new());
        assert!(!self.forwarder.log().contains("panicked"), "{}", self.forwarder.log());
        assert!(self.forwarder.stop().await.success());
    }

    async fn malformed(&self, reason: &str) -> u64 {
        let metrics = self.forwarder.metrics().await;
        metrics.sum("braze_datadog_events_malformed_total", &[("reason", reason)])
    }

    /// Reads tokens, certificates and the rest again.
    async fn hang_up(&self, message: &str) {
        let told = || self.forwarder.stderr().matches(message).count();
        let before = told();
        self.forwarder.signal("HUP");
        eventually(message, async || (told() > before).then_some(())).await;
    }
}

/// The most memory that the process ever had, MiB.
fn high_water_mib(forwarder: &Forwarder) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", forwarder.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn event(id: &str, properties: &Value) -> Value {
    json!({ "event_type": "users.messages.email.Send", "id": id, "time": unix_now(), "properties": properties })
}

/// A process with thousands of connections; it ends when it is dropped.
pub(super) struct Crowd(Child);

impl Crowd {
    pub(super) fn gather(address: SocketAddr, silent: u32, heads: u32, bodies: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/hostile/crowd.py");
        let mut crowd = children::command("/bin/sh");
        crowd
            .args(["-c", "ulimit -n 4096 && exec python3 \"$@\"", "sh", script])
            .args([address.ip().to_string(), address.port().to_string()])
            .args([silent, heads, bodies].map(|number| number.to_string()))
            .arg(EVIL_TOKEN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = children::spawn(crowd).unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the crowd could not gather (python3, ulimit -n 4096)");
        Self(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_and_slow_connections_keep_nobody_out() {
    let rig = Rig::start().await;
    let good = rig.good();
    let address = rig.address;
    let crowd = tokio::task::spawn_blocking(move || Crowd::gather(address, 2000, 100, 100)).await.unwrap();
    good.more(100).await;
    drop(crowd);
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_of_one_valid_token_in_every_seat_keep_no_other_token_out() {
    let rig = Rig::start().await;
    let good = rig.good();
    let address = rig.address;
    let crowd = tokio::task::spawn_blocking(move || Crowd::gather(address, 0, 0, 1400)).await.unwrap();
    for _ in 0..5 {
        good.more(43).await;
    }
    drop(crowd);
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_files_to_the_queue_and_to_datadog() {
    let intake = Intake::start();
    let configuration = configuration(&intake).files_max(256);
    let rig = Rig::start_with(intake, configuration).await;
    rig.forwarder.says("raise LimitNOFILE").await;
    let good = rig.good();
    let address = rig.address;
    let crowd = tokio::task::spawn_blocking(move || Crowd::gather(address, 1000, 0, 0)).await.unwrap();
    good.more(40).await;
    let before = rig.intake.requests().len();
    rig.intake.wait_for_requests(before + 2).await;
    let metrics = rig.forwarder.metrics().await;
    assert_eq!(metrics.sum("braze_datadog_sends_dropped_total", &[]), 0);
    drop(crowd);
    rig.ends(good).await;
}

#[tokio::test]
async fn who_drips_is_cut_off() {
    let rig = Rig::start().await;
    let good = rig.good();
    let mut silent = connect(rig.address).await;
    let (mut head_end, mut head) = tokio::io::split(connect(rig.address).await);
    let (mut body_end, mut body) = tokio::io::split(connect(rig.address).await);
    head.write_all(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
    let whole = push(EVIL_TOKEN, "", &vec![b' '; 100_000]);
    body.write_all(&whole[..whole.len() - 99_000]).await.unwrap();
    let drip = async {
        loop {
            let _closed = head.write_all(b"x").await;
            let _closed = body.write_all(b" ").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ends = async {
        assert_eq!(until_closed(&mut silent).await, b"");
        assert_eq!(until_closed(&mut head_end).await, b"");
        let reply = read_reply(&mut body_end).await.unwrap();
        assert_eq!((reply.status, reply.closes()), (408, true), "{reply:?}");
    };
    tokio::select! {
        () = drip => {}
        () = ends => {}
    }
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_of_every_coding_are_refused_and_never_unpacked() {
    let rig = Rig::start().await;
    let good = rig.good();
    let bomb = vec![b' '; 128 << 20];
    let mut attacks = JoinSet::new();
    let address = rig.address;
    for (coding, bomb) in coded(&bomb) {
        let request = push(EVIL_TOKEN, &format!("Content-Encoding: {coding}\r\n"), &bomb);
        // Some that are unpacked where they arrive, as far as that goes: they end early, and are damaged or too large.
        let small = push(EVIL_TOKEN, &format!("Content-Encoding: {coding}\r\n"), &bomb[..20_000]);
        for (request, expected) in [(request, [413, 413]), (small, [413, 400])] {
            for _ in 0..16 {
                let request = request.clone();
                attacks.spawn(async move {
                    let reply = ask(address, &request).await.unwrap();
                    // 503: too many of them at a time for the memory.
                    assert!(expected.contains(&reply.status) || reply.status == 503, "{reply:?}");
                });
            }
        }
    }
    // A million members of nothing; a bomb in a bomb, once as one body that is no JSON, once named so.
    let members = gzip(b"").repeat(200_000);
    let members = members[..members.len().min(usize::try_from(BODY_MIB << 20).unwrap())].to_vec();
    let nested = gzip(&gzip(&bomb));
    for (headers, body, expected) in [
        ("Content-Encoding: gzip\r\n", members, &[200, 400, 413][..]),
        ("Content-Encoding: gzip\r\n", nested.clone(), &[400]),
        ("Content-Encoding: gzip, gzip\r\n", nested.clone(), &[415]),
        ("Content-Encoding: gzip\r\nContent-Encoding: deflate\r\n", nested.clone(), &[415]),
        ("Content-Encoding: zstd\r\n", nested.clone(), &[400]),
        ("Content-Encoding: zstd, gzip\r\n", nested.clone(), &[415]),
        ("Content-Encoding: br\r\n", nested, &[415]),
    ] {
        let request = push(EVIL_TOKEN, headers, &body);
        attacks.spawn(async move {
            let reply = ask(address, &request).await.unwrap();
            assert!(expected.contains(&reply.status) || reply.status == 503, "{headers:?}: {reply:?}");
        });
    }
    drop(bomb);
    good.more(30).await;
    attacks.join_all().await;
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_full_size_that_never_end_give_way() {
    let rig = Rig::start().await;
    let good = rig.good();
    let whole = push(EVIL_TOKEN, "", &vec![b' '; usize::try_from(BODY_MIB << 20).unwrap()]);
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(rig.address).await;
        // A header and a little, of a body that is announced whole.
        stream.write_all(&whole[..5000]).await.unwrap();
        held.push(stream);
    }
    good.more(50).await;
    // And all but the last byte, of as many as are taken.
    let mut writers = JoinSet::new();
    for mut stream in held {
        let rest = whole[5000..whole.len() - 1].to_vec();
        writers.spawn(async move {
            let _refused = stream.write_all(&rest).await;
            stream
        });
    }
    let held = writers.join_all().await;
    let books = rig.forwarder.books_balance().await;
    drop(held);
    assert_eq!(books.malformed, 0, "{books:?}");
    good.more(20).await;
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_deep_events_are_counted_or_refused() {
    let rig = Rig::start().await;
    let good = rig.good();
    let long = "x".repeat(1 << 20);
    let extras = "\\\"".repeat(450_000);
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    let send = |id: &str, more: &str| {
        let time = unix_now();
        format!(r#"{{"event_type":"users.messages.email.Send","id":"{id}","time":{time}{more}}}"#)
    };
    let mut sends = 0;
    for (body, status, counted) in [
        (send("large", &format!(r#","properties":{{"message_extras":"{extras}"}}"#)), 200, 1),
        (send("deep", &format!(r#","properties":{{"x":{}}}"#, deep(100_000))), 200, 1),
        (send(&format!("id-{long}"), ""), 200, 1),
        (send("ids", &format!(r#","properties":{{"campaign_id":"{long}","canvas_name":"{long}"}}"#)), 200, 1),
        (send("key", &format!(r#","{long}":1"#)), 200, 1),
        (send("number", &format!(r#","x":{}"#, "9".repeat(1 << 20))), 200, 1),
        (deep(100_000), 200, 0),
        ("[".repeat(1 << 20), 400, 0),
        (r#"{"a":"#.repeat(500_000), 400, 0),
        (format!("[{}{{}}]", "{},".repeat(300_000)), 200, 0),
        (format!(r#"{{"event_type":"{long}","id":"1"}}"#), 200, 0),
        (format!("[\"\u{1}{long}\"]"), 400, 0),
        // A zero costs no event, and this is none.
        (format!("[\"\u{0}{long}\"]"), 200, 0),
    ] {
        let reply = ask(rig.address, &push(EVIL_TOKEN, "", body.as_bytes())).await.unwrap();
        assert_eq!(reply.status, status, "{}: {reply:?}", &body[..40]);
        sends += counted;
    }
    let counted = || rig.intake.sums_of(REST_KEY).values().sum::<u64>();
    eventually("all of them are counted", async || (counted() == sends).then_some(())).await;
    // The element of the array that is one itself; the events that say nothing; a type that nobody knows.
    eventually("the rest is booked", async || {
        let rest = [rig.malformed("no_event_type").await, rig.malformed("not_an_object").await];
        (rest == [300_001, 2]).then_some(())
    })
    .await;
    rig.ends(good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tag_sets_without_end_go_to_overflow_series() {
    const SETS: u64 = 40_000;
    const A_BODY: u64 = 500;
    let intake = Intake::start();
    // A flush is over before the next one, though the intake reads tens of megabytes of tags, on a slow machine, too.
    let configuration = configuration(&intake).text("flush.interval", "10s");
    let rig = Rig::start_with(intake, configuration).await;
    let good = rig.good();
    // Longer than any tag may be, and of letters that take four bytes.
    let long = "\u{1f4a3}".repeat(201);
    let address = rig.address;
    let mut attacks = JoinSet::new();
    for from in 0..4 {
        let long = long.clone();
        attacks.spawn(async move {
            for body in (from..SETS / A_BODY).step_by(4) {
                let events: Vec<Value> = (body * A_BODY..(body + 1) * A_BODY)
                    .map(|number| {
                        let own = format!("{number}{long}");
                        event(&number.to_string(), &json!({
                            "app_group_id": format!("{}", number % 2000), "campaign_id": own, "campaign_name": own,
                        }))
                    })
                    .collect();
                let request = push(EVIL_TOKEN, "", json!({ "events": events }).to_string().as_bytes());
                while ask(address, &request).await.unwrap().status == 503 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
    }
    good.more(30).await;
    attacks.join_all().await;
    rig.accepted("rest", SETS).await;
    assert_eq!(rig.intake.sums_of(REST_KEY).values().sum::<u64>(), SETS);
    let overflow =
        rig.intake.sums_of(REST_KEY).into_iter().filter(|(tags, _)| tags.contains(&"overflow:true".into()));
    assert!(overflow.map(|(_, sends)| sends).sum::<u64>() > 0, "the bound was never reached");
    rig.ends(good).await;
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_bound_ones_speak_for_their_own_through_a_crash() {
    let rig = Rig::start().await;
    let good = rig.good();
    for number in 0..300 {
        let token = format!("{GOOD_TOKEN}{number}");
        let reply = ask(rig.address, &push(&token, "", b"{}")).await.unwrap();
        assert_eq!((reply.status, reply.closes()), (401, true));
        assert!(!reply.body.contains("-token"), "{reply:?}");
    }
    let bare = ask(rig.address, b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        .await
        .unwrap();
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, Some("Bearer realm=\"braze-datadog\"")));
    rig.forwarder.books_balance().await;
    assert_eq!(rig.intake.sums_of(REST_KEY).len(), 0);

    // Nothing settles, so that what follows is read from the disk after the crash.
    let sends = good.finish().await;
    eventually("all good sends are counted", async || {
        (rig.intake.sums_of(GOOD_KEY).values().sum::<u64>() == sends).then_some(())
    })
    .await;
    rig.forwarder.settled(sends).await;
    // What has its outcome is acknowledged a moment later.
    eventually("everything is acknowledged", async || {
        (rig.forwarder.metrics().await.sum("braze_datadog_queue_depth", &[]) == 0).then_some(())
    })
    .await;
    rig.intake.always(Behaviour::Hang);
    let events = [
        event("own", &json!({ "app_group_id": "good", "campaign_id": "own" })),
        event("foreign", &json!({ "app_group_id": "other", "campaign_id": "foreign" })),
        event("silent", &json!({ "campaign_id": "silent" })),
        json!({ "event_type": "users.messages.email.Open", "id": "x", "app_group_id": "other" }),
    ];
    let body = json!({ "events": events }).to_string();
    let reply = ask(rig.address, &push(GOOD_TOKEN, "", body.as_bytes())).await.unwrap();
    assert_eq!((reply.status, &*reply.body), (200, r#"{"accepted":4}"#));
    eventually("it is booked", async || (rig.malformed("foreign_app_group").await == 2).then_some(())).await;
    let Rig { intake, configuration, forwarder, .. } = rig;
    forwarder.crash().await;
    intake.always(Behaviour::Accept);
    let rig = Rig::start_with(intake, configuration).await;
    let books = rig.forwarder.settled(4).await;
    assert_eq!((books.received, books.malformed, books.accepted), (4, 2, 2), "{books:?}");
    assert_eq!(rig.malformed("foreign_app_group").await, 2);
    let tags: Vec<String> = rig.intake.sums_of(GOOD_KEY).into_keys().flatten().collect();
    assert!(
        tags.contains(&"campaign_id:silent".into()) && !tags.contains(&"campaign_id:foreign".into()),
        "{tags:?}"
    );

    // The token is bound to another app group from now on; its holder can't go on as before.
    rig.configuration.file("tokens", format!("{EVIL_TOKEN}\n{GOOD_TOKEN} other,more\n"));
    rig.hang_up("the configuration was read again").await;
    let reply = ask(rig.address, &push(GOOD_TOKEN, "", body.as_bytes())).await.unwrap();
    assert_eq!(reply.status, 200);
    eventually("it is booked", async || (rig.malformed("foreign_app_group").await == 4).then_some(())).await;
    let url = push(GOOD_TOKEN, "", b"")
        .escape_ascii()
        .to_string()
        .replace("/v1/events", "/v1/events?app_group_id=good");
    let url = url.replace("\\r\\n", "\r\n");
    let reply = ask(rig.address, url.as_bytes()).await.unwrap();
    assert_eq!(reply.status, 401);
    assert!(reply.body.contains("bound to other app groups"), "{reply:?}");
    // And back, for those who mean well. A file with a mistake changes nothing.
    rig.configuration.file("tokens", format!("{EVIL_TOKEN}\n{GOOD_TOKEN} good,,more\n"));
    rig.hang_up("the configuration was refused").await;
    assert!(!rig.forwarder.log().contains(GOOD_TOKEN));
    rig.configuration.file("tokens", format!("{GOOD_TOKEN} good\n{EVIL_TOKEN}\n"));
    rig.hang_up("the configuration was read again").await;
    rig.intake.wait_for_requests(1).await;
    assert!(rig.forwarder.books_balance().await.balance());
    assert!(rig.forwarder.stop().await.success());
}

#[tokio::test]
async fn floods_of_headers_are_refused_and_pipelined_pushes_are_counted_in_order() {
    let rig = Rig::start().await;
    let good = rig.good();
    let many = "X-A: b\r\n".repeat(5000);
    let large = format!("X: {}\r\n", "y".repeat(1 << 20));
    let address = rig.address;
    let mut attacks = JoinSet::new();
    for headers in [many, large].into_iter().cycle().take(40) {
        attacks.spawn(async move {
            let reply = ask(address, &push(EVIL_TOKEN, &headers, b"")).await.unwrap();
            assert_eq!((reply.status, reply.closes()), (431, true), "{reply:?}");
        });
    }
    for _ in 0..20 {
        attacks.spawn(async move {
            // A URL without end is no URL.
            let reply = ask(address, format!("POST /{} HTTP/1.1\r\n\r\n", "u".repeat(1 << 20)).as_bytes())
                .await
                .unwrap();
            assert!([414, 431].contains(&reply.status), "{reply:?}");
        });
    }
    attacks.join_all().await;
    let (mut reader, mut writer) = tokio::io::split(connect(address).await);
    let all: Vec<u8> = (0..2000)
        .flat_map(|number| {
            let body = event(&format!("pipelined-{number}"), &json!({ "campaign_id": "pipelined" }));
            push(EVIL_TOKEN, "", body.to_string().as_bytes())
        })
        .collect();
    let write = async {
        writer.write_all(&all).await.unwrap();
        writer.flush().await.unwrap();
    };
    let read = async {
        for _ in 0..2000 {
            assert_eq!(read_reply(&mut reader).await.unwrap().body, r#"{"accepted":1}"#);
        }
    };
    tokio::join!(write, read);
    let absolute = push(EVIL_TOKEN, "", b"{}");
    let absolute =
        [b"POST http://elsewhere.example/v1/events", &absolute["POST /v1/events".len()..]].concat();
    assert_eq!(ask(address, &absolute).await.unwrap().status, 200);
    let counted = || rig.intake.sums_of(REST_KEY).values().sum::<u64>();
    eventually("all of them are counted", async || (counted() == 2000).then_some(())).await;
    rig.ends(good).await;
}

/// One request that two readers could read in two ways, and what may be said to it.
fn ambiguous(headers: &str, body: &str) -> Vec<u8> {
    let head =
        format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {EVIL_TOKEN}\r\n{headers}\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

#[tokio::test]
async fn nothing_is_smuggled_behind_a_request() {
    let rig = Rig::start().await;
    let good = rig.good();
    let smuggled = event("smuggled", &json!({ "campaign_id": "smuggled" })).to_string();
    let smuggled = push(EVIL_TOKEN, "", smuggled.as_bytes());
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (headers, body, statuses) in [
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", &[200, 400][..]),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\n", &[200, 400]),
        ("Content-Length: 2\r\nContent-Length: 90\r\n", "{}", &[400]),
        ("Content-Length: +2\r\n", "{}", &[400]),
        ("Content-Length: 0x2\r\n", "{}", &[400]),
        ("Content-Length: -1\r\n", "{}", &[400]),
        ("Content-Length: 99999999999999999999999\r\n", "{}", &[400]),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", &[400]),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", &[400]),
        ("Transfer-Encoding: identity\r\n", "", &[400]),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", &[400]),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n", &[400]),
        ("Transfer-Encoding:\u{b}chunked\r\n", "0\r\n\r\n", &[400]),
        ("X: \u{0}\r\n", "", &[400]),
        (chunked, "G\r\n", &[400, 408]),
        (chunked, "-1\r\n", &[400, 408]),
        (chunked, "FFFFFFFFFFFFFFFFF\r\n", &[400, 408]),
        (chunked, "2\r\n{}x\r\n0\r\n\r\n", &[400, 408]),
        (chunked, "2;\n\r\n{}\r\n0\r\n\r\n", &[400, 408]),
    ] {
        let (mut reader, mut writer) = tokio::io::split(connect(rig.address).await);
        writer.write_all(&[ambiguous(headers, body), smuggled.clone()].concat()).await.unwrap();
        writer.shutdown().await.unwrap();
        let reply = read_reply(&mut reader).await;
        assert!(
            reply.as_ref().is_none_or(|reply| statuses.contains(&reply.status) && reply.closes()),
            "{headers:?} {body:?}: {reply:?}"
        );
        let more = until_closed(&mut reader).await;
        assert_eq!(more, b"", "{headers:?} {body:?}: a second answer");
    }
    // Endless extensions of a chunk, and endless trailers.
    let extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "e".repeat(1 << 20));
    let trailers = format!("2\r\n{{}}\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(100_000));
    for body in [extension, trailers] {
        let reply = ask(rig.address, &ambiguous(chunked, &body)).await;
        assert!(reply.is_none_or(|reply| [400, 408].contains(&reply.status) && reply.closes()));
    }
    for first in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /v1/events HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
        "\r\n\r\n\r\n",
    ] {
        let (mut reader, mut writer) = tokio::io::split(connect(rig.address).await);
        writer.write_all(first.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
        let said = until_closed(&mut reader).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400 "), "{first:?}: {}", said.escape_ascii());
    }
    good.more(10).await;
    rig.forwarder.books_balance().await;
    let tags: Vec<String> = rig.intake.sums_of(REST_KEY).into_keys().flatten().collect();
    assert!(!tags.contains(&"campaign_id:smuggled".into()), "{tags:?}");
    rig.ends(good).await;
}

/// A certificate for `localhost` and its key, PEM.
fn certificate() -> (String, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A rig with TLS, its certificate, the certificate and key that will follow, and senders that mean well, who trust both.
async fn tls() -> (Rig, String, (String, String), Good) {
    let intake = Intake::start();
    let ((old, key), next) = (certificate(), certificate());
    let configuration = configuration(&intake);
    let files = [configuration.file("tls.pem", &old), configuration.file("tls.key", key)];
    let configuration = configuration
        .text("push.tls_certificate", files[0].to_str().unwrap())
        .text("push.tls_key", files[1].to_str().unwrap());
    let rig = Rig::start_with(intake, configuration).await;
    let url = format!("https://{}/v1/events", rig.address);
    let good = Good::start(&url, Some(&[&*old, &*next.0].concat()), GOOD_TOKEN);
    (rig, old, next, good)
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_told_by_check_at_the_start_at_a_reload_and_as_a_metric() {
    let intake = Intake::start();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = parameters.self_signed(&key).unwrap().pem();
    let configuration = configuration(&intake);
    let files = [configuration.file("tls.pem", &expired), configuration.file("tls.key", key.serialize_pem())];
    let configuration = configuration
        .text("push.tls_certificate", files[0].to_str().unwrap())
        .text("push.tls_key", files[1].to_str().unwrap());
    let checked = configuration.run(&["check"]).await;
    assert!(checked.stderr.contains("warning: push.tls_certificate: the certificate"), "{}", checked.stderr);
    assert!(checked.status.success() && checked.stderr.contains(" days ago"), "{}", checked.stderr);

    let rig = Rig::start_with(intake, configuration).await;
    let told = "senders can't trust this port";
    eventually("it is told", async || rig.forwarder.stderr().contains(told).then_some(())).await;
    let until = async || {
        rig.forwarder.metrics().await.sum("braze_datadog_push_certificate_expiry_timestamp_seconds", &[])
    };
    assert_eq!(until().await, 1_609_459_200);
    rig.hang_up(told).await;
    let (new, key) = certificate();
    rig.configuration.file("tls.pem", new);
    rig.configuration.file("tls.key", key);
    rig.hang_up("the configuration was read again").await;
    // What `/metrics` says may be a quarter of a second old.
    eventually("the new one is told", async || (until().await > unix_now()).then_some(())).await;
    assert!(rig.forwarder.stop().await.success());
}

#[tokio::test]
async fn only_tls_of_today_is_spoken() {
    let (rig, certificate, _, good) = tls().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = connect_tls(rig.address, &certificate, &[version]).await.unwrap();
        let reply = converse(&mut stream, &push(EVIL_TOKEN, "", b"{}")).await.unwrap();
        assert_eq!(reply.status, 200);
    }
    for version in [0x0301, 0x0302] {
        let mut stream = connect(rig.address).await;
        stream.write_all(&client_hello(version)).await.unwrap();
        let said = until_closed(&mut stream).await;
        // A fatal alert: protocol_version.
        assert_eq!((said[0], &said[5..]), (0x15, &[2, 70][..]), "{}", said.escape_ascii());
    }
    // The same in TLS 1.2 is answered with a handshake.
    let mut stream = connect(rig.address).await;
    stream.write_all(&client_hello(0x0303)).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 0x16);
    drop(stream);
    // Requests in the clear, and records that are none; nothing of them is answered but by an alert.
    for first in [push(EVIL_TOKEN, "", b"{}"), vec![0x16; 100_000], vec![0; 100_000]] {
        let (mut reader, mut writer) = tokio::io::split(connect(rig.address).await);
        let _closed = writer.write_all(&first).await;
        let said = until_closed(&mut reader).await;
        assert!(said.is_empty() || said[0] == 0x15, "{}", said.escape_ascii());
    }
    // The log is written by a thread of its own.
    let told = async || rig.forwarder.stderr().contains("a TLS handshake failed").then_some(());
    eventually("it is told", told).await;
    rig.ends(good).await;
}

#[tokio::test]
async fn certificates_are_replaced_under_load() {
    let (rig, old, (new, key), good) = tls().await;
    let connect = async |trusted: &str| connect_tls(rig.address, trusted, rustls::DEFAULT_VERSIONS).await;
    let mut lives = connect(&old).await.unwrap();
    let request = push(EVIL_TOKEN, "", b"{}");
    assert_eq!(converse(&mut lives, &request).await.unwrap().status, 200);
    good.more(20).await;
    // A key that belongs to another certificate, and files that hold none: the old pair stays.
    for broken in [&*key, "-----BEGIN PRIVATE KEY-----\nnothing\n", ""] {
        rig.configuration.file("tls.key", broken);
        rig.hang_up("the configuration was refused").await;
        assert!(connect(&old).await.is_ok() && connect(&new).await.is_err());
    }
    assert!(!rig.forwarder.log().contains(key.lines().nth(1).unwrap()));
    good.more(20).await;
    rig.configuration.file("tls.key", &key);
    rig.configuration.file("tls.pem", &new);
    rig.hang_up("the configuration was read again").await;
    assert!(connect(&old).await.is_err());
    let mut fresh = connect(&new).await.unwrap();
    for stream in [&mut lives, &mut fresh] {
        assert_eq!(converse(stream, &request).await.unwrap().status, 200);
    }
    good.more(20).await;
    rig.ends(good).await;
}
