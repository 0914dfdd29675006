//! Connections in a directory: one that is wrong stops no other, and what changes there is taken over by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use serde_json::{Value, json};

const REFUSED: &str = "connection_refused_configuration";

/// A connection's file.
fn file(intake: &Intake, key: &str, app_group: &str) -> String {
    let url = intake.url();
    format!("url = \"{url}\"\napi_key = \"{key}\"\napp_group_ids = [\"{app_group}\"]\n")
}

/// A configuration with an empty directory for connections, and the directory.
fn with_directory() -> (Configuration, PathBuf) {
    let configuration = Configuration::new();
    let directory = configuration.home().join("connections");
    fs::create_dir(&directory).unwrap();
    let configuration = configuration.text("connections_directory", directory.to_str().unwrap());
    (configuration, directory)
}

/// Writes a file in the place of another one, as whoever cares does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Pushes one send for each of these app groups.
async fn push(forwarder: &Forwarder, round: u32, app_groups: &[&str]) {
    let event = |app_group: &&str| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("{round}-{app_group}"),
            "time": support::unix_now(),
            "properties": { "app_group_id": app_group, "campaign_id": "c" },
        })
    };
    let events: Vec<_> = app_groups.iter().map(event).collect();
    forwarder.push_accepted(json!({ "events": events }).to_string()).await;
}

/// How many sends came with a key.
fn sends(intake: &Intake, key: &str) -> u64 {
    intake.sums_of(key).values().sum()
}

async fn state(forwarder: &Forwarder, state: &str) -> u64 {
    forwarder.metrics().await.sum("braze_datadog_connections", &[("state", state)])
}

async fn dropped(forwarder: &Forwarder, connection: &str) -> u64 {
    let labels = [("connection", connection), ("reason", REFUSED)];
    forwarder.metrics().await.sum("braze_datadog_sends_dropped_total", &labels)
}

async fn status_of(forwarder: &Forwarder, connection: &str) -> Value {
    let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let connections = status["connections"].as_array().unwrap();
    connections.iter().find(|one| one["name"] == connection).cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_is_wrong_with_two_connections_is_told_once() {
    let configuration = Configuration::new();
    let [a, b, c] = [("a", "g"), ("b", "g"), ("c", "h")];
    let configuration = [a, b, c].into_iter().fold(configuration, |configuration, (name, group)| {
        configuration.connection(name, "http://127.0.0.1:1", "a-key", &[group])
    });
    let checked = configuration.run(&["check"]).await;
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    let claimed = "\"g\" is served by the connections \"a\" and \"b\"";
    assert_eq!(checked.stderr.matches(claimed).count(), 1, "{}", checked.stderr);
    assert!(checked.stderr.contains("2 left out"), "{}", checked.stderr);
}

#[tokio::test]
async fn one_that_is_wrong_at_the_start_is_left_out_and_its_sends_are_booked_until_it_is_right() {
    let intake = Intake::start();
    let (configuration, directory) = with_directory();
    let configuration = configuration.connection("rest", &intake.url(), "rest-key", &[]);
    fs::write(directory.join("acme.toml"), file(&intake, "acme-key", "g-a")).unwrap();
    fs::write(directory.join("beta.toml"), file(&intake, "beta-key", "g-b").replace("url", "urll")).unwrap();
    let no_key = file(&intake, "", "g-c").replace("api_key = \"\"", "api_key_file = \"./c.key\"");
    fs::write(directory.join("gamma.toml"), no_key).unwrap();
    fs::write(directory.join("delta.toml"), "app_group_ids = [\"g-d\"]\nthis is no TOML").unwrap();
    fs::write(directory.join("Acme Corp.toml"), file(&intake, "corp-key", "g-e")).unwrap();

    let checked = configuration.run(&["check"]).await;
    assert_eq!(checked.status.code(), Some(78), "{}", checked.stderr);
    for part in
        ["beta.toml: connections.beta.urll: unknown key", "c.key does not exist", "4 left out", "delta.toml"]
    {
        assert!(checked.stderr.contains(part), "{part} is not in {}", checked.stderr);
    }
    assert!(checked.stdout.contains("acme"), "what is right is described: {}", checked.stdout);
    let strict = configuration.run(&["run", "--strict"]).await;
    assert_eq!(strict.status.code(), Some(78), "{}", strict.stderr);

    let forwarder = configuration.start().await;
    forwarder.says("is left out, and sends of its app groups are dropped").await;
    push(&forwarder, 1, &["g-a", "g-b", "g-c", "g-d", "g-e", "other"]).await;
    let books = forwarder.settled(6).await;
    assert_eq!((books.accepted, books.dropped), (2, 4));
    assert!(books.balance());
    for connection in ["beta", "gamma", "delta", "_misnamed"] {
        assert_eq!(dropped(&forwarder, connection).await, 1, "{connection}");
    }
    assert_eq!((sends(&intake, "acme-key"), sends(&intake, "rest-key")), (1, 1));
    assert_eq!((state(&forwarder, "active").await, state(&forwarder, "refused").await), (2, 4));
    let beta = status_of(&forwarder, "beta").await;
    assert!(beta["refused"].as_str().unwrap().contains("urll"), "{beta}");
    assert_eq!((&beta["state"], &beta["app_group_ids"][0]), (&json!("trouble"), &json!("g-b")));

    // It is taken over when it is right, without a signal; so is a key that is there at last.
    replace(&directory.join("beta.toml"), &file(&intake, "beta-key", "g-b"));
    fs::write(directory.join("c.key"), "gamma-key\n").unwrap();
    support::eventually("two are right", async || (state(&forwarder, "active").await == 4).then_some(()))
        .await;
    push(&forwarder, 2, &["g-b", "g-c", "g-d"]).await;
    forwarder.settled(9).await;
    assert_eq!((sends(&intake, "beta-key"), sends(&intake, "gamma-key")), (1, 1));
    assert_eq!(dropped(&forwarder, "delta").await, 2);
    assert!(forwarder.books_balance().await.balance());
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn what_one_that_becomes_wrong_wanted_to_serve_goes_to_nobody() {
    let intake = Intake::start();
    let (configuration, directory) = with_directory();
    fs::write(directory.join("acme.toml"), file(&intake, "acme-key", "g-a")).unwrap();
    fs::write(directory.join("beta.toml"), file(&intake, "beta-key", "g-b")).unwrap();
    let forwarder = configuration.connection("rest", &intake.url(), "rest-key", &[]).start().await;
    // An app group moves from one to the other, beside a new one, and there is a mistake.
    replace(&directory.join("beta.toml"), &file(&intake, "beta-key", "g-c"));
    let moved = file(&intake, "acme-key", "g-a").replace("\"g-a\"", "\"g-a\", \"g-b\", \"g-new\"");
    replace(&directory.join("acme.toml"), &format!("{moved}urll = 1\n"));
    support::eventually("the directory was read", async || {
        (state(&forwarder, "outdated").await == 1).then_some(())
    })
    .await;
    push(&forwarder, 1, &["g-a", "g-b", "g-c", "g-new", "g-other"]).await;
    let books = forwarder.settled(5).await;
    assert_eq!((books.accepted, books.dropped), (3, 2));
    assert_eq!(["acme-key", "beta-key", "rest-key"].map(|key| sends(&intake, key)), [1, 1, 1]);
    assert_eq!(dropped(&forwarder, "acme").await, 2);
    replace(&directory.join("acme.toml"), &moved);
    support::eventually("it is right", async || (state(&forwarder, "outdated").await == 0).then_some(()))
        .await;
    push(&forwarder, 2, &["g-b", "g-new"]).await;
    forwarder.settled(7).await;
    assert_eq!(sends(&intake, "acme-key"), 3);
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_mistake_of_a_moment_gives_no_app_group_away() {
    let intake = Intake::start();
    let (configuration, directory) = with_directory();
    let (acme, key) = (directory.join("acme.toml"), directory.join("acme.key"));
    let right = file(&intake, "", "g-a")
        .replace("api_key = \"\"", &format!("api_key_file = {:?}", key.to_str().unwrap()));
    fs::write(&key, "acme-key\n").unwrap();
    fs::write(&acme, &right).unwrap();
    let forwarder = configuration.connection("rest", &intake.url(), "rest-key", &[]).start().await;
    let is_left_out = async |connection: &str, count| {
        let refused = async || state(&forwarder, "refused").await + state(&forwarder, "outdated").await;
        support::eventually(connection, async || (refused().await == count).then_some(())).await;
    };
    // Another one claims what it has.
    fs::write(directory.join("beta.toml"), file(&intake, "beta-key", "g-a")).unwrap();
    is_left_out("beta", 1).await;
    for (round, is_of_file) in [(1, true), (2, false)] {
        if is_of_file {
            replace(&acme, &right.replace("url = ", "url = , "));
        } else {
            fs::remove_file(&key).unwrap();
        }
        is_left_out("acme", 2).await;
        push(&forwarder, round, &["g-a"]).await;
        forwarder.settled(u64::from(round)).await;
        replace(&acme, &right);
        fs::write(&key, "acme-key\n").unwrap();
        is_left_out("beta", 1).await;
    }
    push(&forwarder, 3, &["g-a"]).await;
    assert_eq!(forwarder.settled(3).await.dropped, 0);
    assert_eq!(["acme-key", "beta-key", "rest-key"].map(|key| sends(&intake, key)), [3, 0, 0]);
    // It is free when its connection is removed.
    fs::remove_file(&acme).unwrap();
    is_left_out("nobody", 0).await;
    push(&forwarder, 4, &["g-a"]).await;
    forwarder.settled(4).await;
    assert_eq!(sends(&intake, "beta-key"), 1);
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn one_that_becomes_wrong_goes_on_as_it_was() {
    let intake = Intake::start();
    let (configuration, directory) = with_directory();
    fs::write(directory.join("acme.toml"), file(&intake, "acme-key", "g-a")).unwrap();
    fs::write(directory.join("beta.toml"), file(&intake, "beta-key", "g-b")).unwrap();
    let forwarder = configuration.start().await;
    replace(&directory.join("acme.toml"), "urll = \"x\"");
    replace(&directory.join("beta.toml"), &file(&intake, "other-key", "g-b"));
    fs::write(directory.join("new.toml"), file(&intake, "new-key", "g-n")).unwrap();
    support::eventually("the directory was read", async || {
        (state(&forwarder, "outdated").await == 1).then_some(())
    })
    .await;
    push(&forwarder, 1, &["g-a", "g-b", "g-n"]).await;
    let books = forwarder.settled(3).await;
    assert_eq!((books.accepted, books.dropped), (3, 0));
    assert_eq!(["acme-key", "other-key", "new-key"].map(|key| sends(&intake, key)), [1, 1, 1]);
    support::eventually("it is told why", async || {
        let acme = status_of(&forwarder, "acme").await;
        acme["refused"].as_str().is_some_and(|reason| reason.contains("acme.toml")).then_some(())
    })
    .await;
    let read = support::eventually("it is logged", async || {
        let log = forwarder.stderr();
        let line = log.lines().find(|line| line.contains("the configuration was read again"))?;
        serde_json::from_str::<Value>(line).ok()
    })
    .await;
    assert_eq!((&read["added"], &read["rotated"]), (&json!("new"), &json!("beta")), "{read}");
    let kept = "the connection's new configuration was refused; its old one stays in force";
    forwarder.says(kept).await;

    // A whole configuration that is wrong is another thing.
    assert_eq!(forwarder.metrics().await.sum("braze_datadog_config_last_reload_successful", &[]), 1);
    configuration.clone().set("lanez", "1").write();
    forwarder.signal("HUP");
    support::eventually("the reload was refused", async || {
        let metrics = forwarder.metrics().await;
        (metrics.sum("braze_datadog_config_last_reload_successful", &[]) == 0).then_some(())
    })
    .await;
    support::eventually("it is told why", async || {
        let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
        let reason = status["last_reload"]["refused_because"].as_str().map(str::to_owned);
        reason.is_some_and(|reason| reason.contains("lanez")).then_some(())
    })
    .await;
    // And one that was removed is gone.
    configuration.write();
    fs::remove_file(directory.join("new.toml")).unwrap();
    support::eventually("it is gone", async || {
        (status_of(&forwarder, "new").await == Value::Null).then_some(())
    })
    .await;
    assert!(forwarder.stop().await.success());
}

/// A directory as the kubelet mounts a Secret there: what is seen are links to `..data`, a link to the folder of the
/// version, and a new version is swapped in by a rename over `..data`.
struct MountedSecret {
    directory: PathBuf,
    version: u32,
}

impl MountedSecret {
    fn new(directory: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir(&directory).unwrap();
        let mut secret = Self { directory, version: 0 };
        secret.update(files);
        secret
    }

    /// The steps and their order are those of Kubernetes' `AtomicWriter`.
    fn update(&mut self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.directory.join("..data"));
        self.version += 1;
        let folder = format!("..2026_11_28_12_00_{:02}.{}", self.version, 1_234_567_890 + self.version);
        fs::create_dir(self.directory.join(&folder)).unwrap();
        for (name, content) in files {
            fs::write(self.directory.join(&folder).join(name), content).unwrap();
        }
        symlink(&folder, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        for (name, _) in files {
            if fs::symlink_metadata(self.directory.join(name)).is_err() {
                symlink(Path::new("..data").join(name), self.directory.join(name)).unwrap();
            }
        }
        for entry in fs::read_dir(&self.directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("..") && !files.iter().any(|(file, _)| *file == name) {
                fs::remove_file(self.directory.join(name)).unwrap();
            }
        }
        if let Ok(old) = old {
            fs::remove_dir_all(self.directory.join(old)).unwrap();
        }
    }
}

/// Waits until the last line that tells of a reload has these words.
async fn read_again(forwarder: &Forwarder, changes: &[(&str, &str)]) {
    support::eventually(&format!("{changes:?}"), async || {
        let log = forwarder.stderr();
        let last = log.lines().rfind(|line| line.contains("the configuration was read again"))?;
        let last: Value = serde_json::from_str(last).ok()?;
        let all = ["added", "removed", "changed", "rotated"].map(|change| (change, last[change].as_str()));
        let told: Vec<_> = all.iter().filter_map(|(change, names)| Some((*change, (*names)?))).collect();
        (told == changes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connections_in_a_mounted_secret_are_added_changed_rotated_and_removed_without_a_restart() {
    let intake = Intake::start();
    let configuration = Configuration::new();
    let directory = configuration.home().join("connections");
    let acme = |app_group: &str| {
        let url = intake.url();
        format!("url = \"{url}\"\napi_key_file = \"acme.key\"\napp_group_ids = [\"{app_group}\"]\n")
    };
    let beta = file(&intake, "beta-key", "g-b");
    let mut secret =
        MountedSecret::new(directory.clone(), &[("acme.toml", &acme("g-a")), ("acme.key", "first-key")]);
    let configuration = configuration.text("connections_directory", directory.to_str().unwrap());
    let checked = configuration.run(&["check"]).await;
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
    assert!(!checked.stderr.contains(".."), "what Kubernetes keeps there is not told of: {}", checked.stderr);
    let forwarder = configuration.start().await;
    push(&forwarder, 1, &["g-a"]).await;
    forwarder.settled(1).await;
    assert_eq!(sends(&intake, "first-key"), 1);

    secret.update(&[("acme.toml", &acme("g-a")), ("acme.key", "first-key"), ("beta.toml", &beta)]);
    read_again(&forwarder, &[("added", "beta")]).await;
    secret.update(&[("acme.toml", &acme("g-a")), ("acme.key", "second-key"), ("beta.toml", &beta)]);
    read_again(&forwarder, &[("rotated", "acme")]).await;
    push(&forwarder, 2, &["g-a", "g-b"]).await;
    forwarder.settled(3).await;
    assert_eq!((sends(&intake, "second-key"), sends(&intake, "beta-key")), (1, 1));

    secret.update(&[("acme.toml", &acme("g-new")), ("acme.key", "second-key"), ("beta.toml", &beta)]);
    read_again(&forwarder, &[("changed", "acme")]).await;
    secret.update(&[("acme.toml", &acme("g-new")), ("acme.key", "second-key")]);
    read_again(&forwarder, &[("removed", "beta")]).await;
    push(&forwarder, 3, &["g-new", "g-b"]).await;
    let books = forwarder.settled(5).await;
    assert_eq!((sends(&intake, "second-key"), sends(&intake, "beta-key")), (2, 1));
    assert_eq!((books.accepted, books.dropped), (4, 1), "nobody serves g-b any more");
    assert!(books.balance());
    // The same content in another folder is no change, and nothing went wrong on the way.
    let told = forwarder.stderr().matches("was read again").count();
    assert_eq!(told, 4, "{}", forwarder.stderr());
    assert!(!forwarder.stderr().contains("was refused"), "{}", forwarder.stderr());
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn what_waits_for_its_flush_stays_its_customers_when_two_connections_change_places() {
    let intake = Intake::start();
    let base = Configuration::new().text("flush.interval", "60s");
    let of = |first: (&str, &str), second: (&str, &str)| {
        let configuration = base.clone().connection("acme", &intake.url(), first.0, &[first.1]);
        configuration.connection("beta", &intake.url(), second.0, &[second.1])
    };
    let forwarder = of(("first-key", "g-a"), ("second-key", "g-b")).start().await;
    push(&forwarder, 1, &["g-a", "g-b"]).await;
    support::eventually("both are counted", async || {
        (forwarder.metrics().await.books().pending == 2).then_some(())
    })
    .await;
    of(("second-key", "g-b"), ("first-key", "g-a")).write();
    forwarder.signal("HUP");
    read_again(&forwarder, &[("changed", "acme, beta")]).await;
    assert_eq!(forwarder.settled(2).await.accepted, 2);
    let app_groups = |key: &str| intake.sums_of(key).into_keys().flatten().collect::<Vec<_>>();
    assert!(app_groups("first-key").contains(&"app_group_id:g-a".to_owned()));
    assert!(app_groups("second-key").contains(&"app_group_id:g-b".to_owned()));
    assert_eq!((sends(&intake, "first-key"), sends(&intake, "second-key")), (1, 1));
}

#[tokio::test]
async fn push_tokens_in_a_mounted_secret_are_rotated_without_a_restart() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let directory = configuration.home().join("push");
    let mut secret = MountedSecret::new(directory.clone(), &[("tokens", "first-token\n")]);
    let configuration = configuration.text("push.token_file", directory.join("tokens").to_str().unwrap());
    let forwarder = configuration.start().await;
    let status = async |token: &str| {
        let request = forwarder.push_request("[]").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!([status("first-token").await, status("second-token").await], [200, 401]);
    for (tokens, expected) in [("first-token\nsecond-token\n", [200, 200]), ("second-token\n", [401, 200])] {
        secret.update(&[("tokens", tokens)]);
        support::eventually("the tokens were read", async || {
            ([status("first-token").await, status("second-token").await] == expected).then_some(())
        })
        .await;
    }
    // One that can't be used leaves the old one in force, and is told.
    secret.update(&[("tokens", "")]);
    support::eventually("it is refused", async || {
        forwarder.stderr().contains("the configuration was refused").then_some(())
    })
    .await;
    assert_eq!(status("second-token").await, 200);
    forwarder.says("the tokens and the certificate of the push port were read again").await;
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_key_is_rotated_behind_the_links_of_a_mounted_secret() {
    let intake = Intake::start();
    let configuration = Configuration::new();
    let secret = configuration.home().join("secret");
    fs::create_dir(&secret).unwrap();
    let version = |name: &str, key: &str| {
        fs::create_dir(secret.join(name)).unwrap();
        fs::write(secret.join(name).join("api-key"), key).unwrap();
    };
    version("..v1", "first-key");
    symlink("..v1", secret.join("..data")).unwrap();
    symlink("..data/api-key", secret.join("api-key")).unwrap();
    let configuration = configuration
        .connection("acme", &intake.url(), "", &[])
        .without("connections.acme.api_key")
        .text("connections.acme.api_key_file", secret.join("api-key").to_str().unwrap());
    let forwarder = configuration.start().await;
    version("..v2", "second-key");
    symlink("..v2", secret.join("..next")).unwrap();
    fs::rename(secret.join("..next"), secret.join("..data")).unwrap();
    support::eventually("the key was rotated", async || {
        forwarder.stderr().contains("\"rotated\":\"acme\"").then_some(())
    })
    .await;
    push(&forwarder, 1, &["g"]).await;
    forwarder.settled(1).await;
    assert_eq!((sends(&intake, "first-key"), sends(&intake, "second-key")), (0, 1));
    // What is read anew and is the same is not told.
    assert_eq!(forwarder.stderr().matches("was read again").count(), 1);
    assert!(forwarder.stop().await.success());
}
