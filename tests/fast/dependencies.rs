//! The table in docs/dependencies.md says what is in Cargo.toml, and what each of them costs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What the table's head begins with.
const TABLE: &str = "| crate |";

/// What a crate brings into a release build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// Crates that would go if it went, itself among them.
    alone: usize,
    /// Crates at or below it, shared ones too.
    all: usize,
}

/// Who depends on whom, by name; one entry for each crate.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The names in `[dependencies]`, which are those of other authors and of our own crates.
fn direct(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.split("\n[").next().unwrap().lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| Some(line.split_once('=')?.0.trim().trim_end_matches(".workspace").to_owned());
    lines.filter_map(name).collect()
}

/// What our crates depend on together, themselves left out.
fn direct_of_all() -> BTreeSet<String> {
    let crates = std::fs::read_dir(format!("{}/crates", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let ours: Vec<String> = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut all = direct(&read("Cargo.toml"));
    all.extend(ours.iter().flat_map(|name| direct(&read(&format!("crates/{name}/Cargo.toml")))));
    all.retain(|name| !ours.contains(name));
    all
}

/// Reads what `cargo tree --prefix depth --format " {p}"` prints: a crate's depth before its name, what is below
/// it behind it, and that only where it comes first. Versions are left out: there is one of each.
fn graph(tree: &str) -> Graph {
    let mut graph = Graph::new();
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let depth: usize = words.next().unwrap().parse().unwrap();
        let name = words.next().unwrap().to_owned();
        above.truncate(depth);
        if let Some(parent) = above.last() {
            graph.get_mut(parent).unwrap().insert(name.clone());
        }
        graph.entry(name.clone()).or_default();
        above.push(name);
    }
    graph
}

/// The crates at or below these.
fn reached<'g>(graph: &'g Graph, from: impl Iterator<Item = &'g String>) -> BTreeSet<&'g String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = from.collect();
    while let Some(name) = open.pop() {
        if reached.insert(name) {
            open.extend(&graph[name]);
        }
    }
    reached
}

fn cost(graph: &Graph, direct: &BTreeSet<String>, name: &String) -> Cost {
    let whole = reached(graph, direct.iter());
    let rest = reached(graph, direct.iter().filter(|other| *other != name));
    Cost { alone: whole.len() - rest.len(), all: reached(graph, std::iter::once(name)).len() }
}

/// The rows of the table: the name, and the last cell.
fn rows(document: &str) -> BTreeMap<String, String> {
    let table = document.lines().skip_while(|line| !line.starts_with(TABLE)).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "an empty cell: {line}");
        (cells[0].trim_matches('`').to_owned(), cells[3].to_owned())
    });
    rows.collect()
}

/// What the table must say and does not.
fn differences(document: &str, graph: &Graph, direct: &BTreeSet<String>) -> Vec<String> {
    let mut rows = rows(document);
    let mut differences = Vec::new();
    let whole = format!("{} crates", reached(graph, direct.iter()).len());
    if !document.contains(&whole) {
        differences.push(format!("a release is made of {whole}"));
    }
    for name in direct {
        let Cost { alone, all } = cost(graph, direct, name);
        let expected = format!("{alone} of {all}");
        match rows.remove(name) {
            Some(cell) if cell == expected => {}
            Some(cell) => differences.push(format!("{name} brings {expected}, not {cell}")),
            None => differences.push(format!("{name} has no row; it brings {expected}")),
        }
    }
    differences.extend(rows.into_keys().map(|name| format!("{name} is no dependency any more")));
    differences
}

#[test]
fn the_table_of_dependencies_is_true() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--all-features",
            "--edges",
            "normal,build",
            "--prefix",
            "depth",
        ])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", " {p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let graph = graph(&String::from_utf8(tree.stdout).unwrap());
    // What only tests have is not in a release.
    let mut direct = direct_of_all();
    direct.retain(|name| graph.contains_key(name));
    let found = differences(&read("docs/dependencies.md"), &graph, &direct);
    assert!(found.is_empty(), "the table in docs/dependencies.md is out of date:\n{}", found.join("\n"));
}

#[test]
fn costs_are_counted_and_a_stale_row_is_seen() {
    let tree = "0 us v0.1.0 (/here)\n1 a v1.0.0\n2 x v1.0.0\n3 y v1.0.0\n2 own v1.0.0 (proc-macro)\n1 b v1.0.0\n2 x v1.0.0 (*)\n";
    let graph = graph(tree);
    let manifest = "[package]\nname = \"us\"\n\n[dependencies]\n# Why.\na = \"1\"\n# Why.\nb = { version = \"1\" }\n\n[features]\nc = []\n";
    let direct = direct(manifest);
    assert_eq!(cost(&graph, &direct, &"a".to_owned()), Cost { alone: 2, all: 4 });
    assert_eq!(cost(&graph, &direct, &"b".to_owned()), Cost { alone: 1, all: 3 });
    let table = |rows: &str| {
        format!("5 crates\n| crate | for | why | brings |\n|---|---|---|---:|\n{rows}\n\n| else |\n")
    };
    let row = |name: &str, brings: &str| format!("| `{name}` | for | why | {brings} |\n");
    let good = [row("a", "2 of 4"), row("b", "1 of 3")].concat();
    assert_eq!(differences(&table(good.trim_end()), &graph, &direct), Vec::<String>::new());
    let stale = [row("a", "3 of 4"), row("gone", "1 of 1")].concat();
    assert_eq!(
        differences(&table(stale.trim_end()), &graph, &direct),
        ["a brings 2 of 4, not 3 of 4", "b has no row; it brings 1 of 3", "gone is no dependency any more"]
    );
}
