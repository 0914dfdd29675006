//! The files of the push port while it is open: what is right in them is taken over, whatever else is wrong, and where they
//! have moved the rest of the configuration goes on.

use std::fs;
use std::path::PathBuf;

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::{self, KEY};
use serde_json::Value;

const REFUSED_IN_PART: &str = "the configuration was refused in part";
const READ_AGAIN: &str = "the configuration was read again";

/// A certificate for this machine, and its key.
fn certificate() -> (String, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The reasons of the log lines at this level that have this message.
fn reasons(forwarder: &Forwarder, level: &str, message: &str) -> Vec<String> {
    let lines = forwarder.stderr();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["level"] == level);
    let lines = lines.filter(|line| line["message"].as_str().is_some_and(|found| found.contains(message)));
    lines.map(|line| line["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until an ERROR refuses files of the push port, and names this.
async fn refused(forwarder: &Forwarder, part: &str) {
    support::eventually(&format!("{part:?} is refused"), async || {
        reasons(forwarder, "ERROR", REFUSED_IN_PART).iter().any(|reason| reason.contains(part)).then_some(())
    })
    .await;
}

/// Waits until `/status` says that a reload was refused for a reason that begins with this; `None`: that none was.
async fn last_reload(forwarder: &Forwarder, refused_because: Option<&str>) {
    support::eventually(&format!("{refused_because:?} is told"), async || {
        let (_, status) = forwarder.admin("/status").await;
        let last = serde_json::from_str::<Value>(&status).unwrap()["last_reload"].clone();
        let reasons = ["refused_because", "push_files_refused_because"].map(|field| last[field].as_str());
        assert_eq!(last["successful"] == true, reasons == [None; 2], "{last}");
        let is_told = match (reasons[0].or(reasons[1]), refused_because) {
            (Some(told), Some(expected)) => told.starts_with(expected),
            (told, expected) => told.is_none() && expected.is_none(),
        };
        is_told.then_some(())
    })
    .await;
}

async fn names(forwarder: &Forwarder) -> Vec<String> {
    let (_, status) = forwarder.admin("/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let connections = status["connections"].as_array().unwrap();
    let mut names: Vec<_> = connections.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A configuration with a token file and a directory of connections, in which there is one that serves all.
fn with_tokens(intake: &Intake, tokens: &str) -> (Configuration, PathBuf) {
    let configuration = Configuration::new();
    let directory = configuration.home().join("connections");
    fs::create_dir(&directory).unwrap();
    add(&directory, intake, "acme", "");
    let tokens = configuration.file("tokens", tokens);
    let configuration = configuration
        .text("connections_directory", directory.to_str().unwrap())
        .text("push.token_file", tokens.to_str().unwrap());
    (configuration, directory)
}

/// Adds a connection to the directory.
fn add(directory: &std::path::Path, intake: &Intake, name: &str, app_groups: &str) {
    let text = format!("url = \"{}\"\napi_key = \"{KEY}\"\napp_group_ids = [{app_groups}]\n", intake.url());
    fs::write(directory.join(format!("{name}.toml")), text).unwrap();
}

#[tokio::test]
async fn a_token_is_taken_away_while_a_certificate_is_wrong_and_a_certificate_replaced_while_a_token_is() {
    let intake = Intake::start();
    let ((first, first_key), (second, second_key)) = (certificate(), certificate());
    let (configuration, _) = with_tokens(&intake, "good\nleaked\n");
    let files = [configuration.file("tls.pem", &first), configuration.file("tls.key", &first_key)];
    let configuration = configuration
        .text("push.tls_certificate", files[0].to_str().unwrap())
        .text("push.tls_key", files[1].to_str().unwrap());
    let forwarder = configuration.start().await;
    let url = forwarder.push_url("/v1/events").replace("http:", "https:");
    let status = async |trusted: &str, token: &str| {
        let push = support::client(Some(trusted)).post(&url).bearer_auth(token).body("[]");
        push.send().await.map(|answer| answer.status().as_u16()).ok()
    };
    assert_eq!([status(&first, "good").await, status(&first, "leaked").await], [Some(200); 2]);

    // The certificate of another key.
    configuration.file("tls.pem", &second);
    refused(&forwarder, "does not belong to the certificate").await;
    configuration.file("tokens", "good\n");
    support::eventually("the token is taken away", async || {
        (status(&first, "leaked").await == Some(401)).then_some(())
    })
    .await;
    assert_eq!(status(&first, "good").await, Some(200));
    last_reload(&forwarder, Some("push.tls_certificate, push.tls_key: ")).await;

    // The other way round.
    configuration.file("tokens", "good\nslip with a blank\n");
    refused(&forwarder, "push.token_file").await;
    configuration.file("tls.key", &second_key);
    support::eventually("the certificate is replaced", async || {
        (status(&second, "good").await == Some(200)).then_some(())
    })
    .await;
    assert_eq!(status(&first, "good").await, None);
    last_reload(&forwarder, Some("push.token_file: ")).await;
    configuration.file("tokens", "good\nnew\n");
    support::eventually("the token is in force", async || {
        (status(&second, "new").await == Some(200)).then_some(())
    })
    .await;
    last_reload(&forwarder, None).await;
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_connection_is_taken_over_while_the_token_file_is_wrong() {
    let intake = Intake::start();
    for broken in [Some("good\nslip with a blank\n"), Some(""), None] {
        let (configuration, directory) = with_tokens(&intake, "good\n");
        let forwarder = configuration.start().await;
        let tokens = configuration.home().join("tokens");
        match broken {
            Some(text) => fs::write(&tokens, text).unwrap(),
            None => fs::remove_file(&tokens).unwrap(),
        }
        refused(&forwarder, "push.token_file").await;
        add(&directory, &intake, "beta", "\"g-beta\"");
        support::eventually("the connection is taken over", async || {
            (names(&forwarder).await == ["acme", "beta"]).then_some(())
        })
        .await;
        let push = forwarder.push_request("[]").bearer_auth("good");
        assert_eq!(push.send().await.unwrap().status(), 200);
        last_reload(&forwarder, Some("push.token_file: ")).await;
        fs::write(&tokens, "other\n").unwrap();
        support::eventually("the mended file is taken over", async || {
            let push = forwarder.push_request("[]").bearer_auth("other");
            (push.send().await.unwrap().status() == 200).then_some(())
        })
        .await;
        assert!(forwarder.stop().await.success());
    }
}

#[tokio::test]
async fn push_files_that_have_moved_and_are_gone_hold_no_reload_up() {
    let intake = Intake::start();
    let (configuration, directory) = with_tokens(&intake, "good\n");
    let forwarder = configuration.start().await;
    let moved = configuration.file("moved-tokens", "other\n");
    let moved = configuration.clone().text("push.token_file", moved.to_str().unwrap());
    moved.clone().connection("beta", &intake.url(), KEY, &["g-beta"]).write();
    fs::remove_file(configuration.home().join("tokens")).unwrap();
    let hang_up = async |message: &str| {
        let before = forwarder.stderr().matches(message).count();
        forwarder.signal("HUP");
        support::eventually(message, async || {
            (forwarder.stderr().matches(message).count() > before).then_some(())
        })
        .await;
    };
    hang_up(READ_AGAIN).await;
    assert_eq!(names(&forwarder).await, ["acme", "beta"]);
    let told = reasons(&forwarder, "WARN", "stay in force until a restart");
    assert!(matches!(&told[..], [one] if one.starts_with("push.token_file: ")), "{told:?}");
    let status = async |token: &str| {
        let push = forwarder.push_request("[]").bearer_auth(token);
        push.send().await.unwrap().status().as_u16()
    };
    assert_eq!([status("good").await, status("other").await], [200, 401]);
    // So it is for what is read without SIGHUP; it is told once.
    add(&directory, &intake, "gamma", "\"g-gamma\"");
    support::eventually("the connection is taken over", async || {
        (names(&forwarder).await == ["acme", "beta", "gamma"]).then_some(())
    })
    .await;
    last_reload(&forwarder, None).await;
    assert_eq!(reasons(&forwarder, "WARN", "until a restart"), told);
    // The whole section can go.
    let without = ["push.token_file", "push.listen"].into_iter().fold(moved, Configuration::without);
    without.write();
    forwarder.signal("HUP");
    support::eventually("the connection is gone", async || {
        (names(&forwarder).await == ["acme", "gamma"]).then_some(())
    })
    .await;
    assert_eq!(status("good").await, 200);
    // Where the old file stands in the configuration it is missed.
    configuration.write();
    hang_up("the configuration was refused;").await;
    let main = configuration.home().join("braze-datadog.toml");
    last_reload(&forwarder, Some(&format!("{}: push.token_file: ", main.display()))).await;
    assert!(forwarder.stop().await.success());
}
