use super::*;
use braze_events::SEND_TYPES;
use proptest::prelude::*;

/// The least configuration there is.
pub(super) const LEAST: &str = "[connections.acme]\ndry_run = true\n";

/// A key that must be found nowhere.
pub(super) const PLANTED: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn parse_with(text: &str, env: &[(&str, &str)]) -> Result<(Config, Vec<String>), Vec<String>> {
    let env: Vec<_> = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let lines = |diagnostics: &[Diagnostic]| diagnostics.iter().map(ToString::to_string).collect();
    Config::parse(text, Path::new("/nowhere/a.toml"), &env)
        .and_then(|(config, warnings)| Ok((config.require_all()?, warnings)))
        .map(|(config, warnings)| (config, lines(&warnings)))
        .map_err(|error| lines(&error.diagnostics))
}

pub(super) fn parse(text: &str) -> Config {
    parse_with(text, &[]).unwrap().0
}

pub(super) fn errors(text: &str) -> Vec<String> {
    parse_with(text, &[]).err().unwrap_or_default()
}

pub(super) fn warnings(text: &str) -> Vec<String> {
    parse_with(text, &[]).unwrap().1
}

/// Expects exactly one diagnostic, with each of these parts in it.
pub(super) fn assert_one(diagnostics: &[String], parts: &[&str]) {
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?} (expected {parts:?})");
    for part in parts {
        assert!(diagnostics[0].contains(part), "{part:?} is not in {diagnostics:?}");
    }
}

#[test]
fn the_least_configuration_has_the_contracts_defaults() {
    let (config, warnings) = parse_with(LEAST, &[]).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.queue.kind, QueueKind::Embedded);
    assert_eq!(config.queue.embedded.directory, Path::new("/var/lib/braze-datadog/queue"));
    assert_eq!(config.queue.embedded.size_max, 4 << 30);
    assert_eq!(config.push, None);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.events_count.len(), SEND_TYPES.len() - 1);
    assert_eq!(&*config.events_count[0], "users.messages.email.Send");
    assert_eq!(config.dedup, dedup::DedupSettings { window: Duration::from_mins(10), max_ids: 4_000_000 });
    assert_eq!(config.aggregate.timestamp, aggregate::Timestamp::Event);
    assert_eq!(config.aggregate.late, aggregate::Late::Drop);
    assert_eq!(config.aggregate.flush_interval, Duration::from_secs(10));
    assert_eq!(config.aggregate.flush_timeout, Duration::from_secs(5));
    assert_eq!(config.aggregate.series_max, 100_000);
    assert_eq!((config.tags.include.len(), config.tags.static_tags.len()), (8, 0));
    assert_eq!(config.tags.names, aggregate::tags::Names::Latest);
    assert_eq!(&*config.connections.active[0].metric, "braze.messaging.sent");
    assert_eq!(config.log, Log { level: tracing::Level::INFO, format: LogFormat::Auto });
    assert_eq!(config.shutdown_timeout, Duration::from_secs(20));
    assert_eq!(config.lanes, std::thread::available_parallelism().unwrap());
    assert!(config.validate_keys);
    assert_eq!(config.connections_directory, None);
    assert_eq!(&*config.queue.kafka.brokers[0], "localhost:9092");
}

#[test]
fn an_empty_push_section_switches_push_on() {
    let push = parse(&format!("[push]\n{LEAST}")).push.unwrap();
    assert_eq!((push.listen.to_string(), push.body_bytes_max), ("127.0.0.1:8080".into(), 16 << 20));
    assert_eq!((push.token_file, push.tls), (None, None));
}

#[test]
fn the_environment_wins_over_the_file_over_the_defaults() {
    let text = format!("lanes = 2\n[flush]\ninterval = \"20s\"\ntimeout = \"1s\"\n{LEAST}");
    let env = [
        ("BRAZE_DATADOG__FLUSH__INTERVAL", "30s"),
        ("BRAZE_DATADOG__PUSH__LISTEN", "127.0.0.1:9"),
        ("BRAZE_DATADOG__TAGS__STATIC", "env:prod, team:crm"),
        ("BRAZE_DATADOG__CONNECTIONS__ACME__METRIC", "x.y"),
        ("BRAZE_DATADOG__CONNECTIONS__OTHER__DRY_RUN", "true"),
        ("BRAZE_DATADOG__CONNECTIONS__OTHER__APP_GROUP_IDS", "A-1,b.2"),
    ];
    let (config, _) = parse_with(&text, &env).unwrap();
    assert_eq!(config.aggregate.flush_interval, Duration::from_secs(30));
    assert_eq!(config.aggregate.flush_timeout, Duration::from_secs(1));
    assert_eq!(config.lanes.get(), 2);
    assert_eq!(config.push.unwrap().listen.port(), 9);
    assert_eq!(config.tags.static_tags, ["env:prod".into(), "team:crm".into()]);
    assert_eq!(&*config.connections.active[0].metric, "x.y");
    assert!(config.connections.active[0].dry_run, "the file's keys of a connection stay");
    assert_eq!(config.connections.active[1].app_group_ids, ["A-1".into(), "b.2".into()]);
}

#[test]
fn a_bad_value_from_the_environment_is_reported_with_its_variable() {
    let env = [("BRAZE_DATADOG__FLUSH__INTERVAL", "soon")];
    let errors = parse_with(LEAST, &env).unwrap_err();
    assert_one(
        &errors,
        &["environment variable BRAZE_DATADOG__FLUSH__INTERVAL", "flush.interval", "\"soon\"", "\"10s\""],
    );
}

#[test]
fn ids_in_keys_keep_their_case_and_dots() {
    let text = format!("{LEAST}[connections.acme.app_group_names]\n\"Ab.C[0]-d\" = \"x\"\nUPPER = \"y\"");
    let names = &parse(&text).connections.active[0].app_group_names;
    assert_eq!(names.get("Ab.C[0]-d").map(|name| &**name), Some("x"));
    assert_eq!(names.get("UPPER").map(|name| &**name), Some("y"));
    assert_eq!(names.len(), 2);
}

#[test]
fn every_diagnostic_names_file_key_reason_and_what_to_do() {
    for (text, parts) in [
        (
            "[flush]\nintervall = \"1s\"",
            &["/nowhere/a.toml: flush.intervall: unknown key", "\"interval\"?"][..],
        ),
        ("[flsh]\n", &["flsh: unknown key", "\"flush\"?"]),
        ("[log]\nshutdown_timeout = \"1s\"", &["log.shutdown_timeout", "top of the file"]),
        ("[queue]\nlisten = \"x\"", &["queue.listen", "into [admin] or into [push]"]),
        ("[dedup]\nzzz = 1", &["dedup.zzz", "max_ids, window"]),
        ("\"lanes[99999999999]\" = 1", &["unknown key", "\"lanes[99999999999]\""]),
        ("\"queue.kind\" = \"kafka\"", &["\"queue.kind\": unknown key"]),
        ("lanes = \"2\"", &["lanes: is a string", "a whole number"]),
        ("lanes = -1", &["lanes: is a negative number"]),
        ("lanes = 1.5", &["with a fraction"]),
        ("lanes = 257", &["257 is out of range", "from 0 to 256"]),
        ("log = 3", &["log: is a number", "a section: [log]"]),
        ("shutdown_timeout = 20", &["a duration in quotation marks, like \"20s\""]),
        ("shutdown_timeout = \"20\"", &["\"20\" is a duration without a unit", "\"20s\""]),
        ("shutdown_timeout = \"11m\"", &["from 0s to 10m"]),
        ("[flush]\ninterval = \"500ms\"", &["flush.interval", "from 1s to 10m"]),
        ("[flush]\ninterval = \"1s500ms\"", &["flush.interval", "whole seconds"]),
        ("[flush]\ninterval = \"10m1s\"", &["flush.interval", "from 1s to 10m"]),
        ("[flush]\ntimeout = \"99ms\"", &["flush.timeout", "from 100ms to 1m"]),
        ("[flush]\ntimeout = \"61s\"", &["flush.timeout", "from 100ms to 1m"]),
        ("[flush]\nmax_series = 0", &["flush.max_series", "from 1 to"]),
        ("[flush]\nmax_series_total = 1", &["flush.max_series_total", "1 is less than flush.max_series"]),
        ("[flush]\nmax_series_total = 1_000_000_001", &["flush.max_series_total", "from 0 to"]),
        ("[flush]\nmax_connection_age = \"999ms\"", &["flush.max_connection_age", "from 1s to 24h"]),
        ("[dedup]\nmax_ids = 0", &["dedup.max_ids", "from 1 to"]),
        ("[dedup]\nwindow = \"25h\"", &["dedup.window", "from 0s to 24h"]),
        ("[events]\ncount = []", &["events.count", "nothing would be counted"]),
        ("[events]\ncount = [\"\"]", &["events.count", "empty entry"]),
        ("[events]\ncount = [1]", &["events.count", "a list of strings"]),
        ("[events]\ncount = \"a\"", &["events.count: is a string", "a list of strings"]),
        ("[events]\ntimestamp = \"evnt\"", &["events.timestamp", "\"event\"?", "event, arrival"]),
        ("[events]\nlate = \"keep\"", &["events.late", "drop, restamp"]),
        ("[tags]\ninclude = [\"campain_id\"]", &["tags.include", "\"campaign_id\"?", "channel"]),
        ("[tags]\nnames = \"newest\"", &["tags.names", "latest, as_sent"]),
        (
            "[history]\nmax_size = \"3MiB\"",
            &["history.max_size", "\"3MiB\" is out of range", "at least 4MiB"],
        ),
        ("[history]\nmax_size = 4_194_303", &["history.max_size", "at least 4MiB"]),
        ("[log]\nlevel = \"inf\"", &["log.level", "\"info\"?"]),
        ("[log]\nformat = \"xml\"", &["log.format", "auto, text, json"]),
    ] {
        assert_one(&errors(&format!("{text}\n{LEAST}")), parts);
    }
}

#[test]
fn a_diagnostic_about_where_events_come_from_says_what_to_do() {
    for (text, parts) in [
        ("[queue]\nkind = \"kafak\"", &["queue.kind", "\"kafka\"?"][..]),
        ("[queue.embedded]\nmax_size = \"4G\"", &["queue.embedded.max_size", "GiB"]),
        ("[queue.embedded]\nmax_size = 0", &["queue.embedded.max_size", "is 0"]),
        ("[queue.embedded]\ndirectory = \"\"", &["queue.embedded.directory", "is empty"]),
        ("[queue.embedded]\ndirectory = \"~/q\"", &["queue.embedded.directory", "only shells know"]),
        ("[admin]\nlisten = \":8081\"", &["admin.listen", "127.0.0.1:8080 for this machine"]),
        ("[admin]\nlisten = \"127.0.0.1:70000\"", &["admin.listen"]),
        ("[admin]\nhosts = [\"http://x.example\"]", &["admin.hosts", "without scheme, port or path"]),
        ("[admin]\nhosts = [\"x.example:80\"]", &["admin.hosts", "without scheme, port or path"]),
        ("[admin]\nhosts = [\"\"]", &["admin.hosts", "is not a name"]),
        ("[push]\nmax_body = \"2GiB\"", &["push.max_body", "at most 1GiB"]),
        ("[history]\nmax_size = \"3MiB\"", &["history.max_size", "at least 4MiB"]),
        (
            "[push]\nlisten = \"0.0.0.0:8080\"",
            &["push.listen", "0.0.0.0:8080", "push.token_file", "127.0.0.1"],
        ),
        (
            "[push]\nlisten = \"127.0.0.1:8081\"",
            &["push.listen", "admin.listen (127.0.0.1:8081)", "another port"],
        ),
        ("[push]\ntoken_file = \"./t\"", &["push.token_file: /nowhere/./t does not exist"]),
        ("[push]\ntls_certificate = \"c\"", &["push.tls_key", "is missing"]),
        ("[push]\ntls_key = \"k\"", &["push.tls_certificate", "is missing"]),
        (
            "[push]\n[queue]\nkind = \"kafka\"",
            &["push: can't be used with queue.kind = \"kafka\"", "leave [push] out"],
        ),
        ("[queue.kafka]\nbrokers = []", &["queue.kafka.brokers", "at least one"]),
        ("[queue.kafka]\nbrokers = [\"http://x\"]", &["queue.kafka.brokers", "host:port"]),
        ("[queue.kafka]\ntopics = [\"a b\"]", &["queue.kafka.topics", "begins with ^"]),
        ("[queue.kafka]\ngroup_id = \"\"", &["queue.kafka.group_id", "is empty"]),
        ("[queue.kafka]\nschema_registry = \"x\"", &["queue.kafka.schema_registry", "https://"]),
        (
            "[queue.kafka.options]\n\"enable.auto.commit\" = true",
            &["queue.kafka.options.\"enable.auto.commit\"", "leave it out"],
        ),
        ("connections_directory = \"d\"", &["connections_directory: /nowhere/d does not exist"]),
    ] {
        assert_one(&errors(&format!("{text}\n{LEAST}")), parts);
    }
}

#[test]
fn tags_that_datadog_would_change_are_refused() {
    let long = "x".repeat(201);
    for tag in ["1:a", ":a", "env:", "a:b,c:d", "", " a:b", "a:b\\n", &long] {
        let text = format!("[tags]\nstatic = [\"{tag}\"]\n{LEAST}");
        assert_one(&errors(&text), &["tags.static"]);
    }
    let config = parse(&format!("[tags]\nstatic = [\"env:prod\", \"plain\", \"région:île\"]\n{LEAST}"));
    assert_eq!(config.tags.static_tags.len(), 3);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "lanes = \"2\"\nnope = 1\n[flush]\ninterval = \"x\"\n[connections.A]\nsite = \"EU9\"";
    let diagnostics = errors(text);
    for key in ["lanes", "nope", "flush.interval", "connections.A", "connections.A.site"] {
        assert!(
            diagnostics.iter().any(|diagnostic| diagnostic.contains(&format!(": {key}: "))),
            "{key}: {diagnostics:?}"
        );
    }
    assert!(diagnostics.iter().any(|diagnostic| diagnostic.contains("has no API key")), "{diagnostics:?}");
}

#[test]
fn a_syntax_error_shows_line_and_column_and_not_the_line() {
    let text = format!("lanes = 1\n[connections.acme]\napi_key = \"{PLANTED}\n");
    let errors = errors(&text);
    assert!(errors[0].starts_with("/nowhere/a.toml: is not valid TOML at line 3, column "), "{errors:?}");
    assert!(!errors.concat().contains(PLANTED), "{errors:?}");
}

#[test]
fn what_is_accepted_and_odd_is_a_warning() {
    for (text, parts) in [
        ("[events]\ncount = [\"users.messages.mms.Send\"]", &["events.count", "not an event type"][..]),
        ("[events]\ncount = [\"users.messages.sms.Retry\"]", &["events.count", "is not a send"]),
        ("[events]\ncount = [\"users.messages.sms.CarrierSend\"]", &["counted twice"]),
        ("[tags]\ninclude = [\"channel\", \"channel\"]", &["tags.include", "more than once"]),
        ("[push]\nmax_body = \"1KB\"", &["push.max_body", "900KB"]),
        ("[push]\n[queue.embedded]\nmax_size = \"1MiB\"", &["push.max_body", "max_size (1MiB)"]),
        ("[admin]\nlisten = \"127.0.0.1:0\"", &["admin.listen", "port 0"]),
    ] {
        assert_one(&warnings(&format!("{text}\n{LEAST}")), parts);
    }
    assert_eq!(
        parse(&format!("[tags]\ninclude = [\"channel\", \"channel\"]\n{LEAST}")).tags.include.len(),
        1
    );
}

#[test]
fn an_address_for_all_interfaces_takes_the_port_of_every_one() {
    let text = format!("[admin]\nlisten = \"[::]:8080\"\n[push]\n{LEAST}");
    assert_one(&errors(&text), &["push.listen", "admin.listen ([::]:8080)"]);
    assert_eq!(
        errors(&format!("[admin]\nlisten = \"localhost:1\"\n[push]\nlisten=\"[::1]:1\"\n{LEAST}")).len(),
        0
    );
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let text = format!("[queue.embedded]\ndirectory = \"q\"\n{LEAST}");
    assert_eq!(parse(&text).queue.embedded.directory, Path::new("/nowhere/q"));
}

#[test]
fn the_path_is_given_or_in_the_environment_or_the_default() {
    let (given, variable) = (Some(PathBuf::from("a")), Some(OsString::from("b")));
    assert_eq!(Config::path(given, variable.clone()), Path::new("a"));
    assert_eq!(Config::path(None, variable), Path::new("b"));
    assert_eq!(Config::path(None, Some(OsString::new())), Path::new(DEFAULT_PATH));
    assert_eq!(Config::path(None, None), Path::new(DEFAULT_PATH));
}

#[test]
fn values_of_kafka_options_are_kept_and_not_shown() {
    let text = format!(
        "[queue.kafka]\nschema_registry = \"https://u:hidden@r\"\n[queue.kafka.options]\n\"sasl.password\" = \
         \"hidden\"\n\"socket.timeout.ms\" = 60000\n{LEAST}"
    );
    let config = parse(&text);
    assert_eq!(config.queue.kafka.options["sasl.password"].expose(), "hidden");
    assert_eq!(config.queue.kafka.options["socket.timeout.ms"].expose(), "60000");
    assert!(!format!("{config:?}{}", describe(&config)).contains("hidden"));
}

/// Every key of the schema, each changed by itself: those that a reload takes over, and those it does not.
#[test]
fn a_change_that_needs_a_restart_is_named() {
    let old = parse(&format!("[push]\n{LEAST}"));
    assert_eq!(changes_needing_restart(&old, &old), Vec::<String>::new());
    for (key, value) in [
        ("queue.kind", "\"kafka\""),
        ("queue.embedded.directory", "\"/x\""),
        ("queue.embedded.max_size", "\"1GiB\""),
        ("queue.kafka.brokers", "[\"x\"]"),
        ("queue.kafka.topics", "[\"x\"]"),
        ("queue.kafka.group_id", "\"x\""),
        ("queue.kafka.schema_registry", "\"http://x\""),
        ("queue.kafka.schema_registry_ids", "\"global\""),
        ("queue.kafka.oauth_token_file", concat!("\"", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml\"")),
        ("queue.kafka.schema_registry_auth_file", concat!("\"", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml\"")),
        ("queue.kafka.options.x", "\"y\""),
        ("push.listen", "\"127.0.0.1:1\""),
        ("push.max_body", "\"2MiB\""),
        ("admin.listen", "\"127.0.0.1:1\""),
        ("admin.hosts", "[\"x\"]"),
        ("events.count", "[\"users.messages.sms.Send\"]"),
        ("events.timestamp", "\"arrival\""),
        ("events.late", "\"restamp\""),
        ("dedup.window", "\"1m\""),
        ("dedup.max_ids", "1"),
        ("flush.interval", "\"1s\""),
        ("flush.timeout", "\"1s\""),
        ("flush.max_series", "1"),
        ("flush.max_series_total", "77_000_000"),
        ("flush.max_connection_age", "\"1m\""),
        ("log.format", "\"json\""),
        ("shutdown_timeout", "\"1s\""),
        ("lanes", "77"),
    ] {
        let push = if key == "queue.kind" || key.starts_with("push.") { "" } else { "[push]\n" };
        let new = parse(&format!("{key} = {value}\n{push}{LEAST}"));
        let mut expected = vec![key.trim_end_matches(".x").to_owned()];
        if key == "queue.kind" {
            expected.push("push".into());
        }
        assert_eq!(changes_needing_restart(&old, &new), expected);
    }
    for text in [
        "[tags]\ninclude = []\nstatic = [\"a:b\"]\nnames = \"as_sent\"\n",
        "[log]\nlevel = \"debug\"\n",
        "[connections.more]\ndry_run = true\napp_group_ids = [\"x\"]\n",
    ] {
        let new = parse(&format!("[push]\n{text}{LEAST}metric = \"other\"\n"));
        assert_eq!(changes_needing_restart(&old, &new), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_description_says_what_goes_where() {
    let text = "[push]\n[connections.a]\nsite = \"eu1\"\napi_key = \"0123456789abcdef0123456789abcdef\"\n\
                app_group_ids = [\"g1\", \"g2\"]\n[connections.b]\nurl = \"http://127.0.0.1:9/x/\"\ndry_run = true\n";
    let text = describe(&parse(text));
    for part in [
        "connection    a",
        "EU1 (https://api.datadoghq.eu)",
        "g1, g2",
        "braze.messaging.sent",
        "127.0.0.1:9 (http://127.0.0.1:9/x)",
        "every app group that no other connection names",
        "embedded, in /var/lib/braze-datadog/queue, at most 4GiB",
        "http://127.0.0.1:8080/v1/events, no token is asked",
        "http://127.0.0.1:8081",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains(PLANTED));
    let named = describe(&parse(&format!("{LEAST}app_group_ids = [\"x\"]")));
    assert!(named.contains("dropped as unrouted"), "{named}");
    assert!(named.contains("push          off"), "{named}");
}

/// A configuration that is right and has a key in it, for the properties below.
fn planted() -> String {
    format!(
        "lanes = 1\n[flush]\ninterval = \"10s\"\n[connections.acme]\nsite = \"EU1\"\napi_key = \"{PLANTED}\"\n\
         app_group_ids = [\"a\"]\n[connections.acme.app_group_names]\na = \"b\"\n"
    )
}

/// Everything that an attempt to read a configuration shows.
fn everything_shown(text: &str, env: &[(String, String)]) -> String {
    match Config::parse(text, Path::new("/nowhere/a.toml"), env) {
        Ok((config, warnings)) => {
            let settings = serde_json::to_string(&config.settings).unwrap();
            let shown = redacted(&config, &config);
            format!("{config:?}{config:#?}{warnings:?}{}{shown:?}{settings}", describe(&config))
        }
        Err(error) => format!("{error}{error:?}"),
    }
}

#[test]
fn a_key_in_a_wrong_place_is_not_shown() {
    let places = [
        "site",
        "url",
        "api_key_file",
        "api_key_env",
        "api_key",
        "metric",
        "dry_run",
        "allow_plain_http",
        "app_group_ids",
        "nonsense",
    ];
    for place in places {
        for value in
            [format!("\"{PLANTED}\""), format!("[\"{PLANTED}\"]"), format!("{{ x = \"{PLANTED}\" }}")]
        {
            if place == "app_group_ids" && value.starts_with('[') {
                continue;
            }
            let shown = everything_shown(&format!("[connections.acme]\n{place} = {value}\n"), &[]);
            assert!(!shown.contains(PLANTED), "{place} = {value}: {shown}");
        }
    }
    for variable in ["API_KEY", "SITE", "DRY_RUN", "NONSENSE", PLANTED] {
        let env = [(format!("BRAZE_DATADOG__CONNECTIONS__ACME__{variable}"), PLANTED.to_owned())];
        let shown = everything_shown(LEAST, &env);
        assert!(!shown.contains(PLANTED), "{variable}: {shown}");
    }
}

/// Every key of the schema, with a key of Datadog in it: no message repeats it.
#[test]
fn no_message_repeats_a_key_whatever_it_was_written_under() {
    fn visit(schema: &serde_json::Value, key: &str, keys: &mut Vec<String>) {
        let is_section = schema::is_one(schema, "object");
        for name in schema::names(schema) {
            let below = schema::below(schema, name).unwrap();
            visit(below, &schema::join(key, if name == "NAME" { "acme" } else { name }), keys);
        }
        if !is_section {
            keys.push(key.to_owned());
        }
    }
    let mut keys = Vec::new();
    visit(&Config::schema(), "", &mut keys);
    assert!(keys.len() >= 40, "{keys:?}");
    for key in keys {
        for text in [format!("{key} = \"{PLANTED}\""), format!("{key} = [\"{PLANTED}\", \"{PLANTED}\"]")] {
            let shown = match parse_with(&text, &[]) {
                Ok((_, warnings)) => warnings.concat(),
                Err(errors) => errors.concat(),
            };
            assert!(!shown.contains(PLANTED), "{text}: {shown}");
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for text in
        ["a = ".to_owned() + &"[".repeat(100_000), "a.".repeat(100_000) + "a = 1", "[".repeat(100_000)]
    {
        assert!(!errors(&text).is_empty());
    }
}

proptest! {
    /// Any text and any environment is read or refused; nothing panics.
    #[test]
    fn any_text_is_read_or_refused(
        text in "\\PC{0,200}|([a-z_]{1,9}(\\.[a-z]{1,5})? = (\"[0-9a-z]{0,5}\"|[0-9]{1,22}|\\[\\]|true)\n|\\[[a-z.]{1,12}\\]\n){0,9}",
        name in "[A-Za-z_.*]{0,20}",
        value in "\\PC{0,10}",
    ) {
        let _ = everything_shown(&text, &[(format!("BRAZE_DATADOG__{name}"), value)]);
    }

    /// Whatever slip happens to a file, the key in it is shown nowhere.
    #[test]
    fn no_slip_shows_a_key(at in 0_usize..1000, with in "[\\PC\n]{0,2}", cut in 0_usize..3) {
        let mut letters: Vec<char> = planted().chars().collect();
        let at = at % letters.len();
        letters.splice(at..(at + cut).min(letters.len()), with.chars());
        let text: String = letters.into_iter().collect();
        let shown = everything_shown(&text, &[]);
        prop_assert!(!shown.contains(PLANTED), "{}\n{}", text, shown);
    }
}

#[test]
fn a_file_of_tokens_may_be_longer_than_one_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let text = format!("[push]\ntoken_file = \"{}\"\n{LEAST}", path.display());
    for (tokens, is_taken) in [(2_000, true), (30_000, false)] {
        let line = |number: u32| format!("token-{number:020} 01234567-89ab-cdef-{number:016}\n");
        std::fs::write(&path, (0..tokens).map(line).collect::<String>()).unwrap();
        let errors = errors(&text);
        assert_eq!(errors.is_empty(), is_taken, "{errors:?}");
        assert!(is_taken || errors[0].contains("probably another file"), "{errors:?}");
    }
}
