//! Topics of which some may be read, and some not.

use std::time::{Duration, Instant};

use super::broker::listeners::password;
use super::broker::{Broker, Listener};
use super::load::BATCH;
use super::scene::{STATISTICS, member, ready, send, stop, told, with};
use super::security::{borrowed, user};
use super::support::braze::assert_each_once;
use super::support::intake::Intake;

/// A refusal that is not reported again for a minute is over.
const LONG: Duration = Duration::from_secs(70);

#[tokio::test]
async fn a_topic_that_may_be_seen_and_not_read_is_told_until_it_may_be_read_and_the_others_are_read() {
    let (open, shut, once) = ("open", "shut", "open-once");
    let broker = Broker::shared();
    let allow = |right, resource| broker.acl("--add", "reader", right, resource);
    allow("Read", ["--group", open]);
    allow("Read", ["--group", once]);
    for (topic, right, mark) in [(open, "Read", 0), (shut, "Describe", 1)] {
        broker.create_topic(topic, 1).await;
        send(broker, topic, mark..mark + 1);
        allow(right, ["--topic", topic]);
    }
    let of_group = |group: &str, intake: &Intake| {
        let options = user("SASL_PLAINTEXT", "PLAIN", "reader", &password("reader"));
        let configuration = member(&[broker.at(Listener::Sasl)], group, intake, "acme");
        let configuration = configuration.set("queue.kafka.topics", &format!("[\"{open}\", \"{shut}\"]"));
        with(with(configuration, &borrowed(&options)), &[STATISTICS])
    };
    let (intake, intake_of_once) = (Intake::start(), Intake::start());
    let forwarder = of_group(open, &intake).spawn(&["run"]);
    told(&forwarder, &["may not read a topic of queue.kafka.topics"]).await;
    let begun = Instant::now();
    intake.wait_for_sends(BATCH).await;
    let ended = of_group(once, &intake_of_once).run(&["run", "--once"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("not all of queue.kafka.topics was read"), "{}", ended.stderr);
    assert_eq!(intake_of_once.sends(), BATCH);

    send(broker, open, 2..3);
    intake.wait_for_sends(2 * BATCH).await;
    tokio::time::sleep(LONG.saturating_sub(begun.elapsed())).await;
    assert!(ready(&forwarder, 503).await.contains("may not read a topic"));
    allow("Read", ["--topic", shut]);
    intake.wait_for_sends(3 * BATCH).await;
    send(broker, open, 3..4);
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 4);
}
