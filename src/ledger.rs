//! The debts to the queue: which deliveries wait for which batches.
//!
//! Deliveries that were counted between two cuts share a *claim*. A claim owes one debt for each batch that answers for it;
//! when the last debt is settled, and every claim before it is settled too, its deliveries may be acknowledged. Nothing else
//! ever leads to an acknowledgement.

use std::collections::VecDeque;

use event_queues::Receipt;

/// The number of a claim; claims are numbered in the order of their cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

#[derive(Debug)]
struct Claim<S> {
    /// `None`: no delivery waits for it.
    receipt: Option<Receipt>,
    debts: u64,
    /// The summary, until its last debt is settled.
    summary: Option<S>,
}

/// A debt was settled, or added, where none was owed: a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a flush was settled more often than there were requests, by a defect; what is not acknowledged comes again"
)]
pub struct Unpaired;

/// The effect of a settled debt.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<S> {
    /// What may be acknowledged now, if that has grown.
    pub receipt: Option<Receipt>,
    /// The summary of the claim, if that was its last debt. Claims before it may still owe something: its deliveries
    /// are acknowledged with theirs.
    pub finished: Option<S>,
}

/// The debts to one queue. Each claim carries a summary of its flush, which the settling code fills.
#[derive(Debug)]
pub struct Ledger<S> {
    /// The last delivery since the last cut.
    delivered: Option<Receipt>,
    claims: VecDeque<Claim<S>>,
    /// The number of the first of `claims`.
    first: u64,
}

impl<S> Default for Ledger<S> {
    fn default() -> Self {
        Self { delivered: None, claims: VecDeque::new(), first: 0 }
    }
}

impl<S> Ledger<S> {
    /// Notes a delivery that was handed to a lane: the next cut answers for it. Deliveries come in the queue's order.
    pub fn deliver(&mut self, receipt: Receipt) {
        self.delivered = self.delivered.max(Some(receipt));
    }

    /// Whether anything was delivered since the last cut.
    pub fn has_delivered(&self) -> bool {
        self.delivered.is_some()
    }

    /// A cut was made: opens a claim for everything delivered since the one before, which may be nothing. It owes one debt,
    /// that of the cut itself, which is settled once all its batches are known.
    pub fn open(&mut self, summary: S) -> ClaimId {
        self.claims.push_back(Claim { receipt: self.delivered.take(), debts: 1, summary: Some(summary) });
        ClaimId(self.first + self.claims.len() as u64 - 1)
    }

    /// The summary of `claim`, as long as it owes something.
    pub fn summary(&mut self, claim: ClaimId) -> Option<&mut S> {
        self.find(claim)?.summary.as_mut()
    }

    /// One more batch answers for `claim`, which must have a debt left.
    ///
    /// # Errors
    /// When it has no debt left: it may be acknowledged already.
    pub fn owe(&mut self, claim: ClaimId) -> Result<(), Unpaired> {
        let claim = self.find(claim).filter(|claim| claim.debts > 0).ok_or(Unpaired)?;
        claim.debts += 1;
        Ok(())
    }

    /// Settles a debt of `claim`.
    ///
    /// # Errors
    /// When it has no debt left. Nothing is changed then, and nothing may be acknowledged any more.
    pub fn settle(&mut self, claim: ClaimId) -> Result<Settled<S>, Unpaired> {
        let owing = self.find(claim).ok_or(Unpaired)?;
        owing.debts = owing.debts.checked_sub(1).ok_or(Unpaired)?;
        let finished = if owing.debts == 0 { owing.summary.take() } else { None };
        let mut receipt = None;
        while let Some(settled) = self.claims.pop_front_if(|claim| claim.debts == 0) {
            self.first += 1;
            receipt = settled.receipt.or(receipt);
        }
        Ok(Settled { receipt, finished })
    }

    /// Whether nothing is owed: every delivery may be acknowledged.
    pub fn is_clear(&self) -> bool {
        self.claims.is_empty() && self.delivered.is_none()
    }

    fn find(&mut self, claim: ClaimId) -> Option<&mut Claim<S>> {
        let index = usize::try_from(claim.0.checked_sub(self.first)?).ok()?;
        self.claims.get_mut(index)
    }
}

#[cfg(test)]
mod tests;
