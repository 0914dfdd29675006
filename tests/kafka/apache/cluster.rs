//! Three brokers with a copy each: one is killed, and all are restarted in turn, under load.

use rdkafka::admin::{NewTopic, TopicReplication};

use super::broker::Cluster;
use super::load::{BATCH, Load, send_batch};
use super::scene::{assert_valid, committed_all, lost, member, send, share_all, stop, with};
use super::support::braze::assert_each_once;
use super::support::forwarder::quote;
use super::support::intake::Intake;

const PARTITIONS: i32 = 6;

#[tokio::test]
async fn a_broker_that_is_killed_and_a_restart_of_each_in_turn_cost_and_repeat_nothing() {
    // Where a broker is away, so is the third of this topic that it has; what it holds waits.
    const ALONE: &str = "alone";
    const TOPIC: &str = "copied";
    let (mut cluster, intake) = (Cluster::of_three(), Intake::start());
    cluster.create_topic(TOPIC, PARTITIONS).await;
    cluster.create(NewTopic::new(ALONE, 3, TopicReplication::Fixed(1))).await;
    let start = async |name: &str| {
        let configuration = member(cluster.addresses(), TOPIC, &intake, name);
        let topics = format!("[{}, {}]", quote(TOPIC), quote(ALONE));
        // A group outlives the move of its coordinator.
        with(configuration.set("queue.kafka.topics", &topics), &[("session.timeout.ms", "20000")])
            .start()
            .await
    };
    let (first, second) = tokio::join!(start("first"), start("second"));
    share_all(&[&first, &second], PARTITIONS + 3).await;
    // Marks that the load does not reach.
    let (alone, mut marks) = (cluster.producer(), 900_000..);
    let mut send_alone = || {
        let mark = marks.next().unwrap();
        send_batch(&alone, ALONE, mark);
    };
    send_alone();
    let load = Load::start(cluster.producer(), TOPIC);
    load.more(50).await;
    cluster.kill(0);
    send_alone();
    load.more(50).await;
    cluster.start_again(0);
    for node in 0..3 {
        cluster.stop(node);
        send_alone();
        load.more(20).await;
        cluster.start_again(node);
        load.more(20).await;
    }
    let (batches, producer) = load.finish();
    alone.flush();
    let alone_batches = 5;

    intake.wait_for_sends((batches + alone_batches) * BATCH).await;
    committed_all(&cluster, &producer, TOPIC).await;
    for forwarder in [first, second] {
        assert_eq!(lost(&forwarder).await, 0);
        forwarder.books_balance().await;
        stop(forwarder).await;
    }
    let mut points = intake.accepted();
    for point in &mut points {
        // The marks of the other topic follow those of the load.
        for tag in &mut point.tags {
            if let Some(mark) = tag.strip_prefix("campaign_id:batch-90000") {
                *tag = format!("campaign_id:batch-{}", batches + mark.parse::<u64>().unwrap());
            }
        }
    }
    assert_each_once(&points, batches + alone_batches);
    assert_valid(&intake);
}

#[tokio::test]
async fn behind_an_unclean_election_reading_goes_on_where_the_new_leader_ends() {
    let topic = "truncated";
    let (mut cluster, intake) = (Cluster::of_three(), Intake::start());
    // The first has both copies at first; the third is there to elect.
    let copies: &[&[i32]] = &[&[1, 2]];
    let unclean = NewTopic::new(topic, 1, TopicReplication::Variable(copies))
        .set("unclean.leader.election.enable", "true");
    cluster.create(unclean).await;
    let options = [("session.timeout.ms", "45000")];
    let forwarder = with(member(cluster.addresses(), topic, &intake, "acme"), &options).start().await;
    share_all(&[&forwarder], 1).await;
    committed_all(&cluster, &send(&cluster, topic, 0..1), topic).await;
    cluster.stop(1);
    committed_all(&cluster, &send(&cluster, topic, 1..4), topic).await;
    cluster.kill(0);
    cluster.start_again(1);
    // Three of four batches are gone from the log, and were counted; what comes takes their places.
    let producer = send(&cluster, topic, 4..6);
    assert_eq!(producer.ends(topic)[&0], 300);
    intake.wait_for_sends(6 * BATCH).await;
    committed_all(&cluster, &producer, topic).await;
    assert_eq!(lost(&forwarder).await, 0);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 6);
    assert_valid(&intake);
}
