//! What `check` and the exit status tell about the machine and the run.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::image::is_root;
use crate::support::KEY;
use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use serde_json::json;

/// A warning of `check`; `--deny-warnings` makes it count.
async fn assert_warning(configuration: &Configuration, part: &str) {
    let told = configuration.run(&["check"]).await;
    assert!(told.status.success(), "{}", told.stderr);
    let warning = told.stderr.lines().any(|line| line.contains("warning: ") && line.contains(part));
    assert!(warning, "{part:?} is not in {}", told.stderr);
    let denied = configuration.run(&["check", "--deny-warnings"]).await;
    assert_eq!(denied.status.code(), Some(78), "{}", denied.stderr);
}

fn quiet() -> Configuration {
    Configuration::new().set("connections.acme.dry_run", "true")
}

#[tokio::test]
async fn check_finds_what_would_keep_run_from_working_here() {
    let right = quiet();
    let told = right.run(&["check", "--deny-warnings"]).await;
    assert!(told.status.success() && told.stderr.is_empty(), "{}", told.stderr);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_warning(
        &right.clone().text("push.listen", &address),
        &format!("push.listen: {address} is in use"),
    )
    .await;
    assert_warning(&right.clone().text("admin.listen", "192.0.2.1:1"), "admin.listen: nothing can listen")
        .await;
    assert_warning(&right.clone().without("push.listen"), "nothing can come in").await;
    let file = right.file("file", "");
    let below = file.join("queue");
    let told = right.clone().text("queue.embedded.directory", below.to_str().unwrap()).run(&["check"]).await;
    assert_eq!(told.status.code(), Some(78), "{}", told.stderr);
    assert!(told.stderr.contains("queue.embedded.directory: "), "{}", told.stderr);
    let made = right.home().join("not/there/yet");
    let told = right.clone().text("queue.embedded.directory", made.to_str().unwrap());
    assert!(told.run(&["check", "--deny-warnings"]).await.status.success());
    assert!(!made.exists(), "check makes nothing");
}

/// As an image, a unit or a shell names it.
#[tokio::test]
async fn each_command_reads_the_configuration_that_the_variable_names() {
    let configuration = quiet().text("connections.acme.metric", "acme.sends");
    let directory = configuration.home().join("connections");
    fs::create_dir(&directory).unwrap();
    let configuration = configuration.text("connections_directory", directory.to_str().unwrap());
    let path = configuration.home().join("elsewhere.toml");
    fs::rename(configuration.write(), &path).unwrap();
    let file = configuration.file("a.json", "{\"id\":\"a\"}");
    for (arguments, told) in [
        (&["check"][..], "acme.sends"),
        (&["connections", "list"], "acme"),
        (&["run", "--once", "--import", file.to_str().unwrap()], "\"received\":1"),
        (&["monitors", "--campaign-id", "c", "--max", "10"], "sum:acme.sends{"),
    ] {
        let ended = configuration.run_by_variable(&path, arguments).await;
        assert!(ended.status.success() && ended.stdout.contains(told), "{arguments:?}: {ended:?}");
    }
    let forwarder = configuration.start().await;
    fs::remove_file(configuration.write()).unwrap();
    let ended = configuration.run_by_variable(&path, &["health"]).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_queue_with_files_of_another_user_or_behind_a_broken_link_is_told() {
    let configuration = quiet();
    let queue = configuration.home().join("queue");
    fs::create_dir(&queue).unwrap();
    let lock = File::create(queue.join("lock")).unwrap();
    lock.set_permissions(Permissions::from_mode(0o0)).unwrap();
    // What root may do beside what files allow is taken from it.
    let mut configuration = configuration.text("queue.embedded.directory", queue.to_str().unwrap());
    if is_root() {
        configuration =
            configuration.wrapper("exec setpriv --bounding-set -dac_override --inh-caps -dac_override");
    }
    assert_warning(&configuration, "queue.embedded.directory: this user can't write to").await;
    let run = configuration.run(&["run"]).await;
    assert!(!run.status.success() && run.stderr.contains("must belong to this user"), "{}", run.stderr);

    let link = configuration.home().join("link");
    std::os::unix::fs::symlink(configuration.home().join("unmounted"), &link).unwrap();
    let configuration = configuration.text("queue.embedded.directory", link.to_str().unwrap());
    assert_warning(&configuration, "is a link to what does not exist").await;
    let run = configuration.run(&["run"]).await;
    assert!(!run.status.success() && run.stderr.contains("is the volume mounted?"), "{}", run.stderr);
}

#[tokio::test]
async fn a_forwarder_that_can_receive_nothing_says_so() {
    let intake = Intake::start();
    let configuration =
        Configuration::new().connection("acme", &intake.url(), KEY, &[]).without("push.listen");
    let forwarder = configuration.start().await;
    forwarder.says("nothing can come in").await;
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_run_that_ends_by_itself_and_dropped_sends_ends_with_another_status() {
    let event = |app_group: &str, id: u32| {
        let event = json!({
            "event_type": "users.messages.email.Send",
            "id": id.to_string(),
            "time": crate::support::unix_now(),
            "properties": { "app_group_id": app_group },
        });
        format!("{event}\n")
    };
    let configuration = quiet().set("connections.acme.app_group_ids", "[\"g\"]");
    let all = configuration.file("all.ndjson", event("g", 1));
    let finished = configuration.run(&["run", "--once", "--import", all.to_str().unwrap()]).await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let some = configuration.file("some.ndjson", event("g", 2) + &event("foreign", 3));
    let finished = configuration.run(&["run", "--once", "--import", some.to_str().unwrap()]).await;
    assert_eq!(finished.status.code(), Some(3), "{}", finished.stderr);
    assert!(finished.stderr.contains("1 sends were dropped"), "{}", finished.stderr);
}
