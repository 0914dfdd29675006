//! Options that are handed to librdkafka or to a store as they are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::check::Check;
use super::schema::join;
use super::sources::{OPTIONS, STORAGE_OPTIONS};
use super::values::SecretText;

/// The suffix of an option's name whose value is the path of a file with the option's value.
const FILE_SUFFIX: &str = ".file";

/// Parts of the names of librdkafka's options whose values are secrets.
const SECRET_WORDS: [&str; 5] = ["password", "passphrase", "secret", "key.pem", "oauthbearer.config"];

/// In the place of a path librdkafka looks for the system's certificates by itself.
const PROBE: &str = "probe";

/// Parts of the names of a store's options whose values are secrets.
const STORAGE_SECRETS: [&str; 8] = [
    "secret",
    "token",
    "access_key",
    "account_key",
    "master_key",
    "service_account_key",
    "customer_key",
    "sas",
];

/// Ends of names whose values are none, whatever is said before: paths, and ids such as `access_key_id`.
const OPEN_ENDS: [&str; 5] = ["_id", "_file", ".file", "_location", ".location"];

/// Options of librdkafka whose value is the path of a private key.
const KEY_FILES: [&str; 3] = ["ssl.key.location", "ssl.keystore.location", "sasl.kerberos.keytab"];

/// Options of librdkafka that have keys of their own, or that would break a promise.
const RESERVED_OPTIONS: [(&str, &str); 6] = [
    ("bootstrap.servers", "write it as queue.kafka.brokers"),
    ("metadata.broker.list", "write it as queue.kafka.brokers"),
    ("group.id", "write it as queue.kafka.group_id"),
    ("enable.auto.commit", "leave it out: offsets are committed once sends have their outcome"),
    ("enable.auto.offset.store", "leave it out: offsets are committed once sends have their outcome"),
    ("enable.partition.eof", "leave it out: where a partition ends is read from its statistics"),
];

/// The option of librdkafka for the interval of its statistics, and its range in milliseconds.
const STATISTICS_OPTION: &str = "statistics.interval.ms";
const STATISTICS_MILLISECONDS: RangeInclusive<u64> = 1..=10_000;

impl Check<'_> {
    /// librdkafka's options.
    pub(super) fn kafka_options(
        &mut self,
        raw: &BTreeMap<String, SecretText>,
    ) -> BTreeMap<String, SecretText> {
        for name in raw.keys() {
            if let Some((_, advice)) =
                RESERVED_OPTIONS.iter().find(|(reserved, _)| *reserved == option_of(name))
            {
                self.diagnostics.error(&join(OPTIONS, name), format!("can't be set here; {advice}"));
            }
        }
        let mut options = self.options_from_files(OPTIONS, &SECRET_WORDS, raw);
        let is_rare =
            |value: &str| value.trim().parse().is_ok_and(|number| !STATISTICS_MILLISECONDS.contains(&number));
        if options.get(STATISTICS_OPTION).is_some_and(|SecretText(value)| is_rare(value)) {
            let reason = "has to be 1 to 10000: the lag, what is lost, and the end of a run with --once are read from these \
                          statistics";
            for name in raw.keys().filter(|name| option_of(name) == STATISTICS_OPTION) {
                self.diagnostics.error(&join(OPTIONS, name), reason);
            }
        }
        for (name, SecretText(value)) in options.iter_mut().filter(|(name, value)| is_path(name, &value.0)) {
            let key = join(OPTIONS, name);
            let Some(path) = self.path(&key, value) else { continue };
            if KEY_FILES.contains(&&**name) {
                self.warn_if_open(&key, &path, "a private key");
            }
            *value = path.display().to_string();
        }
        options
    }

    /// A store's options.
    pub(super) fn storage_options(
        &mut self,
        raw: &BTreeMap<String, SecretText>,
    ) -> BTreeMap<String, SecretText> {
        self.options_from_files(STORAGE_OPTIONS, &STORAGE_SECRETS, raw)
    }

    /// Options for librdkafka or a store. A secret can be in a file of its own: `sasl.password.file`.
    fn options_from_files(
        &mut self,
        section: &str,
        secret_words: &[&str],
        raw: &BTreeMap<String, SecretText>,
    ) -> BTreeMap<String, SecretText> {
        let mut options = BTreeMap::new();
        for (name, SecretText(value)) in raw {
            let key = join(section, name);
            let Some(secret) = name.strip_suffix(FILE_SUFFIX) else {
                if holds_secret(name, value, secret_words) {
                    self.warn_if_origin_open(&key, "a secret");
                }
                options.insert(name.clone(), SecretText(value.clone()));
                continue;
            };
            if raw.contains_key(secret) {
                let reason = format!("is set beside {}; leave one of them out", join(section, secret));
                self.diagnostics.error(&key, reason);
            }
            let Some(path) = self.path(&key, value) else {
                self.diagnostics.error(&key, "is empty; it has to be the path of a file");
                continue;
            };
            if let Some(text) = self.secret(&key, &path, "a secret", "") {
                options.insert(secret.to_owned(), SecretText(text));
            }
        }
        options
    }
}

/// The option that a name is about, whether its value or the path of a file is written beside it.
fn option_of(name: &str) -> &str {
    name.strip_suffix(FILE_SUFFIX).unwrap_or(name)
}

/// By its name, which stores take in any case, or by its value: a URL with a user.
fn holds_secret(name: &str, value: &str, secret_words: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    let is_url_with_user = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    let is_open = OPEN_ENDS.iter().any(|end| name.ends_with(end));
    is_url_with_user || !is_open && secret_words.iter().any(|word| name.contains(word))
}

/// Whether the value of one of librdkafka's options is a path.
fn is_path(option: &str, value: &str) -> bool {
    (option.ends_with(".location") || option == "sasl.kerberos.keytab") && value != PROBE
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::LEAST;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn a_secret_option_can_stand_in_a_file() {
        const PASSPHRASE: &str = "sasl.oauthbearer.assertion.private.key.passphrase";
        let folder = tempfile::tempdir().unwrap();
        let parse = |options: &str| {
            let text = format!("[queue.kafka.options]\n{options}\n{LEAST}");
            Config::parse(&text, &folder.path().join("a.toml"), &[])
        };
        let named = "\"sasl.password.file\" = \"password\"";
        let error = parse(named).unwrap_err().to_string();
        assert!(error.contains("sasl.password.file"), "{error}");
        fs::write(folder.path().join("password"), "planted\n").unwrap();
        let (config, _) = parse(named).unwrap();
        assert_eq!(config.queue.kafka.options["sasl.password"].expose(), "planted");
        assert!(!config.queue.kafka.options.contains_key("sasl.password.file"));
        let error = parse(&format!("{named}\n\"sasl.password\" = \"x\"")).unwrap_err().to_string();
        assert!(error.contains("beside") && !error.contains("planted"), "{error}");
        let (config, _) = parse(&format!("\"{PASSPHRASE}.file\" = \"password\"")).unwrap();
        assert_eq!(config.queue.kafka.options[PASSPHRASE].expose(), "planted");
    }

    #[test]
    fn paths_in_options_count_from_the_folder_of_the_file() {
        for (written, read) in [("ca.pem", "/etc/bd/ca.pem"), ("/x/ca.pem", "/x/ca.pem"), ("probe", "probe")]
        {
            let text = format!("[queue.kafka.options]\n\"ssl.ca.location\" = \"{written}\"\n{LEAST}");
            let (config, _) = Config::parse(&text, Path::new("/etc/bd/a.toml"), &[]).unwrap();
            assert_eq!(config.queue.kafka.options["ssl.ca.location"].expose(), read);
        }
    }

    #[test]
    fn statistics_that_the_lag_is_read_from_can_not_be_left_out() {
        let with = |value: &str| {
            let text = format!("[queue.kafka.options]\n\"statistics.interval.ms\" = \"{value}\"\n{LEAST}");
            Config::parse(&text, Path::new("/etc/bd/a.toml"), &[])
        };
        for value in ["0", "60000"] {
            let error = with(value).unwrap_err().to_string();
            assert!(error.contains("statistics.interval.ms") && error.contains("1 to 10000"), "{error}");
        }
        with("200").unwrap();
    }

    #[test]
    fn an_option_that_is_refused_is_refused_from_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let with = |name: &str, value: &str| {
            fs::write(folder.path().join("value"), value).unwrap();
            let text = format!("[queue.kafka.options]\n\"{name}.file\" = \"./value\"\n{LEAST}");
            Config::parse(&text, &folder.path().join("a.toml"), &[])
        };
        let reserved = super::RESERVED_OPTIONS.iter().map(|(name, _)| (*name, "x", "can't be set here"));
        for (name, value, part) in reserved.chain([(super::STATISTICS_OPTION, "0", "1 to 10000")]) {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(&format!("options.\"{name}.file\"")) && error.contains(part), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        with(super::STATISTICS_OPTION, "200\n").unwrap();
    }

    #[test]
    fn secrets_among_the_options_are_known_in_capitals_and_in_a_url() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let is_told = |kind: &str, option: &str| {
            let text = format!("[queue.{kind}.options]\n{option}\n{LEAST}");
            let (_, warnings) = Config::parse(&text, &path, &[]).unwrap();
            warnings.iter().any(|warning| warning.reason.contains("holds a secret"))
        };
        for (kind, option) in [
            ("storage", "AWS_SECRET_ACCESS_KEY = \"planted\""),
            ("storage", "Azure_Storage_SAS_Key = \"planted\""),
            ("storage", "proxy_url = \"http://user:planted@proxy:3128\""),
            ("storage", "endpoint = \"https://user:planted@minio:9000\""),
            ("kafka", "\"SASL.PASSWORD\" = \"planted\""),
            ("kafka", "\"sasl.oauthbearer.token.endpoint.url\" = \"https://user:planted@idp/token\""),
        ] {
            assert!(is_told(kind, option), "{option}");
        }
        for (kind, option) in [
            ("storage", "endpoint = \"http://minio:9000\"\nregion = \"EU@1\""),
            ("storage", "access_key_id = \"AKIA\""),
            ("storage", "AWS_ACCESS_KEY_ID = \"AKIA\""),
            ("storage", "aws_web_identity_token_file = \"/run/token\""),
            ("kafka", "\"sasl.oauthbearer.client.secret_location\" = \"/run/secret\""),
        ] {
            assert!(!is_told(kind, option), "{option}");
        }
    }
}
