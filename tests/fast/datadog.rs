//! What ships for Datadog: the dashboard, the monitors, and `braze-datadog monitors`, held against Datadog's schemas
//! and against what no schema says: metrics and tags that exist, thresholds, windows, silence.

mod formats;
mod query;
mod rules;
mod scope;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use braze_datadog::forwarder_points::metrics;
use jsonschema::Validator;
use query::Alert;
use rules::{check_dashboard, check_monitor, emitted, scraped};
use serde_json::{Value, json};

/// The monitors that ship, and the command that prints each.
const MONITORS: [(&str, &[&str]); 9] = [
    (
        "monitor-campaign-sends-too-few.json",
        &["--campaign", "Weekly newsletter", "--min", "1000", "--window", "1w"],
    ),
    (
        "monitor-campaign-did-not-go-out.json",
        &["--campaign", "Weekly newsletter", "--min", "1000", "--expect", "Mon 11:00 Europe/Paris"],
    ),
    (
        "monitor-step-suddenly-sends-thousands.json",
        &["--every", "step", "--rise", "5000", "--window", "1h", "--before", "1d"],
    ),
    ("monitor-heartbeat.json", &["--heartbeat"]),
    ("monitor-forwarder-takes-no-events.json", &["--forwarder", "ready"]),
    ("monitor-forwarder-drops-sends.json", &["--forwarder", "drops"]),
    ("monitor-forwarder-queue-is-long.json", &["--forwarder", "queue"]),
    ("monitor-forwarder-bucket-lags.json", &["--forwarder", "bucket-lag"]),
    ("monitor-forwarder-configuration-is-refused.json", &["--forwarder", "configuration"]),
];

fn shipped(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "config", "datadog", name].iter().collect();
    fs::read_to_string(path).unwrap()
}

fn monitor_schema() -> Validator {
    let schema = serde_json::from_str(include_str!("../support/datadog/monitor.schema.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn dashboard_schema() -> Validator {
    let schema = serde_json::from_str(include_str!("../support/datadog/dashboard.schema.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn monitors(arguments: &[&str]) -> Output {
    monitors_by(None, arguments)
}

/// With a configuration that is named by its variable.
fn monitors_by(configuration: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braze-datadog"));
    command.arg("monitors").args(arguments).env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LLVM_PROFILE_FILE"));
    command.envs(configuration.map(|path| ("BRAZE_DATADOG_CONFIG", path)));
    command.output().unwrap()
}

/// What the command prints, which has to be one monitor that breaks no rule; and what it says beside it.
fn printed(arguments: &[&str]) -> (Value, String) {
    let output = monitors(arguments);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let monitor: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        monitor_schema().iter_errors(&monitor).map(|error| error.to_string()).collect::<Vec<_>>(),
        [""; 0]
    );
    assert_eq!(check_monitor(&monitor, &known()), [""; 0], "{arguments:?}: {monitor:#}");
    (monitor, stderr)
}

/// What the command says when it prints nothing.
fn refused(arguments: &[&str]) -> String {
    let output = monitors(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The metrics of the monitors: what is emitted, and under another name as a configuration below has it.
fn known() -> BTreeMap<String, rules::Metric> {
    let mut known = emitted();
    let sent = known["braze.messaging.sent"].clone();
    known.insert("acme.sent".to_owned(), sent.clone());
    for (metric, missing) in WITHOUT_IDS {
        let mut other = sent.clone();
        other.tags.retain(|tag| !missing.contains(&&**tag));
        known.insert(metric.to_owned(), other);
    }
    known
}

/// Metrics without some of the ids.
const WITHOUT_IDS: [(&str, &[&str]); 3] = [
    ("no_step.sent", &["canvas_step_id"]),
    ("no_canvas.sent", &["canvas_id"]),
    ("no_id.sent", &["canvas_id", "canvas_step_id"]),
];

fn query_of(arguments: &[&str]) -> String {
    printed(arguments).0["query"].as_str().unwrap().to_owned()
}

#[test]
fn the_dashboard_is_one_that_datadog_takes_and_shows_only_what_is_emitted() {
    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")).unwrap();
    let errors =
        dashboard_schema().iter_errors(&dashboard).map(|error| error.to_string()).collect::<Vec<_>>();
    assert_eq!(errors, [""; 0]);
    let mut known = emitted();
    known.extend(scraped(&shipped("openmetrics.yaml")));
    assert_eq!(check_dashboard(&dashboard, &known), [""; 0]);
    let text = dashboard.to_string();
    for shown in
        ["campaign_id,campaign_name", "canvas_id,canvas_name", "canvas_step_id,canvas_step_name", "heartbeat"]
    {
        assert!(text.contains(shown), "{shown} is not on the dashboard");
    }
}

#[test]
fn the_monitors_that_ship_are_those_that_the_command_prints() {
    for (name, arguments) in MONITORS {
        let (monitor, said) = printed(arguments);
        assert_eq!(shipped(name), format!("{monitor:#}\n"), "{name}: braze-datadog monitors {arguments:?}");
        // A name is not sure; that is said of it.
        assert!(
            said.is_empty() || arguments.contains(&"--campaign") && said.lines().count() == 1,
            "{name}: {said}"
        );
    }
}

/// Whoever is woken looks for them in the log.
#[test]
fn the_monitor_on_the_heartbeat_names_each_line_that_tells_of_a_heartbeat_dropped() {
    let settle = include_str!("../../src/pipeline/settle.rs");
    let (monitor, _) = printed(&["--heartbeat"]);
    for (literal, line) in [
        ("\"a heartbeat was\"", "`a heartbeat was dropped`"),
        ("\"points about the forwarder itself were\"", "`points about the forwarder itself were dropped`"),
        ("\"sends were dropped\"", "`sends were dropped`"),
    ] {
        assert!(settle.contains(literal), "no line of the log has {literal} any more");
        assert!(monitor["message"].as_str().unwrap().contains(line), "{line}: {monitor}");
    }
}

/// Of what the forwarder tells of itself, that which is looked at once something has gone off.
const LOOKED_AT: [&str; 4] =
    [metrics::QUEUE_DEPTH, metrics::CONSUMER_LAG, metrics::SENDS_PENDING, metrics::FLUSH_MILLISECONDS];

#[test]
fn what_the_forwarder_tells_of_its_trouble_wakes_somebody() {
    let source = include_str!("../../src/forwarder_points/metrics.rs");
    let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
    let names: Vec<_> = names.collect();
    assert!(names.len() > LOOKED_AT.len() + 5 && names.contains(&metrics::READY), "{names:?}");
    let queries = MONITORS.map(|(_, arguments)| query_of(arguments));
    for name in names.into_iter().filter(|name| !LOOKED_AT.contains(name)) {
        let series = format!(":{name}{{");
        assert!(queries.iter().any(|query| query.contains(&series)), "no monitor that ships looks at {name}");
    }
}

#[test]
fn one_of_several_forwarders_that_takes_no_events_or_refuses_its_configuration_is_seen() {
    assert_eq!(query_of(&["--forwarder", "ready"]), "max(last_5m):min:braze.forwarder.ready{*} < 1");
    assert_eq!(
        query_of(&["--forwarder", "configuration"]),
        "min(last_5m):max:braze.forwarder.config_reload_refused{*} + \
         max:braze.forwarder.connections_refused{*} > 0"
    );
    let (monitor, _) = printed(&["--forwarder", "ready"]);
    let hidden = monitor["query"].as_str().unwrap().replace(":min:", ":max:");
    let broken = json!({ "query": hidden, "options": monitor["options"] });
    assert!(check_monitor(&broken, &emitted()).join("; ").contains("max: of braze.forwarder.ready"));
}

#[test]
fn a_weekly_newsletter_that_sends_too_few_or_nothing_wakes_somebody() {
    let (monitor, _) = printed(&[
        "--campaign",
        "Weekly newsletter",
        "--min",
        "1000",
        "--window",
        "1w",
        "--notify",
        "@slack-crm",
        "--notify",
        "@a@example.com",
    ]);
    assert_eq!(
        monitor["query"],
        "sum(last_1w):sum:braze.messaging.sent{campaign_name:weekly_newsletter}.as_count() < 1000"
    );
    assert_eq!(monitor["options"]["thresholds"], json!({ "critical": 1000 }));
    assert_eq!(monitor["options"]["on_missing_data"], "show_and_notify_no_data");
    assert_eq!(monitor["name"], "[Braze] Campaign \"Weekly newsletter\" sends fewer than 1000 in a week");
    let message = monitor["message"].as_str().unwrap();
    assert!(message.ends_with("\n@slack-crm @a@example.com\n"), "{message}");
    for part in
        ["{{#is_no_data}}", "braze.forwarder.heartbeat", "`campaign_name:weekly_newsletter`", "{{value}}"]
    {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

#[test]
fn a_step_is_compared_with_its_own_past() {
    assert_eq!(
        query_of(&["--every", "step", "--rise", "5000"]),
        "change(sum(last_1h),last_1d):sum:braze.messaging.sent{canvas_step_id:*} by \
         {canvas_id,canvas_step_id}.as_count() > 5000"
    );
    assert_eq!(
        query_of(&["--step-id", "S-1", "--factor", "2.5", "--window", "30m", "--before", "1w"]),
        "pct_change(sum(last_30m),last_1w):sum:braze.messaging.sent{canvas_step_id:s-1} by \
         {canvas_id,canvas_step_id}.as_count() > 150"
    );
    let (monitor, _) =
        printed(&["--canvas", "Welcome!", "--step", "Day 2", "--max", "100000", "--tag", "ENV:prod"]);
    assert_eq!(
        monitor["query"],
        "sum(last_1h):sum:braze.messaging.sent{canvas_name:welcome,canvas_step_name:day_2,env:prod} by \
         {canvas_id,canvas_step_id}.as_count() > 100000"
    );
    assert_eq!(monitor["options"]["new_group_delay"], 0);
    let message = monitor["message"].as_str().unwrap();
    for part in ["\"Welcome!\", \"Day 2\" (canvas_step_id {{canvas_step_id.name}}, canvas_id", "`/search`"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

#[test]
fn what_has_no_name_yet_and_what_is_renamed_is_watched_by_its_id() {
    assert_eq!(
        query_of(&["--every", "campaign", "--max", "5"]),
        "sum(last_1h):sum:braze.messaging.sent{campaign_id:*} by {campaign_id}.as_count() > 5"
    );
    assert_eq!(
        query_of(&["--campaign", "A", "--max", "5"]),
        "sum(last_1h):sum:braze.messaging.sent{campaign_name:a} by {campaign_id}.as_count() > 5"
    );
    assert_eq!(
        query_of(&["--every", "canvas", "--max", "5"]),
        "sum(last_1h):sum:braze.messaging.sent{canvas_id:*} by {canvas_id}.as_count() > 5"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    // A name is grouped by where nothing else tells one from another.
    let canvas_and_step = ["canvas_id", "canvas_name", "canvas_step_id", "canvas_step_name"];
    let series =
        ["{canvas_step_name:*} by {canvas_id,canvas_step_name}", "{canvas_step_id:*} by {canvas_step_id}"];
    let series = series.into_iter().chain(["{canvas_step_name:*} by {canvas_name,canvas_step_name}"]);
    for ((metric, missing), series) in WITHOUT_IDS.into_iter().zip(series) {
        let include: Vec<_> = canvas_and_step.into_iter().filter(|tag| !missing.contains(tag)).collect();
        let text = format!(
            "[tags]\ninclude = {include:?}\n[connections.acme]\ndry_run = true\nmetric = {metric:?}\n"
        );
        fs::write(&path, text).unwrap();
        assert_eq!(
            query_of(&["--every", "step", "--max", "5", "--config", path.to_str().unwrap()]),
            format!("sum(last_1h):sum:{metric}{series}.as_count() > 5")
        );
    }
    // Else Canvases would be watched.
    fs::write(&path, "[tags]\ninclude = [\"canvas_id\"]\n[connections.acme]\ndry_run = true\n").unwrap();
    let said = refused(&["--every", "step", "--max", "5", "--config", path.to_str().unwrap()]);
    assert!(said.contains("tags.include has none of canvas_step_id, canvas_step_name"), "{said}");
}

/// A monitor on a metric that nothing sends would never go off.
#[test]
fn the_metric_is_that_of_the_configuration_at_its_usual_place_and_a_note_says_where_it_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.toml");
    let made = |arguments: &[&str]| {
        let output = monitors_by(Some(&path), arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        let monitor: Value = serde_json::from_slice(&output.stdout).unwrap();
        (monitor["query"].as_str().unwrap().to_owned(), told)
    };
    let campaign = ["--campaign-id", "x", "--max", "10"];
    let acme = "[connections.acme]\ndry_run = true\nmetric = \"acme.sends\"\n";
    fs::write(&path, format!("[flush]\ninterval = \"10m\"\n{acme}")).unwrap();
    let (query, told) = made(&campaign);
    assert!(query.contains("sum:acme.sends{") && told.is_empty(), "{query} {told}");
    let (query, _) = made(&["--heartbeat"]);
    assert!(query.contains("last_30m") && query.contains("connection:acme"), "{query}");
    let beta = "app_group_ids = [\"g\"]\n[connections.beta]\ndry_run = true\n";
    for (text, reason) in [
        (&*format!("{acme}{beta}"), "say which with --connection"),
        ("lanez = 1\n", "lanez"),
        ("", "connection"),
    ] {
        fs::write(&path, text).unwrap();
        let (query, told) = made(&campaign);
        assert!(query.contains("sum:braze.messaging.sent{"), "{query}");
        assert!(told.contains("note: no configuration is used") && told.contains(reason), "{text}: {told}");
        assert!(!monitors(&[&campaign[..], &["--config", path.to_str().unwrap()]].concat()).status.success());
    }
    fs::remove_file(&path).unwrap();
    assert!(made(&campaign).1.contains("a.toml: there is no configuration file"));
}

#[test]
fn every_kind_of_subject_and_condition_makes_a_monitor_that_breaks_no_rule() {
    let named: [&[&str]; 7] = [
        &["--campaign", "A"],
        &["--campaign-id", "c1"],
        &["--canvas", "A"],
        &["--canvas-id", "c1"],
        &["--step", "A"],
        &["--step-id", "s1"],
        &["--canvas-id", "c1", "--step", "A"],
    ];
    let every: [&[&str]; 3] = [&["--every", "campaign"], &["--every", "canvas"], &["--every", "step"]];
    let conditions: [&[&str]; 7] = [
        &["--min", "1"],
        &["--max", "0"],
        &["--max", "7", "--window", "1mo"],
        &["--rise", "10"],
        &["--rise", "10", "--window", "2d", "--before", "1w"],
        &["--factor", "10"],
        &["--factor", "1.01", "--window", "1d"],
    ];
    for subject in named.into_iter().chain(every) {
        for condition in conditions {
            if !(subject[0] == "--every" && condition[0] == "--min") {
                printed(&[subject, condition].concat());
            }
        }
    }
    for window in ["1m", "10m", "1d"] {
        printed(&["--heartbeat", "--window", window]);
    }
    for arguments in [
        &["drops", "--max", "100", "--window", "1h"][..],
        &["queue", "--max", "5", "--window", "5m"],
        &["bucket-lag", "--max", "600"],
        &["ready", "--window", "15m"],
        &["configuration", "--window", "1h"],
    ] {
        printed(&[&["--forwarder"], arguments].concat());
    }
    for subject in named {
        for due in DUE {
            printed(&[subject, &["--expect", due]].concat());
        }
    }
}

/// Every kind of due time.
const DUE: [&str; 10] = [
    "Mon 11:00 Europe/Paris",
    "Mon,Wed,Fri 09:30 Europe/Berlin",
    "mon-fri 23:45 UTC",
    "daily 00:00 America/New_York",
    "1st 08:00 Asia/Tokyo",
    "1st,15th 08:00 Asia/Tokyo",
    "last day 23:50 Australia/Lord_Howe",
    "first Mon 08:00 UTC",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO 08:00 UTC from 2026-01-12",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1 08:00 America/Sao_Paulo",
];

#[test]
fn a_monitor_on_what_is_due_is_quiet_until_then_and_tells_of_few_and_of_nothing() {
    let newsletter = ["--campaign", "Weekly newsletter", "--min", "1000"];
    let (monitor, said) = printed(
        &[&newsletter[..], &["--expect", "Mon 11:00 Europe/Paris", "--notify", "@slack-crm"]].concat(),
    );
    assert!(said.lines().count() == 1 && said.contains("--campaign-id"), "{said}");
    assert_eq!(
        monitor["name"],
        "[Braze] Campaign \"Weekly newsletter\" sent fewer than 1000 by Mon 11:00 Europe/Paris"
    );
    // The shortest of a year's weeks, so that none shows the sends of the Monday before.
    assert_eq!(
        monitor["query"],
        "sum(last_167h):sum:braze.messaging.sent{campaign_name:weekly_newsletter}.as_count() < 1000"
    );
    let options = &monitor["options"];
    assert_eq!(options["on_missing_data"], "show_and_notify_no_data");
    // Looked at half an hour later, at the window that ended when it was due.
    assert_eq!(options["evaluation_delay"], 1800);
    assert_eq!(
        options["scheduling_options"]["custom_schedule"]["recurrences"],
        json!([{ "rrule": "FREQ=WEEKLY;INTERVAL=1;BYDAY=MO", "start": "2026-01-05T11:30:00", "timezone": "Europe/Paris" }])
    );
    let message = monitor["message"].as_str().unwrap();
    for part in [
        "{{#is_no_data}}",
        "was due (Mon 11:00 Europe/Paris)",
        "braze.forwarder.heartbeat",
        "30 minutes later",
        "@slack-crm",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let query = |arguments: &[&str]| query_of(&[&["--campaign-id", "c1"], arguments].concat());
    let head = "sum:braze.messaging.sent{campaign_id:c1}.as_count()";
    assert_eq!(query(&["--expect", "daily 08:00 UTC"]), format!("sum(last_1d):{head} < 1"));
    assert_eq!(query(&["--expect", "Mon 08:00 UTC", "--since", "6h"]), format!("sum(last_6h):{head} < 1"));
    let (monitor, _) = printed(&["--campaign-id", "c1", "--expect", "Mon 08:00 UTC", "--grace", "5m"]);
    assert_eq!(monitor["options"]["evaluation_delay"], 300);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "[flush]\ninterval = \"10m\"\n[connections.acme]\ndry_run = true\n").unwrap();
    let configured = ["--campaign-id", "c1", "--expect", "Mon 08:00 UTC", "--config", path.to_str().unwrap()];
    assert_eq!(printed(&configured).1, "", "three flushes of the longest interval fit into the default");
    assert!(
        printed(&[&configured[..], &["--grace", "20m"]].concat()).1.contains("shorter than three flushes")
    );
}

#[test]
fn a_window_that_is_too_short_for_the_flushes_or_for_braze_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let said = |interval: &str, arguments: &[&str]| {
        let own = "[forwarder_metrics]\nconnection = \"acme\"\n[connections.acme]\ndry_run = true\nheartbeat = true\n";
        fs::write(&path, format!("[flush]\ninterval = \"{interval}\"\n{own}")).unwrap();
        printed(&[arguments, &["--config", path.to_str().unwrap()]].concat()).1
    };
    let (sends, own) = ("--window is shorter than two flushes (1200s)", "shorter than three flushes (1800s)");
    let step = ["--step-id", "s1"];
    for (arguments, part) in [
        (&["--every", "step", "--max", "5"][..], sends),
        (&["--every", "step", "--rise", "5"], sends),
        (&["--every", "step", "--factor", "5"], sends),
        (&[&step[..], &["--min", "5"]].concat(), sends),
        (&["--heartbeat"], own),
        (&["--forwarder", "ready"], own),
        (&["--forwarder", "drops"], own),
        (&["--forwarder", "queue"], own),
    ] {
        for window in ["1m", "5m"] {
            let told = said("10m", &[arguments, &["--window", window]].concat());
            assert!(told.contains(part) && told.lines().count() == 1, "{arguments:?}: {told}");
        }
        for interval in ["10s", "10m"] {
            assert_eq!(
                said(interval, arguments),
                "",
                "{arguments:?}: the default is long enough for {interval}"
            );
        }
    }
    // Whatever the flushes are.
    for condition in [["--max", "5"], ["--rise", "5"], ["--factor", "5"]] {
        let with = |window| said("10s", &[&step[..], &condition, &["--window", window]].concat());
        assert!(with("29m").contains("Braze may be late") && with("29m").contains("30 minutes"));
        assert_eq!(with("30m"), "");
    }
    let few = [&step[..], &["--min", "5", "--window", "1m"]].concat();
    assert_eq!(said("10s", &few), "", "it looks half an hour later");
    let since = [&step[..], &["--expect", "daily 11:00 UTC", "--since", "5m"]].concat();
    assert!(said("10m", &since).contains("--since is shorter than two flushes"));
}

#[test]
fn a_due_time_that_can_not_be_is_refused_with_what_to_write() {
    let cases: [(&[&str], &[&str]); 12] = [
        (
            &["--expect", "Mon 11:00 Europe/Pari"],
            &["--expect \"Mon 11:00 Europe/Pari\"", "did you mean Europe/Paris?"],
        ),
        (&["--expect", "Mon 25:00 UTC"], &["25:00", "23:59"]),
        (&["--expect", "30 Feb 09:00 UTC"], &["\"30 feb\"", "write DAYS TIME ZONE"]),
        (&["--expect", "Mon 11:00:30 UTC"], &["seconds are finer"]),
        (&["--expect", "FREQ=HOURLY 11:00 UTC"], &["more than once a day", "--window"]),
        (&["--expect", "daily 11:00 UTC", "--since", "2d"], &["due again after 24 hours", "--since 1d"]),
        (&["--expect", "daily 11:00 UTC", "--since", "soon"], &["--since \"soon\"", "is not a time"]),
        (&["--expect", "daily 11:00 UTC", "--grace", "13h"], &["--grace", "12h"]),
        (&["--expect", "daily 11:00 UTC", "--grace", "30s"], &["--grace", "1m"]),
        (&["--expect", "daily 11:00 UTC", "--max", "5"], &["--expect goes with --min"]),
        (&["--expect", "daily 11:00 UTC", "--window", "1d"], &["--since"]),
        (&["--min", "5", "--since", "6h"], &["--expect"]),
    ];
    for (arguments, parts) in cases {
        let said = refused(&[&["--campaign", "A"], arguments].concat());
        assert!(
            parts.iter().all(|part| said.to_lowercase().contains(&part.to_lowercase())),
            "{arguments:?}: {said}"
        );
    }
    assert!(
        refused(&["--every", "step", "--expect", "daily 11:00 UTC"]).contains("--min needs to know whom")
    );
    assert!(refused(&["--heartbeat", "--expect", "daily 11:00 UTC"]).contains("--heartbeat goes with"));
    assert!(refused(&["--forwarder", "drops", "--campaign", "A"]).contains("--forwarder goes with"));
    assert!(refused(&["--forwarder", "lag"]).contains("drops, queue"));
    for what in ["ready", "configuration"] {
        assert!(refused(&["--forwarder", what, "--max", "1"]).contains("--max goes with"));
    }
}

#[test]
fn what_datadog_refuses_or_nobody_would_be_told_of_is_refused_with_a_reason() {
    let newsletter = ["--campaign", "Newsletter"];
    let cases: [(&[&str], &[&str]); 21] = [
        (&["--min", "1000", "--window", "2w"], &["--window \"2w\"", "nearest", "1w"]),
        (&["--min", "1000", "--window", "90d"], &["nearest", "1mo"]),
        (&["--rise", "5", "--window", "1w"], &["change", "48h"]),
        (&["--rise", "5", "--before", "3d"], &["--before \"3d\"", "1d"]),
        (&["--rise", "5", "--window", "4h", "--before", "1h"], &["at least as long as --window"]),
        (&["--min", "1", "--before", "1d"], &["--before goes with"]),
        (&["--min", "1", "--window", "week"], &["is not a time", "1w"]),
        (&["--min", "0"], &["--min"]),
        (&["--factor", "1"], &["1.01"]),
        (&["--factor", "2.555"], &["two digits"]),
        (&[], &["--min, --max, --rise, --factor"]),
        (&["--min", "1", "--max", "2"], &["a monitor takes one", "--name"]),
        (&["--min", "1", "--step", "A"], &["campaign or of a Canvas"]),
        (&["--min", "1", "--every", "step"], &["--every goes without"]),
        (&["--min", "1", "--notify", "slack"], &["\"slack\"", "@slack-CHANNEL"]),
        (&["--min", "1", "--tag", "prod"], &["\"prod\" is not KEY:VALUE"]),
        (&["--min", "1", "--heartbeat"], &["--heartbeat goes with"]),
        (&["--min", "1", "--windows", "1w"], &["--window"]),
        (&["--min", "1", "--campaign-id", "🎉"], &["nothing is left", "its id"]),
        (&["--min", "1", "--name", ""], &["--name", "empty"]),
        (&["--min", "1", "--name", " \t"], &["--name", "empty"]),
    ];
    for (arguments, parts) in cases {
        let said = refused(&[&newsletter, arguments].concat());
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    }
    for (option, id, part) in [
        ("--campaign-id", "x*", "campaign_id: \"x*\" has '*'"),
        ("--canvas-id", "a,b", "canvas_id: \"a,b\" has ','"),
        ("--step-id", "(a OR b)", "canvas_step_id: \"(a OR b)\" has '('"),
    ] {
        let said = refused(&["--min", "1", option, id]);
        assert!(said.contains(part) && said.contains("one id"), "{said}");
    }
    assert!(refused(&["--min", "1"]).contains("say what is watched"));
    assert!(refused(&["--every", "step", "--min", "1"]).contains("--min needs to know whom"));
}

#[test]
fn a_name_that_datadog_may_store_otherwise_is_pointed_out_and_none_can_call_or_break_anything() {
    let (monitor, said) = printed(&["--campaign", "Été 週刊 {{value}} @all `x`", "--min", "5"]);
    assert!(
        said.contains("note:") && said.contains("campaign_name:été_週刊_value_all_x") && said.contains("id"),
        "{said}"
    );
    for text in [&monitor["message"], &monitor["name"]] {
        assert!(!text.as_str().unwrap().contains('@'), "{text}");
    }
}

#[test]
fn metric_and_tags_come_from_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let path = path.to_str().unwrap();
    let one = "[connections.acme]\ndry_run = true\nmetric = \"acme.sent\"\n";
    let tags = "[tags]\ninclude = [\"campaign_id\", \"canvas_step_id\"]\n";
    fs::write(path, format!("{tags}{one}")).unwrap();
    let newsletter = ["--campaign-id", "c1", "--min", "5", "--config", path];
    assert_eq!(query_of(&newsletter), "sum(last_1w):sum:acme.sent{campaign_id:c1}.as_count() < 5");
    assert_eq!(
        query_of(&["--every", "step", "--rise", "5", "--config", path, "--connection", "acme"]),
        "change(sum(last_1h),last_1d):sum:acme.sent{canvas_step_id:*} by {canvas_step_id}.as_count() > 5"
    );
    let said = refused(&["--campaign", "A", "--min", "5", "--config", path]);
    assert!(
        said.contains("acme") && said.contains("campaign_name") && said.contains("tags.include"),
        "{said}"
    );
    let said = refused(&["--every", "canvas", "--rise", "5", "--config", path]);
    assert!(said.contains("tags.include has none of canvas_id, canvas_name"), "{said}");
    let (monitor, said) = printed(&["--heartbeat", "--config", path]);
    assert!(said.contains("heartbeat = true"), "{said}");
    let forwarder = ["--forwarder", "drops", "--config", path];
    assert!(printed(&forwarder).1.contains("forwarder_metrics.connection"));
    assert!(printed(&["--forwarder", "bucket-lag", "--config", path]).1.contains("--forwarder queue"));
    assert!(monitor["query"].as_str().unwrap().contains("{connection:acme}"), "{monitor}");

    // As Datadog stores the name.
    fs::write(path, "[connections.a__b_]\ndry_run = true\nheartbeat = true\n").unwrap();
    assert!(query_of(&["--heartbeat", "--config", path]).contains("{connection:a_b}"));

    fs::write(path, format!("[flush]\ninterval = \"10m\"\n{one}heartbeat = true\n")).unwrap();
    assert!(query_of(&["--heartbeat", "--config", path]).starts_with("sum(last_30m)"));
    assert!(query_of(&["--forwarder", "ready", "--config", path]).starts_with("max(last_30m)"));
    assert!(query_of(&["--forwarder", "configuration", "--config", path]).starts_with("min(last_30m)"));
    fs::write(
        path,
        format!("{one}heartbeat = true\n[connections.beta]\ndry_run = true\napp_group_ids = [\"g\"]\n"),
    )
    .unwrap();
    assert_eq!(printed(&["--heartbeat", "--config", path, "--connection", "acme"]).1, "");
    assert!(refused(&newsletter).contains("acme, beta"));
    let said = refused(&["--campaign-id", "c1", "--min", "5", "--config", path, "--connection", "gamma"]);
    assert!(said.contains("\"gamma\"") && said.contains("acme, beta"), "{said}");
    fs::write(path, "[flush]\nintervall = 3\n").unwrap();
    assert_eq!(monitors(&newsletter).status.code(), Some(78));
}

#[test]
fn the_help_teaches_by_example() {
    let output = monitors(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for part in [
        "Weekly newsletter",
        "--min 1000 --window 1w",
        "clocks",
        "--every step",
        "curl",
        "/api/v1/monitor",
        "What is watched",
        "--expect \"Mon 11:00 Europe/Paris\"",
        "--format terraform",
    ] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
}

// Each rule on what breaks it.

#[test]
fn a_monitor_that_breaks_a_rule_is_seen() {
    let (good, _) = printed(MONITORS[0].1);
    let broken = |pointer: &str, value: Value| {
        let mut monitor = good.clone();
        *monitor.pointer_mut(pointer).unwrap() = value;
        check_monitor(&monitor, &emitted()).join("; ")
    };
    let query = |from: &str, to: &str| {
        let text = good["query"].as_str().unwrap();
        assert!(text.contains(from));
        broken("/query", text.replace(from, to).into())
    };
    assert!(broken("/options/thresholds/critical", json!(999)).contains("threshold"));
    assert!(query("< 1000", "< 1001").contains("threshold"));
    assert!(query("braze.messaging", "braze.message").contains("nobody emits"));
    assert!(query("campaign_name", "campaign").contains("no tag campaign"));
    assert!(query("weekly_newsletter", "Weekly").contains("does not store"));
    assert!(query(":sum:", ":avg:").contains("avg:"));
    assert!(query("sum(last", "avg(last").contains("summed up over time"));
    assert!(query(".as_count()", "").contains("as_count()"));
    assert!(query("last_1w", "last_2w").contains("window"));
    assert!(query("last_1w", "last_169h").contains("window"));
    assert!(query("}.as_count", "} by {campaign_name}.as_count").contains("without campaign_id"));
    assert!(
        query("}.as_count", "} by {campaign_id,campaign_name}.as_count")
            .contains("is not seen without a name")
    );
    assert!(query("}.as_count", "} by {campaign_id}.as_count").contains("forgotten"));
    assert!(query("< 1000", "> 1000").contains("no data"));
    assert!(broken("/options/evaluation_delay", json!(0)).contains("still be on its way"));
    let (scheduled, _) = printed(MONITORS[1].1);
    let broken_schedule = |pointer: &str, value: Value| {
        let mut monitor = scheduled.clone();
        *monitor.pointer_mut(pointer).unwrap() = value;
        check_monitor(&monitor, &emitted()).join("; ")
    };
    let recurrences = "/options/scheduling_options/custom_schedule/recurrences";
    let part = |key: &str| format!("{recurrences}/0/{key}");
    assert!(broken_schedule(recurrences, json!([])).contains("one recurrence"));
    assert!(broken_schedule(&part("rrule"), json!("FREQ=HOURLY")).contains("daily, weekly"));
    assert!(broken_schedule(&part("rrule"), json!("FREQ=DAILY;DTSTART=1")).contains("does not take"));
    assert!(broken_schedule(&part("start"), json!("2026-01-06T11:30:00")).contains("one of its days"));
    assert!(broken_schedule(&part("timezone"), json!("CEST")).contains("tz database"));
    assert!(broken_schedule("/options/evaluation_delay", json!(0)).contains("has not arrived"));
    assert!(broken_schedule("/options/on_missing_data", Value::Null).contains("wants on_missing_data"));
    assert!(broken("/options/on_missing_data", json!("default")).contains("no data"));
    assert!(broken("/options/require_full_window", json!(true)).contains("full window"));
    assert!(broken("/message", json!("{{campaign_name.name}}")).contains("variables"));
    assert!(broken("/message", json!("{{#is_alert}} too few")).contains("variables"));
    let mut misspelt = good.clone();
    misspelt["options"]["require_full_windows"] = json!(false);
    assert!(!monitor_schema().is_valid(&misspelt));
    misspelt = good;
    misspelt["type"] = json!("metrics alert");
    assert!(!monitor_schema().is_valid(&misspelt));
    assert!(Alert::parse("sum(last_1w):sum:m{*} < 1").is_some());
}

#[test]
fn a_dashboard_that_breaks_a_rule_is_seen() {
    let text = shipped("dashboard.json");
    let mut known = emitted();
    known.extend(scraped(&shipped("openmetrics.yaml")));
    let broken = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let dashboard: Value = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
        check_dashboard(&dashboard, &known).join("; ")
    };
    assert!(broken("sum:braze.messaging.sent{", "avg:braze.messaging.sent{").contains("avg:"));
    assert!(broken("braze.messaging.sent{", "braze.messaging.send{").contains("nobody emits"));
    assert!(
        broken("braze_datadog.sends_dropped.count", "braze_datadog.sends_dropped_total")
            .contains("nobody emits")
    );
    assert!(broken("by {connection,reason}", "by {connection,cause}").contains("no tag cause"));
    assert!(broken("by {campaign_id,campaign_name}", "by {campaign_name}").contains("without campaign_id"));
    assert!(broken("$canvas_name", "$canvas").contains("no variable"));
    assert!(broken("\"formula\": \"sends\"", "\"formula\": \"sent\"").contains("no query sent"));
    assert!(broken("\"aggregator\": \"sum\"", "\"aggregator\": \"avg\"").contains("not summed up"));
    assert!(broken("\"width\": 12", "\"width\": 13").contains("12 columns"));
    assert!(broken("}.as_count()", "}").contains("as_count()"));
    let dashboard: Value =
        serde_json::from_str(&text.replacen("\"show_legend\"", "\"show_legends\"", 1)).unwrap();
    assert!(!dashboard_schema().is_valid(&dashboard));
}
