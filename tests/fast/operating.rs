//! The page for operators tells what each ERROR means, and the contract has the names that the code has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use braze_datadog::config::Config;

/// What is left of a message whose words are all made elsewhere.
const BARE: [&str; 1] = ["kafka:"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The sources, without their tests.
fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let (code, _) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
            found.push(code.to_owned());
        }
    }
}

/// The string literals of the arguments that `text` begins with, up to the bracket that closes them.
fn literals(text: &str) -> Vec<String> {
    let (mut found, mut depth, mut literal) = (Vec::new(), 1, None::<String>);
    let mut characters = text.chars();
    while let (Some(character), true) = (characters.next(), depth > 0) {
        match (&mut literal, character) {
            (Some(_), '"') => found.extend(literal.take()),
            (Some(text), '\\') => text.extend(characters.next().filter(|escaped| *escaped != '\n')),
            (Some(text), character) => text.push(character),
            (None, '"') => literal = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    found
}

/// The fixed words of each message that is logged at ERROR.
fn messages() -> Vec<String> {
    let mut code = Vec::new();
    sources(&root().join("src"), &mut code);
    sources(&root().join("crates"), &mut code);
    let calls = code.iter().flat_map(|code| code.split("error!(").skip(1));
    let written = calls.filter_map(|arguments| literals(arguments).pop());
    let fixed = |message: String| {
        let parts = message.split('{').map(|part| part.split_once('}').map_or(part, |(_, behind)| behind));
        parts.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    written.map(fixed).filter(|message| !BARE.contains(&message.as_str())).collect()
}

/// What stands between backticks in the first column of the page's table.
fn told() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let (_, section) = page.split_once("## What an ERROR means").unwrap();
    let (table, _) = section.split_once("\n## ").unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_page_for_operators_tells_of_every_error() {
    let (messages, told) = (messages(), told());
    assert!(messages.len() > 20 && told.len() > 20, "{messages:?} {told:?}");
    let is_told = |message: &&String| told.iter().any(|phrase| phrase.len() > 8 && message.contains(phrase));
    let untold: Vec<_> = messages.iter().filter(|message| !is_told(message)).collect();
    assert!(untold.is_empty(), "docs/operating.md does not tell of {untold:#?}");
}

/// The part of docs/contract.md from one heading to the next that is not below it.
fn contract(heading: &str) -> String {
    let page = fs::read_to_string(root().join("docs/contract.md")).unwrap();
    let (_, behind) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let part = behind.split("\n## ").next().unwrap();
    let is_below = heading.starts_with("### ");
    if is_below { part.split("\n### ").next().unwrap().to_owned() } else { part.to_owned() }
}

/// What stands between backticks.
fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Fails with what only one of the two has.
#[track_caller]
fn assert_same(what: &str, page: &BTreeSet<String>, code: &BTreeSet<String>) {
    assert!(!code.is_empty(), "nothing was found in the code: {what}");
    let (page_only, code_only) = (page.difference(code), code.difference(page));
    let differ = [page_only.collect::<Vec<_>>(), code_only.collect()];
    assert!(
        differ.iter().all(Vec::is_empty),
        "{what}; only docs/contract.md has {:?}, only the code {:?}: write the page anew",
        differ[0],
        differ[1]
    );
}

/// The sources of a part, without their tests.
fn part(paths: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths.iter().map(|path| root().join("src").join(path)) {
        if path.is_dir() {
            sources(&path, &mut found);
        } else {
            let text = fs::read_to_string(path).unwrap();
            found.push(text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned());
        }
    }
    found
}

/// What a function of a type gives, as in `Type::Case => "label"`.
fn labels(of: &str, function: &str) -> BTreeSet<String> {
    let (all, head, path) = (part(&["", "../crates"]), format!("\nimpl {of} {{\n"), format!("{of}::"));
    let body = all.iter().find_map(|code| code.split_once(&*head)).unwrap().1;
    let (_, body) = body.split_once(&format!("fn {function}(self)")).unwrap();
    let cases = body.split("\n    }\n").next().unwrap().split(&*path).skip(1);
    let labels = cases.filter_map(|case| case.split_once(" => \"")?.1.split_once('"'));
    labels.map(|(label, _)| label.to_owned()).collect()
}

/// The names in the first column of the tables of a section.
fn first_column(section: &str) -> BTreeSet<String> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(ticked).map(str::to_owned).collect()
}

#[test]
fn the_contract_has_every_metric_and_every_reason_and_no_other() {
    let code = part(&["admin"]);
    let calls = code.iter().flat_map(|code| code.split("page.").skip(1));
    let arguments = calls.filter_map(|call| {
        let (method, arguments) = call.split_once('(')?;
        is_name(method).then_some(arguments)
    });
    let metrics =
        arguments.filter_map(|arguments| literals(arguments).into_iter().find(|name| is_name(name)));
    // In a list of several, a counter is known by its end.
    let listed = code
        .iter()
        .flat_map(|code| code.match_indices("_total\"").map(|(at, end)| &code[..at + end.len() - 1]));
    let listed = listed.filter_map(|before| before.rsplit('"').next()).filter(|name| is_name(name));
    let metrics = metrics.chain(listed.map(str::to_owned)).map(|name| match name.strip_prefix("process_") {
        Some(_not_ours_alone) => name,
        None => format!("braze_datadog_{name}"),
    });
    let metrics = metrics.collect();
    let page = contract("## Metrics");
    let (table, _) = page.split_once("\n### ").unwrap();
    assert_same("metrics", &first_column(table), &metrics);
    assert_same(
        "reasons of drops",
        &first_column(&contract("### Why sends are dropped")),
        &labels("DropReason", "label").union(&labels("FailureReason", "label")).cloned().collect(),
    );
    assert_same(
        "reasons of malformed events",
        &first_column(&contract("### Why events are malformed")),
        &labels("Malformed", "reason"),
    );
    let code = part(&["push/refusal.rs"]).concat();
    let (_, class) = code.split_once("fn class(&self)").unwrap();
    let class = class.split("\n    }\n").next().unwrap();
    assert_same(
        "reasons of refused pushes",
        &first_column(&contract("### Why pushes are refused")),
        &literals(class).into_iter().collect(),
    );
}

/// The help of a command; of all of them without one.
fn help(command: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_braze-datadog")).args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help lists.
fn commands_in(help: &str) -> BTreeSet<String> {
    let Some((_, listed)) = help.split_once("Commands:\n") else { return BTreeSet::new() };
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let names = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The helps of a command and of those below it.
fn helps(command: &[&str]) -> Vec<String> {
    let own = help(command);
    let below = commands_in(&own).into_iter().flat_map(|name| helps(&[command, &[&*name]].concat()));
    let below: Vec<_> = below.collect();
    [vec![own], below].concat()
}

#[test]
fn the_contract_has_every_command_and_flag_and_no_other() {
    let commands = commands_in(&help(&[]));
    let page = contract("## Commands");
    let told = ticked(&page).filter_map(|text| text.strip_prefix("braze-datadog ")).map(str::to_owned);
    let told = told.filter(|command| command != "help").collect();
    assert_same("commands", &told, &commands);

    let texts = helps(&[]);
    let flags = |text: &str| -> BTreeSet<String> {
        let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        let words = text.split(|letter: char| !is_part(letter)).filter(|word| word.len() > 3);
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    };
    // An example of a help may be of another program.
    let options =
        texts.iter().flat_map(|text| text.lines()).filter(|line| line.trim_start().starts_with('-'));
    let options = options.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    assert_same("flags", &flags(&page), &options.map(str::to_owned).collect());
}

#[test]
fn the_contract_has_every_path_and_every_key_of_the_status_and_no_other() {
    let code = part(&["admin.rs", "admin", "push.rs", "push"]);
    let paths =
        code.iter().flat_map(|code| code.split("\"/").skip(1)).filter_map(|rest| rest.split_once('"'));
    let is_path =
        |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._".contains(&byte));
    let paths = paths.filter(|(path, _)| is_path(path)).map(|(path, _)| format!("/{path}")).collect();
    let page = [contract("## HTTP: the push port"), contract("## HTTP: the admin port")].concat();
    let told = ticked(&page).flat_map(str::split_whitespace).filter(|word| word.starts_with('/'));
    let told = told.filter_map(|word| word.split('?').next()).map(str::to_owned).collect();
    assert_same("paths", &told, &paths);

    let mut code = Vec::new();
    sources(&root().join("crates/admin-api/src"), &mut code);
    // The fields of the types; one that is flattened is no key.
    let fields =
        code.iter().flat_map(|code| code.match_indices("\n    pub ").map(|(at, _)| code.split_at(at)));
    let fields = fields.filter(|(before, _)| !before.ends_with("#[serde(flatten)]"));
    let fields = fields.filter_map(|(_, field)| field.trim().strip_prefix("pub ")?.split_once(':'));
    let keys = fields.map(|(key, _)| key).filter(|key| is_name(key)).map(str::to_owned).collect();
    let page = contract("### Keys of the JSON");
    let told = ticked(&page).filter(|word| is_name(word)).map(str::to_owned).collect();
    assert_same("keys of /status and /search", &told, &keys);
}

/// The parts of a type in the code, one a line as it is formatted: fields with what they are, cases by their names.
fn parts_of<'c>(code: &'c str, head: &str) -> Vec<&'c str> {
    let (_, body) = code.split_once(&format!("\npub {head} {{\n")).unwrap_or_else(|| panic!("no {head}"));
    let (body, _) = body.split_once("\n}\n").unwrap();
    let body = body.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    let mut parts: Vec<_> = body.collect();
    // One that is flattened is no key.
    while let Some(at) = parts.iter().position(|line| *line == "#[serde(flatten)]") {
        parts.drain(at..at + 2);
    }
    parts
}

fn snake_case(name: &str) -> String {
    let one = |letter: char| {
        let parted = if letter.is_uppercase() { "_" } else { "" };
        format!("{parted}{}", letter.to_lowercase())
    };
    name.chars().map(one).collect::<String>().trim_start_matches('_').to_owned()
}

#[test]
fn the_contract_has_every_key_of_reconcile_and_no_other() {
    let code = part(&["reconcile.rs", "reconcile", "../crates/admin-api/src/reconcile.rs"]).concat();
    let types = [
        "Reconciliation",
        "ComparedSums",
        "SendsBySide",
        "ComparedObject",
        "ComparedDay",
        "UncomparedObject",
        "Difference",
    ];
    let fields = types.iter().flat_map(|name| parts_of(&code, &format!("struct {name}")));
    let fields = fields.filter_map(|field| field.strip_prefix("pub ")?.split_once(':'));
    let mut known: BTreeSet<String> = fields.map(|(key, _)| key.to_owned()).collect();
    for name in ["DifferenceReason", "UncomparedReason"] {
        let cases = parts_of(&code, &format!("enum {name}"));
        known.extend(cases.iter().map(|case| snake_case(case.trim_end_matches(','))));
    }
    let page = contract("### Keys of `reconcile`");
    let told = ticked(&page).filter(|word| is_name(word)).map(str::to_owned).collect();
    assert_same("keys of reconcile --json", &told, &known);
}

/// Every key with its section; a name that the user chooses is `NAME` in a section, and `*` as a key.
fn keys(schema: &serde_json::Value, section: &str, found: &mut BTreeSet<String>) {
    let chosen = schema["additionalProperties"].is_object().then(|| &schema["additionalProperties"]);
    let known = schema["properties"].as_object().into_iter().flatten();
    for (name, below) in
        known.map(|(name, below)| (&**name, below)).chain(chosen.map(|below| ("NAME", below)))
    {
        if below["type"] == "object" {
            let inner = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            keys(below, &inner, found);
        } else {
            found.insert(format!("[{section}] {}", if chosen.is_some() { "*" } else { name }));
        }
    }
}

#[test]
fn the_contract_has_every_key_of_the_configuration_and_no_other() {
    let mut code = BTreeSet::new();
    keys(&Config::schema(), "", &mut code);
    let page = contract("## Configuration");
    let mut told = BTreeSet::new();
    for line in page.lines() {
        let Some((section, keys)) = line.strip_prefix("- ").and_then(|line| line.split_once(": `")) else {
            continue;
        };
        let section = section.trim_matches('`');
        let section = if section == "at the top" { "[]" } else { section };
        if section.starts_with('[') {
            let keys = format!("`{keys}");
            let names = ticked(&keys).filter(|word| is_name(word) || *word == "*");
            told.extend(names.map(|name| format!("{section} {name}")));
        }
    }
    assert_same("configuration", &told, &code);
}

/// What SIGHUP changes, by the schema: `[section]` as a whole, `section.key`, or `key`.
fn reloaded(schema: &serde_json::Value, section: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        if below["x-reload"] != true {
            reloaded(below, &path, found);
        } else if below["type"] == "object" {
            found.insert(format!("[{path}]"));
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn the_contract_has_every_key_that_a_reload_takes_over_and_no_other() {
    let mut code = BTreeSet::new();
    reloaded(&Config::schema(), "", &mut code);
    let page = contract("## Signals");
    let row = page.lines().find_map(|line| line.strip_prefix("| SIGHUP | ")).unwrap();
    let (taken_over, _) = row.split_once(" change without losing a count").unwrap();
    assert_same("SIGHUP", &ticked(taken_over).map(str::to_owned).collect(), &code);
}

/// Who rotates a secret by the page has to read there where the forwarder does not see it.
#[test]
fn what_is_said_of_rotating_begins_with_where_a_new_file_is_not_seen() {
    let page = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let (_, section) = page.split_once("\n## Rotating keys and tokens\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (head, bullets) = section.split_once("\n- ").unwrap();
    for word in ["`LoadCredential`", "mounted into a container", "](#secrets-in-files)", "restart"] {
        assert!(head.contains(word), "{word} is not above what to do: {head}");
    }
    assert!(bullets.contains("**A push token**") && bullets.contains("**A certificate**"), "{bullets}");
    let (_, secrets) = page.split_once("\n## Secrets in files\n").unwrap();
    let (_, container) = secrets.split_once("\n**A container**").unwrap();
    let container = container.split_once("\n\n").unwrap().0.replace('\n', " ");
    assert!(container.contains("Mount the directory") && container.contains("in place"), "{container}");
    for file in ["Dockerfile", "deploy/compose.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains("\"Secrets in files\""), "{file} does not say where files are not seen");
    }
}

/// What a disk has to hold is told on several pages; how much it is, a test of `crates/event-queues` measures.
#[test]
fn every_page_says_the_same_of_the_disk_for_the_objects_of_buckets() {
    for (page, of) in [
        ("docs/limits.md", "| objects remembered |"),
        ("docs/operating.md", "`objects-v1.redb`, in `queue.storage.state_directory`"),
        ("docs/configuration.md", "| `queue.storage.state_directory` |"),
        ("docs/queues.md", "a record of"),
    ] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let line = text.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("{page}: no {of}"));
        assert!(line.to_lowercase().contains("half a kilobyte"), "{page}: {line}");
    }
}
