//! Turns batches into deliveries: finds how to read each message, with the schema registry's help.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use flate2::read::ZlibDecoder;
use tokio::sync::mpsc;

use super::batch::{BatchedMessage, MESSAGE_BYTES_MAX, MessageBatch};
use super::frame::{self, MessageKind, SchemaKey};
use super::offsets::Assignment;
use super::poller::PollerOutput;
use super::schemas::{Lookup, Schemas};
use crate::{Datums, Delivery, Framing, Part, Receipt, Source, WriterSchema};
use braze_events::container;

/// How many complaints are told apart.
const COMPLAINTS_MAX: usize = 32;

/// How often the same complaint about messages is logged.
const COMPLAIN_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The message about framed messages where no registry is set.
const NO_REGISTRY: &str = "messages are booked as malformed: they name a schema of a registry, and queue.kafka.schema_registry \
                           is not set";

/// The size of a delivery once its packed messages are unpacked: a batch of 512 KiB may come to 100 times as much, and
/// events of JSON come to some 10 times. One message alone has less.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The schemas of a batch.
type FormatsByKey = HashMap<SchemaKey, Format>;

/// How to read messages of a schema.
#[derive(Debug, Clone)]
enum Format {
    Avro(Arc<WriterSchema>),
    Json,
    /// The registry can't be asked, for this reason. JSON is read all the same.
    Unasked(String),
    /// There is no schema.
    Unreadable,
}

/// A result for the receiver.
#[derive(Debug)]
pub(super) enum Ready {
    Delivery {
        delivery: Delivery,
        /// The period for which the partition belongs to this process.
        assignment: Option<Arc<Assignment>>,
    },
    End,
    Failed(String),
}

/// The stage between the poller and the receiver.
#[derive(Debug)]
pub(super) struct DeliveryMaker {
    pub(super) batches: mpsc::Receiver<PollerOutput>,
    pub(super) ready: mpsc::Sender<Ready>,
    /// None where no registry is set.
    pub(super) schemas: Option<Schemas>,
    pub(super) complaints: Complaints,
}

impl DeliveryMaker {
    /// Works until the receiver is gone.
    pub(super) async fn run(mut self) {
        while let Some(handed) = self.batches.recv().await {
            let ready = match handed {
                PollerOutput::Batch(receipt, batch) => self.resolve(receipt, *batch).await,
                PollerOutput::Recall(receipt) => {
                    Some(Ready::Delivery { delivery: recall(receipt), assignment: None })
                }
                PollerOutput::End => Some(Ready::End),
                PollerOutput::Failed(reason) => Some(Ready::Failed(reason)),
            };
            if let Some(ready) = ready
                && self.ready.send(ready).await.is_err()
            {
                return;
            }
        }
    }

    /// Finds how to read each message of `batch`. `None`: its partition was given up while a schema was waited for; the new
    /// owner counts it.
    async fn resolve(&mut self, receipt: Receipt, batch: MessageBatch) -> Option<Ready> {
        let found = self.schemas_of(&batch).await?;
        let is_packed = |kind| matches!(kind, MessageKind::Container | MessageKind::Packed { .. });
        let (body, parts) = if batch.messages.iter().any(|message| is_packed(message.kind)) {
            self.unpack(&batch, &found)
        } else {
            let mut start = 0;
            let parts = batch.messages.iter().map(|BatchedMessage { end, kind }| {
                let value = &batch.body[start..*end];
                start = *end;
                Part { end: *end, framing: self.framing(*kind, value, &found) }
            });
            let parts = parts.collect();
            (batch.body, parts)
        };
        let delivery = Delivery {
            body: body.into(),
            framing: Framing::Parts(parts),
            defaults: Arc::clone(&batch.assignment.defaults),
            source: Source::Partition {
                topic: Arc::clone(&batch.partition.topic),
                number: batch.partition.number,
                end: batch.next_offset,
            },
            oversized: batch.oversized,
            recall: false,
            receipt,
        };
        Some(Ready::Delivery { delivery, assignment: Some(batch.assignment) })
    }

    /// The schemas of all framed messages. `None`: as above.
    async fn schemas_of(&mut self, batch: &MessageBatch) -> Option<FormatsByKey> {
        let mut found = FormatsByKey::new();
        for message in &batch.messages {
            let (MessageKind::Framed { schema: key } | MessageKind::Packed { schema: key }) = message.kind
            else {
                continue;
            };
            if found.contains_key(&key) {
                continue;
            }
            let format = match (key.unasked(), &mut self.schemas) {
                (Some(registry), _) => Format::Unasked(format!(
                    "messages are booked as malformed: their Avro or Protobuf is by a schema of {registry}, which is \
                     not asked; have the producer write JSON, or use a registry that speaks Confluent's API"
                )),
                (None, None) => Format::Unasked(NO_REGISTRY.to_owned()),
                (None, Some(schemas)) => match schemas.wait_for(key, || batch.assignment.is_over()).await {
                    Lookup::Schema(schema) => Format::Avro(schema),
                    Lookup::Json => Format::Json,
                    Lookup::Never(reason) => {
                        self.log_unreadable(
                            &format!("messages are booked as malformed: {reason}"),
                            Some(key),
                        );
                        Format::Unreadable
                    }
                    Lookup::NotNow(_) => return None,
                },
            };
            found.insert(key, format);
        }
        Some(found)
    }

    /// Rewrites the body with containers expanded and packed messages unpacked.
    fn unpack(&mut self, batch: &MessageBatch, found: &FormatsByKey) -> (Vec<u8>, Arc<[Part]>) {
        let (mut body, mut parts) = (Vec::with_capacity(2 * batch.body.len()), Vec::new());
        let mut start = 0;
        for BatchedMessage { end, kind } in &batch.messages {
            let (message, from) = (&batch.body[start..*end], body.len());
            start = *end;
            let framing = match kind {
                MessageKind::Container => {
                    match container::split(message, UNPACKED_BYTES_MAX, &mut body, &mut parts) {
                        Ok(()) => continue,
                        Err(refusal) => {
                            let what = format!("an Avro container is booked as malformed: {refusal}");
                            self.log_unreadable(&what, None);
                            Framing::Unreadable(1)
                        }
                    }
                }
                MessageKind::Packed { schema } => match inflate(message, &mut body) {
                    Ok(()) => {
                        let framing = self.framing(*kind, &body[from..], found);
                        if let Framing::Unreadable(_) = framing {
                            body.truncate(from);
                        }
                        framing
                    }
                    Err(error) => {
                        body.truncate(from);
                        let what = format!(
                            "messages are booked as malformed: their zlib can't be unpacked ({error})"
                        );
                        self.log_unreadable(&what, Some(*schema));
                        Framing::Unreadable(1)
                    }
                },
                _ => {
                    body.extend_from_slice(message);
                    self.framing(*kind, message, found)
                }
            };
            parts.push(Part { end: body.len(), framing });
        }
        (body, parts.into())
    }

    /// How to read a message with this value.
    fn framing(&mut self, kind: MessageKind, value: &[u8], found: &FormatsByKey) -> Framing {
        let (MessageKind::Framed { schema: key } | MessageKind::Packed { schema: key }) = kind else {
            return Framing::Document;
        };
        match found.get(&key) {
            Some(Format::Avro(schema)) => Framing::Avro(Datums { schema: Arc::clone(schema), count: 1 }),
            Some(Format::Json) => Framing::Document,
            // Without a schema, JSON is read all the same.
            _ if frame::looks_like_json(value) => Framing::Document,
            Some(Format::Unasked(reason)) => {
                self.log_unreadable(reason, Some(key));
                Framing::Unreadable(1)
            }
            Some(Format::Unreadable) | None => Framing::Unreadable(1),
        }
    }

    /// Logs that messages can't be read, once a minute for each complaint.
    fn log_unreadable(&mut self, what: &str, schema: Option<SchemaKey>) {
        if self.complaints.allow(what, schema) {
            let schema = schema.map(|schema| schema.to_string());
            tracing::error!(schema, "kafka: {what}");
        }
    }
}

/// What was said of messages within the last minute.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

#[derive(Debug)]
struct Complaint {
    what: String,
    schema: Option<SchemaKey>,
    said: tokio::time::Instant,
}

impl Complaints {
    /// Whether to say it again. Of more complaints a minute than are remembered some are not said.
    fn allow(&mut self, what: &str, schema: Option<SchemaKey>) -> bool {
        self.0.retain(|complaint| complaint.said.elapsed() < COMPLAIN_AGAIN_AFTER);
        let is_said = self.0.iter().any(|complaint| complaint.what == what && complaint.schema == schema);
        let is_due = !is_said && self.0.len() < COMPLAINTS_MAX;
        if is_due {
            self.0.push(Complaint { what: what.to_owned(), schema, said: tokio::time::Instant::now() });
        }
        is_due
    }
}

/// Appends an unpacked message, up to the limit of a message and to the room in the delivery.
fn inflate(packed: &[u8], body: &mut Vec<u8>) -> io::Result<()> {
    let room = UNPACKED_BYTES_MAX.saturating_sub(body.len());
    let most = MESSAGE_BYTES_MAX.min(room);
    let read = ZlibDecoder::new(packed).take(most as u64 + 1).read_to_end(body)?;
    if read <= most {
        return Ok(());
    }
    Err(io::Error::other(if room < MESSAGE_BYTES_MAX {
        "with those before it it has more than 64 MiB"
    } else {
        "it has more than 16 MiB"
    }))
}

/// A delivery without events that asks for a flush of everything before it.
fn recall(receipt: Receipt) -> Delivery {
    Delivery {
        body: bytes::Bytes::new(),
        framing: Framing::Document,
        defaults: Arc::default(),
        source: Source::default(),
        oversized: 0,
        recall: true,
        receipt,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braze_events::Decoded;
    use braze_events::decode::Decoder;
    use serde_json::json;

    use super::super::frame::kind_in;
    use super::super::offsets::Partition;
    use super::super::schemas::SchemaRegistry;
    use super::super::schemas::scripted::ScriptedRegistry;
    use super::*;
    use crate::kafka::SchemaIds;
    use rdkafka::message::{Header, OwnedHeaders};

    const EMAIL: &str = "users.messages.email.Send";
    /// A record with an id alone, by the name of an e-mail send.
    const SCHEMA: &str = r#"{"type":"record","name":"Send","namespace":"users.messages.email",
        "fields":[{"name":"id","type":"string"}]}"#;
    const UUID: [u8; 16] = [7; 16];

    fn maker(registry: Option<&ScriptedRegistry>, path: &str) -> DeliveryMaker {
        let (_, batches) = mpsc::channel(1);
        let (ready, _) = mpsc::channel(1);
        let registry = registry.map(|scripted| {
            let url = format!("{}{path}", scripted.url());
            SchemaRegistry::new(&url.as_str().into(), None, SchemaIds::Auto, "test/1").unwrap()
        });
        let schemas = registry.map(|registry| Schemas::new(registry, Arc::default()));
        DeliveryMaker { batches, ready, schemas, complaints: Complaints::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_complaint_is_said_once_a_minute_whatever_comes_beside_it() {
        let mut complaints = Complaints::default();
        let mut allow = |what, id: Option<u32>| complaints.allow(what, id.map(SchemaKey::Id));
        assert!(allow("no registry", None) && allow("unknown", Some(77)));
        assert!(allow("unknown", Some(78)));
        assert!(!allow("no registry", None) && !allow("unknown", Some(77)));
        tokio::time::advance(COMPLAIN_AGAIN_AFTER).await;
        assert!(allow("unknown", Some(77)));
        let said = (0..1_000).filter(|id| allow("unknown", Some(*id))).count();
        assert!((20..=COMPLAINTS_MAX).contains(&said), "{said} of 1,000");
    }

    /// A message: its value, and one header.
    type SentMessage<'m> = (&'m [u8], Option<(&'m str, &'m [u8])>);

    /// What is read of messages: the ids of sends, and what else there is.
    async fn read(maker: &mut DeliveryMaker, messages: &[SentMessage<'_>]) -> Vec<String> {
        let partition = Partition { topic: "t".into(), number: 0 };
        let mut batch = MessageBatch::new(partition, Arc::default(), 0, maker.schemas.is_some());
        for ((value, header), offset) in messages.iter().zip(0..) {
            let headers =
                header.map(|(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) }));
            batch.push(offset, value, |_| headers.as_ref().and_then(kind_in));
        }
        let Some(Ready::Delivery { delivery, .. }) = maker.resolve(Receipt(0), batch).await else { panic!() };
        let mut all = Vec::new();
        Decoder::new(&[EMAIL.into()], false).decode(
            &delivery.body,
            &delivery.framing,
            &delivery.defaults,
            |found| {
                all.push(match found {
                    Decoded::Send(send) => String::from_utf8(send.id.to_vec()).unwrap(),
                    other => format!("{other:?}"),
                });
            },
        );
        all
    }

    fn avro(head: &[u8], id: &str) -> Vec<u8> {
        [head, &[u8::try_from(2 * id.len()).unwrap()], id.as_bytes()].concat()
    }

    fn event(head: &[u8], id: &str) -> Vec<u8> {
        [head, json!({ "event_type": EMAIL, "id": id }).to_string().as_bytes()].concat()
    }

    const LOST: &str = "Malformed(Unreadable)";

    #[tokio::test]
    async fn what_the_registry_says_of_a_number_decides_how_it_is_read() {
        let scripted = ScriptedRegistry::start();
        scripted.register(7, SCHEMA);
        scripted
            .answer("/schemas/ids/8", json!({ "schema": "{}", "schemaType": "JSON", "references": [{}] }));
        scripted
            .answer("/schemas/ids/9", json!({ "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF" }));
        let (seven, eight, nine) = ([0, 0, 0, 0, 7], [0, 0, 0, 0, 8], [0, 0, 0, 0, 9]);
        let mut maker = maker(Some(&scripted), "");
        // The one doubt of this minute.
        maker.schemas.as_mut().unwrap().wait_for(SchemaKey::Id(99), || true).await;
        let messages =
            [avro(&seven, "a"), event(&eight, "b"), avro(&nine, "c"), event(&[], "d"), avro(&seven, "e")];
        let messages: Vec<SentMessage<'_>> = messages.iter().map(|value| (&value[..], None)).collect();
        assert_eq!(read(&mut maker, &messages).await, ["a", "b", LOST, "d", "e"]);
    }

    #[tokio::test]
    async fn a_schema_that_a_header_names_is_read_whoever_named_it() {
        let scripted = ScriptedRegistry::start();
        scripted.answer("/schemas/guids/07070707-0707-0707-0707-070707070707", json!({ "schema": SCHEMA }));
        scripted.answer("/schemas/ids/5", json!({ "schema": "{}", "schemaType": "JSON" }));
        let guid = [&[1][..], &UUID].concat();
        let messages = [avro(&[], "a"), avro(&guid, "b"), event(&[], "c"), event(&[], "d")];
        let headers: [Option<(&str, &[u8])>; 4] = [
            Some(("__value_schema_id", &guid)),
            None,
            Some(("__value_schema_id", &[0, 0, 0, 0, 5])),
            Some(("trace", b"x")),
        ];
        let messages: Vec<SentMessage<'_>> = messages.iter().map(|value| &value[..]).zip(headers).collect();
        assert_eq!(read(&mut maker(Some(&scripted), ""), &messages).await, ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn apicurios_numbers_are_asked_for_by_its_own_api() {
        let scripted = ScriptedRegistry::start();
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        for path in ["v2/ids/globalIds/3", "v2/ids/contentIds/4", "v3/ids/contentIds/3", "v3/ids/globalIds/3"]
        {
            scripted.answer(&format!("/apis/registry/{path}?returnArtifactType=true"), schema.clone());
        }
        let long = |id: u64| id.to_be_bytes();
        let head = [&[0][..], &long(3)].concat();
        let prefixed = avro(&head, "a");
        let (plain, json) = (avro(&[], "b"), event(&[], "c"));
        let messages: [SentMessage<'_>; 4] = [
            (&prefixed, None),
            (&plain, Some(("apicurio.value.globalId", &long(3)))),
            (&plain, Some(("apicurio.value.contentId", &long(4)))),
            (&json, None),
        ];
        for path in ["/apis/registry/v2", "/apis/ccompat/v7"] {
            assert_eq!(
                read(&mut maker(Some(&scripted), path), &messages).await,
                ["a", "b", "b", "c"],
                "{path}"
            );
        }
        let asked = scripted.asked().len();
        assert_eq!(read(&mut maker(Some(&scripted), "/apis/registry/v3/"), &messages[..2]).await, ["a", "b"]);
        let asked: Vec<_> = scripted.asked().into_iter().skip(asked).map(|asked| asked.path).collect();
        assert!(
            asked[0].contains("v3/ids/contentIds/3") && asked[1].contains("v3/ids/globalIds/3"),
            "{asked:?}"
        );
    }

    #[tokio::test]
    async fn json_behind_any_frame_needs_no_registry_and_avro_is_lost_without_one() {
        let glue = [&[3, 0][..], &UUID].concat();
        let guid = [&[1][..], &UUID].concat();
        let messages = [
            event(&[0, 0, 0, 0, 7], "a"),
            event(&glue, "b"),
            event(&guid, "c"),
            avro(&[0, 0, 0, 0, 7], "x"),
            avro(&glue, "x"),
            event(&[&[0; 4][..], &[b'a'; 32]].concat(), "d"),
        ];
        let messages: Vec<SentMessage<'_>> = messages.iter().map(|value| (&value[..], None)).collect();
        assert_eq!(read(&mut maker(None, ""), &messages).await, ["a", "b", "c", LOST, LOST, "d"]);
    }

    #[tokio::test]
    async fn the_samples_of_messages_are_read_as_their_truth_says() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        let truth = std::fs::read_to_string(samples.join("truth.json")).unwrap();
        let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
        let scripted = ScriptedRegistry::start();
        scripted.answer("/schemas/ids/7", json!({ "schema": "{}", "schemaType": "JSON" }));
        for name in ["kafka-json-schema", "kafka-glue", "kafka-glue-zlib"] {
            let name = format!("intermediaries/{name}.message");
            let value = std::fs::read(samples.join(&name)).unwrap();
            let found = read(&mut maker(Some(&scripted), ""), &[(&value, None)]).await;
            let held = &truth["intermediaries"][&name];
            assert_eq!(found.len() as u64, held["events"].as_u64().unwrap(), "{name}: {found:?}");
            let emails = held["sends_by_event_type"][EMAIL].as_u64().unwrap_or_default();
            let sends = found.iter().filter(|found| !found.contains('(') && !found.contains('{'));
            assert_eq!(sends.count() as u64, emails, "{name}: {found:?}");
        }
    }

    #[test]
    fn what_is_packed_adds_up_to_so_much_in_a_delivery_and_no_more() {
        let mut packed = Vec::new();
        let content = vec![b' '; MESSAGE_BYTES_MAX];
        flate2::read::ZlibEncoder::new(&content[..], flate2::Compression::fast())
            .read_to_end(&mut packed)
            .unwrap();
        let mut body = vec![0; UNPACKED_BYTES_MAX - MESSAGE_BYTES_MAX];
        inflate(&packed, &mut body).unwrap();
        assert_eq!(body.len(), UNPACKED_BYTES_MAX);
        // One byte more than before, and so one too many.
        body.truncate(UNPACKED_BYTES_MAX - MESSAGE_BYTES_MAX + 1);
        let error = inflate(&packed, &mut body).unwrap_err();
        assert!(error.to_string().contains("64 MiB"), "{error}");
    }

    #[tokio::test]
    async fn json_is_read_whatever_its_header_or_its_registry_says() {
        let scripted = ScriptedRegistry::start();
        scripted
            .answer("/schemas/ids/9", json!({ "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF" }));
        let long = 5_u64.to_be_bytes();
        let messages = [event(&[], "a"), event(&[], "b"), event(&[0, 0, 0, 0, 9], "c")];
        let mut maker = maker(Some(&scripted), "");
        // The one doubt of this minute.
        maker.schemas.as_mut().unwrap().wait_for(SchemaKey::Id(99), || true).await;
        let told: [SentMessage<'_>; 3] = [
            (&messages[0], Some(("apicurio.value.globalId", &long))),
            // Its registry would be waited for.
            (&messages[1], Some(("__value_schema_id", &[0, 0, 0, 0, 77]))),
            (&messages[2], None),
        ];
        assert_eq!(read(&mut maker, &told).await, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn what_is_packed_and_damaged_or_without_end_costs_itself_alone() {
        let packed = |content: &[u8]| {
            let mut encoder = flate2::read::ZlibEncoder::new(content, flate2::Compression::fast());
            let mut out = [&[3, 5][..], &UUID].concat();
            encoder.read_to_end(&mut out).unwrap();
            out
        };
        let whole = packed(&event(&[], "a"));
        let bomb = packed(&vec![b' '; MESSAGE_BYTES_MAX + 1]);
        let avro = packed(b"\x02x");
        let messages: [SentMessage<'_>; 5] =
            [(&whole, None), (&whole[..30], None), (&bomb, None), (&avro, None), (&whole, None)];
        assert_eq!(read(&mut maker(None, ""), &messages).await, ["a", LOST, LOST, LOST, "a"]);
    }
}
