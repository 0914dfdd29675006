//! `braze-datadog check --online`: asks Datadog about every key; with `--find-site` also asks the other sites about keys
//! that are not valid on their own.

use std::collections::VecDeque;

use tokio::task::JoinSet;

use crate::app::keys::QUESTIONS_MAX;
use crate::app::{Failure, local_runtime, network, print_line};
use crate::connection::Connection;
use datadog_points::ApiKey;
use datadog_points::client::KeyValidator;
use datadog_points::site::Site;
use datadog_points::validity::Validity;

/// Validates the key of each connection, and prints a line for each.
///
/// # Errors
/// Status 78 when a key is not valid on its site; else 1 when a key could not be validated.
pub(super) fn check(connections: &[Connection], find_site: bool) -> Result<(), Failure> {
    let validator = KeyValidator::new(&network(connections)?).map_err(Failure::failed)?;
    let runtime = local_runtime()?;
    runtime.block_on(report(connections, find_site, &validator))
}

async fn report(
    connections: &[Connection],
    find_site: bool,
    validator: &KeyValidator,
) -> Result<(), Failure> {
    let is_asked = |connection: &&Connection| not_asked(connection).is_none();
    let asked: Vec<_> = connections.iter().filter(is_asked).collect();
    let questions = asked.iter().map(|connection| (connection.site.clone(), connection.api_key.clone()));
    let answers = ask_all(validator, questions.collect()).await?;
    let mut invalid = Vec::new();
    let mut unknown = 0;
    for (connection, validity) in asked.iter().zip(&answers) {
        match validity {
            Validity::Valid => print_verdict(connection, &validity.message(&connection.site))?,
            Validity::Unknown(_) => {
                unknown += 1;
                print_verdict(connection, &validity.message(&connection.site))?;
            }
            Validity::Invalid(_) if find_site => invalid.push(*connection),
            Validity::Invalid(_) => {
                invalid.push(*connection);
                print_verdict(connection, &validity.message(&connection.site))?;
            }
        }
    }
    if find_site {
        find_sites(&invalid, validator).await?;
    }
    for connection in connections {
        if let Some(reason) = not_asked(connection) {
            print_verdict(connection, reason)?;
        }
    }
    conclude(invalid.len(), unknown, asked.len(), find_site)
}

/// Why nobody is asked about a connection's key.
fn not_asked(connection: &Connection) -> Option<&'static str> {
    if connection.api_key.expose().is_empty() {
        Some("has none: a dry run needs none")
    } else if connection.dry_run {
        Some("not asked about: a dry run sends nothing")
    } else if !connection.site.is_datadogs() {
        Some("not asked about, for it has a url: whether it is valid shows when something is sent")
    } else {
        None
    }
}

/// Asks about each key on all sites but its own.
async fn find_sites(connections: &[&Connection], validator: &KeyValidator) -> Result<(), Failure> {
    let others = |connection: &Connection| {
        let own = connection.site.base_url.clone();
        Site::all().filter(move |site| site.base_url != own)
    };
    let questions = connections
        .iter()
        .flat_map(|connection| others(connection).map(|site| (site, connection.api_key.clone())));
    let mut answers = ask_all(validator, questions.collect()).await?.into_iter();
    for connection in connections {
        let answered: Vec<_> = others(connection).zip(answers.by_ref()).collect();
        print_verdict(connection, &whereabouts(&connection.site, &answered))?;
    }
    Ok(())
}

/// The other sites' answers about a key that is not valid on `own`, in words.
fn whereabouts(own: &Site, answered: &[(Site, Validity)]) -> String {
    let names = |is_it: fn(&Validity) -> bool| -> Vec<&str> {
        answered.iter().filter(|(_, validity)| is_it(validity)).map(|(site, _)| &*site.name).collect()
    };
    let valid = names(|validity| *validity == Validity::Valid);
    let silent = names(|validity| matches!(validity, Validity::Unknown(_)));
    if let Some(site) = valid.first() {
        return format!("this key belongs to {}, not {}: set site = {site:?}", valid.join(" and "), own.name);
    }
    let mut words = format!("not valid on {}", own.name);
    if silent.is_empty() {
        words.push_str(
            ", nor on any other site: it was revoked or mistyped, or is not an API key; make one under Organization \
             Settings, API Keys",
        );
    } else {
        let refused = names(|validity| matches!(validity, Validity::Invalid(_)));
        if !refused.is_empty() {
            words = format!("{words}, nor on {}", refused.join(", "));
        }
        words = format!("{words}; no answer from {}", silent.join(", "));
    }
    words
}

fn print_verdict(connection: &Connection, words: &str) -> Result<(), Failure> {
    print_line(&format!("key of {}: {words}", connection.name)).map_err(Failure::failed)
}

fn conclude(invalid: usize, unknown: usize, asked: usize, find_site: bool) -> Result<(), Failure> {
    if invalid > 0 {
        let next = if find_site {
            ""
        } else {
            "; put the right key or site into the configuration (--find-site shows a key that is not valid to Datadog's \
             other sites, and says where it belongs)"
        };
        return Err(Failure::configuration(format!(
            "{invalid} of {asked} keys: not valid on the site{next}"
        )));
    }
    if unknown > 0 {
        return Err(Failure::failed(format!(
            "{unknown} of {asked} keys: whether they are valid could not be found out; the lines above say why"
        )));
    }
    Ok(())
}

/// Asks all questions, a few at a time; the answers are in the order of the questions.
pub(super) async fn ask_all(
    validator: &KeyValidator,
    questions: Vec<(Site, ApiKey)>,
) -> Result<Vec<Validity>, Failure> {
    let mut answers = vec![Validity::Unknown("not asked".into()); questions.len()];
    let mut waiting: VecDeque<_> = questions.into_iter().enumerate().collect();
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < QUESTIONS_MAX
            && let Some((number, (site, key))) = waiting.pop_front()
        {
            let validator = validator.clone();
            asking.spawn(async move { (number, validator.ask(&site, &key).await) });
        }
        let Some(joined) = asking.join_next().await else { return Ok(answers) };
        let (number, validity) = joined.map_err(Failure::failed)?;
        answers[number] = validity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(of: impl Fn(&str) -> Validity) -> Vec<(Site, Validity)> {
        let others = Site::all().filter(|site| &*site.name != "EU1");
        others.map(|site| (site.clone(), of(&site.name))).collect()
    }

    fn words(of: impl Fn(&str) -> Validity) -> String {
        whereabouts(&Site::parse("EU1").unwrap().0, &answered(of))
    }

    #[test]
    fn the_site_that_knows_the_key_is_named_whatever_the_others_say() {
        for other in [Validity::Invalid(403), Validity::Unknown(String::new())] {
            let of = |name: &str| if name == "US5" { Validity::Valid } else { other.clone() };
            assert_eq!(words(of), "this key belongs to US5, not EU1: set site = \"US5\"");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_told_apart_from_one_that_not_all_were_asked_about() {
        let nobody = words(|_| Validity::Invalid(403));
        assert!(nobody.starts_with("not valid on EU1, nor on any other site: it was revoked"), "{nobody}");
        let silent = |name: &str| match name {
            "US1" | "US1-FED" => Validity::Unknown("no answer".into()),
            _ => Validity::Invalid(403),
        };
        let others: Vec<_> = Site::all().map(|site| site.name).filter(|name| &**name != "EU1").collect();
        let others: Vec<&str> =
            others.iter().map(|name| &**name).filter(|name| !name.starts_with("US1")).collect();
        let expected = format!("not valid on EU1, nor on {}; no answer from US1, US1-FED", others.join(", "));
        assert_eq!(words(silent), expected);
        let all = words(|_| Validity::Unknown(String::new()));
        assert!(all.starts_with("not valid on EU1; no answer from US1, US3"), "{all}");
    }

    #[test]
    fn a_wrong_key_is_a_wrong_configuration_and_silence_is_a_failure() {
        let status =
            |invalid, unknown| conclude(invalid, unknown, 3, false).err().map(|failure| failure.status);
        assert_eq!(status(0, 0), None);
        assert_eq!(status(0, 1), Some(crate::app::FAILED));
        assert_eq!(status(1, 0), Some(crate::app::WRONG_CONFIGURATION));
        assert_eq!(status(1, 1), Some(crate::app::WRONG_CONFIGURATION));
    }
}
