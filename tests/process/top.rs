//! `braze-datadog top` in a real terminal: `script` (which every Debian has) makes one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use crate::support::{self, children};
use serde_json::json;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_braze-datadog");

/// What a terminal is told to go back to where it was: the other screen away, the cursor seen.
const RESTORED: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// How a terminal of 256 colours is told to write in green.
const GREEN: &str = "\u{1b}[38;5;2";

const ROWS: usize = 30;
const COLUMNS: usize = 110;

/// `top` in a terminal.
pub(super) struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: PathBuf,
    home: TempDir,
}

impl Terminal {
    pub(super) fn start(arguments: &str, environment: &[(&str, &str)]) -> Self {
        // Its own process id is the one that `exec` keeps.
        Self::run(&format!("exec setpriv --pdeathsig KILL {BINARY} top {arguments}"), environment)
    }

    /// Runs a command of the shell in a terminal, in a directory of its own.
    fn run(command: &str, environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let screen = home.path().join("screen");
        let command = format!(
            "stty rows {ROWS} cols {COLUMNS}; cd {}; echo $$ > pid; {command}",
            home.path().display()
        );
        let mut script = children::command("script");
        script
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(File::create(&screen).unwrap());
        let mut child = children::spawn(script).unwrap();
        let keys = child.stdin.take().unwrap();
        Self { child, keys, screen, home }
    }

    fn drawn(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.screen).unwrap()).into_owned()
    }

    /// Waits until the screen shows a text, and says all that it shows.
    pub(super) async fn shows(&self, text: &str) -> String {
        let give_up = tokio::time::Instant::now() + support::PATIENCE;
        loop {
            let seen = seen(&self.drawn());
            if seen.contains(text) {
                return seen;
            }
            assert!(tokio::time::Instant::now() < give_up, "{text:?} does not come to be seen:\n{seen}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
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

/// What is seen on a screen after everything that was drawn on it: only what changes is drawn, cell by cell.
fn seen(drawn: &str) -> String {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut rest = drawn.chars();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|cells: &mut Vec<char>| cells.get_mut(column)) {
                *cell = character;
            }
            column += 1;
            continue;
        }
        // `[`, what is said, and a letter that says of what.
        let mut sequence = String::new();
        for part in rest.by_ref().skip(1) {
            sequence.push(part);
            if part.is_ascii_alphabetic() {
                break;
            }
        }
        if let Some((to_row, to_column)) = sequence.strip_suffix('H').and_then(|place| place.split_once(';'))
        {
            (row, column) = (to_row.parse::<usize>().unwrap() - 1, to_column.parse::<usize>().unwrap() - 1);
        }
    }
    cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
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
    let all = terminal.shows("accepted ").await;
    assert!(all.contains("acme") && all.contains("70"), "{all}");
    terminal.press("/8a3f\r");
    let all = terminal.shows("reaches Datadog: accepted").await;
    assert!(all.contains("Weekly newsletter") && all.contains("1 of 1 series"), "{all}");
    assert!(terminal.drawn().contains(GREEN), "nothing is green");
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

#[tokio::test]
async fn signals_end_it_and_leave_the_terminal_as_it_was() {
    for name in ["INT", "HUP", "QUIT", "TERM"] {
        let mut terminal = Terminal::start("--url http://127.0.0.1:9", &[]);
        terminal.shows("No answer from").await;
        terminal.signal(name);
        assert_eq!(terminal.ends().await, Some(0), "{name}");
        terminal.assert_restored();
    }
}

/// A forwarder that answers `/status` and no search. It counts the searches.
fn searches_nothing() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let searches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&searches);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            thread::spawn(move || {
                let mut head = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut head) {
                    if head[..read].starts_with(b"GET /search") {
                        counted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let body = r#"{"headline": {"state": "flowing", "words": "Sends flow"}}"#;
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (url, searches)
}

#[tokio::test]
async fn searches_do_not_pile_up_before_a_forwarder_that_does_not_answer() {
    let (url, searches) = searches_nothing();
    let mut terminal = Terminal::start(&format!("--url {url}"), &[]);
    terminal.shows("Sends flow").await;
    for query in ["weekly", "weekly", "monthly", "daily"] {
        terminal.press(&format!("/{query}\r"));
        terminal.shows(query).await;
    }
    // Answers of /status, after each of which a search in sight is asked once more.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(searches.load(Ordering::Relaxed), 1);
    terminal.press("q");
    assert_eq!(terminal.ends().await, Some(0));
}

/// Once with a hang-up that comes, once with a terminal that is not its controlling one, so that none comes.
#[tokio::test]
async fn it_ends_quietly_when_its_terminal_is_gone() {
    let top = format!("{BINARY} top --url http://127.0.0.1:9; echo $? > ended");
    for command in [format!("trap '' HUP; {top}"), format!("setsid --wait sh -c '{top}'")] {
        let mut terminal = Terminal::run(&command, &[]);
        terminal.shows("No answer from").await;
        terminal.child.kill().unwrap();
        let path = terminal.home.path().join("ended");
        let ended = support::eventually("top ends", async || {
            std::fs::read_to_string(&path).ok().filter(|status| status.ends_with('\n'))
        })
        .await;
        assert_eq!(ended.trim(), "0", "{command}");
    }
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
