//! Messages that name a schema before their value or in a header, with the real binary on a real broker: each is counted once, and
//! what can't be read is booked and told with what to do.

use serde_json::json;

use crate::broker::producer::Message;
use crate::broker::{Broker, Compression};
use crate::load::{BATCH, avro, avro_schema, batch, send_batch};
use crate::members::{assert_valid, committed_all, member, stop};
use crate::registry::ScriptedRegistry;
use crate::support;
use crate::support::braze::assert_each_once;
use crate::support::intake::Intake;

const TOPIC: &str = "braze.framed";
const GUID: &[u8] = &[1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
const FRAME_BYTES: usize = 5;

#[tokio::test]
async fn messages_are_read_by_the_schema_that_their_first_bytes_or_their_headers_name() {
    let (broker, intake, registry) = (Broker::start(), Intake::start(), ScriptedRegistry::start());
    registry.register(7, &avro_schema());
    registry.answer("/schemas/ids/8", json!({ "schema": "{}", "schemaType": "JSON" }));
    registry.answer("/schemas/ids/9", json!({ "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF" }));
    registry.answer(
        "/schemas/guids/07070707-0707-0707-0707-070707070707",
        json!({ "schema": avro_schema(), "schemaType": "AVRO" }),
    );
    broker.create_topic(TOPIC, 1).await;
    let producer = broker.producer(Compression::Lz4);
    let send = |value: &[u8], header| {
        let message = Message { topic: TOPIC, partition: None, key: "k", value: Some(value), header };
        producer.send_message(message);
    };
    send_batch(&producer, TOPIC, 0);
    for number in 0..BATCH {
        send(&avro(7, 1, number), None);
        send(&avro(7, 2, number)[FRAME_BYTES..], Some(("__value_schema_id", GUID)));
        // A header that names no schema is none.
        send(&avro(7, 3, number), Some(("trace", b"x")));
    }
    for (_, event) in batch(4) {
        send(&[&[0, 0, 0, 0, 8], event.as_bytes()].concat(), None);
    }
    for (_, event) in batch(5) {
        send(&[&[3, 0][..], &GUID[1..], event.as_bytes()].concat(), None);
    }
    send(&avro(9, 6, 0), None);
    send(&[&[3, 0][..], &GUID[1..], &[2, b'x']].concat(), None);
    producer.flush();
    let brokers = [broker.address()];
    let configuration = member(&brokers, TOPIC, &intake, "acme");
    let forwarder = configuration.text("queue.kafka.schema_registry", &registry.url()).start().await;
    intake.wait_for_sends(6 * BATCH).await;
    committed_all(|| broker.committed(TOPIC, TOPIC), &producer, TOPIC).await;
    let books = forwarder.books_balance().await;
    assert_eq!((books.malformed, books.counted), (2, 6 * BATCH), "{books:?}");
    support::eventually("both are told", async || {
        let log = forwarder.log();
        (log.contains("is PROTOBUF, which is not read") && log.contains("AWS Glue")).then_some(())
    })
    .await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 6);
    assert_valid(&intake);
}
