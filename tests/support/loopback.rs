//! A server on the loopback that answers each request as a function says, one connection each.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Empty where there is none.
    pub(crate) authorization: String,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScriptedReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// Bytes of the body that are announced and do not come.
    pub(crate) missing: usize,
}

impl ScriptedReply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: body.to_string(), ..Self::default() }
    }
}

/// The server; its thread lives as long as the test's process.
pub(crate) struct Loopback {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Loopback {
    pub(crate) fn start(reply: impl Fn(&Question) -> ScriptedReply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some((mut stream, question)) = stream.ok().and_then(question) else { continue };
                noted.lock().unwrap().push(question.clone());
                let reply = reply(&question);
                // A client that goes away is the client's matter.
                let _ = stream.write_all(written(&reply).as_bytes());
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request to this path, in the order in which they came.
    pub(crate) fn asked(&self, path: &str) -> Vec<Question> {
        self.asked.lock().unwrap().iter().filter(|question| question.path == path).cloned().collect()
    }
}

fn question(mut stream: TcpStream) -> Option<(TcpStream, Question)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.split_whitespace().nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let authorization = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let authorization = authorization.unwrap_or_default();
    Some((stream, Question { path: path.to_owned(), query, authorization }))
}

fn written(reply: &ScriptedReply) -> String {
    let headers: Vec<String> =
        reply.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (status, headers, length) = (reply.status, headers.concat(), reply.body.len() + reply.missing);
    let head =
        format!("HTTP/1.1 {status} Said\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    head + &reply.body
}
