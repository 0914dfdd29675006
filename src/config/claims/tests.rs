use std::fs;

use super::super::{Config, Purpose};
use crate::connection::{Connection, RefusedConnection};

/// A configuration of a main file and files of the directory, over what is in force.
fn read(main: &str, files: &[(&str, &str)], in_force: &[Connection]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("d").join(name), text).unwrap();
    }
    let text = format!("connections_directory = \"d\"\n{main}");
    Config::parse_over(&text, &folder.path().join("a.toml"), &[], Purpose { in_force, ..Purpose::default() })
        .unwrap()
        .0
}

fn serving(ids: &str) -> String {
    format!("dry_run = true\napp_group_ids = [{ids}]\n")
}

fn names(config: &Config) -> (Vec<&str>, Vec<&str>) {
    let active = config.connections.active.iter().map(|one| &*one.name);
    (active.collect(), config.connections.refused.iter().map(|one| &*one.name).collect())
}

const OTHER: &str = "[connections.other]\ndry_run = true\napp_group_ids = [\"o\"]\n";

#[test]
fn an_app_group_stays_with_whom_it_is_and_the_main_file_goes_before_the_directory() {
    let (x, y) = (serving("\"x\""), serving("\"y\", \"x\""));
    let files = [("a.toml", &*x), ("b.toml", &*y)];
    let before = read(OTHER, &files[1..], &[]).connections.active;
    assert_eq!(names(&read(OTHER, &files, &before)), (vec!["b", "other"], vec!["a"]));
    // Where nothing says whose it is, nobody gets it.
    let neither = read(OTHER, &files, &[]);
    assert_eq!(names(&neither), (vec!["other"], vec!["a", "b"]));
    let reasons = |refused: &RefusedConnection| refused.reason.clone();
    let [a, b] = &neither.connections.refused[..] else { panic!("two are refused") };
    assert!(reasons(a).contains("\"a\" and \"b\"") && reasons(a) == reasons(b), "{a:?} {b:?}");
    let main = format!("[connections.z]\n{x}");
    assert_eq!(names(&read(&main, &files[..1], &[])), (vec!["z"], vec!["a"]));
    // One that is wrong itself takes nothing from anybody.
    let wrong = format!("siet = 1\n{x}");
    assert_eq!(names(&read(OTHER, &[("a.toml", &wrong), ("b.toml", &y)], &[])).1, ["a"]);
}

#[test]
fn a_second_one_that_lists_no_app_groups_takes_the_rest_from_nobody() {
    let main = format!("[connections.rest]\ndry_run = true\n{OTHER}");
    let config = read(&main, &[("a.toml", "dry_run = true")], &[]);
    assert_eq!(names(&config), (vec!["other", "rest"], vec!["a"]));
    assert_eq!(config.connections.refused[0].app_group_ids, Some(Vec::new()));
}

#[test]
fn the_app_groups_of_a_connection_that_is_left_out_are_known_where_they_can_be_made_out() {
    let of = |text: &str| read(OTHER, &[("a.toml", text)], &[]).connections.refused[0].app_group_ids.clone();
    let one = Some(vec!["x".into()]);
    assert_eq!(of("app_group_ids = [\"x\"]\nurll = 1"), one);
    assert_eq!(of("app_group_ids = [\"x\"]\napi_key_file = \"./none\"\nsite = \"EU1\""), one);
    assert_eq!(of("app_group_ids = [\"x\"]\nsite = EU1"), one, "no TOML, and still to be made out");
    assert_eq!(of("site = \"EU1\napp_group_ids = [\"x\"]"), one);
    for torn in [
        "app_group_ids = [\"x\" \"y\"\nsite = \"EU1\"",
        "app_group_ids = [\"x\", \"y, \"z\"]\nsite = \"EU1\"",
        "site = \"EU1\"\napp_group_ids = [\"x\", \"yyyy-zz",
        "site = \"EU1\"\napp_group_ids = [\"x\", \"y\",",
        "app_group_ids = [\"x\" \"y\"]",
    ] {
        assert_eq!(of(torn), None, "{torn}: others may be meant, too");
    }
    assert_eq!(of("app_group_id = [\"x\"]\ndry_run = true"), None);
    assert_eq!(of("app_group_ids = \"x\"\ndry_run = true"), None);
    assert_eq!(of("site = EU1"), None);
}

#[test]
fn a_name_that_can_be_none_is_shown_nowhere() {
    const PLANTED: &str = super::super::tests::PLANTED;
    let (first, second) = (format!("{PLANTED}.toml"), "Acme.toml");
    let config = read(OTHER, &[(&first, &serving("\"x\"")), (second, &serving("\"y\""))], &[]);
    let [refused] = &config.connections.refused[..] else { panic!("both are one") };
    assert_eq!(
        (&*refused.name, refused.app_group_ids.as_deref()),
        ("_misnamed", Some(&["x".into(), "y".into()][..]))
    );
}
