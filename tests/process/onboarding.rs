//! `braze-datadog connections`: a customer in one command, whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::support;
use crate::support::forwarder::{Configuration, Finished, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use serde_json::{Value, json};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";

/// A configuration with a directory in which there is one connection.
fn with_one(intake: &Intake) -> (Configuration, PathBuf) {
    let configuration = Configuration::new();
    let directory = configuration.home().join("connections");
    fs::create_dir(&directory).unwrap();
    let first = format!("url = \"{}\"\napi_key = \"{KEY}\"\napp_group_ids = [\"g-first\"]\n", intake.url());
    fs::write(directory.join("first.toml"), first).unwrap();
    let configuration = configuration.text("connections_directory", directory.to_str().unwrap());
    (configuration, directory)
}

/// `connections …`, with a key on standard input.
async fn connections(configuration: &Configuration, key: &str, arguments: &[&str]) -> Finished {
    let arguments = [&["connections"], arguments].concat();
    configuration.clone().standard_input(key).run_with_config_last(&arguments).await
}

fn files(directory: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn push(forwarder: &Forwarder, id: &str, app_group: &str) {
    let event = json!({
        "event_type": "users.messages.email.Send",
        "id": id,
        "time": support::unix_now(),
        "properties": { "app_group_id": app_group },
    });
    forwarder.push_accepted(json!({ "events": [event] }).to_string()).await;
}

fn sends(intake: &Intake, key: &str) -> u64 {
    intake.sums_of(key).values().sum()
}

#[tokio::test]
async fn a_customer_is_added_rotated_and_removed_while_the_forwarder_runs() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let forwarder = configuration.start().await;
    let url = intake.url();
    let add = ["add", "acme", "--app-group", "g-acme", "--url", &url, "--json"];
    let added = connections(&configuration, &format!("{KEY}\n"), &add).await;
    assert!(added.status.success(), "{}", added.stderr);
    let told: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!((&told["connection"], &told["forwarder"]), (&json!("acme"), &json!("in_force")), "{told}");
    assert_eq!(files(&directory), ["acme.key", "acme.toml", "first.toml"]);
    let mode = fs::metadata(directory.join("acme.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    push(&forwarder, "1", "g-acme").await;
    forwarder.settled(1).await;
    assert_eq!(sends(&intake, KEY), 1);

    let rotated = connections(&configuration, OTHER_KEY, &["rotate", "acme"]).await;
    assert!(rotated.status.success(), "{}", rotated.stderr);
    assert!(rotated.stdout.contains("has taken it over"), "{}", rotated.stdout);
    push(&forwarder, "2", "g-acme").await;
    forwarder.settled(2).await;
    assert_eq!(sends(&intake, OTHER_KEY), 1);

    // A key that is wrong is put right in the same way.
    fs::write(directory.join("acme.key"), "\"quoted\"\n").unwrap();
    let mended = connections(&configuration, OTHER_KEY, &["rotate", "acme"]).await;
    assert!(mended.status.success(), "{}", mended.stderr);
    fs::write(directory.join("acme.toml.old"), fs::read(directory.join("acme.toml")).unwrap()).unwrap();
    let acme = fs::read_to_string(directory.join("acme.toml")).unwrap();
    fs::write(directory.join("acme.toml"), format!("siet = 1\n{acme}")).unwrap();
    let wrong = connections(&configuration, KEY, &["rotate", "acme"]).await;
    assert!(
        wrong.status.code() == Some(78) && wrong.stderr.contains("nothing was changed"),
        "{}",
        wrong.stderr
    );
    assert_eq!(fs::read_to_string(directory.join("acme.key")).unwrap().trim(), OTHER_KEY);
    fs::rename(directory.join("acme.toml.old"), directory.join("acme.toml")).unwrap();

    let unasked = connections(&configuration, "", &["test", "acme", "--json"]).await;
    let told: Value = serde_json::from_str(&unasked.stdout).unwrap();
    assert_eq!(told["done"], "not_asked", "nobody but Datadog is asked about a key: {told}");

    let tested = connections(&configuration, "", &["test", "acme", "--send"]).await;
    assert!(tested.status.success() && tested.stdout.contains("braze.forwarder.test"), "{tested:?}");
    let points = intake.accepted();
    let point = points.iter().find(|point| point.metric == "braze.forwarder.test").unwrap();
    assert_eq!((point.key.as_str(), &*point.tags), (OTHER_KEY, &["connection:acme".to_owned()][..]));

    let asked = connections(&configuration, "", &["test", "acme", "--json"]).await;
    let asked: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!(asked["done"], "not_asked", "what is no site of Datadog's says nothing of a key: {asked}");

    let listed = connections(&configuration, "", &["list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(
        (&listed[0]["connection"], &listed[0]["state"]),
        (&json!("acme"), &json!("in_force")),
        "{listed}"
    );

    let removed = connections(&configuration, "", &["remove", "acme"]).await;
    assert!(removed.status.success(), "{}", removed.stderr);
    assert_eq!(files(&directory), ["first.toml"]);
    push(&forwarder, "3", "g-acme").await;
    let books = forwarder.settled(3).await;
    assert_eq!((books.accepted, books.dropped), (2, 1));
    for said in [&added, &rotated, &tested, &removed] {
        assert!(!format!("{said:?}").contains(KEY) && !format!("{said:?}").contains(OTHER_KEY), "{said:?}");
    }
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn what_is_not_taken_over_in_time_is_written_and_told_as_that() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let forwarder = configuration.start().await;
    // While a file changes between any two looks, the directory is read after eleven of them.
    let restless = async {
        for number in 0_u32.. {
            fs::write(directory.join("notes"), number.to_string()).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let url = intake.url();
    let add = ["add", "acme", "--app-group", "g-acme", "--url", &url, "--wait", "2"];
    let late = tokio::select! {
        () = restless => panic!("it never ends"),
        added = connections(&configuration, KEY, &add) => added,
    };
    assert_eq!((late.status.code(), &*late.stdout), (Some(1), ""), "{late:?}");
    let told = "it is written, but the forwarder at 127.0.0.1:";
    assert!(late.stderr.contains(told) && late.stderr.contains("within 2s"), "{late:?}");
    assert_eq!(files(&directory), ["acme.key", "acme.toml", "first.toml", "notes"]);
    support::eventually("it is taken over all the same", async || {
        forwarder.admin("/status").await.1.contains("\"name\": \"acme\"").then_some(())
    })
    .await;
    push(&forwarder, "1", "g-acme").await;
    assert_eq!(forwarder.settled(1).await.accepted, 1);
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_test_whose_answer_speaks_of_errors_has_failed_and_tells_them() {
    let intake = Intake::start();
    let (configuration, _directory) = with_one(&intake);
    intake.always(Behaviour::Status(202, "{\"errors\":[\"one point bad\"]}"));
    let tested = connections(&configuration, "", &["test", "first", "--send", "--json"]).await;
    assert_eq!((tested.status.code(), &*tested.stdout), (Some(1), ""), "{tested:?}");
    assert!(tested.stderr.contains("accepted the point of first"), "{tested:?}");
    assert!(tested.stderr.contains("one point bad"), "{tested:?}");
}

#[tokio::test]
async fn what_can_not_be_leaves_nothing_behind_and_says_why() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let url = intake.url();
    let outside = configuration.file("outside.toml", "");
    let forwarder = configuration.start().await;
    for (key, arguments, status, part) in [
        ("", &["remove", "../outside"][..], 78, "there is no "),
        ("", &["remove", "first"], 78, "is the last connection"),
        (
            KEY,
            &["add", "first", "--app-group", "g", "--url", &url],
            78,
            "there is a connection first already",
        ),
        (KEY, &["add", "acme", "--app-group", "g-first", "--url", &url], 78, "\"first\" and \"acme\""),
        (KEY, &["add", "Acme", "--app-group", "g", "--url", &url], 78, "lower-case letters"),
        (KEY, &["add", KEY, "--app-group", "g", "--url", &url], 78, "looks like an API key"),
        (KEY, &["add", "acme", "--app-group", " g", "--url", &url], 78, "white space"),
        (KEY, &["add", "acme", "--app-group", "g", "--site", "nowhere!"], 78, "connections.acme.site"),
        ("", &["add", "acme", "--app-group", "g", "--url", &url], 78, "no API key was given"),
        ("a b", &["add", "acme", "--app-group", "g", "--url", &url], 78, "white space in the middle"),
        ("\"k\"", &["rotate", "first"], 78, "in no file of its own"),
        ("", &["remove", "acme"], 78, "there is no "),
        ("", &["test", "acme"], 78, "there is no connection acme; there are: first"),
        (KEY, &["add", "acme", "--app-group-name", "g"], 1, "ID=NAME"),
    ] {
        let finished = connections(&configuration, key, arguments).await;
        assert_eq!(finished.status.code(), Some(status), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(part), "{part:?} is not in {finished:?}");
        assert!(!finished.stderr.contains(KEY), "{finished:?}");
        assert_eq!(files(&directory), ["first.toml"], "{arguments:?}");
    }
    assert!(outside.exists());
    // Without a forwarder it can go.
    assert!(forwarder.stop().await.success());
    let removed = connections(&configuration, "", &["remove", "first"]).await;
    assert_eq!((removed.status.code(), files(&directory).len()), (Some(0), 0), "{removed:?}");
    let without = configuration.clone().without("connections_directory").connection("a", &url, KEY, &[]);
    let finished = connections(&without, KEY, &["add", "acme", "--url", &url]).await;
    assert_eq!(finished.status.code(), Some(78));
    assert!(finished.stderr.contains("connections_directory is not set"), "{finished:?}");
}

#[tokio::test]
async fn a_refusal_is_taken_for_ones_own_only_if_it_came_after() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let forwarder = configuration.start_with(&["--strict"]).await;
    configuration.clone().set("lanez", "1").write();
    forwarder.signal("HUP");
    support::eventually("the reload was refused", async || {
        forwarder.stderr().contains("the configuration was refused").then_some(())
    })
    .await;
    // It is mended, and nobody has told the process.
    configuration.write();
    let url = intake.url();
    let added = connections(&configuration, KEY, &["add", "acme", "--app-group", "g", "--url", &url]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    assert!(added.stdout.contains("has taken it over"), "{added:?}");

    // Here the process refuses the whole for another connection's sake.
    fs::write(directory.join("wrong.toml"), "sitte = 1").unwrap();
    let refused = connections(&configuration, KEY, &["add", "beta", "--app-group", "h", "--url", &url]).await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    for part in ["nothing was added", "wrong.toml"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    let all = ["acme.key", "acme.toml", "first.toml", "wrong.toml"];
    assert_eq!(files(&directory), all);
    let before = all.map(|file| fs::read(directory.join(file)).unwrap());
    fs::set_permissions(directory.join("acme.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = connections(&configuration, "", &["remove", "acme"]).await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    for part in ["nothing was removed", "wrong.toml"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert_eq!(files(&directory), all, "as they were");
    assert_eq!(all.map(|file| fs::read(directory.join(file)).unwrap()), before);
    let mode = fs::metadata(directory.join("acme.toml")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);

    // Which of the two it was, a script learns from what is said where nobody waits.
    fs::remove_file(directory.join("wrong.toml")).unwrap();
    let removed = connections(&configuration, "", &["remove", "acme", "--wait", "0", "--json"]).await;
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    let told: Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!((&told["done"], &told["forwarder"]), (&json!("removed"), &json!("not_waited_for")), "{told}");
    let gone: Vec<_> = ["acme.toml", "acme.key"].map(|file| directory.join(file)).into();
    assert_eq!(told["files"], json!(gone), "{told}");
    assert_eq!(files(&directory), ["first.toml"]);
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_brought_to_its_end_by_the_next_one() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    configuration.write();
    let add = ["add", "acme", "--url", &intake.url(), "--app-group", "g"];
    let added = connections(&configuration, KEY, &add).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    // As it lies while the forwarder is waited for.
    fs::rename(directory.join("acme.toml"), directory.join(".acme.toml.removed")).unwrap();
    let checked = configuration.run(&["check"]).await;
    assert!(checked.status.success() && !checked.stdout.contains("acme"), "{checked:?}");
    let removed = connections(&configuration, "", &["remove", "acme"]).await;
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    assert_eq!(files(&directory), ["first.toml"]);
}

/// `--no-validate` is no argument of it.
#[tokio::test]
async fn a_test_that_gets_no_answer_advises_nothing_that_it_can_not_do() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let file = format!("site = \"US1\"\napi_key = \"{KEY}\"\napp_group_ids = [\"g\"]\n");
    fs::write(directory.join("acme.toml"), file).unwrap();
    let configuration = configuration.environment("HTTPS_PROXY", "http://127.0.0.1:1");
    let tested = connections(&configuration, "", &["test", "acme"]).await;
    assert_eq!(tested.status.code(), Some(1), "{tested:?}");
    assert!(tested.stderr.contains("whether the key is valid can't be found out"), "{tested:?}");
    for word in ["--no-validate", "nothing was changed"] {
        assert!(!tested.stderr.contains(word), "{tested:?}");
    }
}

/// Whose old form is in force, so that it goes on.
#[tokio::test]
async fn a_connection_beside_one_that_is_wrong_is_not_the_last_one_and_is_removed() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let second = format!("url = \"{}\"\napi_key = \"{OTHER_KEY}\"\napp_group_ids = [\"g\"]\n", intake.url());
    fs::write(directory.join("second.toml"), second).unwrap();
    let forwarder = configuration.start().await;
    fs::write(directory.join("first.toml"), "url =\n").unwrap();
    support::eventually("the slip was told", async || {
        let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
        (status["connections"][0]["refused"] != Value::Null).then_some(())
    })
    .await;
    let removed = connections(&configuration, "", &["remove", "second"]).await;
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    assert!(removed.stdout.contains("has taken it over"), "{removed:?}");
    push(&forwarder, "1", "g-first").await;
    push(&forwarder, "2", "g").await;
    forwarder.settled(2).await;
    assert_eq!((sends(&intake, KEY), sends(&intake, OTHER_KEY)), (1, 0));
    let last = connections(&configuration, "", &["remove", "first"]).await;
    assert_eq!(last.status.code(), Some(78), "{last:?}");
    assert!(last.stderr.contains("is the last connection"), "{last:?}");
    assert_eq!(files(&directory), ["first.toml"]);
    assert!(forwarder.stop().await.success());
}

/// Also a key that is the same as before, as who does it by a program may write.
#[tokio::test]
async fn what_is_wrong_with_the_push_ports_tokens_takes_back_no_rotation() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let tokens = configuration.file("tokens", "a-token-of-some-length\n");
    let configuration = configuration.text("push.token_file", tokens.to_str().unwrap());
    let forwarder = configuration.start().await;
    let url = intake.url();
    let added = connections(&configuration, KEY, &["add", "acme", "--app-group", "g", "--url", &url]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    fs::write(&tokens, "a token with white space\n").unwrap();
    support::eventually("the tokens were refused", async || {
        let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
        let last = &status["last_reload"];
        assert_eq!(last["refused_because"], Value::Null, "{last}");
        let reason = last["push_files_refused_because"].as_str()?;
        assert!(reason.starts_with("push.token_file: ") && last["successful"] == false, "{last}");
        assert!(last["push_files_refused_at"].is_u64(), "{last}");
        Some(())
    })
    .await;
    for key in [KEY, OTHER_KEY, OTHER_KEY] {
        let rotated = connections(&configuration, key, &["rotate", "acme", "--no-validate"]).await;
        assert_eq!(rotated.status.code(), Some(0), "{rotated:?}");
        assert!(rotated.stdout.contains("has taken it over"), "{rotated:?}");
        assert_eq!(fs::read_to_string(directory.join("acme.key")).unwrap().trim(), key);
    }
}

#[tokio::test]
async fn of_two_at_once_one_waits_for_the_other() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    configuration.write();
    let url = intake.url();
    for round in 0..8 {
        let (name, app_group) = (format!("c{round}"), format!("g-{round}"));
        let add = |key, name, app_group| {
            let (configuration, url) = (&configuration, &url);
            async move {
                let add = ["add", name, "--app-group", app_group, "--url", url];
                connections(configuration, key, &add).await.status.code()
            }
        };
        let ended = tokio::join!(add(KEY, &*name, &*app_group), add(OTHER_KEY, &*name, "g-other"));
        let key = match ended {
            (Some(0), Some(78)) => KEY,
            (Some(78), Some(0)) => OTHER_KEY,
            other => panic!("both, or none: {other:?}"),
        };
        assert_eq!(fs::read_to_string(directory.join(format!("{name}.key"))).unwrap().trim(), key);
        fs::remove_file(directory.join(format!("{name}.toml"))).unwrap();
        fs::remove_file(directory.join(format!("{name}.key"))).unwrap();
        // Under two names, one app group.
        let ended = tokio::join!(add(KEY, &*name, &*app_group), add(KEY, "other", &*app_group));
        assert!(matches!(ended, (Some(0), Some(78)) | (Some(78), Some(0))), "{ended:?}");
        for left in [&*name, "other"] {
            let _absent = fs::remove_file(directory.join(format!("{left}.toml")));
            let _absent = fs::remove_file(directory.join(format!("{left}.key")));
        }
    }
}

#[tokio::test]
async fn a_key_that_another_connection_names_stays_as_it_is() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let url = intake.url();
    let shares = |group: &str| {
        format!("url = \"{url}\"\napi_key_file = \"shared.key\"\napp_group_ids = [\"{group}\"]\n")
    };
    fs::write(directory.join("shared.key"), format!("{KEY}\n")).unwrap();
    fs::set_permissions(directory.join("shared.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(directory.join("a.toml"), shares("g-a")).unwrap();
    fs::write(directory.join("b.toml"), shares("g-b")).unwrap();
    let added =
        connections(&configuration, OTHER_KEY, &["add", "shared", "--url", &url, "--app-group", "g"]).await;
    assert_eq!(added.status.code(), Some(1), "{added:?}");
    assert!(added.stderr.contains("shared.key is there already"), "{added:?}");
    assert!(!directory.join("shared.toml").exists());
    let removed = connections(&configuration, "", &["remove", "a"]).await;
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(files(&directory), ["b.toml", "first.toml", "shared.key"]);
    assert_eq!(fs::read_to_string(directory.join("shared.key")).unwrap(), format!("{KEY}\n"));
    // The last one takes its key along.
    let removed = connections(&configuration, "", &["remove", "b"]).await;
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(files(&directory), ["first.toml"]);
}

#[tokio::test]
async fn a_link_in_the_place_of_a_new_file_is_not_followed() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    let other = configuration.file("other", "stays");
    std::os::unix::fs::symlink(&other, directory.join(".acme.key.new")).unwrap();
    let add = ["add", "acme", "--app-group", "g", "--url", &intake.url()];
    let added = connections(&configuration, KEY, &add).await;
    assert!(added.status.success(), "{added:?}");
    assert_eq!(fs::read_to_string(other).unwrap(), "stays");
    assert!(!directory.join("acme.key").is_symlink());
}

#[tokio::test]
async fn the_first_customer_is_added_before_any_forwarder_runs() {
    let intake = Intake::start();
    let (configuration, directory) = with_one(&intake);
    fs::remove_file(directory.join("first.toml")).unwrap();
    let url = intake.url();
    let add = ["add", "acme", "--url", &url, "--app-group", "g", "h", "--app-group-name", "g=Größe \"L\""];
    let added = connections(&configuration, KEY, &add).await;
    assert!(
        added.status.success()
            && added.stdout.contains("no forwarder with this configuration answers at admin.listen"),
        "{added:?}"
    );
    let checked = configuration.run(&["check"]).await;
    assert!(checked.status.success() && checked.stdout.contains("g, h"), "{checked:?}");
    assert!(fs::read_to_string(directory.join("acme.toml")).unwrap().contains("Größe"));
}
