//! What the broker throws away before it was read is told, with its exact number.

use std::time::Duration;

use super::broker::Broker;
use super::load::BATCH;
use super::scene::{STATISTICS, errors, lost, member, nothing_is_left, send, share_all, stop, told, with};
use super::support;
use super::support::braze::{assert_each_once, mark};
use super::support::forwarder::{Configuration, Forwarder};
use super::support::intake::Intake;
use super::transactions::Transactions;

/// A fetch waits so long at the broker: what comes later is not given to a process that has stopped.
const FETCH_WAIT: Duration = Duration::from_millis(100);

/// One that may stand still for a while without leaving the group.
fn patient(topic: &str, intake: &Intake) -> Configuration {
    let wait = FETCH_WAIT.as_millis().to_string();
    with(
        member(Broker::shared().addresses(), topic, intake, "acme"),
        &[STATISTICS, ("session.timeout.ms", "45000"), ("fetch.wait.max.ms", &wait)],
    )
}

/// Has something happen to the topic that the forwarder doesn't see.
async fn behind_its_back(forwarder: &Forwarder, happening: impl AsyncFnOnce()) {
    forwarder.signal("STOP");
    // Until the fetch that was under way has its answer.
    tokio::time::sleep(3 * FETCH_WAIT).await;
    happening().await;
    forwarder.signal("CONT");
}

/// Deletes all that is in a topic of one partition.
async fn delete_all(topic: &str) {
    let (_, end) = Broker::shared().marks(topic, 0);
    Broker::shared().delete_records(topic, 0, end).await;
}

#[tokio::test]
async fn messages_that_are_deleted_in_several_steps_are_told_with_their_exact_number() {
    const STEPS: u64 = 3;
    const DELETED: u64 = 8;
    let topic = "deleted";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let forwarder = patient(topic, &intake).start().await;
    share_all(&[&forwarder], 1).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    // Well within ten seconds.
    for step in 1..=STEPS {
        behind_its_back(&forwarder, async || {
            send(broker, topic, 1000 * step..1000 * step + DELETED);
            delete_all(topic).await;
            send(broker, topic, step..step + 1);
        })
        .await;
        intake.wait_for_sends((step + 1) * BATCH).await;
    }
    support::eventually("all is told", async || {
        (lost(&forwarder).await >= STEPS * DELETED * BATCH).then_some(())
    })
    .await;
    assert_eq!(lost(&forwarder).await, STEPS * DELETED * BATCH);
    told(&forwarder, &["messages are lost", "800"]).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), STEPS + 1);
}

#[tokio::test]
async fn deleted_transactions_are_told_as_lost() {
    let topic = "deleted.transactions";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let transactions = Transactions::of(broker, topic);
    let forwarder = patient(topic, &intake).start().await;
    share_all(&[&forwarder], 1).await;
    transactions.commit(0);
    intake.wait_for_sends(BATCH).await;
    behind_its_back(&forwarder, async || {
        (1000..1004).for_each(|mark| transactions.commit(mark));
        delete_all(topic).await;
        transactions.commit(1);
    })
    .await;
    intake.wait_for_sends(2 * BATCH).await;
    // Nobody can tell the four markers, and the one before them, from messages any more.
    support::eventually("it is told", async || (lost(&forwarder).await > 0).then_some(())).await;
    let lost = lost(&forwarder).await;
    assert!((400..=405).contains(&lost), "{lost}");
    stop(forwarder).await;
}

#[tokio::test]
async fn what_retention_deletes_unread_is_told_and_is_no_lag_any_more() {
    let topic = "retention";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let configuration = patient(topic, &intake);
    let forwarder = configuration.start().await;
    share_all(&[&forwarder], 1).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;
    send(broker, topic, 1000..1005);
    broker.retain_nothing(topic).await;

    let forwarder = configuration.start().await;
    share_all(&[&forwarder], 1).await;
    nothing_is_left(&forwarder).await;
    send(broker, topic, 1..2);
    intake.wait_for_sends(2 * BATCH).await;
    support::eventually("it is told", async || (lost(&forwarder).await >= 5 * BATCH).then_some(())).await;
    assert_eq!(lost(&forwarder).await, 5 * BATCH);
    stop(forwarder).await;
    assert!(intake.accepted().iter().all(|point| mark(point) < 1000));
    // Nor does it keep a run from its end.
    delete_all(topic).await;
    assert_eq!(configuration.run(&["run", "--once"]).await.status.code(), Some(0));
}

/// Runs to the end of the topic, and says what it tells as lost.
async fn lost_in_a_run(configuration: &Configuration) -> Vec<String> {
    let finished = configuration.run(&["run", "--once"]).await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    errors(&finished.stderr).filter(|line| line.contains("messages are lost")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_loss_is_told_once_whoever_starts_again() {
    let topic = "lost.once";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let configuration = patient(topic, &intake);
    send(broker, topic, 0..1);
    assert_eq!(lost_in_a_run(&configuration).await, [""; 0]);
    send(broker, topic, 1000..1005);
    delete_all(topic).await;
    let told = lost_in_a_run(&configuration).await;
    assert!(told.len() == 1 && told[0].contains("\"skipped\":500"), "{told:?}");
    assert_eq!(lost_in_a_run(&configuration).await, [""; 0]);
    assert_eq!(broker.committed(topic, topic)[&0], 600);
}

#[tokio::test]
async fn markers_and_aborted_messages_that_are_deleted_after_all_was_read_are_no_loss() {
    let topic = "aborted.deleted";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let transactions = Transactions::of(broker, topic);
    transactions.commit(0);
    transactions.abort(0);
    let configuration = patient(topic, &intake);
    for _start in 0..2 {
        assert_eq!(lost_in_a_run(&configuration).await, [""; 0]);
        delete_all(topic).await;
    }
    assert_eq!(lost_in_a_run(&configuration).await, [""; 0]);
    let (_, end) = broker.marks(topic, 0);
    assert_eq!(broker.committed(topic, topic)[&0], end, "the group has nothing left");
    assert_each_once(&intake.accepted(), 1);
}

#[tokio::test]
async fn a_loss_that_no_statistics_have_shown_is_told_at_the_stop() {
    let topic = "lost.at.the.stop";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let mut forwarder = with(patient(topic, &intake), &[("statistics.interval.ms", "10000")]).start().await;
    share_all(&[&forwarder], 1).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    behind_its_back(&forwarder, async || {
        send(broker, topic, 1000..1005);
        delete_all(topic).await;
        send(broker, topic, 1..2);
    })
    .await;
    intake.wait_for_sends(2 * BATCH).await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0));
    told(&forwarder, &["messages are lost", "\"skipped\":500"]).await;
}
