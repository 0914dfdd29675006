//! Which connection serves an app group.

use std::collections::{HashMap, HashSet};

use braze_events::app_group;

/// The number of a connection within the running process. It keeps its number over reloads, and a number
/// is never given to another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where the sends of one app group go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The connection that serves it.
    pub connection: ConnectionId,
    /// The configured name of the app group; empty where there is none.
    pub app_group_name: Box<str>,
    /// The connection can't serve it: its sends are neither counted nor given to another connection.
    pub is_refused: bool,
}

/// The app groups of a connection that can't serve them.
#[derive(Debug, Clone, Copy)]
pub struct RefusedGroups<'a> {
    /// Their ids; empty: every app group that no other connection names, unless another connection serves those. `None`:
    /// unknown. Then every app group that no connection names may be one of them.
    pub ids: Option<&'a [Box<str>]>,
}

/// The app groups that a connection serves.
#[derive(Debug, Clone, Copy)]
pub struct AppGroups<'a> {
    /// Their ids; empty: every app group that no other connection names.
    pub ids: &'a [Box<str>],
    /// Names by id, in the place of those that events carry.
    pub names: &'a HashMap<Box<str>, Box<str>>,
}

/// Finds the connection of an app group.
#[derive(Debug, Clone, Default)]
pub struct Router {
    by_app_group: HashMap<Box<[u8]>, Route, foldhash::fast::RandomState>,
    catch_all: Option<Route>,
}

impl Router {
    /// A router over `connections`. The configuration has made sure that no app group has two and that at
    /// most one has none; should it happen all the same, the first wins.
    pub fn new(connections: &[(ConnectionId, AppGroups<'_>)]) -> Self {
        let mut router = Self::default();
        for (id, served) in connections {
            let names = names(*served);
            for app_group_id in served.ids {
                let name = names.get(&app_group::canonical(app_group_id)).map(|(_, name)| Box::from(*name));
                router.add(app_group_id, route(*id, name.unwrap_or_default()));
            }
        }
        if let Some((id, served)) = connections.iter().find(|(_, served)| served.ids.is_empty()) {
            router.catch_all = Some(route(*id, Box::default()));
            for (app_group_id, name) in names(*served).into_values() {
                router.add(app_group_id, route(*id, name.into()));
            }
        }
        router
    }

    /// The same router with these app groups refused, as far as no connection serves them.
    #[must_use]
    pub fn refusing(mut self, refused: &[(ConnectionId, RefusedGroups<'_>)]) -> Self {
        self.forget_names(refused);
        let is_unknown = |groups: &RefusedGroups<'_>| groups.ids.is_none();
        for (id, groups) in refused {
            let route = Route { is_refused: true, ..route(*id, Box::default()) };
            match groups.ids {
                Some([]) => _ = self.catch_all.get_or_insert(route),
                ids => ids.into_iter().flatten().for_each(|id| self.add(id, route.clone())),
            }
        }
        if let Some((id, _)) = refused.iter().find(|(_, groups)| is_unknown(groups)) {
            self.catch_all = Some(Route { is_refused: true, ..route(*id, Box::default()) });
        }
        self
    }

    /// Forgets the names that the connection of the rest has for app groups that may be refused. A name is no claim: it may
    /// have been left there when the app group got a connection of its own.
    fn forget_names(&mut self, refused: &[(ConnectionId, RefusedGroups<'_>)]) {
        let Some(rest) = self.catch_all.as_ref().map(|route| route.connection) else { return };
        let is_any_unknown = refused.iter().any(|(_, groups)| groups.ids.is_none());
        let ids = refused.iter().filter_map(|(_, groups)| groups.ids).flatten();
        let ids: HashSet<Box<[u8]>> = ids.map(|id| app_group::canonical(id).into_boxed_bytes()).collect();
        self.by_app_group.retain(|id, route| {
            let is_refused = || match app_group::lowered(id) {
                Some(lowered) => ids.contains(&lowered[..]),
                None => ids.contains(id),
            };
            // It lists no ids, so all that it has is names.
            route.connection != rest || !(is_any_unknown || is_refused())
        });
    }

    /// The connections that sends go to, refused ones included, each once and in no order.
    pub fn connections(&self) -> Vec<ConnectionId> {
        let routes = self.by_app_group.values().chain(&self.catch_all);
        Vec::from_iter(routes.map(|route| route.connection).collect::<HashSet<_>>())
    }

    /// Adds it under its canonical id and as written, so that events with the configured spelling take one look-up.
    fn add(&mut self, app_group_id: &str, route: Route) {
        let canonical = app_group::canonical(app_group_id).into_boxed_bytes();
        let route = self.by_app_group.entry(canonical).or_insert(route).clone();
        self.by_app_group.entry(app_group_id.as_bytes().into()).or_insert(route);
    }

    /// The route of an app group; an empty id stands for an event without one. `None`: no connection serves it.
    pub fn route(&self, app_group_id: &[u8]) -> Option<&Route> {
        self.by_app_group
            .get(app_group_id)
            .or_else(|| self.by_app_group.get(app_group::lowered(app_group_id)?.as_slice()))
            .or(self.catch_all.as_ref())
    }
}

fn route(connection: ConnectionId, app_group_name: Box<str>) -> Route {
    Route { connection, app_group_name, is_refused: false }
}

/// The names of a connection's app groups by canonical id; each with its id as written.
fn names(served: AppGroups<'_>) -> HashMap<Box<str>, (&str, &str)> {
    served.names.iter().map(|(id, name)| (app_group::canonical(id), (&**id, &**name))).collect()
}

#[cfg(test)]
mod tests;
