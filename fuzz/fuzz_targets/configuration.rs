//! No text of a configuration makes it panic; every diagnostic says where it is and what about; a key that is planted
//! anywhere as a value is found nowhere.
//!
//! An input is a configuration file. A comment `#env NAME=VALUE` in it is a variable of the environment. Wherever
//! `"@"` stands, or a variable has the value `@`, the planted key is put in its place.
#![no_main]

use std::path::Path;

use braze_datadog::config::{Config, Diagnostic, describe, redacted};
use libfuzzer_sys::fuzz_target;

/// Looks like an API key.
const PLANTED: &str = "0123456789abcdef0123456789abcdef";
const FILE: &str = "/nowhere/braze-datadog.toml";

fuzz_target!(|text: &str| {
    // Files that a configuration names are read, and of all files only those that are not there are safe.
    if text.contains('/') {
        return;
    }
    let env: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#env ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), if value == "@" { PLANTED } else { value }.to_owned()))
        .collect();
    let text = text.replace("\"@\"", &format!("\"{PLANTED}\""));
    match Config::parse(&text, Path::new(FILE), &env) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(is_told);
            is_hidden(&describe(&config));
            is_hidden(&format!("{:?}", redacted(&config, &config)));
            is_hidden(&format!("{config:?}"));
            assert!(!config.connections.active.is_empty() && !config.events_count.is_empty());
        }
        Err(error) => {
            assert!(!error.diagnostics.is_empty());
            error.diagnostics.iter().for_each(is_told);
            is_hidden(&error.to_string());
            is_hidden(&format!("{error:?}"));
        }
    }
});

/// A diagnostic names the file or the variable, the key unless it is about the whole, and a reason.
fn is_told(diagnostic: &Diagnostic) {
    let origin = &diagnostic.origin;
    let is_variable = origin.starts_with("environment variable ");
    assert!(origin == FILE || is_variable, "{diagnostic}");
    assert!(!diagnostic.reason.is_empty(), "{diagnostic}");
    is_hidden(&diagnostic.to_string());
}

fn is_hidden(text: &str) {
    assert!(!text.contains(PLANTED), "the key is shown: {text}");
}
