//! What goes to a lane at once.

use event_queues::{Delivery, Receipt};

/// Deliveries that go to a lane together: waking it costs as much as counting some twenty events.
const GROUP_MAX: usize = 64;

/// A group takes no more once it has so many bytes, so it is longer by one body at most. What is in larger pieces
/// anyway goes one by one.
const GROUP_BYTES: usize = 256 * 1024;

/// Deliveries that one lane is to count, in order.
#[derive(Debug, Default)]
pub struct Group {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

impl From<Delivery> for Group {
    /// One by itself.
    fn from(delivery: Delivery) -> Self {
        let mut group = Self::default();
        group.push(delivery);
        group
    }
}

impl Group {
    /// Adds one.
    pub fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.body.len();
        self.deliveries.push(delivery);
    }

    /// Whether it should take another one.
    pub fn has_room(&self) -> bool {
        self.deliveries.len() < GROUP_MAX && self.bytes < GROUP_BYTES && !self.is_recalled()
    }

    /// Whether the queue recalls what it has handed out up to the last one.
    pub fn is_recalled(&self) -> bool {
        self.deliveries.last().is_some_and(|delivery| delivery.recall)
    }

    /// In order.
    pub(super) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// The last one's, which is the greatest.
    pub fn receipt(&self) -> Option<Receipt> {
        self.deliveries.last().map(|delivery| delivery.receipt)
    }
}
