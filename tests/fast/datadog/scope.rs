//! What a monitor is narrowed to: names, ids and tags, none of which is silently another one.

use std::fs;

use super::{printed, query_of, refused};

const NEWSLETTER: [&str; 4] = ["--campaign-id", "c1", "--max", "5"];

/// `=`, for a tag may begin as an option does.
fn option(tag: &str) -> String {
    format!("--tag={tag}")
}

#[test]
fn a_tag_that_would_become_another_filter_is_refused_with_what_to_write() {
    for (tag, parts) in [
        ("!env:test", &["'!'", "env:test"][..]),
        ("-env:test", &["'-'", "env:test"]),
        ("env:prod*", &["'*'", "env:prod"]),
        ("env:prod,team:crm", &["','", "--tag again"]),
        ("env:prod OR env:stage", &["white space"]),
        ("NOT env:test", &["white space"]),
        ("env:(prod)", &["'('"]),
        ("app_group_name:Acme Corp", &["white space", "app_group_name:acme_corp"]),
        ("campaign_name:[REDACTED]", &["never sent"]),
        ("env:🎉", &["KEY:VALUE"]),
    ] {
        let said = refused(&[&NEWSLETTER[..], &[&option(tag)]].concat());
        assert!(parts.iter().chain(&[tag]).all(|part| said.contains(part)), "{tag}: {said}");
    }
    for (tag, stored) in [
        ("env:prod", "env:prod"),
        ("Env:Prod", "env:prod"),
        ("env:pre-prod", "env:pre-prod"),
        ("env:a:b/c.d", "env:a:b/c.d"),
        ("app_group_name:acme_corp", "app_group_name:acme_corp"),
    ] {
        let query = query_of(&[&NEWSLETTER[..], &[&option(tag)]].concat());
        assert!(query.contains(&format!("{{campaign_id:c1,{stored}}}")), "{tag}: {query}");
    }
}

#[test]
fn a_tag_that_the_connection_does_not_send_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let text = "[tags]\ninclude = [\"campaign_id\", \"canvas_step_id\"]\nstatic = [\"Env:Prod\", \"team:crm\"]\n\
                [connections.acme]\ndry_run = true\n";
    fs::write(&path, text).unwrap();
    let configured = [&NEWSLETTER[..], &["--config", path.to_str().unwrap()]].concat();
    for (tag, part) in [
        ("channel:email", "no tag channel"),
        ("app_group_id:G1", "no tag app_group_id"),
        ("region:eu", "no tag region"),
        ("env:stage", "tags.static has env:prod"),
    ] {
        let said = refused(&[&configured[..], &[&option(tag)]].concat());
        assert!(said.contains("acme") && said.contains(part), "{tag}: {said}");
    }
    for tag in ["env:prod", "ENV:Prod", "canvas_step_id:s1", "overflow:true"] {
        printed(&[&configured[..], &[&option(tag)]].concat());
    }
}

#[test]
fn who_is_watched_by_name_is_told_what_has_none() {
    for arguments in [
        &["--campaign", "A", "--min", "5"][..],
        &["--campaign", "A", "--expect", "daily 08:00 UTC"],
        &["--canvas", "A", "--max", "5"],
        &["--canvas-id", "c1", "--step", "A", "--rise", "5"],
        &["--every", "step", "--max", "5", "--tag", "campaign_name:a"],
    ] {
        let (_, said) = printed(arguments);
        assert!(
            said.contains("note:") && said.contains("first hour") && said.contains("_id"),
            "{arguments:?}: {said}"
        );
    }
    for arguments in [
        &["--campaign-id", "A", "--min", "5"][..],
        &["--every", "step", "--max", "5", "--tag", "app_group_name:acme"],
    ] {
        assert_eq!(printed(arguments).1, "", "{arguments:?}");
    }
    for what in ["--campaign", "--canvas", "--step", "--campaign-id", "--step-id"] {
        let said = refused(&[what, "[REDACTED]", "--min", "5"]);
        assert!(said.contains("\"[REDACTED]\"") && said.contains("never sent"), "{said}");
    }
}

#[test]
fn a_height_that_no_point_can_have_is_refused() {
    for (what, largest) in [("queue", "16777215"), ("bucket-lag", "16777215"), ("drops", "9007199254740992")]
    {
        printed(&["--forwarder", what, "--max", largest]);
    }
    for what in ["queue", "bucket-lag"] {
        let said = refused(&["--forwarder", what, "--max", "16777216"]);
        assert!(said.contains("--max") && said.contains("16777215"), "{said}");
    }
}

#[test]
fn what_was_sent_in_time_has_arrived_when_it_is_looked_for() {
    for arguments in
        [&["--campaign-id", "c1", "--min", "5"][..], &["--step-id", "s1", "--min", "5", "--window", "15m"]]
    {
        let (monitor, _) = printed(arguments);
        assert_eq!(monitor["options"]["evaluation_delay"], 1800, "{monitor:#}");
        let message = monitor["message"].as_str().unwrap();
        assert!(message.contains("ended 30 minutes ago"), "{message}");
    }
    // A surge is told at once.
    assert!(printed(&NEWSLETTER).0["options"].get("evaluation_delay").is_none());
}
