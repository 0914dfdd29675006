//! `braze-datadog reconcile`: how far Datadog is from Braze's dashboard, and why.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use admin_api::format::grouped;
use admin_api::{Client, HistoryKind, HistoryObject, reachable};
use braze_events::SEND_TYPES;
use braze_rest::{BrazeClient, RestKey, SetupError};
use clap::Args;

use super::ADMIN_URL;
use crate::app::reconcile::{BRAZE_TIMEOUT, OBJECTS_MAX, ask, history, named};
use crate::app::{Failure, USER_AGENT, load, local_runtime, print_line, print_stderr};
use crate::config;
use crate::reconcile::{
    AppGroupFilter, ComparisonTerms, CountedTypes, DayRange, Reconciliation, Tolerance, compare, table,
};
use datadog_points::client::Proxies;
use event_lanes::clock::Clock;

/// A difference is beyond the tolerance.
const BEYOND_TOLERANCE: u8 = 3;

/// The limit for one answer of the forwarder.
const FORWARDER_TIMEOUT: Duration = Duration::from_secs(30);

const AFTER_HELP: &str = "\
What was sent last week, by campaign, Canvas and step, the largest difference first:
  braze-datadog reconcile --braze-url https://rest.fra-01.braze.eu --braze-key-file /etc/braze-datadog/braze.key \\
    --time-zone Europe/Paris

The key is a REST API key of one workspace, with the permissions campaigns.data_series and canvas.data_series; --all needs
campaigns.list and canvas.list, too. Days are those of the company in Braze: --time-zone is the one of its dashboard.

Differences are explained: dropped here (by reason), received too late, never received, on the other side of midnight, or not
in Braze's dashboard (retries, seed sends). A day that is not over, or that began before the forwarder kept its history, is
left out. What Braze can't be asked about is listed, and is never taken for 0.

Exit status: 0 everything is within --tolerance; 3 a campaign, a Canvas or a step is beyond it; 1 something, or all of it, could
not be compared, or the run failed; 78 the configuration is wrong.";

/// The arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ReconcileArguments {
    /// How many days, 100 at most
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = days, help_heading = "What is compared")]
    days: u32,
    /// The last of them, YYYY-MM-DD [default: today]
    #[arg(long, value_name = "DAY", help_heading = "What is compared")]
    to: Option<String>,
    /// The time zone of the company in Braze's dashboard, by its IANA name: Europe/Paris
    #[arg(long, value_name = "ZONE", default_value = "UTC", help_heading = "What is compared")]
    time_zone: String,
    /// This campaign; can be given again [default: every campaign and Canvas that the forwarder has sends of]
    #[arg(long, value_name = "ID", value_parser = id, help_heading = "What is compared")]
    campaign: Vec<String>,
    /// This Canvas with its steps; can be given again
    #[arg(long, value_name = "ID", value_parser = id, help_heading = "What is compared")]
    canvas: Vec<String>,
    /// Every campaign and Canvas that Braze lists, to find those of which nothing was received
    #[arg(long, conflicts_with_all = ["campaign", "canvas"], help_heading = "What is compared")]
    all: bool,
    /// Only sends of this app group: the key's workspace, if the forwarder has several
    #[arg(long, value_name = "ID", value_parser = id, help_heading = "What is compared")]
    app_group: Option<String>,
    /// How far apart the two sides may be, in percent of Braze's number
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = Tolerance::parse, help_heading = "What is compared")]
    tolerance: Tolerance,

    /// The address of Braze's REST API: `https://rest.fra-01.braze.eu`, `https://rest.iad-01.braze.com`, …
    #[arg(long, value_name = "URL", help_heading = "Who is asked")]
    braze_url: String,
    /// A file with a REST API key, readable by its owner only (chmod 600)
    #[arg(long, value_name = "FILE", help_heading = "Who is asked")]
    braze_key_file: PathBuf,
    /// The forwarder's admin port, here or on another machine [default: that of --config, else `http://127.0.0.1:8081`]
    #[arg(long, value_name = "URL", help_heading = "Who is asked")]
    url: Option<String>,
    /// Take the admin port's address from this configuration
    #[arg(long, value_name = "PATH", conflicts_with = "url", help_heading = "Who is asked")]
    config: Option<PathBuf>,

    /// Write everything as JSON instead of a table of the differences
    #[arg(long)]
    json: bool,
}

fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| (1..=braze_rest::CAMPAIGN_DAYS_MAX).contains(days));
    days.ok_or_else(|| {
        let max = braze_rest::CAMPAIGN_DAYS_MAX;
        format!("a number from 1 to {max}: Braze answers for {max} days at most; --to YYYY-MM-DD goes further back")
    })
}

fn id(text: &str) -> Result<String, &'static str> {
    let id = text.trim();
    if id.is_empty() { Err("an id is not empty") } else { Ok(id.to_owned()) }
}

/// `braze-datadog reconcile`
pub(super) fn run(arguments: &ReconcileArguments) -> Result<(), Failure> {
    let now = Clock::system().unix_seconds();
    let range = DayRange::new(&arguments.time_zone, arguments.to.as_deref(), arguments.days, now)
        .map_err(Failure::failed)?;
    let braze = braze_client(arguments)?;
    let forwarder = forwarder_client(arguments)?;
    let runtime = local_runtime()?;
    let all = runtime.block_on(reconcile(arguments, &range, now, &braze, &forwarder))?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&all).map_err(Failure::failed)?
    } else {
        table(&all)
    };
    print_line(&text).map_err(Failure::failed)?;
    conclude(&all)
}

fn braze_client(arguments: &ReconcileArguments) -> Result<BrazeClient, Failure> {
    let path = &arguments.braze_key_file;
    let (key, warning) = config::read_key(path, "a REST API key of Braze")
        .map_err(|reason| Failure::failed(format!("--braze-key-file: {} {reason}", path.display())))?;
    if let Some(warning) = warning {
        print_stderr(&format!("warning: {warning}"));
    }
    Proxies::from_environment().map_err(Failure::configuration)?;
    let client = RestKey::new(&key)
        .and_then(|key| BrazeClient::new(&arguments.braze_url, key, USER_AGENT, BRAZE_TIMEOUT));
    // Without the address, which may hold a password.
    client.map_err(|error| match error {
        SetupError::Url(_) => Failure::failed(format!("--braze-url {error}")),
        error => Failure::failed(error),
    })
}

fn forwarder_client(arguments: &ReconcileArguments) -> Result<Client, Failure> {
    let client = match (&arguments.url, &arguments.config) {
        (None, Some(path)) => {
            let (config, _) = load(path)?;
            Client::local(reachable(config.admin.listen), FORWARDER_TIMEOUT)
        }
        (url, _) => Client::new(url.as_deref().unwrap_or(ADMIN_URL), FORWARDER_TIMEOUT),
    };
    client.map_err(|error| Failure::failed(format!("--url: {error}")))
}

async fn reconcile(
    arguments: &ReconcileArguments,
    range: &DayRange,
    now: u64,
    braze: &BrazeClient,
    forwarder: &Client,
) -> Result<Reconciliation, Failure> {
    let OwnTerms { types, left_out } = own_terms(forwarder).await?;
    let groups = RefCell::new(AppGroupFilter::new(arguments.app_group.as_deref().unwrap_or_default()));
    let wanted = |object: &HistoryObject| {
        let is_of_group = groups.borrow_mut().note(&object.app_group_id);
        is_of_group && is_named(arguments, object)
    };
    let (history, since) = history::read(forwarder, range, wanted).await?;
    let groups = groups.into_inner();
    let missing = groups.missing();
    if let Some(missing) = &missing {
        note(&format!("--app-group: on these days {missing}"));
    } else if groups.leaves_out_unknown() {
        note(
            "the forwarder has sends whose app group it does not know, and --app-group leaves these out: has its \
             tags.include the tag app_group_id?",
        );
    }
    let asked = if arguments.all {
        ask::list(braze, note).await?
    } else {
        named(&arguments.campaign, &arguments.canvas, &history)
    };
    if asked.is_empty() && missing.is_none() {
        note(
            "there is nothing to compare: the forwarder has no campaign and no Canvas with sends on these days (--all asks \
             Braze for all that it has)",
        );
    } else if asked.len() > OBJECTS_MAX {
        return Err(Failure::failed(format!(
            "{} campaigns and Canvases are more than Braze is asked about at a time ({OBJECTS_MAX}); name some with \
             --campaign and --canvas, or ask for fewer days",
            asked.len()
        )));
    }
    let answers = ask::series(braze, range, asked, note).await?.all;
    let tolerance = arguments.tolerance;
    let terms = ComparisonTerms { range, types: &types, tolerance, since, left_out, now };
    Ok(compare(&terms, history, answers))
}

fn note(note: &str) {
    print_stderr(&format!("note: {note}"));
}

/// What the forwarder says of its numbers.
struct OwnTerms {
    /// The event types that it counts, from its settings.
    types: CountedTypes,
    /// Sends that its history has left out.
    left_out: u64,
}

async fn own_terms(forwarder: &Client) -> Result<OwnTerms, Failure> {
    let status = forwarder.status().await.map_err(|error| {
        let url = forwarder.url();
        Failure::failed(format!("the forwarder at {url}: {error} (--url says where its admin port is)"))
    })?;
    let setting = status.configuration.iter().find(|setting| setting.key == "events.count");
    let left_out = status.history.map_or(0, |history| history.sends_left_out);
    if left_out > 0 {
        note(&format!(
            "the forwarder has left {} sends out of its history since its start (it lagged behind, or could not be \
             written): they are missing here, and its books and Datadog may have them",
            grouped(left_out)
        ));
    }
    let types = setting.map_or_else(
        || {
            note("the forwarder does not say which event types it counts: all sends are compared");
            let all: Vec<&str> = SEND_TYPES.iter().map(|(name, _)| *name).collect();
            CountedTypes::parse(&all.join(","))
        },
        |setting| CountedTypes::parse(&setting.value),
    );
    Ok(OwnTerms { types, left_out })
}

fn is_named(arguments: &ReconcileArguments, object: &HistoryObject) -> bool {
    let is_in = |ids: &[String], id: &str| ids.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
    match object.kind {
        _ if arguments.campaign.is_empty() && arguments.canvas.is_empty() => true,
        HistoryKind::Campaign => is_in(&arguments.campaign, &object.id),
        HistoryKind::Canvas => is_in(&arguments.canvas, &object.id),
        HistoryKind::Step => is_in(&arguments.canvas, &object.canvas_id),
    }
}

/// The exit status by the result.
fn conclude(all: &Reconciliation) -> Result<(), Failure> {
    let left = all.not_compared.len();
    let incomplete = match (left, all.left_out()) {
        (0, Some(reason)) => format!("nothing was compared: each day {reason}"),
        (0, None) if !all.is_any_compared() => "nothing was compared".to_owned(),
        _ if !all.is_incomplete() => String::new(),
        (0, _) => "Braze's answers have no number of sends for some days".to_owned(),
        _ => format!("{left} of the campaigns, Canvases and steps could not be compared"),
    };
    let beyond = all.objects.iter().filter(|object| !object.within_tolerance).count();
    if beyond > 0 {
        let (of, percent) = (all.objects.len(), all.tolerance_percent);
        let incomplete = if incomplete.is_empty() { incomplete } else { format!("; {incomplete}") };
        return Err(Failure {
            status: BEYOND_TOLERANCE,
            message: format!("{beyond} of {of} differ by more than {percent} %{incomplete}"),
        });
    }
    if incomplete.is_empty() { Ok(()) } else { Err(Failure::failed(incomplete)) }
}
