//! The sends of the last hour, minute by minute.

/// Minutes that are remembered.
pub const MINUTES: usize = 60;

/// Sends by minute. A minute holds at most 2^32 - 1 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// By minute since 1970, modulo [`MINUTES`].
    sends: Box<[u32; MINUTES]>,
    /// The newest minute, since 1970.
    newest: u64,
}

impl Trend {
    /// No sends, at the Unix second `now`.
    pub fn new(now: u64) -> Self {
        Self { sends: Box::new([0; MINUTES]), newest: now / 60 }
    }

    /// Adds sends of the Unix second `now`. A clock that steps back adds to the newest minute; one that was ahead by more than
    /// all minutes begins anew.
    pub fn add(&mut self, now: u64, sends: u64) {
        if self.is_ahead_of(now) {
            *self = Self::new(now);
        }
        let minute = (now / 60).max(self.newest);
        // After any length of quiet, every minute is cleared once.
        for passed in (self.newest + 1..=minute).take(MINUTES) {
            self.sends[slot(passed)] = 0;
        }
        if minute - self.newest >= MINUTES as u64 {
            self.sends.fill(0);
        }
        self.newest = minute;
        let count = &mut self.sends[slot(minute)];
        *count = count.saturating_add(u32::try_from(sends).unwrap_or(u32::MAX));
    }

    /// The sends of the last [`MINUTES`] as seen at the Unix second `now`, oldest first.
    pub fn minutes(&self, now: u64) -> [u32; MINUTES] {
        if self.is_ahead_of(now) {
            return [0; MINUTES];
        }
        let minute = (now / 60).max(self.newest);
        let oldest = (minute + 1).saturating_sub(MINUTES as u64);
        std::array::from_fn(|number| {
            let at = oldest + number as u64;
            let is_known = at <= self.newest && at + MINUTES as u64 > self.newest;
            if is_known { self.sends[slot(at)] } else { 0 }
        })
    }

    /// Whether the sends are of a time to come.
    fn is_ahead_of(&self, now: u64) -> bool {
        self.newest > now / 60 + MINUTES as u64
    }

    /// The sum of all minutes.
    pub fn sum(&self, now: u64) -> u64 {
        if self.is_ahead_of(now) {
            return 0;
        }
        if now / 60 <= self.newest {
            // Nothing is older than an hour, so the order does not matter.
            return self.sends.iter().map(|sends| u64::from(*sends)).sum();
        }
        self.minutes(now).iter().map(|sends| u64::from(*sends)).sum()
    }
}

fn slot(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
