//! The API key of a command: its source, and Datadog's verdict on it.

use std::io::{IsTerminal, Read};

use crate::app::Failure;
use crate::commands::online;
use crate::connection::Connection;
use datadog_points::ApiKey;
use datadog_points::client::{KeyValidator, Network};
use datadog_points::site::Site;
use datadog_points::validity::Validity;

/// The greatest length of a key.
const KEY_BYTES_MAX: u64 = 4 << 10;

/// Where a connection's file has its key.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyPlace<'k> {
    /// In the file itself: for a check, before anything is written.
    Inline(&'k str),
    /// In the file `NAME.key` beside it.
    File(&'k str),
}

/// The key: asked for without echo on a terminal, else standard input. Never an argument: every user of the machine can see
/// those.
pub(super) fn read() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let key = if stdin.is_terminal() {
        rpassword::prompt_password("Datadog API key (it is not shown): ").map_err(Failure::failed)?
    } else {
        let mut key = String::new();
        let read = stdin.lock().take(KEY_BYTES_MAX).read_to_string(&mut key);
        read.map_err(|error| {
            Failure::failed(format!("the API key can't be read from standard input: {error}"))
        })?;
        key
    };
    match key.trim() {
        "" => Err(Failure::configuration(
            "no API key was given; type it when asked, or pipe it to standard input",
        )),
        key => Ok(key.to_owned()),
    }
}

/// What Datadog's verdict on a key is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum AskedFor {
    /// A change, which goes without it, too.
    Change,
    /// Its own sake.
    Verdict,
}

/// Asks Datadog about a connection's key.
///
/// # Errors
/// Status 78 when it is not valid on its site, 1 when Datadog can't be asked.
pub(super) async fn require_valid(connection: &Connection, asked_for: AskedFor) -> Result<(), Failure> {
    let network = crate::app::network(std::slice::from_ref(connection))?;
    let validator = KeyValidator::new(&network).map_err(Failure::failed)?;
    let validity = validator.ask(&connection.site, &connection.api_key).await;
    let words = validity.message(&connection.site);
    let (before, after) = match asked_for {
        AskedFor::Change => ("nothing was changed: ", "; --no-validate does without"),
        AskedFor::Verdict => ("", ""),
    };
    match validity {
        Validity::Valid => Ok(()),
        Validity::Invalid(_) => Err(Failure::configuration(format!("{before}the key is {words}"))),
        Validity::Unknown(_) => {
            let reason = format!("{before}whether the key is valid can't be found out: {words}{after}");
            Err(Failure::failed(reason))
        }
    }
}

/// Asks Datadog's sites which one a key belongs to, except the US government's: its customers name that site.
///
/// # Errors
/// Status 78 when it is none of theirs, or of several; 1 when it can't be told.
pub(super) async fn find_site(key: &str) -> Result<Site, Failure> {
    let network = Network::start(crate::app::USER_AGENT, true).map_err(Failure::failed)?;
    let validator = KeyValidator::new(&network).map_err(Failure::failed)?;
    let sites: Vec<Site> = Site::all().filter(|site| !site.base_url.contains("ddog-gov")).collect();
    let questions = sites.iter().map(|site| (site.clone(), ApiKey::new(key))).collect();
    let answers = online::ask_all(&validator, questions).await?;
    decide(&sites.into_iter().zip(answers).collect::<Vec<_>>())
}

fn decide(answered: &[(Site, Validity)]) -> Result<Site, Failure> {
    let those = |is_it: fn(&Validity) -> bool| -> Vec<&Site> {
        answered.iter().filter(|(_, validity)| is_it(validity)).map(|(site, _)| site).collect()
    };
    let names = |sites: &[&Site]| sites.iter().map(|site| &*site.name).collect::<Vec<_>>().join(", ");
    let silent = those(|validity| matches!(validity, Validity::Unknown(_)));
    match (&those(|validity| *validity == Validity::Valid)[..], &silent[..]) {
        ([site], _) => Ok((*site).clone()),
        ([], []) => Err(Failure::configuration(
            "nothing was changed: the key is valid on none of Datadog's sites; it was revoked or mistyped, or is no API key (a \
             customer of the US government's sites says --site US1-FED)",
        )),
        ([], silent) => Err(Failure::failed(format!(
            "nothing was changed: which site the key belongs to can't be told, for {} did not answer; say it with --site",
            names(silent)
        ))),
        (several, _) => Err(Failure::configuration(format!(
            "nothing was changed: the key is valid on {}; say with --site which one is meant",
            names(several)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_is_the_one_that_knows_the_key() {
        let of = |answers: [Validity; 3]| {
            let sites = ["US1", "EU1", "AP1"].map(|name| Site::parse(name).unwrap().0);
            decide(&sites.into_iter().zip(answers).collect::<Vec<_>>())
                .map(|site| site.name)
                .map_err(|failure| failure.status)
        };
        let (no, unknown) = (Validity::Invalid(403), Validity::Unknown("no answer".into()));
        assert_eq!(of([no.clone(), Validity::Valid, unknown.clone()]), Ok("EU1".into()));
        assert_eq!(of([no.clone(), no.clone(), no.clone()]), Err(78));
        assert_eq!(of([no.clone(), no.clone(), unknown]), Err(1));
        assert_eq!(of([Validity::Valid, Validity::Valid, no]), Err(78));
    }
}
