//! `braze-datadog connections`: adds, lists, tests, rotates and removes the connections of the connections directory,
//! each in one step that is taken whole or not at all, and waits until the running forwarder has taken it over.

mod command_line;
mod folder;
mod key;
mod running;

use serde::Serialize;

pub(super) use self::command_line::ConnectionsArguments;
use self::command_line::{Action, AddArguments, Common, NamedArguments, TestArguments};
use self::folder::Folder;
use self::running::TakenOver;
use crate::app::{self, Failure};
use crate::config::{api_key_fault, connection_name_fault};
use crate::connection::{Connection, RefusedConnection};
use datadog_points::ApiKey;
use datadog_points::client::{self, HttpIntake};
use datadog_points::outcome::Outcome;
use datadog_points::payload::{Metric, PayloadLimits, PayloadWriter};
use event_lanes::clock::Clock;

/// The point that `connections test --send` sends.
const TEST_METRIC: &str = "braze.forwarder.test";

/// The result of a command, for people and for programs.
#[derive(Debug, Serialize)]
struct Report {
    connection: String,
    /// `added`, `rotated`, `removed`, `valid`, `not_asked`, `sent`.
    done: &'static str,
    site: String,
    url: String,
    /// The connection's file, and its key's.
    files: Vec<String>,
    /// Whether the running forwarder has the change: `in_force`, `not_running`, `not_waited_for`; absent where nothing
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarder: Option<TakenOver>,
    #[serde(skip)]
    words: String,
}

/// One of the connections that are listed.
#[derive(Debug, Default, Serialize)]
struct ListedConnection<'c> {
    connection: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'c str>,
    /// `None`: they can't be told.
    app_group_ids: Option<&'c [Box<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    /// `in_force`, `not_in_force`, `not_running`, `outdated`, `refused`.
    state: &'static str,
    /// What the running forwarder knows of its key.
    key: Option<&'c str>,
    says: Option<&'c str>,
}

pub(super) fn run(arguments: ConnectionsArguments) -> Result<(), Failure> {
    let runtime = app::local_runtime()?;
    runtime.block_on(async {
        match arguments.action {
            Action::Add(arguments) => print_report(arguments.common.json, &add(&arguments).await?),
            Action::List(common) => list(&common).await,
            Action::Test(arguments) => print_report(arguments.common.json, &test(&arguments).await?),
            Action::Rotate(arguments) => print_report(arguments.common.json, &rotate(&arguments).await?),
            Action::Remove(arguments) => print_report(arguments.common.json, &remove(&arguments).await?),
        }
    })
}

fn print_report(as_json: bool, report: &Report) -> Result<(), Failure> {
    let line =
        if as_json { serde_json::to_string(report).map_err(Failure::failed)? } else { report.words.clone() };
    app::print_line(&line).map_err(Failure::failed)
}

/// Writes nothing before everything is known to be right: the file as the forwarder would read it, and the key.
async fn add(arguments: &AddArguments) -> Result<Report, Failure> {
    let folder = Folder::open_to_change(&arguments.common)?;
    let name = &arguments.name;
    if folder.has(name) {
        return Err(Failure::configuration(format!(
            "there is a connection {name} already; `connections rotate {name}` gives it another key, `connections \
             remove {name}` takes it away"
        )));
    }
    if let Some(reason) = connection_name_fault(name) {
        return Err(Failure::configuration(format!("nothing was changed: the name that was given {reason}")));
    }
    let key = key::read()?;
    // First with any site, so that mistakes are reported before Datadog is shown the key.
    let site = arguments.site.clone().or_else(|| arguments.url.is_none().then(|| "US1".to_owned()));
    folder.check(name, &arguments.file(site.as_deref(), key::KeyPlace::Inline(&key)))?;
    let site = match (&arguments.url, &arguments.site) {
        (Some(_), _) => None,
        (None, Some(site)) => Some(site.clone()),
        (None, None) => Some(key::find_site(&key).await?.name.into()),
    };
    let connection = folder.check(name, &arguments.file(site.as_deref(), key::KeyPlace::Inline(&key)))?;
    if arguments.url.is_none() && arguments.site.is_some() && !arguments.no_validate {
        key::require_valid(&connection, key::AskedFor::Change).await?;
    }
    let running = folder.running()?;
    let started = Clock::system().unix_seconds();
    let file = arguments.file(site.as_deref(), key::KeyPlace::File(name));
    let files = folder.write_both(name, &file, &key)?;
    let waited = running.wait(arguments.common.wait, started, |status| running::in_force(status, name)).await;
    let forwarder = match waited {
        Err(refused @ running::NotTaken::Refused(_)) => {
            folder.remove_both(name, None)?;
            return Err(Failure::configuration(format!("nothing was added: {refused}")));
        }
        waited => waited.map_err(Failure::failed)?,
    };
    let words = format!("{name} was added, on {}; {}", connection.site.name, forwarder.message());
    Ok(report(&connection, "added", files, Some(forwarder), words))
}

async fn rotate(NamedArguments { name, common, no_validate }: &NamedArguments) -> Result<Report, Failure> {
    let folder = Folder::open_to_change(common)?;
    let known = folder.known(name);
    // What is wrong with one in a file of its own may be its key.
    let known = if folder.has_file(name) { known.ok() } else { Some(known?) };
    let key_file = folder.key_file(name).ok_or_else(|| {
        Failure::configuration(format!(
            "the key of {name} is in no file of its own: set its api_key_file first"
        ))
    })?;
    let key = key::read()?;
    if let Some(reason) = api_key_fault(&key) {
        return Err(Failure::configuration(format!("nothing was changed: what was given {reason}")));
    }
    let connection = match known {
        Some(connection) => Connection { api_key: ApiKey::new(&key), ..connection },
        None => folder.check(name, &folder.text_with_key(name, &key)?)?,
    };
    if !no_validate && connection.site.is_datadogs() {
        key::require_valid(&connection, key::AskedFor::Change).await?;
    }
    let running = folder.running()?;
    let started = Clock::system().unix_seconds();
    let before = folder.replace_key(&key_file, &key)?;
    let forwarder = match running.wait(common.wait, started, |status| running::in_force(status, name)).await {
        Err(refused @ running::NotTaken::Refused(_)) => {
            if let Some(before) = before {
                folder.replace_key(&key_file, before.trim_end())?;
            }
            return Err(Failure::configuration(format!("nothing was changed: {refused}")));
        }
        waited => waited.map_err(Failure::failed)?,
    };
    let words = format!("the key of {name} was rotated; {}", forwarder.message());
    Ok(report(&connection, "rotated", vec![key_file.display().to_string()], Some(forwarder), words))
}

async fn remove(NamedArguments { name, common, .. }: &NamedArguments) -> Result<Report, Failure> {
    let folder = Folder::open_to_change(common)?;
    if !folder.has_file(name) && !folder.is_aside(name) {
        return Err(Failure::configuration(format!(
            "there is no {}; what stands in the main file or in the environment is taken away there",
            folder.file(name).display()
        )));
    }
    // A wrong one can be removed, too.
    let connection = folder.known(name).unwrap_or_else(|_| Connection::named((**name).into()));
    let running = folder.running()?;
    if let Some(status) = running.status().await
        && folder.is_last(name, &status)
    {
        return Err(Failure::configuration(format!(
            "nothing was removed: {name} is the last connection, and the running forwarder goes on only with one; add another \
             one first, or stop it"
        )));
    }
    if folder.config().forwarder_metrics_connection() == name {
        return Err(Failure::configuration(format!(
            "nothing was removed: forwarder_metrics.connection is {name}; name another one there first, or none"
        )));
    }
    let started = Clock::system().unix_seconds();
    folder.set_aside(name)?;
    let waited = running.wait(common.wait, started, |status| Ok(running::is_gone(status, name))).await;
    if let Err(refused @ running::NotTaken::Refused(_)) = waited {
        folder.put_back(name)?;
        return Err(Failure::configuration(format!("nothing was removed: {refused}")));
    }
    let files = folder.remove_both(name, folder.key_file(name).as_deref())?;
    let forwarder = waited.map_err(Failure::failed)?;
    let words = format!("{name} was removed; {}", forwarder.message());
    Ok(report(&connection, "removed", files, Some(forwarder), words))
}

async fn test(arguments: &TestArguments) -> Result<Report, Failure> {
    let folder = Folder::open(&arguments.common)?;
    let connection = folder.known(&arguments.name)?;
    if connection.dry_run {
        return Err(Failure::configuration(format!(
            "{} is a dry run: nothing is ever sent",
            connection.name
        )));
    }
    let (name, site) = (connection.name.to_string(), connection.site.name.to_string());
    if connection.site.is_datadogs() {
        key::require_valid(&connection, key::AskedFor::Verdict).await?;
    }
    if !arguments.send {
        let (done, words) = if connection.site.is_datadogs() {
            ("valid", format!("the key of {name} is valid on {site}"))
        } else {
            let words =
                format!("{name} has a url: whether its key is valid shows when something is sent (--send)");
            ("not_asked", words)
        };
        return Ok(report(&connection, done, Vec::new(), None, words));
    }
    match send(&connection, folder.flush_timeout()).await? {
        Outcome::Accepted => {}
        Outcome::AcceptedWithErrors { detail } => {
            let reason =
                format!("{site} accepted the point of {name}, but its answer speaks of errors: {detail}");
            return Err(Failure::failed(reason));
        }
        Outcome::Dropped { detail, .. } => {
            return Err(Failure::failed(format!("the point of {name} was not accepted by {site}: {detail}")));
        }
    }
    let words = format!(
        "{site} accepted a point of {name}: {TEST_METRIC}{{connection:{name}}}, to be seen in the Metrics Explorer within \
         minutes"
    );
    Ok(report(&connection, "sent", Vec::new(), None, words))
}

/// Sends one point, once.
async fn send(connection: &Connection, timeout: std::time::Duration) -> Result<Outcome, Failure> {
    let now = u32::try_from(Clock::system().unix_seconds()).unwrap_or(u32::MAX);
    let mut writer = PayloadWriter::new(PayloadLimits::default());
    let mut payloads = Vec::new();
    let tag = format!("connection:{}", connection.name);
    let tags = [(tag.as_bytes(), &b""[..])];
    writer.series(&Metric::new(TEST_METRIC), tags, [(now, 1)], 0, &mut |payload| {
        payloads.push(payload);
    });
    writer.finish(&mut |payload| payloads.push(payload));
    let payload = payloads.pop().ok_or_else(|| Failure::failed("no point was made, by a defect"))?;
    let network = app::network(std::slice::from_ref(connection))?;
    let settings =
        client::IntakeSettings { timeout, timeout_name: "flush.timeout", connection_age_max: timeout };
    let intake = HttpIntake::new(settings, &network).map_err(Failure::failed)?;
    Ok(intake.post(&connection.site, &connection.api_key, payload).await)
}

fn report(
    connection: &Connection,
    done: &'static str,
    files: Vec<String>,
    forwarder: Option<TakenOver>,
    words: String,
) -> Report {
    Report {
        connection: connection.name.to_string(),
        done,
        site: connection.site.name.to_string(),
        url: connection.site.base_url.to_string(),
        files,
        forwarder,
        words,
    }
}

/// Each connection with its state in the running forwarder.
async fn list(common: &Common) -> Result<(), Failure> {
    let folder = Folder::open(common)?;
    let running = folder.running()?;
    let status = running.status().await;
    let of = |name: &str| status.iter().flat_map(|status| &status.connections).find(|one| one.name == name);
    let set = &folder.config().connections;
    let mut rows = Vec::new();
    for connection in &set.active {
        let shown = of(&connection.name);
        rows.push(ListedConnection {
            connection: &connection.name,
            site: Some(&connection.site.name),
            app_group_ids: Some(&connection.app_group_ids),
            dry_run: Some(connection.dry_run),
            state: match (&status, shown) {
                (None, _) => "not_running",
                (_, Some(shown)) if !shown.url.is_empty() => "in_force",
                // It sees the files otherwise than who asks here: may it read the key?
                (Some(_), _) => "not_in_force",
            },
            key: shown.map(|one| &*one.key.state),
            says: shown.map(|one| &*one.words),
        });
    }
    for RefusedConnection { name, app_group_ids, reason, .. } in &set.refused {
        // A connection that was right before stays in force.
        let is_kept = of(name).is_some_and(|shown| !shown.url.is_empty());
        rows.push(ListedConnection {
            connection: name,
            app_group_ids: app_group_ids.as_deref(),
            state: if is_kept { "outdated" } else { "refused" },
            says: Some(reason),
            ..ListedConnection::default()
        });
    }
    if common.json {
        let json = serde_json::to_string(&rows).map_err(Failure::failed)?;
        return app::print_line(&json).map_err(Failure::failed);
    }
    for ListedConnection { connection, site, app_group_ids, state, says, .. } in rows {
        let app_groups = match app_group_ids.map(<[_]>::len) {
            Some(0) => "the other app groups".to_owned(),
            Some(1) => "1 app group".to_owned(),
            Some(some) => format!("{some} app groups"),
            None => "unknown app groups".to_owned(),
        };
        let (site, says) = (site.unwrap_or_default(), says.unwrap_or_default());
        app::print_line(&format!("{connection:<24} {site:<10} {app_groups:<22} {state:<12} {says}"))
            .map_err(Failure::failed)?;
    }
    Ok(())
}
