//! Descends in a bucket to what is listed: level by level, one request each, past the event types that are not counted.
//!
//! A level that has nothing but hours below it is listed as one. Where other directories lie beside hours, each hour is
//! listed by itself. What was seen to lead neither to hours nor to event types is listed whole until the next sweep, so that
//! the requests of a listing do not grow with its directories, but with a thousandth of its objects.

use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use super::super::bucket::UNREADABLE_KEY;
use super::super::layout::{HourForm, PathHour, PathPart};
use super::{BucketPoller, Trouble};

/// How many levels of a bucket are searched for hours and event types.
const DEPTH_MAX: usize = 8;
/// A level with more directories that tell nothing is not searched: as many names as come with one request.
const WIDTH_MAX: usize = 1000;

/// The levels that are still to be opened, the next one last.
pub(super) struct Descent(Vec<Open>);

struct Open {
    prefix: Path,
    depth: usize,
    /// Whether all below it is of one event type.
    is_typed: bool,
}

/// One level: what lies in it, and what is to be listed below it.
pub(super) struct BucketLevel {
    pub(super) objects: Vec<ObjectMeta>,
    pub(super) listed: Vec<Listed>,
}

/// A prefix to be listed.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) prefix: Path,
    /// The level that names the hours.
    pub(super) level: Path,
    pub(super) hours: Hours,
}

/// What a prefix says of the hours of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hours {
    /// Nothing.
    Untold,
    /// All are of this one.
    Of(PathHour),
    /// The next part of a path names it.
    Named(HourForm),
}

/// What a level was seen to be by the last sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LevelKind {
    /// It has nothing but hours below it.
    Hours(HourForm),
    /// It has, or leads to, hours or event types beside other things; or keys that are passed.
    Mixed,
    /// It leads to neither.
    Plain,
}

/// The directories of a level by what their names mean.
#[derive(Default)]
struct Directories {
    hours: Vec<(Path, PathHour)>,
    periods: Vec<Path>,
    event_types: Vec<Path>,
    has_uncounted: bool,
    others: Vec<Path>,
    /// Keys of the bucket begin with `/`, which the client leaves out of every path: it would ask for others.
    has_nameless: bool,
}

impl Descent {
    pub(super) fn from(prefix: &Path) -> Self {
        Self(vec![Open { prefix: prefix.clone(), depth: 0, is_typed: false }])
    }

    fn open(&mut self, prefixes: Vec<Path>, depth: usize, is_typed: bool) {
        self.0.extend(prefixes.into_iter().rev().map(|prefix| Open { prefix, depth, is_typed }));
    }
}

impl BucketLevel {
    fn whole(level: Path, hours: Hours) -> Self {
        Self { objects: Vec::new(), listed: vec![Listed { prefix: level.clone(), level, hours }] }
    }
}

impl Directories {
    fn kind(&self) -> LevelKind {
        // Listed as one, these keys would be among the others, and nothing tells them apart.
        if self.has_nameless {
            return LevelKind::Mixed;
        }
        let has_types = !self.event_types.is_empty() || self.has_uncounted;
        match (self.hours.is_empty(), self.periods.is_empty()) {
            (true, true) if !has_types => LevelKind::Plain,
            (false, true) if !has_types && self.others.is_empty() => LevelKind::Hours(HourForm::Date),
            (true, false) if !has_types && self.others.is_empty() => LevelKind::Hours(HourForm::Slashes),
            _ => LevelKind::Mixed,
        }
    }
}

impl BucketPoller {
    /// Opens the next level; none after the last one.
    pub(super) async fn descend(
        &mut self,
        source: usize,
        descent: &mut Descent,
        is_sweep: bool,
    ) -> Result<Option<BucketLevel>, Trouble> {
        let Some(Open { prefix, depth, is_typed }) = descent.0.pop() else { return Ok(None) };
        match self.states[source].levels.get(&prefix) {
            Some(LevelKind::Hours(form)) if !is_sweep => {
                return Ok(Some(BucketLevel::whole(prefix, Hours::Named(*form))));
            }
            Some(LevelKind::Plain) if !is_sweep => {
                return Ok(Some(BucketLevel::whole(prefix, Hours::Untold)));
            }
            _ => {}
        }
        let ListResult { objects, common_prefixes, .. } =
            self.buckets[source].store.list_with_delimiter(Some(&prefix)).await?;
        let directories = self.sort(common_prefixes);
        if directories.has_nameless {
            self.log_nameless(source);
        }
        let kind = directories.kind();
        self.note(source, &prefix, &directories, kind);
        let Directories { hours, periods, event_types, others, .. } = directories;
        let is_searched = !is_typed && depth < DEPTH_MAX && others.len() <= WIDTH_MAX;
        let mut level = match kind {
            LevelKind::Hours(form) => BucketLevel::whole(prefix, Hours::Named(form)),
            LevelKind::Plain if !is_searched && !others.is_empty() => {
                return Ok(Some(BucketLevel::whole(prefix, Hours::Untold)));
            }
            LevelKind::Mixed | LevelKind::Plain => {
                let listed = |(below, hours)| Listed { prefix: below, level: prefix.clone(), hours };
                let hours = hours.into_iter().map(|(below, hour)| (below, Hours::Of(hour)));
                let periods = periods.into_iter().map(|below| (below, Hours::Named(HourForm::Slashes)));
                let mut all: Vec<_> = hours.chain(periods).map(listed).collect();
                if is_searched {
                    descent.open(others, depth + 1, false);
                } else {
                    all.extend(others.into_iter().map(|below| (below, Hours::Untold)).map(listed));
                }
                BucketLevel { objects: Vec::new(), listed: all }
            }
        };
        if kind == LevelKind::Mixed {
            descent.open(event_types, depth + 1, true);
        }
        level.objects = objects;
        Ok(Some(level))
    }

    fn sort(&self, directories: Vec<Path>) -> Directories {
        let mut sorted = Directories::default();
        for path in directories {
            let Some(name) = path.filename().map(str::to_owned) else {
                sorted.has_nameless = true;
                continue;
            };
            match PathPart::of(&name) {
                PathPart::EventType(event_type) if self.settings.event_types.contains(event_type) => {
                    sorted.event_types.push(path);
                }
                PathPart::EventType(_) => sorted.has_uncounted = true,
                PathPart::Hour(hour) => sorted.hours.push((path, hour)),
                PathPart::Period => sorted.periods.push(path),
                PathPart::Hidden => {}
                PathPart::Other => sorted.others.push(path),
            }
        }
        sorted
    }

    fn log_nameless(&mut self, source: usize) {
        if !std::mem::replace(&mut self.states[source].is_nameless_told, true) {
            let (url, trouble) = (&*self.buckets[source].url, UNREADABLE_KEY);
            tracing::warn!(url, trouble, "objects of a bucket whose keys begin with a slash are passed");
        }
    }

    /// Remembers what a level is, and what this makes of those above it.
    fn note(&mut self, source: usize, level: &Path, directories: &Directories, kind: LevelKind) {
        for (_, hour) in &directories.hours {
            self.see(source, level, *hour);
        }
        let levels = &mut self.states[source].levels;
        levels.insert(level.clone(), kind);
        if kind == LevelKind::Plain {
            return;
        }
        let parts: Vec<_> = level.parts().collect();
        for end in 0..parts.len() {
            let above: Path = parts[..end].iter().cloned().collect();
            if let Some(above @ LevelKind::Plain) = levels.get_mut(&above) {
                *above = LevelKind::Mixed;
            }
        }
    }
}
