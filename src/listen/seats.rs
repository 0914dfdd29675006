//! Who has a seat, and who yields it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use super::connection::Progress;
use super::sampled::Sampled;
use super::{Counts, Limits, report};

/// The seats of one listener.
pub(super) struct Seats {
    served: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    limits: Limits,
    /// In the order in which they came; those that have ended are among them for a while.
    seated: VecDeque<Seated>,
    address: SocketAddr,
    log: Sampled,
}

/// A connection on one of the seats.
struct Seated {
    progress: Arc<Progress>,
    task: AbortHandle,
}

impl Seats {
    pub(super) fn new(limits: Limits, address: SocketAddr) -> Self {
        Self {
            served: Arc::new(Semaphore::new(limits.connections_max)),
            refused: Arc::new(Semaphore::new(limits.refusals_max)),
            limits,
            seated: VecDeque::new(),
            address,
            log: Sampled::default(),
        }
    }

    /// A seat for a newcomer, and whether it is one from which requests are refused.
    pub(super) async fn take(
        &mut self,
        connections: &mut JoinSet<()>,
        counts: &Counts,
    ) -> Option<(OwnedSemaphorePermit, bool)> {
        if let Ok(seat) = Arc::clone(&self.served).try_acquire_owned() {
            return Some((seat, false));
        }
        if self.make_room(counts) {
            // Whoever was told to go does so at its next step, and any other that ends meanwhile is as good.
            while let Some(ended) = connections.join_next().await {
                report(ended);
                if let Ok(seat) = Arc::clone(&self.served).try_acquire_owned() {
                    return Some((seat, false));
                }
            }
        }
        counts.crowded.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&self.refused).try_acquire_owned().ok().map(|seat| (seat, true))
    }

    /// Notes who has taken a seat.
    pub(super) fn enter(&mut self, progress: Arc<Progress>, task: AbortHandle) {
        // As many again may have ended unnoticed: to look after every one of them costs less than each by itself.
        if self.seated.len() >= 2 * self.limits.connections_max {
            self.forget_ended();
        }
        self.seated.push_back(Seated { progress, task });
    }

    fn forget_ended(&mut self) {
        self.seated.retain(|seated| !seated.task.is_finished());
    }

    /// Ends the oldest connection that nobody has vouched for, else the oldest that waits for its next request, which
    /// its peer can send elsewhere. Whether there was one.
    fn make_room(&mut self, counts: &Counts) -> bool {
        self.forget_ended();
        let place = |yields: fn(&Progress) -> bool| self.seated.iter().position(|it| yields(&it.progress));
        let Some(at) = place(Progress::is_stranger).or_else(|| place(Progress::is_idle)) else {
            return false;
        };
        let Some(seated) = self.seated.remove(at) else { return false };
        seated.task.abort();
        counts.displaced.fetch_add(1, Ordering::Relaxed);
        if let Some(hidden) = self.log.pass() {
            let (address, seats) = (self.address, self.limits.connections_max);
            let stranger = seated.progress.is_stranger();
            warn!(%address, seats, stranger, hidden, "no seat is free: a connection was ended to make room for another");
        }
        true
    }
}
