//! Turns jobs into changes of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use crate::directory::ObjectDirectory;
use crate::flushed::{FlushedSends, SentPoint, sends};
use crate::row::{FateCounts, PRINTED, Row, RowKey};
use crate::{DAY, QUARTER};

/// The reason for sends that are older, or further ahead, than the far end takes.
const LATE: &str = "late";
const EARLY: &str = "early";

/// Work for the thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// A flush.
    Counted(Arc<FlushedSends>),
    /// The outcome of some of its series.
    Landed { flushed: Arc<FlushedSends>, series: Vec<u32>, landing: Landing },
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landing {
    /// Why its sends were dropped, or [`PRINTED`]; `None`: they were accepted.
    pub(crate) dropped: Option<&'static str>,
    /// The oldest sends, which had been left out of it.
    pub(crate) late: u64,
    /// The newest sends, which had been left out of it.
    pub(crate) early: u64,
}

impl Job {
    /// The size of the job, in bytes. Who notes the outcome of a flush holds the flush, too, wherever it waits.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Job::Counted(flushed) => flushed.size(),
                Job::Landed { series, .. } => series.capacity() * size_of::<u32>(),
            }
    }

    /// The sends that it covers.
    fn sends(&self) -> u64 {
        match self {
            Job::Counted(flushed) => flushed.sends(),
            Job::Landed { flushed, series, .. } => sends(flushed.points_of(series)),
        }
    }

    /// Leaves it out. Returns how many sends that concerns which were not left out before.
    pub(crate) fn leave_out(&self) -> u64 {
        match self {
            Job::Counted(flushed) => flushed.leave_out(),
            Job::Landed { flushed, .. } if flushed.is_left_out() => return 0,
            Job::Landed { .. } => {}
        }
        self.sends()
    }
}

/// Rows to add to the stored ones, and objects that are new or were sent.
#[derive(Debug, Default)]
pub(crate) struct RowChanges {
    pub(crate) rows: BTreeMap<RowKey, Row>,
    pub(crate) objects: BTreeSet<u32>,
    /// What of it comes from flushes that may have outcomes still, or were counted before.
    flushes: Vec<FlushSums>,
    /// The sends of those that have none to come, so that an outage of any length takes no more memory.
    sends: u64,
}

/// The sends of a flush that are in some changes.
#[derive(Debug)]
struct FlushSums {
    flush: Weak<FlushedSends>,
    counted: u64,
    /// Those that have an outcome.
    landed: u64,
}

impl FlushSums {
    /// Each once.
    fn sends(&self) -> u64 {
        self.counted.max(self.landed)
    }
}

/// Sends of a job that are left out.
#[derive(Debug, Clone, Copy, Default)]
struct LeftOut {
    now: u64,
    /// When they were counted: there was no room for their objects, or the flush was left out.
    before: u64,
}

impl RowChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.objects.is_empty()
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: Self) {
        for (key, row) in other.rows {
            self.rows.entry(key).or_default().add(&row);
        }
        self.objects.extend(other.objects);
        self.sends += other.sends;
        for sums in other.flushes {
            self.sum(sums);
        }
    }

    /// Adds to what is known of a flush.
    fn sum(&mut self, sums: FlushSums) {
        if let Some(known) = self.flushes.iter_mut().find(|known| known.flush.ptr_eq(&sums.flush)) {
            known.counted += sums.counted;
            known.landed += sums.landed;
            return;
        }
        self.flushes.push(sums);
        let has_ended = |sums: &mut FlushSums| sums.counted > 0 && sums.flush.strong_count() == 0;
        self.sends += self.flushes.extract_if(.., has_ended).map(|sums| sums.sends()).sum::<u64>();
    }

    /// The sends whose count or outcome they are, each once.
    pub(crate) fn sends(&self) -> u64 {
        self.sends + self.flushes.iter().map(FlushSums::sends).sum::<u64>()
    }

    /// Leaves them out. Returns how many sends that concerns.
    pub(crate) fn leave_out(self) -> u64 {
        let counted = self.flushes.iter().filter(|sums| sums.counted > 0);
        counted.filter_map(|sums| sums.flush.upgrade()).for_each(|flush| flush.leave_out());
        self.sends()
    }

    /// Applies a job. Returns how many sends are left out, for there is no room for their objects, or they are not known any more.
    pub(crate) fn take(&mut self, directory: &mut ObjectDirectory, job: &Job) -> u64 {
        let left_out = match job {
            Job::Counted(flushed) => self.count(directory, flushed),
            Job::Landed { flushed, series, landing } => self.land(directory, flushed, series, *landing),
        };
        let taken = job.sends().saturating_sub(left_out.before + left_out.now);
        if taken > 0 {
            let (flush, counted, landed) = match job {
                Job::Counted(flush) => (flush, taken, 0),
                Job::Landed { flushed, .. } => (flushed, 0, taken),
            };
            self.sum(FlushSums { flush: Arc::downgrade(flush), counted, landed });
        }
        left_out.now
    }

    fn count(&mut self, directory: &mut ObjectDirectory, flushed: &FlushedSends) -> LeftOut {
        let met: Vec<Option<u32>> = flushed.objects().map(|object| directory.meet(object)).collect();
        let (_, numbers) = flushed.numbers.get_or_init(|| (directory.generation, met));
        let mut left_out = LeftOut::default();
        for point in flushed.points() {
            let mut is_whole = true;
            for object in point.objects() {
                let Some(number) = numbers.get(object).copied().flatten() else {
                    is_whole = false;
                    continue;
                };
                directory.sent(number, point.time);
                self.objects.insert(number);
                self.counts(number, point.time).counted += point.sends;
            }
            left_out.now += if is_whole { 0 } else { point.sends };
        }
        left_out
    }

    fn land(
        &mut self,
        directory: &ObjectDirectory,
        flushed: &FlushedSends,
        series: &[u32],
        landing: Landing,
    ) -> LeftOut {
        let known = flushed.numbers.get().filter(|(generation, _)| *generation == directory.generation);
        let Some((_, numbers)) = known else {
            let sends = sends(flushed.points_of(series));
            return if flushed.is_left_out() {
                LeftOut { now: 0, before: sends }
            } else {
                LeftOut { now: sends, before: 0 }
            };
        };
        let mut left_out = LeftOut::default();
        let mut points: Vec<SentPoint> = flushed.points_of(series).collect();
        if landing.late > 0 || landing.early > 0 {
            points.sort_unstable_by_key(|point| point.time);
        }
        let mut add = |point: &SentPoint, sends: u64, dropped: Option<&str>| {
            if sends == 0 {
                return;
            }
            let (mut is_known, mut was_known) = (true, true);
            for object in point.objects() {
                let Some(number) = numbers.get(object).copied().flatten() else {
                    was_known = false;
                    continue;
                };
                if directory.get(number).is_none() {
                    is_known = false;
                    continue;
                }
                let counts = self.counts(number, point.time);
                match dropped {
                    None => counts.accepted += sends,
                    Some(PRINTED) => counts.printed += sends,
                    Some(reason) => counts.drop_for(reason, sends),
                }
            }
            match (was_known, is_known) {
                (false, _) => left_out.before += sends,
                (true, false) => left_out.now += sends,
                (true, true) => {}
            }
        };
        let mut early_left = landing.early;
        for point in points.iter_mut().rev() {
            let early = early_left.min(point.sends);
            early_left -= early;
            point.sends -= early;
            add(point, early, Some(EARLY));
        }
        let mut late_left = landing.late;
        for point in &points {
            let late = late_left.min(point.sends);
            late_left -= late;
            add(point, late, Some(LATE));
            add(point, point.sends - late, landing.dropped);
        }
        left_out
    }

    fn counts(&mut self, number: u32, time: u32) -> &mut FateCounts {
        let quarter = u8::try_from(time % DAY / QUARTER).unwrap_or_default();
        self.rows.entry((time / DAY, number)).or_default().0.entry(quarter).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ObjectFields, ObjectKind};

    fn campaign(id: &'static str) -> ObjectFields<'static> {
        ObjectFields { id: id.as_bytes(), ..ObjectFields::of(ObjectKind::Campaign) }
    }

    fn step() -> [ObjectFields<'static>; 2] {
        let canvas = ObjectFields { id: b"c", ..ObjectFields::of(ObjectKind::Canvas) };
        [ObjectFields { id: b"s", canvas_id: b"c", ..ObjectFields::of(ObjectKind::Step) }, canvas]
    }

    fn landed(
        flushed: &Arc<FlushedSends>,
        series: &[u32],
        dropped: Option<&'static str>,
        late: u64,
        early: u64,
    ) -> Job {
        let landing = Landing { dropped, late, early };
        Job::Landed { flushed: Arc::clone(flushed), series: series.to_vec(), landing }
    }

    #[test]
    fn a_step_counts_for_its_canvas_too_and_each_quarter_of_an_hour_for_itself() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series(step(), [(DAY + 899, 2), (DAY + 900, 3)]);
        flushed.series([campaign("1")], [(DAY - 1, 4)]);
        let flushed = Arc::new(flushed);
        assert_eq!(changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed))), 0);
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[0], None, 0, 0)), 0);
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[1], Some("http_403"), 0, 0)), 0);
        let counts = |key, quarter| changes.rows[&key].0[&quarter].clone();
        for object in [0, 1] {
            assert_eq!((counts((1, object), 0).counted, counts((1, object), 0).accepted), (2, 2));
            assert_eq!((counts((1, object), 1).counted, counts((1, object), 1).accepted), (3, 3));
        }
        let dropped =
            FateCounts { counted: 4, dropped: [("http_403".into(), 4)].into(), ..FateCounts::default() };
        assert_eq!(counts((0, 2), 95), dropped);
        assert_eq!(directory.get(1).unwrap().last_send, u64::from(DAY) + 900);
        assert_eq!(changes.objects, [0, 1, 2].into());
        assert_eq!(
            changes.sends(),
            9,
            "a step's sends are no others than its Canvas's, nor those with an outcome"
        );
    }

    #[test]
    fn what_was_left_out_of_a_request_was_its_oldest_and_its_newest() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("new")], [(3_000, 5)]);
        flushed.series([campaign("old")], [(0, 2), (1_000, 1)]);
        let flushed = Arc::new(flushed);
        changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed)));
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[0, 1], None, 2, 4)), 0);
        let counts = |object, quarter| changes.rows[&(0, object)].0[&quarter].clone();
        let fate = |counted, accepted, dropped: &[(&str, u64)]| FateCounts {
            counted,
            accepted,
            printed: 0,
            dropped: dropped.iter().map(|(reason, sends)| ((*reason).to_owned(), *sends)).collect(),
        };
        assert_eq!(counts(0, 3), fate(5, 1, &[("early", 4)]));
        assert_eq!((counts(1, 0), counts(1, 1)), (fate(2, 0, &[("late", 2)]), fate(1, 1, &[])));
    }

    /// A recheck leaves out the oldest of a request, whether or not they are a campaign's or a Canvas's.
    #[test]
    fn sends_without_an_object_take_their_share_of_what_was_left_out() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([], [(0, 100), (5_000, 7)]);
        flushed.series([campaign("fresh")], [(3_000, 50)]);
        let flushed = Arc::new(flushed);
        changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed)));
        let landed = landed(&flushed, &[0, 1], None, 101, 8);
        assert_eq!((landed.sends(), Job::Counted(Arc::clone(&flushed)).sends()), (50, 50));
        assert_eq!(changes.take(&mut directory, &landed), 0);
        let dropped = [("early".to_owned(), 1), ("late".to_owned(), 1)].into();
        let expected = FateCounts { counted: 50, accepted: 48, printed: 0, dropped };
        assert_eq!(changes.rows[&(0, 0)].0[&3], expected);
        assert_eq!(changes.rows.len(), 1);
    }

    #[test]
    fn what_was_printed_is_neither_accepted_nor_dropped() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("1")], [(0, 3)]);
        let flushed = Arc::new(flushed);
        changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed)));
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[0], Some(PRINTED), 0, 0)), 0);
        let printed = FateCounts { counted: 3, printed: 3, ..FateCounts::default() };
        assert_eq!(changes.rows[&(0, 0)].0[&0], printed);
    }

    /// A disk may be full for days.
    #[test]
    fn flushes_that_have_all_their_outcomes_take_no_memory() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut earlier = RowChanges::default();
        for number in 0..100 {
            let mut flushed = FlushedSends::new(vec!["acme".into()]);
            flushed.series([campaign("1")], [(0, 3)]);
            let flushed = Arc::new(flushed);
            // Of the first the outcome alone is here.
            let counted = if number == 0 { &mut earlier } else { &mut changes };
            counted.take(&mut directory, &Job::Counted(Arc::clone(&flushed)));
            changes.take(&mut directory, &landed(&flushed, &[0], None, 0, 0));
        }
        assert!(changes.flushes.len() <= 3, "{}", changes.flushes.len());
        assert_eq!(changes.sends(), 300);
        earlier.add(changes);
        assert_eq!(earlier.sends(), 300, "the count and the outcome of the first are of the same sends");
    }

    #[test]
    fn what_landed_after_the_objects_were_read_anew_is_of_nobody() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("1")], [(0, 1)]);
        let flushed = Arc::new(flushed);
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[0], None, 0, 0)), 1);
        changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed)));
        let mut other = ObjectDirectory::read(7, 0, []);
        assert_eq!(changes.take(&mut other, &landed(&flushed, &[0], None, 0, 0)), 1);
    }

    #[test]
    fn the_outcome_of_sends_that_were_left_out_when_they_were_counted_is_not_counted_again() {
        let (mut changes, mut directory) = (RowChanges::default(), ObjectDirectory::default());
        directory.bytes_max = Some(0);
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        flushed.series([campaign("1")], [(0, 3)]);
        flushed.series([], [(0, 9)]);
        let flushed = Arc::new(flushed);
        assert_eq!(changes.take(&mut directory, &Job::Counted(Arc::clone(&flushed))), 3);
        assert_eq!(changes.take(&mut directory, &landed(&flushed, &[0, 1], None, 0, 0)), 0);
        assert_eq!((changes.rows.len(), changes.sends()), (0, 0));
    }
}
