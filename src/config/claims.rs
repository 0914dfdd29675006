//! Decides which connection serves an app group that several claim.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::check::Check;
use super::connections::app_groups_of;
use super::diagnostic::{Diagnostic, quoted};
use super::schema::join;
use crate::connection::Connection;
use braze_events::app_group;

impl Check<'_> {
    /// An app group of two connections would be counted in one of them by chance. The connection in force keeps it, else the
    /// main file's; if neither decides, nobody gets it: the first one is returned, with the second one's diagnostic.
    ///
    /// A wrong connection that is in force keeps what it serves and is still meant to serve: a mistake of a moment would give it
    /// away for good.
    pub(super) fn one_server_each(
        &mut self,
        connections: &[Connection],
        wrong: &Wrong,
    ) -> BTreeMap<Box<str>, Diagnostic> {
        let in_force = self.purpose.in_force;
        let holders =
            in_force.iter().flat_map(|one| app_groups(one).map(|(app_group, _)| (app_group, &*one.name)));
        let holders: HashMap<_, _> = holders.collect();
        let mut claims: BTreeMap<AppGroup, Vec<Claim<'_>>> = BTreeMap::new();
        for connection in connections {
            let (name, standing) = (&*connection.name, self.standing(&connection.name, wrong));
            let is_known = !wrong.contains_key(name) && !self.diagnostics.is_spoilt(&app_groups_of(name));
            for (app_group, id) in app_groups(connection).filter(|(_, id)| id.is_some() || is_known) {
                let rank = if holders.get(&app_group) == Some(&name) { Rank::InForce } else { standing };
                claims.entry(app_group).or_default().push(Claim { rank, connection: name, id });
            }
        }
        for one in in_force {
            let Some(wanted) = wrong.get(&*one.name) else { continue };
            let wanted: Option<HashSet<_>> =
                wanted.as_ref().map(|ids| ids.iter().map(|id| Some(app_group::canonical(id))).collect());
            for (app_group, id) in app_groups(one) {
                let is_wanted = wanted.as_ref().is_none_or(|wanted| wanted.contains(&app_group));
                let claims = claims.entry(app_group).or_default();
                if is_wanted && !claims.iter().any(|claim| *claim.connection == *one.name) {
                    claims.push(Claim { rank: Rank::InForce, connection: &one.name, id });
                }
            }
        }
        let mut contested = BTreeMap::new();
        for mut claims in claims.into_values() {
            claims.sort_by_key(|claim| claim.rank);
            let Some((first, others)) = claims.split_first() else { continue };
            for other in others {
                self.diagnostics.error(&app_groups_of(other.connection), both_serve(first, other));
                if other.rank == first.rank {
                    let error = self.diagnostics.errors().last().cloned();
                    contested.extend(error.map(|error| (first.connection.into(), error)));
                }
            }
        }
        contested
    }

    /// The claim's rank of a connection.
    fn standing(&self, name: &str, wrong: &Wrong) -> Rank {
        let is_main = self.folder(&join("connections", name)) == self.base;
        match (is_main, wrong.contains_key(name)) {
            (true, false) => Rank::MainFile,
            (true, true) => Rank::WrongInMainFile,
            (false, false) => Rank::Directory,
            (false, true) => Rank::WrongInDirectory,
        }
    }
}

/// An app group, as it is compared; `None`: all that no connection names.
type AppGroup = Option<Box<str>>;

/// Wrong connections by name, with the app groups that they are meant to serve; `None`: unknown.
pub(super) type Wrong = BTreeMap<String, Option<Vec<String>>>;

/// The app groups of a connection, each with its id as written.
fn app_groups(connection: &Connection) -> impl Iterator<Item = (AppGroup, Option<&str>)> {
    let rest = connection.is_catch_all().then_some((None, None));
    connection.app_group_ids.iter().map(|id| (Some(app_group::canonical(id)), Some(&**id))).chain(rest)
}

/// The ranks of claims to an app group: the first of these wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    InForce,
    MainFile,
    /// What it serves goes to nobody else while its mistake is mended.
    WrongInMainFile,
    Directory,
    WrongInDirectory,
}

/// A connection's claim to an app group; `None`: those that no other names.
struct Claim<'k> {
    rank: Rank,
    connection: &'k str,
    id: Option<&'k str>,
}

fn both_serve(first: &Claim<'_>, other: &Claim<'_>) -> String {
    let (server, name) = (quoted(first.connection), quoted(other.connection));
    match (first.id, other.id) {
        (Some(one), Some(id)) => {
            let both = if one == id {
                format!("{} is", quoted(id))
            } else {
                format!("{} and {}, which are the same app group, are", quoted(one), quoted(id))
            };
            format!("{both} served by the connections {server} and {name}; an app group has one connection")
        }
        _ => format!(
            "the connections {server} and {name} both serve every app group that no other connection names; list \
             app_group_ids for one of them"
        ),
    }
}

#[cfg(test)]
mod tests;
