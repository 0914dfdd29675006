//! Who serves an app group that several connections claim.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::check::Check;
use super::connections::app_groups_of;
use super::diagnostic::{Diagnostic, is_within, quoted};
use super::schema::join;
use crate::connection::Connection;
use braze_events::app_group;

impl Check<'_> {
    /// An app group that two connections serve would be counted in one of them by chance. The one that has it already
    /// keeps it, or else the main file's; where neither says whose it is, nobody gets it: the first one is returned, with
    /// what is wrong with the second.
    pub(super) fn one_server_each(&mut self, connections: &[Connection]) -> BTreeMap<Box<str>, Diagnostic> {
        let mut claims: BTreeMap<Option<Box<str>>, Vec<Claim<'_>>> = BTreeMap::new();
        let in_force: HashMap<&str, &Connection> =
            self.purpose.in_force.iter().map(|one| (&*one.name, one)).collect();
        for connection in connections {
            let in_force = in_force.get(&*connection.name);
            let standing = self.standing(connection);
            let mut claim = |app_group: Option<Box<str>>, id| {
                let has_it = in_force.is_some_and(|one| one.serves(app_group.as_deref()));
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

    /// What a connection has to say for itself that is not in force.
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

/// Who serves an app group that several connections claim: the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    InForce,
    MainFile,
    Directory,
    Wrong,
}

/// A connection that would serve an app group; `None`: those that no other names.
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
mod tests {
    use std::fs;

    use super::super::{Config, Purpose};
    use crate::connection::{Connection, RefusedConnection};

    /// A configuration of a main file and files of the directory, over what is in force.
    fn read(main: &str, files: &[(&str, &str)], in_force: &[Connection]) -> Config {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("d").join(name), text).unwrap();
        }
        let text = format!("connections_directory = \"d\"\n{main}");
        Config::parse_over(
            &text,
            &folder.path().join("a.toml"),
            &[],
            Purpose { in_force, ..Purpose::default() },
        )
        .unwrap()
        .0
    }

    fn serving(ids: &str) -> String {
        format!("dry_run = true\napp_group_ids = [{ids}]\n")
    }

    fn names(config: &Config) -> (Vec<&str>, Vec<&str>) {
        let active = config.connections.active.iter().map(|one| &*one.name);
        (active.collect(), config.connections.refused.iter().map(|one| &*one.name).collect())
    }

    const OTHER: &str = "[connections.other]\ndry_run = true\napp_group_ids = [\"o\"]\n";

    #[test]
    fn an_app_group_stays_with_whom_it_is_and_the_main_file_goes_before_the_directory() {
        let (x, y) = (serving("\"x\""), serving("\"y\", \"x\""));
        let files = [("a.toml", &*x), ("b.toml", &*y)];
        let before = read(OTHER, &files[1..], &[]).connections.active;
        assert_eq!(names(&read(OTHER, &files, &before)), (vec!["b", "other"], vec!["a"]));
        // Where nothing says whose it is, nobody gets it.
        let neither = read(OTHER, &files, &[]);
        assert_eq!(names(&neither), (vec!["other"], vec!["a", "b"]));
        let reasons = |refused: &RefusedConnection| refused.reason.clone();
        let [a, b] = &neither.connections.refused[..] else { panic!("two are refused") };
        assert!(reasons(a).contains("\"a\" and \"b\"") && reasons(a) == reasons(b), "{a:?} {b:?}");
        let main = format!("[connections.z]\n{x}");
        assert_eq!(names(&read(&main, &files[..1], &[])), (vec!["z"], vec!["a"]));
        // One that is wrong itself takes nothing from anybody.
        let wrong = format!("siet = 1\n{x}");
        assert_eq!(names(&read(OTHER, &[("a.toml", &wrong), ("b.toml", &y)], &[])).1, ["a"]);
    }

    #[test]
    fn a_second_one_that_lists_no_app_groups_takes_the_rest_from_nobody() {
        let main = format!("[connections.rest]\ndry_run = true\n{OTHER}");
        let config = read(&main, &[("a.toml", "dry_run = true")], &[]);
        assert_eq!(names(&config), (vec!["other", "rest"], vec!["a"]));
        assert_eq!(config.connections.refused[0].app_group_ids, Some(Vec::new()));
    }

    #[test]
    fn the_app_groups_of_a_connection_that_is_left_out_are_known_where_they_can_be_made_out() {
        let of =
            |text: &str| read(OTHER, &[("a.toml", text)], &[]).connections.refused[0].app_group_ids.clone();
        let one = Some(vec!["x".into()]);
        assert_eq!(of("app_group_ids = [\"x\"]\nurll = 1"), one);
        assert_eq!(of("app_group_ids = [\"x\"]\napi_key_file = \"./none\"\nsite = \"EU1\""), one);
        assert_eq!(of("app_group_ids = [\"x\"]\nsite = EU1"), one, "no TOML, and still to be made out");
        assert_eq!(of("site = \"EU1\napp_group_ids = [\"x\"]"), one);
        let torn = of("app_group_ids = [\"x\" \"y\"\nsite = \"EU1\"").unwrap();
        assert_eq!(
            torn[..2],
            ["x".into(), "y".into()],
            "what follows is taken for more of them, which does no harm"
        );
        assert_eq!(of("app_group_id = [\"x\"]\ndry_run = true"), None);
        assert_eq!(of("app_group_ids = \"x\"\ndry_run = true"), None);
        assert_eq!(of("site = EU1"), None);
    }

    #[test]
    fn a_name_that_can_be_none_is_shown_nowhere() {
        const PLANTED: &str = super::super::tests::PLANTED;
        let (first, second) = (format!("{PLANTED}.toml"), "Acme.toml");
        let config = read(OTHER, &[(&first, &serving("\"x\"")), (second, &serving("\"y\""))], &[]);
        let [refused] = &config.connections.refused[..] else { panic!("both are one") };
        assert_eq!(
            (&*refused.name, refused.app_group_ids.as_deref()),
            ("_misnamed", Some(&["x".into(), "y".into()][..]))
        );
    }
}
