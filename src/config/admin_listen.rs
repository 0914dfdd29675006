//! Where the admin port of a running process is, by a configuration in which anything may be wrong by now.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use super::diagnostic::{ConfigError, Diagnostics};
use super::values::Address;
use super::{schema, settings, sources};

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
    if let Some(listen) = listen_of(variables) {
        return Ok(listen);
    }
    let (text, _) = super::read(path)?;
    let origin = super::absolute(path).display().to_string();
    let mut syntax = Diagnostics::new(&origin);
    let listen = if sources::parse_toml(&mut syntax, &text, &origin, "").is_some() {
        listen_of(sources::file(&mut unheard, &text, "", &schema))
    } else {
        match recover(&text) {
            RecoveredListen::Found(listen) => address(listen),
            RecoveredListen::Absent => None,
            RecoveredListen::Unclear => return Err(syntax.into_error()),
        }
    };
    Ok(listen.unwrap_or_else(|| settings::Admin::default().listen.0))
}

fn listen_of(mut settings: schema::Table) -> Option<SocketAddr> {
    let mut admin = settings.remove("admin")?.into_table().ok()?;
    address(admin.remove("listen")?.into_string().ok()?)
}

fn address(listen: String) -> Option<SocketAddr> {
    Address::try_from(listen).ok().map(|listen| listen.0)
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
    }
}
