//! The files of `config/datadog`, embedded in the binary.

use clap::ValueEnum;

use crate::app::Failure;
use crate::monitors::format::Resource;

/// One of the files, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Which {
    /// The dashboard
    Dashboard,
    /// All monitors
    Monitors,
    /// A campaign sends too few in a week
    CampaignSendsTooFew,
    /// A campaign was not sent when it was due
    CampaignDidNotGoOut,
    /// A Canvas step suddenly sends thousands
    StepSuddenlySendsThousands,
    /// The forwarder is silent
    Heartbeat,
    /// The forwarder takes no events
    ForwarderTakesNoEvents,
    /// The forwarder drops sends
    ForwarderDropsSends,
    /// Events wait in the forwarder's queue
    ForwarderQueueIsLong,
    /// The forwarder lags behind its bucket
    ForwarderBucketLags,
    /// The forwarder's configuration, or that of a connection, is refused
    ForwarderConfigurationIsRefused,
}

const MONITORS: [(Which, &str); 9] = [
    (Which::CampaignSendsTooFew, include_str!("../../../config/datadog/monitor-campaign-sends-too-few.json")),
    (
        Which::CampaignDidNotGoOut,
        include_str!("../../../config/datadog/monitor-campaign-did-not-go-out.json"),
    ),
    (
        Which::StepSuddenlySendsThousands,
        include_str!("../../../config/datadog/monitor-step-suddenly-sends-thousands.json"),
    ),
    (Which::Heartbeat, include_str!("../../../config/datadog/monitor-heartbeat.json")),
    (
        Which::ForwarderTakesNoEvents,
        include_str!("../../../config/datadog/monitor-forwarder-takes-no-events.json"),
    ),
    (Which::ForwarderDropsSends, include_str!("../../../config/datadog/monitor-forwarder-drops-sends.json")),
    (
        Which::ForwarderQueueIsLong,
        include_str!("../../../config/datadog/monitor-forwarder-queue-is-long.json"),
    ),
    (Which::ForwarderBucketLags, include_str!("../../../config/datadog/monitor-forwarder-bucket-lags.json")),
    (
        Which::ForwarderConfigurationIsRefused,
        include_str!("../../../config/datadog/monitor-forwarder-configuration-is-refused.json"),
    ),
];

/// The content of these files.
pub(super) fn resources(which: Which) -> Result<Vec<Resource>, Failure> {
    if which == Which::Dashboard {
        return Ok(vec![Resource::Dashboard(json(include_str!("../../../config/datadog/dashboard.json"))?)]);
    }
    let chosen = MONITORS.iter().filter(|(name, _)| which == Which::Monitors || *name == which);
    chosen.map(|(_, text)| Ok(Resource::Monitor { json: json(text)?, is_named: false })).collect()
}

fn json(text: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::failed(format!("what ships is damaged: {error}")))
}
