use super::super::Config;
use super::super::tests::{LEAST, PLANTED, assert_one};
use super::*;
use crate::reconcile::RefusedWorkspace;
use std::fs;

/// A connection that is right.
const OTHER: &str = "[connections.other]\ndry_run = true\napp_group_ids = [\"other\"]\n";

fn directory(files: &[(&str, &str)], text: &str) -> Result<(Config, Vec<String>), String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("d").join(name), text).unwrap();
    }
    let text = format!("connections_directory = \"d\"\n{text}");
    let env = [("BRAZE_DATADOG__CONNECTIONS__B__METRIC".to_owned(), "from.env".to_owned())];
    let env = if files.iter().any(|(name, _)| *name == "b.toml") { &env[..] } else { &[] };
    Config::parse(&text, &folder.path().join("a.toml"), env)
        .map(|(config, warnings)| (config, warnings.iter().map(ToString::to_string).collect()))
        .map_err(|error| error.to_string())
}

#[test]
fn the_workspace_of_a_file_that_can_not_be_read_is_taken_for_no_other() {
    let all = "[reconcile]\nbraze_url = \"https://rest.fra-01.braze.eu\"\n";
    for (top, refused) in [("", 0), (all, 1)] {
        let files = [("acme.toml", "= broken"), (&*format!("{}.toml", "0123456789abcdef".repeat(2)), "=")];
        let (config, _) = directory(&files, &format!("{top}{OTHER}")).unwrap();
        assert_eq!(
            (&*config.reconcile.connections_apart, config.reconcile.refused.len()),
            (&["acme".into()][..], refused)
        );
        let is_of_acme = |one: &RefusedWorkspace| one.connection.as_deref() == Some("acme");
        assert!(config.reconcile.refused.iter().all(is_of_acme), "{:?}", config.reconcile);
    }
}

#[test]
fn each_file_of_the_directory_is_a_connection() {
    let files = [
        ("b.toml", "dry_run = true\napp_group_ids = [\"b\"]\nmetric = \"from.file\""),
        ("a.toml", "dry_run = true\n[app_group_names]\n\"A.b\" = \"x\""),
        (".a.toml.swp", "nonsense"),
        ("README", "nonsense"),
    ];
    let (config, warnings) =
        directory(&files, "[connections.main]\ndry_run = true\napp_group_ids = [\"m\"]").unwrap();
    let names: Vec<_> = config.connections.active.iter().map(|connection| &*connection.name).collect();
    assert_eq!(names, ["a", "b", "main"]);
    assert_eq!(&*config.connections.active[1].metric, "from.env");
    assert_eq!(config.connections.active[0].app_group_names.len(), 1);
    assert_one(&warnings, &["connections_directory", "README is ignored"]);
    assert!(config.connections_directory.unwrap().ends_with(Path::new("d")));
}

#[test]
fn the_environment_can_name_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.toml"), "dry_run = true\napp_group_ids = [\"x\"]").unwrap();
    let env = [("BRAZE_DATADOG__CONNECTIONS_DIRECTORY".to_owned(), folder.path().display().to_string())];
    let text = format!("connections_directory = \"/nowhere/d\"\n{LEAST}");
    let (config, _) = Config::parse(&text, Path::new("/nowhere/a.toml"), &env).unwrap();
    assert_eq!(config.connections.active.len(), 2);
    assert_eq!(config.connections_directory.as_deref(), Some(folder.path()));
}

#[test]
fn what_is_wrong_with_the_directory_is_told_of_the_variable_that_names_it() {
    const VARIABLE: &str = "environment variable BRAZE_DATADOG__Connections_directory";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("README"), "").unwrap();
    let with = |path: &str| {
        let env = [("BRAZE_DATADOG__Connections_directory".to_owned(), path.to_owned())];
        let text = format!("connections_directory = \"/nowhere/d\"\n{LEAST}");
        Config::parse(&text, Path::new("/nowhere/a.toml"), &env)
    };
    for (path, part) in [("/nowhere/e", "/nowhere/e does not exist"), (PLANTED, "looks like an API key")] {
        let error = with(path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{VARIABLE}: connections_directory: ")), "{error}");
        assert!(error.contains(part) && error.lines().count() == 1, "{error}");
    }
    let (_, warnings) = with(&folder.path().display().to_string()).unwrap();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning.origin, VARIABLE);
    assert!(warning.reason.contains("README is ignored"), "{warning}");
}

#[test]
fn an_empty_variable_takes_the_directory_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.toml"), "dry_run = true\napp_group_ids = [\"x\"]").unwrap();
    let env = [("BRAZE_DATADOG__CONNECTIONS_DIRECTORY".to_owned(), String::new())];
    let text = format!("connections_directory = \"{}\"\n{LEAST}", folder.path().display());
    let (config, _) = Config::parse(&text, Path::new("/nowhere/a.toml"), &env).unwrap();
    assert_eq!((config.connections.active.len(), config.connections_directory), (1, None));
}

#[test]
fn connections_whose_names_could_be_secrets_are_several() {
    let names = ["northamericamarketing2", "southamericamarketing2"];
    let file =
        |name: &str| format!("site = \"US1\"\napp_group_ids = [\"{name}\"]\napi_key_file = \"{name}.key\"\n");
    let (first, second) = (file(names[0]), file(names[1]) + "siet = 1\n");
    let [a, b] = names.map(|name| format!("{name}.toml"));
    let keys = names.map(|name| format!("{name}.key"));
    let key = "0123456789abcdef0123456789abcdef";
    let files = [(&*a, &*first), (&*b, &*second), (&*keys[0], key), (&*keys[1], key)];
    let (config, _) = directory(&files, OTHER).unwrap();
    let active: Vec<_> = config.connections.active.iter().map(|one| &*one.name).collect();
    assert_eq!((active, &*config.connections.refused[0].name), (vec![names[0], "other"], names[1]));
    for name in names {
        assert!(config.key_file(name).unwrap().ends_with(format!("{name}.key")), "{name}");
    }
    // Names that are none and are not shown leave out those alone, too.
    let hidden = ["0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdee"];
    let [a, b] = hidden.map(|name| format!("{name}.toml"));
    let (config, _) = directory(&[(&*a, "dry_run = true"), (&*b, "dry_run = true")], OTHER).unwrap();
    assert_eq!((config.connections.active.len(), config.connections.refused.len()), (1, 1));
}

#[test]
fn a_connection_that_can_not_be_read_is_left_out_though_the_forwarders_metrics_go_to_it() {
    let own = format!("[forwarder_metrics]\nconnection = \"x\"\n{OTHER}");
    let (config, _) = directory(&[("x.toml", "dry_run = ")], &own).unwrap();
    assert_eq!((config.connections.active.len(), config.connections.refused.len()), (1, 1));
    assert!(directory(&[], &own).unwrap_err().contains("forwarder_metrics.connection"));
}

#[test]
fn the_files_of_the_directory_are_checked_like_sections() {
    for (name, text, parts) in [
        ("acme.toml", "dry_run = true", &["d/acme.toml: connections.acme: is in ", "a.toml too"][..]),
        ("x.toml", "dry_run = true\nsiet = \"EU1\"", &["d/x.toml: connections.x.siet", "\"site\"?"]),
        ("x.toml", "dry_run = ", &["d/x.toml: connections.x: is not valid TOML at line 1"]),
        ("x.toml", "[connections.x]\ndry_run = true", &["d/x.toml: connections.x.connections", "without"]),
        ("X.toml", "dry_run = true\napp_group_ids=[\"x\"]", &["d/X.toml: connections.X", "lower-case"]),
        ("x.toml", "site = \"EU1\"\napp_group_ids=[\"x\"]", &["d/x.toml: connections.x: has no API key"]),
        ("x.toml", "dry_run = true", &["d/x.toml: connections.x.app_group_ids", "\"acme\"", "\"x\""]),
    ] {
        let (config, _) = directory(&[(name, text)], &format!("{LEAST}{OTHER}")).unwrap();
        assert_eq!(config.connections.refused.len(), 1, "{:?}", config.connections.refused);
        let error = config.require_all().unwrap_err().to_string();
        let found = error.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} are not in {error}");
    }
    assert!(directory(&[], "").unwrap_err().contains("connections: there is none"));
}

#[test]
fn a_file_that_is_no_toml_is_one_fault() {
    let error = directory(&[("x.toml", "dry_run = ")], "").unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// The names of the connections in force, and what is said of the one that is left out.
fn left_out(files: &[(&str, &str)], text: &str) -> (Vec<String>, Vec<String>) {
    let (config, _) = directory(files, text).unwrap();
    for one in &config.connections.active {
        let is_whole = !one.site.base_url.is_empty() && !one.api_key.expose().is_empty();
        assert!(one.dry_run || is_whole, "{files:?}: {} can send nothing", one.name);
    }
    let reasons = config.connections.refused.iter().flat_map(|one| one.reason.lines().map(str::to_owned));
    (config.connections.active.iter().map(|one| one.name.to_string()).collect(), reasons.collect())
}

#[test]
fn a_key_that_slipped_below_a_section_of_its_connection_leaves_the_connection_out() {
    const IDS: &str = "app_group_ids = [\"x\"]\n";
    const KEY: &str = "api_key = \"0123456789abcdef0123456789abcdef\"\n";
    const URL: &str = "url = \"http://127.0.0.1:9\"\n";
    for (above, slipped, key) in [
        ("dry_run = true\n".to_owned(), IDS, "app_group_ids"),
        (format!("{URL}{KEY}{IDS}"), "dry_run = true\n", "dry_run"),
        (format!("{URL}{KEY}{IDS}"), "metric = \"acme.sent\"\n", "metric"),
        (format!("{KEY}{IDS}"), "site = \"EU1\"\n", "site"),
        (format!("{KEY}{IDS}"), URL, "url"),
        (format!("{URL}{IDS}"), KEY, "api_key"),
        (format!("{URL}{IDS}"), "api_key_file = \"./k\"\n", "api_key_file"),
        (format!("{URL}{KEY}{IDS}"), "app_group_names.x = \"X\"\n", "app_group_names"),
    ] {
        for section in ["reconcile", "app_group_names"] {
            let parts = [&format!("acme.{key}: stands in the section {section}"), "above"];
            let (active, reasons) =
                left_out(&[("acme.toml", &format!("{above}[{section}]\n{slipped}"))], OTHER);
            assert_eq!(active, ["other"], "{section}: {slipped}");
            assert_one(&reasons, &[&["d/acme.toml: connections."], &parts[..]].concat());
            let header = format!("[connections.acme.{section}]\n");
            let (active, reasons) =
                left_out(&[], &format!("[connections.acme]\n{above}{header}{slipped}{OTHER}"));
            assert_eq!(active, ["other"], "{section}: {slipped}");
            assert_one(&reasons, &[&["a.toml: connections."], &parts[..]].concat());
        }
    }
}

#[test]
fn a_key_in_a_wrong_section_hides_no_other_connections_fault() {
    let key = "api_key = \"0123456789abcdef0123456789abcdef\"\napp_group_ids = [\"x\"]\n";
    let url = "url = \"http://127.0.0.1:9\"\napp_group_ids = [\"x\"]\n";
    for (text, part, stray) in [
        (key, "has no site", "site = \"EU1\""),
        (key, "has no site", "url = \"http://127.0.0.1:9\""),
        (url, "has no API key", "api_key_file = \"./k\""),
    ] {
        let main = format!("{OTHER}[reconcile]\n{stray}\n");
        let (active, reasons) = left_out(&[("acme.toml", text)], &main);
        assert_eq!(active, ["other"], "{main}");
        assert_one(&reasons, &["d/acme.toml: connections.acme: ", part]);
        let second = format!("dry_run = true\napp_group_ids = [\"b\"]\n[reconcile]\n{stray}\n");
        let (active, reasons) = left_out(&[("acme.toml", text), ("b.toml", &second)], OTHER);
        assert_eq!((active, reasons.len()), (vec!["other".to_owned()], 2), "{reasons:?}");
    }
    for stray in ["[reconcile]\ntoken_file = \"./t\"\n", "[connections.b]\ntoken_file = \"./t\"\n"] {
        let error = directory(&[], &format!("{OTHER}[push]\nlisten = \"0.0.0.0:1\"\n{stray}")).unwrap_err();
        assert!(error.contains("push.listen"), "{error}");
    }
}

#[test]
fn a_relative_path_starts_from_the_folder_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/keys"), "0123456789abcdef0123456789abcdef").unwrap();
    fs::write(folder.path().join("key"), "fedcba9876543210fedcba9876543210").unwrap();
    let file = "site = \"EU1\"\napi_key_file = \"keys\"\napp_group_ids = [\"x\"]";
    fs::write(folder.path().join("d/x.toml"), file).unwrap();
    let main = "connections_directory = \"d\"\n[connections.main]\nsite = \"EU1\"\napi_key_file = \"key\"";
    let env = [
        ("BRAZE_DATADOG__CONNECTIONS__Y__API_KEY_FILE", "key"),
        ("BRAZE_DATADOG__CONNECTIONS__Y__SITE", "US1"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let main = main.replace("[connections.main]", "[connections.main]\napp_group_ids = [\"m\"]");
    let (config, _) = Config::parse(&main, &folder.path().join("a.toml"), &env).unwrap();
    let config = config.require_all().unwrap();
    let keys: Vec<_> = config.connections.active.iter().map(|one| &one.api_key.expose()[..2]).collect();
    assert_eq!(keys, ["fe", "01", "fe"], "main, x, y");
    let file = |name| config.key_file(name).unwrap().strip_prefix(folder.path()).unwrap();
    assert_eq!(["main", "x", "y"].map(file), ["key", "d/keys", "key"].map(Path::new));
}
