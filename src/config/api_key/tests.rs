use super::super::Config;
use super::super::tests::{PLANTED, assert_one, errors, parse_with, warnings};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn acme(keys: &str) -> String {
    format!("[connections.acme]\n{keys}\n")
}

#[test]
fn a_key_comes_from_one_place() {
    for (keys, parts) in [
        ("", &["connections.acme: has no API key", "api_key_file", "dry_run = true"][..]),
        ("api_key_env = \"NOT_SET\"", &["connections.acme.api_key_env", "\"NOT_SET\" is not set"]),
        ("api_key_file = \"./k\"", &["connections.acme.api_key_file: /nowhere/./k does not exist"]),
        (
            "api_key_file = \"k\"\napi_key_env = \"E\"",
            &["connections.acme.api_key_env: is set, and so is api_key_file (/nowhere/a.toml)"],
        ),
        ("api_key = \"a b\"", &["connections.acme.api_key", "white space"]),
        ("api_key = \"a\\u0001b\"", &["connections.acme.api_key", "control characters"]),
        ("api_key = \"clé\"", &["connections.acme.api_key"]),
        ("api_key = \"  \"", &["connections.acme.api_key", "is empty"]),
    ] {
        assert_one(&errors(&acme(&format!("site = \"EU1\"\n{keys}"))), parts);
    }
    let text = acme("site = \"EU1\"\napi_key_env = \"KEY\"");
    let (config, warnings) = parse_with(&text, &[("KEY", &format!(" {PLANTED}\n"))]).unwrap();
    assert_eq!(config.connections.active[0].api_key.expose(), PLANTED);
    assert_eq!(warnings, Vec::<String>::new());
    let both = [("BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY", PLANTED), ("KEY", PLANTED)];
    let diagnostics = parse_with(&text, &both).unwrap_err();
    assert_one(
        &diagnostics,
        &["environment variable BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY", "so is api_key_env"],
    );
}

#[test]
fn a_key_that_looks_wrong_is_a_warning_that_does_not_show_it() {
    let application_key = format!("{PLANTED}01234567");
    for (key, part) in [("planted-key", "this has 11 characters"), (&*application_key, "application key")] {
        let diagnostics = warnings(&acme(&format!("site = \"EU1\"\napi_key = \"{key}\"")));
        assert_one(&diagnostics, &["connections.acme.api_key", part]);
        assert!(!diagnostics[0].contains(key), "{diagnostics:?}");
    }
}

#[test]
fn key_files_are_read_and_their_mode_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme.key");
    let text = acme("site = \"EU1\"\napi_key_file = \"acme.key\"");
    let load = || Config::parse(&text, &folder.path().join("a.toml"), &[]);

    fs::write(&path, format!("{PLANTED}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (config, warnings) = load().unwrap();
    assert_eq!(config.connections.active[0].api_key.expose(), PLANTED);
    assert_eq!(warnings, []);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, warnings) = load().unwrap();
    assert!(warnings[0].reason.contains("open to every user"), "{warnings:?}");
    assert_eq!(warnings[0].key, "connections.acme.api_key_file");

    let quoted = format!("\"{PLANTED}\"\n");
    let marked = format!("\u{feff}{PLANTED}\r\n");
    let parted = PLANTED.replace('8', " 8");
    let unseen = format!("{PLANTED}\u{200b}");
    let long = vec![b'a'; 70_000];
    for (content, part) in [
        (&b" \n"[..], "is empty"),
        (b"one\ntwo\n", "several lines"),
        (quoted.as_bytes(), "quotation marks"),
        (marked.as_bytes(), "byte order mark"),
        (parted.as_bytes(), "white space in the middle"),
        (unseen.as_bytes(), "can't be seen"),
        (b"\xff\xfe", "is not UTF-8"),
        (&long, "probably another file"),
    ] {
        fs::write(&path, content).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("acme.key"), "{error}");
        assert!(!error.contains("01234567"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let Ok(content) = String::from_utf8(content.to_owned()) else { continue };
        let from_environment = acme("site = \"EU1\"\napi_key_env = \"KEY\"");
        let in_environment = parse_with(&from_environment, &[("KEY", &content)]);
        let escaped = content
            .chars()
            .fold(String::new(), |escaped, letter| escaped + &format!("\\u{:04x}", u32::from(letter)));
        let in_place = parse_with(&acme(&format!("site = \"EU1\"\napi_key = \"{escaped}\"")), &[]);
        if part != "probably another file" {
            assert_one(&in_environment.unwrap_err(), &["connections.acme.api_key_env", "KEY", part]);
            assert_one(&in_place.unwrap_err(), &["connections.acme.api_key: the key", part]);
        }
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(load().unwrap_err().to_string().contains("is not a regular file"));
}

#[test]
fn a_folder_that_is_named_by_a_hash_hides_no_fault_of_a_file_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join(format!("{PLANTED}01234567"));
    fs::create_dir(&base).unwrap();
    let load = |text: &str| {
        let read = Config::parse(text, &base.join("a.toml"), &[]);
        read.and_then(|(config, _)| config.require_all()).map_err(|error| error.to_string())
    };
    let right = base.join("acme.key").display().to_string();
    let key = |path: &str| acme(&format!("site = \"EU1\"\napi_key_file = \"{path}\""));
    let rest = |path: &str| {
        let braze = "braze_url = \"https://rest.fra-01.braze.eu\"";
        format!("[reconcile]\n{braze}\nbraze_key_file = \"{path}\"\n{}", acme("dry_run = true"))
    };
    let option = |path: &str| {
        let option = format!("[queue.kafka.options]\n\"sasl.password.file\" = \"{path}\"\n");
        format!("{option}{}", acme("dry_run = true"))
    };
    for path in ["./acme.key", "acme.key", &right] {
        for (text, name) in
            [(key(path), "api_key_file"), (rest(path), "braze_key_file"), (option(path), "password.file")]
        {
            let error = load(&text).unwrap_err();
            let is_told = error.contains(name) && error.contains("does not exist");
            assert!(is_told && error.lines().count() == 1, "{path}: {error}");
        }
    }
    fs::write(&right, b"\xff\xfe").unwrap();
    assert!(load(&key("acme.key")).unwrap_err().contains("is not UTF-8"));
    fs::write(&right, PLANTED).unwrap();
    for path in ["./acme.key", "acme.key", &right] {
        let config = load(&key(path)).unwrap();
        assert_eq!(config.connections.active[0].api_key.expose(), PLANTED, "{path}");
        load(&option(path)).unwrap();
    }
    // A key in the place of its file is told as one, and not shown, however it is written.
    for path in [PLANTED.to_owned(), format!("./{PLANTED}"), format!("/{PLANTED}/"), format!("{PLANTED}/k")] {
        let error = load(&key(&path)).unwrap_err();
        assert!(error.contains("looks like a key itself") && error.lines().count() == 1, "{error}");
        assert_eq!(error.matches(PLANTED).count(), 1, "in the name of the folder alone: {error}");
    }
    // The directory of connections by its name in the file, too, and by its whole path.
    fs::create_dir(base.join("conns")).unwrap();
    fs::write(base.join("conns/acme.toml"), "dry_run = true").unwrap();
    for directory in ["conns", "./conns", &base.join("conns").display().to_string()] {
        load(&format!("connections_directory = \"{directory}\"")).unwrap();
    }
    let error = load(&format!("connections_directory = \"{PLANTED}\"")).unwrap_err();
    assert!(error.contains("looks like an API key"), "{error}");
}

#[test]
fn a_key_in_a_file_that_everybody_can_read_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, acme(&format!("site = \"EU1\"\napi_key = \"{PLANTED}\""))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let (_, warnings) = Config::load(&path).unwrap();
    assert!(warnings[0].reason.contains("open to every user"), "{warnings:?}");
}
