//! The connections of a listener, and which of them make room for others.
//!
//! A peer is a *stranger* until the handler vouches for it as a sender, by its token. There is a limit for vouched
//! connections, and a reserve for strangers beside it. A new connection is a stranger; if the listener is full, the oldest
//! stranger is closed. A connection that is to be vouched for at the limit takes the slot of an idle connection of a sender
//! that has more; else, if its sender is below its share, that of a busy connection of a sender above its share, whose
//! request is refused; else that of an idle one of its own sender. So nobody keeps others out: neither peers without a
//! token, nor one sender that keeps all of its connections busy.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::progress::RequestProgress;
use super::sampled::Sampled;
use super::{ConnectionLimits, Counts};

/// One of several senders, or `None` where they are not told apart.
pub(crate) type Sender = Option<usize>;

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    limits: ConnectionLimits,
    address: SocketAddr,
    counts: Arc<Counts>,
    table: Mutex<Table>,
    log: Sampled,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By number, in the order of arrival.
    connections: BTreeMap<u64, Entry>,
    /// How many of them are vouched for.
    vouched: usize,
}

#[derive(Debug)]
struct Entry {
    progress: Arc<RequestProgress>,
    /// The sender it is vouched for as; `None`: a stranger.
    sender: Option<Sender>,
}

/// The slot of one connection; given back on drop.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    number: u64,
    limit: Arc<ConnectionLimit>,
    pub(crate) progress: Arc<RequestProgress>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.limit.table().remove(self.number);
        self.limit.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionSlot {
    /// Vouches for the peer; `false`: there is no slot for it.
    pub(crate) fn vouch(&self, sender: Sender) -> bool {
        self.limit.take_slot(self.number, sender)
    }
}

impl ConnectionLimit {
    pub(crate) fn new(limits: ConnectionLimits, address: SocketAddr, counts: Arc<Counts>) -> Arc<Self> {
        let (table, log) = (Mutex::default(), Sampled::default());
        Arc::new(Self { limits, address, counts, table, log })
    }

    /// The slots for all connections, vouched for or not.
    fn slots(&self) -> usize {
        self.limits.connections_max + self.limits.strangers_min
    }

    /// A slot for a new stranger, and whether another connection was told to close for it; `None`: none could be.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<(ConnectionSlot, bool)> {
        let mut table = self.table();
        let is_full = table.connections.len() >= self.slots();
        if is_full && !self.end_stranger(&mut table) {
            self.counts.crowded.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        let (number, progress) = (table.next, Arc::new(RequestProgress::default()));
        table.next += 1;
        table.connections.insert(number, Entry { progress: Arc::clone(&progress), sender: None });
        Some((ConnectionSlot { number, limit: Arc::clone(self), progress }, is_full))
    }

    /// Ends the oldest stranger without a request, else the one with the oldest request.
    fn end_stranger(&self, table: &mut Table) -> bool {
        let strangers = || table.connections.iter().filter(|(_, entry)| entry.sender.is_none());
        let idle = strangers().find(|(_, entry)| entry.progress.is_idle());
        let busy = || {
            strangers().filter(|(_, entry)| entry.progress.yields()).min_by_key(|(_, e)| e.progress.since())
        };
        let Some(number) = idle.or_else(busy).map(|(number, _)| *number) else { return false };
        table.end(number);
        self.log_refused("stranger", self.slots());
        true
    }

    /// Vouches for a connection.
    fn take_slot(&self, number: u64, sender: Sender) -> bool {
        let mut table = self.table();
        let Some(entry) = table.connections.get(&number) else { return false };
        if entry.sender == Some(sender) {
            return true;
        }
        if entry.sender.is_none()
            && table.vouched >= self.limits.connections_max
            && !self.make_room(&mut table, sender)
        {
            self.counts.crowded.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        table.vouch(number, sender);
        true
    }

    /// Frees a slot: an idle one of a sender that has more; else, for a sender below its share, that of the oldest request
    /// of a sender above its share; else an idle one of the sender's own.
    fn make_room(&self, table: &mut Table, sender: Sender) -> bool {
        let mut held = BTreeMap::<Sender, usize>::new();
        table.vouched_for().for_each(|(_, _, holder)| *held.entry(holder).or_default() += 1);
        let own = held.get(&sender).copied().unwrap_or(0);
        let share = self.limits.connections_max / (held.len() + usize::from(own == 0));
        let holds = |holder: Sender| held.get(&holder).copied().unwrap_or(0);

        let idle = || table.vouched_for().filter(|(_, progress, _)| progress.is_idle());
        let richer = idle().filter(|(_, _, holder)| holds(*holder) > own);
        if let Some((number, ..)) =
            richer.max_by_key(|(number, _, holder)| (holds(*holder), Reverse(*number)))
        {
            table.end(number);
            self.log_refused("idle", self.limits.connections_max);
            return true;
        }
        let above =
            table.vouched_for().filter(|(_, progress, holder)| progress.yields() && holds(*holder) > share);
        let slowest = above.max_by_key(|(_, progress, holder)| (holds(*holder), Reverse(progress.since())));
        if let Some((number, ..)) = slowest.filter(|_| own < share) {
            table.displace(number);
            self.log_refused("above its token's share", self.limits.connections_max);
            return true;
        }
        let Some((number, ..)) = idle().find(|(_, _, holder)| *holder == sender) else { return false };
        table.end(number);
        self.log_refused("idle", self.limits.connections_max);
        true
    }

    fn log_refused(&self, who: &'static str, slots: usize) {
        self.counts.displaced.fetch_add(1, Ordering::Relaxed);
        if let Some(hidden) = self.log.pass() {
            let address = self.address;
            warn!(%address, slots, who, hidden, "no slot is free: a connection was ended to make room for another");
        }
    }

    /// A panicked holder left the table whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The vouched connections, and their senders.
    fn vouched_for(&self) -> impl Iterator<Item = (u64, &RequestProgress, Sender)> {
        self.connections.iter().filter_map(|(number, entry)| Some((*number, &*entry.progress, entry.sender?)))
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.connections.remove(&number)?;
        self.vouched -= usize::from(entry.sender.is_some());
        Some(entry)
    }

    fn end(&mut self, number: u64) {
        if let Some(entry) = self.remove(number) {
            entry.progress.end();
        }
    }

    /// Makes a stranger of a connection whose request is then refused.
    fn displace(&mut self, number: u64) {
        if let Some(entry) = self.connections.get_mut(&number) {
            self.vouched -= usize::from(entry.sender.take().is_some());
            entry.progress.displace();
        }
    }

    fn vouch(&mut self, number: u64, sender: Sender) {
        if let Some(entry) = self.connections.get_mut(&number) {
            self.vouched += usize::from(entry.sender.replace(sender).is_none());
            entry.progress.regain_slot();
        }
    }
}
