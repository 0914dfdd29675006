//! The connections of a configuration: names, sites, keys, and app groups.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Check;
use super::claims::Wrong;
use super::diagnostic::{Diagnostic, is_within, looks_like_key, looks_random, quoted};
use super::directory::{Unread, is_possible};
use super::reconcile::RECONCILE;
use super::schema::join;
use super::settings;
use crate::connection::{Connection, ConnectionSet, RefusedConnection};
use crate::forwarder_points;
use braze_events::app_group::{self, IdFault};
use datadog_points::site::{Known, Site};
use event_lanes::stats::{OTHERS, UNROUTED};

/// Datadog's limit for the name of a metric.
const METRIC_CHARS_MAX: usize = 200;
/// The limit for a connection's name, a label in metrics and logs.
const NAME_CHARS_MAX: usize = 100;

/// The key of the directory with more connections.
pub(super) const DIRECTORY: &str = "connections_directory";
/// The name under which sends of connections with an invalid name are booked.
const MISNAMED: &str = "_misnamed";

/// The key of a list that cross-checks need.
pub(super) const APP_GROUP_IDS: &str = "app_group_ids";

impl Check<'_> {
    /// Checks each connection, and then that no two of them serve the same app group. Also returns the diagnostics of
    /// refused ones.
    pub(super) fn connections(
        &mut self,
        raw: &BTreeMap<String, settings::ConnectionSection>,
        unread: &Unread,
    ) -> (ConnectionSet, Vec<Diagnostic>) {
        if raw.is_empty() && !self.purpose.is_to_edit && !self.diagnostics.is_spoilt(DIRECTORY) {
            let reason = "there is none; add a section [connections.NAME] with a site and an API key, or, with \
                          connections_directory, one by `braze-datadog connections add`";
            self.diagnostics.missing("connections", "connections", reason);
        }
        let connections: Vec<_> =
            raw.iter().map(|(name, connection)| self.connection(name, connection)).collect();
        let names: BTreeSet<_> = raw.keys().chain(unread.keys()).collect();
        let mut wrong_ones = Wrong::new();
        for name in &names {
            let errors = self.errors_of(name);
            if !errors.is_empty() {
                let wanted = self.wanted(name, &errors, raw.get(*name), unread.get(*name));
                wrong_ones.insert((*name).clone(), wanted);
            }
        }
        let contested = self.one_server_each(&connections, &wrong_ones);
        let mut set = ConnectionSet { active: connections, refused: Vec::new() };
        let (mut wrong, mut told) = (Vec::new(), BTreeSet::new());
        for name in names {
            let errors = self.errors_of(name);
            // Names that are not shown have one key, and their errors.
            if told.insert(join("connections", name)) {
                wrong.extend(errors.clone());
            }
            let diagnostics: Vec<_> = errors.into_iter().chain(contested.get(&**name).cloned()).collect();
            if diagnostics.is_empty() {
                continue;
            }
            set.active.retain(|connection| *connection.name != **name);
            let app_group_ids = match wrong_ones.get(name) {
                Some(wanted) => wanted.clone(),
                None => raw.get(name).map(|raw| raw.app_group_ids.clone()),
            };
            let listed = raw.get(name).filter(|_| app_group_ids.is_none());
            let listed = listed.map(|raw| possible(&raw.app_group_ids)).unwrap_or_default();
            set.refuse(&shown_name(name), app_group_ids, listed, &diagnostics);
        }
        (set, wrong)
    }

    /// The app groups that a wrong connection is meant to serve. `None`: they are not known, or not all of them. Where it lists
    /// none, the mistake may be what hides them.
    fn wanted(
        &self,
        name: &str,
        errors: &[Diagnostic],
        raw: Option<&settings::ConnectionSection>,
        unread: Option<&Option<Vec<String>>>,
    ) -> Option<Vec<String>> {
        // An id that is none, or a list in a wrong place.
        let is_of_list = |error: &Diagnostic| error.key.rsplit('.').next() == Some(APP_GROUP_IDS);
        if errors.iter().any(is_of_list) {
            return None;
        }
        match unread {
            Some(recovered) => recovered.clone(),
            None if self.diagnostics.is_spoilt(&app_groups_of(name)) => None,
            None => raw.map(|raw| raw.app_group_ids.clone()).filter(|ids| !ids.is_empty()),
        }
    }

    /// The diagnostics of one connection.
    fn errors_of(&self, name: &str) -> Vec<Diagnostic> {
        let key = join("connections", name);
        let (reconcile, errors) = (join(&key, RECONCILE), self.diagnostics.errors().iter());
        // Its diagnostics that affect no send.
        let is_its = |error: &&Diagnostic| is_within(&error.key, &key) && !is_within(&error.key, &reconcile);
        errors.filter(is_its).cloned().collect()
    }

    fn connection(&mut self, name: &str, raw: &settings::ConnectionSection) -> Connection {
        let key = join("connections", name);
        if let Some(reason) = connection_name_fault(name) {
            self.diagnostics.error(&key, reason);
        }
        if let Some(reason) = wrong_metric(&raw.metric) {
            self.diagnostics.refuse(&join(&key, "metric"), &raw.metric, reason);
        }
        let ids_key = join(&key, APP_GROUP_IDS);
        let app_group_ids = self.app_group_ids(&ids_key, &raw.app_group_ids);
        self.app_group_names(&join(&key, "app_group_names"), &ids_key, raw);
        let names = raw.app_group_names.iter().map(|(id, name)| ((**id).into(), (**name).into()));
        Connection {
            name: name.into(),
            site: self.site(&key, raw),
            api_key: self.api_key(&key, raw),
            app_group_ids,
            app_group_names: names.collect(),
            metric: (*raw.metric).into(),
            dry_run: raw.dry_run,
            heartbeat: raw.heartbeat,
            forwarder_metrics: false,
            campaign_last_send_age: false,
        }
    }

    /// Removes repeated app groups.
    fn app_group_ids(&mut self, key: &str, raw: &[String]) -> Vec<Box<str>> {
        let mut seen: BTreeMap<Box<str>, &str> = BTreeMap::new();
        let mut once = Vec::new();
        for id in raw {
            self.app_group_id(key, id);
            match seen.insert(app_group::canonical(id), id) {
                None => once.push((**id).into()),
                Some(other) if other == id => {
                    self.diagnostics.doubt(key, id, "is listed more than once");
                }
                Some(other) => {
                    let reason = format!("{} and {} are the same app group", quoted(other), quoted(id));
                    self.diagnostics.warn(key, reason);
                }
            }
        }
        once
    }

    fn app_group_names(&mut self, section: &str, ids_key: &str, raw: &settings::ConnectionSection) {
        let served: BTreeSet<_> = raw.app_group_ids.iter().map(|id| app_group::canonical(id)).collect();
        let mut seen: BTreeMap<Box<str>, &str> = BTreeMap::new();
        for id in raw.app_group_names.keys() {
            let key = join(section, id);
            self.app_group_id(&key, id);
            let canonical = app_group::canonical(id);
            if !served.is_empty() && !served.contains(&canonical) && !self.diagnostics.is_spoilt(ids_key) {
                let reason = format!("names an app group that is not in {ids_key}, so that it is never used");
                self.diagnostics.warn(&key, reason);
            }
            if let Some(other) = seen.insert(canonical, id) {
                let reason =
                    format!("names the same app group as {}; leave one of them out", join(section, other));
                self.diagnostics.error(&key, reason);
            }
        }
    }

    pub(super) fn app_group_id(&mut self, key: &str, id: &str) {
        match app_group::fault(id) {
            Some(IdFault::Impossible(reason)) => self.diagnostics.refuse(key, id, reason),
            Some(IdFault::Doubtful(reason)) => self.diagnostics.doubt(key, id, reason),
            None => {}
        }
    }

    fn site(&mut self, section: &str, raw: &settings::ConnectionSection) -> Site {
        let (site_key, url_key) = (join(section, "site"), join(section, "url"));
        let site = match (&*raw.site, &*raw.url) {
            ("", "") if raw.dry_run => Site::parse("US1").map(|(site, _)| site).ok(),
            ("", "") => {
                let reason =
                    "has no site; set site to where you log in to Datadog, for example \"EU1\" or \"US1\"";
                if ![&url_key, &join(section, "dry_run")].iter().any(|key| self.diagnostics.is_spoilt(key)) {
                    self.diagnostics.missing(&site_key, section, reason);
                }
                None
            }
            (site, "") => self.listed_site(&site_key, site),
            ("", url) => self.url_site(&url_key, url, raw.allow_plain_http),
            (_, _) => {
                let origin = self.diagnostics.origin(&site_key);
                let reason = format!("is set, and so is site ({origin}); set one of them");
                self.diagnostics.error(&url_key, reason);
                None
            }
        };
        // Without one there is an error, and the configuration is not used.
        site.unwrap_or(Site { name: "".into(), base_url: "".into() })
    }

    fn listed_site(&mut self, key: &str, text: &str) -> Option<Site> {
        // Text before an @ is a password.
        let shown = if text.contains('@') { "what is written here".to_owned() } else { quoted(text) };
        if looks_like_key(text) {
            self.diagnostics.error(key, "has to be a site, and this looks like an API key");
            return None;
        }
        match Site::parse(text) {
            Ok((site, Known::Listed)) => Some(site),
            Ok((site, Known::Subdomain)) => {
                let reason = format!("{shown} is taken for an organisation's own address on {}", site.name);
                self.diagnostics.warn(key, reason);
                Some(site)
            }
            Ok((site, Known::Unlisted(nearest))) => {
                let near = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                let reason = format!(
                    "{:?} is not a Datadog site that is known here; points go to {}{near}",
                    site.name, site.base_url
                );
                self.diagnostics.warn(key, reason);
                Some(site)
            }
            Err(error) => {
                self.diagnostics.error(key, format!("{shown} {error}"));
                None
            }
        }
    }

    fn url_site(&mut self, key: &str, text: &str, allow_plain_http: bool) -> Option<Site> {
        if looks_like_key(text) {
            self.diagnostics
                .error(key, "has something in it that looks like an API key; a URL is no place for one");
            return None;
        }
        let site = match Site::from_url(text) {
            Ok(site) => site,
            Err(error) => {
                self.diagnostics.error(key, error.to_string());
                return None;
            }
        };
        match (site.is_in_the_clear(), allow_plain_http) {
            (true, false) => {
                let reason = "would send the API key unencrypted to another machine; write https://, or set \
                              allow_plain_http = true for this connection if everything in between is trusted";
                self.diagnostics.error(key, reason);
            }
            (true, true) => self.diagnostics.warn(key, "sends the API key unencrypted to another machine"),
            (false, _) => {}
        }
        Some(site)
    }
}

pub(super) fn app_groups_of(name: &str) -> String {
    join(&join("connections", name), APP_GROUP_IDS)
}

/// The ids of app groups in a list, without what stands around them.
fn possible(ids: &[String]) -> Vec<Box<str>> {
    let is_around =
        |letter: char| letter.is_whitespace() || app_group::is_quote(letter) || "{}()[]<>,".contains(letter);
    let parts = ids.iter().flat_map(|id| id.split(is_around));
    parts.filter(|id| is_possible(id)).map(Into::into).collect()
}

/// The name under which a refused connection is booked: its own, if valid.
fn shown_name(name: &str) -> Box<str> {
    if connection_name_fault(name).is_some() { MISNAMED.into() } else { name.into() }
}

impl ConnectionSet {
    /// Adds a refused connection; those without a valid name share one.
    fn refuse(
        &mut self,
        name: &str,
        app_group_ids: Option<Vec<String>>,
        listed: Vec<Box<str>>,
        diagnostics: &[Diagnostic],
    ) {
        let ids = app_group_ids.map(|ids| ids.into_iter().map(String::into_boxed_str).collect::<Vec<_>>());
        let reason = diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        match self.refused.iter_mut().find(|known| *known.name == *name) {
            Some(known) => {
                known.app_group_ids =
                    known.app_group_ids.take().zip(ids).map(|(known, ids)| [known, ids].concat());
                known.reason = format!("{}\n{reason}", known.reason);
            }
            None => self.refused.push(RefusedConnection {
                name: name.into(),
                app_group_ids: ids,
                listed,
                reason,
                keeps_old: false,
            }),
        }
    }
}

/// Why this can't be the name of a connection; it completes a sentence.
pub fn connection_name_fault(name: &str) -> Option<String> {
    if looks_like_key(name) {
        return Some("looks like an API key; the name of a connection is shown everywhere".to_owned());
    }
    if name == UNROUTED {
        return Some("is a reserved name: sends that no connection serves are booked under it".to_owned());
    }
    if name == OTHERS {
        return Some("is a reserved name: the forwarder's own metrics add up the rest under it".to_owned());
    }
    if name == MISNAMED {
        let reason = "is a reserved name: connections whose name can't be one are told under it";
        return Some(reason.to_owned());
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(fits) {
        let reason =
            "can't be the name of a connection, which is lower-case letters, digits and _, at most 100";
        return Some(reason.to_owned());
    }
    None
}

fn wrong_metric(metric: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    if looks_like_key(metric) || looks_random(metric) {
        Some("has something in it that looks like an API key or a token")
    } else if metric.len() > METRIC_CHARS_MAX {
        Some("is longer than the 200 characters that a metric's name can have")
    } else if metric.starts_with(forwarder_points::PREFIX) {
        Some("is one of the forwarder's own metrics: heartbeats and the like would be counted as sends")
    } else if !metric.starts_with(|first: char| first.is_ascii_alphabetic()) {
        Some(
            "can't be the name of a metric, which begins with a letter, for example \"braze.messaging.sent\"",
        )
    } else if !metric.bytes().all(fits) {
        Some("can't be the name of a metric, which has letters, digits, `_` and `.` only")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, PLANTED, assert_one, errors, parse, parse_with, warnings};

    fn acme(keys: &str) -> String {
        format!("[connections.acme]\n{keys}\n")
    }

    #[test]
    fn names_metrics_and_ids_follow_their_patterns() {
        let long_metric = format!("metric = \"{}\"", "m".repeat(201));
        for (text, parts) in [
            ("[connections.Acme]\ndry_run = true", &["connections.Acme: ", "lower-case letters"][..]),
            ("[connections.\"a.b\"]\ndry_run = true", &["connections.\"a.b\": ", "lower-case letters"]),
            ("[connections.\"\"]\ndry_run = true", &["connections.\"\": "]),
            ("[connections._unrouted]\ndry_run = true", &["connections._unrouted", "reserved"]),
            ("[connections._others]\ndry_run = true", &["connections._others", "reserved"]),
            ("[connections._misnamed]\ndry_run = true", &["connections._misnamed", "reserved"]),
            ("[connections]\nsite = \"EU1\"", &["connections.site", "[connections.NAME]"]),
            (&acme("dry_run = true\nmetric = \"1x\""), &["connections.acme.metric", "begins with a letter"]),
            (&acme("dry_run = true\nmetric = \"\""), &["connections.acme.metric", "begins with a letter"]),
            (
                &acme("dry_run = true\nmetric = \"braze.forwarder.heartbeat\""),
                &["connections.acme.metric", "forwarder's own metrics"],
            ),
            (&acme("dry_run = true\nmetric = \"a-b\""), &["connections.acme.metric", "`_` and `.` only"]),
            (&acme(&format!("dry_run = true\n{long_metric}")), &["connections.acme.metric", "200"]),
            (
                &acme("dry_run = true\napp_group_ids = [\" a\"]"),
                &["connections.acme.app_group_ids", "white space"],
            ),
            (&acme("dry_run = true\nsiet = \"EU1\""), &["connections.acme.siet: unknown key", "\"site\"?"]),
            (
                &acme("dry_run = true\napi-key = \"x\""),
                &["connections.acme.api-key: unknown key", "\"api_key\"?"],
            ),
        ] {
            let diagnostics = errors(text);
            let found = diagnostics
                .iter()
                .filter(|diagnostic| parts.iter().all(|part| diagnostic.contains(part)))
                .count();
            assert_eq!(found, 1, "{parts:?}: {diagnostics:?}");
        }
        assert_one(&errors(""), &["/nowhere/a.toml: connections: there is none", "[connections.NAME]"]);
        // It is no fault of its own that there is neither site nor key then.
        let dotted = "[connections.acme.eu]\nsite = \"EU1\"\napi_key = \"x\"";
        assert_one(&errors(dotted), &["connections.acme.eu: unknown key", "no dot: [connections.acme_eu]"]);
        assert_one(&errors(&acme("dry_run = \"yes\"")), &["connections.acme.dry_run", "true or false"]);
    }

    #[test]
    fn an_app_group_has_one_connection() {
        let text = "[connections.a]\ndry_run = true\napp_group_ids = [\"x\", \"y\"]\n\
                    [connections.b]\ndry_run = true\napp_group_ids = [\"y\"]\n";
        assert_one(&errors(text), &["connections.b.app_group_ids", "\"y\"", "\"a\"", "\"b\""]);
        let text = "[connections.a]\ndry_run = true\n[connections.b]\ndry_run = true\n";
        assert_one(&errors(text), &["connections.b.app_group_ids", "\"a\"", "\"b\"", "list app_group_ids"]);
        let text = format!("{LEAST}app_group_ids = [\"x\", \"x\"]\n[connections.b]\ndry_run = true");
        assert_one(&warnings(&text), &["connections.acme.app_group_ids", "more than once"]);
        assert_eq!(parse(&text).connections.active[0].app_group_ids, ["x".into()]);
    }

    #[test]
    fn the_case_of_a_uuid_makes_no_app_group_of_its_own() {
        let (small, capitals) =
            ("5f3e8f0a-1234-4cde-9abc-0123456789ab", "5F3E8F0A-1234-4CDE-9ABC-0123456789AB");
        let text = format!(
            "[connections.a]\ndry_run = true\napp_group_ids = [\"{small}\"]\n\
             [connections.b]\ndry_run = true\napp_group_ids = [\"{capitals}\"]\n"
        );
        assert_one(&errors(&text), &["connections.b.app_group_ids", small, capitals, "\"a\" and \"b\""]);
        assert_eq!(errors(&text.replace(small, "g-a").replace(capitals, "G-A")), Vec::<String>::new());

        let text = format!("{LEAST}app_group_ids = [\"{small}\", \"{capitals}\"]");
        assert_one(
            &warnings(&text),
            &["connections.acme.app_group_ids", small, capitals, "the same app group"],
        );
        assert_eq!(parse(&text).connections.active[0].app_group_ids, [small.into()]);

        let names = format!("{LEAST}app_group_ids = [\"{small}\"]\n[connections.acme.app_group_names]\n");
        assert_eq!(warnings(&format!("{names}{capitals} = \"A\"")), Vec::<String>::new());
        let both = format!("{names}{capitals} = \"A\"\n{small} = \"B\"");
        assert_one(
            &errors(&both),
            &[&format!("connections.acme.app_group_names.{small}"), capitals, "leave one"],
        );
    }

    #[test]
    fn an_id_with_something_around_it_is_told() {
        const ID: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
        for (id, part) in [
            (format!("{{{ID}}}"), "stands in brackets"),
            (format!("'{ID}'"), "quotation marks"),
            (format!("{ID}\u{200b}"), "can't be seen"),
            (format!("{ID} "), "white space"),
            (format!("{ID}, x"), "white space"),
        ] {
            let ids = format!("{LEAST}app_group_ids = [\"{id}\"]");
            assert_one(&errors(&ids), &["connections.acme.app_group_ids: \"", part]);
            let names = format!("{LEAST}[connections.acme.app_group_names]\n\"{id}\" = \"x\"");
            assert_one(&errors(&names), &["connections.acme.app_group_names.", part]);
        }
        let text = format!("{LEAST}app_group_ids = [\"{}\"]", ID.replace('-', ""));
        assert_one(&warnings(&text), &["connections.acme.app_group_ids", "not its dashes (8-4-4-4-12)"]);
    }

    #[test]
    fn a_fault_is_told_once_and_not_by_what_it_leaves_behind() {
        let key = format!("api_key = \"{PLANTED}\"");
        for (text, part) in [
            ("[connections.acme]\napi_key = ".to_owned(), "is not valid TOML"),
            ("[conections.acme]\nsite = \"EU1\"".to_owned(), "\"connections\"?"),
            ("[connections]\nacme = 1".to_owned(), "a connection's section"),
            ("connections_directory = \"d\"".to_owned(), "does not exist"),
            ("connections_directory = 3".to_owned(), "a string"),
            (acme(&format!("siet = \"EU1\"\n{key}")), "\"site\"?"),
            (acme(&format!("site = 1\n{key}")), "a string"),
            (acme(&format!("url = 1\n{key}")), "a string"),
            (acme("site = \"EU1\"\napi_key_fil = \"k\""), "\"api_key_file\"?"),
            (acme("site = \"EU1\"\napi_key = 1"), "a string"),
            (format!("api_key_file = \"k\"\n{}", acme("site = \"EU1\"")), "it belongs into"),
            (format!("{LEAST}app_group_ids = \"x\"\n[connections.b]\ndry_run = true"), "a list of strings"),
            (format!("{LEAST}[push]\nlisten = \"0.0.0.0:1\"\ntoken-file = \"t\""), "\"token_file\"?"),
            (format!("{LEAST}[push]\ntls_certificate = \"/proc/version\"\ntls_key = 1"), "a string"),
        ] {
            assert_one(&errors(&text), &[part]);
        }
        let env = [("BRAZE_DATADOG__CONNECTIONS__ACME__SIET", "EU1")];
        let diagnostics = parse_with(&acme(&key), &env).unwrap_err();
        assert_one(&diagnostics, &["BRAZE_DATADOG__CONNECTIONS__ACME__SITE\"?"]);
        // Two faults are two diagnostics.
        assert_eq!(errors("[flsh]\ninterval = \"1s\"").len(), 2);
        assert_eq!(errors(&acme("siet = \"EU1\"")).len(), 2);
    }

    #[test]
    fn a_name_for_an_app_group_that_is_not_served_is_a_warning() {
        let text = format!(
            "{LEAST}app_group_ids = [\"x\"]\n[connections.acme.app_group_names]\ny = \"Y\"\nx = \"X\""
        );
        assert_one(&warnings(&text), &["connections.acme.app_group_names.y", "never used"]);
    }

    #[test]
    fn a_site_or_a_url_says_where_points_go() {
        for (keys, base_url) in [
            ("site = \"us3\"", "https://api.us3.datadoghq.com"),
            ("site = \"https://app.datadoghq.eu/x\"", "https://api.datadoghq.eu"),
            ("url = \"https://proxy.example:8443/dd/\"", "https://proxy.example:8443/dd"),
            ("url = \"http://127.0.0.1:9\"", "http://127.0.0.1:9"),
            ("url = \"http://proxy.example\"\nallow_plain_http = true", "http://proxy.example"),
            ("", "https://api.datadoghq.com"),
        ] {
            let config = parse(&acme(&format!("dry_run = true\n{keys}")));
            assert_eq!(&*config.connections.active[0].site.base_url, base_url);
        }
    }

    #[test]
    fn a_site_that_is_wrong_or_odd_is_told() {
        for (keys, parts) in [
            (
                "site = \"EU2\"",
                &["connections.acme.site: \"EU2\" is not a Datadog site", "did you mean EU1?"][..],
            ),
            (
                "site = \"EU1\"\nurl = \"http://127.0.0.1\"",
                &["connections.acme.url", "so is site (/nowhere/a.toml)"],
            ),
            ("url = \"127.0.0.1:9\"", &["connections.acme.url", "has to begin with https://"]),
            (
                "url = \"http://proxy.example\"",
                &["connections.acme.url", "unencrypted", "allow_plain_http = true"],
            ),
        ] {
            assert_one(&errors(&acme(&format!("dry_run = true\n{keys}"))), parts);
        }
        let key = format!("api_key = \"{PLANTED}\"");
        assert_one(&errors(&acme(&key)), &["/nowhere/a.toml: connections.acme: has no site", "\"EU1\""]);
        for (keys, parts) in [
            (
                "site = \"us9.datadoghq.com\"",
                &["connections.acme.site", "us9.datadoghq.com", "did you mean US"][..],
            ),
            ("site = \"acme.datadoghq.eu\"", &["connections.acme.site", "EU1"]),
            (
                "url = \"http://proxy.example\"\nallow_plain_http = true",
                &["connections.acme.url", "unencrypted"],
            ),
        ] {
            assert_one(&warnings(&acme(&format!("{key}\n{keys}"))), parts);
        }
    }
}
