//! The HTTP client towards Datadog against servers on the loopback, on the real clock: every way in which a
//! request can end has its reason, and each body goes out once.

mod wire;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use braze_datadog::connection::Connection;
use braze_datadog::connection::Intake as _;
use datadog_points::ApiKey;
use datadog_points::client::{HttpIntake, IntakeSettings, LookUp, Network, Proxies, Resolver};
use datadog_points::outcome::Outcome;
use datadog_points::payload::{Payload, PayloadLimits, PayloadWriter, Times};
use datadog_points::site::Site;

use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Finished};
use crate::support::intake::{Behaviour, Intake};
use crate::support::unix_now;
use crate::support::{self, KEY};
use wire::{Closes, Proxy, Wire};

/// Long enough for an answer that comes at once, on a machine that is busy.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For what never comes.
const SHORT: Duration = Duration::from_millis(800);

/// How long a connection is used where that is not what a test is about.
const AGE: Duration = Duration::from_mins(5);

/// The same for a test that it is about.
const YOUNG: Duration = Duration::from_secs(1);

fn connection(url: &str) -> Arc<Connection> {
    Arc::new(Connection {
        site: Site::from_url(url).unwrap(),
        api_key: ApiKey::new(KEY),
        metric: "braze.messaging.sent".into(),
        dry_run: false,
        ..Connection::named("acme".into())
    })
}

/// One series with so many sends.
fn payload(sends: u64) -> Payload {
    let mut payloads = Vec::new();
    let mut splitter = PayloadWriter::new(PayloadLimits::default());
    let write = |raw: &mut Vec<u8>| {
        let now = unix_now();
        write!(raw, r#"{{"metric":"braze.messaging.sent","type":"distribution","tags":["campaign_id:a"],"points":[[{now},[{sends}]]]}}"#)
            .unwrap();
    };
    splitter.add(sends, Times::at(unix_now()), write, &mut |payload| payloads.push(payload));
    splitter.finish(&mut |payload| payloads.push(payload));
    payloads.pop().unwrap()
}

fn intake(timeout: Duration) -> HttpIntake {
    let network = Network::new("test", Resolver::start().unwrap(), Proxies::default(), true).unwrap();
    HttpIntake::new(
        IntakeSettings { timeout, timeout_name: "flush.timeout", connection_age_max: AGE },
        &network,
    )
    .unwrap()
}

/// An intake whose names are looked up in this way.
fn intake_with(timeout: Duration, connection_age_max: Duration, look_up: Arc<LookUp>) -> HttpIntake {
    let resolver = Resolver::start_with(move |host: &str| look_up(host)).unwrap();
    let network = Network::new("test", resolver, Proxies::default(), true).unwrap();
    HttpIntake::new(IntakeSettings { timeout, timeout_name: "flush.timeout", connection_age_max }, &network)
        .unwrap()
}

async fn submit_within(timeout: Duration, url: &str) -> Outcome {
    intake(timeout).submit(connection(url), payload(7)).await
}

/// One submission to an intake that does `behaviour`: it must arrive once, and be without fault.
async fn submit(timeout: Duration, behaviour: Behaviour) -> Outcome {
    let intake = Intake::start();
    intake.always(behaviour);
    let outcome = submit_within(timeout, &intake.url()).await;
    assert_eq!(intake.requests().len(), 1, "{outcome:?}");
    assert_eq!(intake.requests()[0].sends(), 7);
    assert_eq!(intake.requests()[0].key(), KEY);
    assert_eq!(intake.violations(), Vec::<String>::new());
    outcome
}

/// The detail of a drop, which tells neither the key nor more of an answer than a kibibyte.
fn dropped(outcome: Outcome, label: &str) -> String {
    let Outcome::Dropped { reason, detail } = outcome else { panic!("accepted instead of {label}") };
    assert_eq!(reason.label(), label, "{detail}");
    assert!(!detail.contains(KEY), "{detail}");
    assert!(detail.len() <= 1024 + 150, "{} bytes: {detail}", detail.len());
    detail
}

fn text(text: String) -> &'static str {
    text.leak()
}

#[tokio::test]
async fn a_202_is_accepted() {
    assert_eq!(submit(TIMEOUT, Behaviour::Accept).await, Outcome::Accepted);
}

#[tokio::test]
async fn every_other_status_is_dropped_under_its_reason_with_what_the_answer_says() {
    for (status, label) in [
        (200, "http_unexpected"),
        (201, "http_unexpected"),
        (302, "http_unexpected"),
        (400, "http_400"),
        (401, "http_4xx"),
        (403, "http_403"),
        (404, "http_4xx"),
        (408, "http_4xx"),
        (413, "http_413"),
        (429, "http_429"),
        (500, "http_5xx"),
        (503, "http_5xx"),
    ] {
        let outcome = submit(TIMEOUT, Behaviour::Status(status, "{\"errors\":[\"no\nway\"]}")).await;
        let detail = dropped(outcome, label);
        assert!(detail.contains(&status.to_string()), "{detail}");
        assert!(detail.ends_with("{\"errors\":[\"no way\"]}"), "{detail}");
    }
    let detail = dropped(submit(TIMEOUT, Behaviour::Status(204, "")).await, "http_unexpected");
    assert!(detail.contains("204 No Content"), "{detail}");
}

#[tokio::test]
async fn of_a_long_answer_a_kibibyte_is_told() {
    for body in ["x".repeat(100_000), format!("x{}", "é".repeat(50_000))] {
        let first = body.chars().next_back().unwrap();
        let detail = dropped(submit(TIMEOUT, Behaviour::Status(500, text(body))).await, "http_5xx");
        let told: usize = detail.chars().filter(|found| *found == first).map(char::len_utf8).sum();
        assert!((1000..=1024).contains(&told), "{told} bytes: {detail}");
    }
}

#[tokio::test]
async fn an_answer_that_repeats_the_key_is_told_without_it() {
    for before in [0, 10, 960, 1000, 1020, 1024, 1100] {
        let body = text(format!("{}{KEY} is not known, nor is {KEY}", ".".repeat(before)));
        let detail = dropped(submit(TIMEOUT, Behaviour::Status(403, body)).await, "http_403");
        // Nor a part of it.
        assert!(!detail.contains(&KEY[..4]), "{detail}");
        assert!(before >= 1000 || detail.contains("is not known"), "{detail}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_listened_to() {
    let started = Instant::now();
    dropped(submit(TIMEOUT, Behaviour::EndlessBody(500)).await, "http_5xx");
    assert_eq!(submit(TIMEOUT, Behaviour::EndlessBody(202)).await, Outcome::Accepted);
    assert!(started.elapsed() < TIMEOUT);
}

#[tokio::test]
async fn a_slow_answer_counts_if_it_comes_in_time() {
    assert_eq!(submit(TIMEOUT, Behaviour::Slow(SHORT)).await, Outcome::Accepted);
    let detail = dropped(submit(SHORT, Behaviour::Slow(TIMEOUT)).await, "timeout");
    assert!(detail.contains("flush.timeout"), "{detail}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let started = Instant::now();
    dropped(submit(SHORT, Behaviour::Hang).await, "timeout");
    // One that takes the connection and says nothing, where HTTP or TLS is expected.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (scheme, step) in [("http", "no answer within"), ("https", "no connection within")] {
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let detail = dropped(submit_within(SHORT, &url).await, "timeout");
        assert!(detail.contains(step), "{detail}");
    }
    assert!(started.elapsed() < TIMEOUT);
}

#[tokio::test]
async fn a_connection_that_fails_is_a_drop() {
    dropped(submit(TIMEOUT, Behaviour::Reset).await, "connect");
    let [closed] = support::ports::free();
    let detail = dropped(submit_within(TIMEOUT, &format!("http://{closed}")).await, "connect");
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_or_has_too_many_headers_has_a_reason_of_its_own() {
    dropped(submit(TIMEOUT, Behaviour::Garbage).await, "http_invalid");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    for (headers, accepted) in [(90, true), (200, false)] {
        let server = Wire::start_at(loopback, Closes::Never, &"x-odd: 1\r\n".repeat(headers)).await;
        let outcome = submit_within(TIMEOUT, &format!("http://{}", server.address)).await;
        if accepted {
            assert_eq!(outcome, Outcome::Accepted);
        } else {
            dropped(outcome, "http_invalid");
        }
        assert_eq!(server.bodies().len(), 1);
    }
}

/// What answers a request with these headers and this body, and the request's head.
async fn answered(answer: Vec<u8>) -> (Outcome, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (submit_within(TIMEOUT, &url).await, answering.join_next().await.unwrap().unwrap())
}

#[tokio::test]
async fn an_answer_that_breaks_off_within_the_key_is_told_without_it() {
    const ANSWER: &str = "HTTP/1.1 403 No\r\ncontent-length: 400\r\n\r\nno such key: ";
    for part in [4, KEY.len() - 1] {
        let answer = format!("{ANSWER}{}", &KEY[..part]);
        let detail = dropped(answered(answer.into_bytes()).await.0, "http_403");
        assert!(detail.ends_with(&format!("no such key: {}", "*".repeat(part))), "{detail}");
    }
}

#[tokio::test]
async fn a_plain_answer_is_asked_for_and_one_in_a_coding_is_named_and_not_told() {
    let packed = b"HTTP/1.1 400 No\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08";
    let (outcome, request) = answered(packed.to_vec()).await;
    assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
    let detail = dropped(outcome, "http_400");
    assert_eq!(detail, "400 Bad Request: with Content-Encoding gzip, which was not asked for");
}

#[tokio::test]
async fn a_202_whose_body_holds_errors_is_accepted_and_says_so() {
    let answer = "{\"errors\":[\"no\nsuch metric\"]}";
    let outcome = submit(TIMEOUT, Behaviour::Status(202, answer)).await;
    let Outcome::AcceptedWithErrors { detail } = outcome else { panic!("{outcome:?}") };
    assert_eq!(detail, "{\"errors\":[\"no such metric\"]}");
    assert_eq!(submit(TIMEOUT, Behaviour::Status(202, "{\"errors\":[]}")).await, Outcome::Accepted);

    let intake = Intake::start();
    intake.always(Behaviour::Status(202, answer));
    let (finished, sends) = run(Configuration::new(), &intake.url()).await;
    assert!(finished.stderr.contains("its answer speaks of errors"), "{finished:?}");
    let books = format!("\"accepted\":{sends},\"balanced\":true");
    assert!(finished.stdout.contains(&books), "{finished:?}");
    assert!(finished.stdout.contains("\"requests_accepted_with_errors\":1"), "{finished:?}");
}

#[tokio::test]
async fn a_name_that_can_not_be_looked_up_is_dropped_as_dns_and_stops_no_other() {
    let server = Wire::start(Closes::Never).await;
    let port = server.address.port();
    let look_up = move |host: &str| match host {
        "healthy.example" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
        "unknown.example" => Err(std::io::Error::other("no such name")),
        _ => {
            std::thread::sleep(Duration::from_secs(9));
            Err(std::io::Error::other("the name servers are silent"))
        }
    };
    let intake = Arc::new(intake_with(6 * SHORT, AGE, Arc::new(look_up)));
    let to = |host: &str| connection(&format!("http://{host}:{port}"));
    let detail = dropped(intake.submit(to("unknown.example"), payload(1)).await, "dns");
    assert!(detail.contains("unknown.example") && detail.contains("no such name"), "{detail}");
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (intake, to) = (Arc::clone(&intake), to("hangs.example"));
        hanging.spawn(async move { intake.submit(to, payload(1)).await });
    }
    assert_eq!(intake.submit(to("healthy.example"), payload(2)).await, Outcome::Accepted);
    for outcome in hanging.join_all().await {
        let detail = dropped(outcome, "dns");
        assert!(detail.contains("hangs.example") && detail.contains("name servers"), "{detail}");
    }
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn sends_follow_a_name_that_gets_another_address() {
    let old = Wire::start(Closes::Never).await;
    let port = old.address.port();
    let new = Wire::start_at(SocketAddr::from(([127, 0, 0, 2], port)), Closes::Never, "").await;
    let address = Arc::new(std::sync::Mutex::new(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let moved = Arc::clone(&address);
    let look_up = move |_: &str| Ok(vec![SocketAddr::new(*moved.lock().unwrap(), 0)]);
    let intake = intake_with(TIMEOUT, YOUNG, Arc::new(look_up));
    let connection = connection(&format!("http://moves.example:{port}"));
    assert_eq!(intake.submit(Arc::clone(&connection), payload(1)).await, Outcome::Accepted);
    *address.lock().unwrap() = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    // What was looked up is kept for ten seconds; the connection of before would be kept as long as there are sends.
    let started = Instant::now();
    while new.bodies().is_empty() {
        assert!(started.elapsed() < Duration::from_mins(1), "still on the old address");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(intake.submit(Arc::clone(&connection), payload(1)).await, Outcome::Accepted);
    }
    let connections = old.bodies().into_iter().map(|(connection, _)| connection).collect::<Vec<_>>();
    assert!(
        connections.last().is_some_and(|last| *last >= 1),
        "one connection was used for all: {connections:?}"
    );
}

#[tokio::test]
async fn of_several_addresses_a_dead_one_costs_no_batch() {
    let server = Wire::start(Closes::Never).await;
    let port = server.address.port();
    // One that takes no connection: its queue is full. Another refuses.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind(SocketAddr::from(([127, 0, 0, 3], port))).unwrap();
    let dead = dead.listen(1).unwrap();
    let mut filling = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let address = dead.local_addr().unwrap();
        filling.spawn(async move { tokio::net::TcpStream::connect(address).await });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let addresses = [[127, 0, 0, 3], [127, 0, 0, 4], [127, 0, 0, 1]].map(|ip| SocketAddr::from((ip, 0)));
    let intake = intake_with(Duration::from_secs(5), AGE, Arc::new(move |_: &str| Ok(addresses.to_vec())));
    let connection = connection(&format!("http://several.example:{port}"));
    for number in 1..=3 {
        assert_eq!(intake.submit(Arc::clone(&connection), payload(number)).await, Outcome::Accepted);
    }
    assert_eq!(server.bodies().len(), 3);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Intake::start();
    let location = format!("{}/api/v1/distribution_points", target.url());
    dropped(submit(TIMEOUT, Behaviour::Redirect(location)).await, "http_unexpected");
    assert!(target.requests().is_empty() && target.violations().is_empty(), "the key has travelled");
}

#[tokio::test]
async fn an_unknown_authority_gets_no_key() {
    let intake = Intake::start_tls();
    let detail = dropped(submit_within(TIMEOUT, &intake.url()).await, "connect");
    assert!(detail.contains("certificate"), "{detail}");
    // TLS where there is none, and the other way round.
    let plain = Intake::start();
    dropped(submit_within(TIMEOUT, &plain.url().replace("http:", "https:")).await, "connect");
    dropped(submit_within(TIMEOUT, &intake.url().replace("https:", "http:")).await, "http_invalid");
    assert!(intake.requests().is_empty() && plain.requests().is_empty());
}

/// Submits twice, and once more after a pause as between flushes; which connections that took.
async fn connections_of(headers: &str) -> Vec<usize> {
    let server = Wire::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Closes::Never, headers).await;
    let intake = intake(TIMEOUT);
    let connection = connection(&format!("http://{}", server.address));
    for number in 1..=4 {
        if number == 4 {
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
        assert_eq!(intake.submit(Arc::clone(&connection), payload(number)).await, Outcome::Accepted);
    }
    server.bodies().into_iter().map(|(connection, _)| connection).collect()
}

#[tokio::test]
async fn a_connection_outlives_the_pause_between_flushes_unless_the_server_announces_to_close_it() {
    let (silent, early) =
        tokio::join!(connections_of(""), connections_of("keep-alive: timeout=11, max=100\r\n"));
    assert_eq!(silent, [0, 0, 0, 0]);
    // What it announces is known with its first answer.
    assert_eq!(early, [0, 1, 1, 2]);
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_loses_nothing_and_counts_nothing_twice() {
    let server = Wire::start(Closes::AfterItsAnswer).await;
    let intake = intake(TIMEOUT);
    let connection = connection(&format!("http://{}", server.address));
    for number in 1..=20 {
        assert_eq!(intake.submit(Arc::clone(&connection), payload(number)).await, Outcome::Accepted);
        // By then the client has heard that the connection is closed.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.bodies().len(), 20);
}

/// Whatever the race between the next request and the close: what was accepted has arrived once, and what
/// was dropped at most once.
#[tokio::test]
async fn a_body_that_meets_a_closing_connection_is_never_sent_twice() {
    let server = Wire::start(Closes::AfterItsAnswer).await;
    let intake = intake(TIMEOUT);
    let connection = connection(&format!("http://{}", server.address));
    let mut accepted = Vec::new();
    for number in 1..=300 {
        let payload = payload(number);
        let body = payload.body.to_vec();
        match intake.submit(Arc::clone(&connection), payload).await {
            Outcome::Accepted => accepted.push(body),
            Outcome::AcceptedWithErrors { detail } => panic!("{detail}"),
            outcome @ Outcome::Dropped { .. } => drop(dropped(outcome, "connect")),
        }
    }
    let mut arrived: Vec<_> = server.bodies().into_iter().map(|(_, body)| body).collect();
    let all = arrived.len();
    for body in &accepted {
        assert_eq!(arrived.iter().filter(|found| *found == body).count(), 1);
    }
    arrived.sort();
    arrived.dedup();
    assert_eq!(arrived.len(), all, "a body came twice");
}

#[tokio::test]
async fn a_connection_that_breaks_with_its_second_request_has_that_request_dropped() {
    let server = Wire::start(Closes::WithTheSecondRequest).await;
    let intake = intake(TIMEOUT);
    let connection = connection(&format!("http://{}", server.address));
    assert_eq!(intake.submit(Arc::clone(&connection), payload(1)).await, Outcome::Accepted);
    dropped(intake.submit(Arc::clone(&connection), payload(2)).await, "connect");
    assert_eq!(intake.submit(connection, payload(3)).await, Outcome::Accepted);
    let connections: Vec<_> = server.bodies().into_iter().map(|(connection, _)| connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

/// The real binary counts some events and sends them to `url`.
async fn run(configuration: Configuration, url: &str) -> (Finished, u64) {
    let mut events = Events::new(5);
    // In one flush, however slow the machine is.
    let configuration = configuration.connection("acme", url, KEY, &[]).text("flush.interval", "10m");
    let file = configuration.file("events.ndjson", events.ndjson(50));
    let finished = configuration.run(&["run", "--once", "--import", file.to_str().unwrap()]).await;
    // 3: some of them were dropped.
    assert!(matches!(finished.status.code(), Some(0 | 3)), "{finished:?}");
    assert!(!format!("{finished:?}").contains(KEY), "the key was told");
    (finished, events.truth().sends)
}

#[tokio::test]
async fn the_binary_trusts_what_it_is_told_to_trust() {
    let intake = Intake::start_tls();
    let (_, sends) = run(Configuration::new().trust(intake.certificate()), &intake.url()).await;
    assert_eq!((intake.sends(), intake.requests().len()), (sends, 1));
    assert_eq!(intake.violations(), Vec::<String>::new());

    let intake = Intake::start_tls();
    let (finished, sends) = run(Configuration::new(), &intake.url()).await;
    assert!(intake.requests().is_empty());
    assert!(
        finished.stdout.contains(&format!(r#""dropped_by_reason":{{"connect":{sends}}}"#)),
        "{finished:?}"
    );
    assert!(finished.stderr.contains("certificate"), "{finished:?}");
}

#[tokio::test]
async fn the_binary_takes_an_http_proxy_from_the_environment() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .environment("HTTP_PROXY", &intake.url())
        .set("connections.acme.allow_plain_http", "true");
    let (_, sends) = run(configuration, "http://datadog.invalid").await;
    let requests = intake.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "http://datadog.invalid/api/v1/distribution_points");
    assert_eq!((requests[0].key(), intake.sends()), (KEY, sends));

    let direct = Intake::start();
    let port = direct.address().port();
    // What is on this machine is never sent through a proxy.
    let mut sends = 0;
    for url in [direct.url(), format!("http://localhost:{port}")] {
        let configuration = Configuration::new()
            .environment("HTTP_PROXY", &intake.url())
            .environment("ALL_PROXY", &intake.url())
            .environment("NO_PROXY", "elsewhere.example");
        sends += run(configuration, &url).await.1;
    }
    assert_eq!((direct.sends(), intake.requests().len()), (sends, 1));
    assert_eq!(intake.violations().len(), 1, "a proxy is asked for more than the path");
}

/// Why nothing is sent to `https://datadog.invalid` through a proxy, where no name can be looked up.
async fn dropped_behind(variable: &str, proxy: &str, label: &str) -> String {
    let proxies = Proxies::from_variables(|name| (name == variable).then(|| proxy.to_owned())).unwrap();
    let resolver = Resolver::start_with(|_: &str| Err(std::io::Error::other("no such name"))).unwrap();
    let network = Network::new("test", resolver, proxies, true).unwrap();
    let settings =
        IntakeSettings { timeout: TIMEOUT, timeout_name: "flush.timeout", connection_age_max: AGE };
    let intake = HttpIntake::new(settings, &network).unwrap();
    dropped(intake.submit(connection("https://datadog.invalid"), payload(7)).await, label)
}

#[tokio::test]
async fn what_fails_at_a_proxy_is_told_as_the_proxy_s() {
    let [closed] = support::ports::free();
    let refusing = Proxy::refusing(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    for (variable, proxy, label, cause) in [
        ("HTTPS_PROXY", format!("http://{}", refusing.address), "connect", "unsuccessful"),
        ("ALL_PROXY", format!("http://{closed}"), "connect", "refused"),
        ("ALL_PROXY", format!("socks5h://{closed}"), "connect", "socks proxy"),
        ("HTTPS_PROXY", "http://proxy.invalid:1".into(), "dns", "the name proxy.invalid can't be looked up"),
    ] {
        let detail = dropped_behind(variable, &proxy, label).await;
        assert!(detail.starts_with(&format!("the proxy ({variable}): ")), "{proxy}: {detail}");
        assert!(detail.contains(cause), "{proxy}: {detail}");
    }
    // Before such a one is asked, Datadog's name is looked up.
    let detail = dropped_behind("ALL_PROXY", &format!("socks5://{closed}"), "dns").await;
    assert!(detail.starts_with("connecting failed"), "{detail}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_that_can_not_be_used_is_an_error_at_the_start_and_in_a_check() {
    let intake = Intake::start();
    for command in [&["run", "--once"][..], &["check"]] {
        let configuration = Configuration::new()
            .environment("HTTPS_PROXY", "gopher://secret.example:1")
            .connection("acme", &intake.url(), KEY, &[]);
        let finished = configuration.run(command).await;
        assert_eq!(finished.status.code(), Some(78), "{finished:?}");
        assert!(
            finished.stderr.contains("the environment variable HTTPS_PROXY can't be used"),
            "{finished:?}"
        );
        assert!(!finished.stderr.contains("secret"), "{finished:?}");
    }
}

#[tokio::test]
async fn without_root_certificates_a_configuration_without_https_starts_and_one_with_it_does_not() {
    let intake = Intake::start();
    let (_, sends) = run(Configuration::new().trust(""), &intake.url()).await;
    assert_eq!(intake.sends(), sends);
    let url = intake.url().replace("http:", "https:");
    let finished =
        Configuration::new().trust("").connection("acme", &url, KEY, &[]).run(&["run", "--once"]).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("ca-certificates"), "{finished:?}");
}

/// The process is stopped while the answer is on its way, for longer than the time-out: it was accepted in time.
#[tokio::test]
async fn a_freeze_longer_than_the_time_out_drops_nothing_that_was_accepted() {
    let intake = Intake::start();
    intake.always(Behaviour::Slow(Duration::from_millis(300)));
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .text("flush.interval", "1s")
        .text("flush.timeout", "1s")
        .start()
        .await;
    let mut received = 0;
    for round in 1..=5 {
        let mut events = Events::new(round);
        received += forwarder.push_accepted(events.push_body(20)).await;
        support::eventually("the request is there", async || {
            (intake.requests().len() as u64 == round).then_some(())
        })
        .await;
        forwarder.signal("STOP");
        tokio::time::sleep(Duration::from_secs(2)).await;
        forwarder.signal("CONT");
        let books = forwarder.settled(received).await;
        assert_eq!((books.dropped, books.accepted), (0, books.counted), "round {round}");
        assert_eq!(intake.sends(), books.counted);
    }
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn the_binary_goes_through_an_https_proxy_which_sees_no_key() {
    let intake = Intake::start_tls_for("datadog.invalid");
    let proxy = Proxy::start(intake.address()).await;
    let configuration = Configuration::new()
        .trust(intake.certificate())
        .environment("HTTPS_PROXY", &format!("http://{}", proxy.address));
    // Only the proxy leads anywhere.
    let (_, sends) = run(configuration, "https://datadog.invalid:1").await;
    assert_eq!((intake.sends(), intake.requests().len()), (sends, 1));
    assert_eq!(intake.violations(), Vec::<String>::new());
    let heads = proxy.heads();
    assert!(heads.len() == 1 && heads[0].starts_with("connect datadog.invalid:1 http/1.1\r\n"), "{heads:?}");
    assert!(!heads[0].contains(KEY), "{heads:?}");
}
