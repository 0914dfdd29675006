//! A connection, and the intake for its payloads.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use braze_events::app_group;
use datadog_points::ApiKey;
use datadog_points::client::HttpIntake;
use datadog_points::outcome::Outcome;
use datadog_points::payload::Payload;
use datadog_points::site::Site;
use send_counts::route::AppGroups;

/// A Datadog site and API key, and the app groups that they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct Connection {
    /// The section's name in the configuration: `[a-z0-9_]+`.
    pub name: Box<str>,
    /// Where its points go.
    pub site: Site,
    /// Never shown.
    pub api_key: ApiKey,
    /// The app groups it serves; empty: every app group that no other connection names.
    pub app_group_ids: Vec<Box<str>>,
    /// Names by app group id, in the place of those that events carry.
    pub app_group_names: HashMap<Box<str>, Box<str>>,
    /// The name of the metric.
    pub metric: Box<str>,
    /// Print the points instead of sending them.
    pub dry_run: bool,
    /// Send a [heartbeat](crate::forwarder_points::heartbeat) with every flush, and a flush at every tick.
    pub heartbeat: bool,
    /// Send [what the forwarder tells of itself](crate::forwarder_points::metrics), with a flush at every tick.
    pub forwarder_metrics: bool,
    /// With them, [how long ago each campaign was sent last](crate::forwarder_points::last_send_age).
    pub campaign_last_send_age: bool,
}

impl Connection {
    /// A connection with nothing but a name; nothing is ever sent to it.
    pub fn named(name: Box<str>) -> Self {
        Self {
            name,
            site: Site { name: "".into(), base_url: "".into() },
            api_key: ApiKey::new(""),
            app_group_ids: Vec::new(),
            app_group_names: HashMap::new(),
            metric: "".into(),
            dry_run: true,
            heartbeat: false,
            forwarder_metrics: false,
            campaign_last_send_age: false,
        }
    }

    /// Whether its requests go where those of `other` go, with the same key.
    pub fn goes_as(&self, other: &Self) -> bool {
        self.api_key == other.api_key && self.site == other.site
    }

    /// Whether it serves every app group that no other connection names.
    pub const fn is_catch_all(&self) -> bool {
        self.app_group_ids.is_empty()
    }

    /// The app groups, for the router.
    pub fn app_groups(&self) -> AppGroups<'_> {
        AppGroups { ids: &self.app_group_ids, names: &self.app_group_names }
    }
}

/// A connection that is left out, because its configuration is wrong. Sends of its app groups are dropped under a reason of
/// their own, and not given to the catch-all connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedConnection {
    /// The section's name in the configuration.
    pub name: Box<str>,
    /// The app groups that it would serve; empty: every one that no other connection names. `None`: they can't be read.
    pub app_group_ids: Option<Vec<Box<str>>>,
    /// Where they can't be read: those of them that can.
    pub listed: Vec<Box<str>>,
    /// The diagnostics, one a line; never a key.
    pub reason: String,
    /// Whether the previous form of the connection is still in force.
    pub keeps_old: bool,
}

/// The connections of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionSet {
    /// Those that are in force, by name.
    pub active: Vec<Connection>,
    /// Those that are wrong, by name.
    pub refused: Vec<RefusedConnection>,
}

impl ConnectionSet {
    /// Whether there is a right one, or the [old form](Self::keep_old) of a refused one.
    pub fn goes_on(&self, old: &[Connection]) -> bool {
        let has_old = |refused: &RefusedConnection| old.iter().any(|one| one.name == refused.name);
        !self.active.is_empty() || self.refused.iter().any(has_old)
    }

    /// Whether it goes on with the [old form](Self::keep_old) of this connection.
    pub fn keeps_old(&self, name: &str) -> bool {
        self.refused.iter().any(|refused| refused.keeps_old && *refused.name == *name)
    }

    /// Keeps the old form of each connection that is refused now, as long as no other one has taken over its app groups.
    ///
    /// If a refused connection's app groups can't be read, those that `old` served and nobody names now may be among them. They
    /// must not fall to the catch-all.
    pub fn keep_old(&mut self, old: &Self) {
        let served = self.served();
        let mut has_catch_all = self.active.iter().any(Connection::is_catch_all);
        for refused in &mut self.refused {
            let Some(old) = old.active.iter().find(|old| old.name == refused.name) else { continue };
            let mut kept = old.clone();
            kept.app_group_ids.retain(|id| !served.contains(&app_group::canonical(id)));
            let is_taken = if old.is_catch_all() { has_catch_all } else { kept.is_catch_all() };
            if !is_taken {
                has_catch_all |= kept.is_catch_all();
                refused.keeps_old = true;
                self.active.push(kept);
            }
        }
        self.active.sort_by(|a, b| a.name.cmp(&b.name));
        let (given_up, served) = (self.given_up(old), self.served());
        for refused in self.refused.iter_mut().filter(|refused| refused.keeps_old) {
            let new = refused.listed.iter().filter(|id| !served.contains(&app_group::canonical(id)));
            let wanted: BTreeSet<_> = given_up.iter().chain(new).cloned().collect();
            if refused.app_group_ids.is_none() && !wanted.is_empty() {
                refused.app_group_ids = Some(wanted.into_iter().collect());
            }
        }
    }

    /// Has the connection of this name, and no other one in force, tell of the forwarder itself, `with_ages` also how long ago
    /// each campaign was sent last.
    pub fn set_forwarder_metrics(&mut self, name: &str, with_ages: bool) {
        for connection in &mut self.active {
            connection.forwarder_metrics = *connection.name == *name;
            connection.campaign_last_send_age = connection.forwarder_metrics && with_ages;
        }
    }

    /// The app groups that connections in force name.
    fn served(&self) -> HashSet<Box<str>> {
        let ids = self.active.iter().flat_map(|connection| &connection.app_group_ids);
        ids.map(|id| app_group::canonical(id)).collect()
    }

    /// Those of `wanted`, the app groups of the new form of a connection whose old one is in force, that nobody serves.
    pub fn served_by_nobody<'w>(&self, name: &str, wanted: &'w [Box<str>]) -> Vec<&'w str> {
        let is_catch_all = |connection: &Connection| &*connection.name == name && connection.is_catch_all();
        if self.active.iter().any(is_catch_all) {
            return Vec::new();
        }
        let served = self.served();
        wanted.iter().map(|id| &**id).filter(|id| !served.contains(&app_group::canonical(id))).collect()
    }

    /// The app groups that some connection of `old` named (in force or refused), and none names now.
    fn given_up(&self, old: &Self) -> Vec<Box<str>> {
        let named = |set: &Self| {
            let refused = set.refused.iter().filter_map(|refused| refused.app_group_ids.as_ref()).flatten();
            refused.map(|id| app_group::canonical(id)).chain(set.served()).collect::<BTreeSet<_>>()
        };
        let now = named(self);
        named(old).into_iter().filter(|id| !now.contains(id)).collect()
    }
}

impl From<Vec<Connection>> for ConnectionSet {
    fn from(active: Vec<Connection>) -> Self {
        Self { active, refused: Vec::new() }
    }
}

/// The receiver of payloads.
pub trait Intake: Send + Sync + 'static {
    /// Submits one payload, once, and returns its outcome. It takes no longer than `flush.timeout`.
    fn submit(&self, connection: Arc<Connection>, payload: Payload) -> impl Future<Output = Outcome> + Send;
}

impl Intake for HttpIntake {
    async fn submit(&self, connection: Arc<Connection>, payload: Payload) -> Outcome {
        self.post(&connection.site, &connection.api_key, payload).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(name: &str, app_group_ids: &[&str]) -> Connection {
        let app_group_ids = app_group_ids.iter().map(|id| (*id).into()).collect();
        Connection { app_group_ids, ..Connection::named(name.into()) }
    }

    fn refused(name: &str) -> RefusedConnection {
        let (app_group_ids, reason) = (None, "wrong".to_owned());
        RefusedConnection { name: name.into(), app_group_ids, listed: Vec::new(), reason, keeps_old: false }
    }

    #[test]
    fn a_connection_that_is_wrong_now_goes_on_as_it_was_but_for_what_others_serve() {
        let old = vec![connection("a", &["x", "y"]), connection("b", &["z"]), connection("rest", &[])];
        let mut set = ConnectionSet {
            active: vec![connection("new", &["Y", "z"]), connection("y", &["y"])],
            refused: vec![refused("a"), refused("b"), refused("never"), refused("rest")],
        };
        set.keep_old(&old.into());
        let active: Vec<_> = set.active.iter().map(|one| (&*one.name, one.app_group_ids.join(","))).collect();
        let expected = [("a", "x"), ("new", "Y,z"), ("rest", ""), ("y", "y")];
        assert_eq!(active, expected.map(|(name, ids)| (name, ids.to_owned())));
        let kept: Vec<_> = set.refused.iter().map(|one| one.keeps_old).collect();
        assert_eq!(kept, [true, false, false, true], "of b, nothing is left, which must not serve the rest");
    }

    #[test]
    fn what_somebody_gives_up_may_be_what_an_unreadable_one_wants() {
        let old = vec![connection("a", &["x"]), connection("b", &["y", "z"]), connection("rest", &[])];
        let mut set = ConnectionSet {
            active: vec![connection("b", &["z"]), connection("rest", &[])],
            refused: vec![refused("a"), refused("new")],
        };
        set.keep_old(&old.into());
        let wanted: Vec<_> = set.refused.iter().map(|one| one.app_group_ids.clone()).collect();
        assert_eq!(wanted, [Some(vec!["y".into()]), None]);
        let wanted = ["x", "y", "z"].map(Box::from);
        assert_eq!(
            (set.served_by_nobody("a", &wanted), set.served_by_nobody("rest", &wanted)),
            (vec!["y"], vec![])
        );
        // For as long as it can't be read, and nobody else names it.
        for (again, wanted) in
            [(connection("b", &["z"]), Some(vec!["y".into()])), (connection("b", &["y", "z"]), None)]
        {
            let mut next =
                ConnectionSet { active: vec![again, connection("rest", &[])], refused: vec![refused("a")] };
            next.keep_old(&set);
            assert_eq!(next.refused[0].app_group_ids, wanted);
        }
    }

    #[test]
    fn the_rest_is_not_taken_back_from_who_serves_it_now() {
        let mut set = ConnectionSet { active: vec![connection("new", &[])], refused: vec![refused("rest")] };
        set.keep_old(&vec![connection("rest", &[])].into());
        assert_eq!((set.active.len(), set.refused[0].keeps_old), (1, false));
    }
}
