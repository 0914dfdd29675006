//! `braze-datadog monitors`: prints a monitor that is ready to be posted to Datadog.

use clap::{Args, ValueEnum};

use super::command_line::ConfigArgument;
use super::{Failure, complain, load, print_line};
use crate::config::Config;
use crate::connection::Connection;
use crate::monitors::window::{AlertWindow, WindowError};
use crate::monitors::{Condition, Filter, Monitor, Subject, of_heartbeat};
use crate::pipeline::heartbeat;
use datadog_points::normalize::{stored_tag, stored_value};
use send_counts::aggregate::tags::Tag;

/// The metric where no configuration says otherwise.
const METRIC: &str = "braze.messaging.sent";

/// Numbers up to here are exact in JSON, and far above what anybody sends.
const SENDS_MAX: u64 = 1 << 53;

const EXAMPLES: &str = "\
Examples:
  A weekly newsletter that sends abnormally few, nothing at all included:
    braze-datadog monitors --campaign \"Weekly newsletter\" --min 1000 --window 1w --notify @slack-crm

  Any Canvas step that suddenly sends thousands more in an hour than at the same time a day before:
    braze-datadog monitors --every step --rise 5000 --window 1h --before 1d

  One step that sends ten times as many as a week before; no forwarder:
    braze-datadog monitors --step-id 5d1c… --factor 10 --before 1w
    braze-datadog monitors --heartbeat --connection acme

  Post it, to the site that the connection has:
    braze-datadog monitors … | curl --fail --json @- https://api.datadoghq.com/api/v1/monitor \\
      -H \"DD-API-KEY: $DD_API_KEY\" -H \"DD-APPLICATION-KEY: $DD_APP_KEY\"

Names are written as Braze shows them and looked for as Datadog stores them: lower-case, with _ for what is no letter, \
digit, - . / or colon. Two names can become one there; ids can't. Datadog starts to watch a monitor once it has seen \
data for it: look at its graph after posting.";

/// What to print.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MonitorsArguments {
    /// Watch the campaign of this name
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    campaign: Option<String>,
    /// Watch the campaign with this id; ids are unique and survive a new name
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    campaign_id: Option<String>,
    /// Watch the Canvas of this name, or with --step: the step of this Canvas
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    canvas: Option<String>,
    /// As --canvas, by id
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    canvas_id: Option<String>,
    /// Watch the Canvas step of this name; other Canvases may have one of the same name
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    step: Option<String>,
    /// As --step, by id
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    step_id: Option<String>,
    /// Watch every campaign, Canvas or step, each by itself
    #[arg(long, value_name = "WHAT", help_heading = "What is watched")]
    every: Option<Every>,
    /// Watch the heartbeat of the forwarder (`heartbeat = true` in its connection)
    #[arg(long, help_heading = "What is watched")]
    heartbeat: bool,
    /// Only what has this tag, too: `env:prod`, `app_group_name:Acme`; can be given again
    #[arg(long, value_name = "KEY:VALUE", help_heading = "What is watched")]
    tag: Vec<String>,

    /// Fewer sends than this in the window, nothing at all included
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(1..=SENDS_MAX), help_heading = "When it goes off")]
    min: Option<u64>,
    /// More sends than this in the window
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(0..=SENDS_MAX), help_heading = "When it goes off")]
    max: Option<u64>,
    /// So many more sends in the window than in the one --before. What is new counts from zero, by Datadog's rules for
    /// counts; a second monitor with --max makes sure
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(1..=SENDS_MAX), help_heading = "When it goes off")]
    rise: Option<u64>,
    /// So many times as many sends in the window as in the one --before; what is new has none to compare with
    #[arg(long, value_name = "TIMES", value_parser = percent_more, help_heading = "When it goes off")]
    factor: Option<u64>,
    /// The time that is looked at: 15m, 4h, 1d, 1w, 1mo [default: 1w with --min, 10m or three flushes with --heartbeat, else 1h]
    #[arg(long, value_name = "TIME", help_heading = "When it goes off")]
    window: Option<String>,
    /// With --rise and --factor: how long before that the window to compare with lies [default: 1d]
    #[arg(long, value_name = "TIME", help_heading = "When it goes off")]
    before: Option<String>,

    /// Who is told: @slack-CHANNEL, @pagerduty, an @address; can be given again
    #[arg(long, value_name = "@HANDLE", help_heading = "The monitor")]
    notify: Vec<String>,
    /// Its name [default: one that says what it watches]
    #[arg(long, value_name = "TEXT", help_heading = "The monitor")]
    name: Option<String>,
    /// The metric of this connection of the configuration, and its tags
    #[arg(long, value_name = "NAME", help_heading = "The monitor")]
    connection: Option<String>,
    #[command(flatten)]
    config: ConfigArgument,
}

/// What there are many of.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Every {
    Campaign,
    Canvas,
    Step,
}

impl Every {
    const fn subject(self) -> Subject {
        match self {
            Every::Campaign => Subject::Campaign,
            Every::Canvas => Subject::Canvas,
            Every::Step => Subject::Step,
        }
    }
}

/// `braze-datadog monitors`
pub(super) fn run(arguments: MonitorsArguments) -> Result<(), Failure> {
    let configured = configured(&arguments)?;
    let (metric, tags, connection) = match &configured {
        Some((config, connection)) => {
            (&*connection.metric, config.tags.include.clone(), Some(&*connection.name))
        }
        None => (METRIC, Tag::ALL.to_vec(), None),
    };
    check_handles(&arguments.notify)?;
    let monitor = if arguments.heartbeat {
        of_silence(&arguments, configured.as_ref())?
    } else {
        let tags: Vec<&str> = tags.iter().map(|tag| tag.name()).collect();
        over_sends(arguments, metric, &tags, connection)?.to_json()
    };
    print_line(&format!("{monitor:#}")).map_err(Failure::failed)
}

/// The connection whose monitor it is, where a configuration is asked for.
fn configured(arguments: &MonitorsArguments) -> Result<Option<(Config, Connection)>, Failure> {
    if arguments.connection.is_none() && arguments.config.config.is_none() {
        return Ok(None);
    }
    let (config, _, path) = load(arguments.config.config.clone())?;
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
    Ok(Some((config, connection)))
}

fn of_silence(
    arguments: &MonitorsArguments,
    configured: Option<&(Config, Connection)>,
) -> Result<serde_json::Value, Failure> {
    let MonitorsArguments { campaign, campaign_id, canvas, canvas_id, step, step_id, .. } = arguments;
    let names = [campaign, campaign_id, canvas, canvas_id, step, step_id];
    let conditions = [arguments.min, arguments.max, arguments.rise, arguments.factor];
    if names.into_iter().any(Option::is_some)
        || conditions.iter().any(Option::is_some)
        || arguments.every.is_some()
        || !arguments.tag.is_empty()
        || arguments.before.is_some()
    {
        return Err(Failure::failed(
            "--heartbeat goes with --window, --connection, --notify and --name alone",
        ));
    }
    let connection = configured.map(|(_, connection)| connection);
    if let Some(connection) = connection.filter(|connection| !connection.heartbeat) {
        complain(&format!(
            "note: connection {} sends no {}; set heartbeat = true there",
            connection.name,
            heartbeat::METRIC
        ));
    }
    // Three beats may be missing before anybody is woken; 10 minutes at least, for a restart is none of their business.
    let interval = configured.map_or(0, |(config, _)| config.aggregate.flush_interval.as_secs());
    let default = format!("{}m", (3 * interval).div_ceil(60).max(10));
    let window =
        read("--window", arguments.window.as_deref().unwrap_or(&default), AlertWindow::of_threshold)?;
    let connection = connection.map(|connection| &*connection.name);
    Ok(of_heartbeat(connection, window, arguments.name.as_deref(), &arguments.notify))
}

fn over_sends(
    arguments: MonitorsArguments,
    metric: &str,
    tags: &[&str],
    connection: Option<&str>,
) -> Result<Monitor, Failure> {
    let filters = filters(&arguments);
    let subject = subject(&arguments, &filters)?;
    let condition = condition(&arguments)?;
    let window = window(&arguments, &condition)?;
    if let Condition::Rise { before, .. } | Condition::Growth { before, .. } = condition
        && before < window
    {
        let reason =
            "--before has to be at least as long as --window: it would compare sends with themselves";
        return Err(Failure::failed(reason));
    }
    for filter in &filters {
        check_filter(filter, tags, connection)?;
    }
    if filters.is_empty() && matches!(condition, Condition::FewerThan(_)) {
        return Err(Failure::failed(
            "--min needs to know whom: what sends nothing at all is missing from \"every\", so that nobody would be \
             told; name a campaign, a Canvas or a step",
        ));
    }
    let groups = subject.tags().iter().filter(|tag| tags.contains(tag)).map(|tag| (*tag).to_owned());
    let groups: Vec<String> = groups.collect();
    if groups.is_empty() && filters.is_empty() {
        let reason = format!("tags.include has none of {}, to tell them apart", subject.tags().join(", "));
        return Err(Failure::failed(reason));
    }
    let scope = arguments.tag.iter().map(|tag| scope_of(tag)).collect::<Result<_, _>>()?;
    let MonitorsArguments { name, notify, .. } = arguments;
    Ok(Monitor {
        metric: metric.to_owned(),
        subject,
        filters,
        scope,
        tags: groups,
        condition,
        window,
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
             --every campaign|canvas|step, or --heartbeat",
        )),
    }
}

fn condition(arguments: &MonitorsArguments) -> Result<Condition, Failure> {
    let before = || read("--before", arguments.before.as_deref().unwrap_or("1d"), AlertWindow::before);
    let MonitorsArguments { min, max, rise, factor, .. } = arguments;
    let condition = match (*min, *max, *rise, *factor) {
        (Some(sends), None, None, None) => Condition::FewerThan(sends),
        (None, Some(sends), None, None) => Condition::MoreThan(sends),
        (None, None, Some(more), None) => return Ok(Condition::Rise { more, before: before()? }),
        (None, None, None, Some(percent)) => return Ok(Condition::Growth { percent, before: before()? }),
        _ => return Err(Failure::failed("say when it goes off, with one of --min, --max, --rise, --factor")),
    };
    if arguments.before.is_some() {
        return Err(Failure::failed("--before goes with --rise and --factor"));
    }
    Ok(condition)
}

fn window(arguments: &MonitorsArguments, condition: &Condition) -> Result<AlertWindow, Failure> {
    let given = arguments.window.as_deref();
    match condition {
        Condition::FewerThan(_) => read("--window", given.unwrap_or("1w"), AlertWindow::of_threshold),
        Condition::MoreThan(_) => read("--window", given.unwrap_or("1h"), AlertWindow::of_threshold),
        Condition::Rise { .. } | Condition::Growth { .. } => {
            read("--window", given.unwrap_or("1h"), AlertWindow::of_change)
        }
    }
}

fn read(
    option: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<AlertWindow, WindowError>,
) -> Result<AlertWindow, Failure> {
    parse(text).map_err(|error| Failure::failed(format!("{option} {text:?} {error}")))
}

/// Whether there is anything that a query could find.
fn check_filter(filter: &Filter, tags: &[&str], connection: Option<&str>) -> Result<(), Failure> {
    let Filter { key, value } = filter;
    if !tags.contains(&&**key) {
        let of = connection.unwrap_or_default();
        let reason =
            format!("connection {of} sends no tag {key}: it is not in tags.include; watch it by another");
        return Err(Failure::failed(reason));
    }
    let stored = stored_value(key, value);
    if stored.is_empty() {
        let reason =
            format!("nothing is left of {value:?} in Datadog, so that no query finds it; watch it by its id");
        return Err(Failure::failed(reason));
    }
    if !value.is_ascii() || stored.chars().count() + key.len() + 1 >= 200 {
        complain(&format!(
            "note: {value:?} is looked for as {key}:{stored}, but what Datadog makes of letters beyond ASCII and of long \
             names is not published: compare with the tag in Datadog, or watch it by its id"
        ));
    }
    Ok(())
}

fn scope_of(tag: &str) -> Result<String, Failure> {
    let stored = stored_tag(tag);
    match stored.split_once(':') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(stored),
        _ => Err(Failure::failed(format!("--tag {tag:?} is not KEY:VALUE"))),
    }
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

/// `10`, `2.5`: how many percent more that is, exactly.
fn percent_more(text: &str) -> Result<u64, String> {
    const REASON: &str = "a number from 1.01 to 10000, with two digits behind the point at most";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
        return Err(REASON.to_owned());
    }
    let hundredths: Option<u64> = format!("{whole}{fraction:0<2}").parse().ok();
    hundredths
        .filter(|times| (101..=1_000_000).contains(times))
        .map(|times| times - 100)
        .ok_or(REASON.to_owned())
}
