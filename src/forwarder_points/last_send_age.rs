//! How long ago each campaign was sent last: for monitors on silent campaigns, which a count can't tell from unknown ones.

use super::ForwarderPoint;
use braze_events::Field;
use datadog_points::payload::VALUE_MAX;
use send_counts::aggregate::tags;
use send_counts::aggregate::window::AHEAD_SECONDS_MAX;
use send_history::{ObjectKind, SendHistory, SentObject};

/// Seconds since the last send of a campaign.
pub const CAMPAIGN_LAST_SEND_AGE: &str = "braze.forwarder.campaign_last_send_age";

/// Seconds between two points of a campaign: ages are in hours and days, and each point has its price.
const INTERVAL: u64 = 60;

/// The campaigns with points, those sent last: each is a series, that is five custom metrics.
const CAMPAIGNS_MAX: usize = 1_000;

/// For how many seconds a campaign has points, so that finished ones cost nothing any more: 35 days, so that a monthly one
/// has points from send to send.
const AGE_MAX: u64 = 35 * 86_400;

/// When the last points were made.
#[derive(Debug, Default)]
pub struct LastSendAges {
    told: Option<u64>,
}

impl LastSendAges {
    /// The points of a flush at the Unix second `time`; none within a minute of the last ones.
    pub fn points(
        &mut self,
        history: &SendHistory,
        static_tags: &[Box<str>],
        time: u64,
    ) -> Vec<ForwarderPoint> {
        // A clock that was put back does not hold points up.
        if self.told.is_some_and(|told| (told..told + INTERVAL).contains(&time)) {
            return Vec::new();
        }
        // A clock that was ahead for a while has written sends of days to come.
        let told = time.saturating_sub(AGE_MAX) + 1..=time.saturating_add(AHEAD_SECONDS_MAX);
        let is_told =
            |object: &SentObject| object.kind == ObjectKind::Campaign && told.contains(&object.last_send);
        let campaigns = history.latest(is_told, CAMPAIGNS_MAX);
        // At the start the history may not be open yet.
        self.told = (!campaigns.is_empty()).then_some(time);
        campaigns.iter().map(|campaign| point(campaign, static_tags, time)).collect()
    }
}

/// Its tags are those of the campaign's sends, and the connection; no version, which would duplicate all series after each
/// upgrade.
fn point(campaign: &SentObject, static_tags: &[Box<str>], time: u64) -> ForwarderPoint {
    let of_campaign = [(Field::CampaignId, &campaign.id), (Field::CampaignName, &campaign.name)];
    let named = of_campaign.into_iter().filter_map(|(field, value)| {
        let value = String::from_utf8_lossy(tags::clean(value.as_bytes(), field.name()));
        (!value.is_empty()).then(|| format!("{}:{value}", field.name()))
    });
    let own = named.chain([format!("connection:{}", campaign.connection)]);
    let age = time.saturating_sub(campaign.last_send).min(VALUE_MAX);
    ForwarderPoint::new(CAMPAIGN_LAST_SEND_AGE, static_tags, own, time, age)
}

#[cfg(test)]
mod tests;
