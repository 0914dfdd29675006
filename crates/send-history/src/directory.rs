//! The known objects: their names, and the numbers of their rows.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

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

/// The memory of one object beside its texts.
const OBJECT_BYTES: u64 = 256;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct ObjectDirectory {
    /// Changes each time that the objects are read anew; a number is valid for one generation.
    pub(crate) generation: u64,
    by_identity: HashMap<Vec<u8>, u32, RandomState>,
    all: BTreeMap<u32, SentObject>,
    next: u32,
    bytes: u64,
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

    /// The number of an object, which is added if it is new; its names are updated.
    pub(crate) fn meet(&mut self, object: SentObject) -> u32 {
        if let Some(number) = self.by_identity.get(&identity(&object)).copied() {
            if let Some(known) = self.all.get_mut(&number) {
                let last_send = known.last_send;
                self.bytes = self.bytes.saturating_sub(bytes(known)) + bytes(&object);
                *known = SentObject { last_send, ..object };
            }
            return number;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.insert(number, object);
        number
    }

    /// Notes a send of an object.
    pub(crate) fn sent(&mut self, number: u32, time: u32) {
        if let Some(object) = self.all.get_mut(&number) {
            object.last_send = object.last_send.max(u64::from(time));
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

    /// The numbers of the objects last sent before a Unix second, and then, while the others take more than `bytes_max`, of
    /// the least recently sent.
    pub(crate) fn oldest(&self, before: u64, bytes_max: u64) -> Vec<u32> {
        let mut by_age: Vec<(u64, u32)> =
            self.iter().map(|(number, object)| (object.last_send, number)).collect();
        by_age.sort_unstable();
        let mut left = self.bytes;
        let is_leaving = |(last_send, number): &(u64, u32)| {
            let is_leaving = *last_send < before || left > bytes_max;
            left = left.saturating_sub(self.get(*number).map_or(0, bytes));
            is_leaving
        };
        by_age.into_iter().take_while(is_leaving).map(|(_, number)| number).collect()
    }

    /// Forgets objects.
    pub(crate) fn forget(&mut self, numbers: &[u32]) {
        for number in numbers {
            if let Some(object) = self.all.remove(number) {
                self.bytes = self.bytes.saturating_sub(bytes(&object));
                self.by_identity.remove(&identity(&object));
            }
        }
    }

    fn insert(&mut self, number: u32, object: SentObject) {
        self.bytes += bytes(&object);
        self.by_identity.insert(identity(&object), number);
        self.all.insert(number, object);
    }
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

    #[test]
    fn an_object_keeps_its_number_and_gets_its_newest_name() {
        let mut directory = ObjectDirectory::default();
        let first = directory.meet(object("1", "Weekly"));
        directory.sent(first, 50);
        directory.sent(first, 40);
        assert_ne!(directory.meet(object("2", "Weekly")), first);
        assert_eq!(directory.meet(object("1", "Monthly")), first);
        let known = directory.get(first).unwrap();
        assert_eq!((known.name.as_str(), known.last_send), ("Monthly", 50));
        let again =
            ObjectDirectory::read(1, 2, directory.iter().map(|(number, object)| (number, object.clone())));
        assert_eq!((again.bytes, again.next), (directory.bytes, directory.next));
    }

    #[test]
    fn what_was_sent_longest_ago_makes_room() {
        let mut directory = ObjectDirectory::default();
        for (id, time) in [("1", 10), ("2", 30), ("3", 20)] {
            let number = directory.meet(object(id, ""));
            directory.sent(number, time);
        }
        assert_eq!(directory.oldest(0, u64::MAX), Vec::<u32>::new());
        assert_eq!(directory.oldest(15, u64::MAX), [0]);
        assert_eq!(directory.oldest(15, directory.bytes / 2), [0, 2]);
        directory.forget(&[0, 2]);
        assert_eq!((directory.len(), directory.bytes), (1, bytes(&object("2", ""))));
        assert_eq!(directory.meet(object("1", "")), 3);
    }
}
