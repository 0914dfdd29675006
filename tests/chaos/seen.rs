//! What came to the intakes, folded as it comes, so that hours of it stay small.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::support::intake::Request;
use super::support::intake::judge::Point;
use super::truth::{Cell, Group};

/// Sends of one cell in one request that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) life: u32,
    /// Its number among the requests of the same life and connection.
    pub(crate) request: usize,
    pub(crate) sends: u64,
}

/// What came of one connection in one life.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// When each request came, in their order, and its sends, if it was answered with 202.
    pub(crate) accepted: Vec<(Instant, u64)>,
}

impl Came {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.accepted.iter().map(|(_, sends)| sends).sum()
    }
}

/// What came in all.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) counted: HashMap<Cell, Vec<Counted>>,
    /// Sends in requests that were not answered with 202.
    pub(crate) refused: HashMap<Cell, u64>,
    pub(crate) came: BTreeMap<(u32, Group), Came>,
}

impl Seen {
    /// Takes a request of a connection whose fate is certain.
    pub(crate) fn take(&mut self, group: Group, request: &Request) {
        assert!(request.key().starts_with(group.name()), "{:?} came to {group:?}", request.key());
        let Some(first) = request.points.first() else { return };
        let life: u32 = tag(first, "life:").parse().unwrap();
        let is_accepted = request.answered == Some(202);
        let came = self.came.entry((life, group)).or_default();
        let number = came.accepted.len();
        came.accepted.push((request.at, if is_accepted { request.sends() } else { 0 }));
        for point in &request.points {
            let number_of = |key| tag(point, key).parse::<u64>().unwrap();
            let cell = (number_of("canvas_step_id:"), group, number_of("campaign_id:"));
            if is_accepted {
                let counted = Counted { life, request: number, sends: point.value };
                self.counted.entry(cell).or_default().push(counted);
            } else {
                *self.refused.entry(cell).or_default() += point.value;
            }
        }
    }

    pub(crate) fn came(&self, life: u32, group: Group) -> &Came {
        static NONE: Came = Came { accepted: Vec::new() };
        self.came.get(&(life, group)).unwrap_or(&NONE)
    }
}

fn tag<'p>(point: &'p Point, key: &str) -> &'p str {
    let value = point.tags.iter().find_map(|tag| tag.strip_prefix(key));
    value.unwrap_or_else(|| panic!("no {key} in {point:?}"))
}
