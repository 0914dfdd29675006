//! Batches as Currents pushes them, each connection on a thread of its own: plain sockets, for an HTTP client
//! would cost more than the events.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_lanes::clock::Clock;

use crate::events::{Events, Templates};
use crate::pace::{Pace, Plan};
use crate::truth::Truth;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after a connection was lost or refused.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was quiet for longer is not used again: servers close such a one, this forwarder after 75 s.
const QUIET_MAX: Duration = Duration::from_mins(1);

/// Room for the length of a body, in digits; what is not used is spaces, which HTTP allows there.
const LENGTH_DIGITS: usize = 12;

/// Where pushes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and port.
    address: String,
    /// Everything before the body, with room for its length at the end.
    head: String,
}

impl Target {
    /// Reads `http://host[:port]/path?query`.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) fn parse(url: &str, token: Option<&str>) -> Result<Self, String> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| format!("{url}: only http:// is spoken here"))?;
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(split);
        if host.is_empty() {
            return Err(format!("{url}: names no host"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\n\
             Braze-Currents-Version: 1\r\nContent-Length: {:LENGTH_DIGITS$}\r\n\r\n",
            ""
        );
        Ok(Self { address, head })
    }
}

/// Pushes what the plan says over `connections` connections.
///
/// # Errors
/// When the system gives no thread. Whatever a push meets is in the truth.
pub(crate) fn push(
    target: &Target,
    templates: &Arc<Templates>,
    plan: Plan,
    connections: u32,
    clock: &Clock,
) -> io::Result<Truth> {
    let start = Instant::now();
    let spawn = |number| {
        let mut connection = Connection::new(target, templates, number, clock);
        let pace = Pace::new(plan, number, connections, start);
        let work = move || {
            connection.run(pace, plan.batch, start);
            connection.truth
        };
        thread::Builder::new().name(format!("push-{number}")).spawn(work)
    };
    let threads = (0..connections).map(spawn).collect::<io::Result<Vec<_>>>()?;
    let mut truth = Truth::default();
    for thread in threads {
        truth.merge(&thread.join().map_err(|_panic| io::Error::other("a connection's thread has died"))?);
    }
    Ok(truth)
}

/// One connection, which is opened again when it is lost.
struct Connection {
    target: Target,
    /// Kept for the next push, with the end of the last one.
    stream: Option<(BufReader<TcpStream>, Instant)>,
    events: Events,
    clock: Clock,
    /// The head, then the body of the batch at hand.
    request: Vec<u8>,
    /// The tag sets of its sends.
    sets: Vec<u32>,
    truth: Truth,
}

impl Connection {
    fn new(target: &Target, templates: &Arc<Templates>, number: u32, clock: &Clock) -> Self {
        Self {
            target: target.clone(),
            stream: None,
            events: Events::new(templates, number),
            clock: clock.clone(),
            request: target.head.clone().into_bytes(),
            sets: Vec::new(),
            truth: Truth::default(),
        }
    }

    fn run(&mut self, mut pace: Pace, batch: u32, start: Instant) {
        while pace.wait() {
            self.write_batch(batch);
            self.truth.made(batch, &self.sets);
            match self.exchange(pace.was_due) {
                Ok(200) => self.truth.accepted(batch, &self.sets),
                Ok(status) => self.truth.refused(&status.to_string(), batch, &self.sets),
                // Whether it was counted only the other end knows.
                Err(error) => {
                    self.stream = None;
                    self.truth.refused(&error.kind().to_string(), batch, &self.sets);
                    thread::sleep(CONNECT_PAUSE);
                }
            }
        }
        self.truth.finish(start.elapsed(), pace.behind);
    }

    fn write_batch(&mut self, batch: u32) {
        let now = self.clock.unix_seconds();
        let head = self.target.head.len();
        self.sets.clear();
        self.request.truncate(head);
        self.request.extend_from_slice(b"{\"events\":[");
        for number in 0..batch {
            if number > 0 {
                self.request.push(b',');
            }
            self.sets.extend(self.events.append(&mut self.request, now));
        }
        self.request.extend_from_slice(b"]}");
        let length = format!("{:>LENGTH_DIGITS$}", self.request.len() - head);
        let end = head - b"\r\n\r\n".len();
        self.request[end - LENGTH_DIGITS..end].copy_from_slice(length.as_bytes());
    }

    /// Sends the request and reads the status of the answer. What waited for the push before it, or for a connection, has waited
    /// since it was due.
    fn exchange(&mut self, due: Option<Instant>) -> io::Result<u16> {
        let begun = due.unwrap_or_else(Instant::now);
        let kept = self.stream.take().filter(|(_, used)| used.elapsed() < QUIET_MAX);
        let mut stream = match kept.map(|(stream, _)| self.begin(stream)) {
            Some(Ok(stream)) => stream,
            Some(Err(error)) if !has_ended(&error) => return Err(error),
            // The other end may close a connection that it has kept at any time: once more, as Braze's client would.
            Some(Err(_)) | None => self.begin(connect(&self.target.address)?)?,
        };
        let answer = read_answer(&mut stream)?;
        self.truth.took(begun.elapsed());
        if answer.stays_open {
            self.stream = Some((stream, Instant::now()));
        }
        Ok(answer.status)
    }

    /// Sends the request, and waits for the first byte of the answer.
    fn begin(&self, mut stream: BufReader<TcpStream>) -> io::Result<BufReader<TcpStream>> {
        stream.get_mut().write_all(&self.request)?;
        if stream.fill_buf()?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(stream)
    }
}

fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(BufReader::new(stream))
}

/// Whether the other end has closed the connection.
fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    stays_open: bool,
}

/// Reads an answer to its end. One without a length ends with its connection.
fn read_answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    let (mut length, mut stays_open) = (None, true);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().map_err(|_number| invalid())?);
        } else if name.eq_ignore_ascii_case("connection") {
            stays_open = !value.trim().eq_ignore_ascii_case("close");
        }
    }
    stays_open &= length.is_some();
    io::copy(&mut stream.take(length.unwrap_or(u64::MAX)), &mut io::sink())?;
    Ok(Answer { status, stays_open })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::events::LoadSettings;

    #[test]
    fn a_url_becomes_an_address_and_a_head() {
        let target = Target::parse("http://127.0.0.1:8080/v1/events?app_group_id=a", Some("t==")).unwrap();
        assert_eq!(target.address, "127.0.0.1:8080");
        assert!(
            target.head.starts_with("POST /v1/events?app_group_id=a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
        );
        assert!(target.head.contains("\r\nAuthorization: Bearer t==\r\n"));
        assert_eq!(Target::parse("http://host?x", None).unwrap().address, "host:80");
        assert!(Target::parse("https://host/", None).is_err());
        assert!(Target::parse("http:///v1", None).is_err());
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let mut bytes =
            &b"HTTP/1.1 503 Full\r\nretry-after: 1\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200"[..];
        assert_eq!(read_answer(&mut bytes).unwrap(), Answer { status: 503, stays_open: true });
        assert_eq!(bytes, b"HTTP/1.1 200");
        let mut last = &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"[..];
        assert_eq!(read_answer(&mut last).unwrap(), Answer { status: 200, stays_open: false });
        assert!(read_answer(&mut &b""[..]).is_err());
        assert!(read_answer(&mut &b"what?\r\n\r\n"[..]).is_err());
    }

    /// Answers every other push of a connection with 503; returns the bodies that it answered with 200.
    fn serve(listener: &TcpListener, pushes: usize) -> Vec<serde_json::Value> {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut accepted = Vec::new();
        for number in 0..pushes {
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = if number % 2 == 0 { "200 OK" } else { "503 Full" };
            write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            if number % 2 == 0 {
                accepted.push(serde_json::from_slice(&body).unwrap());
            }
        }
        accepted
    }

    #[test]
    fn pushes_are_envelopes_over_one_connection_and_only_200_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/events", listener.local_addr().unwrap());
        let server = thread::spawn(move || serve(&listener, 4));
        let settings = LoadSettings { seed: 1, tag_sets: 10, app_groups: 2, ignored_percent: 0 };
        let templates = Arc::new(Templates::new(settings));
        let plan = Plan { batch: 100, rate: Some(100_000), events_max: 400, seconds_max: None };
        let target = Target::parse(&url, None).unwrap();
        let json = push(&target, &templates, plan, 1, &Clock::system()).unwrap().json(&templates, 1);
        let bodies = server.join().unwrap();
        assert_eq!(bodies.len(), 2);
        assert!(bodies.iter().all(|body| body["events"].as_array().unwrap().len() == 100));
        assert_eq!(json["made"]["events"], 400);
        assert_eq!(json["accepted"]["sends"], 200);
        assert_eq!(json["refused"]["503"]["batches"], 2);
        assert!(json["push_milliseconds"]["max"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_push_that_is_sent_late_took_as_long_since_it_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&format!("http://{}/", listener.local_addr().unwrap()), None).unwrap();
        let server = thread::spawn(move || serve(&listener, 1));
        let settings = LoadSettings { seed: 1, tag_sets: 10, app_groups: 2, ignored_percent: 0 };
        let templates = Arc::new(Templates::new(settings));
        let mut connection = Connection::new(&target, &templates, 0, &Clock::system());
        connection.write_batch(1);
        let an_hour_ago = Instant::now().checked_sub(Duration::from_hours(1));
        assert_eq!(connection.exchange(an_hour_ago).unwrap(), 200);
        server.join().unwrap();
        let milliseconds = connection.truth.json(&templates, 1)["push_milliseconds"]["max"].as_f64().unwrap();
        assert!(milliseconds >= 3_600_000.0, "{milliseconds}");
    }
    #[test]
    fn a_push_that_meets_the_end_of_a_kept_connection_is_sent_once_more_on_a_new_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // Each connection is closed behind its first answer, which does not say so.
        let server = thread::spawn(move || [serve(&listener, 1), serve(&listener, 1)].concat());
        let settings = LoadSettings { seed: 1, tag_sets: 10, app_groups: 2, ignored_percent: 0 };
        let templates = Arc::new(Templates::new(settings));
        let plan = Plan { batch: 100, rate: None, events_max: 200, seconds_max: None };
        let target = Target::parse(&url, None).unwrap();
        let json = push(&target, &templates, plan, 1, &Clock::system()).unwrap().json(&templates, 1);
        assert_eq!(json["accepted"]["batches"], 2, "{json}");
        assert_eq!(server.join().unwrap().len(), 2);
    }

    #[test]
    fn a_connection_that_was_quiet_for_long_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = Target::parse(&format!("http://{address}/"), None).unwrap();
        let settings = LoadSettings { seed: 1, tag_sets: 10, app_groups: 2, ignored_percent: 0 };
        let templates = Arc::new(Templates::new(settings));
        let mut connection = Connection::new(&target, &templates, 0, &Clock::system());
        connection.stream =
            Some((connect(&address).unwrap(), Instant::now().checked_sub(QUIET_MAX).unwrap()));
        // It stays open, and nobody answers there.
        let (_quiet, _) = listener.accept().unwrap();
        let server = thread::spawn(move || serve(&listener, 1));
        connection.write_batch(1);
        assert_eq!(connection.exchange(None).unwrap(), 200);
        server.join().unwrap();
    }
}
