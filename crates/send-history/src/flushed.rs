//! The sends of one flush, object by object. The flush fills it, at the cost of two look-ups and no allocation per series.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::directory::{ObjectKind, SentObject};

/// The most objects of a series: a campaign, a step and its Canvas.
const OBJECTS_MAX: usize = 3;

/// Stands for no object.
const NONE: u32 = u32::MAX;

/// An object in a flush, as bytes of tags.
#[derive(Debug, Clone, Copy)]
pub struct ObjectFields<'f> {
    /// Its kind.
    pub kind: ObjectKind,
    /// The number of its connection.
    pub connection: usize,
    /// Its id; empty where only a name is known.
    pub id: &'f [u8],
    /// Its newest name.
    pub name: &'f [u8],
    /// The id of a step's Canvas.
    pub canvas_id: &'f [u8],
    /// The name of a step's Canvas.
    pub canvas_name: &'f [u8],
    /// Its app group.
    pub app_group_id: &'f [u8],
}

impl ObjectFields<'_> {
    /// An object without id or name, of the first connection.
    pub const fn of(kind: ObjectKind) -> Self {
        Self { kind, connection: 0, id: b"", name: b"", canvas_id: b"", canvas_name: b"", app_group_id: b"" }
    }
}

/// The sends of a series at a point in time; of no object, if it has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentPoint {
    objects: [u32; OBJECTS_MAX],
    /// The time, in Unix seconds.
    pub(crate) time: u32,
    pub(crate) sends: u64,
}

impl SentPoint {
    /// Its objects, by their number in the flush.
    pub(crate) fn objects(&self) -> impl Iterator<Item = usize> {
        self.objects.into_iter().filter(|object| *object != NONE).map(|object| object as usize)
    }
}

/// The sends of objects: those without one are in no history.
pub(crate) fn sends(points: impl Iterator<Item = SentPoint>) -> u64 {
    points.filter(|point| point.objects().next().is_some()).map(|point| point.sends).sum()
}

/// Texts of an object: id, name, Canvas's id and name, app group.
const TEXTS: usize = 5;

/// The ends of an object's fields.
#[derive(Debug, Clone, Copy)]
struct ObjectSpan {
    kind: ObjectKind,
    connection: usize,
    hash: u64,
    start: usize,
    /// The end of its identity.
    identity_end: usize,
    ends: [usize; TEXTS],
    /// The newest send of the series that each text is of, in Unix seconds.
    times: [u32; TEXTS],
}

impl ObjectSpan {
    fn texts(&self) -> [Range<usize>; TEXTS] {
        let mut start = self.start;
        self.ends.map(|end| std::mem::replace(&mut start, end)..end)
    }
}

/// The sends of one flush.
#[derive(Debug)]
pub struct FlushedSends {
    connections: Vec<Box<str>>,
    arena: Vec<u8>,
    objects: Vec<ObjectSpan>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// Where the points of each series begin.
    starts: Vec<usize>,
    points: Vec<SentPoint>,
    /// The numbers that the directory has given the objects, and the directory's generation.
    pub(crate) numbers: OnceLock<(u64, Vec<Option<u32>>)>,
    /// Whether its sends are booked as left out: then their outcomes are not, once more.
    is_left_out: AtomicBool,
}

impl FlushedSends {
    /// An empty flush; `connections` are their names, by number.
    pub fn new(connections: Vec<Box<str>>) -> Self {
        Self {
            connections,
            arena: Vec::new(),
            objects: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            starts: Vec::new(),
            points: Vec::new(),
            numbers: OnceLock::new(),
            is_left_out: AtomicBool::new(false),
        }
    }

    /// Adds the next series: its objects, three at most, and its points: when (Unix seconds) and how many.
    pub fn series<'f>(
        &mut self,
        objects: impl IntoIterator<Item = ObjectFields<'f>>,
        points: impl IntoIterator<Item = (u32, u64)>,
    ) {
        let first = self.points.len();
        self.starts.push(first);
        // Without an object, too: what is left out of a request may be theirs.
        let point = |(time, sends)| SentPoint { objects: [NONE; OBJECTS_MAX], time, sends };
        self.points.extend(points.into_iter().map(point));
        let newest = self.points[first..].iter().map(|point| point.time).max().unwrap_or_default();
        let mut numbers = [NONE; OBJECTS_MAX];
        for (number, fields) in numbers.iter_mut().zip(objects) {
            *number = self.intern(&fields, newest);
        }
        for point in &mut self.points[first..] {
            point.objects = numbers;
        }
    }

    /// The size, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.arena.capacity()
            + self.objects.capacity() * size_of::<ObjectSpan>()
            + self.index.allocation_size()
            + self.starts.capacity() * size_of::<usize>()
            + self.points.capacity() * size_of::<SentPoint>()
            // Their numbers in the directory.
            + self.objects.len() * size_of::<Option<u32>>()
    }

    pub(crate) fn sends(&self) -> u64 {
        sends(self.points.iter().copied())
    }

    pub(crate) fn points(&self) -> &[SentPoint] {
        &self.points
    }

    /// The points of some series.
    pub(crate) fn points_of(&self, series: &[u32]) -> impl Iterator<Item = SentPoint> {
        series.iter().flat_map(|number| self.points[self.span(*number as usize)].iter().copied())
    }

    fn span(&self, series: usize) -> Range<usize> {
        let start = |series: usize| self.starts.get(series).copied().unwrap_or(self.points.len());
        start(series)..start(series + 1)
    }

    /// The objects, for the directory.
    pub(crate) fn objects(&self) -> impl Iterator<Item = SentObject> {
        self.objects.iter().map(|span| {
            let [id, name, canvas_id, canvas_name, app_group_id] =
                span.texts().map(|text| String::from_utf8_lossy(&self.arena[text]).into_owned());
            let connection = self.connections.get(span.connection).map(ToString::to_string);
            SentObject {
                kind: span.kind,
                connection: connection.unwrap_or_default(),
                id,
                name,
                canvas_id,
                canvas_name,
                app_group_id,
                last_send: 0,
            }
        })
    }

    /// The number of an object of a series, whose last send was at the Unix second `newest`. Its id identifies it, or without one its
    /// name, its Canvas and its app group.
    fn intern(&mut self, fields: &ObjectFields<'_>, newest: u32) -> u32 {
        let start = self.arena.len();
        let mut ends = [0; TEXTS];
        let of_canvas = [fields.canvas_id, fields.canvas_name, fields.app_group_id];
        let values = [fields.id, fields.name].into_iter().chain(of_canvas);
        let mut identity_end = start;
        for (number, (end, value)) in ends.iter_mut().zip(values).enumerate() {
            self.arena.extend_from_slice(value);
            *end = self.arena.len();
            if number == 0 || fields.id.is_empty() {
                identity_end = *end;
            }
        }
        let mut span = ObjectSpan {
            kind: fields.kind,
            connection: fields.connection,
            hash: 0,
            start,
            identity_end,
            ends,
            times: [0; TEXTS],
        };
        span.times = span.texts().map(|text| if text.is_empty() { 0 } else { newest });
        span.hash = self.hash(&span);
        let known = self.index.find(span.hash, |number| self.is_same(*number, &span)).copied();
        if let Some(known) = known {
            self.renew(known as usize, &span);
            return known;
        }
        let number = u32::try_from(self.objects.len()).unwrap_or(NONE);
        self.objects.push(span);
        let objects = &self.objects;
        self.index.insert_unique(span.hash, number, |number| objects[*number as usize].hash);
        number
    }

    /// Gives a known object the texts of a newer series of it, which are the last ones in the arena. An empty one says nothing.
    fn renew(&mut self, number: usize, of_series: &ObjectSpan) {
        let known = self.objects[number];
        let (old, new) = (known.texts(), of_series.texts());
        let texts: [Range<usize>; TEXTS] = std::array::from_fn(|at| {
            let is_newer = !new[at].is_empty() && of_series.times[at] >= known.times[at];
            if is_newer { new[at].clone() } else { old[at].clone() }
        });
        let times = std::array::from_fn(|at| known.times[at].max(of_series.times[at]));
        let mut renewed = ObjectSpan { start: self.arena.len(), times, ..known };
        // Nearly always.
        if texts.iter().zip(old).all(|(text, old)| self.arena[text.clone()] == self.arena[old]) {
            self.arena.truncate(of_series.start);
            self.objects[number].times = times;
            return;
        }
        for (end, text) in renewed.ends.iter_mut().zip(texts) {
            self.arena.extend_from_within(text);
            *end = self.arena.len();
        }
        // The texts move to the place of those of the series.
        let gap = renewed.start - of_series.start;
        self.arena.copy_within(renewed.start.., of_series.start);
        self.arena.truncate(self.arena.len() - gap);
        renewed.start -= gap;
        renewed.ends = renewed.ends.map(|end| end - gap);
        renewed.identity_end = renewed.start + (known.identity_end - known.start);
        self.objects[number] = renewed;
    }

    fn hash(&self, span: &ObjectSpan) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(span.kind as u8);
        hasher.write_usize(span.connection);
        hasher.write(&self.arena[span.start..span.identity_end]);
        hasher.finish()
    }

    fn is_same(&self, number: u32, span: &ObjectSpan) -> bool {
        let known = &self.objects[number as usize];
        let lengths = |span: &ObjectSpan| span.ends.map(|end| end.min(span.identity_end) - span.start);
        known.hash == span.hash
            && known.kind == span.kind
            && known.connection == span.connection
            && lengths(known) == lengths(span)
            && self.arena[known.start..known.identity_end] == self.arena[span.start..span.identity_end]
    }

    /// Notes that its sends are left out.
    pub(crate) fn leave_out(&self) {
        self.is_left_out.store(true, Ordering::Relaxed);
    }

    /// Whether they are.
    pub(crate) fn is_left_out(&self) -> bool {
        self.is_left_out.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign<'f>(id: &'f str, name: &'f str, app_group: &'f str) -> ObjectFields<'f> {
        ObjectFields {
            id: id.as_bytes(),
            name: name.as_bytes(),
            app_group_id: app_group.as_bytes(),
            ..ObjectFields::of(ObjectKind::Campaign)
        }
    }

    #[test]
    fn an_object_is_known_by_its_id_and_without_one_by_its_name_and_app_group() {
        let mut flushed = FlushedSends::new(vec!["acme".into(), "beta".into()]);
        let of_beta = ObjectFields { connection: 1, ..campaign("1", "a", "g") };
        let a_canvas = ObjectFields { kind: ObjectKind::Canvas, ..campaign("1", "a", "g") };
        for fields in [
            campaign("1", "a", "g"),
            campaign("1", "another name", "h"),
            campaign("", "a", "g"),
            campaign("", "a", "h"),
            campaign("", "ag", ""),
            of_beta,
            a_canvas,
        ] {
            flushed.series([fields], [(1, 1)]);
        }
        let told: Vec<_> = flushed.objects().map(|o| (o.connection, o.id, o.name, o.app_group_id)).collect();
        let all = [
            ("acme", "1", "another name", "h"),
            ("acme", "", "a", "g"),
            ("acme", "", "a", "h"),
            ("acme", "", "ag", ""),
            ("beta", "1", "a", "g"),
            ("acme", "1", "a", "g"),
        ];
        assert_eq!(told, all.map(|(a, b, c, d)| (a.into(), b.into(), c.into(), d.into())));
    }

    #[test]
    fn a_request_has_the_points_of_its_series() {
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("1", "", "")], [(10, 2), (20, 3)]);
        flushed.series([], [(10, 99)]);
        flushed.series([campaign("2", "", ""), campaign("1", "", "")], [(10, 5)]);
        let of = |series: &[u32]| flushed.points_of(series).map(|point| point.sends).collect::<Vec<_>>();
        assert_eq!((of(&[0]), of(&[1]), of(&[1, 2]), of(&[7])), (vec![2, 3], vec![99], vec![99, 5], vec![]));
        let objects: Vec<usize> =
            flushed.points_of(&[2]).flat_map(|point| point.objects().collect::<Vec<_>>()).collect();
        assert_eq!(objects, [1, 0]);
        assert_eq!(flushed.sends(), 10);
    }

    #[test]
    fn an_object_has_the_name_of_its_newest_series_in_a_flush_and_no_text_that_is_known_is_lost() {
        let step = |name: &'static str, canvas: &'static str| ObjectFields {
            kind: ObjectKind::Step,
            name: name.as_bytes(),
            canvas_name: canvas.as_bytes(),
            ..campaign("s", "", "")
        };
        for (series, name, canvas) in [
            (vec![(step("Old", ""), 10), (step("New", ""), 20)], "New", ""),
            (vec![(step("New", "Onboarding"), 20), (step("Old", "Before"), 10)], "New", "Onboarding"),
            // Of one time the later series has the newer name.
            (vec![(step("Old", ""), 10), (step("New", ""), 10)], "New", ""),
            (vec![(step("", ""), 20), (step("Named", "Onboarding"), 10)], "Named", "Onboarding"),
            (vec![(step("Named", "Onboarding"), 10), (step("", ""), 20)], "Named", "Onboarding"),
            (vec![(step("", ""), 30), (step("New", ""), 20), (step("Old", "Canvas"), 10)], "New", "Canvas"),
        ] {
            let mut flushed = FlushedSends::new(vec!["acme".into()]);
            flushed.series([campaign("s", "a campaign of this id", "")], [(99, 1)]);
            for (fields, time) in series {
                flushed.series([fields], [(5, 1), (time, 1)]);
            }
            flushed.series([campaign("other", "Other", "")], [(1, 1)]);
            let told: Vec<_> = flushed.objects().map(|one| (one.id, one.name, one.canvas_name)).collect();
            assert_eq!(told[1], ("s".into(), name.into(), canvas.into()));
            assert_eq!((told.len(), &*told[0].1, &*told[2].1), (3, "a campaign of this id", "Other"));
        }
    }
}
