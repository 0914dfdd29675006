//! Chromium without a window, driven over the `WebDriver` protocol.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support;
use crate::support::children::{self, Processes};
use crate::support::ports;

/// What Debian calls the driver; `make tools` installs both it and the browser.
const DRIVER: &str = "chromedriver";
const BROWSER: &str = "chromium";

/// The key of the tabulator, in `WebDriver`'s words.
pub(crate) const TAB: &str = "\u{e004}";

/// One browser with one window. It ends when it is dropped, or the test process is gone.
pub(crate) struct Browser {
    driver: Child,
    client: reqwest::Client,
    session: String,
    home: TempDir,
}

impl Browser {
    /// Starts a browser of its own, with nothing in it.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut driver = children::command(which(DRIVER));
        // Of port 0 it asks for one of `::1`, and ends if somebody has the same of `127.0.0.1`.
        let [address] = ports::free();
        driver.arg(format!("--port={}", address.port()));
        driver.env("HOME", home.path()).env("TMPDIR", home.path());
        driver.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = children::spawn(driver).unwrap();
        wait_for(&mut driver);
        let (client, profile) = (support::client(None), home.path().join("profile"));
        let mut browser = Self { driver, client, session: format!("http://{address}/session"), home };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--lang=en",
            "--hide-scrollbars",
            // Whatever the browser would like to ask of its maker: there is nobody.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", profile.display()),
        ];
        // The driver takes the browser with it when it is asked to end, not when it is killed.
        let binary = children::script(&browser.home.path().join("browser"), &which(BROWSER));
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": binary, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let started = browser.post("", &capabilities).await;
        browser.session += "/";
        browser.session += started["sessionId"].as_str().unwrap();
        browser
    }

    /// The driver's processes, and the browser's.
    pub(crate) fn processes(&self) -> Processes {
        children::descendants(self.driver.id(), "")
    }

    /// Where all its files are.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// Runs a script's body, and says what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// As [`Browser::run`], for a script that calls its last argument when it is done.
    pub(crate) async fn run_async(&self, script: &str, arguments: Value) -> Value {
        self.post("/execute/async", &json!({"script": script, "args": arguments})).await
    }

    /// The text that a script returns.
    pub(crate) async fn text(&self, script: &str) -> String {
        self.run(script).await.as_str().unwrap_or_default().to_owned()
    }

    /// The text that is seen of the first element that a selector finds.
    pub(crate) async fn seen(&self, selector: &str) -> String {
        self.text(&format!("return document.querySelector({selector:?}).innerText")).await
    }

    /// Waits until an element shows a text, and says all that it shows.
    pub(crate) async fn shows(&self, selector: &str, text: &str) -> String {
        let give_up = tokio::time::Instant::now() + support::PATIENCE;
        loop {
            let seen = self.seen(selector).await;
            if seen.contains(text) {
                return seen;
            }
            assert!(
                tokio::time::Instant::now() < give_up,
                "{selector} does not come to show {text:?}; it shows {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types into whatever has the focus.
    pub(crate) async fn press(&self, keys: &str) {
        let press = |key: char| {
            [
                json!({"type": "keyDown", "value": key.to_string()}),
                json!({"type": "keyUp", "value": key.to_string()}),
            ]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await;
    }

    /// Gives the window the size and the kind of a device.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// What the user prefers: `prefers-color-scheme`, `dark`.
    pub(crate) async fn prefer(&self, feature: &str, value: &str) {
        let media = json!({"features": [{"name": feature, "value": value}]});
        self.command("Emulation.setEmulatedMedia", &media).await;
    }

    /// Switches scripts off or on, for the pages to come.
    pub(crate) async fn scripts(&self, on: bool) {
        self.command("Emulation.setScriptExecutionDisabled", &json!({ "value": !on })).await;
    }

    /// What the browser has to complain about since the last time.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Every address that was asked for since the last time, but for the browser's own new tab.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "performance"})).await;
        let messages = entries.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap());
        let parsed = messages.map(|message| serde_json::from_str::<Value>(message).unwrap());
        parsed
            .filter(|entry| entry["message"]["method"] == "Network.requestWillBeSent")
            .map(|entry| entry["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
            .filter(|url| !url.starts_with("chrome"))
            .collect()
    }

    /// A picture of the whole page, PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.command("Page.captureScreenshot", &options).await;
        decode_base64(picture["data"].as_str().unwrap())
    }

    async fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": name, "params": parameters})).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.session)).timeout(2 * support::PATIENCE);
        let answer = request.body(body.to_string()).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {answer:#}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let started = self.processes();
        // The browser goes with it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // A moment later, in which it writes into its home, which is removed next.
        if !std::thread::panicking() {
            children::assert_gone(&started);
        }
    }
}

/// Waits until the driver says that it listens.
fn wait_for(driver: &mut Child) {
    let mut said = String::new();
    for line in BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line.starts_with("ChromeDriver was started successfully") {
            return;
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("`{DRIVER}` ended before it listened; it said:\n{said}");
}

fn which(name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.exists());
    let found =
        found.unwrap_or_else(|| panic!("there is no `{name}`; `make tools` installs what is missing"));
    found.to_str().unwrap().to_owned()
}

fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    bytes
}
