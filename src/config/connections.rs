//! The connections of a configuration: names, sites, keys, and who serves which app group.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Listing;

use super::check::Check;
use super::files;
use super::finding::{looks_like_key, looks_random, quoted};
use super::layers::Layer;
use super::shape::{Findings, join};
use super::written;
use crate::datadog::site::{Known, Site};
use crate::datadog::{ApiKey, Connection, heartbeat};
use crate::stats::UNROUTED;

/// How a Datadog API key is made: 32 hexadecimal digits. Another number of them is another thing.
const API_KEY_DIGITS: usize = 32;
/// An application key has more digits, and is what people most often take for the API key.
const APPLICATION_KEY_DIGITS: usize = 40;
/// Datadog's limit for the name of a metric.
const METRIC_CHARS_MAX: usize = 200;
/// The name is a label in metrics and logs.
const NAME_CHARS_MAX: usize = 100;

/// The key of a list that cross-checks need.
const APP_GROUP_IDS: &str = "app_group_ids";

impl Check<'_> {
    /// Checks each connection, and then that no two of them serve the same app group.
    pub(super) fn connections(&mut self, written: &BTreeMap<String, written::Connection>) -> Vec<Connection> {
        if written.is_empty() {
            let reason = "there is none; add a section [connections.NAME] with a site and an API key";
            self.findings.error("connections", reason);
        }
        let connections: Vec<_> =
            written.iter().map(|(name, connection)| self.connection(name, connection)).collect();
        self.one_server_each(&connections);
        connections
    }

    fn connection(&mut self, name: &str, written: &written::Connection) -> Connection {
        let key = join("connections", name);
        if let Some(reason) = wrong_name(name) {
            self.findings.error(&key, reason);
        }
        if let Some(reason) = wrong_metric(&written.metric) {
            self.findings.error(&join(&key, "metric"), format!("{} {reason}", quoted(&written.metric)));
        }
        let ids_key = join(&key, APP_GROUP_IDS);
        for id in &written.app_group_ids {
            if id.trim().is_empty() || id.trim() != id || id.chars().any(char::is_control) {
                let reason =
                    format!("{} is not an app group id (empty, or white space around it)", quoted(id));
                self.findings.error(&ids_key, reason);
            }
        }
        let app_group_ids = self.once(&ids_key, &written.app_group_ids);
        for id in written.app_group_names.keys() {
            if !written.app_group_ids.is_empty() && !written.app_group_ids.contains(id) {
                let reason = format!("names an app group that is not in {ids_key}, so that it is never used");
                self.findings.warn(&join(&join(&key, "app_group_names"), id), reason);
            }
        }
        let names = written.app_group_names.iter().map(|(id, name)| ((**id).into(), (**name).into()));
        Connection {
            name: name.into(),
            site: self.site(&key, written),
            api_key: self.api_key(&key, written),
            app_group_ids,
            app_group_names: names.collect(),
            metric: (*written.metric).into(),
            dry_run: written.dry_run,
            heartbeat: written.heartbeat,
        }
    }

    fn site(&mut self, section: &str, written: &written::Connection) -> Site {
        let (site_key, url_key) = (join(section, "site"), join(section, "url"));
        let site = match (&*written.site, &*written.url) {
            ("", "") if written.dry_run => Site::parse("US1").map(|(site, _)| site).ok(),
            ("", "") => {
                let reason =
                    "has no site; set site to where you log in to Datadog, for example \"EU1\" or \"US1\"";
                self.findings.error(section, reason);
                None
            }
            (site, "") => self.listed_site(&site_key, site),
            ("", url) => self.url_site(&url_key, url, written.allow_plain_http),
            (_, _) => {
                let origin = self.findings.origin(&site_key);
                let reason = format!("is set, and so is site ({origin}); set one of them");
                self.findings.error(&url_key, reason);
                None
            }
        };
        // Where there is none, there is an error, and the configuration is not used.
        site.unwrap_or(Site { name: "".into(), base_url: "".into() })
    }

    fn listed_site(&mut self, key: &str, text: &str) -> Option<Site> {
        // What stands before an @ is a password.
        let shown = if text.contains('@') { "what is written here".to_owned() } else { quoted(text) };
        if looks_like_key(text) {
            self.findings.error(key, "has to be a site, and this looks like an API key");
            return None;
        }
        match Site::parse(text) {
            Ok((site, Known::Listed)) => Some(site),
            Ok((site, Known::Subdomain)) => {
                let reason = format!("{shown} is taken for an organisation's own address on {}", site.name);
                self.findings.warn(key, reason);
                Some(site)
            }
            Ok((site, Known::Unlisted(nearest))) => {
                let near = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                let reason = format!(
                    "{:?} is not a Datadog site that is known here; points go to {}{near}",
                    site.name, site.base_url
                );
                self.findings.warn(key, reason);
                Some(site)
            }
            Err(error) => {
                self.findings.error(key, format!("{shown} {error}"));
                None
            }
        }
    }

    fn url_site(&mut self, key: &str, text: &str, allow_plain_http: bool) -> Option<Site> {
        if looks_like_key(text) {
            self.findings
                .error(key, "has something in it that looks like an API key; a URL is no place for one");
            return None;
        }
        let site = match Site::from_url(text) {
            Ok(site) => site,
            Err(error) => {
                self.findings.error(key, error.to_string());
                return None;
            }
        };
        match (site.is_in_the_clear(), allow_plain_http) {
            (true, false) => {
                let reason = "would send the API key unencrypted to another machine; write https://, or set \
                              allow_plain_http = true for this connection if everything in between is trusted";
                self.findings.error(key, reason);
            }
            (true, true) => self.findings.warn(key, "sends the API key unencrypted to another machine"),
            (false, _) => {}
        }
        Some(site)
    }

    /// The key from whichever of the three places it is in.
    fn api_key(&mut self, section: &str, written: &written::Connection) -> ApiKey {
        let places = [
            ("api_key_file", &*written.api_key_file),
            ("api_key_env", &*written.api_key_env),
            ("api_key", &*written.api_key.0),
        ];
        let given: Vec<_> = places.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let key = match given[..] {
            [] if written.dry_run => None,
            [] => {
                let reason =
                    "has no API key; set api_key_file (or api_key_env, or api_key), or dry_run = true";
                self.findings.error(section, reason);
                None
            }
            [(place, text)] => self.api_key_at(&join(section, place), place, text),
            [(first, _), (second, _), ..] => {
                let origin = self.findings.origin(&join(section, first)).to_owned();
                let reason = format!("is set, and so is {first} ({origin}); set one of them");
                self.findings.error(&join(section, second), reason);
                None
            }
        };
        // Where there is none, there is an error, or it is a dry run.
        ApiKey::new(&key.unwrap_or_default())
    }

    fn api_key_at(&mut self, key: &str, place: &str, text: &str) -> Option<String> {
        let (source, found) = match place {
            "api_key_file" => self.key_in_file(key, text)?,
            "api_key_env" => self.key_in_environment(key, text)?,
            _ => {
                self.warn_if_origin_open(key, "an API key");
                ("the key".to_owned(), text.to_owned())
            }
        };
        self.check_key(key, &source, found.trim());
        Some(found)
    }

    /// What to call the place of the key, and the key.
    fn key_in_file(&mut self, key: &str, text: &str) -> Option<(String, String)> {
        let path = self.path(key, text)?;
        self.warn_if_open(key, &path, "an API key");
        match files::read_secret(&path) {
            Ok(found) => Some((path.display().to_string(), found)),
            Err(error) => {
                self.unusable_secret(key, &path, &error);
                None
            }
        }
    }

    fn key_in_environment(&mut self, key: &str, text: &str) -> Option<(String, String)> {
        if looks_like_key(text) {
            let reason =
                "has to be the name of an environment variable, and this looks like an API key itself";
            self.findings.error(key, reason);
            return None;
        }
        let source = format!("the environment variable {}", quoted(text));
        let Some((_, found)) = self.env.iter().find(|(name, _)| name == text) else {
            self.findings.error(key, format!("{source} is not set"));
            return None;
        };
        Some((source, found.clone()))
    }

    /// What can be said about a key without saying the key.
    fn check_key(&mut self, key: &str, source: &str, found: &str) {
        let length = found.chars().count();
        if found.is_empty() {
            self.findings.error(key, format!("{source} is empty; an API key has to be in it"));
        } else if !found.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = format!(
                "{source} has white space, control characters or letters that no API key has, in the middle; it has \
                 to be the key and nothing else"
            );
            self.findings.error(key, reason);
        } else if length == APPLICATION_KEY_DIGITS && found.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason =
                format!("{source} looks like an application key (40 digits); points need an API key (32)");
            self.findings.warn(key, reason);
        } else if length != API_KEY_DIGITS || !found.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = format!(
                "{source} does not look like an API key of Datadog, which has {API_KEY_DIGITS} hexadecimal digits; \
                 this has {length} characters"
            );
            self.findings.warn(key, reason);
        }
    }

    /// An app group that two connections serve would be counted in one of them by chance.
    fn one_server_each(&mut self, connections: &[Connection]) {
        let mut servers: BTreeMap<&str, &str> = BTreeMap::new();
        let mut catch_all: Option<&str> = None;
        for connection in connections {
            let key = join(&join("connections", &connection.name), APP_GROUP_IDS);
            for id in &connection.app_group_ids {
                if let Some(server) = servers.insert(id, &connection.name) {
                    let reason = format!(
                        "{} is served by the connections {} and {}; an app group has one connection",
                        quoted(id),
                        quoted(server),
                        quoted(&connection.name)
                    );
                    self.findings.error(&key, reason);
                }
            }
            if !connection.app_group_ids.is_empty() {
                continue;
            }
            if let Some(other) = catch_all.replace(&connection.name) {
                let reason = format!(
                    "the connections {} and {} both serve every app group that no other connection names; list \
                     app_group_ids for one of them",
                    quoted(other),
                    quoted(&connection.name)
                );
                self.findings.error(&key, reason);
            }
        }
    }
}

/// Reads each `NAME.toml` of the connections directory as a layer.
pub(super) fn read_directory(
    findings: &mut Findings,
    directory: &Path,
    listing: &Listing,
    layers: &mut Vec<Layer>,
) {
    const KEY: &str = "connections_directory";
    if looks_like_key(&directory.to_string_lossy()) {
        return findings.error(KEY, "has to be a path, and this looks like an API key");
    }
    let paths = match files::entries(directory) {
        Ok(paths) => paths,
        Err(files::FileError::Missing) => {
            return findings
                .error(KEY, format!("{} does not exist; make it, or leave it out", directory.display()));
        }
        Err(error) => return findings.error(KEY, format!("{} {error}", directory.display())),
    };
    let above: Vec<String> = layers.iter().flat_map(Layer::connections).map(str::to_owned).collect();
    for path in paths {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Kubernetes keeps the versions of mounted files in hidden folders, and editors their own files.
        if file_name.starts_with('.') {
            continue;
        }
        let origin = path.display().to_string();
        let Some(name) = file_name.strip_suffix(".toml") else {
            findings.warn(KEY, format!("{origin} is ignored: its name does not end in .toml"));
            continue;
        };
        let key = join("connections", name);
        if above.iter().any(|above| above == name) {
            let file = findings.origin(&key).to_owned();
            findings.error_at(
                &origin,
                &key,
                format!("is in {file} too; a connection is configured in one place"),
            );
            continue;
        }
        match files::read_config(&path) {
            Ok(text) => layers.push(Layer::of_connection(findings, &text, &origin, listing, name)),
            Err(error) => findings.error_at(&origin, &key, error.to_string()),
        }
    }
}

fn wrong_name(name: &str) -> Option<String> {
    if looks_like_key(name) {
        return Some("looks like an API key; the name of a connection is shown everywhere".to_owned());
    }
    if name == UNROUTED {
        return Some("is a reserved name: sends that no connection serves are booked under it".to_owned());
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
    } else if metric == heartbeat::METRIC {
        Some("is the heartbeat's metric: the heartbeats would be counted as sends")
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
    use super::super::Config;
    use super::super::tests::{LEAST, PLANTED, assert_one, errors, parse, parse_with, warnings};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

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
            ("[connections]\nsite = \"EU1\"", &["connections.site", "[connections.NAME]"]),
            (&acme("dry_run = true\nmetric = \"1x\""), &["connections.acme.metric", "begins with a letter"]),
            (&acme("dry_run = true\nmetric = \"\""), &["connections.acme.metric", "begins with a letter"]),
            (
                &acme("dry_run = true\nmetric = \"braze.forwarder.heartbeat\""),
                &["connections.acme.metric", "heartbeat"],
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
            (&acme("dry_run = \"yes\""), &["connections.acme.dry_run", "true or false"]),
        ] {
            let findings = errors(text);
            let found =
                findings.iter().filter(|finding| parts.iter().all(|part| finding.contains(part))).count();
            assert_eq!(found, 1, "{parts:?}: {findings:?}");
        }
        assert_one(&errors(""), &["/nowhere/a.toml: connections: there is none", "[connections.NAME]"]);
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
        assert_eq!(parse(&text).connections[0].app_group_ids, ["x".into()]);
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
            assert_eq!(&*config.connections[0].site.base_url, base_url);
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

    #[test]
    fn a_key_comes_from_one_place() {
        for (keys, parts) in [
            ("", &["connections.acme: has no API key", "api_key_file", "dry_run = true"][..]),
            ("api_key_env = \"NOT_SET\"", &["connections.acme.api_key_env", "\"NOT_SET\" is not set"]),
            ("api_key_file = \"./k\"", &["connections.acme.api_key_file: /nowhere/./k does not exist"]),
            (
                "api_key_file = \"k\"\napi_key_env = \"E\"",
                &["connections.acme.api_key_env: is set, and so is api_key_file (/nowhere/a.toml)"],
            ),
            ("api_key = \"a b\"", &["connections.acme.api_key", "white space"]),
            ("api_key = \"a\\u0001b\"", &["connections.acme.api_key", "control characters"]),
            ("api_key = \"clé\"", &["connections.acme.api_key"]),
            ("api_key = \"  \"", &["connections.acme.api_key", "is empty"]),
        ] {
            assert_one(&errors(&acme(&format!("site = \"EU1\"\n{keys}"))), parts);
        }
        let text = acme("site = \"EU1\"\napi_key_env = \"KEY\"");
        let (config, warnings) = parse_with(&text, &[("KEY", &format!(" {PLANTED}\n"))]).unwrap();
        assert_eq!(config.connections[0].api_key.expose(), PLANTED);
        assert_eq!(warnings, Vec::<String>::new());
        let both = [("BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY", PLANTED), ("KEY", PLANTED)];
        let findings = parse_with(&text, &both).unwrap_err();
        assert_one(
            &findings,
            &["environment variable BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY", "so is api_key_env"],
        );
    }

    #[test]
    fn a_key_that_looks_wrong_is_a_warning_that_does_not_show_it() {
        let application_key = format!("{PLANTED}01234567");
        for (key, part) in [("planted-key", "this has 11 characters"), (&*application_key, "application key")]
        {
            let findings = warnings(&acme(&format!("site = \"EU1\"\napi_key = \"{key}\"")));
            assert_one(&findings, &["connections.acme.api_key", part]);
            assert!(!findings[0].contains(key), "{findings:?}");
        }
    }

    #[test]
    fn key_files_are_read_and_their_mode_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.key");
        let text = acme("site = \"EU1\"\napi_key_file = \"acme.key\"");
        let load = || Config::parse(&text, &folder.path().join("a.toml"), &[]);

        fs::write(&path, format!("{PLANTED}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let (config, warnings) = load().unwrap();
        assert_eq!(config.connections[0].api_key.expose(), PLANTED);
        assert_eq!(warnings, []);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (_, warnings) = load().unwrap();
        assert!(warnings[0].reason.contains("open to every user"), "{warnings:?}");
        assert_eq!(warnings[0].key, "connections.acme.api_key_file");

        let long = vec![b'a'; 70_000];
        for (content, part) in [
            (&b" \n"[..], "is empty"),
            (b"one\ntwo\n", "white space"),
            (b"\xff\xfe", "is not UTF-8"),
            (&long, "probably another file"),
        ] {
            fs::write(&path, content).unwrap();
            let error = load().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("acme.key"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(load().unwrap_err().to_string().contains("is not a file"));
    }

    #[test]
    fn a_key_in_a_file_that_everybody_can_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, acme(&format!("site = \"EU1\"\napi_key = \"{PLANTED}\""))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let (_, warnings) = Config::load(&path).unwrap();
        assert!(warnings[0].reason.contains("open to every user"), "{warnings:?}");
    }

    fn directory(files: &[(&str, &str)], text: &str) -> Result<(Config, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("d").join(name), text).unwrap();
        }
        let text = format!("connections_directory = \"d\"\n{text}");
        let env = [("BRAZE_DATADOG__CONNECTIONS__B__METRIC".to_owned(), "from.env".to_owned())];
        let env = if files.iter().any(|(name, _)| *name == "b.toml") { &env[..] } else { &[] };
        Config::parse(&text, &folder.path().join("a.toml"), env)
            .map(|(config, warnings)| (config, warnings.iter().map(ToString::to_string).collect()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_file_of_the_directory_is_a_connection() {
        let files = [
            ("b.toml", "dry_run = true\napp_group_ids = [\"b\"]\nmetric = \"from.file\""),
            ("a.toml", "dry_run = true\n[app_group_names]\n\"A.b\" = \"x\""),
            (".a.toml.swp", "nonsense"),
            ("README", "nonsense"),
        ];
        let (config, warnings) =
            directory(&files, "[connections.main]\ndry_run = true\napp_group_ids = [\"m\"]").unwrap();
        let names: Vec<_> = config.connections.iter().map(|connection| &*connection.name).collect();
        assert_eq!(names, ["a", "b", "main"]);
        assert_eq!(&*config.connections[1].metric, "from.env");
        assert_eq!(config.connections[0].app_group_names.len(), 1);
        assert_one(&warnings, &["connections_directory", "README is ignored"]);
        assert!(config.connections_directory.unwrap().ends_with(Path::new("d")));
    }

    #[test]
    fn the_environment_can_name_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.toml"), "dry_run = true\napp_group_ids = [\"x\"]").unwrap();
        let env = [("BRAZE_DATADOG__CONNECTIONS_DIRECTORY".to_owned(), folder.path().display().to_string())];
        let text = format!("connections_directory = \"/nowhere/d\"\n{LEAST}");
        let (config, _) = Config::parse(&text, Path::new("/nowhere/a.toml"), &env).unwrap();
        assert_eq!(config.connections.len(), 2);
        assert_eq!(config.connections_directory.as_deref(), Some(folder.path()));
    }

    #[test]
    fn the_files_of_the_directory_are_checked_like_sections() {
        for (name, text, parts) in [
            ("acme.toml", "dry_run = true", &["d/acme.toml: connections.acme: is in ", "a.toml too"][..]),
            ("x.toml", "dry_run = true\nsiet = \"EU1\"", &["d/x.toml: connections.x.siet", "\"site\"?"]),
            ("x.toml", "dry_run = ", &["d/x.toml: connections.x: is not valid TOML at line 1"]),
            (
                "x.toml",
                "[connections.x]\ndry_run = true",
                &["d/x.toml: connections.x.connections", "without"],
            ),
            ("X.toml", "dry_run = true\napp_group_ids=[\"x\"]", &["d/X.toml: connections.X", "lower-case"]),
            ("x.toml", "site = \"EU1\"\napp_group_ids=[\"x\"]", &["d/x.toml: connections.x: has no API key"]),
            ("x.toml", "dry_run = true", &["d/x.toml: connections.x.app_group_ids", "\"acme\"", "\"x\""]),
        ] {
            let error = directory(&[(name, text)], LEAST).unwrap_err();
            let found = error.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            assert!(found, "{parts:?} are not in {error}");
        }
        assert!(directory(&[], "").unwrap_err().contains("connections: there is none"));
    }
}
