//! The arguments of `braze-datadog monitors`.

use clap::{Args, ValueEnum};

use super::shipped::Which;
use crate::app::arguments::ConfigArgument;
use crate::monitors::Subject;
use crate::monitors::format::OutputFormat;

/// Numbers up to here are exact in JSON, and far above any number of sends.
const SENDS_MAX: u64 = 1 << 53;

const EXAMPLES: &str = "\
Examples:
  Did the weekly newsletter go out? Quiet until it is due, alerts half an hour later if it did not:
    braze-datadog monitors --campaign \"Weekly newsletter\" --min 1000 --expect \"Mon 11:00 Europe/Paris\"

  A campaign that sends abnormally few, or nothing at all, watched all the time:
    braze-datadog monitors --campaign \"Weekly newsletter\" --min 1000 --window 1w --notify @slack-crm

  Any Canvas step that suddenly sends thousands more in an hour than at the same time a day before:
    braze-datadog monitors --every step --rise 5000 --window 1h --before 1d

  One step that sends ten times as many as a week before; a forwarder that is gone:
    braze-datadog monitors --step-id 5d1c… --factor 10 --before 1w
    braze-datadog monitors --heartbeat --connection acme

  A forwarder that takes no events, without an Agent; sends that it drops; events that wait in its queue:
    braze-datadog monitors --forwarder ready --notify @pagerduty
    braze-datadog monitors --forwarder drops --notify @pagerduty
    braze-datadog monitors --forwarder queue --max 100000 --window 30m

  What is in config/datadog, and anything of the above, for Terraform or the Datadog Operator:
    braze-datadog monitors --shipped dashboard --format terraform > dashboard.tf
    braze-datadog monitors --shipped monitors --format kubernetes | kubectl apply -f -

  Post it to the connection's site:
    braze-datadog monitors … | curl --fail --json @- https://api.datadoghq.com/api/v1/monitor \\
      -H \"DD-API-KEY: $DD_API_KEY\" -H \"DD-APPLICATION-KEY: $DD_APP_KEY\"

Write names as Braze shows them; they are matched as Datadog stores them: lower-case, with _ for anything but letters, digits, \
- . / and colon. Two names can become one there; ids can't, and sends of the first hour may have no name. Use --expect for what \
is sent weekly: last week's sends leave a window of a week just as this week's arrive, and earlier when clocks go back. For \
Terraform and Kubernetes a monitor keeps its name while only its threshold changes; two thresholds for the same thing need a \
--name each. Datadog starts to watch a monitor once it has seen data for it: look at its graph after posting. A schedule \
(--expect) can be given to a monitor only when it is made: to change it, post another monitor.";

/// The arguments of `monitors`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::commands) struct MonitorsArguments {
    /// Watch the campaign of this name
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    pub(super) campaign: Option<String>,
    /// Watch the campaign with this id; ids are unique and survive renaming
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    pub(super) campaign_id: Option<String>,
    /// Watch the Canvas of this name, or with --step: the step of this Canvas
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    pub(super) canvas: Option<String>,
    /// As --canvas, by id
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    pub(super) canvas_id: Option<String>,
    /// Watch the Canvas step of this name; other Canvases may have a step of the same name
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    pub(super) step: Option<String>,
    /// As --step, by id
    #[arg(long, value_name = "ID", help_heading = "What is watched")]
    pub(super) step_id: Option<String>,
    /// Watch every campaign, Canvas or step, each by itself
    #[arg(long, value_name = "WHAT", help_heading = "What is watched")]
    pub(super) every: Option<Every>,
    /// Watch the heartbeat of the forwarder (`heartbeat = true` in its connection)
    #[arg(long, help_heading = "What is watched")]
    pub(super) heartbeat: bool,
    /// Watch what the forwarder reports about itself (`[forwarder_metrics]`): that it takes no events throughout --window
    /// [default: 5m or three flushes]; or that it drops more than --max [default: 0] sends in --window [default: 10m or
    /// three flushes]; or that more than --max [default: 100000] events wait in its queue throughout --window [default: 30m]; or
    /// that it is more than --max [default: 1800] seconds behind its bucket, likewise; or that its configuration, or that of a
    /// connection, is refused throughout --window [default: 5m or three flushes]
    #[arg(long, value_name = "WHAT", help_heading = "What is watched")]
    pub(super) forwarder: Option<Forwarder>,
    /// Only what has this tag, too, as Datadog stores it: `env:prod`, `app_group_name:acme_corp`; can be given again
    #[arg(long, value_name = "KEY:VALUE", help_heading = "What is watched")]
    pub(super) tag: Vec<String>,

    /// Fewer sends than this in the window, or none at all. Without --expect the window ends half an hour ago, so that what
    /// was sent in time has arrived
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(1..=SENDS_MAX), help_heading = "When it goes off")]
    pub(super) min: Option<u64>,
    /// More sends than this in the window
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(0..=SENDS_MAX), help_heading = "When it goes off")]
    pub(super) max: Option<u64>,
    /// This many more sends in the window than in the one --before. What is new counts from zero, by Datadog's rules for
    /// counts; a second monitor with --max makes sure of it
    #[arg(long, value_name = "SENDS", value_parser = clap::value_parser!(u64).range(1..=SENDS_MAX), help_heading = "When it goes off")]
    pub(super) rise: Option<u64>,
    /// This many times as many sends in the window as in the one --before; what is new has nothing to compare with
    #[arg(long, value_name = "TIMES", value_parser = percent_more, help_heading = "When it goes off")]
    pub(super) factor: Option<u64>,
    /// The time that is evaluated: 15m, 4h, 1d, 1w, 1mo [default: 1w with --min, 10m or three flushes with --heartbeat, else 1h]
    #[arg(long, value_name = "TIME", help_heading = "When it goes off")]
    pub(super) window: Option<String>,
    /// With --rise and --factor: how long before it the window to compare with is [default: 1d]
    #[arg(long, value_name = "TIME", help_heading = "When it goes off")]
    pub(super) before: Option<String>,

    /// When it must have been sent: "Mon 11:00 Europe/Paris", "Mon,Wed,Fri 09:30 Europe/Berlin", "daily 08:00 UTC",
    /// "1st 08:00 …", "last day …", "first Mon …", or a rule: "FREQ=WEEKLY;BYDAY=MO,TH 08:00 UTC". The monitor is evaluated
    /// then and at no other time, and goes off if fewer than --min [default: 1] were sent since it was due before
    #[arg(long, value_name = "DAYS TIME ZONE", help_heading = "When it goes off")]
    pub(super) expect: Option<String>,
    /// With --expect: count sends from this long before it is due [default: since it was due before, a week at most]
    #[arg(long, value_name = "TIME", requires = "expect", help_heading = "When it goes off")]
    pub(super) since: Option<String>,
    /// With --expect: how long after that it is evaluated. Events of a quiet workspace come 5 to 30 minutes late from Braze,
    /// and leave with the next flush [default: 30m]
    #[arg(long, value_name = "TIME", requires = "expect", help_heading = "When it goes off")]
    pub(super) grace: Option<String>,

    /// Who is notified: @slack-CHANNEL, @pagerduty, an @address; can be given again
    #[arg(long, value_name = "@HANDLE", help_heading = "The monitor")]
    pub(super) notify: Vec<String>,
    /// Its name [default: one that says what it watches]
    #[arg(long, value_name = "TEXT", help_heading = "The monitor")]
    pub(super) name: Option<String>,
    /// Use the metric of this connection of the configuration, and its tags [default: the only one]
    #[arg(long, value_name = "NAME", help_heading = "The monitor")]
    pub(super) connection: Option<String>,
    /// The form of the output: for Datadog's API, its Terraform provider, or the Datadog Operator
    #[arg(long, value_name = "FORMAT", default_value = "json", help_heading = "The monitor")]
    pub(super) format: FormatName,
    /// Print what is in config/datadog instead: the dashboard, all monitors, or one of them
    #[arg(
        long,
        value_name = "WHAT",
        help_heading = "What ships",
        conflicts_with_all = [
            "campaign", "campaign_id", "canvas", "canvas_id", "step", "step_id", "every", "heartbeat", "forwarder", "tag", "min", "max", "rise",
            "factor", "window", "before", "expect", "notify", "name", "connection", "config",
        ]
    )]
    pub(super) shipped: Option<Which>,
    #[command(flatten)]
    pub(super) config: ConfigArgument,
}

/// Subjects of which there are many.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Every {
    Campaign,
    Canvas,
    Step,
}

impl Every {
    pub(super) const fn subject(self) -> Subject {
        match self {
            Every::Campaign => Subject::Campaign,
            Every::Canvas => Subject::Canvas,
            Every::Step => Subject::Step,
        }
    }
}

/// Own metrics of the forwarder.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Forwarder {
    Ready,
    Drops,
    Queue,
    BucketLag,
    Configuration,
}

/// The reader of the output.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FormatName {
    Json,
    Terraform,
    Kubernetes,
}

impl FormatName {
    pub(super) const fn format(self) -> OutputFormat {
        match self {
            FormatName::Json => OutputFormat::Json,
            FormatName::Terraform => OutputFormat::Terraform,
            FormatName::Kubernetes => OutputFormat::Kubernetes,
        }
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
