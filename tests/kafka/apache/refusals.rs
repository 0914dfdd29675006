//! A client that the broker refuses, or that refuses the broker: the log names the setting, `/readyz` says 503, nobody
//! is hammered, and where it can be mended on the broker's side, the forwarder goes on by itself and has lost nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::broker::certificates::{Authority, Flaw};
use super::broker::listeners::password;
use super::broker::{Broker, Listener};
use super::load::BATCH;
use super::scene::{all_at_once, committed_all, member, ready, send, stop, told, with};
use super::security::{Options, borrowed, certified, trusting, user};
use super::support::braze::assert_each_once;
use super::support::forwarder::Forwarder;
use super::support::intake::Intake;
use crate::proxy::Proxy;

/// How long the broker is watched for attempts, and how many there may be.
const WATCHED: Duration = Duration::from_secs(6);
const ATTEMPTS_MAX: usize = 15;

/// A refusal.
struct Refusal {
    topic: &'static str,
    listener: Listener,
    options: Options,
    /// Words of one line of the log, the setting's name among them.
    told: &'static [&'static str],
}

impl Refusal {
    fn new(topic: &'static str, listener: Listener, options: Options, told: &'static [&'static str]) -> Self {
        Self { topic, listener, options, told }
    }

    /// Starts a forwarder that is refused, with a batch that waits for it; and its way to the broker.
    async fn meet(&self, intake: &Intake) -> (Forwarder, Proxy) {
        let broker = Broker::shared();
        broker.create_topic(self.topic, 1).await;
        send(broker, self.topic, 0..1);
        let (listener, _) = Proxy::reserve();
        // Refused before it is led to another address: each attempt comes this way.
        let proxy = Proxy::open(listener, broker.at(self.listener).parse().unwrap());
        let configuration = member(&[proxy.address().to_string()], self.topic, intake, "acme");
        let forwarder = with(configuration, &borrowed(&self.options)).spawn(&["run"]);
        ready(&forwarder, 503).await;
        told(&forwarder, self.told).await;
        let (begun, before) = (Instant::now(), proxy.connections());
        tokio::time::sleep_until(begun + WATCHED).await;
        let attempts = proxy.connections() - before;
        assert!(attempts <= ATTEMPTS_MAX, "{}: {attempts} attempts in {WATCHED:?}", self.topic);
        assert_eq!(forwarder.admin("/readyz").await.0, 503, "{}", self.topic);
        assert_eq!(forwarder.admin("/livez").await.0, 200, "{}", self.topic);
        assert_eq!(intake.sends(), 0);
        (forwarder, proxy)
    }

    /// It is mended: the forwarder goes on.
    async fn is_over(&self, forwarder: Forwarder, intake: &Intake) {
        ready(&forwarder, 200).await;
        intake.wait_for_sends(BATCH).await;
        let producer = send(Broker::shared(), self.topic, 1..2);
        intake.wait_for_sends(2 * BATCH).await;
        committed_all(Broker::shared(), &producer, self.topic).await;
        assert_eq!(forwarder.admin("/readyz").await.0, 200);
        stop(forwarder).await;
        assert_each_once(&intake.accepted(), 2);
    }
}

/// Meets all of them at the same time.
async fn meet_each(refusals: Vec<Refusal>) {
    all_at_once(refusals.into_iter().map(async |refusal| {
        let intake = Intake::start();
        let (forwarder, _proxy) = refusal.meet(&intake).await;
        stop(forwarder).await;
    }))
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_with_the_setting() {
    let broker = Broker::shared();
    let stranger = Authority::new(std::path::Path::new(&broker.authority.path("stranger")));
    let tls = vec![("security.protocol", "SSL".to_owned())];
    let strangers = [tls.clone(), vec![("ssl.ca.location", stranger.path("ca.pem"))]].concat();
    let of_another = &["is not of a CA that is trusted here", "ssl.ca.location"];
    meet_each(vec![
        Refusal::new("refused.authority", Listener::Tls, strangers, of_another),
        Refusal::new("refused.system", Listener::Tls, tls, of_another),
        Refusal::new("refused.name", Listener::Misnamed, trusting("SSL"), &["queue.kafka.brokers"]),
        Refusal::new("refused.bare", Listener::Mutual, trusting("SSL"), &["ssl.certificate.location"]),
        Refusal::new(
            "refused.stale",
            Listener::Mutual,
            certified("stale", Flaw::Expired),
            &["ssl.certificate.location"],
        ),
        Refusal::new("refused.clear", Listener::Tls, vec![], &["security.protocol"]),
        Refusal::new("refused.encrypted", Listener::Plain, trusting("SSL"), &["security.protocol"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_user_is_told_with_the_setting() {
    let clear = "SASL_PLAINTEXT";
    meet_each(vec![
        Refusal::new(
            "refused.plain",
            Listener::Sasl,
            user(clear, "PLAIN", "admin", "wrong"),
            &["sasl.password"],
        ),
        Refusal::new(
            "refused.scram",
            Listener::Sasl,
            user(clear, "SCRAM-SHA-512", "scrambled", "wrong"),
            &["sasl.password"],
        ),
        Refusal::new(
            "refused.nobody",
            Listener::SaslTls,
            user("SASL_SSL", "SCRAM-SHA-256", "nobody", "wrong"),
            &["sasl.username"],
        ),
        Refusal::new(
            "refused.mechanism",
            Listener::Token,
            user(clear, "PLAIN", "admin", &password("admin")),
            &["sasl.mechanisms"],
        ),
        Refusal::new("refused.anonymous", Listener::Sasl, vec![], &["security.protocol"]),
    ])
    .await;
}

#[tokio::test]
async fn once_the_broker_has_another_certificate_the_forwarder_goes_on() {
    let (broker, intake) = (Broker::shared(), Intake::start());
    let refusal = Refusal::new("mended.certificate", Listener::Expired, trusting("SSL"), &["expired"]);
    let (forwarder, _proxy) = refusal.meet(&intake).await;
    broker.authority.server(Listener::Expired.certificate(), Flaw::None);
    broker.reload_certificate(Listener::Expired);
    refusal.is_over(forwarder, &intake).await;
}

#[tokio::test]
async fn once_the_user_has_the_password_the_forwarder_goes_on() {
    let (broker, intake) = (Broker::shared(), Intake::start());
    let changed = user("SASL_PLAINTEXT", "SCRAM-SHA-256", "changing", "new");
    let refusal = Refusal::new("mended.password", Listener::Sasl, changed, &["sasl.password"]);
    let (forwarder, _proxy) = refusal.meet(&intake).await;
    broker.set_password("changing", "SCRAM-SHA-256", "new");
    refusal.is_over(forwarder, &intake).await;
}
