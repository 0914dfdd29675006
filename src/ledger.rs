//! What is owed to the queue: which deliveries wait for which batches.
//!
//! Deliveries that were counted between two cuts share a *claim*. A claim owes one debt for each batch that
//! answers for it; when the last debt is settled, and every claim before it is settled too, its deliveries
//! may be acknowledged. Nothing else ever leads to an acknowledgement.

use std::collections::VecDeque;

use crate::queue::Receipt;

/// The number of a claim; claims are numbered in the order of their cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

#[derive(Debug)]
struct Claim {
    /// `None`: no delivery waits for it.
    receipt: Option<Receipt>,
    debts: u64,
}

/// A debt was settled, or added, where none was owed: a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a flush was settled more often than there were requests, by a defect; what is not acknowledged comes again"
)]
pub struct Unpaired;

/// The debts to one queue.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The last delivery since the last cut.
    delivered: Option<Receipt>,
    claims: VecDeque<Claim>,
    /// The number of the first of `claims`.
    first: u64,
}

impl Ledger {
    /// A delivery was handed to a lane: the next cut answers for it. Deliveries come in the queue's order.
    pub fn deliver(&mut self, receipt: Receipt) {
        self.delivered = self.delivered.max(Some(receipt));
    }

    /// Whether anything was delivered since the last cut.
    pub fn has_delivered(&self) -> bool {
        self.delivered.is_some()
    }

    /// A cut was made: opens a claim for everything delivered since the one before. It owes one debt, that of
    /// the cut itself: it is settled when it is known which batches there are. `None`: nothing was delivered.
    pub fn open(&mut self) -> Option<ClaimId> {
        let receipt = self.delivered.take()?;
        Some(self.push(Some(receipt)))
    }

    /// As [`Ledger::open`], for a flush that no delivery waits for: one of heartbeats alone. What was delivered since
    /// the last cut stays with the next.
    pub fn open_empty(&mut self) -> ClaimId {
        self.push(None)
    }

    /// One more batch answers for `claim`, which must have a debt left.
    ///
    /// # Errors
    /// When it has none: it may be acknowledged already.
    pub fn owe(&mut self, claim: ClaimId) -> Result<(), Unpaired> {
        let claim = self.find(claim).filter(|claim| claim.debts > 0).ok_or(Unpaired)?;
        claim.debts += 1;
        Ok(())
    }

    /// A debt of `claim` is settled. Returns what may be acknowledged now, if that has grown.
    ///
    /// # Errors
    /// When it has none. Nothing is changed then, and nothing may be acknowledged any more.
    pub fn settle(&mut self, claim: ClaimId) -> Result<Option<Receipt>, Unpaired> {
        let owing = self.find(claim).ok_or(Unpaired)?;
        owing.debts = owing.debts.checked_sub(1).ok_or(Unpaired)?;
        let mut receipt = None;
        while let Some(settled) = self.claims.pop_front_if(|claim| claim.debts == 0) {
            self.first += 1;
            receipt = settled.receipt.or(receipt);
        }
        Ok(receipt)
    }

    /// Whether `claim` has no debt left.
    pub fn is_settled(&self, claim: ClaimId) -> bool {
        let index = claim.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.is_none_or(|index| self.claims.get(index).is_some_and(|claim| claim.debts == 0))
    }

    /// How many claims are open.
    pub fn open_claims(&self) -> usize {
        self.claims.len()
    }

    /// Whether nothing is owed: every delivery may be acknowledged.
    pub fn is_clear(&self) -> bool {
        self.claims.is_empty() && self.delivered.is_none()
    }

    fn push(&mut self, receipt: Option<Receipt>) -> ClaimId {
        self.claims.push_back(Claim { receipt, debts: 1 });
        ClaimId(self.first + self.claims.len() as u64 - 1)
    }

    fn find(&mut self, claim: ClaimId) -> Option<&mut Claim> {
        let index = usize::try_from(claim.0.checked_sub(self.first)?).ok()?;
        self.claims.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claim_of_no_delivery_acknowledges_nothing_and_keeps_the_order() {
        let mut ledger = Ledger::default();
        let first = ledger.open_empty();
        assert!(!ledger.is_clear(), "its outcome is waited for");
        ledger.deliver(Receipt(3));
        assert!(ledger.has_delivered());
        let second = ledger.open().unwrap();
        let third = ledger.open_empty();
        assert_eq!(ledger.settle(third), Ok(None));
        assert_eq!(ledger.settle(second), Ok(None));
        assert_eq!(ledger.settle(first), Ok(Some(Receipt(3))));
        assert!(ledger.is_clear());
        let alone = ledger.open_empty();
        assert_eq!(ledger.settle(alone), Ok(None));
        assert!(ledger.is_clear());
    }

    #[test]
    fn a_claim_is_acknowledged_when_its_last_debt_is_settled() {
        let mut ledger = Ledger::default();
        ledger.deliver(Receipt(3));
        ledger.deliver(Receipt(5));
        let claim = ledger.open().unwrap();
        ledger.owe(claim).unwrap();
        assert_eq!(ledger.settle(claim), Ok(None));
        assert!(!ledger.is_clear());
        assert_eq!(ledger.settle(claim), Ok(Some(Receipt(5))));
        assert!(ledger.is_clear());
    }

    #[test]
    fn what_nobody_owes_can_not_be_settled_and_changes_nothing() {
        let mut ledger = Ledger::default();
        ledger.deliver(Receipt(1));
        let first = ledger.open().unwrap();
        ledger.deliver(Receipt(2));
        let second = ledger.open().unwrap();
        assert_eq!(ledger.settle(second), Ok(None));
        // It is settled and waits for the first; one debt less than none would be a debt for ever.
        assert_eq!(ledger.settle(second), Err(Unpaired));
        assert_eq!(ledger.owe(second), Err(Unpaired));
        assert_eq!(ledger.settle(first), Ok(Some(Receipt(2))));
        assert_eq!((ledger.settle(first), ledger.owe(second)), (Err(Unpaired), Err(Unpaired)));
        assert!(ledger.is_clear());
    }

    #[test]
    fn a_later_claim_waits_for_the_earlier_one() {
        let mut ledger = Ledger::default();
        ledger.deliver(Receipt(1));
        let first = ledger.open().unwrap();
        ledger.deliver(Receipt(2));
        let second = ledger.open().unwrap();
        assert_eq!(ledger.settle(second), Ok(None));
        assert!(ledger.is_settled(second) && !ledger.is_settled(first));
        assert_eq!(ledger.settle(first), Ok(Some(Receipt(2))));
    }

    #[test]
    fn a_cut_without_deliveries_claims_nothing() {
        assert!(Ledger::default().open().is_none());
    }

    proptest! {
        /// Every delivery is acknowledged exactly once, in order, and never before each batch that answers
        /// for it, and for any delivery before it, is settled.
        #[test]
        fn acknowledged_once_and_only_when_settled(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200)) {
            let mut ledger = Ledger::default();
            let mut delivered = 0;
            let mut acknowledged = 0;
            // Per open claim: its last delivery and its debts.
            let mut open: Vec<(ClaimId, u64, u64)> = Vec::new();
            let mut settle = |ledger: &mut Ledger, open: &mut Vec<(ClaimId, u64, u64)>, at: usize| {
                open[at].2 -= 1;
                let receipt = ledger.settle(open[at].0).unwrap();
                let settled = open.iter().take_while(|claim| claim.2 == 0).count();
                let expected = open[..settled].last().map(|claim| Receipt(claim.1));
                assert_eq!(receipt, expected);
                if let Some(Receipt(receipt)) = receipt { assert!(receipt > acknowledged); acknowledged = receipt; }
                open.drain(..settled);
            };
            for (step, index) in steps {
                match step {
                    0 => { delivered += 1; ledger.deliver(Receipt(delivered)); }
                    1 => if let Some(claim) = ledger.open() { open.push((claim, delivered, 1)); },
                    2 => if let Some(claim) = open.iter_mut().filter(|claim| claim.2 > 0).last() { claim.2 += 1; ledger.owe(claim.0).unwrap(); },
                    _ => {
                        let owing: Vec<usize> = (0..open.len()).filter(|at| open[*at].2 > 0).collect();
                        if !owing.is_empty() { let at = owing[index.index(owing.len())]; settle(&mut ledger, &mut open, at); }
                    }
                }
            }
            if let Some(claim) = ledger.open() { open.push((claim, delivered, 1)); }
            while let Some(at) = open.iter().position(|claim| claim.2 > 0) { settle(&mut ledger, &mut open, at); }
            prop_assert!(ledger.is_clear());
            prop_assert_eq!(acknowledged, delivered);
        }
    }
}
