//! Reads Braze's answers.
//!
//! Source: Braze's API reference, "Export campaign analytics", "Export Canvas data series analytics", "Export campaigns
//! list", "Export Canvas list", "Errors and responses".

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{Endpoint, RestError};

/// The sends of each channel, by Braze's name for it (`email`, `ios_push`, …), over all of its variations. `None`: the
/// answer has no number of sends for this channel; in-app messages, say, have impressions.
pub type ChannelSends = BTreeMap<String, Option<u64>>;

/// The sends of a campaign on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignDay {
    /// A day of the company, in the time zone that its dashboard has.
    pub day: Date,
    /// Its sends; `None`: the answer does not mention messages.
    pub sent: Option<ChannelSends>,
}

/// The sends of a Canvas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanvasSeries {
    /// Its name.
    pub name: String,
    /// Its days, as they came.
    pub days: Vec<CanvasDay>,
}

/// The sends of a Canvas's steps on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanvasDay {
    /// As for [`CampaignDay::day`].
    pub day: Date,
    /// By the step's id; `None`: the answer does not mention steps.
    pub steps: Option<BTreeMap<String, CanvasStep>>,
}

/// The sends of one step on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanvasStep {
    /// Its name.
    pub name: String,
    /// Its sends; empty where it sends nothing, such as a delay.
    pub sent: ChannelSends,
}

/// A campaign or a Canvas in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
struct CampaignAnswer {
    #[serde(default)]
    message: Option<String>,
    data: Option<Vec<CampaignRow>>,
}

#[derive(Deserialize)]
struct CampaignRow {
    time: Option<String>,
    messages: Option<BTreeMap<String, Variations>>,
}

#[derive(Deserialize)]
struct CanvasAnswer {
    #[serde(default)]
    message: Option<String>,
    data: Option<CanvasData>,
}

#[derive(Deserialize)]
struct CanvasData {
    #[serde(default)]
    name: Option<String>,
    stats: Option<Vec<CanvasRow>>,
}

#[derive(Deserialize)]
struct CanvasRow {
    time: Option<String>,
    step_stats: Option<BTreeMap<String, StepRow>>,
}

#[derive(Deserialize)]
struct StepRow {
    #[serde(default)]
    name: Option<String>,
    messages: Option<BTreeMap<String, Variations>>,
}

/// The variations of a channel; anything but a list has no number of sends.
#[derive(Deserialize)]
#[serde(untagged)]
enum Variations {
    List(Vec<Variation>),
    Else(IgnoredAny),
}

#[derive(Deserialize)]
struct Variation {
    sent: Option<Value>,
    /// Only a control group has this field, and it sends nothing.
    enrolled: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ListAnswer {
    #[serde(default)]
    message: Option<String>,
    #[serde(alias = "canvases")]
    campaigns: Option<Vec<ListRow>>,
}

#[derive(Deserialize)]
struct ListRow {
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// Reads the answer of [`Endpoint::CampaignSeries`].
pub(crate) fn campaign_series(body: &[u8]) -> Result<Vec<CampaignDay>, RestError> {
    let endpoint = Endpoint::CampaignSeries;
    let answer: CampaignAnswer = read(endpoint, body)?;
    check_message(endpoint, answer.message.as_deref())?;
    let rows = answer.data.ok_or_else(|| incomplete(endpoint, "it has no \"data\""))?;
    let mut days = Days::new(endpoint);
    let day = |row: CampaignRow| {
        Ok(CampaignDay { day: days.next(row.time.as_deref())?, sent: row.messages.map(sends) })
    };
    rows.into_iter().map(day).collect()
}

/// Reads the answer of [`Endpoint::CanvasSeries`].
pub(crate) fn canvas_series(body: &[u8]) -> Result<CanvasSeries, RestError> {
    let endpoint = Endpoint::CanvasSeries;
    let answer: CanvasAnswer = read(endpoint, body)?;
    check_message(endpoint, answer.message.as_deref())?;
    let data = answer.data.ok_or_else(|| incomplete(endpoint, "it has no \"data\""))?;
    let rows = data.stats.ok_or_else(|| incomplete(endpoint, "it has no \"stats\""))?;
    let mut days = Days::new(endpoint);
    let step = |(id, row): (String, StepRow)| {
        let sent = row.messages.map(sends).unwrap_or_default();
        (id, CanvasStep { name: row.name.unwrap_or_default(), sent })
    };
    let day = |row: CanvasRow| {
        let steps = row.step_stats.map(|steps| steps.into_iter().map(step).collect());
        Ok(CanvasDay { day: days.next(row.time.as_deref())?, steps })
    };
    let days = rows.into_iter().map(day).collect::<Result<_, _>>()?;
    Ok(CanvasSeries { name: data.name.unwrap_or_default(), days })
}

/// Reads the answer of one of the lists.
pub(crate) fn list(endpoint: Endpoint, body: &[u8]) -> Result<Vec<ListedObject>, RestError> {
    let answer: ListAnswer = read(endpoint, body)?;
    check_message(endpoint, answer.message.as_deref())?;
    let rows = answer.campaigns.ok_or_else(|| incomplete(endpoint, "it has no list"))?;
    let object = |row: ListRow| {
        let id = row.id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| incomplete(endpoint, "one of the list has no \"id\""))?;
        Ok(ListedObject { id, name: row.name.unwrap_or_default() })
    };
    rows.into_iter().map(object).collect()
}

/// Braze's message in an answer without data; `None`: the answer is not Braze's.
pub(crate) fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    serde_json::from_slice::<Said>(body).ok().map(|said| said.message)
}

fn read<'b, T: Deserialize<'b>>(endpoint: Endpoint, body: &'b [u8]) -> Result<T, RestError> {
    serde_json::from_slice(body).map_err(|error| {
        if body.trim_ascii_start().first() == Some(&b'{') {
            incomplete(endpoint, &format!("it can't be read ({error})"))
        } else {
            RestError::Foreign { endpoint, reason: "status 200, but no JSON object".to_owned() }
        }
    })
}

fn check_message(endpoint: Endpoint, message: Option<&str>) -> Result<(), RestError> {
    match message {
        Some("success") => Ok(()),
        Some(other) => Err(incomplete(endpoint, &format!("its message is not \"success\", but {other:?}"))),
        None => Err(incomplete(endpoint, "it has no \"message\"")),
    }
}

fn sends(channels: BTreeMap<String, Variations>) -> ChannelSends {
    channels.into_iter().map(|(channel, variations)| (channel, sum(&variations))).collect()
}

/// More than anybody sends in a day is no number of sends, so that no sum of them overflows.
const SENDS_MAX: u64 = 1 << 36;

/// The sum over all variations, if each has a number.
fn sum(variations: &Variations) -> Option<u64> {
    let Variations::List(variations) = variations else { return None };
    variations.iter().try_fold(0_u64, |sum, variation| match &variation.sent {
        Some(sent) => sent.as_u64().and_then(|sent| sum.checked_add(sent)).filter(|sum| *sum <= SENDS_MAX),
        None => variation.enrolled.as_ref().map(|_| sum),
    })
}

fn incomplete(endpoint: Endpoint, reason: &str) -> RestError {
    RestError::Incomplete { endpoint, reason: reason.to_owned() }
}

/// The days of an answer, each of which may occur once.
struct Days {
    endpoint: Endpoint,
    seen: BTreeSet<Date>,
}

impl Days {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, seen: BTreeSet::new() }
    }

    fn next(&mut self, time: Option<&str>) -> Result<Date, RestError> {
        let time = time.ok_or_else(|| incomplete(self.endpoint, "a day has no \"time\""))?;
        let day = day(time).ok_or_else(|| {
            incomplete(self.endpoint, &format!("a day's \"time\" is not a day, but {time:?}"))
        })?;
        if !self.seen.insert(day) {
            return Err(incomplete(self.endpoint, &format!("it has the day {day} twice")));
        }
        Ok(day)
    }
}

/// A day as Braze writes it. A time of day must be midnight: with any other it is unknown which day is meant.
fn day(time: &str) -> Option<Date> {
    let (day, behind) = time.split_once('T').unwrap_or((time, "00:00:00"));
    (day.len() == 10 && behind.starts_with("00:00:00")).then(|| day.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn campaign(data: &str) -> Result<Vec<CampaignDay>, String> {
        let body = format!(r#"{{"message":"success","data":{data}}}"#);
        campaign_series(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn sends_are_summed_over_variations_and_what_has_none_is_not_zero() {
        let days = campaign(
            r#"[{"time":"2026-11-20","messages":{
                "email":[{"variation_name":"A","sent":3,"opens":1},{"variation_name":"B","sent":4}],
                "ios_push":[{"sent":2},{"variation_name":"Control Group","enrolled":9}],
                "trigger_in_app_message":[{"impressions":5}],
                "sms":[], "webhook":[{"errors":1}], "line":{"sent":1}, "rcs":[{"sent":-1}], "banner":[{"sent":"2"}],
                "content_cards":[{"sent":18446744073709551615}], "push":[{"sent":68719476736},{"sent":1}]},
                "conversions":1},
               {"time":"2026-11-21T00:00:00+01:00"}]"#,
        )
        .unwrap();
        let sent = days[0].sent.as_ref().unwrap();
        for (channel, sends) in [
            ("email", Some(7)),
            ("ios_push", Some(2)),
            ("sms", Some(0)),
            ("trigger_in_app_message", None),
            ("webhook", None),
            ("line", None),
            ("rcs", None),
            ("banner", None),
            ("content_cards", None),
            ("push", None),
        ] {
            assert_eq!(sent[channel], sends, "{channel}");
        }
        assert_eq!(days[1], CampaignDay { day: date(2026, 11, 21), sent: None });
    }

    #[test]
    fn half_an_answer_says_what_is_missing() {
        for (body, part) in [
            (r#"{"message":"success"}"#, "no \"data\""),
            (r#"{"message":"success","data":null}"#, "no \"data\""),
            (r#"{"data":[]}"#, "no \"message\""),
            (r#"{"message":"queued","data":[]}"#, "\"queued\""),
            (r#"{"message":"success","data":[{"messages":{}}]}"#, "no \"time\""),
            (r#"{"message":"success","data":[{"time":"yesterday"}]}"#, "is not a day, but \"yesterday\""),
            (r#"{"message":"success","data":[{"time":"2026-02-30"}]}"#, "is not a day"),
            (r#"{"message":"success","data":[{"time":"2026-11-20T23:00:00Z"}]}"#, "is not a day"),
            (r#"{"message":"success","data":[{"time":"2026-11-20"},{"time":"2026-11-20"}]}"#, "twice"),
            (r#"{"message":"success","data":[{"time":"2026-1"#, "can't be read"),
        ] {
            let error = campaign_series(body.as_bytes()).unwrap_err();
            assert!(matches!(error, RestError::Incomplete { .. }), "{body}: {error:?}");
            assert!(error.to_string().contains(part), "{body}: {error}");
        }
        let page = campaign_series(b" <html>").unwrap_err();
        assert!(matches!(page, RestError::Foreign { .. }), "{page:?}");
        let canvas = canvas_series(br#"{"message":"success","data":{"name":"a"}}"#).unwrap_err();
        assert!(canvas.to_string().contains("no \"stats\""), "{canvas}");
        let nameless = list(Endpoint::CampaignList, br#"{"message":"success","campaigns":[{"name":"a"}]}"#);
        assert!(nameless.unwrap_err().to_string().contains("no \"id\""));
    }

    #[test]
    fn a_canvas_is_read_step_by_step() {
        let body = br#"{"data":{"name":"Welcome","stats":[
            {"time":"2026-11-20","total_stats":{"entries":9},"step_stats":{
                "s1":{"name":"Mail","messages":{"email":[{"sent":5}]}},
                "s2":{"name":"Wait"}}},
            {"time":"2026-11-21","total_stats":{}}]},"message":"success"}"#;
        let series = canvas_series(body).unwrap();
        assert_eq!(series.name, "Welcome");
        let steps = series.days[0].steps.as_ref().unwrap();
        assert_eq!(steps["s1"].sent, BTreeMap::from([("email".to_owned(), Some(5))]));
        assert_eq!((&*steps["s2"].name, steps["s2"].sent.len()), ("Wait", 0));
        assert_eq!(series.days[1].steps, None);
    }

    #[test]
    fn both_lists_are_read() {
        let campaigns = br#"{"message":"success","campaigns":[{"id":"a","name":"A","tags":[]},{"id":"b"}]}"#;
        let found = list(Endpoint::CampaignList, campaigns).unwrap();
        assert_eq!(found[0], ListedObject { id: "a".into(), name: "A".into() });
        assert_eq!(found[1].id, "b");
        let canvases = br#"{"canvases":[],"message":"success"}"#;
        assert_eq!(list(Endpoint::CanvasList, canvases), Ok(Vec::new()));
    }
}
