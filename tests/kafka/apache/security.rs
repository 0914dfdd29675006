//! TLS and users, as they should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::broker::certificates::Flaw;
use super::broker::listeners::password;
use super::broker::{Broker, Listener};
use super::load::{BATCH, Load};
use super::scene::{all_at_once, assert_valid, committed_all, member, ready, send, stop, told, with};
use super::support;
use super::support::braze::assert_each_once;
use super::support::intake::Intake;

/// Options of librdkafka's.
pub(super) type Options = Vec<(&'static str, String)>;

/// Options with which a client trusts the broker's authority.
pub(super) fn trusting(protocol: &str) -> Options {
    vec![
        ("security.protocol", protocol.to_owned()),
        ("ssl.ca.location", Broker::shared().authority.path("ca.pem")),
    ]
}

/// Options of a client with a certificate.
pub(super) fn certified(name: &'static str, flaw: Flaw) -> Options {
    let authority = &Broker::shared().authority;
    authority.client(name, flaw);
    let own = [
        ("ssl.certificate.location", authority.path(&format!("{name}.crt"))),
        ("ssl.key.location", authority.path(&format!("{name}.key"))),
    ];
    [trusting("SSL"), own.to_vec()].concat()
}

/// Options of a user.
pub(super) fn user(protocol: &str, mechanism: &str, user: &str, password: &str) -> Options {
    let own = [("sasl.mechanisms", mechanism), ("sasl.username", user), ("sasl.password", password)];
    let own = own.map(|(name, value)| (name, value.to_owned()));
    let base = if protocol == "SASL_SSL" {
        trusting(protocol)
    } else {
        vec![("security.protocol", protocol.to_owned())]
    };
    [base, own.to_vec()].concat()
}

pub(super) fn borrowed(options: &Options) -> Vec<(&str, &str)> {
    options.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A token without a signature, which the tests' broker takes (RFC 7519, "Unsecured JWTs").
pub(super) fn token(subject: &str, lifetime: Duration) -> String {
    let now = support::unix_now();
    let claims = format!(r#"{{"sub":"{subject}","iat":{now},"exp":{}}}"#, now + lifetime.as_secs());
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// Writes a token in place of the one before, as Kubernetes does: at once.
fn write(path: &Path, token: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, token).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn tls_and_the_mechanisms_of_sasl_let_a_forwarder_in() {
    let ways = [
        ("tls", Listener::Tls, trusting("SSL")),
        ("mutual", Listener::Mutual, certified("good", Flaw::None)),
        ("plain", Listener::SaslTls, user("SASL_SSL", "PLAIN", "admin", &password("admin"))),
        (
            "scram-256",
            Listener::SaslTls,
            user("SASL_SSL", "SCRAM-SHA-256", "scrambled", &password("scrambled")),
        ),
        (
            "scram-512",
            Listener::Sasl,
            user("SASL_PLAINTEXT", "SCRAM-SHA-512", "scrambled", &password("scrambled")),
        ),
    ];
    all_at_once(ways.into_iter().map(async |(topic, listener, options)| {
        let (broker, intake) = (Broker::shared(), Intake::start());
        broker.create_topic(topic, 2).await;
        let producer = send(broker, topic, 0..1);
        let configuration = member(&[broker.at(listener)], topic, &intake, "acme");
        let forwarder = with(configuration, &borrowed(&options)).start().await;
        intake.wait_for_sends(BATCH).await;
        committed_all(broker, &producer, topic).await;
        assert_eq!(forwarder.admin("/readyz").await.0, 200);
        stop(forwarder).await;
        assert_each_once(&intake.accepted(), 1);
    }))
    .await;
}

#[tokio::test]
async fn the_authorities_of_ssl_cert_file_let_a_forwarder_in_that_names_no_others() {
    let topic = "tls.environment";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    send(broker, topic, 0..1);
    let authority = std::fs::read_to_string(broker.authority.path("ca.pem")).unwrap();
    let configuration = member(&[broker.at(Listener::Tls)], topic, &intake, "acme").trust(&authority);
    let forwarder = with(configuration, &[("security.protocol", "SSL")]).start().await;
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 1);
}

/// How long a token is valid. The client reads the next one after four fifths of that, and the broker wants more than a
/// second between two, and between the first and whatever connection a busy machine made late.
const LIFETIME: Duration = Duration::from_secs(12);

/// Writes a new token each second, until it is told to stop.
fn keep_fresh(path: PathBuf) -> Arc<AtomicBool> {
    let is_kept = Arc::new(AtomicBool::new(true));
    let kept = Arc::clone(&is_kept);
    std::thread::spawn(move || {
        while kept.load(Ordering::Relaxed) {
            write(&path, &token("subject", LIFETIME));
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    is_kept
}

#[tokio::test]
async fn tokens_that_change_are_shown_in_time_and_one_that_is_no_longer_one_is_told_until_it_is() {
    let topic = "tokens";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let configuration = member(&[broker.at(Listener::Token)], topic, &intake, "acme");
    let file = configuration.file("token", token("subject", LIFETIME));
    let configuration = configuration.text("queue.kafka.oauth_token_file", file.to_str().unwrap());
    // Often enough to look at the client while the broker asks for the next token, which is no loss of the connection.
    let options = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("statistics.interval.ms", "50"),
    ];
    let is_kept = keep_fresh(file.clone());
    let forwarder = with(configuration, &options).start().await;
    let load = Load::start(broker.producer(), topic);
    // It is ready before it joins the group, and then not until a broker has let it in.
    intake.wait_for_requests(1).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < LIFETIME + Duration::from_secs(1) {
        load.more(10).await;
        assert_eq!(forwarder.admin("/readyz").await.0, 200, "{}", forwarder.log());
    }
    is_kept.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    write(&file, "not a token");
    let said = ready(&forwarder, 503).await;
    assert!(!said.is_empty());
    told(&forwarder, &["queue.kafka.oauth_token_file"]).await;
    load.more(10).await;
    let is_kept = keep_fresh(file);
    ready(&forwarder, 200).await;
    load.more(10).await;
    let (batches, producer) = load.finish();
    intake.wait_for_sends(batches * BATCH).await;
    committed_all(broker, &producer, topic).await;
    stop(forwarder).await;
    is_kept.store(false, Ordering::Relaxed);
    assert_each_once(&intake.accepted(), batches);
    assert_valid(&intake);
}
