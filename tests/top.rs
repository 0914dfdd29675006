//! `braze-datadog top` in a real terminal: `script` (which every Debian has) makes one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "support/rig.rs"]
mod support;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::json;
use support::forwarder::Configuration;
use support::intake::Intake;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_braze-datadog");

/// What a terminal is told to go back to where it was: the other screen away, the cursor seen.
const RESTORED: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// `top` in a terminal of 110 columns and 30 rows.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: PathBuf,
    home: TempDir,
}

impl Terminal {
    fn start(arguments: &str, environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (screen, pid) = (home.path().join("screen"), home.path().join("pid"));
        // Its own process id is the one that `exec` keeps.
        let command =
            format!("stty rows 30 cols 110; echo $$ > {}; exec {BINARY} top {arguments}", pid.display());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(File::create(&screen).unwrap())
            .spawn()
            .unwrap();
        let keys = child.stdin.take().unwrap();
        Self { child, keys, screen, home }
    }

    fn drawn(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.screen).unwrap()).into_owned()
    }

    /// Waits until all words of a text were drawn: what has not changed between is not drawn again.
    async fn shows(&self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let shown = async || words.iter().all(|word| self.drawn().contains(word)).then_some(());
        support::eventually(&format!("{text:?} is drawn, not only {:?}", self.drawn()), shown).await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.home.path().join("pid")).unwrap();
        let sent = Command::new("/bin/kill").arg(format!("-{name}")).arg(pid.trim()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, and says its exit status.
    async fn ends(&mut self) -> Option<i32> {
        support::eventually("top ends", async || self.child.try_wait().unwrap()).await.code()
    }

    fn assert_restored(&self) {
        let drawn = self.drawn();
        for sequence in RESTORED {
            assert!(drawn.contains(sequence), "the terminal was not restored: {drawn:?}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn weekly() -> String {
    let event = |number: u64| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("send-{number}"),
            "time": support::unix_now(),
            "properties": {"app_group_id": "emea", "campaign_id": "8a3f", "campaign_name": "Weekly newsletter"},
        })
    };
    json!({"events": (0..70).map(event).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn it_shows_a_forwarder_searches_and_gives_the_terminal_back() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let mut terminal = Terminal::start(&format!("--url {}", forwarder.admin_url("/")), &[]);
    terminal.shows("No sends since the start").await;
    forwarder.push_accepted(weekly()).await;
    forwarder.settled(70).await;
    terminal.shows("Sends flow:").await;
    terminal.shows("acme accepted ago").await;
    terminal.press("/");
    terminal.press("8a3f\r");
    terminal.shows("Weekly newsletter reaches Datadog:").await;
    assert!(
        terminal.drawn().contains("\u{1b}[32m") || terminal.drawn().contains("\u{1b}[38;5;2m"),
        "nothing is green"
    );
    terminal.press("q");
    assert_eq!(terminal.ends().await, Some(0));
    terminal.assert_restored();
}

#[tokio::test]
async fn it_waits_for_a_forwarder_and_control_c_and_a_signal_end_it() {
    let configuration = Configuration::new().connection("acme", "http://127.0.0.1:9", "key", &[]);
    let path = configuration.write();
    let mut terminal = Terminal::start(&format!("--config {}", path.display()), &[("NO_COLOR", "1")]);
    terminal.shows("No answer from").await;
    let _forwarder = configuration.start().await;
    terminal.shows("No sends since the start").await;
    assert!(!terminal.drawn().contains("\u{1b}[38;5;"), "there are colours in spite of NO_COLOR");
    terminal.press("\u{3}");
    assert_eq!(terminal.ends().await, Some(0));
    terminal.assert_restored();

    let mut terminal = Terminal::start(&format!("--config {}", path.display()), &[]);
    terminal.shows("No sends since the start").await;
    terminal.signal("TERM");
    assert_eq!(terminal.ends().await, Some(0));
    terminal.assert_restored();
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let output = Command::new(BINARY).arg("top").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("top needs a terminal") && said.contains("/status"), "{said}");
}

#[tokio::test]
async fn a_wrong_url_is_told_before_anything_is_drawn() {
    for url in ["localhost", "ftp://127.0.0.1"] {
        let mut terminal = Terminal::start(&format!("--url {url}"), &[]);
        assert_eq!(terminal.ends().await, Some(1));
        let said = terminal.drawn();
        assert!(said.contains("--url") && said.contains("http://"), "{said}");
        assert!(!said.contains("\u{1b}[?1049h"), "{said}");
    }
}
