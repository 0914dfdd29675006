use super::*;
use proptest::prelude::*;

/// What a debt leads to that is not the last of its claim, or of one that waits for others.
fn nothing(finished: Option<u64>) -> Settled<u64> {
    Settled { receipt: None, finished }
}

fn acknowledged(receipt: u64, finished: u64) -> Settled<u64> {
    Settled { receipt: Some(Receipt(receipt)), finished: Some(finished) }
}

#[test]
fn a_claim_of_no_delivery_acknowledges_nothing_and_keeps_the_order() {
    let mut ledger = Ledger::default();
    let first = ledger.open(1);
    assert!(!ledger.is_clear(), "its outcome is waited for");
    ledger.deliver(Receipt(3));
    assert!(ledger.has_delivered());
    let second = ledger.open(2);
    assert!(!ledger.has_delivered());
    let third = ledger.open(3);
    assert_eq!(ledger.settle(third), Ok(nothing(Some(3))));
    assert_eq!(ledger.settle(second), Ok(nothing(Some(2))));
    assert_eq!(ledger.settle(first), Ok(acknowledged(3, 1)));
    assert!(ledger.is_clear());
    let alone = ledger.open(4);
    assert_eq!(ledger.settle(alone), Ok(nothing(Some(4))));
    assert!(ledger.is_clear());
}

#[test]
fn a_claim_is_acknowledged_when_its_last_debt_is_settled() {
    let mut ledger = Ledger::default();
    ledger.deliver(Receipt(3));
    ledger.deliver(Receipt(5));
    let claim = ledger.open(0);
    ledger.owe(claim).unwrap();
    assert_eq!(ledger.settle(claim), Ok(nothing(None)));
    assert!(!ledger.is_clear());
    *ledger.summary(claim).unwrap() += 7;
    assert_eq!(ledger.settle(claim), Ok(acknowledged(5, 7)));
    assert!(ledger.is_clear());
}

#[test]
fn what_nobody_owes_can_not_be_settled_and_changes_nothing() {
    let mut ledger = Ledger::default();
    ledger.deliver(Receipt(1));
    let first = ledger.open(1);
    ledger.deliver(Receipt(2));
    let second = ledger.open(2);
    assert_eq!(ledger.settle(second), Ok(nothing(Some(2))));
    // It is settled and waits for the first; one debt less than none would be a debt for ever.
    assert_eq!(ledger.settle(second), Err(Unpaired));
    assert_eq!(ledger.owe(second), Err(Unpaired));
    assert_eq!(ledger.summary(second), None);
    assert_eq!(ledger.settle(first), Ok(acknowledged(2, 1)));
    assert_eq!((ledger.settle(first), ledger.owe(second)), (Err(Unpaired), Err(Unpaired)));
    assert!(ledger.is_clear());
}

#[test]
fn a_later_claim_waits_for_the_earlier_one() {
    let mut ledger = Ledger::default();
    ledger.deliver(Receipt(1));
    let first = ledger.open(1);
    ledger.deliver(Receipt(2));
    let second = ledger.open(2);
    assert_eq!(ledger.settle(second), Ok(nothing(Some(2))), "it is finished, and not acknowledged");
    assert_eq!(ledger.summary(first), Some(&mut 1));
    assert_eq!(ledger.settle(first), Ok(acknowledged(2, 1)));
}

proptest! {
    /// Every delivery is acknowledged exactly once, in order, and never before each batch that answers
    /// for it, and for any delivery before it, is settled. Every summary is due exactly once: with the last debt of
    /// its own claim, whatever the claims before it still owe.
    #[test]
    fn acknowledged_once_and_only_when_settled(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200)) {
        let mut ledger: Ledger<u64> = Ledger::default();
        let mut delivered = 0;
        let mut acknowledged = 0;
        let (mut opened, mut finished) = (0, Vec::new());
        // Per open claim: its last delivery, its debts, and its summary.
        let mut open: Vec<(ClaimId, u64, u64, u64)> = Vec::new();
        let mut settle = |ledger: &mut Ledger<u64>, open: &mut Vec<(ClaimId, u64, u64, u64)>, at: usize| {
            open[at].2 -= 1;
            let (claim, _, debts, summary) = open[at];
            let settled = ledger.settle(claim).unwrap();
            assert_eq!(settled.finished, (debts == 0).then_some(summary));
            assert_eq!(ledger.summary(claim).is_some(), debts > 0);
            finished.extend(settled.finished);
            let done = open.iter().take_while(|claim| claim.2 == 0).count();
            let expected = open[..done].last().map(|claim| claim.1).filter(|last| *last > acknowledged).map(Receipt);
            assert_eq!(settled.receipt, expected);
            if let Some(Receipt(receipt)) = settled.receipt { assert!(receipt > acknowledged); acknowledged = receipt; }
            open.drain(..done);
        };
        // Often of no delivery, as that of a heartbeat.
        let mut cut = |ledger: &mut Ledger<u64>, open: &mut Vec<(ClaimId, u64, u64, u64)>, delivered| {
            opened += 1;
            open.push((ledger.open(opened), delivered, 1, opened));
        };
        for (step, index) in steps {
            match step {
                0 => { delivered += 1; ledger.deliver(Receipt(delivered)); }
                1 => cut(&mut ledger, &mut open, delivered),
                2 => if let Some(claim) = open.iter_mut().filter(|claim| claim.2 > 0).last() { claim.2 += 1; ledger.owe(claim.0).unwrap(); },
                _ => {
                    let owing: Vec<usize> = (0..open.len()).filter(|at| open[*at].2 > 0).collect();
                    if !owing.is_empty() { let at = owing[index.index(owing.len())]; settle(&mut ledger, &mut open, at); }
                }
            }
        }
        cut(&mut ledger, &mut open, delivered);
        while let Some(at) = open.iter().position(|claim| claim.2 > 0) { settle(&mut ledger, &mut open, at); }
        prop_assert!(ledger.is_clear());
        prop_assert_eq!(acknowledged, delivered);
        finished.sort_unstable();
        prop_assert_eq!(finished, (1..=opened).collect::<Vec<u64>>());
    }
}
