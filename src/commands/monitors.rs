//! `braze-datadog monitors`: prints a monitor that is ready to be posted to Datadog.

mod arguments;
mod scope;
mod shipped;
mod windows;

use std::time::Duration;

use self::arguments::Forwarder;
pub(super) use self::arguments::MonitorsArguments;
use self::scope::{SentTags, note_names};
use self::windows::{flushes, note_window, note_window_of_own, read, window};
use crate::app::{Failure, load, print_line, print_stderr};
use crate::config::{Config, QueueKind};
use crate::connection::Connection;
use crate::forwarder_points::heartbeat;
use crate::monitors::due::{Due, GRACE_MAX};
use crate::monitors::format::{Resource, render};
use crate::monitors::window::{self, AlertWindow};
use crate::monitors::{
    Condition, Filter, ForwarderTrouble, LATENESS, Monitor, Subject, of_forwarder, of_heartbeat,
};
use datadog_points::payload::VALUE_MAX;
use send_counts::aggregate::tags::Tag;

/// The metric where no configuration says otherwise.
const METRIC: &str = "braze.messaging.sent";

/// How many events may wait in the queue by default: a forwarder works them off in seconds.
const QUEUE_DEPTH: u64 = 100_000;

/// How many seconds a forwarder may be behind its bucket by default: half of what Datadog takes.
const BUCKET_LAG: u64 = 1_800;

/// `braze-datadog monitors`
pub(super) fn run(arguments: MonitorsArguments) -> Result<(), Failure> {
    let format = arguments.format.format();
    if let Some(which) = arguments.shipped {
        let text = render(&shipped::resources(which)?, format);
        return print_line(text.trim_end()).map_err(Failure::failed);
    }
    let configured = configured(&arguments)?;
    let (metric, include, of) = match &configured {
        Some((config, connection)) => {
            let of = (&*connection.name, &*config.tags.static_tags);
            (&*connection.metric, &config.tags.include[..], Some(of))
        }
        None => (METRIC, &Tag::ALL[..], None),
    };
    check_handles(&arguments.notify)?;
    if arguments.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(Failure::failed("--name is empty: leave it out for one that says what is watched"));
    }
    let is_named = arguments.name.is_some();
    let monitor = if arguments.heartbeat {
        of_silence(&arguments, configured.as_ref())?
    } else if let Some(what) = arguments.forwarder {
        of_trouble(&arguments, what, configured.as_ref())?
    } else {
        let sent = SentTags { included: include.iter().map(|tag| tag.name()).collect(), of };
        let interval = configured.as_ref().map(|(config, _)| config.aggregate.flush_interval);
        let due = due(&arguments, interval.unwrap_or_default())?;
        let monitor = over_sends(arguments, due, metric, &sent)?;
        note_window(&monitor, interval.unwrap_or_default());
        monitor.to_json()
    };
    print_line(render(&[Resource::Monitor { json: monitor, is_named }], format).trim_end())
        .map_err(Failure::failed)
}

/// The configuration, and the connection of the monitor. Without one a monitor is made all the same: not every machine has it.
fn configured(arguments: &MonitorsArguments) -> Result<Option<(Config, Connection)>, Failure> {
    if arguments.connection.is_some() || arguments.config.config.is_some() {
        return connection(arguments).map(Some);
    }
    if !Config::is_expected(&arguments.config.path()) {
        return Ok(None);
    }
    let found = connection(arguments);
    if let Err(failure) = &found {
        print_stderr(&format!(
            "note: no configuration is used, but the metric {METRIC} and all tags: {}",
            failure.message
        ));
    }
    Ok(found.ok())
}

fn connection(arguments: &MonitorsArguments) -> Result<(Config, Connection), Failure> {
    let path = arguments.config.path();
    let (config, _) = load(&path)?;
    let names = || config.connections.active.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
    let found = match (&arguments.connection, &config.connections.active[..]) {
        (Some(name), connections) => connections.iter().find(|one| *one.name == **name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let Some(connection) = found.cloned() else {
        let what = match &arguments.connection {
            Some(name) => format!("there is no connection {name:?} in {}", path.display()),
            None => format!("{} has several connections: say which with --connection", path.display()),
        };
        return Err(Failure::failed(format!("{what} (there are {})", names())));
    };
    Ok((config, connection))
}

/// Whether an argument is given that only a monitor over sends has.
fn is_over_sends(arguments: &MonitorsArguments) -> bool {
    let MonitorsArguments { campaign, campaign_id, canvas, canvas_id, step, step_id, .. } = arguments;
    let names = [campaign, campaign_id, canvas, canvas_id, step, step_id];
    let conditions = [arguments.min, arguments.rise, arguments.factor];
    names.into_iter().any(Option::is_some)
        || conditions.iter().any(Option::is_some)
        || arguments.every.is_some()
        || !arguments.tag.is_empty()
        || arguments.before.is_some()
        || arguments.expect.is_some()
}

/// A monitor on the forwarder's own metrics.
fn of_trouble(
    arguments: &MonitorsArguments,
    what: Forwarder,
    configured: Option<&(Config, Connection)>,
) -> Result<serde_json::Value, Failure> {
    if is_over_sends(arguments) {
        return Err(Failure::failed("--forwarder goes with --max, --window, --notify and --name alone"));
    }
    if configured
        .is_some_and(|(config, _)| !config.connections.active.iter().any(|one| one.forwarder_metrics))
    {
        print_stderr("note: no connection sends this; set forwarder_metrics.connection to the name of one");
    }
    let is_storage = configured.map(|(config, _)| config.queue.kind == QueueKind::Storage);
    match (what, is_storage) {
        (Forwarder::Queue, Some(true)) => {
            print_stderr(
                "note: events wait in buckets here, and what waits there is told by --forwarder bucket-lag",
            );
        }
        (Forwarder::BucketLag, Some(false)) => {
            print_stderr("note: there is no bucket here, and so no lag behind one: see --forwarder queue");
        }
        _ => {}
    }
    if matches!(what, Forwarder::Ready | Forwarder::Configuration) && arguments.max.is_some() {
        return Err(Failure::failed(
            "--max goes with --forwarder drops|queue|bucket-lag: of the others anything is too much",
        ));
    }
    // Longer than the time between two points, or it would alert and recover at each.
    let (few_flushes, more_flushes) = (flushes(configured, 5), flushes(configured, 10));
    let (trouble, default) = match what {
        Forwarder::Ready => (ForwarderTrouble::NotReady, &*few_flushes),
        Forwarder::Drops => (ForwarderTrouble::Drops(arguments.max.unwrap_or(0)), &*more_flushes),
        Forwarder::Queue => (ForwarderTrouble::Queue(arguments.max.unwrap_or(QUEUE_DEPTH)), "30m"),
        Forwarder::BucketLag => (ForwarderTrouble::BucketLag(arguments.max.unwrap_or(BUCKET_LAG)), "30m"),
        Forwarder::Configuration => (ForwarderTrouble::Configuration, &*few_flushes),
    };
    if let ForwarderTrouble::Queue(height) | ForwarderTrouble::BucketLag(height) = trouble
        && height >= VALUE_MAX
    {
        return Err(Failure::failed(format!(
            "--max {height} is never exceeded: a height is told up to {VALUE_MAX}, so --max is {} at most",
            VALUE_MAX - 1
        )));
    }
    let window = read("--window", arguments.window.as_deref().unwrap_or(default), AlertWindow::of_threshold)?;
    note_window_of_own(window, configured);
    Ok(of_forwarder(trouble, window, arguments.name.as_deref(), &arguments.notify))
}

fn of_silence(
    arguments: &MonitorsArguments,
    configured: Option<&(Config, Connection)>,
) -> Result<serde_json::Value, Failure> {
    if is_over_sends(arguments) || arguments.max.is_some() || arguments.forwarder.is_some() {
        return Err(Failure::failed(
            "--heartbeat goes with --window, --connection, --notify and --name alone",
        ));
    }
    let connection = configured.map(|(_, connection)| connection);
    if let Some(connection) = connection.filter(|connection| !connection.heartbeat) {
        print_stderr(&format!(
            "note: connection {} sends no {}; set heartbeat = true there",
            connection.name,
            heartbeat::METRIC
        ));
    }
    // Three beats may be missing before it alerts; 10 minutes at least, so that a restart does not alert.
    let default = flushes(configured, 10);
    let window =
        read("--window", arguments.window.as_deref().unwrap_or(&default), AlertWindow::of_threshold)?;
    note_window_of_own(window, configured);
    let connection = connection.map(|connection| &*connection.name);
    Ok(of_heartbeat(connection, window, arguments.name.as_deref(), &arguments.notify))
}

/// When sends are due, and how long after that the monitor evaluates.
fn due(arguments: &MonitorsArguments, interval: Duration) -> Result<Option<Due>, Failure> {
    let Some(text) = &arguments.expect else { return Ok(None) };
    let MonitorsArguments { max, rise, factor, window, before, .. } = arguments;
    if max.is_some() || rise.is_some() || factor.is_some() || window.is_some() || before.is_some() {
        let reason = "--expect goes with --min, and its window ends when it is due: say with --since how long before that \
                      sends count, instead of --window";
        return Err(Failure::failed(reason));
    }
    let read = |option: &str, text: &str| {
        window::seconds(text).map_err(|error| Failure::failed(format!("{option} {text:?} {error}")))
    };
    let flushes = 3 * interval.as_secs();
    let grace = match &arguments.grace {
        Some(given) => read("--grace", given)?,
        None => LATENESS,
    };
    if !(60..=GRACE_MAX).contains(&grace) || !grace.is_multiple_of(60) {
        let hours = GRACE_MAX / 3600;
        return Err(Failure::failed(format!("--grace is whole minutes, from 1m to {hours}h: 30m")));
    }
    if grace < flushes {
        print_stderr(&format!(
            "note: --grace is shorter than three flushes ({flushes}s): what is sent in time may be counted after it was looked at"
        ));
    }
    let since = arguments.since.as_deref();
    let since = since.map(|since| self::read("--since", since, AlertWindow::of_threshold)).transpose()?;
    let due = Due::read(text, since, grace)
        .map_err(|error| Failure::failed(format!("--expect {text:?} {error}")))?;
    due.notes.iter().for_each(|note| print_stderr(&format!("note: {note}")));
    Ok(Some(due))
}

fn over_sends(
    arguments: MonitorsArguments,
    due: Option<Due>,
    metric: &str,
    sent: &SentTags<'_>,
) -> Result<Monitor, Failure> {
    let filters = filters(&arguments);
    let subject = subject(&arguments, &filters)?;
    let condition = condition(&arguments)?;
    let window = match &due {
        Some(due) => due.window,
        None => window(&arguments, &condition)?,
    };
    if let Condition::Rise { before, .. } | Condition::Growth { before, .. } = condition
        && before < window
    {
        let reason =
            "--before has to be at least as long as --window: it would compare sends with themselves";
        return Err(Failure::failed(reason));
    }
    for filter in &filters {
        sent.check_filter(filter)?;
    }
    if filters.is_empty() && matches!(condition, Condition::FewerThan(_)) {
        return Err(Failure::failed(
            "--min needs to know whom: what sends nothing at all is missing from \"every\", so that nobody would be \
             told; name a campaign, a Canvas or a step",
        ));
    }
    let groups = subject.groups(&sent.included);
    if groups.is_empty() && filters.is_empty() {
        let tags = subject.tags().join(", ");
        let reason = format!("tags.include has none of {tags}, to tell them apart");
        return Err(Failure::failed(reason));
    }
    let scope = arguments.tag.iter().map(|tag| sent.scope_of(tag)).collect::<Result<Vec<_>, _>>()?;
    note_names(&filters, &scope);
    let MonitorsArguments { name, notify, .. } = arguments;
    Ok(Monitor {
        metric: metric.to_owned(),
        subject,
        filters,
        scope,
        tags: groups,
        condition,
        window,
        due,
        name,
        notify,
    })
}

fn filters(arguments: &MonitorsArguments) -> Vec<Filter> {
    let MonitorsArguments { campaign, campaign_id, canvas, canvas_id, step, step_id, .. } = arguments;
    let given = [
        ("campaign_id", campaign_id),
        ("campaign_name", campaign),
        ("canvas_id", canvas_id),
        ("canvas_name", canvas),
        ("canvas_step_id", step_id),
        ("canvas_step_name", step),
    ];
    let filter = |(key, value): (&str, &Option<String>)| {
        value.as_ref().map(|value| Filter { key: key.to_owned(), value: value.clone() })
    };
    given.into_iter().filter_map(filter).collect()
}

fn subject(arguments: &MonitorsArguments, filters: &[Filter]) -> Result<Subject, Failure> {
    let has = |prefix: &str| filters.iter().any(|filter| filter.key.starts_with(prefix));
    let named = if has("canvas_step") {
        Some(Subject::Step)
    } else if has("canvas") {
        Some(Subject::Canvas)
    } else {
        has("campaign").then_some(Subject::Campaign)
    };
    match (named, arguments.every) {
        (Some(Subject::Step | Subject::Canvas), _) if has("campaign") => {
            Err(Failure::failed("a send is of a campaign or of a Canvas: one of them makes a monitor"))
        }
        (Some(subject), None) => Ok(subject),
        (None, Some(every)) => Ok(every.subject()),
        (Some(_), Some(_)) => Err(Failure::failed("--every goes without a name or id")),
        (None, None) => Err(Failure::failed(
            "say what is watched: --campaign NAME, --canvas NAME, --step NAME (or their ids: --campaign-id ID, …), \
             --every campaign|canvas|step, --heartbeat, or --forwarder \
             ready|drops|queue|bucket-lag|configuration",
        )),
    }
}

fn condition(arguments: &MonitorsArguments) -> Result<Condition, Failure> {
    let before = || read("--before", arguments.before.as_deref().unwrap_or("1d"), AlertWindow::before);
    let MonitorsArguments { min, max, rise, factor, .. } = arguments;
    let condition = match (*min, *max, *rise, *factor) {
        (Some(sends), None, None, None) => Condition::FewerThan(sends),
        (None, None, None, None) if arguments.expect.is_some() => Condition::FewerThan(1),
        (None, Some(sends), None, None) => Condition::MoreThan(sends),
        (None, None, Some(more), None) => return Ok(Condition::Rise { more, before: before()? }),
        (None, None, None, Some(percent)) => return Ok(Condition::Growth { percent, before: before()? }),
        (None, None, None, None) => {
            return Err(Failure::failed(
                "say when it goes off, with one of --min, --max, --rise, --factor, or --expect",
            ));
        }
        _ => {
            return Err(Failure::failed(
                "of --min, --max, --rise and --factor a monitor takes one: print a monitor for each, with a --name of its own",
            ));
        }
    };
    if arguments.before.is_some() {
        return Err(Failure::failed("--before goes with --rise and --factor"));
    }
    Ok(condition)
}

fn check_handles(handles: &[String]) -> Result<(), Failure> {
    let is_handle = |handle: &&String| {
        handle.len() > 1
            && handle.starts_with('@')
            && !handle.contains(|c: char| c.is_whitespace() || "{}".contains(c))
    };
    match handles.iter().find(|handle| !is_handle(handle)) {
        None => Ok(()),
        Some(handle) => Err(Failure::failed(format!(
            "--notify {handle:?} is not one of Datadog's handles, which begin with @: @slack-CHANNEL, @someone@example.com"
        ))),
    }
}
