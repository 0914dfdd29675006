//! The topics of a broker, and what groups have committed of them, as every client sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long a broker may take for something that takes a second at most, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// What every request that changes something is sent with.
pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Makes a topic, and waits until clients see it.
pub(crate) async fn create(client: &ClientConfig, topic: &NewTopic<'_>) {
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let give_up = Instant::now() + PATIENCE;
    let mut is_repeated = false;
    let made = loop {
        match admin.create_topics([topic], &options()).await {
            Ok(made) => break made,
            // librdkafka closed the connection that it had asked on, once it knew which broker of several that is; it repeats
            // requests of its own for that, and those of an admin client not.
            Err(KafkaError::AdminOp(RDKafkaErrorCode::DestroyBroker)) if Instant::now() < give_up => {
                is_repeated = true;
            }
            Err(error) => panic!("the topic {} could not be made: {error}", topic.name),
        }
    };
    for made in made {
        match made {
            Ok(_) => {}
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if is_repeated => {}
            Err((name, error)) => panic!("the topic {name} could not be made: {error}"),
        }
    }
    wait_for_partitions(client, topic.name, topic.num_partitions);
}

/// Waits until clients see so many partitions of a topic; of one that is gone there are none.
pub(crate) fn wait_for_partitions(client: &ClientConfig, name: &str, count: i32) {
    let give_up = Instant::now() + PATIENCE;
    let all: Vec<i32> = (0..count).collect();
    while partitions(client, name) != all {
        assert!(Instant::now() < give_up, "the topic {name} has not {count} partitions");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The partitions of a topic; none where there is no such topic.
pub(crate) fn partitions(client: &ClientConfig, name: &str) -> Vec<i32> {
    let consumer: BaseConsumer = client.create().unwrap();
    let known = consumer.fetch_metadata(None, PATIENCE).unwrap();
    let topic = known.topics().iter().find(|known| known.name() == name);
    let mut partitions: Vec<i32> =
        topic.map_or_else(Vec::new, |topic| topic.partitions().iter().map(MetadataPartition::id).collect());
    partitions.sort_unstable();
    partitions
}

/// What a group has committed, by partition: the offset of the next message to be read. A partition without a commit
/// has no entry.
pub(crate) fn committed(client: &ClientConfig, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = client.clone().set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in partitions(client, topic) {
        asked.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(asked, PATIENCE).unwrap();
    let elements = committed.elements();
    let known = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    known.collect()
}
