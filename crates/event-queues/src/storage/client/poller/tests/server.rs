//! As much of S3 as listing and reading need, with a count of what it costs, and of SQS as notifications need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::path::Path;
use serde_json::{Value, json};
use url::Url;

/// How many keys S3 tells at once.
const PAGE: usize = 1000;

#[derive(Default)]
struct State {
    /// How often each was written.
    keys: BTreeMap<String, u32>,
    /// The content of those that have another one than `x`.
    bodies: BTreeMap<String, String>,
    /// Those that are listed and not given out.
    refused: BTreeSet<String>,
    /// Of how many bytes an answer is at most.
    bytes_max: Option<usize>,
    /// Whether listings tell a version without quotes, as Azure's do.
    is_unquoted: bool,
    /// Those that are stored packed, as Google's store calls it, and whether each is large.
    packed: BTreeMap<String, bool>,
    listings: Vec<String>,
    /// The keys that were asked for.
    reads: Vec<String>,
    /// By receipt.
    messages: BTreeMap<String, String>,
}

pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // It ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &shared));
            }
        });
        Self { address, state }
    }

    pub(super) fn put(&self, key: impl Into<String>) {
        *self.state.lock().unwrap().keys.entry(key.into()).or_default() += 1;
    }

    pub(super) fn put_body(&self, key: &str, body: &str) {
        self.state.lock().unwrap().bodies.insert(key.to_owned(), body.to_owned());
        self.put(key);
    }

    pub(super) fn remove(&self, key: &str) {
        self.state.lock().unwrap().keys.remove(key);
    }

    /// Refuses to give this object out, or no longer.
    pub(super) fn refuse(&self, key: &str, is_refused: bool) {
        let refused = &mut self.state.lock().unwrap().refused;
        if is_refused {
            refused.insert(key.to_owned())
        } else {
            refused.remove(key)
        };
    }

    /// Gives out no more than so many bytes of an object.
    pub(super) fn cut_short(&self, bytes_max: Option<usize>) {
        self.state.lock().unwrap().bytes_max = bytes_max;
    }

    /// Tells versions without quotes in listings.
    pub(super) fn list_without_quotes(&self) {
        self.state.lock().unwrap().is_unquoted = true;
    }

    /// Unpacks this object for whoever does not take gzip; of a large one no answer has its length.
    pub(super) fn pack(&self, key: &str, is_large: bool) {
        self.state.lock().unwrap().packed.insert(key.to_owned(), is_large);
    }

    /// How often this object was asked for.
    pub(super) fn reads_of(&self, key: &str) -> usize {
        self.state.lock().unwrap().reads.iter().filter(|read| *read == key).count()
    }

    /// The prefixes of the listings since the last call, a `/` behind those of which one level was asked for.
    pub(super) fn listings(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().listings)
    }

    pub(super) fn send(&self, receipt: &str, body: &Value) {
        self.state.lock().unwrap().messages.insert(receipt.to_owned(), body.to_string());
    }

    /// The receipts of the messages that were not deleted.
    pub(super) fn messages(&self) -> Vec<String> {
        self.state.lock().unwrap().messages.keys().cloned().collect()
    }
}

/// Answers one request.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() <= 2 {
            break;
        }
        head.push(line);
    }
    let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let url = Url::parse("http://server").unwrap().join(target).unwrap();
    let header = |name: &str| {
        let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.map(|line| line[name.len() + 1..].trim().to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    if head[0].starts_with("POST") {
        // SQS waits for messages.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut state = state.lock().unwrap();
    let key = url.path().split_once("/b/").and_then(|(_, key)| Path::from_url_path(key).ok());
    let key = key.unwrap_or_default().to_string();
    let is_packed_for = header("accept-encoding").contains("gzip");
    let (status, text) = if head[0].starts_with("POST") {
        ("200 OK", messages(&mut state, &header("x-amz-target"), &body))
    } else if is_packed_for && key.is_empty() {
        ("200 OK", "a listing that the client does not unpack".to_owned())
    } else if !url.path().starts_with("/b") {
        ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>".to_owned())
    } else if head[0].starts_with("GET") && key.is_empty() {
        ("200 OK", list(&mut state, &url))
    } else {
        object(&mut state, &key)
    };
    let e_tag = state.keys.get(&key).copied().unwrap_or(1);
    let (length, e_tag) = (format!("content-length: {}\r\n", text.len()), format!("etag: \"{e_tag}\"\r\n"));
    let told = match state.packed.get(&key) {
        Some(_) if !is_packed_for => String::new(),
        Some(true) => format!("x-goog-stored-{length}{e_tag}"),
        _ => length + &e_tag,
    };
    let head_only = head[0].starts_with("HEAD");
    let answer = format!(
        "HTTP/1.1 {status}\r\n{told}connection: close\r\nlast-modified: Fri, 27 Nov 2026 10:00:00 GMT\r\n\r\n{}",
        if head_only { "" } else { &text }
    );
    // The client may have gone.
    let _gone = stream.write_all(answer.as_bytes());
}

fn object(state: &mut State, key: &str) -> (&'static str, String) {
    state.reads.push(key.to_owned());
    if !state.keys.contains_key(key) {
        return ("404 Not Found", String::new());
    }
    if state.refused.contains(key) {
        return ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>".to_owned());
    }
    let body = state.bodies.get(key).map_or("x", String::as_str);
    ("200 OK", body[..state.bytes_max.map_or(body.len(), |max| max.min(body.len()))].to_owned())
}

fn list(state: &mut State, url: &Url) -> String {
    let asked: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let (prefix, is_level) = (of("prefix"), !of("delimiter").is_empty());
    state.listings.push(format!("{}{}", prefix.trim_end_matches('/'), if is_level { "/" } else { "" }));
    let after = of("start-after").max(of("continuation-token"));
    let (mut entries, mut last) = (Vec::new(), String::new());
    for (key, written) in state.keys.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
        let below = key[prefix.len()..].split_once('/').filter(|_| is_level);
        let name = below.map_or(key.clone(), |(name, _)| format!("{prefix}{name}/"));
        if *key <= after || name == last || (below.is_some() && after.starts_with(&name)) {
            continue;
        }
        if entries.len() == PAGE {
            entries.push(format!("<NextContinuationToken>{last}</NextContinuationToken>"));
            break;
        }
        let quote = if state.is_unquoted { "" } else { "\"" };
        entries.push(match below {
            Some(_) => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-27T10:00:00Z</LastModified><Size>{}</Size>\
                 <ETag>{quote}{written}{quote}</ETag></Contents>",
                state.bodies.get(key).map_or(1, String::len)
            ),
        });
        last = name;
    }
    format!("<ListBucketResult>{}</ListBucketResult>", entries.concat())
}

fn messages(state: &mut State, action: &str, body: &[u8]) -> String {
    if action.ends_with("DeleteMessageBatch") {
        let asked: Value = serde_json::from_slice(body).unwrap();
        for entry in asked["Entries"].as_array().unwrap() {
            state.messages.remove(entry["ReceiptHandle"].as_str().unwrap());
        }
        return "{}".to_owned();
    }
    let message = |(receipt, body): (&String, &String)| json!({"ReceiptHandle": receipt, "Body": body});
    json!({"Messages": state.messages.iter().map(message).collect::<Vec<_>>()}).to_string()
}
