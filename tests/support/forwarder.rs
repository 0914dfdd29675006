//! The real binary under a configuration of the test's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::{RequestBuilder, Response};
use tempfile::TempDir;

use super::children;
use super::metrics::{Books, Metrics};
use super::ports;

/// A configuration, and the directory that it and the queue live in. The same one can be started again and
/// again: the queue stays.
#[derive(Clone)]
pub(crate) struct Configuration {
    home: Arc<TempDir>,
    keys: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    standard_input: Vec<u8>,
    wrapper: Option<String>,
    /// In the place of files, for standard output and standard error.
    outputs: [Option<Arc<PipeWriter>>; 2],
    push: SocketAddr,
    admin: SocketAddr,
    runs: Arc<AtomicU32>,
}

impl Configuration {
    /// An embedded queue in a new directory, push and admin on free ports, a flush every second, no
    /// connection.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (queue, history) = (home.path().join("queue"), home.path().join("history"));
        let [push, admin] = ports::free();
        Self {
            home: Arc::new(home),
            keys: BTreeMap::new(),
            environment: BTreeMap::new(),
            standard_input: Vec::new(),
            wrapper: None,
            outputs: [None, None],
            push,
            admin,
            runs: Arc::default(),
        }
        .text("queue.embedded.directory", queue.to_str().unwrap())
        .text("history.directory", history.to_str().unwrap())
        .text("push.listen", &push.to_string())
        .text("admin.listen", &admin.to_string())
        .text("flush.interval", "1s")
        .text("log.format", "json")
    }

    /// Sets a key (dotted, from the top) to a TOML value as it is written: `3`, `true`, `["a"]`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.keys.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a key to a string.
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        let value = quote(value);
        self.set(key, &value)
    }

    /// Takes a key away.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.remove(key);
        self
    }

    /// Adds a connection to an intake; `app_group_ids` may be empty.
    pub(crate) fn connection(self, name: &str, url: &str, api_key: &str, app_group_ids: &[&str]) -> Self {
        let ids: Vec<String> = app_group_ids.iter().map(|id| quote(id)).collect();
        self.text(&format!("connections.{name}.url"), url)
            .text(&format!("connections.{name}.api_key"), api_key)
            .set(&format!("connections.{name}.app_group_ids"), &format!("[{}]", ids.join(", ")))
    }

    /// Names an app group of a connection.
    pub(crate) fn app_group_name(self, connection: &str, id: &str, name: &str) -> Self {
        self.text(&format!("connections.{connection}.app_group_names.{}", quote(id)), name)
    }

    /// Sets an environment variable of the process.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets what the process is given through a pipe on its standard input.
    pub(crate) fn standard_input(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.standard_input = content.into();
        self
    }

    /// Lets the process open so many files, as `ulimit -n` does.
    pub(crate) fn files_max(self, files: u32) -> Self {
        self.wrapper(&format!("ulimit -n {files} && exec"))
    }

    /// What a shell does before the process takes its place: `ulimit … && exec`, `exec env …`.
    pub(crate) fn wrapper(mut self, wrapper: &str) -> Self {
        self.wrapper = Some(wrapper.to_owned());
        self
    }

    /// Gives the process a pipe for standard output and standard error that is full; its reader is returned, who has
    /// not begun.
    pub(crate) fn unread_output(mut self) -> (Self, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut full = writer.try_clone().unwrap();
        // It is full when this blocks; what has not gone in by then comes once somebody reads.
        std::thread::spawn(move || full.write_all(&b"full\n".repeat(20_000)));
        let writer = Arc::new(writer);
        self.outputs = [Some(Arc::clone(&writer)), Some(writer)];
        (self, reader)
    }

    /// Gives the process a pipe for standard output, and returns its reader, who has not begun.
    pub(crate) fn piped_output(mut self) -> (Self, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        self.outputs[0] = Some(Arc::new(writer));
        (self, reader)
    }

    /// Trusts a certificate (PEM) beside nothing else, as `SSL_CERT_FILE` does.
    pub(crate) fn trust(self, certificate: &str) -> Self {
        let path = self.file("trusted.pem", certificate);
        self.environment("SSL_CERT_FILE", path.to_str().unwrap())
    }

    /// Writes a file beside the configuration, and says where.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes the configuration, and says where.
    pub(crate) fn write(&self) -> PathBuf {
        let lines: Vec<String> = self.keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let (path, text) = (self.home().join("braze-datadog.toml"), lines.concat());
        // What is there already may be being read.
        if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
            return path;
        }
        self.file("braze-datadog.toml", text)
    }

    /// The directory that it and the queue live in.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The URL of a path on the push port.
    pub(crate) fn push_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.push)
    }

    /// Starts `run`, and waits until it is ready.
    pub(crate) async fn start(&self) -> Forwarder {
        self.start_with(&[]).await
    }

    /// As [`Configuration::start`], with more arguments.
    pub(crate) async fn start_with(&self, arguments: &[&str]) -> Forwarder {
        let mut forwarder = self.spawn(&[&["run"], arguments].concat());
        let url = format!("http://{}/readyz", self.admin);
        super::eventually("the forwarder is ready", async || {
            let exited = forwarder.child.try_wait().unwrap();
            assert!(exited.is_none(), "the forwarder ended at its start: {exited:?}\n{}", forwarder.log());
            forwarder.client.get(&url).send().await.ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .await;
        forwarder
    }

    /// Starts the binary with a subcommand and arguments, and does not wait for anything.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Forwarder {
        let (subcommand, rest) = arguments.split_first().unwrap();
        let path = self.write();
        self.launch(&[&[*subcommand, "--config", path.to_str().unwrap()], rest].concat())
    }

    fn launch(&self, arguments: &[&str]) -> Forwarder {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let captured = |name| self.home.path().join(format!("run-{run}.{name}"));
        let (stdout, stderr) = (captured("stdout"), captured("stderr"));
        let mut program = self.program();
        program
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LLVM_PROFILE_FILE"))
            .envs(&self.environment)
            .stdin(self.pipe())
            .stdout(self.output(0, &stdout))
            .stderr(self.output(1, &stderr));
        let child = children::spawn(program).unwrap();
        Forwarder { child, configuration: self.clone(), client: super::client(None), stdout, stderr }
    }

    fn output(&self, number: usize, path: &Path) -> Stdio {
        let file = File::create(path).unwrap();
        self.outputs[number].as_ref().map_or_else(|| file.into(), |pipe| pipe.try_clone().unwrap().into())
    }

    fn program(&self) -> Command {
        const BINARY: &str = env!("CARGO_BIN_EXE_braze-datadog");
        let Some(wrapper) = &self.wrapper else { return children::command(BINARY) };
        let mut shell = children::command("/bin/sh");
        shell.args(["-c", &format!("{wrapper} \"$0\" \"$@\""), BINARY]);
        shell
    }

    /// A pipe with the standard input in it.
    fn pipe(&self) -> Stdio {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let content = self.standard_input.clone();
        std::thread::spawn(move || {
            // The process may end, or be killed, before it has read everything.
            let _ = writer.write_all(&content);
        });
        reader.into()
    }

    /// Runs the binary to its end, with the configuration behind all arguments, as commands of commands have it.
    pub(crate) async fn run_with_config_last(&self, arguments: &[&str]) -> Finished {
        let path = self.write();
        let mut forwarder = self.launch(&[arguments, &["--config", path.to_str().unwrap()]].concat());
        let status = forwarder.wait().await;
        Finished { status, stdout: forwarder.stdout(), stderr: forwarder.stderr() }
    }

    /// Runs the binary to its end, with a configuration that `$BRAZE_DATADOG_CONFIG` alone names.
    pub(crate) async fn run_by_variable(&self, path: &Path, arguments: &[&str]) -> Finished {
        let named = self.clone().environment("BRAZE_DATADOG_CONFIG", path.to_str().unwrap());
        let mut forwarder = named.launch(arguments);
        let status = forwarder.wait().await;
        Finished { status, stdout: forwarder.stdout(), stderr: forwarder.stderr() }
    }

    /// Runs the binary to its end: `check`, or `run --once`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        let mut forwarder = self.spawn(arguments);
        let status = forwarder.wait().await;
        Finished { status, stdout: forwarder.stdout(), stderr: forwarder.stderr() }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The running binary. It is killed when it is dropped, or the test process is gone; a test that fails shows its log.
pub(crate) struct Forwarder {
    child: Child,
    configuration: Configuration,
    client: reqwest::Client,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Forwarder {
    /// The URL of a path on the push port.
    pub(crate) fn push_url(&self, path: &str) -> String {
        self.configuration.push_url(path)
    }

    /// The URL of a path on the admin port.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.configuration.admin)
    }

    /// A push that can still be changed before it is sent.
    pub(crate) fn push_request(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.client.post(self.push_url("/v1/events"));
        request.header("content-type", "application/json").header("braze-currents-version", "1").body(body)
    }

    /// Pushes a body, whatever the answer.
    pub(crate) async fn push(&self, body: impl Into<reqwest::Body>) -> Response {
        self.push_request(body).send().await.unwrap()
    }

    /// Pushes a body, and says how many events were accepted. Another answer than 200 stops the test.
    pub(crate) async fn push_accepted(&self, body: impl Into<reqwest::Body>) -> u64 {
        let answer = self.push(body).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "the push was answered {text:?}");
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        answer["accepted"].as_u64().unwrap_or_else(|| panic!("no number of accepted events in {text:?}"))
    }

    /// Asks a path of the admin port; the status and the body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(self.admin_url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What `/metrics` says now.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, text) = self.admin("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Metrics::parse(&text)
    }

    /// Waits until nothing is pending and everything that was received has been counted as `received`.
    pub(crate) async fn settled(&self, received: u64) -> Books {
        let what = format!("{received} events received, none pending");
        super::eventually(&what, async || {
            let books = self.metrics().await.books();
            (books.received >= received && books.pending == 0).then_some(books)
        })
        .await
    }

    /// Stops the test unless the two invariants of the contract come to hold; says the books.
    pub(crate) async fn books_balance(&self) -> Books {
        let give_up = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let books = self.metrics().await.books();
            if books.balance() {
                return books;
            }
            assert!(tokio::time::Instant::now() < give_up, "the books do not balance: {books:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal by its short name: `TERM`, `INT`, `HUP`, `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("/bin/kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success(), "the signal {name} could not be sent");
    }

    /// Waits for the end of the process.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        super::eventually("the forwarder ends", async || self.child.try_wait().unwrap()).await
    }

    /// `SIGTERM`, and its exit status.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait().await
    }

    /// `SIGKILL`, as a crash would end it.
    pub(crate) async fn crash(mut self) {
        self.signal("KILL");
        self.wait().await;
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    /// What it has logged to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until it has said this, and says all that it has said by then. What it logs is written by a thread of its own: a
    /// moment after it has happened.
    pub(crate) async fn says(&self, part: &str) -> String {
        super::eventually(&format!("{part:?} is said"), async || {
            Some(self.log()).filter(|log| log.contains(part))
        })
        .await
    }

    /// Both of them.
    pub(crate) fn log(&self) -> String {
        self.stdout() + &self.stderr()
    }
}

impl Drop for Forwarder {
    #[expect(clippy::print_stderr, reason = "a test that failed shows what the binary said")]
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and waiting returns at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the forwarder said:\n{}---", self.log());
        }
    }
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                quoted.extend(format!("\\u{:04X}", u32::from(character)).chars());
            }
            character => quoted.push(character),
        }
    }
    quoted + "\""
}
