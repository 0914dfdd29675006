//! The house rules that a machine can check. The rules are the tables below; each check is shown a text that
//! breaks it, so that none can fall asleep.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 400;

/// Files and directories live at their station, under its name.
const BANNED_FILE_NAMES: [&str; 7] = ["mod", "utils", "common", "helpers", "types", "errors", "manager"];

/// Who may do I/O: `app` is `app.rs` and what is under `app/`; `queue/` is only what is under it.
const IO: [&str; 28] = [
    "crates/admin-api/client",
    "crates/braze-rest/client",
    "crates/datadog-points/client",
    "crates/http-client",
    "crates/event-lanes/clock",
    "crates/event-lanes/lib",
    "crates/event-queues/content",
    "crates/event-queues/embedded",
    "crates/event-queues/files",
    "crates/event-queues/kafka",
    "crates/event-queues/state_file",
    "crates/event-queues/storage",
    "crates/http-listener",
    "crates/redb-file",
    "crates/segment-log",
    "crates/send-history/history",
    "crates/send-history/keeper",
    "crates/send-history/store",
    "crates/top/terminal",
    "main",
    "commands",
    "app",
    "config",
    "pipeline",
    "push",
    "admin",
    "telemetry",
    "signal",
];

/// Who may not, though the file above it may.
const PURE: [&str; 4] = ["pipeline/collapse", "pipeline/encode", "pipeline/preview", "pipeline/recheck"];

/// What the others must not name: by path, whatever it was imported as.
const IO_PATHS: [&str; 14] = [
    "tokio",
    "tokio_rustls",
    "hyper",
    "hyper_util",
    "reqwest",
    "tracing",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "Instant::now",
    "std::time::SystemTime",
];

/// Values, though they live beside sockets.
const NO_IO_PATHS: [&str; 5] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::AddrParseError",
];

/// What the others must not even mention.
const IO_WORDS: [&str; 1] = ["SystemTime"];

/// State has one owner.
const SHARED_STATE: [&str; 2] = ["Arc<Mutex<", "Arc<RwLock<"];

/// Which parts of the daemon a pure part may import; crates keep their walls by themselves.
const ARROWS: [(&str, &[&str]); 8] = [
    ("connection", &[]),
    ("catalogue", &[]),
    ("key_monitor", &["connection"]),
    ("ledger", &[]),
    ("forwarder_points", &[]),
    ("monitors", &["forwarder_points"]),
    ("reconcile", &[]),
    ("lib", &[]),
];

/// The parts around the hallway, which may import any other but those of [`CONCRETE`].
const SHELL: [&str; 9] =
    ["main", "commands", "app", "config", "pipeline", "push", "admin", "telemetry", "signal"];

/// A part, and the names that it may use; nothing listed: all of them.
type Friend = (&'static str, &'static [&'static str]);

/// Modules that few may name, and who these are: parts of the daemon, and the concrete queues and HTTP client.
const CONCRETE: [(&str, &[Friend]); 11] = [
    ("config", &[("commands", &[]), ("app", &[])]),
    ("commands", &[("main", &[])]),
    ("app", &[("commands", &[])]),
    ("pipeline", &[("app", &[])]),
    ("event_lanes::Lanes", &[("pipeline", &[])]),
    ("event_lanes::clock", &[("commands", &[]), ("app", &[]), ("pipeline", &[]), ("push", &[])]),
    (
        "event_queues::embedded",
        &[("app", &[]), ("config", &["EmbeddedSettings"]), ("push", &["Appender", "AppendError", "Pushed"])],
    ),
    ("event_queues::files", &[("app", &[]), ("config", &["FilesSettings"])]),
    ("event_queues::kafka", &[("app", &[]), ("config", &["KafkaSettings", "SchemaIds", "Secret"])]),
    (
        "event_queues::storage",
        &[("app", &[]), ("config", &["StorageSettings", "StorageSource", "StorageStart"])],
    ),
    (
        "datadog_points::client",
        &[
            ("app", &[]),
            ("commands", &[]),
            ("config", &["IntakeSettings"]),
            ("connection", &["HttpIntake"]),
            ("pipeline", &["within"]),
        ],
    ),
];

/// Files whose tests are longer than they are, and have yet to move.
const LONG_TESTS: [&str; 3] = [
    "crates/send-counts/aggregate/room.rs",
    "crates/send-counts/aggregate/window.rs",
    "crates/send-counts/dedup.rs",
];

/// The traits of the whole program.
const TRAITS: [&str; 2] = ["Queue", "Intake"];

/// What code must not contain, tests included.
const BANNED_CODE: [&str; 5] = ["#[allow(", "#![allow(", "todo!", "unimplemented!", "dbg!"];

/// What comments must not contain either.
const BANNED_TEXT: [&str; 2] = ["TODO", "FIXME"];

/// Directories of this repository that its documents name files of.
const DOCUMENTED: [&str; 9] =
    ["src/", "crates/", "tests/", "config/", "samples/", "benches/", "examples/", "fuzz/", ".ci/"];

type Violations = Vec<String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn extension_of(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// The files of a directory, however deep, with their paths from it.
fn files(directory: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if extension_of(&path) == extension {
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The names of the crates below `crates/`.
fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything under `src/` that is not test code as a whole file.
fn daemon() -> Vec<Source> {
    pick(files(&root().join("src"), "rs").iter().map(|(path, text)| Source::new(path, text)).collect())
}

/// The same with all crates; a file of one is `crates/NAME/…`.
fn sources() -> Vec<Source> {
    let mut all = daemon();
    for name in crates() {
        let read = files(&root().join("crates").join(&name).join("src"), "rs");
        let named =
            read.iter().map(|(path, text)| Source::new(&format!("crates/{name}/{path}"), text)).collect();
        all.extend(pick(named));
    }
    all
}

/// Leaves out the files of modules that are declared behind `#[cfg(test)]`.
fn pick(all: Vec<Source>) -> Vec<Source> {
    let of_tests: Vec<String> = all.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &str| {
        of_tests.iter().any(|module| {
            path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    all.into_iter().filter(|source| !is_test(&source.path)).collect()
}

fn may_do_io(path: &str) -> bool {
    let is_listed = |list: &[&str]| {
        list.iter().any(|name| match path.strip_prefix(name) {
            Some(rest) => name.ends_with('/') || rest == ".rs" || rest.starts_with('/'),
            None => false,
        })
    };
    is_listed(&IO) && !is_listed(&PURE)
}

/// Whether `path` is `module`, or in it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn check_file_names(paths: &[&str]) -> Violations {
    let banned =
        |path: &&&str| path.trim_end_matches(".rs").split('/').any(|name| BANNED_FILE_NAMES.contains(&name));
    paths.iter().filter(banned).map(|path| format!("{path}: name it after its station")).collect()
}

fn check_lengths(source: &Source) -> Violations {
    let mut violations = Vec::new();
    if source.code_lines > FILE_LINES_MAX {
        violations.push(format!("{}: {} lines without its tests", source.path, source.code_lines));
    }
    for (name, line, lines) in source.functions() {
        if lines > FUNCTION_LINES_MAX {
            violations.push(format!("{}:{line}: `{name}` has {lines} lines", source.path));
        }
    }
    violations
}

/// Tests that are longer than what they test stand in a file of their own.
fn check_tests(source: &Source) -> Violations {
    let Some((_, inline)) = source.text.split_once("#[cfg(test)]\nmod tests {") else { return Vec::new() };
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    // With the two lines that begin them.
    let (code, tests) = (source.lines_of_code().0, 2 + inline.lines().filter(is_code).count());
    if tests <= code || LONG_TESTS.contains(&&*source.path) {
        return Vec::new();
    }
    let place = source.path.trim_end_matches(".rs");
    vec![format!(
        "{}: {tests} lines of tests and {code} of code: move `mod tests` to {place}/tests.rs",
        source.path
    )]
}

fn check_banned(source: &Source) -> Violations {
    let whole = Source::new(&source.path, &source.text.replace("#[cfg(test)]", ""));
    let in_code = BANNED_CODE.iter().filter(|banned| whole.code.contains(**banned));
    let in_text = BANNED_TEXT.iter().filter(|banned| source.text.contains(**banned));
    in_code.chain(in_text).map(|banned| format!("{}: `{banned}`", source.path)).collect()
}

fn check_io(source: &Source) -> Violations {
    if may_do_io(&source.path) {
        return Vec::new();
    }
    let mut violations = BTreeSet::new();
    for path in source.paths() {
        let is_listed = |list: &[&str]| list.iter().any(|listed| is_in(&path, listed));
        if is_listed(&IO_PATHS) && !is_listed(&NO_IO_PATHS) {
            violations.insert(format!("{}: `{path}` is for the files that do I/O", source.path));
        }
    }
    let dense: String = source.code.split_whitespace().collect();
    for word in IO_WORDS.iter().chain(&SHARED_STATE).filter(|word| dense.contains(**word)) {
        violations.insert(format!("{}: `{word}` is for the files that do I/O", source.path));
    }
    violations.into_iter().collect()
}

/// What a test starts ends with the test process, however that ends.
fn check_children(path: &str, text: &str) -> Violations {
    let is_free = path == "support/children.rs" || !text.contains(".spawn()");
    let why = "a process is started by tests/support/children.rs, so that it ends with the test process";
    if is_free { Vec::new() } else { vec![format!("tests/{path}: {why}")] }
}

fn check_traits(sources: &[Source]) -> Violations {
    let mut seen = BTreeSet::new();
    let mut violations = Vec::new();
    for source in sources {
        for name in source.traits() {
            if !TRAITS.contains(&&*name) || !seen.insert(name.clone()) {
                violations.push(format!("{}: the trait `{name}`; there are two: {TRAITS:?}", source.path));
            }
        }
    }
    violations
}

/// Public types of one name in several files; one type name stands for one thing in the whole workspace.
fn check_type_names(sources: &[Source]) -> Violations {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        for line in source.code.lines().filter(|line| line.starts_with("pub")) {
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let kind = words.iter().position(|word| ["struct", "enum", "trait"].contains(word));
            if let Some(name) = kind.and_then(|kind| words.get(kind + 1)) {
                seen.entry((*name).to_owned()).or_default().insert(&source.path);
            }
        }
    }
    let shared = seen.iter().filter(|(_, files)| files.len() > 1);
    shared.map(|(name, files)| format!("`{name}` is a type in {files:?}")).collect()
}

fn check_arrows(source: &Source) -> Violations {
    let from = source.part();
    let arrows = ARROWS.iter().find(|(part, _)| *part == from).map(|(_, to)| *to);
    if arrows.is_none() && !SHELL.contains(&from) {
        return vec![format!("{}: a part that tests/fast/tidy.rs has no arrows for", source.path)];
    }
    let mut violations = BTreeSet::new();
    for path in source.paths() {
        let in_crate = path.strip_prefix("crate::");
        let ours = in_crate.unwrap_or(&path);
        let to = ours.split("::").next().unwrap_or_default();
        let is_part = to.starts_with(|c: char| c.is_ascii_lowercase()) && to != from;
        if in_crate.is_some() && is_part && arrows.is_some_and(|arrows| !arrows.contains(&to)) {
            violations.insert(format!("{}: `{path}`: {from} may import {arrows:?}", source.path));
        }
        for (module, friends) in CONCRETE.iter().filter(|(module, _)| is_part && is_in(ours, module)) {
            let names = friends.iter().find(|(friend, _)| *friend == from).map(|(_, names)| *names);
            let name = ours[module.len()..].trim_start_matches("::").split("::").next().unwrap_or_default();
            if names.is_none_or(|names| !names.is_empty() && !name.is_empty() && !names.contains(&name)) {
                violations.insert(format!("{}: `{path}`: {module} is not for {from}", source.path));
            }
        }
    }
    violations.into_iter().collect()
}

/// The module of each kind of queue is one of [`CONCRETE`].
fn check_queues(sources: &[Source]) -> Violations {
    let queues = sources.iter().filter(|source| source.code.contains("impl Queue for"));
    let module = |source: &Source| {
        let rest = source.path.strip_prefix("crates/event-queues/")?;
        Some(format!("event_queues::{}", rest.split(['/', '.']).next()?))
    };
    let missing =
        queues.filter_map(module).filter(|queue| !CONCRETE.iter().any(|(listed, _)| listed == queue));
    missing.map(|queue| format!("{queue} is a queue, and not in CONCRETE of tests/fast/tidy.rs")).collect()
}

/// All crates have the version of the workspace, which is also said where they are depended on.
fn check_versions(manifest: &str, crates: &[(String, String)]) -> Violations {
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap_or_default();
    let is_ours = |line: &&str| line.contains("path = \"crates/");
    let wrong =
        manifest.lines().filter(is_ours).filter(|line| !line.contains(&format!("version = {version} ")));
    let mut violations: Violations =
        wrong.map(|line| format!("Cargo.toml: not version {version}: {line}")).collect();
    let own = crates.iter().filter(|(_, text)| !text.contains("\nversion.workspace = true\n"));
    violations.extend(own.map(|(name, _)| format!("{name}: `version.workspace = true` is missing")));
    violations
}

/// Files that import one another in a circle, across parts. Within a part, parent and child may.
fn check_circles(sources: &[Source]) -> Violations {
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module().join("::")).collect();
    let file_of = |path: &str| {
        let mut module = path.strip_prefix("crate::")?;
        while !modules.contains(module) {
            module = module.rsplit_once("::")?.0;
        }
        Some(module.to_owned())
    };
    let arrows: BTreeMap<String, BTreeSet<String>> = sources
        .iter()
        .map(|source| {
            (source.module().join("::"), source.paths().iter().filter_map(|path| file_of(path)).collect())
        })
        .collect();
    let reachable = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(next) = open.pop() {
            for to in arrows.get(&next).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|from| (from, reachable(from))).collect();
    let part = |module: &str| module.split("::").next().map(ToOwned::to_owned);
    let pairs = reached.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, to)));
    let circles =
        pairs.filter(|(from, to)| from < to && part(from) != part(to) && reached[to].contains(*from));
    circles.map(|(from, to)| format!("{from} and {to} import one another, directly or not")).collect()
}

/// Every dependency says in a comment above it why it is there; one of the workspace's says it there.
fn check_manifest(manifest: &str) -> Violations {
    let mut violations = Vec::new();
    let (mut is_dependencies, mut before) = (false, "");
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            is_dependencies = line.ends_with("dependencies]");
        } else if is_dependencies
            && line.contains('=')
            && !line.ends_with(".workspace = true")
            && !line.starts_with('#')
            && !before.starts_with('#')
        {
            violations.push(format!("Cargo.toml: no reason above `{line}`"));
        }
        before = line;
    }
    violations
}

/// Files of this repository that a document names must exist.
fn check_document(name: &str, text: &str, exists: impl Fn(&str) -> bool) -> Violations {
    let is_path = |c: char| c.is_alphanumeric() || "_-./=".contains(c);
    let mut violations = BTreeSet::new();
    let words = text.split(|c: char| !is_path(c)).map(|word| word.trim_end_matches('.'));
    for word in words.filter(|word| !word.is_empty()) {
        let in_directory = DOCUMENTED.iter().any(|directory| word.starts_with(directory));
        let is_document = !word.contains('/')
            && extension_of(Path::new(word)) == "md"
            && word.starts_with(char::is_uppercase);
        let is_file = matches!(word, "Makefile" | "Dockerfile" | "LICENSE" | "Cargo.toml");
        if (in_directory || is_document || is_file) && !exists(word.trim_end_matches('/')) {
            violations.insert(format!("{name}: `{word}` does not exist"));
        }
    }
    violations.into_iter().collect()
}

fn assert_tidy(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

// The rules on this repository.

#[test]
fn files_are_named_after_their_station() {
    let mut paths = files(&root().join("src"), "rs");
    paths.extend(files(&root().join("crates"), "rs"));
    paths.extend(files(&root().join("tests"), "rs"));
    paths.extend(files(&root().join("fuzz/fuzz_targets"), "rs"));
    assert!(paths.len() > 10);
    assert_tidy(&check_file_names(&paths.iter().map(|(path, _)| &**path).collect::<Vec<_>>()));
}

#[test]
fn files_and_functions_are_short() {
    assert_tidy(&sources().iter().flat_map(check_lengths).collect::<Vec<_>>());
}

#[test]
fn tests_that_are_longer_than_their_code_have_a_file_of_their_own() {
    assert_tidy(&sources().iter().flat_map(check_tests).collect::<Vec<_>>());
    for path in LONG_TESTS {
        let is_long =
            |source: &Source| source.path == path && source.lines_of_code().0 < source.lines_of_code().1;
        assert!(sources().iter().any(is_long), "{path} is not to be excused any more");
    }
}

#[test]
fn nothing_is_allowed_silently_or_left_for_later() {
    let fuzz = files(&root().join("fuzz/fuzz_targets"), "rs");
    let fuzz = fuzz.iter().map(|(path, text)| Source::new(path, text));
    let all = sources().into_iter().chain(fuzz);
    assert_tidy(&all.flat_map(|source| check_banned(&source)).collect::<Vec<_>>());
}

#[test]
fn only_the_named_files_do_io() {
    assert_tidy(&sources().iter().flat_map(check_io).collect::<Vec<_>>());
}

#[test]
fn processes_end_with_the_tests() {
    // Its own text has the word.
    let paths = files(&root().join("tests"), "rs").into_iter().filter(|(path, _)| path != "fast/tidy.rs");
    assert_tidy(&paths.flat_map(|(path, text)| check_children(&path, &text)).collect::<Vec<_>>());
}

#[test]
fn there_are_two_traits() {
    assert_tidy(&check_traits(&sources()));
}

#[test]
fn one_type_name_is_one_thing() {
    assert_tidy(&check_type_names(&sources()));
}

#[test]
fn imports_follow_the_hallway() {
    assert_tidy(&daemon().iter().flat_map(check_arrows).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_queue_is_named_by_few() {
    assert_tidy(&check_queues(&sources()));
}

#[test]
fn there_is_one_version() {
    let manifest = |name: String| (name.clone(), fs::read_to_string(root().join(name)).unwrap());
    let crates: Vec<_> =
        crates().into_iter().map(|name| manifest(format!("crates/{name}/Cargo.toml"))).collect();
    assert_tidy(&check_versions(&manifest("Cargo.toml".to_owned()).1, &crates));
}

#[test]
fn no_files_of_different_parts_import_one_another() {
    assert_tidy(&check_circles(&daemon()));
}

#[test]
fn every_dependency_has_a_reason() {
    let ours = crates().into_iter().map(|name| format!("crates/{name}/Cargo.toml"));
    for manifest in ["Cargo.toml".to_owned(), "fuzz/Cargo.toml".to_owned()].into_iter().chain(ours) {
        assert_tidy(&check_manifest(&fs::read_to_string(root().join(manifest)).unwrap()));
    }
}

#[test]
fn documents_name_files_that_exist() {
    let within = |directory: &str| {
        let mut named = files(&root().join(directory), "md");
        for (name, _) in &mut named {
            *name = format!("{directory}/{name}");
        }
        named
    };
    let directories = ["docs", "crates", "deploy", "samples"];
    let mut documents: Vec<(String, String)> = directories.into_iter().flat_map(within).collect();
    for path in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        if extension_of(&path) == "md" {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            documents.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(documents.len() > 20);
    // A path is one from the root, or from the document's own directory.
    let check = |(name, text): &(String, String)| {
        let own = root().join(name);
        let exists = |path: &str| root().join(path).exists() || own.with_file_name(path).exists();
        check_document(name, text, exists)
    };
    assert_tidy(&documents.iter().flat_map(check).collect::<Vec<_>>());
}

// Each rule on a text that breaks it.

/// The one violation of a text; it must be one.
fn one(violations: &[String]) -> &str {
    assert_eq!(violations.len(), 1, "{violations:?}");
    &violations[0]
}

#[test]
fn a_banned_file_name_is_seen() {
    assert!(one(&check_file_names(&["queue.rs", "queue/mod.rs"])).contains("queue/mod.rs"));
    assert!(one(&check_file_names(&["utils/time.rs"])).contains("utils"));
    assert_tidy(&check_file_names(&["datadog/errors_seen.rs", "model.rs"]));
}

#[test]
fn a_long_function_is_seen() {
    let function = |lines: usize| {
        format!("fn short() {{}}\n\nfn long(x: [u8; 3])\n{{\n{}}}\n", "    x;\n".repeat(lines - 3))
    };
    assert_tidy(&check_lengths(&Source::new("event.rs", &function(70))));
    assert_eq!(
        one(&check_lengths(&Source::new("event.rs", &function(71)))),
        "event.rs:3: `long` has 71 lines"
    );
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(200));
    assert_tidy(&check_lengths(&Source::new("event.rs", &in_tests)));
    let brace_in_text = format!("fn f() {{\n let a = \"}}\"; let b = '}}'; // }}\n{}}}\n", "x;\n".repeat(70));
    assert!(one(&check_lengths(&Source::new("event.rs", &brace_in_text))).contains("73 lines"));
}

#[test]
fn a_long_file_is_seen_without_its_tests() {
    let file =
        |lines: usize| "// why\n".repeat(lines) + "#[cfg(test)]\nmod tests {\n" + &"\n".repeat(500) + "}\n";
    assert_tidy(&check_lengths(&Source::new("event.rs", &file(400))));
    assert!(one(&check_lengths(&Source::new("event.rs", &file(401)))).contains("401 lines"));
    let behind_the_tests = file(10) + &"// why\n".repeat(391);
    assert!(one(&check_lengths(&Source::new("event.rs", &behind_the_tests))).contains("401 lines"));
}

#[test]
fn tests_that_are_longer_than_their_code_are_seen() {
    let file = |tests: usize| {
        let lines = "    let a = 1; // why\n\n    // why\n";
        format!(
            "//! What.\n\nfn f() {{\n{}}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            lines.repeat(5),
            lines.repeat(tests)
        )
    };
    assert_tidy(&check_tests(&Source::new("event.rs", &file(4))));
    assert!(one(&check_tests(&Source::new("event.rs", &file(5)))).contains("8 lines of tests and 7 of code"));
    assert_tidy(&check_tests(&Source::new("event.rs", "fn f() {}\n#[cfg(test)]\nmod tests;\n")));
}

#[test]
fn what_is_banned_is_seen_in_code_and_in_tests() {
    let check = |text: &str| check_banned(&Source::new("event.rs", text));
    assert!(one(&check("#[allow(dead_code)]\nfn f() {}\n")).contains("allow"));
    assert!(one(&check("#[cfg(test)]\nmod tests { fn f() { dbg!(1); } }\n")).contains("dbg!"));
    assert!(one(&check("fn f() { todo!() }")).contains("todo!"));
    assert!(one(&check("// FIXME: later\n")).contains("FIXME"));
    assert_tidy(&check("/// No `#[allow(…)]` and no dbg!(…) here.\nconst A: &str = \"dbg!(1)\";\n"));
}

#[test]
fn io_outside_its_files_is_seen() {
    let check = |path: &str, text: &str| check_io(&Source::new(path, text));
    for bad in [
        "use tokio::time::sleep;",
        "use std::{fmt, fs};",
        "use std::fs::{self, File};",
        "use std::{io, net::{IpAddr, TcpStream as Stream}};",
        "fn f() { std::env::var(\"A\"); }",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "fn f() { tracing::info!(\"a\"); }",
    ] {
        assert!(!check("ledger.rs", bad).is_empty(), "{bad}");
        assert_tidy(&check("crates/event-queues/kafka/poller.rs", bad));
        assert_tidy(&check("crates/datadog-points/client.rs", bad));
        assert_tidy(&check("ledger.rs", &format!("// {bad}\n#[cfg(test)]\nmod tests {{ {bad} }}\n")));
    }
    assert!(check("pipeline/encode.rs", "fn f(at: SystemTime) {}")[0].contains("SystemTime"));
    assert!(one(&check("aggregate.rs", "struct A { a: Arc< Mutex <u8>> }")).contains("Arc<Mutex<"));
    assert!(one(&check("queue.rs", "use tokio::sync::mpsc;")).contains("queue.rs"));
    assert!(one(&check("application.rs", "use tokio::sync::mpsc;")).contains("application.rs"));
    assert_tidy(&check(
        "ledger.rs",
        "use std::time::Duration; use std::io::Write; use std::net::{IpAddr, Ipv4Addr};",
    ));
}

#[test]
fn a_process_that_may_outlive_its_test_is_seen() {
    one(&check_children("process/new.rs", "Command::new(BINARY).spawn().unwrap()"));
    assert_tidy(&check_children("process/new.rs", "children::spawn(children::command(BINARY))"));
}

#[test]
fn a_third_trait_is_seen() {
    let source = |path: &str, text: &str| Source::new(path, text);
    let two = [source("queue.rs", "pub trait Queue: Send {}"), source("datadog.rs", "pub trait Intake {}")];
    assert_tidy(&check_traits(&two));
    let third = [two.as_slice(), &[source("clock.rs", "pub(crate) trait Clock {}")]].concat();
    assert!(one(&check_traits(&third)).contains("Clock"));
    let again = [two.as_slice(), &[source("push.rs", "trait Queue {}")]].concat();
    assert!(one(&check_traits(&again)).contains("push.rs"));
    assert_tidy(&check_traits(&[source("event.rs", "#[cfg(test)]\nmod tests { trait Fake {} }")]));
}

#[test]
fn a_type_name_that_stands_for_two_things_is_seen() {
    let source = |path: &str| Source::new(path, "pub(crate) struct Found<'a> {}\nstruct Own;\n");
    let violations = check_type_names(&[source("route.rs"), source("stats.rs")]);
    assert!(one(&violations).contains("`Found` is a type in"));
    assert_tidy(&check_type_names(&[source("route.rs")]));
}

#[test]
fn an_arrow_against_the_hallway_is_seen() {
    let check = |path: &str, text: &str| check_arrows(&Source::new(path, text));
    assert!(one(&check("ledger.rs", "use crate::catalogue::Catalogue;")).contains("ledger may import"));
    assert!(
        one(&check("catalogue/trend.rs", "use super::super::ledger::Ledger;"))
            .contains("crate::ledger::Ledger")
    );
    assert!(
        one(&check("catalogue.rs", "fn f(_: crate::ledger::ClaimId) {}")).contains("catalogue may import")
    );
    assert!(one(&check("push.rs", "use crate::{config, connection};")).contains("config is not for push"));
    assert!(
        one(&check("pipeline.rs", "use event_queues::{Delivery, files::Files};"))
            .contains("event_queues::files")
    );
    assert!(one(&check("push.rs", "use event_queues::embedded::{Pushed, Reader};")).contains("Reader"));
    assert!(one(&check("catalogue.rs", "use crate::{catalogue::Query, admin};")).contains("crate::admin"));
    assert!(one(&check("main.rs", "use event_queues::embedded;")).contains("event_queues::embedded"));
    assert!(one(&check("cache.rs", "")).contains("no arrows"));

    assert_tidy(&check("ledger.rs", "use event_queues::Receipt; use send_counts::route::Route;"));
    assert_tidy(&check("push/handler.rs", "use event_queues::embedded::{self, Appender, Pushed};"));
    assert_tidy(&check(
        "app.rs",
        "use crate::{config::Config, connection::Connection}; use event_queues::kafka;",
    ));
    assert_tidy(&check("connection.rs", "#[cfg(test)]\nuse crate::ledger::Ledger;\nuse std::fmt;"));
}

#[test]
fn a_queue_that_anybody_may_name_is_seen() {
    let queue = |path: &str| Source::new(path, "impl Queue for Pigeons {}");
    assert!(
        one(&check_queues(&[queue("crates/event-queues/pigeons/client.rs")]))
            .contains("event_queues::pigeons")
    );
    assert_tidy(&check_queues(&[queue("crates/event-queues/kafka/client/consumer.rs"), queue("fakes.rs")]));
}

#[test]
fn a_version_that_was_left_behind_is_seen() {
    let manifest = |version: &str| {
        format!(
            "[workspace.package]\nversion = \"1.2.3\"\n[workspace.dependencies]\na = {{ path = \"crates/a\", version = \"{version}\" }}\n"
        )
    };
    let own = |text: &str| vec![("crates/a/Cargo.toml".to_owned(), text.to_owned())];
    let right = own("[package]\nversion.workspace = true\n");
    assert_tidy(&check_versions(&manifest("1.2.3"), &right));
    assert!(one(&check_versions(&manifest("1.2.2"), &right)).contains("not version"));
    assert!(
        one(&check_versions(&manifest("1.2.3"), &own("[package]\nversion = \"1.2.2\"\n")))
            .contains("crates/a")
    );
}

#[test]
fn files_in_a_circle_are_seen() {
    let route = Source::new("route.rs", "use crate::datadog::Connection;");
    let aggregate = Source::new("aggregate.rs", "use crate::route::ConnectionId;");
    let encode = Source::new("datadog/encode.rs", "use crate::aggregate::Point; use super::Connection;");
    let datadog = Source::new("datadog.rs", "pub mod encode; pub struct Connection;");
    let straight = [route.clone(), aggregate.clone(), encode.clone(), datadog];
    assert_tidy(&check_circles(&straight));
    let datadog = Source::new("datadog.rs", "use self::encode::encode; pub struct Connection;");
    let found = check_circles(&[route, aggregate, encode, datadog]);
    assert!(found.iter().any(|circle| circle.contains("aggregate and datadog")), "{found:?}");
    let within = [
        Source::new("push.rs", "use self::handler::PushHandler;"),
        Source::new("push/handler.rs", "use super::Settings;"),
    ];
    assert_tidy(&check_circles(&within));
}

#[test]
fn a_dependency_without_a_reason_is_seen() {
    let good =
        "[package]\nname = \"a\"\n\n[dependencies]\n# Why.\ntokio = \"1\"\n[lints.rust]\nx = \"warn\"\n";
    assert_tidy(&check_manifest(good));
    let bad = "[dependencies]\n# Why.\ntokio = \"1\"\nhyper = \"1\"\n";
    assert!(one(&check_manifest(bad)).contains("hyper"));
    assert!(one(&check_manifest("[dev-dependencies]\nproptest = \"1\"\n")).contains("proptest"));
}

#[test]
fn a_document_that_names_a_file_which_is_gone_is_seen() {
    let exists = |path: &str| path == "config/quickstart.toml" || path == "src";
    let text = "Run it with `config/quickstart.toml` (see [the code](src/).) or config/gone.toml. Not /etc/config/x.";
    assert_eq!(
        one(&check_document("README.md", text, exists)),
        "README.md: `config/gone.toml` does not exist"
    );
    assert!(one(&check_document("README.md", "See ARCHITECTURE.md.", exists)).contains("ARCHITECTURE.md"));
}

#[test]
fn files_of_test_modules_are_left_out() {
    let parent =
        Source::new("listen.rs", "#[cfg(test)]\n#[rustfmt::skip]\npub(crate) mod testing;\nmod tls;\n");
    assert_eq!(parent.test_modules(), ["listen/testing"]);
    let all = vec![parent, Source::new("listen/testing.rs", ""), Source::new("listen/tls.rs", "")];
    assert_eq!(
        pick(all).iter().map(|source| &*source.path).collect::<Vec<_>>(),
        ["listen.rs", "listen/tls.rs"]
    );
}

#[test]
fn sources_are_read_without_comments_strings_and_tests() {
    let text = "/* a /* b */ fn c() {} */ let r = r#\"fn d() { \" }\"#; let e = b\"fn e()\"; let q = '\\''; let l: &'a str;\n\
                struct S { #[cfg(test)] faults: Vec<(u8, u8)>, kept: u8 }\n\
                #[cfg(test)]\nuse std::{fs, io};\nfn kept_too() {}\n";
    let code = Source::new("event.rs", text).code;
    for gone in ["fn c", "fn d", "fn e", "faults", "std"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    for kept in ["let r", "let l: & a str", "kept: u8", "fn kept_too() {}"] {
        assert!(code.contains(kept), "{kept} not in {code}");
    }
    assert_eq!(code.lines().count(), text.lines().count());
    let paths =
        Source::new("a/b.rs", "use crate::{self, c::{d as e, f::*}}; use super::g; use ::std::fmt;").paths();
    assert_eq!(paths, ["crate", "crate::c::d", "crate::c::f::*", "crate::a::g", "std::fmt"]);
}
