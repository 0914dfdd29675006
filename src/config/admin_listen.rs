//! Where the admin port of a running process is, by a configuration in which anything may be wrong by now.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use super::diagnostic::{ConfigError, Diagnostic, Diagnostics, is_within};
use super::values::Address;
use super::{schema, settings, sources};

const KEY: &str = "admin.listen";
const VARIABLE: &str = "BRAZE_DATADOG__ADMIN__LISTEN";

/// `admin.listen` of a text that is not TOML.
enum RecoveredListen {
    Found(String),
    /// It stands nowhere.
    Absent,
    /// The mistake may be about it.
    Unclear,
}

/// As [`super::Config::admin_listen`].
pub(super) fn read(path: &Path) -> Result<SocketAddr, ConfigError> {
    let schema = schema::of_settings();
    // Whoever reads the rest is told of what is wrong.
    let mut unheard = Diagnostics::new("");
    let variables = sources::environment(&mut unheard, &super::environment()?, &schema);
    if let Some(listen) = written_in(variables, &unheard)? {
        return address(&format!("environment variable {VARIABLE}"), &listen);
    }
    let (text, _) = super::read(path)?;
    let origin = super::absolute(path).display().to_string();
    let mut of_file = Diagnostics::new(&origin);
    let listen = if let Some(table) = sources::parse_toml(&mut of_file, &text, &origin, "") {
        let settings = schema::keep_known(&mut of_file, table, &schema, "", &origin);
        written_in(settings, &of_file)?
    } else {
        match recover(&text) {
            RecoveredListen::Found(listen) => Some(listen),
            RecoveredListen::Absent => None,
            RecoveredListen::Unclear => return Err(of_file.into_error()),
        }
    };
    listen.map_or(Ok(settings::Admin::default().listen.0), |listen| address(&origin, &listen))
}

/// What stands for `admin.listen`, whether or not it is an address.
///
/// # Errors
/// When it can't be read.
fn written_in(mut settings: schema::Table, diagnostics: &Diagnostics) -> Result<Option<String>, ConfigError> {
    let admin = settings.remove("admin").and_then(|admin| admin.into_table().ok());
    if let Some(listen) = admin.and_then(|mut admin| admin.remove("listen")?.into_string().ok()) {
        return Ok(Some(listen));
    }
    let is_about_it = |error: &&Diagnostic| !error.key.is_empty() && is_within(KEY, &error.key);
    let wrong: Vec<Diagnostic> = diagnostics.errors().iter().filter(is_about_it).cloned().collect();
    if wrong.is_empty() { Ok(None) } else { Err(ConfigError { diagnostics: wrong }) }
}

/// # Errors
/// When it is none. Nothing but what is written says where the port is, and at the default another process may answer.
fn address(origin: &str, listen: &str) -> Result<SocketAddr, ConfigError> {
    Address::try_from(listen.to_owned()).map(|Address(address)| address).map_err(|reason| {
        let mut wrong = Diagnostics::new(origin);
        wrong.refuse(KEY, listen, reason);
        wrong.into_error()
    })
}

fn recover(text: &str) -> RecoveredListen {
    let is_told = |line: &str| line.split('#').next().is_some_and(|told| told.contains("admin"));
    if !text.lines().any(is_told) {
        return RecoveredListen::Absent;
    }
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    let admin = table.get_ref().iter().find(|(name, _)| name.get_ref() == "admin");
    let found = admin.and_then(|(name, section)| {
        let listen = section.get_ref().as_table()?.get("listen")?;
        Some((name.span().start..listen.span().end, listen.get_ref().as_str()?.to_owned()))
    });
    let Some((place, listen)) = found else { return RecoveredListen::Unclear };
    let is_about_it = |wrong: Range<usize>| {
        let is_touched = wrong.start <= place.end && wrong.end >= place.start;
        // Of two the second is not read.
        let is_second = |wrong: &str| wrong.contains("admin") || wrong.contains("listen");
        is_touched || text.get(wrong).is_some_and(is_second)
    };
    if errors.iter().any(|error| error.span().is_none_or(is_about_it)) {
        RecoveredListen::Unclear
    } else {
        RecoveredListen::Found(listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A process that is well must not be asked elsewhere for a slip in its file.
    #[test]
    fn the_admin_port_is_found_in_a_file_that_is_no_toml_or_else_the_mistake_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let listen = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path).map(|address| address.to_string()).map_err(|error| error.to_string())
        };
        let admin = "[admin]\nlisten = \"127.0.0.1:18581\"\n";
        for text in [
            format!("{admin}oops = = 1\n"),
            format!("{admin}[push]\nlisten = \"127.0.0.1:1\n"),
            format!("[push\n{admin}"),
            format!("lanes = 1\nlanes = 2\n{admin}"),
            "admin.listen = \"127.0.0.1:18581\"\nx = [\n".to_owned(),
        ] {
            assert_eq!(listen(&text), Ok("127.0.0.1:18581".to_owned()), "{text}");
        }
        assert_eq!(listen("# not [admin]\nlanes = = 1\n"), Ok("127.0.0.1:8081".to_owned()));
        for text in [
            "[admin]\nlisten = \"127.0.0.1:18581\n".to_owned(),
            format!("{admin}listen = \"127.0.0.1:2\"\n"),
            format!("{admin}{admin}"),
            format!("x = \"\"\"\n{admin}"),
            "[admin]\n[push\nlisten = \"127.0.0.1:1\"\n".to_owned(),
        ] {
            let told = listen(&text).unwrap_err();
            assert!(told.contains("a.toml: is not valid TOML at line "), "{text}: {told}");
        }
        for (text, said) in [
            ("[admin]\nlisten = \"127.0.0.1:99999\"\n", "a.toml: admin.listen: \"127.0.0.1:99999\" "),
            ("[admin]\nlisten = 8081\n", "a.toml: admin.listen: "),
            ("admin = \"127.0.0.1:8081\"\n", "a.toml: admin: "),
            ("[admin]\nlisten = \"status:8081\"\noops = = 1\n", "a.toml: admin.listen: \"status:8081\" "),
        ] {
            let told = listen(text).unwrap_err();
            assert!(told.contains(said), "{text}: {told}");
        }
    }
}
