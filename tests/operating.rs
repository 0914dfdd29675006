//! The page for operators tells what each ERROR means.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

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
        } else if path.extension().is_some_and(|extension| extension == "rs") {
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
