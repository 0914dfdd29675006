//! What was pushed: every batch, what is in it, and in which lives of the process it was answered.
//!
//! A batch can be told apart at the intake, for its number is the Canvas step of all its sends. So each send is
//! followed as far as its batch, app group and campaign, which is one or two sends in most cases.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::random::Random;
use super::support;

/// Sends of a batch. Beside them are events that are not sends.
pub(crate) const BATCH: u64 = 16;

/// Campaigns are numbered below 2 to this power.
const CAMPAIGN_BITS: u64 = 8;

/// Which connection a send is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Group {
    /// Its intake always does as it should: what happens to the other must not touch it.
    Calm,
    /// Everything happens to it. There are several, so that the faults of one meet those of another.
    Storm(u8),
}

/// How many connections everything happens to.
pub(crate) const STORMS: u8 = 4;

impl Group {
    pub(crate) const ALL: [Group; 1 + STORMS as usize] =
        [Group::Calm, Group::Storm(0), Group::Storm(1), Group::Storm(2), Group::Storm(3)];

    /// The connection's name, and the beginning of its keys.
    pub(crate) fn name(self) -> &'static str {
        const NAMES: [&str; STORMS as usize] = ["storm_0", "storm_1", "storm_2", "storm_3"];
        match self {
            Group::Calm => "calm",
            Group::Storm(number) => NAMES[usize::from(number)],
        }
    }

    /// Its app group.
    pub(crate) fn app_group(self) -> String {
        format!("group-{}", self.name())
    }
}

/// Sends that have the same tags: batch, connection and campaign.
pub(crate) type Cell = (u64, Group, u64);

/// One batch.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pushed {
    /// Sends by connection and campaign.
    pub(crate) sends: BTreeMap<(Group, u64), u64>,
    /// Which of them is one that is in it twice, and need not be read in one life.
    pub(crate) twice: Option<(Group, u64)>,
    /// Everything in it, whatever it is.
    pub(crate) events: u64,
    /// The life of the process in which it was answered with 200.
    pub(crate) acknowledged: Option<u32>,
    /// The lives in which nobody knows whether it was taken; once for each time.
    pub(crate) unanswered: Vec<u32>,
}

/// All batches by number.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) batches: Vec<Pushed>,
    /// Answers of 503.
    pub(crate) refusals: u64,
}

impl Truth {
    /// Makes the next batch; its number and its events.
    pub(crate) fn next(&mut self, random: &mut Random) -> (u64, Vec<Value>) {
        let number = self.batches.len() as u64;
        let mut pushed = Pushed::default();
        let mut first = None;
        let mut events: Vec<Value> = (0..BATCH)
            .map(|position| {
                let group = Group::ALL[usize::try_from(random.below(Group::ALL.len() as u64)).unwrap()];
                let campaign = random.zipf(CAMPAIGN_BITS);
                *pushed.sends.entry((group, campaign)).or_default() += 1;
                first.get_or_insert((group, campaign));
                send(number, position, group, campaign)
            })
            .collect();
        match random.below(4) {
            // The same one again.
            0 => {
                events.push(events[0].clone());
                pushed.twice = first;
            }
            1 => events
                .push(json!({ "event_type": "users.messages.email.Open", "id": format!("open-{number}") })),
            2 => events.push(json!({ "event_type": "users.messages.email.Send" })),
            _ => {}
        }
        pushed.events = events.len() as u64;
        self.batches.push(pushed);
        (number, events)
    }

    /// Sends that were acknowledged.
    pub(crate) fn acknowledged(&self, of: Group) -> u64 {
        let batches = self.batches.iter().filter(|batch| batch.acknowledged.is_some());
        let sends = batches.flat_map(|batch| &batch.sends);
        sends.filter(|((group, _), _)| *group == of).map(|(_, sends)| sends).sum()
    }

    /// Events of batches that were answered with 200 in this life, and of those that may have been taken.
    pub(crate) fn taken_in(&self, life: u32) -> (u64, u64) {
        let (mut certainly, mut perhaps) = (0, 0);
        for batch in &self.batches {
            if batch.acknowledged == Some(life) {
                certainly += batch.events;
            }
            perhaps += batch.unanswered.iter().filter(|of| **of == life).count() as u64 * batch.events;
        }
        (certainly, perhaps)
    }
}

fn send(batch: u64, position: u64, group: Group, campaign: u64) -> Value {
    json!({
        "event_type": "users.messages.email.Send",
        "id": format!("{batch}-{position}"),
        "time": support::unix_now(),
        "user": { "user_id": "someone" },
        "properties": {
            "app_group_id": group.app_group(),
            "campaign_id": campaign.to_string(),
            "canvas_step_id": batch.to_string(),
        },
    })
}
