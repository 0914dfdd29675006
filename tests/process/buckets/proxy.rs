//! Stands between the forwarder and a store, and makes it fail: a thread a connection, one request each.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// 503, as S3 answers who asks too often.
    Busy,
    /// The answer ends after so many bytes.
    CutAfter(usize),
    /// The connection is closed without an answer.
    Closed,
}

type Refusal = (&'static str, &'static str);

#[derive(Default)]
struct State {
    next: VecDeque<Fault>,
    /// The status and the code of an error that answer every request.
    refusal: Option<Refusal>,
}

/// It ends with the test process.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// A proxy before a server, which is told its own name in the place of the proxy's if it is `renamed`.
    pub(super) fn start(server: SocketAddr, renamed: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let state = Arc::clone(&shared);
                let Ok(client) = client else { continue };
                // Whoever is cut off does not matter to the proxy.
                thread::spawn(move || drop(serve(client, server, renamed, &state)));
            }
        });
        Self { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next requests fail so, one after the other.
    pub(super) fn fail_with(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().next.extend(faults);
    }

    pub(super) fn faults_left(&self) -> usize {
        self.state.lock().unwrap().next.len()
    }

    /// Every request is answered so, from here on.
    pub(super) fn refuse(&self, refusal: Option<Refusal>) {
        self.state.lock().unwrap().refusal = refusal;
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, renamed: bool, state: &Mutex<State>) -> io::Result<()> {
    let Some(head) = read_head(&mut client)? else { return Ok(()) };
    let (fault, refusal) = {
        let mut state = state.lock().unwrap();
        (if state.refusal.is_some() { None } else { state.next.pop_front() }, state.refusal)
    };
    let answer = |status: &str, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    if let Some((status, code)) = refusal {
        return client.write_all(answer(status, code).as_bytes());
    }
    match fault {
        Some(Fault::Busy) => return client.write_all(answer("503 Slow Down", "SlowDown").as_bytes()),
        Some(Fault::Closed) => return client.shutdown(Shutdown::Both),
        Some(Fault::CutAfter(_)) | None => {}
    }
    let mut left = match fault {
        Some(Fault::CutAfter(bytes)) => bytes,
        _ => usize::MAX,
    };
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&one_request(&head, renamed.then_some(server)))?;
    let mut buffer = [0; 16 * 1024];
    loop {
        let bytes = upstream.read(&mut buffer)?.min(left);
        if bytes == 0 {
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..bytes])?;
        left -= bytes;
    }
}

/// A head without a body; what is only read sends none.
fn read_head(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(head))
}

/// The same request, after which the server closes, to this name.
fn one_request(head: &[u8], name: Option<SocketAddr>) -> Vec<u8> {
    let head = String::from_utf8(head.to_vec()).unwrap();
    let (lines, _) = head.rsplit_once("\r\n\r\n").unwrap();
    let is_kept = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !(line.starts_with("connection:") || name.is_some() && line.starts_with("host:"))
    };
    let mut request: String = lines.split("\r\n").filter(is_kept).flat_map(|line| [line, "\r\n"]).collect();
    if let Some(name) = name {
        request.extend(["host: ", &name.to_string(), "\r\n"]);
    }
    request += "connection: close\r\n\r\n";
    request.into_bytes()
}
