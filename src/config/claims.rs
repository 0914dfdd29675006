//! Decides which connection serves an app group that several claim.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::check::Check;
use super::connections::app_groups_of;
use super::diagnostic::{Diagnostic, is_within, quoted};
use super::schema::join;
use crate::connection::Connection;
use braze_events::app_group;

impl Check<'_> {
    /// An app group of two connections would be counted in one of them by chance. The connection in force keeps it, else the
    /// main file's; if neither decides, nobody gets it: the first one is returned, with the second one's diagnostic.
    pub(super) fn one_server_each(&mut self, connections: &[Connection]) -> BTreeMap<Box<str>, Diagnostic> {
        let mut claims: BTreeMap<Option<Box<str>>, Vec<Claim<'_>>> = BTreeMap::new();
        let of = |one: &Connection| one.app_group_ids.iter().map(|id| app_group::canonical(id)).collect();
        let in_force: HashMap<&str, (bool, HashSet<Box<str>>)> =
            self.purpose.in_force.iter().map(|one| (&*one.name, (one.is_catch_all(), of(one)))).collect();
        for connection in connections {
            let in_force = in_force.get(&*connection.name);
            let standing = self.standing(connection);
            let mut claim = |app_group: Option<Box<str>>, id| {
                let has_it = in_force.is_some_and(|(is_catch_all, ids)| match &app_group {
                    None => *is_catch_all,
                    Some(id) => ids.contains(id),
                });
                let rank = if has_it && standing != Rank::Wrong { Rank::InForce } else { standing };
                let claim = Claim { rank, connection: &connection.name, id };
                claims.entry(app_group).or_default().push(claim);
            };
            if connection.is_catch_all() && !self.diagnostics.is_spoilt(&app_groups_of(&connection.name)) {
                claim(None, None);
            }
            for id in &connection.app_group_ids {
                claim(Some(app_group::canonical(id)), Some(id));
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
    fn standing(&self, connection: &Connection) -> Rank {
        let key = join("connections", &connection.name);
        if self.diagnostics.errors().iter().any(|error| is_within(&error.key, &key)) {
            Rank::Wrong
        } else if Path::new(self.diagnostics.origin(&key)).parent().is_none_or(|folder| folder == self.base) {
            Rank::MainFile
        } else {
            Rank::Directory
        }
    }
}

/// The ranks of claims to an app group: the first of these wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    InForce,
    MainFile,
    Directory,
    Wrong,
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
