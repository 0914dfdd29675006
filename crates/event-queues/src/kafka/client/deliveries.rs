//! Makes deliveries of batches: says of each message how it is to be read, with the schema registry's help.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::batch::{BatchedMessage, MessageBatch, MessageKind};
use super::offsets::Assignment;
use super::poller::PollerOutput;
use super::schemas::{Lookup, Schemas};
use crate::{Datums, Delivery, Framing, Part, Receipt, Source, WriterSchema};
use braze_events::container;

/// How often one and the same complaint about messages is logged.
const COMPLAIN_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// What is said of framed messages where no registry is set.
const NO_REGISTRY: &str = "messages have Confluent's framing, and queue.kafka.schema_registry is not set: they are booked as \
                           malformed";

/// The schemas of a batch by id; None where there is none, and whatever is framed with the id is malformed.
type Found = HashMap<u32, Option<Arc<WriterSchema>>>;

/// What is ready to be received.
#[derive(Debug)]
pub(super) enum Ready {
    Delivery {
        delivery: Delivery,
        /// The time for which the partition is this process's own.
        assignment: Option<Arc<Assignment>>,
    },
    End,
    Failed(String),
}

/// Stands between the poller and whoever receives.
#[derive(Debug)]
pub(super) struct DeliveryMaker {
    pub(super) batches: mpsc::Receiver<PollerOutput>,
    pub(super) ready: mpsc::Sender<Ready>,
    /// None where no registry is set.
    pub(super) schemas: Option<Schemas>,
    pub(super) complaint: Option<tokio::time::Instant>,
}

impl DeliveryMaker {
    /// Works until nobody listens any more.
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

    /// Says how each message of `batch` is read. `None`: its partition was given up meanwhile, while a schema was
    /// waited for; whoever has it now counts it.
    async fn resolve(&mut self, receipt: Receipt, batch: MessageBatch) -> Option<Ready> {
        let schemas = self.schemas_of(&batch).await?;
        let is_plain = batch.messages.iter().all(|message| message.kind != MessageKind::Container);
        let (body, parts) = if is_plain {
            let parts = batch
                .messages
                .iter()
                .map(|BatchedMessage { end, kind }| Part { end: *end, framing: framing(*kind, &schemas) });
            (batch.body, parts.collect())
        } else {
            self.open_containers(&batch, &schemas)
        };
        let delivery = Delivery {
            body: body.into(),
            framing: Framing::Parts(parts),
            origin: Arc::clone(&batch.assignment.origin),
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

    /// The schemas of all framed messages, as far as there are such. `None`: as above.
    async fn schemas_of(&mut self, batch: &MessageBatch) -> Option<Found> {
        let mut found = Found::new();
        for message in &batch.messages {
            let MessageKind::Framed { schema: id } = message.kind else { continue };
            if found.contains_key(&id) {
                continue;
            }
            let schema = match &mut self.schemas {
                Some(schemas) => match schemas.wait_for(id, || batch.assignment.is_over()).await {
                    Lookup::Schema(schema) => Ok(schema),
                    Lookup::Never(reason) => Err(format!("messages are booked as malformed: {reason}")),
                    Lookup::NotNow(_) => return None,
                },
                None => Err(NO_REGISTRY.to_owned()),
            };
            found.insert(id, schema.map_err(|problem| self.complain(&problem, id)).ok());
        }
        Some(found)
    }

    /// Writes the body anew, with what is in its containers.
    fn open_containers(&mut self, batch: &MessageBatch, schemas: &Found) -> (Vec<u8>, Arc<[Part]>) {
        let (mut body, mut parts) = (Vec::with_capacity(2 * batch.body.len()), Vec::new());
        let mut start = 0;
        for BatchedMessage { end, kind } in &batch.messages {
            let message = &batch.body[start..*end];
            start = *end;
            if *kind != MessageKind::Container {
                body.extend_from_slice(message);
                parts.push(Part { end: body.len(), framing: framing(*kind, schemas) });
            } else if let Err(refusal) = container::split(message, &mut body, &mut parts) {
                self.complain(&format!("an Avro container is booked as malformed: {refusal}"), 0);
                parts.push(Part { end: body.len(), framing: Framing::Unreadable(1) });
            }
        }
        (body, parts.into())
    }

    /// Says that messages can't be read: a row of them is told once a minute.
    fn complain(&mut self, what: &str, schema: u32) {
        if self.complaint.is_none_or(|last| last.elapsed() >= COMPLAIN_AGAIN_AFTER) {
            self.complaint = Some(tokio::time::Instant::now());
            tracing::error!(schema, "kafka: {what}");
        }
    }
}

fn framing(kind: MessageKind, schemas: &Found) -> Framing {
    match kind {
        MessageKind::Document | MessageKind::Container => Framing::Document,
        MessageKind::Framed { schema } => match schemas.get(&schema) {
            Some(Some(schema)) => Framing::Avro(Datums { schema: Arc::clone(schema), count: 1 }),
            _ => Framing::Unreadable(1),
        },
    }
}

/// No event, and the wish that all before be flushed.
fn recall(receipt: Receipt) -> Delivery {
    Delivery {
        body: bytes::Bytes::new(),
        framing: Framing::Document,
        origin: Arc::default(),
        source: Source::default(),
        oversized: 0,
        recall: true,
        receipt,
    }
}
