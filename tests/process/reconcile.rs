//! `braze-datadog reconcile`, between a loopback Braze and a loopback forwarder that has a history.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use admin_api::{HistoryDay, HistoryKind, HistoryObject};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support;
use crate::support::analytics::{
    REST_KEY, ScriptedBraze, forwarder, forwarder_that_left_out, keep_history, keep_history_of,
};
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::loopback::{Loopback, ScriptedReply};

const BINARY: &str = env!("CARGO_BIN_EXE_braze-datadog");

/// A history that was kept long before.
const LONG_AGO: Option<u64> = Some(1_577_836_800);

/// What a run said, and how it ended.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A directory with a key file.
fn keys(mode: u32, content: &str) -> (TempDir, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("braze.key");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn run(arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).arg("reconcile").args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { status: status.code().unwrap(), out: text(stdout), err: text(stderr) };
    assert!(!ran.out.contains(REST_KEY) && !ran.err.contains(REST_KEY), "the key is told: {ran:?}");
    ran
}

fn reconcile(braze: &str, forwarder: &str, arguments: &[&str]) -> Ran {
    let (_folder, key) = keys(0o600, &format!("{REST_KEY}\n"));
    let given = ["--braze-url", braze, "--braze-key-file", &key, "--url", forwarder];
    run(&[&given, arguments].concat())
}

fn own(kind: HistoryKind, id: &str, days: &[(&str, u64)]) -> HistoryObject {
    let day = |(day, sends): &(&str, u64)| HistoryDay {
        day: (*day).to_owned(),
        counted: *sends,
        accepted: *sends,
        printed: 0,
        dropped: BTreeMap::new(),
    };
    let days = days.iter().map(day).collect();
    let name = format!("Name of {id}");
    HistoryObject { kind, id: id.to_owned(), name, app_group_id: "emea".into(), days, ..Default::default() }
}

fn step(canvas: &str, id: &str, days: &[(&str, u64)]) -> HistoryObject {
    HistoryObject { canvas_id: canvas.to_owned(), ..own(HistoryKind::Step, id, days) }
}

#[test]
fn what_differs_is_explained_and_is_status_3_beyond_the_tolerance() {
    let braze = ScriptedBraze::start();
    braze.campaign("weekly", &[("2026-10-01", 1000), ("2026-10-02", 500)]);
    braze.campaign("same", &[("2026-10-01", 77)]);
    let mut weekly = own(HistoryKind::Campaign, "weekly", &[("2026-10-01", 990), ("2026-10-02", 500)]);
    weekly.days[0].accepted = 940;
    weekly.days[0].dropped = BTreeMap::from([("http_5xx".to_owned(), 50)]);
    let same = own(HistoryKind::Campaign, "same", &[("2026-10-01", 77)]);
    // Every object has a page before it.
    let other = own(HistoryKind::Campaign, "other", &[("2026-10-01", 1)]);
    let other = HistoryObject { app_group_id: "apac".into(), ..other };
    let forwarder = forwarder(vec![same, other, weekly], LONG_AGO);
    let arguments = ["--to", "2026-10-03", "--days", "7", "--app-group", "emea"];
    let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
    assert_eq!(ran.status, 3, "{ran:?}");
    for part in [
        "2026-09-27 to 2026-10-03, days of UTC",
        "-60  -4.00  1,500    1,490     1,440       50  ! campaign Name of weekly (weekly)",
        "50 dropped here: http_5xx 50",
        "10 never received",
        "2026-10-01: -60 (Braze 1,000, counted 990, accepted 940)",
        "apart, for the forwarder counts no sends of it: trigger_in_app_message",
        "Agree to the send: 1 of 2 campaigns, Canvases and steps.",
    ] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    assert!(ran.err.contains("1 of 2 differ by more than 1 %"), "{ran:?}");
    assert!(!ran.out.contains("Name of other"), "{ran:?}");
    let within = [&arguments[..], &["--tolerance", "4%", "--json"]].concat();
    let ran = reconcile(&braze.url(), &forwarder.url(), &within);
    assert_eq!((ran.status, &*ran.err), (0, ""));
    let all = ran.json();
    assert_eq!((&all["within_tolerance"], &all["total"]["braze"]), (&json!(true), &json!(1577)));
    let weekly = &all["objects"][0];
    assert_eq!((&weekly["kind"], &weekly["difference"]), (&json!("campaign"), &json!(-60)));
    assert_eq!(weekly["differences"][0]["reason"], json!("dropped"));
    assert_eq!(weekly["days"][0]["dropped"], json!({"http_5xx": 50}));
    assert_eq!(weekly["channels_apart"], json!(["trigger_in_app_message"]));
    assert_eq!(braze.asked("/campaigns/data_series").len(), 4);
}

#[test]
fn an_app_group_is_found_only_where_the_history_has_it() {
    let braze = ScriptedBraze::start();
    let unknown = HistoryObject {
        app_group_id: String::new(),
        ..own(HistoryKind::Campaign, "a", &[("2026-10-01", 10)])
    };
    let forwarder = forwarder(vec![unknown], LONG_AGO);
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--app-group", "emea"]);
    assert!(ran.err.contains("has its tags.include the tag app_group_id?"), "{ran:?}");
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
    assert!(!ran.err.contains("tags.include"), "{ran:?}");
}

#[test]
fn an_app_group_without_sends_is_told_with_those_that_have_some() {
    let braze = ScriptedBraze::start();
    let latam = own(HistoryKind::Campaign, "b", &[("2026-10-01", 7)]);
    let latam = HistoryObject { app_group_id: "lat\u{9b}31mam".into(), ..latam };
    let history = vec![own(HistoryKind::Campaign, "a", &[("2026-10-01", 10)]), latam];
    let forwarder = forwarder(history, LONG_AGO);
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--app-group", "emae"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let part = "no sends of the app group \"emae\", but some of emea, lat\u{fffd}31mam";
    assert!(ran.err.contains(part) && ran.err.contains("nothing was compared"), "{ran:?}");
    assert!(!ran.err.contains("no campaign and no Canvas"), "{ran:?}");
}

#[test]
fn a_run_in_which_no_day_was_compared_is_status_1() {
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-01", 10_000)]);
    let history = || vec![own(HistoryKind::Campaign, "a", &[("2026-10-01", 100)])];
    // Noon of that day.
    let young = forwarder(history(), Some(1_790_856_000));
    let ran = reconcile(&braze.url(), &young.url(), &["--to", "2026-10-01", "--days", "1"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.err.contains("nothing was compared: each day began before the forwarder's history"),
        "{ran:?}"
    );
    // Where both sides say that there is nothing, that is a comparison.
    braze.campaign("quiet", &[]);
    let ran = reconcile(&braze.url(), &young.url(), &["--to", "2026-10-02", "--campaign", "quiet"]);
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn white_space_around_an_id_is_no_part_of_it() {
    let braze = ScriptedBraze::start();
    braze.campaign("c1", &[("2026-10-01", 10)]);
    braze.step("v1", "s1", &[("2026-10-01", 5)]);
    let history = vec![
        own(HistoryKind::Campaign, "c1", &[("2026-10-01", 10)]),
        own(HistoryKind::Canvas, "v1", &[("2026-10-01", 5)]),
        step("v1", "s1", &[("2026-10-01", 5)]),
    ];
    let forwarder = forwarder(history, LONG_AGO);
    let arguments =
        ["--to", "2026-10-02", "--campaign", " c1", "--canvas", "v1\t", "--app-group", " emea ", "--json"];
    let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
    assert_eq!((ran.status, &ran.json()["total"]["accepted"]), (0, &json!(15)), "{ran:?}");
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--campaign", " "]);
    assert!(ran.status == 1 && ran.err.contains("an id is not empty"), "{ran:?}");
}

#[test]
fn what_the_forwarders_history_left_out_is_a_cause_of_what_is_missing() {
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-01", 100)]);
    let history = || vec![own(HistoryKind::Campaign, "a", &[("2026-10-01", 60)])];
    let arguments = ["--to", "2026-10-02"];
    let ran = reconcile(&braze.url(), &forwarder_that_left_out(1234, history(), LONG_AGO).url(), &arguments);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.err.contains("note: the forwarder has left 1,234 sends out of its history"), "{ran:?}");
    assert!(
        ran.out.contains("40 never received") && ran.out.contains("1,234 that the history left out"),
        "{ran:?}"
    );
    let ran = reconcile(&braze.url(), &forwarder(history(), LONG_AGO).url(), &arguments);
    assert!(!ran.err.contains("note:") && !ran.out.contains("left out"), "{ran:?}");
}

#[test]
fn what_a_dry_run_printed_is_compared_like_what_is_accepted_and_called_printed() {
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-01", 10)]);
    let mut printed = own(HistoryKind::Campaign, "a", &[("2026-10-01", 10)]);
    (printed.days[0].accepted, printed.days[0].printed) = (0, 10);
    let forwarder = forwarder(vec![printed], LONG_AGO);
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("10 of the accepted sends were printed by a dry run, not sent"), "{ran:?}");
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--json"]);
    let day = &ran.json()["objects"][0]["days"][0];
    assert_eq!((&day["accepted"], &day["printed"], &day["difference"]), (&json!(10), &json!(10), &json!(0)));
}

#[tokio::test]
async fn a_dry_run_is_in_the_history_as_printed() {
    let intake = Intake::start();
    let running = Configuration::new()
        .connection("acme", &intake.url(), support::KEY, &[])
        .set("connections.acme.dry_run", "true")
        .start()
        .await;
    let event = |number: u64| {
        json!({"event_type": "users.messages.email.Send", "id": format!("{number}"), "time": support::unix_now(),
               "properties": {"app_group_id": "emea", "campaign_id": "a", "campaign_name": "Weekly"}})
    };
    let events = json!({"events": (0..12).map(event).collect::<Vec<_>>()});
    running.push_accepted(events.to_string()).await;
    running.settled(12).await;
    let found = support::eventually("the history has what was printed", async || {
        let (_, answer) = running.admin("/search?q=weekly").await;
        let object = serde_json::from_str::<Value>(&answer).unwrap()["objects"][0].clone();
        let sum = |key: &str| -> u64 {
            let days = object["days"].as_array().into_iter().flatten();
            days.map(|day| day[key].as_u64().unwrap_or_default()).sum()
        };
        ((sum("counted"), sum("printed"), sum("accepted")) == (12, 12, 0)).then(|| object.clone())
    })
    .await;
    let words = found["words"].as_str().unwrap();
    assert!(words.ends_with("all printed, not sent (dry run)"), "{words}");
    assert_eq!(found["state"], json!("quiet"));
}

#[test]
fn days_are_those_of_the_time_zone_and_one_of_summer_time_is_whole() {
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-24", 10), ("2026-10-25", 20)]);
    let history = vec![own(HistoryKind::Campaign, "a", &[("2026-10-24", 13), ("2026-10-25", 17)])];
    let forwarder = forwarder(history, LONG_AGO);
    for (zone, ending_at) in
        [("Europe/Paris", "2026-10-25T23:59:59+01:00"), ("America/New_York", "2026-10-25T23:59:59-04:00")]
    {
        let arguments = ["--to", "2026-10-25", "--days", "2", "--time-zone", zone, "--json"];
        let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
        assert_eq!(ran.status, 0, "{ran:?}");
        let all = ran.json();
        assert_eq!(all["objects"][0]["differences"][0]["reason"], json!("day_border"));
        assert_eq!(all["objects"][0]["differences"][0]["sends"], json!(3));
        let asked = braze.asked("/campaigns/data_series").pop().unwrap();
        assert_eq!((&*asked.query["ending_at"], &*asked.query["length"]), (ending_at, "2"));
        let asked = forwarder.asked("/history").pop().unwrap();
        assert_eq!((&*asked.query["time_zone"], &*asked.query["from"]), (zone, "2026-10-24"));
    }
}

#[test]
fn a_canvas_is_asked_for_in_parts_of_14_days_and_compared_step_by_step() {
    let braze = ScriptedBraze::start();
    braze.step(
        "canvas",
        "mail",
        &[("2026-10-31", 300), ("2026-10-18", 20), ("2026-10-17", 10), ("2026-10-01", 5)],
    );
    braze.step("canvas", "push", &[("2026-10-31", 4)]);
    let history = vec![
        own(HistoryKind::Canvas, "canvas", &[("2026-10-01", 5), ("2026-10-17", 10), ("2026-10-31", 300)]),
        step("canvas", "mail", &[("2026-10-01", 5), ("2026-10-17", 10), ("2026-10-31", 300)]),
        step("canvas", "unknown", &[("2026-10-31", 1)]),
    ];
    let forwarder = forwarder(history, LONG_AGO);
    let arguments = ["--to", "2026-10-31", "--days", "31", "--canvas", "CANVAS", "--json"];
    // Braze knows it in small letters only.
    let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
    assert_eq!(ran.json()["not_compared"][0]["kind"], json!("canvas"));
    let arguments = ["--to", "2026-10-31", "--days", "31", "--json"];
    let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
    assert_eq!(ran.status, 3, "{ran:?}");
    let all = ran.json();
    let told = all["objects"].as_array().unwrap().iter().map(|object| {
        (
            object["id"].as_str().unwrap(),
            object["braze"].as_u64().unwrap(),
            object["difference"].as_i64().unwrap(),
        )
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [("canvas", 339, -24), ("mail", 335, -20), ("push", 4, -4)]);
    assert_eq!(all["objects"][2]["canvas_name"], json!("Name of canvas"));
    assert_eq!(all["not_compared"][0]["id"], json!("unknown"));
    let asked = braze.asked("/canvas/data_series");
    let asked: Vec<_> =
        asked[1..].iter().map(|one| (&*one.query["length"], &one.query["ending_at"][..10])).collect();
    assert_eq!(asked, [("14", "2026-10-31"), ("14", "2026-10-17"), ("3", "2026-10-03")]);
}

#[test]
fn what_braze_can_not_be_asked_is_refused_with_a_hint() {
    let (_folder, key) = keys(0o600, REST_KEY);
    let given = ["--braze-url", "http://127.0.0.1:9", "--braze-key-file", &key];
    for (arguments, part) in [
        (&["--days", "101"][..], "100 days at most; --to YYYY-MM-DD goes further back"),
        (&["--days", "0"], "from 1 to 100"),
        (&["--tolerance", "1"], "like 1%"),
        (&["--time-zone", "Paris"], "\"Paris\" is no time zone"),
        (&["--to", "tomorrow"], "is no day"),
        (&["--to", "9999-01-01"], "has not begun"),
        (&["--url", "8081"], "--url: 8081"),
        (&["--url", "http://127.0.0.1:9"], "does braze-datadog run? (--url says where"),
    ] {
        let ran = run(&[&given, arguments].concat());
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
    for url in [
        "http://rest.fra-01.braze.eu",
        "https://u:hidden@rest.fra-01.braze.eu",
        "https://dashboard-01.braze.eu",
    ] {
        let ran = run(&["--braze-url", url, "--braze-key-file", &key]);
        assert!(ran.status == 1 && ran.err.contains("--braze-url is not the address"), "{ran:?}");
        assert!(!ran.err.contains("hidden"), "{ran:?}");
    }
}

#[test]
fn the_key_is_read_from_a_file_that_nobody_else_should_read() {
    let braze = ScriptedBraze::start();
    let forwarder = forwarder(Vec::new(), LONG_AGO);
    let with = |mode, content: &str| {
        let (_folder, key) = keys(mode, content);
        run(&["--braze-url", &braze.url(), "--braze-key-file", &key, "--url", &forwarder.url()])
    };
    let ran = with(0o644, REST_KEY);
    assert!(ran.status == 1 && ran.err.contains("is open to every user; chmod o= it"), "{ran:?}");
    assert!(ran.err.contains("there is nothing to compare"), "{ran:?}");
    for (content, part) in [("", "is empty"), ("two words", "white space"), ("\"quoted\"", "quotation marks")]
    {
        let ran = with(0o600, content);
        assert!(
            ran.status == 1 && ran.err.contains("--braze-key-file: /") && ran.err.contains(part),
            "{ran:?}"
        );
        assert!(content.is_empty() || !ran.err.contains(content), "{ran:?}");
    }
    let ran = run(&["--braze-url", &braze.url(), "--braze-key-file", "/nowhere/key"]);
    assert!(ran.err.contains("/nowhere/key does not exist"), "{ran:?}");
}

#[test]
fn braze_is_asked_through_the_proxy_through_which_datadog_is_asked() {
    let forwarder = forwarder(vec![own(HistoryKind::Campaign, "weekly", &[("2026-10-01", 9)])], LONG_AGO);
    let (_folder, key) = keys(0o600, REST_KEY);
    // No reader of URLs takes the first as it stands, and the other needs to be cut.
    for [before, after] in [["http://u:pa|ss@", ""], [" http://", " "]] {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{before}{}{after}", proxy.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = proxy.accept().unwrap();
            let mut head = [0; 1024];
            let length = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let output = Command::new(BINARY)
            .args(["reconcile", "--braze-url", "https://braze.invalid", "--braze-key-file", &key])
            .args(["--url", &forwarder.url(), "--to", "2026-10-03", "--days", "7"])
            .env_clear()
            .env("HTTPS_PROXY", &url)
            .output()
            .unwrap();
        // Where the proxy is not asked, this ends its wait.
        let _ended = std::net::TcpStream::connect(url.trim().rsplit(['@', '/']).next().unwrap());
        let head = asked.join().unwrap();
        assert!(head.starts_with("CONNECT braze.invalid:443 HTTP/1.1"), "{url}: {head}: {output:?}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("to /campaigns/data_series: the proxy (HTTPS_PROXY): "), "{output:?}");
    }
}

#[test]
fn a_permission_that_is_missing_is_named_and_the_rest_is_compared() {
    let history = vec![
        own(HistoryKind::Campaign, "a", &[("2026-10-01", 9)]),
        own(HistoryKind::Canvas, "c", &[("2026-10-01", 3)]),
        step("c", "s", &[("2026-10-01", 3)]),
    ];
    let forwarder = forwarder(history, LONG_AGO);
    for permission in ["campaigns.data_series", "canvas.data_series"] {
        let braze = ScriptedBraze::start();
        braze.campaign("a", &[("2026-10-01", 9)]);
        braze.step("c", "s", &[("2026-10-01", 3)]);
        braze.withhold(permission);
        let arguments = ["--to", "2026-10-02", "--json"];
        let ran = reconcile(&braze.url(), &forwarder.url(), &arguments);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.err.contains("could not be compared"), "{ran:?}");
        let all = ran.json();
        let reason = all["not_compared"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("needs the permission {permission}")), "{reason}");
        assert!(reason.contains("Invalid API key: ***"), "{reason}");
        assert!(!all["objects"].as_array().unwrap().is_empty(), "{all}");
    }
    for permission in ["campaigns.list", "canvas.list"] {
        let braze = ScriptedBraze::start();
        braze.withhold(permission);
        let ran = reconcile(&braze.url(), &forwarder.url(), &["--all"]);
        assert!(ran.status == 1 && ran.err.contains(&format!("the permission {permission}")), "{ran:?}");
    }
}

#[test]
fn a_key_that_is_refused_is_not_shown_to_braze_for_each_campaign() {
    let braze = ScriptedBraze::start();
    braze.withhold("campaigns.data_series");
    let ids: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let history = ids.iter().map(|id| own(HistoryKind::Campaign, id, &[("2026-10-01", 9)])).collect();
    let ran = reconcile(&braze.url(), &forwarder(history, LONG_AGO).url(), &["--to", "2026-10-02", "--json"]);
    assert_eq!(ran.json()["not_compared"].as_array().unwrap().len(), 40);
    assert!(braze.asked("/campaigns/data_series").len() <= 8);
}

fn limited(headers: &[(&'static str, &str)]) -> ScriptedReply {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    ScriptedReply {
        status: 429,
        headers,
        body: json!({"message": "Over rate limit"}).to_string(),
        missing: 0,
    }
}

#[test]
fn a_rate_limit_is_waited_for_within_a_bound() {
    let forwarder = forwarder(vec![own(HistoryKind::Campaign, "a", &[("2026-10-01", 9)])], LONG_AGO);
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-01", 9)]);
    // Two seconds away, by Braze's clock.
    let date = ("date", "Fri, 20 Nov 2026 10:00:00 GMT");
    braze.next(
        "/campaigns/data_series",
        [limited(&[("retry-after", "1")]), limited(&[date, ("x-ratelimit-reset", "1795168802")])],
    );
    let started = Instant::now();
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(ran.err.contains("rate limit for /campaigns/data_series is reached; waiting 2 s"), "{ran:?}");
    // An hour away.
    braze.next("/campaigns/data_series", [limited(&[date, ("x-ratelimit-reset", "1795172400")])]);
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.out.contains(
            "9 counted: Braze's rate limit for /campaigns/data_series is used up; ask again in 60 minutes"
        ),
        "{ran:?}"
    );
}

#[test]
fn half_an_answer_is_no_number() {
    let history = vec![own(HistoryKind::Campaign, "a", &[("2026-10-01", 9)])];
    let forwarder = forwarder(history, LONG_AGO);
    let braze = ScriptedBraze::start();
    braze.campaign("a", &[("2026-10-01", 9)]);
    let cut = ScriptedReply {
        status: 200,
        body: "{\"message\":\"succ".into(),
        missing: 99,
        ..ScriptedReply::default()
    };
    for (reply, part) in [
        (
            ScriptedReply::json(200, &json!({"message": "Something went wrong"})),
            "not \"success\", but \"Something went wrong\"",
        ),
        (ScriptedReply::json(200, &json!({"message": "success"})), "has no \"data\""),
        (ScriptedReply::json(202, &json!({"message": "queued"})), "under maintenance"),
        (
            ScriptedReply { status: 200, body: "<html>".into(), ..ScriptedReply::default() },
            "is not Braze's REST API",
        ),
        (cut, "broke off"),
    ] {
        braze.next("/campaigns/data_series", [reply]);
        let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(
            ran.out.contains("Not compared (this is not 0):\n  campaign Name of a (a), 9 counted: "),
            "{ran:?}"
        );
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
    // A failure that passes, and a channel without its number.
    braze.next("/campaigns/data_series", [ScriptedReply { status: 503, ..ScriptedReply::default() }]);
    assert_eq!(reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]).status, 0);
    braze.messages("a", "2026-10-01", json!({"email": [{"opens": 3}]}));
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.out.contains("2026-10-01 is one that Braze's answer has no number of sends for; counted 9"),
        "{ran:?}"
    );
}

#[test]
fn a_campaign_that_braze_does_not_know_is_listed_and_no_zero() {
    let braze = ScriptedBraze::start();
    let forwarder = forwarder(vec![own(HistoryKind::Campaign, "gone", &[("2026-10-01", 9)])], LONG_AGO);
    for status in [400, 404] {
        braze.next(
            "/campaigns/data_series",
            [ScriptedReply::json(status, &json!({"message": "Invalid Campaign ID"}))],
        );
        let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--campaign", "gone"]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(
            ran.out.contains("9 counted: Braze does not know it") && ran.out.contains("Invalid Campaign ID"),
            "{ran:?}"
        );
    }
}

#[test]
fn all_that_braze_lists_is_asked_for_page_by_page() {
    let braze = ScriptedBraze::start();
    for number in 0..250 {
        braze.campaign(&format!("c{number:03}"), &[]);
    }
    braze.campaign("c249", &[("2026-10-01", 12)]);
    braze.step("canvas", "s", &[]);
    let forwarder = forwarder(Vec::new(), LONG_AGO);
    let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--all"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.out.contains("! campaign Listed c249 (c249)\n      12 never received"), "{ran:?}");
    assert_eq!(braze.asked("/campaigns/data_series").len(), 250);
    assert_eq!((braze.asked("/campaigns/list").len(), braze.asked("/canvas/list").len()), (4, 2));
}

#[test]
fn a_list_that_does_not_end_is_named() {
    let forwarder = forwarder(Vec::new(), LONG_AGO);
    for (path, list) in [("/campaigns/list", "campaigns"), ("/canvas/list", "canvases")] {
        let braze = ScriptedBraze::start();
        let page =
            || ScriptedReply::json(200, &json!({"message": "success", list: [{"id": "a", "name": "A"}]}));
        braze.next(path, [page(), page()]);
        let ran = reconcile(&braze.url(), &forwarder.url(), &["--to", "2026-10-02", "--all"]);
        let part = format!("Braze's lists ({path}) do not end: a page came twice");
        assert!(ran.status == 1 && ran.err.contains(&part), "{ran:?}");
    }
}

#[test]
fn a_forwarder_without_a_history_is_told_apart_from_one_that_is_not_there() {
    let braze = ScriptedBraze::start();
    let older = Loopback::start(|question| match &*question.path {
        "/status" => ScriptedReply::json(200, &json!({})),
        _ => ScriptedReply { status: 404, body: "not found\n".into(), ..ScriptedReply::default() },
    });
    let ran = reconcile(&braze.url(), &older.url(), &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("/history: status 404 not found; reconcile needs the history"), "{ran:?}");
    let ran = reconcile(&braze.url(), &forwarder(Vec::new(), None).url(), &["--all"]);
    assert!(ran.status == 1 && ran.err.contains("no history yet"), "{ran:?}");
    let elsewhere = Loopback::start(|question| match &*question.path {
        "/status" => ScriptedReply::json(200, &json!({})),
        _ => ScriptedReply::json(200, &json!({"from": "2026-01-01", "time_zone": "UTC"})),
    });
    let ran = reconcile(&braze.url(), &elsewhere.url(), &[]);
    assert!(ran.status == 1 && ran.err.contains("not for what was asked"), "{ran:?}");
}

/// What was pushed a moment ago is there, on the day that is not over.
#[tokio::test]
async fn it_asks_a_real_forwarder() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    let running = configuration.start().await;
    let event = |number: u64| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("send-{number}"),
            "time": support::unix_now(),
            "properties": {"app_group_id": "emea", "campaign_id": "8a3f", "campaign_name": "Weekly newsletter"},
        })
    };
    let events = json!({"events": (0..70).map(event).collect::<Vec<_>>()});
    running.push_accepted(events.to_string()).await;
    running.settled(70).await;
    let braze = ScriptedBraze::start();
    braze.campaign("8a3f", &[]);
    let config = configuration.write();
    let (_folder, key) = keys(0o600, REST_KEY);
    let config = config.to_str().unwrap();
    let url = braze.url();
    let given = ["--braze-url", &url, "--braze-key-file", &key, "--config", config, "--days", "2", "--json"];
    support::eventually("the history is open", async || {
        (running.admin("/history").await.0 == 200).then_some(())
    })
    .await;
    // What has an outcome is in the history a little later.
    support::eventually("the history has what was pushed", async || {
        let ran = run(&given);
        let all = ran.json();
        let object = all["objects"].as_array().unwrap().first()?;
        let days = object["days"].as_array().unwrap();
        let counted: u64 = days.iter().map(|day| day["counted"].as_u64().unwrap()).sum();
        assert_eq!(object["id"], json!("8a3f"), "{all}");
        (counted == 70).then_some(())
    })
    .await;
}

/// What `/status` says of the daily comparison, once `is_there` of its first workspace.
async fn reconciled(running: &Forwarder, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    support::eventually(what, async || {
        let (_, status) = running.admin("/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        let reconcile = status["reconcile"].clone();
        is_there(&reconcile["workspaces"][0]).then_some(reconcile)
    })
    .await
}

/// One that compares the sends of all connections with a Braze, with the key in a file of mode 600.
fn comparing(configuration: Configuration, section: &str, braze: &str) -> Configuration {
    use std::os::unix::fs::PermissionsExt as _;
    let key = configuration.file("braze.key", format!("{REST_KEY}\n"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    configuration
        .text(&format!("{section}.braze_url"), braze)
        .text(&format!("{section}.braze_key_file"), key.to_str().unwrap())
}

async fn assert_no_key_is_told(running: &Forwarder) {
    for path in ["/status", "/metrics"] {
        assert!(!running.admin(path).await.1.contains(REST_KEY), "{path} tells the key");
    }
    assert!(!running.log().contains(REST_KEY), "the log tells the key");
}

#[tokio::test]
async fn the_running_process_compares_by_itself_soon_after_its_start() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    let history = configuration.home().join("history");
    let day = keep_history(&history, &[("acme", "weekly", 990), ("acme", "same", 77), ("acme", "gone", 5)]);
    let yesterday = day.tomorrow().unwrap().to_string();
    braze.campaign("weekly", &[(&day.to_string(), 1060)]);
    braze.campaign("same", &[(&day.to_string(), 77)]);
    let running = comparing(configuration, "reconcile", &braze.url()).start().await;
    let all = reconciled(&running, "it has compared", |one| !one["compared"].is_null()).await;
    let one = &all["workspaces"][0];
    assert_eq!(
        (&one["connection"], &one["state"], &one["failed_because"]),
        (&json!(null), &json!("trouble"), &json!(null))
    );
    assert_eq!(one["words"], json!("1 of 2 campaigns, Canvases and steps differs by more than 1 %"));
    let sums = &one["compared"];
    assert_eq!((&sums["to"], &sums["time_zone"]), (&json!(yesterday), &json!("UTC")));
    assert_eq!(
        (&sums["braze"], &sums["accepted"], &sums["difference"]),
        (&json!(1137), &json!(1067), &json!(-70))
    );
    assert!(
        one["next_attempt"].as_u64().unwrap() > support::unix_now() && !one["last_success"].is_null(),
        "{one}"
    );
    let [weekly] = &all["differing"].as_array().unwrap()[..] else { panic!("{all}") };
    assert_eq!((&weekly["name"], &weekly["within_tolerance"]), (&json!("Name of weekly"), &json!(false)));
    assert!(weekly["explanation"][0].as_str().unwrap().starts_with("70 never received"), "{weekly}");
    assert_eq!((&all["differing_total"], &all["not_compared_total"]), (&json!(1), &json!(1)));
    assert!(all["not_compared"][0]["reason"].as_str().unwrap().contains("Braze does not know it"), "{all}");
    let (_, metrics) = running.admin("/metrics").await;
    for line in [
        "braze_datadog_reconcile_last_attempt_successful{connection=\"*\"} 1",
        "braze_datadog_reconcile_sends{connection=\"*\",side=\"braze\"} 1137",
        "braze_datadog_reconcile_sends{connection=\"*\",side=\"accepted\"} 1067",
        "braze_datadog_reconcile_objects_beyond_tolerance{connection=\"*\"} 1",
        "braze_datadog_reconcile_objects_not_compared{connection=\"*\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(
        metrics.contains("\nbraze_datadog_reconcile_last_success_timestamp_seconds{connection=\"*\"} 1"),
        "{metrics}"
    );
    running.says("differs from Braze's dashboard by more than reconcile.tolerance").await;
    let asked = braze.asked("/campaigns/data_series");
    assert_eq!(asked.len(), 3, "once, and not again before the next day");
    assert_eq!((&*asked[0].query["length"], &asked[0].query["ending_at"][..10]), ("7", &*yesterday));
    assert_no_key_is_told(&running).await;
    assert!(running.stop().await.success());
}

#[tokio::test]
async fn each_connection_with_a_key_of_its_own_is_compared_with_its_own_workspace() {
    let (intake, own, others) = (Intake::start(), ScriptedBraze::start(), ScriptedBraze::start());
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), support::KEY, &["emea"])
        .connection("beta", &intake.url(), support::KEY, &[]);
    let history = configuration.home().join("history");
    let day = keep_history(&history, &[("acme", "a", 10), ("beta", "b", 20)]).to_string();
    own.campaign("a", &[(&day, 10)]);
    others.campaign("b", &[(&day, 20)]);
    let configuration = comparing(configuration, "connections.acme.reconcile", &own.url());
    let running = comparing(configuration, "reconcile", &others.url()).start().await;
    let all = support::eventually("both are compared", async || {
        let all = reconciled(&running, "it has compared", |one| !one["compared"].is_null()).await;
        (!all["workspaces"][1]["compared"].is_null()).then_some(all)
    })
    .await;
    let told: Vec<_> = all["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["connection"], &one["compared"]["braze"], &one["state"]))
        .collect();
    let flowing = json!("flowing");
    assert_eq!(told, [(&json!(null), &json!(20), &flowing), (&json!("acme"), &json!(10), &flowing)]);
    assert_eq!(
        (own.asked("/campaigns/data_series").len(), others.asked("/campaigns/data_series").len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_connections_file_that_is_none_for_a_moment_keeps_its_workspace_and_what_is_known_of_it() {
    let (intake, own, others) = (Intake::start(), ScriptedBraze::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("beta", &intake.url(), support::KEY, &[]);
    let directory = configuration.home().join("connections");
    std::fs::create_dir(&directory).unwrap();
    let history = configuration.home().join("history");
    let day = keep_history(&history, &[("acme", "a", 10), ("beta", "b", 20)]).to_string();
    own.campaign("a", &[(&day, 10)]);
    others.campaign("b", &[(&day, 20)]);
    let configuration = comparing(configuration, "reconcile", &others.url());
    let key = configuration.home().join("braze.key");
    let (url, key) = (intake.url(), key.display().to_string());
    let file = format!(
        "url = \"{url}\"\napi_key = \"{}\"\napp_group_ids = [\"emea\"]\n\
         [reconcile]\nbraze_url = \"{}\"\nbraze_key_file = \"{key}\"\n",
        support::KEY,
        own.url()
    );
    let acme = directory.join("acme.toml");
    std::fs::write(&acme, &file).unwrap();
    let configuration = configuration.text("connections_directory", directory.to_str().unwrap());
    let running = configuration.start().await;
    let told = async || {
        let status: Value = serde_json::from_str(&running.admin("/status").await.1).unwrap();
        let one = |one: &Value| (one["connection"].clone(), one["compared"]["braze"].clone());
        status["reconcile"]["workspaces"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let both = [(json!(null), json!(20)), (json!("acme"), json!(10))];
    support::eventually("both are compared", async || (told().await == both).then_some(())).await;
    std::fs::write(&acme, format!("{file}= broken\n")).unwrap();
    running.signal("HUP");
    running.says("its old one stays in force").await;
    running.says("the configuration was read again").await;
    assert_eq!(told().await, both);
    assert!(
        running.admin("/metrics").await.1.contains("reconcile_sends{connection=\"acme\",side=\"braze\"} 10")
    );
    // A change of the top level is asked for at once, and acme's sends are no part of it.
    let asked = || others.asked("/campaigns/data_series");
    configuration.set("reconcile.days", "6").write();
    running.signal("HUP");
    support::eventually("it is asked again", async || (asked().len() > 1).then_some(())).await;
    support::eventually("both are compared again", async || (told().await == both).then_some(())).await;
    assert!(asked().iter().all(|question| question.query["campaign_id"] == "b"), "{:?}", asked());
    assert!(!running.log().contains("nothing is compared with Braze's dashboard"), "{}", running.log());
}

#[tokio::test]
async fn a_key_that_braze_refuses_is_told_with_the_permission_and_a_reload_asks_again() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    let day = keep_history(&configuration.home().join("history"), &[("acme", "a", 10)]).to_string();
    braze.campaign("a", &[(&day, 10)]);
    braze.withhold("campaigns.data_series");
    let configuration = comparing(configuration, "reconcile", &braze.url());
    let running = configuration.start().await;
    let all = reconciled(&running, "it has failed", |one| !one["failed_because"].is_null()).await;
    let one = &all["workspaces"][0];
    assert!(
        one["failed_because"].as_str().unwrap().contains("needs the permission campaigns.data_series"),
        "{one}"
    );
    assert_eq!(
        (&one["state"], &one["words"], &one["compared"]),
        (&json!("trouble"), &json!("could not be compared"), &json!(null))
    );
    assert!(
        running.admin("/metrics").await.1.contains("reconcile_last_attempt_successful{connection=\"*\"} 0")
    );
    let log = running.says("dashboard failed; it is tried again").await;
    assert!(log.contains("\"WARN\"") && log.contains("campaigns.data_series"), "{log}");
    assert_no_key_is_told(&running).await;
    // Nothing else is touched.
    assert_eq!(running.admin("/readyz").await.0, 200);
    braze.grant("campaigns.data_series");
    // What was put right in Braze changes no setting.
    running.signal("HUP");
    reconciled(&running, "it has compared", |one| !one["compared"].is_null()).await;
    let configuration = configuration.set("reconcile.days", "6");
    configuration.write();
    running.signal("HUP");
    let asked = || braze.asked("/campaigns/data_series").pop().unwrap().query["length"].clone();
    support::eventually("it is asked again", async || (&*asked() == "6").then_some(())).await;
    let all = reconciled(&running, "it has compared", |one| !one["compared"].is_null()).await;
    assert_eq!(all["workspaces"][0]["failed_because"], json!(null), "{all}");
    // Switched off, it is gone.
    configuration.without("reconcile.braze_url").without("reconcile.braze_key_file").write();
    running.signal("HUP");
    support::eventually("it is off", async || {
        let status: Value = serde_json::from_str(&running.admin("/status").await.1).unwrap();
        status["reconcile"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_there_is_nothing_to_compare_the_key_is_tried_and_no_success_is_booked() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    braze.withhold("campaigns.data_series");
    braze.withhold("canvas.data_series");
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    let configuration = comparing(configuration, "reconcile", &braze.url());
    let running = configuration.start().await;
    let all = reconciled(&running, "it has failed", |one| !one["failed_because"].is_null()).await;
    let one = &all["workspaces"][0];
    assert!(one["failed_because"].as_str().unwrap().contains("Braze refuses the key"), "{one}");
    let metric = "reconcile_last_attempt_successful{connection=\"*\"}";
    assert!(running.admin("/metrics").await.1.contains(&format!("{metric} 0")));
    // With one of both permissions it is a key.
    braze.grant("canvas.data_series");
    let configuration = configuration.set("reconcile.days", "6");
    configuration.write();
    running.signal("HUP");
    let all = reconciled(&running, "it was tried", |one| !one["compared"].is_null()).await;
    let one = &all["workspaces"][0];
    assert_eq!(
        (&one["words"], &one["failed_because"], &one["last_success"]),
        (&json!("no campaign and no Canvas had sends on these days"), &json!(null), &json!(null))
    );
    let (_, metrics) = running.admin("/metrics").await;
    assert!(metrics.contains(&format!("{metric} 1")), "{metrics}");
    assert!(!metrics.contains("reconcile_last_success_timestamp_seconds{"), "{metrics}");
    let log = running.says("nothing was compared with Braze's dashboard").await;
    assert!(!log.contains("\"compared with Braze's dashboard"), "{log}");
    assert_no_key_is_told(&running).await;
}

#[tokio::test]
async fn an_answer_that_is_not_whole_says_nothing_of_a_key_that_is_tried() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    let configuration = comparing(configuration, "reconcile", &braze.url());
    let maintenance = ScriptedReply::json(202, &json!({"message": "success", "data": []}));
    let cut = ScriptedReply {
        status: 200,
        body: "{\"message\":\"succ".into(),
        missing: 99,
        ..ScriptedReply::default()
    };
    braze.next("/campaigns/data_series", [maintenance]);
    let running = configuration.start().await;
    for (part, next) in [("under maintenance", Some(cut)), ("broke off", None)] {
        let is_told = |one: &Value| {
            assert_eq!(one["compared"], json!(null), "{one}");
            one["failed_because"].as_str().is_some_and(|reason| reason.contains(part))
        };
        reconciled(&running, part, is_told).await;
        let metrics = running.admin("/metrics").await.1;
        assert!(metrics.contains("reconcile_last_attempt_successful{connection=\"*\"} 0"), "{metrics}");
        if let Some(reply) = next {
            braze.next("/campaigns/data_series", [reply]);
            configuration.clone().set("reconcile.days", "6").write();
            running.signal("HUP");
        }
    }
}

#[tokio::test]
async fn an_app_group_that_the_history_does_not_have_is_a_failure_that_names_those_it_has() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    keep_history_of(&configuration.home().join("history"), "emea", &[("acme", "a", 10)]);
    let configuration =
        comparing(configuration, "reconcile", &braze.url()).text("reconcile.app_group_id", "emae");
    let running = configuration.start().await;
    let all = reconciled(&running, "it has failed", |one| !one["failed_because"].is_null()).await;
    let one = &all["workspaces"][0];
    let reason = one["failed_because"].as_str().unwrap();
    assert!(reason.contains("no sends of the app group \"emae\", but some of emea"), "{one}");
    assert_eq!((&one["state"], &one["compared"]), (&json!("trouble"), &json!(null)));
    assert!(braze.asked("/campaigns/data_series").is_empty());
}

#[tokio::test]
async fn a_braze_that_fails_for_all_of_a_few_campaigns_is_no_comparison() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    keep_history(&configuration.home().join("history"), &[("acme", "a", 10)]);
    let fails = || ScriptedReply::json(500, &json!({"message": "Internal error"}));
    braze.next("/campaigns/data_series", std::iter::repeat_with(fails).take(20));
    let running = comparing(configuration, "reconcile", &braze.url()).start().await;
    let all = reconciled(&running, "it has failed", |one| !one["failed_because"].is_null()).await;
    assert_eq!(all["workspaces"][0]["compared"], json!(null), "{all}");
    assert!(
        running.admin("/metrics").await.1.contains("reconcile_last_attempt_successful{connection=\"*\"} 0")
    );
}

#[tokio::test]
async fn a_campaign_of_another_workspace_is_not_said_to_have_no_sends() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    keep_history(&configuration.home().join("history"), &[("acme", "a", 10)]);
    let running = comparing(configuration, "reconcile", &braze.url()).start().await;
    let all = reconciled(&running, "it has failed", |one| !one["failed_because"].is_null()).await;
    let one = &all["workspaces"][0];
    let reason = one["failed_because"].as_str().unwrap();
    assert!(
        reason.contains("none of 1 campaigns and Canvases") && reason.contains("does not know it"),
        "{one}"
    );
    assert_eq!((&one["words"], &one["compared"]), (&json!("could not be compared"), &json!(null)));
    assert!(
        running.admin("/metrics").await.1.contains("reconcile_last_attempt_successful{connection=\"*\"} 0")
    );
    let log = running.says("dashboard failed; it is tried again").await;
    assert!(!log.contains("compared with Braze"), "{log}");
}

#[tokio::test]
async fn a_braze_that_never_answers_keeps_neither_sends_nor_a_stop() {
    let intake = Intake::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let configuration = Configuration::new().connection("acme", &intake.url(), support::KEY, &[]);
    keep_history(&configuration.home().join("history"), &[("acme", "a", 10)]);
    let running = comparing(configuration, "reconcile", &url).start().await;
    reconciled(&running, "Braze is asked", |one| one["words"] == "Braze is being asked").await;
    let event = json!({"event_type": "users.messages.email.Send", "id": "1", "time": support::unix_now(),
                       "properties": {"app_group_id": "emea", "campaign_id": "a"}});
    running.push_accepted(event.to_string()).await;
    assert_eq!(running.settled(1).await.accepted, 1);
    let started = Instant::now();
    assert!(running.stop().await.success());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_is_wrong_with_it_is_an_error_that_costs_no_send() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), support::KEY, &[])
        .text("connections.acme.reconcile.braze_url", "https://rest.fra-01.braze.eu")
        .text("connections.acme.reconcile.braze_key_file", "./missing.key")
        .text("connections.acme.reconcile.time_zone", "Paris");
    let checked = configuration.run(&["check"]).await;
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    for part in [
        "connections.acme.reconcile.braze_key_file: ",
        "missing.key does not exist",
        "\"Paris\" is no time zone",
    ] {
        assert!(checked.stderr.contains(part), "{checked:?}");
    }
    assert_eq!(configuration.run(&["run", "--strict"]).await.status.code(), Some(78));
    let running = configuration.start().await;
    let all = reconciled(&running, "it is left out", |one| one["state"] == "trouble").await;
    let one = &all["workspaces"][0];
    assert_eq!(
        (&one["connection"], &one["words"]),
        (&json!("acme"), &json!("left out: its configuration is wrong"))
    );
    assert!(one["failed_because"].as_str().unwrap().contains("missing.key does not exist"), "{one}");
    running.says("nothing is compared with Braze's dashboard").await;
    let event = json!({"event_type": "users.messages.email.Send", "id": "1", "time": support::unix_now(),
                       "properties": {"app_group_id": "emea", "campaign_id": "a"}});
    running.push_accepted(event.to_string()).await;
    assert_eq!(running.settled(1).await.accepted, 1);
}
