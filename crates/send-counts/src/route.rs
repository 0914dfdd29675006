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
    /// Names by id, for events that carry none.
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

    /// How many connections sends go to, refused ones included.
    pub fn connections(&self) -> usize {
        let routes = self.by_app_group.values().chain(&self.catch_all);
        routes.map(|route| route.connection).collect::<HashSet<_>>().len()
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
mod tests {
    use super::*;

    struct Connection {
        ids: Vec<Box<str>>,
        names: HashMap<Box<str>, Box<str>>,
    }

    fn connection(app_groups: &[&str], names: &[(&str, &str)]) -> Connection {
        Connection {
            ids: app_groups.iter().map(|id| (*id).into()).collect(),
            names: names.iter().map(|(id, name)| ((*id).into(), (*name).into())).collect(),
        }
    }

    fn router(connections: &[Connection]) -> Router {
        let served = connections.iter().map(|Connection { ids, names }| AppGroups { ids, names });
        Router::new(&(0u32..).map(ConnectionId).zip(served).collect::<Vec<_>>())
    }

    #[test]
    fn an_app_group_goes_to_the_connection_that_names_it_and_the_rest_to_the_catch_all() {
        let router = router(&[connection(&[], &[("z", "Zed")]), connection(&["x", "y"], &[("x", "Ex")])]);
        let route = |id: &str| router.route(id.as_bytes()).map(|r| (r.connection.0, &*r.app_group_name));
        assert_eq!(route("x"), Some((1, "Ex")));
        assert_eq!(route("y"), Some((1, "")));
        assert_eq!(route("z"), Some((0, "Zed")));
        assert_eq!(route("other"), Some((0, "")));
        assert_eq!(route(""), Some((0, "")));
    }

    #[test]
    fn the_case_of_a_uuid_makes_no_difference_to_route_and_name() {
        const SMALL: [&str; 2] =
            ["5f3e8f0a-1234-4cde-9abc-0123456789ab", "aaaaaaaa-1234-4cde-9abc-0123456789ab"];
        let capitals = SMALL.map(str::to_uppercase);
        let mixed = SMALL.map(|id| id.replacen('a', "A", 1));
        let router = router(&[
            connection(&[], &[(&capitals[1], "Zed")]),
            connection(&[&capitals[0], "Opaque"], &[(&mixed[0], "Ex"), ("opaque", "never")]),
        ]);
        let route = |id: &str| router.route(id.as_bytes()).map(|r| (r.connection.0, &*r.app_group_name));
        for id in [SMALL[0], &capitals[0], &mixed[0]] {
            assert_eq!(route(id), Some((1, "Ex")), "{id}");
        }
        for id in [SMALL[1], &capitals[1], &mixed[1]] {
            assert_eq!(route(id), Some((0, "Zed")), "{id}");
        }
        assert_eq!(route("Opaque"), Some((1, "")));
        assert_eq!(route("opaque"), Some((0, "")));
        assert_eq!(route("BBBBBBBB-1234-4CDE-9ABC-0123456789AB"), Some((0, "")));
    }

    #[test]
    fn without_a_catch_all_an_unnamed_app_group_has_no_route() {
        let router = router(&[connection(&["x"], &[])]);
        assert!(router.route(b"other").is_none());
        assert!(router.route(b"").is_none());
    }

    #[test]
    fn what_a_refused_connection_serves_goes_to_nobody_else() {
        let all = [connection(&[], &[]), connection(&["x"], &[])];
        let with =
            |ids: Option<&[Box<str>]>| router(&all).refusing(&[(ConnectionId(2), RefusedGroups { ids })]);
        let route = |router: &Router, id: &str| {
            router.route(id.as_bytes()).map(|route| (route.connection.0, route.is_refused))
        };
        let known = with(Some(&["y".into(), "x".into()]));
        assert_eq!(route(&known, "y"), Some((2, true)));
        assert_eq!(route(&known, "x"), Some((1, false)), "another connection serves it");
        assert_eq!(route(&known, "other"), Some((0, false)));
        // Of two that serve the rest, the one that is right does.
        assert_eq!(route(&with(Some(&[])), "other"), Some((0, false)));
        let unknown = with(None);
        assert_eq!(route(&unknown, "other"), Some((2, true)), "it may be one of the refused connection's");
        assert_eq!(route(&unknown, "x"), Some((1, false)));
        let alone = Router::new(&[]).refusing(&[(ConnectionId(0), RefusedGroups { ids: Some(&[]) })]);
        assert_eq!(route(&alone, "other"), Some((0, true)));
    }

    #[test]
    fn hundreds_of_connections_each_get_their_own() {
        let all: Vec<_> = (0..500).map(|n| connection(&[&format!("group-{n}")], &[])).collect();
        let router = router(&all);
        for n in 0..500u32 {
            assert_eq!(router.route(format!("group-{n}").as_bytes()).map(|r| r.connection.0), Some(n));
        }
    }
}
