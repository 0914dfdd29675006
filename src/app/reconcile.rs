//! Both sides of a comparison with Braze's dashboard, asked: Braze's numbers, and the history. `reconcile` asks once, the
//! running forwarder each day.

pub(crate) mod ask;
mod daily;
pub(crate) mod history;

use std::collections::BTreeMap;
use std::time::Duration;

use admin_api::{HistoryKind, HistoryObject};

use self::ask::AskedObject;
pub(super) use self::daily::DailyReconcile;

/// The limit for one answer of Braze, connecting included.
pub(crate) const BRAZE_TIMEOUT: Duration = Duration::from_secs(30);

/// Campaigns and Canvases that Braze is asked about.
pub(crate) const OBJECTS_MAX: usize = 10_000;

/// The named campaigns and Canvases, or else those that the forwarder has sends of; each once.
pub(crate) fn named(
    campaigns: &[String],
    canvases: &[String],
    history: &[HistoryObject],
) -> Vec<AskedObject> {
    let mut all: BTreeMap<(HistoryKind, String), AskedObject> = BTreeMap::new();
    let mut add = |kind: HistoryKind, id: &str| {
        let asked = AskedObject { kind, id: id.to_owned(), name: String::new() };
        all.entry((kind, id.to_ascii_lowercase())).or_insert(asked);
    };
    if campaigns.is_empty() && canvases.is_empty() {
        for object in history {
            match object.kind {
                HistoryKind::Step => add(HistoryKind::Canvas, &object.canvas_id),
                kind => add(kind, &object.id),
            }
        }
    }
    for id in campaigns {
        add(HistoryKind::Campaign, id);
    }
    for id in canvases {
        add(HistoryKind::Canvas, id);
    }
    all.into_values().collect()
}
