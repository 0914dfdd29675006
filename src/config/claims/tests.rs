use std::fs;

use super::super::{Config, ConfigError, Purpose};
use crate::connection::{Connection, ConnectionSet, RefusedConnection};

/// A configuration of a main file and files of the directory, over what is in force.
fn read(main: &str, files: &[(&str, &str)], in_force: &[Connection]) -> Config {
    read_with(main, files, &[], in_force)
}

fn read_with(
    main: &str,
    files: &[(&str, &str)],
    env: &[(String, String)],
    in_force: &[Connection],
) -> Config {
    read_from(main, files, env, in_force).unwrap()
}

fn read_from(
    main: &str,
    files: &[(&str, &str)],
    env: &[(String, String)],
    in_force: &[Connection],
) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("d").join(name), text).unwrap();
    }
    let text = format!("connections_directory = \"d\"\n{main}");
    let purpose = Purpose { in_force, ..Purpose::default() };
    Config::parse_over(&text, &folder.path().join("a.toml"), env, purpose).map(|(config, _)| config)
}

fn serving(ids: &str) -> String {
    format!("dry_run = true\napp_group_ids = [{ids}]\n")
}

fn names(config: &Config) -> (Vec<&str>, Vec<&str>) {
    let active = config.connections.active.iter().map(|one| &*one.name);
    (active.collect(), config.connections.refused.iter().map(|one| &*one.name).collect())
}

const OTHER: &str = "[connections.other]\ndry_run = true\napp_group_ids = [\"o\"]\n";

/// What is right beside it is taken, and what was removed is gone.
#[test]
fn where_every_connection_is_wrong_those_in_force_go_on_as_they_were() {
    let (x, y) = (serving("\"x\""), serving("\"y\""));
    let before = read("", &[("acme.toml", &x), ("b.toml", &y)], &[]).connections;
    for wrong in ["dry_run =\n", "dry_run = true\nsiet = 1\n", "dry_run = true\nmetric = \"9\"\n", ""] {
        let mut set = read("", &[("acme.toml", wrong)], &before.active).connections;
        assert_eq!((set.active.len(), &*set.refused[0].name), (0, "acme"), "{wrong}");
        set.keep_old(&before);
        assert_eq!(set.active, before.active[..1], "{wrong}");
    }
    // One that was not in force is none that goes on, and where there is none nothing does; nor does anything at a start.
    let slip = [("acme.toml", "dry_run =\n")];
    for (files, in_force) in [(&slip[..], &before.active[1..]), (&[], &before.active), (&slip, &[])] {
        assert!(read_from("", files, &[], in_force).is_err());
    }
}

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
    // Right or wrong, or in two places.
    let unknown = format!("[connections.z]\nsiet = 1\n{x}\n{OTHER}");
    assert_eq!(names(&read(&unknown, &files[..1], &[])), (vec!["other"], vec!["a", "z"]));
    let (main, twice) = (format!("{main}\n{OTHER}"), [("a.toml", &*x), ("z.toml", "dry_run = true")]);
    assert_eq!(names(&read(&main, &twice, &[])), (vec!["other"], vec!["a", "z"]));
    // One of the directory that is wrong itself takes nothing from anybody.
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

/// The app groups of the connection acme, which is left out.
fn wanted_by_acme(main: &str, files: &[(&str, &str)]) -> Option<Vec<Box<str>>> {
    let config = read(main, files, &[]);
    let acme = config.connections.refused.into_iter().find(|one| &*one.name == "acme");
    acme.unwrap_or_else(|| panic!("{files:?}: acme is in force")).app_group_ids
}

#[test]
fn app_groups_that_are_not_all_known_may_be_any() {
    let rest = "[connections.rest]\ndry_run = true\n";
    for text in [
        "[connections.acme]\ndry_run = true\napp_group_ids = [\"x\"]",
        "dry_run = true\n[app_group_names]\n\"x\" = \"X\"\napp_group_ids = [\"x\"]",
        "dry_run = true\napp_group_ids = [\"x\"]\n[app_group_names]\napp_group_ids = [\"y\"]",
        "dry_run = true\napp_group_ids = [\"{x}\"]",
        "dry_run = true\napp_group_ids = [\"y\", \"x \"]",
        "dry_run = true\napp_group_ids = [\"y\"]\napp_group_ids = [\"y\", \"x\"]",
        "dry_run = true\nworkspaces = [\"x\"]",
        "site = EU1\napp_group_ids = [\"x \"]",
        "",
    ] {
        assert_eq!(wanted_by_acme(rest, &[("acme.toml", text)]), None, "{text}");
    }
    let known = "dry_run = true\napp_group_ids = [\"x\"]\n";
    for text in [format!("{known}urll = 1"), format!("{known}[app_group_names]\n\"{{x}}\" = \"X\"")] {
        assert_eq!(wanted_by_acme(rest, &[("acme.toml", &text)]), Some(vec!["x".into()]), "{text}");
    }
}

#[test]
fn a_connection_in_two_places_may_be_meant_to_serve_the_app_groups_of_both() {
    let both = |main: &str, file: &str| {
        let main = format!("[connections.rest]\ndry_run = true\n[connections.acme]\ndry_run = true\n{main}");
        wanted_by_acme(&main, &[("acme.toml", file)])
    };
    let (x, z) = (serving("\"x\""), "app_group_ids = [\"z\"]");
    assert_eq!(both(z, &x), Some(vec!["x".into(), "z".into()]));
    assert_eq!(both(z, &format!("{x}this is no TOML")), Some(vec!["x".into(), "z".into()]));
    for (main, file) in [
        ("", &*x),
        (z, "dry_run = true"),
        (z, "app_group_ids = [\"x\""),
        ("app_group_ids = [\"{z}\"]", &x),
        ("app_group_ids = \"z\"", &x),
    ] {
        assert_eq!(both(main, file), None, "{main} {file}");
    }
}

#[test]
fn one_that_becomes_wrong_keeps_its_app_groups_and_one_that_is_removed_does_not() {
    let x = serving("\"x\"");
    let before = read(OTHER, &[("acme.toml", &x)], &[]).connections.active;
    for wrong in [
        "dry_run = \napp_group_ids = [\"x\"]",
        "dry_run = \n",
        "",
        "dry_run = true\nworkspaces = [\"x\"]",
        "dry_run = true\napp_group_ids = [\"{x}\"]",
        "site = \"EU1\"\napi_key_file = \"./none\"\napp_group_ids = [\"x\"]",
        "[connections.acme]\ndry_run = true\napp_group_ids = [\"x\"]",
    ] {
        let config = read(OTHER, &[("acme.toml", wrong), ("b.toml", &x)], &before);
        assert_eq!(names(&config), (vec!["other"], vec!["acme", "b"]), "{wrong}");
        let mut set = config.connections;
        set.keep_old(&before.clone().into());
        let kept: Vec<_> = set.active.iter().map(|one| (&*one.name, one.app_group_ids.join(","))).collect();
        assert_eq!(kept, [("acme", "x".to_owned()), ("other", "o".to_owned())], "{wrong}");
    }
    // So it does where its new form goes without it, and where there is none.
    let given_up = "urll = 1\ndry_run = true\napp_group_ids = [\"y\"]";
    assert_eq!(names(&read(OTHER, &[("acme.toml", given_up), ("b.toml", &x)], &before)).0, ["b", "other"]);
    assert_eq!(names(&read(OTHER, &[("b.toml", &x)], &before)), (vec!["b", "other"], vec![]));
}

#[test]
fn what_is_new_beside_an_id_that_is_none_goes_to_nobody_while_the_old_form_stays() {
    let old: ConnectionSet = read(OTHER, &[("acme.toml", &serving("\"x\""))], &[]).connections;
    let wrong = serving("\"x\", \"y\", \"{z}\", \"o\"");
    let mut set = read(OTHER, &[("acme.toml", &wrong)], &old.active).connections;
    set.keep_old(&old);
    let [acme] = &set.refused[..] else { panic!("{:?}", set.refused) };
    assert_eq!((acme.keeps_old, acme.app_group_ids.clone()), (true, Some(vec!["y".into(), "z".into()])));
}

#[test]
fn one_that_serves_the_rest_keeps_it_while_it_is_wrong() {
    let before = read(OTHER, &[("acme.toml", "dry_run = true")], &[]).connections.active;
    for wrong in ["dry_run = ", "site = \"EU1\"\napi_key_file = \"./none\""] {
        let config = read(OTHER, &[("acme.toml", wrong), ("b.toml", "dry_run = true")], &before);
        assert_eq!(names(&config), (vec!["other"], vec!["acme", "b"]), "{wrong}");
    }
}

#[test]
fn a_mistake_in_the_comparison_with_braze_takes_no_app_group_away() {
    let slip = "[connections.acme.reconcile]\nbraze_ky_file = \"k\"\n";
    let (x, acme) = (serving("\"x\""), "[connections.acme]\n");
    let main = format!("{OTHER}{acme}{x}{slip}");
    assert_eq!(names(&read(&main, &[("b.toml", &x)], &[])), (vec!["acme", "other"], vec!["b"]));
    let main = format!("{OTHER}{acme}dry_run = true\n{slip}");
    assert_eq!(names(&read(&main, &[("b.toml", "dry_run = true")], &[])), (vec!["acme", "other"], vec!["b"]));
    let before = read(OTHER, &[("acme.toml", &x)], &[]).connections.active;
    let wrong = format!("{x}[reconcile]\nbraze_ky_file = \"k\"\n");
    let config = read(OTHER, &[("acme.toml", &wrong), ("b.toml", &x)], &before);
    assert_eq!(names(&config), (vec!["acme", "other"], vec!["b"]));
}

#[test]
fn one_that_is_wrong_and_lists_no_app_groups_claims_nothing() {
    let main = "[connections.rest]\ndry_run = true\n";
    for wrong in ["[connections.acme]\ndry_run = true\napp_group_ids = [\"x\"]", "dry_run = true\nurll = 1"] {
        let config = read(main, &[("acme.toml", wrong)], &[]);
        let reason = &config.connections.refused[0].reason;
        assert_eq!((reason.lines().count(), reason.contains("both serve")), (1, false), "{reason}");
    }
}

#[test]
fn a_connection_of_environment_variables_goes_before_the_directory() {
    let env = [("DRY_RUN", "true"), ("APP_GROUP_IDS", "x")];
    let env = env.map(|(key, value)| (format!("BRAZE_DATADOG__CONNECTIONS__ACME__{key}"), value.to_owned()));
    let config = read_with(OTHER, &[("b.toml", &serving("\"x\""))], &env, &[]);
    assert_eq!(names(&config), (vec!["acme", "other"], vec!["b"]));
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
