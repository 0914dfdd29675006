//! What a reload changes in the connections, told by name.

use std::collections::HashMap;

use crate::connection::{Connection, ConnectionSet};
use crate::reconcile::ReconcileSettings;

/// Whether a part of the configuration is refused: a connection, or only what is compared with Braze.
pub(super) fn is_any_refused(connections: &ConnectionSet, reconcile: &ReconcileSettings) -> bool {
    !connections.refused.is_empty() || !reconcile.refused.is_empty()
}

/// The changes of a reload, by connection name; empty: no change to report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConnectionChanges {
    pub(super) added: Option<String>,
    pub(super) removed: Option<String>,
    pub(super) changed: Option<String>,
    /// Connections of which only the key changed.
    pub(super) rotated: Option<String>,
}

impl ConnectionChanges {
    pub(super) fn between<'c>(old: &'c [Connection], new: &'c [Connection]) -> Self {
        let by_name = |all: &'c [Connection]| -> HashMap<&'c str, &'c Connection> {
            all.iter().map(|one| (&*one.name, one)).collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        let (mut added, mut changed, mut rotated) = (Vec::new(), Vec::new(), Vec::new());
        for now in new {
            match before.get(&*now.name) {
                None => added.push(&*now.name),
                Some(before) if *before == now => {}
                Some(before)
                    if (Connection { api_key: now.api_key.clone(), ..(*before).clone() }) == *now =>
                {
                    rotated.push(&*now.name);
                }
                Some(_) => changed.push(&*now.name),
            }
        }
        let removed = old.iter().map(|one| &*one.name).filter(|name| !after.contains_key(name)).collect();
        let told = |names: Vec<&str>| (!names.is_empty()).then(|| super::super::names(names.into_iter()));
        Self { added: told(added), removed: told(removed), changed: told(changed), rotated: told(rotated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datadog_points::ApiKey;

    fn connection(name: &str, key: &str, metric: &str) -> Connection {
        Connection { api_key: ApiKey::new(key), metric: metric.into(), ..Connection::named(name.into()) }
    }

    #[test]
    fn what_a_reload_did_is_told_by_name_wherever_a_connection_stands() {
        let old = [
            connection("changed", "k", "m"),
            connection("removed", "k", "m"),
            connection("rotated", "k", "m"),
            connection("same", "k", "m"),
        ];
        let new = [
            connection("added", "k", "m"),
            connection("same", "k", "m"),
            connection("rotated", "other", "m"),
            connection("changed", "other", "n"),
        ];
        let ConnectionChanges { added, removed, changed, rotated } = ConnectionChanges::between(&old, &new);
        let told = [added, removed, changed, rotated].map(Option::unwrap);
        assert_eq!(told, ["added", "removed", "changed", "rotated"]);
        let nothing = ConnectionChanges { added: None, removed: None, changed: None, rotated: None };
        assert_eq!(ConnectionChanges::between(&old, &old), nothing);
    }
}
