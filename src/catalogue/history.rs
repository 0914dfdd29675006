//! Sends of a cut for the history, by the campaign, the Canvas and the step of each series.

use send_counts::aggregate::tags::{self, Dimension};
use send_counts::aggregate::{Aggregator, Point, Series};
use send_history::{FlushedSends, ObjectFields, ObjectKind};

use super::campaigns::name_of;

/// The sends of a merged cut, series by series, by their number. Series without a campaign or Canvas tag have no object; nor
/// have overflow series. `connections` are their names, by number.
pub(super) fn flushed(cut: &Aggregator, connections: Vec<Box<str>>) -> FlushedSends {
    let mut flushed = FlushedSends::new(connections);
    let mut points: Vec<Point> = Vec::new();
    for series in (0..cut.len()).map(|number| cut.series(number)) {
        series.points(&mut points);
        let kinds = [
            (ObjectKind::Campaign, Dimension::Campaign),
            (ObjectKind::Step, Dimension::CanvasStep),
            (ObjectKind::Canvas, Dimension::Canvas),
        ];
        let objects = kinds.into_iter().filter_map(|(kind, dimension)| fields(&series, kind, dimension));
        flushed.series(objects, points.iter().map(|point| (point.bucket, point.sends)));
    }
    flushed
}

fn fields<'s>(series: &Series<'s>, kind: ObjectKind, dimension: Dimension) -> Option<ObjectFields<'s>> {
    let (id, name) = (tags::id_of(series.key, dimension), name_of(series, dimension));
    if id.is_empty() && name.is_empty() {
        return None;
    }
    let (canvas_id, canvas_name) = match kind {
        ObjectKind::Step => (tags::id_of(series.key, Dimension::Canvas), name_of(series, Dimension::Canvas)),
        ObjectKind::Campaign | ObjectKind::Canvas => (&b""[..], &b""[..]),
    };
    let connection = tags::connection_of(series.key).index();
    let app_group_id = tags::id_of(series.key, Dimension::AppGroup);
    Some(ObjectFields { kind, connection, id, name, canvas_id, canvas_name, app_group_id })
}
