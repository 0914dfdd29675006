//! The known objects: their names, and the numbers of their rows.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::clock::day_of;

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectKind {
    /// A campaign.
    Campaign,
    /// A Canvas.
    Canvas,
    /// A step of a Canvas.
    Step,
}

/// A campaign, a Canvas or a Canvas step of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// The connection's name.
    pub connection: String,
    /// Its id; empty where only a name is known.
    pub id: String,
    /// Its newest name.
    pub name: String,
    /// The id of a step's Canvas.
    pub canvas_id: String,
    /// The name of a step's Canvas.
    pub canvas_name: String,
    /// Its app group.
    pub app_group_id: String,
    /// When it was sent last, in Unix seconds.
    pub last_send: u64,
}

impl SentObject {
    /// Takes the texts of another state of the same object.
    fn update(&mut self, newer: Self) {
        let Self { name, canvas_id, canvas_name, app_group_id, .. } = newer;
        for (known, text) in [
            (&mut self.name, name),
            (&mut self.canvas_id, canvas_id),
            (&mut self.canvas_name, canvas_name),
            (&mut self.app_group_id, app_group_id),
        ] {
            if !text.is_empty() {
                *known = text;
            }
        }
    }
}

/// The memory of one object beside its texts.
const OBJECT_BYTES: u64 = 256;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct ObjectDirectory {
    /// Changes each time that the objects are read anew; a number is valid for one generation.
    pub(crate) generation: u64,
    /// No send is later than this Unix second; `None`: the clock says nothing.
    pub(crate) latest: Option<u64>,
    /// The memory of all objects beyond which days leave, or new objects are left out; `None`: there is no bound.
    pub(crate) bytes_max: Option<u64>,
    /// The present day (UTC, since 1970); zero: none is known.
    today: u32,
    /// The memory of those that were new today.
    bytes_new: u64,
    by_identity: HashMap<Vec<u8>, u32, RandomState>,
    all: BTreeMap<u32, SentObject>,
    next: u32,
    /// The memory of all.
    bytes: u64,
    /// The memory of those of them last sent before yesterday.
    bytes_old: u64,
}

impl ObjectDirectory {
    /// Those read from a file, in which no number from `next` on has a row.
    pub(crate) fn read(
        generation: u64,
        next: u32,
        objects: impl IntoIterator<Item = (u32, SentObject)>,
    ) -> Self {
        let mut directory = Self { generation, next, ..Self::default() };
        for (number, object) in objects {
            directory.insert(number, object);
        }
        directory
    }

    /// The number of an object, which is added if it is new and there is room; its names are updated. An empty one says
    /// nothing: an event may come without it.
    pub(crate) fn meet(&mut self, object: SentObject) -> Option<u32> {
        if let Some(number) = self.by_identity.get(&identity(&object)).copied() {
            self.change(number, |known| known.update(object));
            return Some(number);
        }
        let bytes = bytes(&object);
        if !self.has_room(bytes) {
            return None;
        }
        self.bytes_new += bytes;
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.insert(number, object);
        Some(number)
    }

    /// Whether a new object is taken: where all fit, or the oldest days can make room. Yesterday can't, for what is sent daily was
    /// sent then; and the new ones of a day displace no more than half of all.
    fn has_room(&self, bytes: u64) -> bool {
        let Some(bytes_max) = self.bytes_max else { return true };
        let bytes_recent = self.bytes.saturating_sub(self.bytes_old);
        self.bytes + bytes <= bytes_max
            || (bytes_recent + bytes <= bytes_max
                && self.bytes_new + bytes <= bytes_max / 2
                && self.bytes + bytes <= most(bytes_max))
    }

    /// Takes note of the present day.
    pub(crate) fn begin_day(&mut self, today: u32) {
        if self.today != today {
            (self.today, self.bytes_new) = (today, 0);
            self.bytes_old = self.all.values().map(|object| memory(object, today).1).sum();
        }
    }

    /// Notes a send of an object. A last send that can't be is of a clock that was ahead, and gives way.
    pub(crate) fn sent(&mut self, number: u32, time: u32) {
        let latest = self.latest;
        self.change(number, |object| {
            let is_ahead = latest.is_some_and(|latest| object.last_send > latest);
            let known = if is_ahead { 0 } else { object.last_send };
            object.last_send = known.max(u64::from(time));
        });
    }

    /// Changes an object, and what is known of the memory with it.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut SentObject)) {
        if let Some(object) = self.all.get_mut(&number) {
            let (bytes_before, old_before) = memory(object, self.today);
            change(object);
            let (bytes, old) = memory(object, self.today);
            self.bytes = self.bytes.saturating_sub(bytes_before) + bytes;
            self.bytes_old = self.bytes_old.saturating_sub(old_before) + old;
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&SentObject> {
        self.all.get(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &SentObject)> {
        self.all.iter().map(|(number, object)| (*number, object))
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The memory of all objects.
    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether [`first_day_kept`](Self::first_day_kept) takes any object away.
    pub(crate) fn is_overfull(&self) -> bool {
        self.bytes_max.is_some_and(|bytes_max| {
            self.bytes > most(bytes_max) || (self.bytes > bytes_max && self.bytes_old > 0)
        })
    }

    /// The first day (UTC, since 1970) of those that stay: yesterday at the latest, for as long as there is no more than
    /// may be.
    pub(crate) fn first_day_kept(&self) -> u32 {
        let Some(bytes_max) = self.bytes_max else { return 0 };
        let first = self.first_day_within(bytes_max);
        if self.bytes > most(bytes_max) { first } else { first.min(self.today.saturating_sub(1)) }
    }

    /// The first day (UTC, since 1970) for which this holds: the objects last sent on it or later take no more than
    /// `bytes_max`.
    fn first_day_within(&self, bytes_max: u64) -> u32 {
        if self.bytes <= bytes_max {
            return 0;
        }
        let mut by_day: BTreeMap<u32, u64> = BTreeMap::new();
        for object in self.all.values() {
            *by_day.entry(day_of(object.last_send)).or_default() += bytes(object);
        }
        let (mut first, mut left) = (0, self.bytes);
        for (day, bytes) in by_day {
            if left <= bytes_max {
                break;
            }
            left = left.saturating_sub(bytes);
            first = day.saturating_add(1);
        }
        first
    }

    /// The numbers of the objects last sent before a day.
    pub(crate) fn sent_before(&self, day: u32) -> Vec<u32> {
        let is_before = |(_, object): &(u32, &SentObject)| day_of(object.last_send) < day;
        self.iter().filter(is_before).map(|(number, _)| number).collect()
    }

    /// Forgets objects.
    pub(crate) fn forget(&mut self, numbers: &[u32]) {
        for number in numbers {
            if let Some(object) = self.all.remove(number) {
                let (bytes, old) = memory(&object, self.today);
                self.bytes = self.bytes.saturating_sub(bytes);
                self.bytes_old = self.bytes_old.saturating_sub(old);
                self.by_identity.remove(&identity(&object));
            }
        }
    }

    fn insert(&mut self, number: u32, object: SentObject) {
        let (bytes, old) = memory(&object, self.today);
        self.bytes += bytes;
        self.bytes_old += old;
        self.by_identity.insert(identity(&object), number);
        self.all.insert(number, object);
    }
}

/// The memory that may be taken until days have left.
const fn most(bytes_max: u64) -> u64 {
    bytes_max / 2 * 3
}

/// The memory of an object, and how much of that is of one last sent before yesterday: all of it, or nothing. What was met right now
/// has no send yet.
fn memory(object: &SentObject, today: u32) -> (u64, u64) {
    let is_old = object.last_send > 0 && day_of(object.last_send) < today.saturating_sub(1);
    let bytes = bytes(object);
    (bytes, if is_old { bytes } else { 0 })
}

fn texts(object: &SentObject) -> [&str; 6] {
    let SentObject { connection, id, name, canvas_id, canvas_name, app_group_id, .. } = object;
    [connection, id, name, canvas_id, canvas_name, app_group_id]
}

fn bytes(object: &SentObject) -> u64 {
    OBJECT_BYTES + texts(object).iter().map(|text| 2 * text.len() as u64).sum::<u64>()
}

/// The object's identity: see [`FlushedSends`](crate::FlushedSends).
fn identity(object: &SentObject) -> Vec<u8> {
    let texts = texts(object);
    let parts = if object.id.is_empty() { &texts[..] } else { &texts[..2] };
    let mut identity = vec![object.kind as u8];
    for part in parts {
        identity.extend_from_slice(&(part.len() as u64).to_le_bytes());
        identity.extend_from_slice(part.as_bytes());
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(id: &str, name: &str) -> SentObject {
        SentObject {
            kind: ObjectKind::Campaign,
            connection: "acme".into(),
            id: id.into(),
            name: name.into(),
            canvas_id: String::new(),
            canvas_name: String::new(),
            app_group_id: String::new(),
            last_send: 0,
        }
    }

    /// What is written has no names in it. Where this fails, objects need another format, and one that reads those of this one.
    #[test]
    fn objects_are_laid_out_as_those_that_are_in_files_already() {
        let packed = |kind: u8| {
            let written = (kind, "acme", "8a3f", "Weekly", "c", "Welcome", "g", 1_800_000_000_u64);
            redb_file::pack(&[b"key"], &written).unwrap()
        };
        for (number, kind) in (0..).zip([ObjectKind::Campaign, ObjectKind::Canvas, ObjectKind::Step]) {
            let object = SentObject {
                kind,
                canvas_id: "c".into(),
                canvas_name: "Welcome".into(),
                app_group_id: "g".into(),
                last_send: 1_800_000_000,
                ..object("8a3f", "Weekly")
            };
            assert_eq!(redb_file::pack(&[b"key"], &object).unwrap(), packed(number));
        }
    }

    #[test]
    fn an_object_keeps_its_number_and_gets_its_newest_name() {
        let mut directory = ObjectDirectory::default();
        let first = directory.meet(object("1", "Weekly")).unwrap();
        directory.sent(first, 50);
        directory.sent(first, 40);
        assert_ne!(directory.meet(object("2", "Weekly")), Some(first));
        assert_eq!(directory.meet(object("1", "Monthly")), Some(first));
        let known = directory.get(first).unwrap();
        assert_eq!((known.name.as_str(), known.last_send), ("Monthly", 50));
        let again =
            ObjectDirectory::read(1, 2, directory.iter().map(|(number, object)| (number, object.clone())));
        assert_eq!((again.bytes, again.next), (directory.bytes, directory.next));
    }

    #[test]
    fn what_an_event_leaves_out_stays_known() {
        let mut directory = ObjectDirectory::default();
        let whole = SentObject {
            kind: ObjectKind::Step,
            canvas_id: "c".into(),
            canvas_name: "Onboarding".into(),
            app_group_id: "emea".into(),
            ..object("1", "Welcome")
        };
        let bare = SentObject { kind: ObjectKind::Step, ..object("1", "") };
        let number = directory.meet(whole.clone()).unwrap();
        assert_eq!(directory.meet(bare), Some(number));
        assert_eq!(directory.get(number), Some(&whole));
        assert_eq!(directory.bytes, bytes(&whole));
    }

    #[test]
    fn a_last_send_of_a_clock_that_was_ahead_gives_way() {
        let mut directory = ObjectDirectory::default();
        let number = directory.meet(object("1", "Weekly")).unwrap();
        let mut last_send = |time, latest| {
            directory.latest = latest;
            directory.sent(number, time);
            directory.get(number).unwrap().last_send
        };
        assert_eq!((last_send(9000, Some(9600)), last_send(8000, Some(9600))), (9000, 9000));
        assert_eq!(last_send(100, None), 9000);
        assert_eq!((last_send(100, Some(700)), last_send(50, Some(700))), (100, 100));
    }

    #[test]
    fn what_was_sent_longest_ago_makes_room() {
        let mut directory = ObjectDirectory::default();
        for (id, day) in [("1", 10), ("2", 30), ("3", 20)] {
            let number = directory.meet(object(id, "")).unwrap();
            directory.sent(number, day * crate::DAY + 900);
        }
        let bytes_of = |objects| objects * bytes(&object("1", ""));
        for (bytes_max, first) in [(bytes_of(3), 0), (bytes_of(3) - 1, 11), (bytes_of(1), 21), (5, 31)] {
            assert_eq!(directory.first_day_within(bytes_max), first);
        }
        assert_eq!(directory.sent_before(10), Vec::<u32>::new());
        assert_eq!(directory.sent_before(11), [0]);
        assert_eq!(directory.sent_before(30), [0, 2]);
        directory.forget(&[0, 2]);
        assert_eq!((directory.len(), directory.bytes), (1, bytes(&object("2", ""))));
        assert_eq!(directory.meet(object("1", "")), Some(3));
    }

    #[test]
    fn what_is_new_beyond_the_bound_is_not_taken_and_what_is_known_goes_on() {
        let mut directory =
            ObjectDirectory { bytes_max: Some(2 * bytes(&object("1", ""))), ..Default::default() };
        let met = ["1", "2", "3", "1"].map(|id| directory.meet(object(id, "")));
        assert_eq!(met, [Some(0), Some(1), None, Some(0)]);
        directory.forget(&[0]);
        assert_eq!(directory.meet(object("3", "")), Some(2));
    }
}
