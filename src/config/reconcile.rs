//! Checks the daily comparison with Braze's dashboard. Its mistakes affect nothing else: it is left out, and sends are
//! counted as ever.

use braze_rest::{RestKey, check_url};
use jiff::civil::Time;

use super::api_key::api_key_fault;
use super::check::Check;
use super::connections::connection_name_fault;
use super::diagnostic::{Diagnostic, is_within, looks_like_key, looks_random};
use super::directory::Unread;
use super::schema::join;
use super::settings::{ReconcileSection, Settings};
use crate::reconcile::{
    DayRange, ReconcileSettings, RefusedWorkspace, SETTLED_AFTER, Tolerance, WorkspaceSettings,
};

/// The section, at the top level and in each connection.
pub(super) const RECONCILE: &str = "reconcile";

/// One workspace, as written.
struct RawWorkspace<'s> {
    section: &'s str,
    connection: Option<&'s str>,
    key_file: &'s str,
    key_env: &'s str,
    app_group_id: &'s str,
    /// A value that a connection leaves empty is the top level's.
    braze_url: &'s str,
    time_zone: &'s str,
    /// The tags of a series, and so what the history knows of it.
    tags: &'s [String],
}

/// The section of a connection.
fn section_of(connection: &str) -> String {
    join(&join("connections", connection), RECONCILE)
}

fn or<'s>(own: &'s str, of_all: &'s str) -> &'s str {
    if own.is_empty() { of_all } else { own }
}

impl Check<'_> {
    /// Checks each workspace by itself.
    pub(super) fn reconcile(&mut self, settings: &mut Settings, unread: &Unread) -> ReconcileSettings {
        let all = settings.reconcile.clone();
        let mut reconcile = self.reconcile_schedule(&all);
        self.address(RECONCILE, &all.braze_url);
        self.time_zone(RECONCILE, &all.time_zone);
        let mut workspaces = vec![self.workspace(&RawWorkspace {
            section: RECONCILE,
            connection: None,
            key_file: &all.braze_key_file,
            key_env: &all.braze_key_env,
            app_group_id: &all.app_group_id,
            braze_url: &all.braze_url,
            time_zone: &all.time_zone,
            tags: &settings.tags.include,
        })];
        for (name, raw) in &settings.connections {
            let (section, raw) = (section_of(name), &raw.reconcile);
            self.address(&section, &raw.braze_url);
            if !raw.time_zone.is_empty() {
                self.time_zone(&section, &raw.time_zone);
            }
            let workspace = self.workspace(&RawWorkspace {
                section: &section,
                connection: Some(name),
                key_file: &raw.braze_key_file,
                key_env: &raw.braze_key_env,
                app_group_id: &raw.app_group_id,
                braze_url: or(&raw.braze_url, &all.braze_url),
                time_zone: or(&raw.time_zone, &all.time_zone),
                tags: &settings.tags.include,
            });
            if workspace.is_some() || !self.errors_in(&section).is_empty() {
                reconcile.connections_apart.push((**name).into());
            }
            workspaces.push(workspace);
        }
        reconcile.note_unread(unread.keys().filter(|name| !settings.connections.contains_key(*name)));
        let is_half_set = !all.braze_url.is_empty() && reconcile.connections_apart.is_empty();
        if is_half_set && all.braze_key_file.is_empty() && all.braze_key_env.is_empty() {
            let reason = "is set, and no REST API key is: set braze_key_file (or braze_key_env) here, or in \
                          [connections.NAME.reconcile]";
            self.diagnostics.missing("reconcile.braze_key_file", "reconcile.braze_url", reason);
        }
        if settings.history.directory.is_empty() && workspaces.iter().any(Option::is_some) {
            let reason = "needs the history of sends, which is switched off: set history.directory, or take the keys of \
                          Braze away";
            self.diagnostics.error(RECONCILE, reason);
        }
        let common_errors = self.errors_in(RECONCILE);
        if !common_errors.is_empty() {
            // A URL may hold a password, and settings are shown.
            settings.reconcile = ReconcileSection::default();
            workspaces.clear();
            reconcile.refuse(None, &common_errors);
        }
        for name in settings.connections.keys() {
            let errors = self.errors_in(&section_of(name));
            if !errors.is_empty() {
                reconcile.refuse(Some(name), &errors);
            }
        }
        reconcile.workspaces = workspaces.into_iter().flatten().collect();
        if !all.braze_url.is_empty() || !reconcile.is_off() {
            reconcile.refuse_unread();
        }
        reconcile
    }

    /// All mistakes in it.
    pub(super) fn errors_of_reconcile<'n>(
        &self,
        connections: impl Iterator<Item = &'n String>,
    ) -> Vec<Diagnostic> {
        let sections = connections.map(|name| section_of(name)).chain([RECONCILE.to_owned()]);
        sections.flat_map(|section| self.errors_in(&section)).collect()
    }

    fn errors_in(&self, section: &str) -> Vec<Diagnostic> {
        self.diagnostics.errors().iter().filter(|error| is_within(&error.key, section)).cloned().collect()
    }

    fn reconcile_schedule(&mut self, all: &ReconcileSection) -> ReconcileSettings {
        let tolerance = Tolerance::parse(&all.tolerance).unwrap_or_else(|reason| {
            let reason = format!("is no tolerance; write {reason}");
            self.diagnostics.refuse("reconcile.tolerance", &all.tolerance, reason);
            Tolerance(0)
        });
        let at = Time::strptime("%H:%M", &all.at).unwrap_or_else(|_| {
            let reason = "is no time of day; write hours and minutes, like 04:00";
            self.diagnostics.refuse("reconcile.at", &all.at, reason);
            Time::midnight()
        });
        let after_midnight = i64::from(at.hour()) * 3600 + i64::from(at.minute()) * 60;
        if self.errors_in("reconcile.at").is_empty() && after_midnight < SETTLED_AFTER {
            let reason = "is too early: events of the day before may come for an hour after midnight, so that yesterday would \
                          never be compared; write 01:00 or later";
            self.diagnostics.refuse("reconcile.at", &all.at, reason);
        }
        ReconcileSettings { days: all.days, tolerance, at, ..ReconcileSettings::default() }
    }

    fn address(&mut self, section: &str, braze_url: &str) {
        let key = join(section, "braze_url");
        if looks_like_key(braze_url) || looks_random(braze_url) {
            let reason = "has something in it that looks like a key; a URL is no place for one";
            self.diagnostics.error(&key, reason);
        } else if !braze_url.is_empty()
            && let Err(error) = check_url(braze_url)
        {
            // Without the address, which may hold a password.
            self.diagnostics.error(&key, error.to_string());
        }
    }

    fn time_zone(&mut self, section: &str, time_zone: &str) {
        if DayRange::new(time_zone, None, 1, 0).is_err() {
            let reason = "is no time zone; write it as IANA and Braze's dashboard do: Europe/Paris, America/New_York, UTC";
            self.diagnostics.refuse(&join(section, "time_zone"), time_zone, reason);
        }
    }

    /// `None`: it is off, or wrong.
    fn workspace(&mut self, raw: &RawWorkspace<'_>) -> Option<WorkspaceSettings> {
        let RawWorkspace { section, connection, app_group_id, braze_url, time_zone, .. } = *raw;
        let has_key = !raw.key_file.is_empty() || !raw.key_env.is_empty();
        if !app_group_id.is_empty() {
            let key = join(section, "app_group_id");
            self.app_group_id(&key, app_group_id);
            if has_key && !raw.tags.iter().any(|tag| tag == "app_group_id") {
                let reason = "needs the tag app_group_id, which tags.include leaves out: without it the history does not know \
                              whose sends they are, and nothing is compared; add it there";
                self.diagnostics.error(&key, reason);
            }
        }
        let key = self.rest_key(raw);
        if has_key && braze_url.is_empty() {
            let (key, reason) = (
                join(section, "braze_url"),
                "is missing: the address of Braze's REST API, like \
                                https://rest.fra-01.braze.eu",
            );
            self.diagnostics.missing(&key, &key, reason);
        }
        let key = key.filter(|_| self.errors_in(section).is_empty())?;
        Some(WorkspaceSettings {
            connection: connection.map(Into::into),
            app_group_id: app_group_id.into(),
            braze_url: braze_url.into(),
            key,
            time_zone: time_zone.into(),
        })
    }

    fn rest_key(&mut self, raw: &RawWorkspace<'_>) -> Option<RestKey> {
        const WHAT: &str = "a REST API key of Braze";
        let (file, env) = (join(raw.section, "braze_key_file"), join(raw.section, "braze_key_env"));
        let (key, (source, found)) = match (raw.key_file, raw.key_env) {
            ("", "") => return None,
            (path, "") => (&file, self.key_in_file(&file, path, WHAT)?),
            ("", name) => (&env, self.key_in_environment(&env, name)?),
            (_, _) => {
                self.diagnostics.error(&env, "is set, and so is braze_key_file; set one of them");
                return None;
            }
        };
        if let Some(reason) = api_key_fault(found.trim()) {
            self.diagnostics.error(key, format!("{source} {reason}"));
            return None;
        }
        // A text without a fault is a key.
        RestKey::new(&found).ok()
    }
}

impl ReconcileSettings {
    /// Notes the connections whose file can't be read: their sends must not be taken for those of another workspace.
    fn note_unread<'n>(&mut self, names: impl Iterator<Item = &'n String>) {
        // Others have no sends, and are not shown.
        let names = names.filter(|name| connection_name_fault(name).is_none());
        self.unread = names.map(|name| (**name).into()).collect();
        self.connections_apart.extend(self.unread.clone());
        self.connections_apart.sort_unstable();
    }

    /// Leaves out the connections whose file can't be read.
    fn refuse_unread(&mut self) {
        let reason = "the file of its connection can't be read, so that it is not known which workspace its sends are of";
        let names = self.unread.iter().cloned();
        let refused = |name| RefusedWorkspace { connection: Some(name), reason: reason.into() };
        self.refused.extend(names.map(refused));
    }

    fn refuse(&mut self, connection: Option<&str>, errors: &[Diagnostic]) {
        let reason = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        self.refused.push(RefusedWorkspace { connection: connection.map(Into::into), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{LEAST, PLANTED, assert_one, parse, parse_with};
    use super::*;
    use std::fs;
    use std::path::Path;

    const REST_KEY: &str = "5b1e7a90-1234-4cde-9abc-0123456789ab";

    fn read(text: &str) -> Config {
        let env = [("REST".to_owned(), REST_KEY.to_owned()), ("BAD".to_owned(), "two words".to_owned())];
        Config::parse(&format!("{text}{LEAST}"), Path::new("/nowhere/a.toml"), &env).unwrap().0
    }

    #[test]
    fn it_is_off_until_there_is_a_key_and_each_connection_may_have_its_own() {
        assert!(parse(LEAST).reconcile.is_off());
        let all = "[reconcile]\nbraze_url = \"https://rest.fra-01.braze.eu\"\ntime_zone = \"Europe/Paris\"\n";
        let config = read(&format!("{all}braze_key_env = \"REST\"\nat = \"03:30\"\ntolerance = \"0.5%\"\n"));
        let ReconcileSettings { days, tolerance, at, workspaces, .. } = config.reconcile;
        assert_eq!((days, tolerance, at.strftime("%H:%M").to_string()), (7, Tolerance(50), "03:30".into()));
        assert_eq!((workspaces.len(), &workspaces[0].connection), (1, &None));
        assert!(!format!("{workspaces:?}").contains(REST_KEY));
        assert_eq!(read(&format!("{all}braze_key_env = \"REST\"\nat = \"01:00\"\n")).reconcile.refused, []);
        let group = "app_group_id = \"emea\"\n[tags]\ninclude = [\"app_group_id\", \"campaign_id\"]\n";
        assert_eq!(read(&format!("{all}braze_key_env = \"REST\"\n{group}")).reconcile.refused, []);
        let own = "[connections.beta]\ndry_run = true\napp_group_ids = [\"b\"]\n[connections.beta.reconcile]\nbraze_key_env = \"REST\"\n";
        let config = read(&format!("{all}{own}"));
        let [beta] = &config.reconcile.workspaces[..] else { panic!("{:?}", config.reconcile) };
        assert_eq!((beta.connection.as_deref(), &*beta.time_zone), (Some("beta"), "Europe/Paris"));
        assert_eq!(&*beta.braze_url, "https://rest.fra-01.braze.eu");
        assert_eq!(config.reconcile.connections_apart, ["beta".into()]);
    }

    #[test]
    fn what_is_wrong_is_told_and_keeps_no_send_from_being_counted() {
        let url = "braze_url = \"https://rest.fra-01.braze.eu\"";
        let key = "braze_key_env = \"REST\"";
        for (keys, parts) in [
            (url.to_owned(), &["reconcile.braze_url: is set, and no REST API key is"][..]),
            (key.to_owned(), &["reconcile.braze_url: is missing"]),
            (
                format!("{url}\nbraze_key_file = \"./k\""),
                &["reconcile.braze_key_file: /nowhere/./k does not exist"],
            ),
            (format!("{url}\nbraze_key_env = \"NONE\""), &["reconcile.braze_key_env", "\"NONE\" is not set"]),
            (format!("{url}\nbraze_key_env = \"BAD\""), &["reconcile.braze_key_env", "white space"]),
            (
                format!("{url}\nbraze_key_env = \"{REST_KEY}\""),
                &["has to be the name of an environment variable"],
            ),
            (format!("{url}\n{key}\nbraze_key_file = \"k\""), &["is set, and so is braze_key_file"]),
            (
                format!("braze_url = \"https://u:hidden@rest.fra-01.braze.eu\"\n{key}"),
                &["reconcile.braze_url: is not the address"],
            ),
            (
                format!("braze_url = \"https://u:{PLANTED}@rest.braze.eu\"\n{key}"),
                &["reconcile.braze_url: has something in it that looks like a key"],
            ),
            (
                format!("{url}\n{key}\ntime_zone = \"Paris\""),
                &["reconcile.time_zone: \"Paris\" is no time zone"],
            ),
            (format!("{url}\n{key}\nat = \"4\""), &["reconcile.at: \"4\" is no time of day", "04:00"]),
            (format!("{url}\n{key}\nat = \"25:00\""), &["reconcile.at"]),
            (
                format!("{url}\n{key}\nat = \"00:59\""),
                &["reconcile.at: \"00:59\" is too early", "01:00 or later"],
            ),
            (
                format!("{url}\n{key}\napp_group_id = \"emea\"\n[tags]\ninclude = [\"campaign_id\"]"),
                &["reconcile.app_group_id: needs the tag app_group_id"],
            ),
            (format!("{url}\n{key}\ntolerance = \"1\""), &["reconcile.tolerance", "like 1%"]),
            (format!("{url}\n{key}\ndays = 101"), &["reconcile.days"]),
            (format!("{url}\n{key}\nday = 1"), &["reconcile.day: unknown key", "\"days\"?"]),
            (format!("{url}\n{key}\n[history]\ndirectory = \"\""), &["reconcile: needs the history"]),
        ] {
            let config = read(&format!("[reconcile]\n{keys}\n"));
            assert_eq!(config.connections.active.len(), 1, "{keys}");
            let [refused] = &config.reconcile.refused[..] else { panic!("{keys}: {:?}", config.reconcile) };
            assert!(config.reconcile.workspaces.is_empty() && refused.connection.is_none());
            assert_one(&refused.reason.lines().map(str::to_owned).collect::<Vec<_>>(), parts);
            let shown = format!("{:?}", super::super::redacted(&config, &config));
            assert!(
                !shown.contains(PLANTED)
                    && !refused.reason.contains(PLANTED)
                    && !refused.reason.contains(REST_KEY)
            );
            assert!(config.require_all().is_err(), "{keys}: check and --strict");
        }
    }

    #[test]
    fn what_is_wrong_for_one_connection_leaves_out_its_comparison_alone() {
        let text = "[reconcile]\nbraze_url = \"https://rest.fra-01.braze.eu\"\nbraze_key_env = \"REST\"\n\
                    [connections.beta]\ndry_run = true\napp_group_ids = [\"b\"]\n\
                    [connections.beta.reconcile]\nbraze_key_file = \"/nowhere/k\"\nbraze_urll = \"x\"\n";
        let config = read(text);
        assert_eq!(config.connections.active.len(), 2);
        assert_eq!((config.reconcile.workspaces.len(), config.reconcile.refused.len()), (1, 1));
        // Its sends are not taken for those of another workspace.
        assert_eq!(config.reconcile.connections_apart, ["beta".into()]);
        let reason = &config.reconcile.refused[0].reason;
        assert!(
            reason.contains("connections.beta.reconcile.braze_key_file: /nowhere/k does not exist"),
            "{reason}"
        );
        assert!(reason.contains("did you mean \"braze_url\"?"), "{reason}");
    }

    #[test]
    fn a_key_file_is_watched_and_should_be_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("braze.key");
        fs::write(&path, format!("{REST_KEY}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let text = format!(
            "[reconcile]\nbraze_url = \"https://rest.fra-01.braze.eu\"\nbraze_key_file = \"{}\"\n{LEAST}",
            path.display()
        );
        let (config, warnings) = parse_with(&text, &[]).unwrap();
        assert_one(&warnings, &["a REST API key of Braze and is open to every user"]);
        assert!(config.key_files().any(|file| file == path));
    }
}
