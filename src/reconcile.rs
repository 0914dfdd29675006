//! How far Datadog is from Braze's dashboard, and why.
//!
//! Braze says itself that the numbers may differ: other windows, other definitions. Here its dashboard's sends (read over
//! REST) are compared with those that the forwarder has counted, that Datadog has accepted, and that were dropped; for each
//! campaign, Canvas and step, day by day. Nothing is guessed: a day without a number on one side is not compared, and is
//! listed as such. Pure: the input is both sides' answers and the time, the output is the result to show.

mod app_group_filter;
mod channels;
mod compare;
mod daily;
mod days;
mod explanation;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use admin_api::{HistoryKind, SendsBySide};
use braze_rest::{CampaignDay, CanvasSeries};
use jiff::civil::Date;
use serde::Serialize;

pub use self::app_group_filter::AppGroupFilter;
pub use self::channels::CountedTypes;
pub use self::compare::{ComparisonTerms, SETTLED_AFTER, compare};
pub use self::daily::{
    AttemptOutcome, DailySchedule, NextAttempt, ReconcileAttempt, ReconcileSettings, RefusedWorkspace,
    WorkspaceSettings, shorten,
};
pub use self::days::{DayRange, DayRangeError, DayRequest};
pub use self::explanation::{Difference, DifferenceReason, UncomparedReason};
pub use self::table::table;

/// How far apart both sides may be, in hundredths of a percent of Braze's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tolerance(pub u32);

impl Tolerance {
    /// Reads `1%`, `0.25%`.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        const REASON: &str =
            "a percentage from 0% to 100%, with two digits behind the point at most, like 1% or 0.5%";
        let number = text.strip_suffix('%').ok_or(REASON)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return Err(REASON.to_owned());
        }
        let hundredths: Option<u32> = format!("{whole}{fraction:0<2}").parse().ok();
        hundredths.filter(|hundredths| *hundredths <= 10_000).map(Self).ok_or(REASON.to_owned())
    }

    /// In percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether a difference is within it.
    pub fn allows(self, difference: i64, braze: u64) -> bool {
        u128::from(difference.unsigned_abs()) * 10_000 <= u128::from(braze) * u128::from(self.0)
    }
}

/// Braze's answer about a campaign or a Canvas.
#[derive(Debug, Clone)]
pub enum BrazeSeries {
    /// The days of a campaign.
    Campaign(Vec<CampaignDay>),
    /// The days of a Canvas, by step.
    Canvas(CanvasSeries),
}

/// A campaign or Canvas that Braze was asked about.
#[derive(Debug, Clone)]
pub struct BrazeAnswer {
    /// [`HistoryKind::Campaign`] or [`HistoryKind::Canvas`].
    pub kind: HistoryKind,
    /// Its id.
    pub id: String,
    /// Its name as Braze lists it; empty where it was not listed.
    pub name: String,
    /// Braze's answer, or why there is none.
    pub said: Result<BrazeSeries, String>,
}

/// The result of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Reconciliation {
    /// The first day, `YYYY-MM-DD`.
    pub from: Date,
    /// The last day; it is among them.
    pub to: Date,
    /// The time zone whose days these are.
    pub time_zone: String,
    /// Since when the forwarder keeps a history, in Unix seconds.
    pub since: Option<u64>,
    /// How far apart both sides may be, in percent.
    pub tolerance_percent: f64,
    /// Whether all compared objects are within the tolerance.
    pub within_tolerance: bool,
    /// The sums over campaigns and Canvases, on the days that could be compared.
    pub total: ComparedSums,
    /// The compared objects, the largest difference first. A Canvas has the sends of its steps.
    pub objects: Vec<ComparedObject>,
    /// Objects that could not be compared at all.
    pub not_compared: Vec<UncomparedObject>,
}

/// Sends on both sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ComparedSums {
    /// The sums of each side.
    #[serde(flatten)]
    pub sends: SendsBySide,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A campaign, a Canvas or a step on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedObject {
    /// Its kind.
    pub kind: HistoryKind,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of a step's Canvas.
    pub canvas_id: String,
    /// The name of a step's Canvas.
    pub canvas_name: String,
    /// The sums over the compared days.
    #[serde(flatten)]
    pub sums: ComparedSums,
    /// Whether the difference is within the tolerance.
    pub within_tolerance: bool,
    /// The parts of the difference.
    pub differences: Vec<Difference>,
    /// Every requested day on which either side has sends, or which Braze has named without a number of them.
    pub days: Vec<ComparedDay>,
    /// Braze's channels without a counted event type, in-app messages for one.
    pub channels_apart: Vec<String>,
}

/// A day on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedDay {
    /// The day.
    pub day: Date,
    /// Braze's number; absent where it has none.
    pub braze: Option<u64>,
    /// What the forwarder has counted.
    pub counted: u64,
    /// What Datadog has accepted, or a dry run has printed.
    pub accepted: u64,
    /// Those of them that a dry run has printed, and did not send.
    pub printed: u64,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// `accepted` − `braze`, if the day was compared.
    pub difference: Option<i64>,
    /// Why it was not compared.
    pub not_compared: Option<UncomparedReason>,
}

/// An object that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UncomparedObject {
    /// Its kind.
    pub kind: HistoryKind,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the forwarder has counted of it on these days.
    pub counted: u64,
    /// The reason.
    pub reason: String,
}

impl Reconciliation {
    /// Whether something could not be compared that might be: Braze could not be asked, or gave no number.
    pub fn is_incomplete(&self) -> bool {
        let is_unsaid = |day: &ComparedDay| day.not_compared == Some(UncomparedReason::NotSaid);
        !self.not_compared.is_empty() || self.objects.iter().any(|object| object.days.iter().any(is_unsaid))
    }

    /// Whether anything was compared.
    pub fn is_any_compared(&self) -> bool {
        self.objects.iter().any(ComparedObject::is_compared)
    }

    /// Why nothing was compared, if it was because of the days; it completes a sentence that begins with "each day".
    pub fn left_out(&self) -> Option<String> {
        if self.is_any_compared() {
            return None;
        }
        let days = self.objects.iter().flat_map(|object| &object.days);
        let reasons: BTreeSet<UncomparedReason> = days.filter_map(|day| day.not_compared).collect();
        let words: Vec<&str> = reasons.into_iter().rev().map(UncomparedReason::message).collect();
        (!words.is_empty()).then(|| words.join(", or "))
    }
}

impl ComparedObject {
    /// Whether any day was compared, or neither side has sends on any.
    pub fn is_compared(&self) -> bool {
        self.days.is_empty() || self.days.iter().any(|day| day.not_compared.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_a_percentage() {
        for (text, hundredths) in [("1%", 100), ("0%", 0), ("0.25%", 25), ("1.5%", 150), ("100%", 10_000)] {
            assert_eq!(Tolerance::parse(text), Ok(Tolerance(hundredths)), "{text}");
        }
        for text in ["", "1", "%", "-1%", "1.234%", "100.01%", "a%", "99999999999%", "1.%"] {
            assert!(Tolerance::parse(text).unwrap_err().contains("like 1%"), "{text}");
        }
        assert!(Tolerance(100).allows(-10, 1000) && !Tolerance(100).allows(11, 1000));
        assert!(Tolerance(0).allows(0, 0) && !Tolerance(10_000).allows(1, 0));
        assert!(Tolerance(10_000).allows(i64::MIN, u64::MAX));
    }
}
