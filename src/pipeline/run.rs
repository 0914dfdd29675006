//! The state of one run over one queue.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Ended;
use super::settle::FlushSummary;
use crate::connection::ConnectionSet;
use crate::ledger::Ledger;
use event_lanes::Group;
use event_queues::{QueueError, Receipt};
use send_counts::aggregate::tags::Layout;

/// The state of one run over one queue.
pub(super) struct QueueRun {
    pub(super) ledger: Ledger<FlushSummary>,
    /// Deliveries that were received and wait for a lane.
    pub(super) in_hand: Group,
    pub(super) phase: Phase,
    /// The greatest receipt that may be acknowledged and is not yet.
    pub(super) acknowledge: Option<Receipt>,
    /// The queue asks for a cut before the next tick.
    pub(super) is_recalled: bool,
    /// The connections and tags of a reload that waits for its cut, and who is told of it.
    pub(super) reload: Option<(ConnectionSet, Arc<Layout>, oneshot::Sender<()>)>,
    /// Why the queue has failed.
    pub(super) failure: Option<QueueError>,
    /// Whether acknowledgements are still made: none after a failed one. A queue that can't be read may still be
    /// acknowledged.
    pub(super) may_acknowledge: bool,
    /// Nothing more is sent, because the queue could not acknowledge it.
    pub(super) is_halted: bool,
    /// The deadline of a stop.
    pub(super) deadline: Option<Instant>,
}

impl QueueRun {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            in_hand: Group::default(),
            phase: Phase::Receiving,
            acknowledge: None,
            is_recalled: false,
            reload: None,
            failure: None,
            may_acknowledge: true,
            is_halted: false,
            deadline: None,
        }
    }

    /// Whether something is to be handed to a lane. Received deliveries are still counted while it drains.
    pub(super) fn is_handing(&self) -> bool {
        !self.in_hand.is_empty() && !self.is_halted && !matches!(self.phase, Phase::Abandoning(_))
    }

    /// Whether it takes another delivery in hand.
    pub(super) fn takes(&self) -> bool {
        self.phase == Phase::Receiving && self.in_hand.has_room()
    }

    /// Why no more deliveries come, once all received ones are with the lanes.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.is_handing() { None } else { self.phase.ended() }
    }

    /// Receives no more. A run that is abandoning does not go back to waiting.
    pub(super) fn drain(&mut self, ended: Ended) {
        if !matches!(self.phase, Phase::Abandoning(_)) {
            self.phase = Phase::Draining(ended);
        }
    }

    /// Stops, and waits for outcomes until `deadline` at the latest.
    pub(super) fn stop(&mut self, deadline: Instant) {
        self.drain(Ended::Stopped);
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    /// Whether everything has happened.
    pub(super) fn is_over(&self) -> bool {
        self.is_halted || self.ledger.is_clear()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Receiving,
    /// No more deliveries come; counts are on their way.
    Draining(Ended),
    /// The waiting time is over: sends without an outcome are dropped.
    Abandoning(Ended),
}

impl Phase {
    pub(super) fn ended(self) -> Option<Ended> {
        match self {
            Phase::Receiving => None,
            Phase::Draining(ended) | Phase::Abandoning(ended) => Some(ended),
        }
    }
}
