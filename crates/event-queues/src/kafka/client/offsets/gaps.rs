//! Offsets without a message, and which of them are lost messages.

use super::Watermarks;

/// Gaps of a partition that wait to be examined; the smallest make room, because lost messages make large ones.
pub(super) const GAPS_MAX: usize = 256;

/// Offsets without a message. Markers of transactions, compaction and expired messages leave such gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetGap {
    /// The offset of the first one.
    pub(super) from: i64,
    /// The offset of the message behind it.
    pub(super) to: i64,
}

/// Messages that the broker threw away before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Loss {
    pub(in super::super) messages: u64,
    /// The offset of the first missing message.
    pub(in super::super) expected: i64,
    /// The offset of the message behind the gap.
    pub(in super::super) offset: i64,
}

impl OffsetGap {
    const fn length(self) -> i64 {
        self.to - self.from
    }

    /// The part of it that is lost, if the broker's first message is at `start`.
    pub(super) fn loss(self, start: i64) -> Option<Loss> {
        let OffsetGap { from, to } = self;
        let messages = u64::try_from(to.min(start) - from).unwrap_or(0);
        (messages > 0).then_some(Loss { messages, expected: from, offset: to })
    }
}

/// The gaps of a partition that wait to be examined.
#[derive(Debug, Default)]
pub(super) struct OffsetGaps(Vec<OffsetGap>);

impl OffsetGaps {
    pub(super) fn add(&mut self, gap: OffsetGap) {
        if self.0.len() < GAPS_MAX {
            self.0.push(gap);
        } else if let Some(smallest) = self.0.iter_mut().min_by_key(|gap| gap.length())
            && smallest.length() < gap.length()
        {
            *smallest = gap;
        }
    }

    /// Whether one of them is longer than a marker.
    pub(super) fn are_long(&self) -> bool {
        self.0.iter().any(|gap| gap.length() > 1)
    }

    /// What lies before the broker's first message is lost. Watermarks from before the message behind a gap was fetched say
    /// nothing of it, and a fetch that the broker refused as out of range leaves them without a first message: the gap waits for
    /// later ones.
    pub(super) fn examine(&mut self, marks: Watermarks) -> Option<Loss> {
        let judged = self.0.extract_if(.., |gap| marks.start >= 0 && gap.to < marks.next);
        in_all(judged.filter_map(|gap| gap.loss(marks.start)))
    }

    /// The same for all of them, if the broker's first message was at `start` after them.
    pub(super) fn examine_all(&mut self, start: i64) -> Option<Loss> {
        in_all(self.0.drain(..).filter_map(|gap| gap.loss(start)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn in_all(losses: impl Iterator<Item = Loss>) -> Option<Loss> {
    losses.reduce(|all, loss| Loss {
        messages: all.messages + loss.messages,
        expected: all.expected.min(loss.expected),
        offset: all.offset.max(loss.offset),
    })
}
