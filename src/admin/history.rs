//! Answers `/history`, and the part of a search about the past.

use admin_api::format::grouped;
use admin_api::{
    ChartDay, FlowState, History, HistoryDay, HistoryKind, HistoryObject, HistoryQuery, ObjectMatch,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use send_history::{
    DaySends, FateCounts, ObjectKind, RangeError, ReadError, SendHistory, SentObject, TimeRange,
};

use crate::catalogue::Query;

/// Days of a query without a range.
const DAYS: usize = 7;

/// Objects of an answer: default and maximum.
const LIMIT: usize = 500;
const LIMIT_MAX: usize = 5_000;

/// Days of all objects of an answer, with the reasons of their drops: some 8 MB of JSON.
pub(super) const OBJECT_DAYS_MAX: usize = 50_000;

/// Days of a search's chart.
const CHART_DAYS: usize = 28;
const WEEK: usize = 7;

/// Objects in the answer of a search.
const MATCHES_MAX: usize = 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryRefusal {
    /// The history is off.
    #[error("no history of sends is kept: history.directory is empty")]
    NotKept,
    /// The query is wrong.
    #[error("{0}")]
    Wrong(String),
    /// It can't be read at present.
    #[error("{0}")]
    Unavailable(String),
}

impl From<RangeError> for HistoryRefusal {
    fn from(error: RangeError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<ReadError> for HistoryRefusal {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Answers the query of a URL, at the Unix second `now`. It reads the disk.
///
/// # Errors
/// See [`HistoryRefusal`].
pub fn answer(history: Option<&SendHistory>, query: &str, now: u64) -> Result<History, HistoryRefusal> {
    history.ok_or(HistoryRefusal::NotKept)?;
    read(history, parse(query)?, now)
}

/// Answers a query of this process.
///
/// # Errors
/// See [`HistoryRefusal`].
pub fn read(history: Option<&SendHistory>, query: HistoryQuery, now: u64) -> Result<History, HistoryRefusal> {
    let history = history.ok_or(HistoryRefusal::NotKept)?;
    let time_zone = query.time_zone.unwrap_or_else(|| "UTC".to_owned());
    let range = TimeRange::asked(query.from.as_deref(), query.to.as_deref(), DAYS, now, &time_zone)?;
    let after = query.after.map(|after| {
        let wrong = || HistoryRefusal::Wrong("`after` is not what an answer said as its `next`".to_owned());
        after.parse::<u32>().map_err(|_no_number| wrong())
    });
    let after = after.transpose()?;
    let limit = query.limit.unwrap_or(LIMIT);
    let is_wanted = |object: &SentObject| {
        query.kind.is_none_or(|kind| kind == kind_of(object))
            && query.id.as_ref().is_none_or(|id| *id == object.id)
            && object.last_send >= u64::from(range.begins())
    };
    // Checks whether it can be read at all.
    history.days(&[], &range)?;
    let mut wanted = history.find(is_wanted);
    wanted.retain(|(number, _)| after.is_none_or(|after| *number > after));
    let at_once = (OBJECT_DAYS_MAX / range.days().count().max(1)).clamp(1, LIMIT);
    let (mut objects, mut object_days, mut last, mut is_all) = (Vec::new(), 0, None, true);
    'all: for some in wanted.chunks(at_once) {
        let numbers: Vec<u32> = some.iter().map(|(number, _)| *number).collect();
        for ((number, object), days) in some.iter().zip(history.days(&numbers, &range)?) {
            if days.is_empty() {
                continue;
            }
            object_days += days.iter().map(|day| 1 + day.sends.dropped.len()).sum::<usize>();
            if objects.len() == limit || object_days > OBJECT_DAYS_MAX && !objects.is_empty() {
                is_all = false;
                break 'all;
            }
            objects.push(history_object(object, days));
            last = Some(*number);
        }
    }
    Ok(History {
        from: range.from(),
        to: range.to(),
        time_zone,
        since: history.state().since,
        objects,
        next: last.filter(|_| !is_all).map(|number| number.to_string()),
    })
}

/// The result of a search in the history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PastMatches {
    /// The best of it.
    pub objects: Vec<ObjectMatch>,
    /// How many match.
    pub objects_total: usize,
    /// Why the result may be incomplete.
    pub trouble: Option<String>,
}

/// Searches the history, if one is kept, for all words of a text; days are those of a time zone, with its IANA name.
///
/// # Errors
/// When the time zone is invalid.
pub fn search(
    history: Option<&SendHistory>,
    words: &str,
    time_zone: &str,
    now: u64,
) -> Result<PastMatches, String> {
    let chart = TimeRange::last_days(CHART_DAYS + WEEK, now, time_zone).map_err(|error| error.to_string())?;
    let zone = TimeZone::get(time_zone).map_err(|error| error.to_string())?;
    let (Some(history), Some(query)) = (history, Query::new(words)) else {
        return Ok(PastMatches::default());
    };
    let mut ranked: Vec<(u8, u32, SentObject)> = Vec::new();
    for (number, object) in history.find(|object| query.rank_of(&text(object)) > 0) {
        ranked.push((query.rank_of(&text(&object)), number, object));
    }
    let objects_total = ranked.len();
    ranked.sort_by_key(|(rank, number, object)| std::cmp::Reverse((*rank, object.last_send, *number)));
    ranked.truncate(MATCHES_MAX);
    let mut found = PastMatches { objects_total, trouble: history.state().trouble, ..PastMatches::default() };
    for (_, number, object) in ranked {
        match matched(history, number, object, &chart, (&zone, time_zone), now) {
            Ok(matched) => found.objects.push(matched),
            Err(error) => {
                found.trouble = Some(error.to_string());
                break;
            }
        }
    }
    Ok(found)
}

fn matched(
    history: &SendHistory,
    number: u32,
    object: SentObject,
    chart: &TimeRange,
    (zone, zone_name): (&TimeZone, &str),
    now: u64,
) -> Result<ObjectMatch, ReadError> {
    let read =
        |range: &TimeRange| history.days(&[number], range).map(|mut days| days.pop().unwrap_or_default());
    let days = filled(chart, read(chart)?);
    // What begins before is known in part, or not at all.
    let since = history.state().since.unwrap_or_default();
    let is_known = |place: usize| chart.begin_of(place).is_some_and(|begin| u64::from(begin) >= since);
    // What is told is of the day of the last send, which may be ahead of the clock, and so of the chart.
    let range = TimeRange::last_days(1, object.last_send, zone_name);
    let last_day = range.as_ref().ok().and_then(|range| range.days().next());
    let last_day = match days.iter().rposition(|day| Some(&day.day) == last_day.as_ref()) {
        Some(at) => {
            let week_before = at.checked_sub(WEEK).filter(|at| is_known(*at));
            Some((days[at].sends.clone(), week_before.map(|at| days[at].sends.counted)))
        }
        // It is none of the chart's.
        None => match range {
            Ok(range) => read(&range)?.pop().map(|day| (day.sends, None)),
            Err(_out_of_reach) => None,
        },
    };
    let (sends, week_before) = last_day.unwrap_or_default();
    let counted = |days: &[DaySends]| days.iter().map(|day| day.sends.counted).sum::<u64>();
    let mut weeks: Vec<u64> = days.rchunks(WEEK).take(2).map(counted).collect();
    if !is_known(days.len().saturating_sub(2 * WEEK)) {
        weeks.truncate(1);
    }
    let when = at(object.last_send, zone);
    let (state, words) = if sends.counted > 0 {
        let (state, fate) = fate(&sends);
        (state, format!("last sent {when}: {}{fate}", several(sends.counted)))
    } else {
        // Its day has left, or is being written.
        let words = format!("last sent {when}; what became of it is not known");
        let has_left = object.last_send < since;
        let why = format!(" any more (the history begins {})", at(since, zone));
        let words = if has_left { words + &why } else { words };
        (FlowState::Quiet, words)
    };
    Ok(ObjectMatch {
        kind: kind_of(&object),
        connection: object.connection,
        id: object.id,
        name: object.name,
        canvas_name: object.canvas_name,
        last_send: object.last_send,
        last_send_seconds_ago: now.saturating_sub(object.last_send),
        state,
        words,
        comparison: comparison(sends.counted, week_before, &weeks),
        days: chart_days(chart, days, since).skip(WEEK).collect(),
    })
}

/// Every day of a range, days without sends included.
fn filled(range: &TimeRange, days: Vec<DaySends>) -> Vec<DaySends> {
    let mut known = days.into_iter().peekable();
    let day = |day: String| match known.next_if(|known| known.day == day) {
        Some(known) => known,
        None => DaySends { day, sends: FateCounts::default() },
    };
    range.days().map(day).collect()
}

/// The days as they are told: of one that ended before `since`, only what was seen of it.
fn chart_days(chart: &TimeRange, days: Vec<DaySends>, since: u64) -> impl Iterator<Item = ChartDay> {
    days.into_iter().enumerate().map(move |(place, DaySends { day, sends })| {
        let is_before = chart.begin_of(place + 1).is_some_and(|end| u64::from(end) <= since);
        if is_before && sends == FateCounts::default() {
            return ChartDay { day, ..ChartDay::default() };
        }
        let FateCounts { counted, accepted, printed, dropped } = sends;
        ChartDay {
            day,
            counted: Some(counted),
            accepted: Some(accepted),
            printed: Some(printed),
            dropped: Some(dropped),
        }
    })
}

fn at(time: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
    let told =
        time.map(|time| time.to_zoned_datetime(zone.clone()).strftime("%a %-d %b %Y, %H:%M %Z").to_string());
    told.unwrap_or_default()
}

/// The outcome of a day's sends, in words. Of none nothing is said to be well.
fn fate(sends: &FateCounts) -> (FlowState, String) {
    let dropped = sends.dropped_in_all();
    let accepted = match sends.printed {
        0 => format!("{} accepted by Datadog", grouped(sends.accepted)),
        printed => format!(
            "{} accepted by Datadog, {} printed, not sent (dry run)",
            grouped(sends.accepted),
            grouped(printed)
        ),
    };
    if dropped > 0 {
        let by_reason = sends.dropped.iter().map(|(reason, sends)| format!("{reason} {}", grouped(*sends)));
        let reasons: Vec<String> = by_reason.collect();
        return (
            FlowState::Trouble,
            format!(" that day, {accepted}, {} dropped ({})", grouped(dropped), reasons.join(", ")),
        );
    }
    if sends.counted == 0 {
        return (FlowState::Quiet, " that day".to_owned());
    }
    if sends.accepted >= sends.counted {
        return (FlowState::Flowing, " that day, all accepted by Datadog".to_owned());
    }
    if sends.printed >= sends.counted {
        return (FlowState::Quiet, " that day, all printed, not sent (dry run)".to_owned());
    }
    if sends.accepted.saturating_add(sends.printed) >= sends.counted {
        return (FlowState::Quiet, format!(" that day, {accepted}"));
    }
    (FlowState::Quiet, format!(" that day, {accepted}, of the others no outcome is known"))
}

/// A day beside the same day a week before, and the last week beside the one before; what is not known is left out.
fn comparison(sends: u64, week_before: Option<u64>, weeks: &[u64]) -> String {
    let against = |sends: u64, before: u64| match before {
        0 => String::new(),
        before => {
            let percent = (i128::from(sends) - i128::from(before)) * 100 / i128::from(before);
            format!(" ({percent:+} %)")
        }
    };
    let same_day = week_before
        .map(|before| format!("the same day a week before {}{}", grouped(before), against(sends, before)));
    let week = weeks.first().map(|this| {
        let this_week = format!("last 7 days {}", grouped(*this));
        match weeks.get(1) {
            Some(before) => {
                format!("{this_week}, the 7 before {}{}", grouped(*before), against(*this, *before))
            }
            None => this_week,
        }
    });
    same_day.into_iter().chain(week).collect::<Vec<_>>().join("; ")
}

fn several(sends: u64) -> String {
    if sends == 1 { "1 send".to_owned() } else { format!("{} sends", grouped(sends)) }
}

/// An object's text, as a series has it in its tags.
fn text(object: &SentObject) -> String {
    let SentObject { connection, id, name, canvas_id, canvas_name, app_group_id, .. } = object;
    let kind = match object.kind {
        ObjectKind::Campaign => "campaign",
        ObjectKind::Canvas => "canvas",
        ObjectKind::Step => "canvas_step",
    };
    let of_canvas = match object.kind {
        ObjectKind::Step => format!("\ncanvas_id:{canvas_id}\ncanvas_name:{canvas_name}"),
        ObjectKind::Campaign | ObjectKind::Canvas => String::new(),
    };
    format!(
        "{kind}_id:{id}\n{kind}_name:{name}\napp_group_id:{app_group_id}\nconnection:{connection}{of_canvas}"
    )
}

fn history_object(object: &SentObject, days: Vec<DaySends>) -> HistoryObject {
    let kind = kind_of(object);
    let SentObject { connection, id, name, canvas_id, canvas_name, app_group_id, last_send, .. } =
        object.clone();
    let days = days.into_iter().map(history_day).collect();
    HistoryObject { kind, id, name, canvas_id, canvas_name, app_group_id, connection, last_send, days }
}

fn history_day(DaySends { day, sends }: DaySends) -> HistoryDay {
    let FateCounts { counted, accepted, printed, dropped } = sends;
    HistoryDay { day, counted, accepted, printed, dropped }
}

fn kind_of(object: &SentObject) -> HistoryKind {
    match object.kind {
        ObjectKind::Campaign => HistoryKind::Campaign,
        ObjectKind::Canvas => HistoryKind::Canvas,
        ObjectKind::Step => HistoryKind::Step,
    }
}

fn parse(query: &str) -> Result<HistoryQuery, HistoryRefusal> {
    let wrong = |words: String| Err(HistoryRefusal::Wrong(words));
    let mut asked = HistoryQuery::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*name {
            "from" => asked.from = Some(value),
            "to" => asked.to = Some(value),
            "time_zone" => asked.time_zone = Some(value),
            "id" => asked.id = Some(value),
            "after" => asked.after = Some(value),
            "kind" => match HistoryKind::ALL.into_iter().find(|kind| kind.label() == value) {
                Some(kind) => asked.kind = Some(kind),
                None => return wrong("`kind` is campaign, canvas or step".to_owned()),
            },
            "limit" => match value.parse() {
                Ok(limit @ 1..=LIMIT_MAX) => asked.limit = Some(limit),
                _ => return wrong(format!("`limit` is a number from 1 to {LIMIT_MAX}")),
            },
            _ => {
                return wrong(
                    "there are the parameters from, to, time_zone, kind, id, after and limit, and no others"
                        .to_owned(),
                );
            }
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests;
