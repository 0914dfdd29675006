use std::sync::atomic::AtomicUsize;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::testing::{Reply, TlsPair, ask, connect, eventually, read_reply, tls_client, tls_client_for};
use super::*;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn limits() -> ConnectionLimits {
    ConnectionLimits { first_request_time_max: LONG, idle_time_max: LONG, ..ConnectionLimits::default() }
}

/// What `/large` answers.
const LARGE_BYTES: usize = 20_000_000;

/// A listener whose answers say who is welcome; `/slow` takes 600 ms, `/panic` panics, `/leave` hangs up. `/known`,
/// `/busy` and `/yielding` are vouched for, as the sender of the query; the last two take their time.
struct Running {
    address: SocketAddr,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    done: JoinSet<usize>,
    asked: Arc<AtomicUsize>,
    release: Arc<Notify>,
}

async fn running(limits: ConnectionLimits, tls: Option<Arc<ServerConfig>>, grace: Duration) -> Running {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), "x.listen", limits).await.unwrap();
    let (address, counts) = (listener.local_addr(), listener.counts());
    let (stop, stopped) = watch::channel(false);
    let (asked, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let handle = {
        let (asked, release) = (Arc::clone(&asked), Arc::clone(&release));
        move |request: Request<Incoming>, caller: Caller| {
            asked.fetch_add(1, Ordering::SeqCst);
            let release = Arc::clone(&release);
            async move {
                let path = request.uri().path().to_owned();
                let sender = request.uri().query().and_then(|sender| sender.parse().ok());
                let is_known = ["/known", "/busy", "/yielding"].contains(&&*path);
                let mut refused = is_known && !caller.vouch(sender);
                match &*path {
                    "/slow" => sleep(2 * SHORT).await,
                    "/panic" => panic!("on purpose"),
                    "/busy" if !refused => {
                        caller.keep();
                        let _elapsed = tokio::time::timeout(LONG, release.notified()).await;
                    }
                    "/yielding" if !refused => tokio::select! {
                        () = sleep(LONG) => {}
                        () = caller.displaced() => refused = true,
                    },
                    _ => {}
                }
                let mut answer = Answer::new(Full::from(format!("{:?}", caller.admission)));
                if path == "/large" {
                    *answer.body_mut() = Full::from(vec![b'x'; LARGE_BYTES]);
                    return hang_up(answer);
                }
                if refused || caller.admission != Admission::Welcome {
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                if refused || path == "/leave" { hang_up(answer) } else { answer }
            }
        }
    };
    let mut done = JoinSet::new();
    done.spawn(listener.run(move || tls.clone(), handle, stopped, grace));
    Running { address, counts, stop, done, asked, release }
}

impl Running {
    async fn ended(&mut self) -> usize {
        self.done.join_next().await.unwrap().unwrap()
    }
}

/// Waits until the server closes the connection; what it said until then.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end as well.
    if let Err(error) = stream.read_to_end(&mut said).await {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting_and_what_to_do() {
    let running = running(limits(), None, LONG).await;
    let error = Listener::bind(running.address, "push.listen", limits()).await.unwrap_err();
    let expected = format!(
        "push.listen = \"{}\": the address is already in use; stop the program that listens there, or \
             choose another port",
        running.address
    );
    assert_eq!(error.to_string(), expected);
    let foreign = Listener::bind("192.0.2.1:0".parse().unwrap(), "admin.listen", limits()).await;
    assert!(foreign.unwrap_err().to_string().contains("this machine has no such address"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_one_after_the_other_or_ahead() {
    let running = running(limits(), None, LONG).await;
    let mut stream = connect(running.address).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, GET).await.status, 200);
    }
    stream.write_all(&GET.repeat(50)).await.unwrap();
    for _ in 0..50 {
        assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
    }
    assert_eq!(running.counts.accepted(), 1);
    assert_eq!(running.counts.open(), 1);
}

/// Over connections of `connect`: some close their half, and then one goes away.
async fn half_closed<S: AsyncRead + AsyncWrite + Unpin>(running: &Running, connect: impl AsyncFn() -> S) {
    let slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
    // Also behind requests that were sent ahead, and without any.
    for (requests, asked) in [(&slow[..], 1), (&[GET, slow, GET].concat(), 3), (b"", 0)] {
        let mut stream = connect().await;
        stream.write_all(requests).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said.matches("HTTP/1.1 200").count(), asked, "{said}");
    }
    eventually(|| running.counts.open() == 0).await;
    let mut gone = connect().await;
    gone.write_all(slow).await.unwrap();
    gone.flush().await.unwrap();
    eventually(|| running.asked.load(Ordering::SeqCst) == 5).await;
    drop(gone);
    eventually(|| running.counts.open() == 0).await;
}

#[tokio::test]
async fn who_closes_its_half_after_a_request_is_answered_and_who_is_gone_is_noticed_then() {
    let plain = running(limits(), None, LONG).await;
    half_closed(&plain, async || connect(plain.address).await).await;
    let pair = TlsPair::new();
    let running = running(limits(), Some(pair.config()), LONG).await;
    half_closed(&running, async || tls_client(running.address, &pair, &[]).await.unwrap()).await;
}

#[tokio::test]
async fn a_stop_answers_who_has_closed_its_half() {
    let mut running = running(limits(), None, LONG).await;
    let mut slow = connect(running.address).await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    slow.shutdown().await.unwrap();
    eventually(|| running.asked.load(Ordering::SeqCst) == 1).await;
    running.stop.send(true).unwrap();
    assert_eq!(read_reply(&mut slow).await.unwrap().status, 200);
    assert_eq!(running.ended().await, 0);
}

#[tokio::test]
async fn who_sends_no_whole_header_in_time_loses_the_connection() {
    let limits = ConnectionLimits { first_request_time_max: 3 * SHORT, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut silent = connect(running.address).await;
    let mut slow = connect(running.address).await;
    let mut kept = connect(running.address).await;
    assert_eq!(ask(&mut kept, GET).await.status, 200);
    let drip = async {
        for byte in GET.iter().cycle() {
            sleep(SHORT / 5).await;
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    // The header would be whole after 25 drops of 60 ms; the connection ends after 900 ms.
    let cut = async {
        assert_eq!(until_closed(&mut silent).await, "");
    };
    tokio::time::timeout(LONG, async { tokio::join!(drip, cut) }).await.unwrap();
    assert_eq!(running.asked.load(Ordering::SeqCst), 1);
    assert_eq!(ask(&mut kept, GET).await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time() {
    let limits = ConnectionLimits { idle_time_max: SHORT, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut stream = connect(running.address).await;
    assert_eq!(ask(&mut stream, GET).await.status, 200);
    let start = Instant::now();
    assert_eq!(until_closed(&mut stream).await, "");
    assert!(start.elapsed() > SHORT / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer() {
    let limits = ConnectionLimits { age_max: SHORT, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut stream = connect(running.address).await;
    let reply = ask(&mut stream, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(until_closed(&mut stream).await, "");
}

#[tokio::test]
async fn an_old_connection_without_a_request_under_way_answers_one_more() {
    let limits = ConnectionLimits { age_max: 3 * SHORT, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut idle = connect(running.address).await;
    assert_eq!(ask(&mut idle, GET).await.header("connection"), None);
    let mut half = connect(running.address).await;
    assert_eq!(ask(&mut half, GET).await.status, 200);
    half.write_all(&GET[..10]).await.unwrap();
    sleep(4 * SHORT).await;
    for (mut stream, rest) in [(idle, GET), (half, &GET[10..])] {
        let reply = ask(&mut stream, rest).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert_eq!(until_closed(&mut stream).await, "");
    }
}

#[tokio::test]
async fn an_old_connection_ends_for_good_though_its_request_does_not() {
    let limits =
        ConnectionLimits { age_max: SHORT, idle_time_max: SHORT, request_time_max: SHORT, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut busy = running.busy(1).await;
    assert_eq!(tokio::time::timeout(LONG / 2, until_closed(&mut busy)).await.unwrap(), "");
    eventually(|| running.counts.open() == 0).await;
}

const KNOWN: &[u8] = b"GET /known HTTP/1.1\r\nHost: x\r\n\r\n";

fn as_sender(path: &str, sender: usize) -> Vec<u8> {
    format!("GET {path}?{sender} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

impl Running {
    /// A connection whose request of this sender does not end.
    async fn busy(&self, sender: usize) -> TcpStream {
        let mut stream = connect(self.address).await;
        let asked = self.asked.load(Ordering::SeqCst);
        stream.write_all(&as_sender("/busy", sender)).await.unwrap();
        eventually(|| self.asked.load(Ordering::SeqCst) > asked).await;
        stream
    }
}

#[tokio::test]
async fn without_a_slot_a_request_is_refused_and_strangers_are_let_in_all_the_same() {
    let limits = ConnectionLimits { connections_max: 2, strangers_min: 1, ..limits() };
    let running = running(limits, None, LONG).await;
    let busy = [running.busy(7).await, running.busy(7).await];
    // Neither of another sender's, for both are kept, nor of the same one's.
    for sender in [7, 8] {
        let mut crowded = connect(running.address).await;
        let reply = ask(&mut crowded, &as_sender("/known", sender)).await;
        assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
        assert_eq!(until_closed(&mut crowded).await, "");
    }
    let mut silent = connect(running.address).await;
    let mut stranger = connect(running.address).await;
    assert_eq!(ask(&mut stranger, GET).await.status, 200);
    assert_eq!(until_closed(&mut silent).await, "");
    assert_eq!((running.counts.crowded(), running.counts.displaced()), (2, 1));
    drop(busy);
    // Who is gone is noticed when it is answered.
    running.release.notify_waiters();
    eventually(|| running.counts.open() == 1).await;
    assert_eq!(ask(&mut stranger, &as_sender("/known", 8)).await.status, 200);
}

#[tokio::test]
async fn strangers_make_room_the_oldest_first_and_those_who_are_idle_for_whoever_is_known() {
    let limits = ConnectionLimits { connections_max: 2, strangers_min: 1, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut known = connect(running.address).await;
    assert_eq!(ask(&mut known, KNOWN).await.status, 200);
    let mut silent = connect(running.address).await;
    let mut stranger = connect(running.address).await;
    assert_eq!(ask(&mut stranger, GET).await.status, 200);
    for ended in [&mut silent, &mut stranger] {
        let mut next = connect(running.address).await;
        assert_eq!(ask(&mut next, GET).await.status, 200);
        assert_eq!(until_closed(ended).await, "");
        *ended = next;
    }
    // One more is known, and both are idle: the older one leaves for the next.
    assert_eq!(ask(&mut stranger, KNOWN).await.status, 200);
    assert_eq!(ask(&mut silent, KNOWN).await.status, 200);
    assert_eq!(until_closed(&mut known).await, "");
    for kept in [&mut silent, &mut stranger] {
        assert_eq!(ask(kept, KNOWN).await.status, 200);
    }
    assert_eq!((running.counts.displaced(), running.counts.open()), (3, 2));
}

#[tokio::test]
async fn a_sender_below_its_share_takes_the_slots_of_one_above_and_no_more() {
    let limits = ConnectionLimits { connections_max: 6, strangers_min: 2, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut slow = Vec::new();
    for _ in 0..6 {
        let mut stream = connect(running.address).await;
        let asked = running.asked.load(Ordering::SeqCst);
        stream.write_all(&as_sender("/yielding", 1)).await.unwrap();
        eventually(|| running.asked.load(Ordering::SeqCst) > asked).await;
        sleep(Duration::from_millis(5)).await;
        slow.push(stream);
    }
    let mut others = Vec::new();
    for slowest in slow.iter_mut().take(3) {
        others.push(running.busy(2).await);
        // Whoever has been at it for the longest is told so.
        let reply = read_reply(slowest).await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
    }
    // Each has half of the slots now.
    for sender in [1, 2] {
        let mut more = connect(running.address).await;
        assert_eq!(ask(&mut more, &as_sender("/known", sender)).await.status, 503, "{sender}");
    }
    assert_eq!(running.counts.crowded(), 2);
    // A third has its share of two, of whoever has more.
    others.push(running.busy(3).await);
    assert_eq!(read_reply(&mut slow[3]).await.unwrap().status, 503);
    let mut more = connect(running.address).await;
    assert_eq!(ask(&mut more, &as_sender("/known", 3)).await.status, 503, "the rest is kept");
}

#[tokio::test]
async fn the_idle_connections_of_one_who_holds_less_are_left_alone() {
    let limits = ConnectionLimits { connections_max: 3, strangers_min: 1, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut idle = connect(running.address).await;
    assert_eq!(ask(&mut idle, &as_sender("/known", 2)).await.status, 200);
    let _busy = [running.busy(1).await, running.busy(1).await];
    let mut more = connect(running.address).await;
    assert_eq!(ask(&mut more, &as_sender("/known", 1)).await.status, 503);
    assert_eq!(ask(&mut idle, &as_sender("/known", 2)).await.status, 200);
    assert_eq!(running.counts.displaced(), 0);
}

#[tokio::test]
async fn an_answer_on_its_way_is_not_cut_off_for_a_newcomer_but_those_that_are_not_taken_are() {
    let limits = ConnectionLimits { connections_max: 0, strangers_min: 3, ..limits() };
    let running = running(limits, None, LONG).await;
    let large = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut slow = connect(running.address).await;
    slow.write_all(large).await.unwrap();
    let mut first = [0; 1];
    slow.read_exact(&mut first).await.unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&mut connect(running.address).await, GET).await.status, 200);
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > LARGE_BYTES, "{}", rest.len());
    // Hundreds that take a byte and no more keep nobody out, and leave before those that came later.
    let mut stuck = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(running.address).await;
        stream.write_all(large).await.unwrap();
        stream.read_exact(&mut first).await.unwrap();
        stuck.push(stream);
    }
    assert_eq!(ask(&mut connect(running.address).await, GET).await.status, 200);
    assert!(running.counts.open() <= 3, "{}", running.counts.open());
}

#[tokio::test]
async fn thousands_of_idle_connections_keep_nobody_out() {
    let limits = ConnectionLimits { connections_max: 19, strangers_min: 1, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut idle = Vec::new();
    for number in 0..2000 {
        idle.push(connect(running.address).await);
        if number % 100 == 0 {
            assert_eq!(ask(&mut connect(running.address).await, KNOWN).await.body, "Welcome");
        }
    }
    assert!(running.counts.open() <= 20, "{}", running.counts.open());
    assert_eq!(running.counts.crowded(), 0);
}

#[test]
fn connections_leave_descriptors_to_the_rest_of_the_process() {
    let few = ConnectionLimits::default().within(296);
    assert_eq!((few.connections_max, few.strangers_min), (128, 32));
    let fewest = ConnectionLimits::default().within(64);
    assert_eq!((fewest.connections_max, fewest.strangers_min), (12, 3));
    assert_eq!(ConnectionLimits::default().within(65536), ConnectionLimits::default());
    let none_vouched_for = ConnectionLimits { connections_max: 0, ..ConnectionLimits::default() }.within(4);
    assert_eq!((none_vouched_for.connections_max, none_vouched_for.strangers_min), (0, 1));
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_no_other() {
    let running = running(limits(), None, LONG).await;
    let mut other = connect(running.address).await;
    assert_eq!(ask(&mut other, GET).await.status, 200);
    let mut stream = connect(running.address).await;
    stream.write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "");
    assert_eq!(ask(&mut other, GET).await.status, 200);
    eventually(|| running.counts.open() == 1).await;
}

#[tokio::test]
async fn who_sends_a_large_body_before_reading_still_reads_the_refusal() {
    let running = running(limits(), None, LONG).await;
    let mut stream = connect(running.address).await;
    let body = vec![b'x'; 8_000_000];
    let head = format!("POST /leave HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let reply = read_reply(&mut stream).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn a_peer_that_never_stops_sending_is_cut_off() {
    let limits = ConnectionLimits { linger_bytes_max: 1_000_000, ..limits() };
    let running = running(limits, None, LONG).await;
    let mut stream = connect(running.address).await;
    let head = b"POST /leave HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let flood = async { while stream.write_all(&vec![b'x'; 65536]).await.is_ok() {} };
    tokio::time::timeout(LONG, flood).await.unwrap();
}

#[tokio::test]
async fn a_header_that_is_no_http_or_too_large_is_refused_by_itself() {
    let running = running(limits(), None, LONG).await;
    let mut stream = connect(running.address).await;
    assert_eq!(ask(&mut stream, b"\x16\x03\x01 hello\r\n\r\n").await.status, 400);
    let mut stream = connect(running.address).await;
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1_000_000));
    stream.write_all(large.as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 431);
    assert_eq!(running.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_closes_the_rest_at_once() {
    let limits = ConnectionLimits { stop_time_max: SHORT, ..limits() };
    let mut running = running(limits, None, LONG).await;
    let mut idle = connect(running.address).await;
    assert_eq!(ask(&mut idle, GET).await.status, 200);
    let mut fresh = connect(running.address).await;
    let mut half = connect(running.address).await;
    half.write_all(b"GET / HT").await.unwrap();
    let mut slow = connect(running.address).await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually(|| running.asked.load(Ordering::SeqCst) == 2).await;
    let start = Instant::now();
    running.stop.send(true).unwrap();
    let reply = read_reply(&mut slow).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut fresh).await, "");
    assert_eq!(until_closed(&mut half).await, "");
    assert_eq!(running.ended().await, 0);
    assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    assert!(TcpStream::connect(running.address).await.is_err());
    assert_eq!(running.counts.open(), 0);
}

#[tokio::test]
async fn a_request_that_comes_whole_only_after_the_stop_is_told_so() {
    let mut running = running(limits(), None, LONG).await;
    let mut half = connect(running.address).await;
    half.write_all(&GET[..10]).await.unwrap();
    sleep(SHORT).await;
    running.stop.send(true).unwrap();
    let reply = ask(&mut half, &GET[10..]).await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "Stopping"));
    assert_eq!(running.ended().await, 0);
}

#[tokio::test]
async fn a_stop_cuts_off_what_takes_longer_than_the_grace() {
    let mut running = running(limits(), None, SHORT / 3).await;
    let mut slow = connect(running.address).await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually(|| running.asked.load(Ordering::SeqCst) == 1).await;
    running.stop.send(true).unwrap();
    assert_eq!(running.ended().await, 1);
    assert_eq!(until_closed(&mut slow).await, "");
}

#[tokio::test]
async fn a_stopper_that_is_gone_is_a_stop() {
    let mut running = running(limits(), None, LONG).await;
    let (gone, _) = watch::channel(false);
    drop(std::mem::replace(&mut running.stop, gone));
    assert_eq!(running.ended().await, 0);
}

#[tokio::test]
async fn tls_serves_http_1_and_refuses_everything_else() {
    let pair = TlsPair::new();
    let running = running(limits(), Some(pair.config()), LONG).await;
    for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
        let mut stream = tls_client(running.address, &pair, protocols).await.unwrap();
        assert_eq!(ask(&mut stream, GET).await.status, 200);
        let negotiated = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(negotiated.is_some(), !protocols.is_empty());
    }
    assert!(tls_client(running.address, &pair, &["h2"]).await.is_err());
    assert!(tls_client(running.address, &TlsPair::new(), &[]).await.is_err());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = tls_client_for(running.address, &pair, &[version]).await.unwrap();
        assert_eq!(ask(&mut stream, GET).await.status, 200);
    }
    let mut plain = connect(running.address).await;
    plain.write_all(GET).await.unwrap();
    let said = tokio::time::timeout(LONG, read_reply(&mut plain)).await.unwrap();
    assert_eq!(said.map(|reply: Reply| reply.status), None);
    eventually(|| running.counts.handshakes_failed() == 3).await;
}

#[tokio::test]
async fn a_look_whether_the_tls_port_is_open_is_no_failed_handshake() {
    let running = running(limits(), Some(TlsPair::new().config()), LONG).await;
    drop(connect(running.address).await);
    let reset = connect(running.address).await;
    reset.set_zero_linger().unwrap();
    drop(reset);
    let mut begun = connect(running.address).await;
    begun.write_all(&[0x16]).await.unwrap();
    drop(begun);
    eventually(|| running.counts.accepted() == 3 && running.counts.open() == 0).await;
    assert_eq!(running.counts.handshakes_failed(), 1);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_ends() {
    let limits = ConnectionLimits { handshake_time_max: SHORT, ..limits() };
    let running = running(limits, Some(TlsPair::new().config()), LONG).await;
    let mut silent = connect(running.address).await;
    assert_eq!(until_closed(&mut silent).await, "");
    eventually(|| running.counts.handshakes_failed() == 1).await;
}

#[tokio::test]
async fn a_tls_peer_that_writes_before_reading_still_reads_the_refusal() {
    let pair = TlsPair::new();
    let running = running(limits(), Some(pair.config()), LONG).await;
    let mut stream = tls_client(running.address, &pair, &[]).await.unwrap();
    let head = b"POST /leave HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    stream.write_all(&vec![b'x'; 8_000_000]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
}
