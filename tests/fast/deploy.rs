//! What `deploy/` and the workflows say, as far as it can be checked without an engine and without GitHub: Compose's own
//! schema, the configurations that are mounted, and what a release is made of.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::yaml;

/// The schema of the Compose Specification, as compose-go 2.16.2 has it (Apache License 2.0).
const COMPOSE_SCHEMA: &str = include_str!("../support/compose-spec.json");

/// Where every forwarder looks for its configuration.
const CONFIGURATION: &str = "/etc/braze-datadog/braze-datadog.toml";

/// The kinds of changes. Source: keepachangelog.com, 1.1.0.
const KINDS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Carries out YAML's merge keys (`<<: *name`), which a parser leaves as they stand.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut entries) => {
            let mut all = match entries.remove("<<") {
                Some(below) => merged(below).as_object().unwrap().clone(),
                None => Map::new(),
            };
            all.extend(entries.into_iter().map(|(key, value)| (key, merged(value))));
            all.into()
        }
        Value::Array(items) => items.into_iter().map(merged).collect(),
        other => other,
    }
}

fn compose() -> Value {
    merged(yaml::document(&read("deploy/compose.yaml")))
}

fn services(compose: &Value) -> Vec<(&str, &Value)> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (&**name, service)).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

fn is_forwarder(service: &Value) -> bool {
    service["image"] == "braze-datadog"
}

fn check(configuration: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braze-datadog"));
    command.args(["check", "--config"]).arg(configuration).envs(variables.iter().copied());
    command.output().unwrap()
}

fn assert_right(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn compose_is_valid_to_its_own_schema_and_a_misspelt_key_is_not() {
    let schema: Value = serde_json::from_str(COMPOSE_SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut compose = compose();
    let faults: Vec<String> = validator
        .iter_errors(&compose)
        .map(|fault| format!("{fault} at {}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    let grace =
        compose["services"]["forwarder"].as_object_mut().unwrap().remove("stop_grace_period").unwrap();
    compose["services"]["forwarder"]["stop_grace"] = grace;
    assert!(!validator.is_valid(&compose));
}

#[test]
fn compose_starts_the_dry_run_alone_and_two_of_a_group_with_kafka() {
    let compose = compose();
    let of_profile = |profile: Option<&str>| {
        let is_of = |service: &Value| strings(&service["profiles"]).first().copied() == profile;
        let found = services(&compose).into_iter().filter(|(_, service)| is_of(service));
        found.map(|(name, _)| name).collect::<BTreeSet<_>>()
    };
    assert_eq!(of_profile(None), BTreeSet::from(["forwarder"]));
    assert_eq!(of_profile(Some("kafka")), BTreeSet::from(["kafka", "topic", "forwarder-1", "forwarder-2"]));
    for (name, service) in services(&compose) {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is open to other machines: {port}");
        }
        if is_forwarder(service) {
            assert_eq!((&service["read_only"], &service["build"]["context"]), (&true.into(), &"..".into()));
            assert_eq!(service["restart"], "unless-stopped", "{name}: it is gone after the machine's start");
            assert_eq!(strings(&service["build"]["args"]), ["BRAZE_DATADOG_COMMIT", "SOURCE_DATE_EPOCH"]);
            assert_eq!(service["stop_grace_period"], "45s", "{name}: as the unit's TimeoutStopSec");
            assert!(
                strings(&service["volumes"]).iter().any(|volume| volume.ends_with(":/var/lib/braze-datadog"))
            );
        } else {
            let (_, tag) = service["image"].as_str().unwrap().split_once(':').unwrap();
            assert!(tag.split('.').count() == 3, "{name}: {tag} is not pinned");
        }
    }
}

/// Each with the files that are mounted beside it, as in its container.
#[test]
fn every_configuration_that_compose_mounts_is_right() {
    let mut seen = BTreeSet::new();
    let compose = compose();
    for (name, service) in services(&compose).into_iter().filter(|(_, service)| is_forwarder(service)) {
        let directory = TempDir::new().unwrap();
        for volume in strings(&service["volumes"]).iter().filter(|volume| volume.starts_with("./")) {
            let [from, to, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else {
                panic!("{name}: {volume}")
            };
            // A file that is mounted by itself stays the old one when another is moved over it.
            assert_eq!(
                Path::new(to),
                Path::new(CONFIGURATION).parent().unwrap(),
                "{name}: mounts a directory"
            );
            for entry in fs::read_dir(root().join("deploy").join(from)).unwrap().map(Result::unwrap) {
                fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
            }
            seen.insert(from.trim_start_matches("./compose/").to_owned());
        }
        let configuration = directory.path().join(Path::new(CONFIGURATION).file_name().unwrap());
        let output = check(&configuration, &[]);
        if cfg!(feature = "kafka")
            || !read("deploy/compose/kafka/braze-datadog.toml")
                .eq(&fs::read_to_string(&configuration).unwrap())
        {
            assert_right(&output);
            assert!(String::from_utf8_lossy(&output.stdout).contains("dry run"), "{name} would send");
        }
        fs::write(&configuration, fs::read_to_string(&configuration).unwrap().replace("dry_run", "dry-run"))
            .unwrap();
        assert_eq!(check(&configuration, &[]).status.code(), Some(78));
    }
    let there: BTreeSet<String> = fs::read_dir(root().join("deploy/compose"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, seen, "what is in deploy/compose, and what is mounted");
}

/// What the package installs lacks a connection, says so, and is right with one.
#[test]
fn the_configuration_of_the_debian_package_wants_a_connection_and_no_more() {
    let directory = TempDir::new().unwrap();
    let variables = [("BRAZE_DATADOG__CONNECTIONS_DIRECTORY", directory.path().to_str().unwrap())];
    let configuration = root().join("deploy/debian/braze-datadog.toml");
    let without = check(&configuration, &variables);
    assert_eq!(without.status.code(), Some(78));
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(said.contains("connection"), "{said}");
    fs::write(directory.path().join("acme.toml"), "dry_run = true\n").unwrap();
    assert_right(&check(&configuration, &variables));
}

/// A configuration with the settings that it has as comments.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ') && !key.starts_with("tls_"))
    };
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if is_setting(setting) => setting,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// With push, and with a bucket in its place.
#[test]
fn what_the_configuration_of_the_debian_package_offers_is_right() {
    let offered = read("deploy/debian/braze-datadog.toml");
    let (push, rest) = offered.split_once("\n# Events from a bucket").unwrap();
    let (bucket, daily) = rest.split_once("\n# A daily comparison").unwrap();
    let (head, _) = push.split_once("\n[push]").unwrap();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("connections")).unwrap();
    fs::write(path("connections/acme.toml"), "dry_run = true\n").unwrap();
    for secret in ["tokens", "s3.secret", "braze.key"] {
        fs::write(path(secret), "0123456789abcdef\n").unwrap();
        fs::set_permissions(path(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let connections = path("connections").display().to_string();
    let variables = [("BRAZE_DATADOG__CONNECTIONS_DIRECTORY", &*connections)];
    let configuration = path("braze-datadog.toml");
    let of = |parts: &[&str]| {
        fs::write(&configuration, uncommented(&parts.join("\n#"))).unwrap();
        check(&configuration, &variables)
    };
    for (parts, shown) in [([push, daily], "tokens"), ([head, &format!("{bucket}\n#{daily}")], "s3://BUCKET")]
    {
        let text = uncommented(&parts.join("\n#"));
        assert!(text.contains("\nbraze_url = ") && text.contains(shown), "{text}");
        if cfg!(feature = "storage") || !text.contains("\nkind = \"storage\"") {
            assert_right(&of(&parts));
        }
    }
    if cfg!(feature = "storage") {
        let both = of(&[push, bucket]);
        let said = String::from_utf8_lossy(&both.stderr).into_owned();
        assert!(both.status.code() == Some(78) && said.contains("leave [push] out"), "{said}");
    }
}

/// Error messages and comments name these pages and files, with the package and with the archive.
#[test]
fn the_pages_and_configurations_go_with_the_package_and_the_archive() {
    let (manifest, release) = (read("Cargo.toml"), read(".ci/release"));
    // Links of pages that lead out of the package are taken off.
    let pages = "  [\"target/release/package/docs/*\", \"usr/share/braze-datadog/docs/\", \"644\"],\n";
    assert!(manifest.contains(pages) && read(".ci/deb").contains(".ci/pages \"$files/docs\"\n"));
    for source in
        ["docs/black-friday/*.svg", "config/datadog/*", "config/opentelemetry/*", "config/prometheus/*"]
    {
        let folder = source.rsplit_once('/').unwrap().0;
        let asset = format!("  [\"{source}\", \"usr/share/braze-datadog/{folder}/\", \"644\"],\n");
        assert!(manifest.contains(&asset), "Cargo.toml: {asset}");
        assert!(release.contains("-t \"$root/$name/docs\" docs/*.md"));
        let name = folder.strip_prefix("config/").unwrap_or(folder);
        assert!(release.contains(name), ".ci/release: {name}");
    }
    for file in [
        "config/braze-datadog.toml",
        "config/braze-datadog.schema.json",
        "config/quickstart.toml",
        "samples/currents.ndjson",
    ] {
        let folder = file.split_once('/').unwrap().0;
        let asset = format!("  [\"{file}\", \"usr/share/braze-datadog/{folder}/\", \"644\"],\n");
        assert!(manifest.contains(&asset), "Cargo.toml: {asset}");
    }
    let configuration = read("deploy/debian/braze-datadog.toml");
    let named = configuration.split(['\n', ' ', ',']).filter(|word| word.contains("/usr/share/"));
    let named: Vec<&str> = named.map(|word| word.trim_end_matches('.')).collect();
    assert_eq!(named.len(), 3, "{named:?}");
    for path in named {
        let of_sources = path.trim_start_matches("#:schema ").trim_start_matches("/usr/share/braze-datadog/");
        assert!(root().join(of_sources).exists(), "{path} is not in the package");
    }
    for text in [&manifest, &release] {
        assert!(text.contains("THIRD-PARTY-NOTICES"), "licences want to go with what they are of");
    }
}

fn run(script: &str, argument: Option<&Path>, target: &Path) -> Output {
    let mut command = Command::new(root().join(script));
    command.args(argument).env("CARGO_TARGET_DIR", target).env("SOURCE_DATE_EPOCH", "1700000000");
    command.output().unwrap()
}

/// The pages below a folder whose relative links lead nowhere there, with these links.
fn dead_links(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut dead = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            let links = text.split("](").skip(1).filter_map(|behind| behind.split([')', '#']).next());
            let leads_on = |link: &str| link.contains("://") || path.parent().unwrap().join(link).exists();
            dead.extend(links.filter(|link| !leads_on(link)).map(|link| (path.clone(), link.to_owned())));
        }
    }
    dead
}

/// What the help's first example takes.
fn assert_first_look(folder: &Path) {
    let help = Command::new(env!("CARGO_BIN_EXE_braze-datadog")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let example = help.lines().find(|line| line.starts_with("  braze-datadog run ")).unwrap();
    let files: Vec<&str> = example.split_whitespace().filter(|word| word.contains('/')).collect();
    assert_eq!(files.len(), 2, "{example}");
    for file in files {
        assert!(folder.join(file).exists(), "{file} is not in {}", folder.display());
    }
}

/// The archive, made of what stands for the files that are built.
#[test]
fn pages_of_the_archive_lead_to_what_is_in_it_and_the_first_example_can_be_run() {
    let directory = TempDir::new().unwrap();
    let target = directory.path();
    let version = env!("CARGO_PKG_VERSION");
    for architecture in ["amd64", "arm64"] {
        let place = target.join("static").join(architecture);
        fs::create_dir_all(&place).unwrap();
        for file in ["braze-datadog", "braze-datadog.debug", "THIRD-PARTY-NOTICES"] {
            fs::write(place.join(file), "").unwrap();
        }
    }
    // What is packed next is not there.
    let output = run(".ci/release", None, target);
    let archive = target.join("release-files").join(format!("braze-datadog-{version}-linux-amd64.tar.gz"));
    assert!(archive.exists(), "{output:?}");
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--directory").arg(target).arg("--file").arg(archive);
    assert_right(&tar.output().unwrap());
    let folder = target.join(format!("braze-datadog-{version}-linux-amd64"));
    let dead = dead_links(&folder);
    assert!(dead.is_empty(), "{dead:?}");
    assert_first_look(&folder);
    for volume in ["dry-run/tokens", "kafka/braze-datadog.toml"] {
        assert!(folder.join("deploy/compose").join(volume).exists(), "compose.yaml mounts no {volume}");
    }
}

/// What cargo-deb is told to install, by its source and its folder.
fn assets() -> Vec<[String; 3]> {
    let manifest = read("Cargo.toml");
    let (_, deb) = manifest.split_once("\n[package.metadata.deb]\n").unwrap();
    let (deb, _) = deb.split_once("\n[").unwrap();
    let lines = deb.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter_map(|line| serde_json::from_str(line.trim_end_matches(',')).ok()).collect()
}

#[test]
fn pages_of_the_debian_package_lead_to_what_is_in_it_and_the_first_example_can_be_run() {
    let directory = TempDir::new().unwrap();
    let share = directory.path();
    assert_right(&run(".ci/pages", Some(&share.join("docs")), share));
    for [source, folder, _] in assets().iter().filter(|[source, _, _]| !source.starts_with("target/")) {
        let Some(folder) = folder.strip_prefix("usr/share/braze-datadog/") else { continue };
        let (from, name) = source.rsplit_once('/').unwrap();
        fs::create_dir_all(share.join(folder)).unwrap();
        let fits = |file: &str| name.strip_prefix('*').map_or(file == name, |end| file.ends_with(end));
        for entry in fs::read_dir(root().join(from)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if fits(&file) {
                fs::copy(root().join(from).join(&file), share.join(folder).join(file)).unwrap();
            }
        }
    }
    assert!(share.join("docs/operating.md").exists() && share.join("config/datadog").exists());
    let dead = dead_links(share);
    assert!(dead.is_empty(), "{dead:?}");
    assert_first_look(share);
    let page = fs::read_to_string(share.join("docs/operating.md")).unwrap();
    assert!(page.contains("](../config/prometheus/alerts.yaml)"), "what goes with them stays a link");
}

/// Where cargo-deb looks; `target/release` is what it makes itself.
#[test]
fn what_the_debian_package_is_made_of_exists() {
    let manifest = read("Cargo.toml");
    let (_, deb) = manifest.split_once("\n[package.metadata.deb]\n").unwrap();
    let (deb, _) = deb.split_once("\n[").unwrap();
    let assets = assets();
    assert!(assets.len() > 8, "{assets:?}");
    for [source, _, _] in assets.iter().filter(|[source, _, _]| !source.starts_with("target/release/")) {
        // What ends with a star is all of a folder.
        let of_folder = source.rsplit_once('/').unwrap().0;
        let path = if source.contains('*') { of_folder } else { source };
        assert!(root().join(path).exists(), "{source}");
    }
    assert!(deb.contains("\nmaintainer-scripts = \"deploy/debian\"\n"));
    let scripts = root().join("deploy/debian");
    for script in ["postinst", "postrm"] {
        assert!(fs::read_to_string(scripts.join(script)).unwrap().contains("\n#DEBHELPER#\n"), "{script}");
    }
}

/// A state directory that is a mount of its own can be emptied and not removed.
#[test]
fn the_debian_package_is_purged_though_a_directory_stays() {
    let programs = TempDir::new().unwrap();
    // Nothing else is in the path: whatever the script calls, this machine keeps what it has.
    for name in ["rm", "getent"] {
        symlink("/bin/false", programs.path().join(name)).unwrap();
    }
    let script = root().join("deploy/debian/postrm");
    let ended =
        Command::new("/bin/sh").arg(script).arg("purge").env("PATH", programs.path()).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("could not be removed whole"), "{ended:?}");
}

fn workflows() -> Vec<(String, Value)> {
    let entries = fs::read_dir(root().join(".github/workflows")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| (name.clone(), yaml::document(&read(&format!(".github/workflows/{name}"))))).collect()
}

#[test]
fn workflows_pin_what_they_use_and_may_no_more_than_they_need() {
    let workflows = workflows();
    assert!(workflows.len() >= 2);
    for (name, workflow) in &workflows {
        let may: Vec<&str> = workflow["permissions"]
            .as_object()
            .unwrap()
            .values()
            .map(|right| right.as_str().unwrap())
            .collect();
        assert!(may.iter().all(|right| *right == "read"), "{name}: every job may {may:?}");
        for (job, described) in workflow["jobs"].as_object().unwrap() {
            let writes = described["permissions"]
                .as_object()
                .is_some_and(|may| may.values().any(|right| right == "write"));
            for step in described["steps"].as_array().unwrap() {
                if let Some(used) = step["uses"].as_str() {
                    let (_, commit) = used.split_once('@').unwrap();
                    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                    assert!(is_commit, "{name}: {used} is not pinned to a commit");
                }
                let runs = step["run"].as_str().unwrap_or_default();
                let ours = runs.split_whitespace().any(|word| word == "make" || word.starts_with(".ci/"));
                assert!(
                    !(writes && ours),
                    "{name}: {job} may write, and runs what a change could have changed"
                );
            }
        }
    }
}

#[test]
fn nothing_is_released_that_was_not_checked_and_what_is_shipped_is_built_before() {
    let workflows = workflows();
    let job = |workflow: &str, job: &str| {
        let (_, found) = workflows.iter().find(|(name, _)| name == workflow).unwrap();
        found["jobs"][job].clone()
    };
    let runs = |job: &Value| {
        let steps = job["steps"].as_array().unwrap().iter();
        steps.filter_map(|step| step["run"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let publish = job("release.yml", "publish");
    assert_eq!(strings(&publish["needs"]), ["check", "build"]);
    for checked in [job("release.yml", "check"), job("ci.yml", "check")] {
        assert_eq!(runs(&checked), [".ci/run"]);
    }
    let (built, before) = (runs(&job("release.yml", "build")), runs(&job("ci.yml", "shipped")));
    for target in ["static", "image", "deb"] {
        let both = format!("make {target} ARCH=\"amd64 arm64\"");
        assert!(built.contains(&both) && before.contains(&both), "{both}");
    }
    let (_, ci) = workflows.iter().find(|(name, _)| name == "ci.yml").unwrap();
    assert!(ci["on"]["schedule"][0]["cron"].is_string(), "weekly");
}

#[test]
fn what_is_shipped_is_made_for_this_machine_or_for_those_that_are_named() {
    let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let make = |arguments: &[&str]| {
        let mut command = Command::new("make");
        let output = command
            .args(["-n", "-C"])
            .arg(root())
            .args(arguments)
            .env_remove("ARCH")
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert_right(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    for (target, script) in
        [("static", "static"), ("static", "static-trial"), ("image", "image"), ("deb", "deb")]
    {
        let line = |architectures: &str| format!("\n.ci/{script} {architectures}\n");
        let said = make(&[target]);
        assert!(said.contains(&line(here)), "{said}");
        let said = make(&[target, "ARCH=amd64 arm64"]);
        assert!(said.contains(&line("amd64 arm64")), "{said}");
    }
    // Who may not end it is told before it builds for a quarter of an hour.
    for target in ["image", "service"] {
        let said = make(&[target]);
        let (asks, builds) = (said.find("EUID == 0"), said.find(".ci/static "));
        assert!(asks.is_some() && asks < builds, "{said}");
    }
}

#[test]
fn workflows_call_what_is_there() {
    let makefile = read("Makefile");
    for (name, workflow) in workflows() {
        let jobs = workflow["jobs"].as_object().unwrap().values();
        let steps = jobs.flat_map(|job| job["steps"].as_array().unwrap());
        for runs in steps.filter_map(|step| step["run"].as_str()) {
            let words: Vec<&str> = runs.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "make") {
                assert!(makefile.contains(&format!("\n{}: ", pair[1])), "{name}: make {}", pair[1]);
            }
            for script in words.iter().filter(|word| word.starts_with(".ci/")) {
                assert!(root().join(script).exists(), "{name}: {script}");
            }
        }
    }
}

/// What is wrong with the form of a changelog.
fn faults(changelog: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut versions = Vec::new();
    let mut kinds: Vec<&str> = Vec::new();
    for (number, line) in changelog.lines().enumerate() {
        let at = format!("line {}: {line}", number + 1);
        if let Some(head) = line.strip_prefix("## ") {
            kinds.clear();
            let is_unreleased = head == "[Unreleased]" && versions.is_empty();
            let is_release = head.split_once("] - ").is_some_and(|(version, day)| {
                let numbers = version.trim_start_matches('[').split(['.', '-']).take(3);
                let is_version =
                    numbers.clone().count() == 3 && numbers.clone().all(|part| part.parse::<u32>().is_ok());
                is_version && day.parse::<jiff::civil::Date>().is_ok()
            });
            if !(is_unreleased || is_release && !versions.is_empty()) {
                faults.push(format!("{at}: neither [Unreleased], which is first, nor [1.2.3] - 2026-11-28"));
            }
            versions.push(head);
        } else if let Some(kind) = line.strip_prefix("### ") {
            if !KINDS.contains(&kind) || kinds.contains(&kind) || versions.is_empty() {
                faults.push(format!("{at}: one of {KINDS:?} in a version, each once"));
            }
            kinds.push(kind);
        } else if kinds.is_empty() && line.starts_with("- ") {
            faults.push(format!("{at}: a change of no kind"));
        } else if !(line.is_empty()
            || line.starts_with("- ")
            || line.starts_with("  ")
            || versions.is_empty())
        {
            faults.push(format!("{at}: not a line of a list"));
        }
    }
    if versions.is_empty() {
        faults.push("no version".to_owned());
    }
    faults
}

#[test]
fn the_changelog_keeps_its_form() {
    let changelog = read("CHANGELOG.md");
    assert_eq!(faults(&changelog), Vec::<String>::new());
    assert!(changelog.contains("\n## [Unreleased]\n"));
}

#[test]
fn a_changelog_without_its_form_is_found() {
    let right =
        "# Changelog\nWords.\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-28\n### Added\n- One\n  more.\n";
    assert_eq!(faults(right), Vec::<String>::new());
    for (from, to) in [
        ("## [Unreleased]", "## Unreleased"),
        ("2026-11-28", "28 November"),
        ("### Added", "### New"),
        ("### Added\n", ""),
        ("  more.", "more."),
        ("- One", "### Added\n- One"),
    ] {
        assert_ne!(faults(&right.replace(from, to)), Vec::<String>::new(), "{to}");
    }
}
