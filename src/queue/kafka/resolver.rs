//! Makes packs readable: says of each message how it is to be read.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::pack::{Kind, Pack, Piece};
use super::poller::Handed;
use super::positions::Assignment;
use crate::queue::{Delivery, Framing, Part, Receipt};

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
pub(super) struct Resolver {
    packs: mpsc::Receiver<Handed>,
    ready: mpsc::Sender<Ready>,
}

impl Resolver {
    pub(super) fn new(packs: mpsc::Receiver<Handed>, ready: mpsc::Sender<Ready>) -> Self {
        Self { packs, ready }
    }

    /// Works until nobody listens any more.
    pub(super) async fn run(mut self) {
        while let Some(handed) = self.packs.recv().await {
            let ready = match handed {
                Handed::Pack(receipt, pack) => self.resolve(receipt, *pack),
                Handed::Recall(receipt) => Ready::Delivery { delivery: recall(receipt), assignment: None },
                Handed::End => Ready::End,
                Handed::Failed(reason) => Ready::Failed(reason),
            };
            if self.ready.send(ready).await.is_err() {
                return;
            }
        }
    }

    fn resolve(&mut self, receipt: Receipt, pack: Pack) -> Ready {
        let parts: Arc<[Part]> = pack.pieces.iter().map(|piece| self.part(*piece)).collect();
        let delivery = Delivery {
            body: pack.body.into(),
            framing: Framing::Parts(parts),
            origin: Arc::clone(&pack.assignment.origin),
            oversized: pack.oversized,
            recall: false,
            receipt,
        };
        Ready::Delivery { delivery, assignment: Some(pack.assignment) }
    }

    fn part(&self, Piece { end, kind }: Piece) -> Part {
        let framing = match kind {
            Kind::Document => Framing::Document,
            Kind::Framed { .. } | Kind::Container => Framing::Unreadable(1),
        };
        Part { end, framing }
    }
}

/// No event, and the wish that all before be flushed.
fn recall(receipt: Receipt) -> Delivery {
    Delivery {
        body: bytes::Bytes::new(),
        framing: Framing::Document,
        origin: Arc::default(),
        oversized: 0,
        recall: true,
        receipt,
    }
}
