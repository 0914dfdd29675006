//! The names of the flush thread: gives them to series, and reports those that become one tag value in Datadog.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::connection::Connection;
use crate::pipeline::collapse::Collapse;
use event_lanes::stats::{Collapsing, Stats};
use send_counts::aggregate::Aggregator;
use send_counts::aggregate::names::KnownNames;
use send_counts::route::ConnectionId;

/// How many names are remembered over all connections: a platform's campaigns and steps, at about 220 bytes each.
const NAMES_MAX: usize = 1_000_000;

/// The known names, and their tags in Datadog.
#[derive(Debug)]
pub(super) struct NameTracker {
    known: KnownNames,
    /// Those of the last cut, by number.
    connections: Vec<Arc<Connection>>,
    collapse: Collapse,
    /// How many collapsing tags the last warning reported. The next one comes when they have doubled.
    warned: HashMap<ConnectionId, u64>,
}

impl NameTracker {
    /// With the connections that the first cut is counted for.
    pub(super) fn new(connections: Vec<Arc<Connection>>) -> Self {
        Self {
            known: KnownNames::new(NAMES_MAX),
            connections,
            collapse: Collapse::default(),
            warned: HashMap::new(),
        }
    }

    /// Gives every series of a merged cut the newest names known.
    pub(super) fn settle(&mut self, cut: &mut Aggregator, connections: &[Arc<Connection>]) {
        let renamed = self.follow(connections);
        if !renamed.contains(&true) {
            return self.known.settle(cut);
        }
        let is_renamed = |id: ConnectionId| renamed.get(id.index()).is_some_and(|renamed| *renamed);
        // What was counted under the names of now is not to get those of before; and what was counted under those of
        // before, as the cut of a reload was, does not make them known again.
        self.known.forget_app_groups(is_renamed);
        self.known.settle(cut);
        self.known.forget_app_groups(is_renamed);
    }

    /// By number, the connections whose configured names of app groups have changed since the last cut. Such a name would stay
    /// known, for a lane takes it for the event's.
    fn follow(&mut self, connections: &[Arc<Connection>]) -> Vec<bool> {
        let is_same = |(known, now): (&Arc<Connection>, &Arc<Connection>)| Arc::ptr_eq(known, now);
        if self.connections.len() == connections.len()
            && self.connections.iter().zip(connections).all(is_same)
        {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.connections, connections.to_vec());
        let is_renamed =
            |(old, now): (&Arc<Connection>, &Arc<Connection>)| old.app_group_names != now.app_group_names;
        before.iter().zip(connections).map(is_renamed).collect()
    }

    /// Reports which names become one tag value, if that has changed.
    pub(super) fn report_collapsing(&mut self, stats: &Stats, connections: &[Arc<Connection>]) {
        let Some(found) = self.collapse.follow(&mut self.known) else { return };
        // Before it is logged: who has read the line sees what it says in the metrics, too.
        stats.set_collapsing(found.iter().filter_map(|(id, collapsing)| {
            let connection = connections.get(id.index())?;
            Some((&*connection.name, collapsing.clone()))
        }));
        self.warn(&found, connections);
    }

    fn warn(&mut self, found: &BTreeMap<ConnectionId, Collapsing>, connections: &[Arc<Connection>]) {
        for (id, Collapsing { tags_total, tags, .. }) in found {
            let (Some(connection), Some(example)) = (connections.get(id.index()), tags.first()) else {
                continue;
            };
            let warned = self.warned.entry(*id).or_default();
            if *tags_total == 0 || *tags_total < 2 * *warned {
                continue;
            }
            *warned = *tags_total;
            tracing::warn!(
                connection = %connection.name,
                collapsing = tags_total,
                tag = %example.tag,
                names = ?example.names,
                group_by = example.group_by,
                "different names become one tag value in Datadog, where their sends add up: group by the id (/status \
                 lists them)"
            );
        }
    }
}
