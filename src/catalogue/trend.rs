//! The sends of the last hour, minute by minute.

/// Minutes that are remembered.
pub const MINUTES: usize = 60;

/// Sends by minute. A minute holds at most 2^32 - 1 of them. What has sent in one minute only takes no more than its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// The newest minute, since 1970.
    newest: u64,
    /// The sends in it.
    latest: u32,
    /// The sends before it, if there are any.
    earlier: Option<Box<Earlier>>,
}

/// The sends of the minutes before the newest one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Earlier {
    /// By minute since 1970, modulo [`MINUTES`]; none in the place of the newest one.
    sends: [u32; MINUTES],
    /// Of all these minutes.
    sum: u64,
}

impl Trend {
    /// No sends, at the Unix second `now`.
    pub fn new(now: u64) -> Self {
        Self { newest: now / 60, latest: 0, earlier: None }
    }

    /// Adds sends of the Unix second `now`. A clock that steps back adds to the newest minute; one that was ahead by more than
    /// all minutes begins anew.
    pub fn add(&mut self, now: u64, sends: u64) {
        if self.is_ahead_of(now) {
            *self = Self::new(now);
        }
        self.advance(now / 60);
        self.latest = self.latest.saturating_add(u32::try_from(sends).unwrap_or(u32::MAX));
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
            match &self.earlier {
                _ if at == self.newest => self.latest,
                Some(earlier) if at < self.newest && at + MINUTES as u64 > self.newest => {
                    earlier.sends[slot(at)]
                }
                _ => 0,
            }
        })
    }

    /// The sum of all minutes.
    pub fn sum(&self, now: u64) -> u64 {
        let minute = now / 60;
        if self.is_ahead_of(now) || minute.saturating_sub(self.newest) >= MINUTES as u64 {
            return 0;
        }
        let earlier = self.earlier.as_ref().map_or(0, |earlier| {
            let sends = |minute| u64::from(earlier.sends[slot(minute)]);
            // Whichever are fewer: the minutes that have passed, or those that are left.
            if minute.saturating_sub(self.newest) < MINUTES as u64 / 2 {
                earlier.sum - (self.newest + 1..=minute).map(sends).sum::<u64>()
            } else {
                ((minute + 1).saturating_sub(MINUTES as u64)..self.newest).map(sends).sum()
            }
        });
        u64::from(self.latest) + earlier
    }

    /// Makes `minute` the newest one, if it is newer.
    fn advance(&mut self, minute: u64) {
        if minute <= self.newest {
            return;
        }
        if minute - self.newest >= MINUTES as u64 {
            *self = Self { newest: minute, latest: 0, earlier: None };
            return;
        }
        if self.latest > 0 {
            let earlier =
                self.earlier.get_or_insert_with(|| Box::new(Earlier { sends: [0; MINUTES], sum: 0 }));
            earlier.sends[slot(self.newest)] = std::mem::take(&mut self.latest);
            earlier.sum += u64::from(earlier.sends[slot(self.newest)]);
        }
        if let Some(earlier) = &mut self.earlier {
            // The places of these minutes are those of an hour before.
            for passed in self.newest + 1..=minute {
                earlier.sum -= u64::from(std::mem::take(&mut earlier.sends[slot(passed)]));
            }
            if earlier.sum == 0 {
                self.earlier = None;
            }
        }
        self.newest = minute;
    }

    /// Whether the sends are of a time to come.
    fn is_ahead_of(&self, now: u64) -> bool {
        self.newest > now / 60 + MINUTES as u64
    }
}

fn slot(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
