//! What Datadog refuses, or what would be silently wrong, and no schema says.

use std::collections::BTreeMap;

use braze_datadog::forwarder_points::{heartbeat, metrics};
use datadog_points::normalize::stored_tag;
use send_counts::aggregate::tags::Tag;
use serde_json::Value;

use super::query::{Alert, Series};
use crate::exposed::exposed;
use crate::yaml;

/// Tags that are set by the user, and that what ships relies on.
const STATIC: [&str; 1] = ["env"];

/// A metric in Datadog: how it is queried, and its tags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metric {
    pub(crate) is_count: bool,
    /// It is the height of something, and no number of things that add up.
    pub(crate) is_level: bool,
    pub(crate) tags: Vec<String>,
}

/// Every metric that the forwarder emits to Datadog by itself.
pub(crate) fn emitted() -> BTreeMap<String, Metric> {
    let metric = |tags: Vec<&str>| Metric {
        is_count: true,
        is_level: false,
        tags: tags.into_iter().chain(STATIC).map(ToOwned::to_owned).collect(),
    };
    let level =
        |name: &str| (name.to_owned(), Metric { is_count: false, is_level: true, ..metric(vec!["version"]) });
    let schema = include_str!("../../../config/braze-datadog.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let connection = &schema["properties"]["connections"]["additionalProperties"]["properties"];
    let sent = connection["metric"]["default"].as_str().unwrap().to_owned();
    let tags = Tag::ALL.into_iter().map(Tag::name).chain(["overflow"]).collect();
    BTreeMap::from([
        (sent, metric(tags)),
        (heartbeat::METRIC.to_owned(), metric(vec!["connection", "version"])),
        (metrics::SENDS_DROPPED.to_owned(), metric(vec!["connection", "reason", "version"])),
        level(metrics::QUEUE_DEPTH),
        level(metrics::QUEUE_WAITING),
        level(metrics::CONSUMER_LAG),
        level(metrics::STORAGE_LAG),
        level(metrics::READY),
        level(metrics::RELOAD_REFUSED),
        level(metrics::CONNECTIONS_REFUSED),
        level(metrics::SENDS_PENDING),
        level(metrics::FLUSH_MILLISECONDS),
    ])
}

/// What an Agent makes of `/metrics` with `config/datadog/openmetrics.yaml`, by its rules: a
/// counter loses `_total` and gets `.count`, a histogram becomes `.bucket`, `.count` and `.sum`, all of them counts.
pub(crate) fn scraped(openmetrics: &str) -> BTreeMap<String, Metric> {
    let exposed = exposed();
    let instances = yaml::document(openmetrics);
    let entries = array(&instances["instances"]).flat_map(|instance| array(&instance["metrics"]));
    let mut metrics = BTreeMap::new();
    for (raw, name) in entries.flat_map(|entry| entry.as_object().unwrap()) {
        let name = name.as_str().unwrap();
        let found = exposed.get(raw).or_else(|| exposed.get(&format!("{raw}_total")));
        let found = found.unwrap_or_else(|| panic!("/metrics has no {raw}"));
        let ends: &[&str] = match &*found.kind {
            "gauge" => &[""],
            "counter" => &[".count"],
            _ => &[".count", ".sum", ".bucket"],
        };
        for end in ends {
            let is_count = found.kind != "gauge";
            let tags = found.labels.iter().cloned().chain(STATIC.map(ToOwned::to_owned)).collect();
            metrics.insert(format!("braze_datadog.{name}{end}"), Metric { is_count, is_level: false, tags });
        }
    }
    metrics
}

/// What is wrong with the queried series. `variables` are those of the dashboard.
pub(crate) fn check_series(
    series: &Series,
    known: &BTreeMap<String, Metric>,
    variables: &[String],
) -> Vec<String> {
    let mut violations = Vec::new();
    let Some(metric) = known.get(&series.metric) else {
        return vec![format!("nobody emits {}", series.metric)];
    };
    // The one of several forwarders that is in trouble is the highest, or the one that is not ready.
    let heights: &[_] = if series.metric == metrics::READY { &["min"] } else { &["avg", "max"] };
    if metric.is_level && !heights.contains(&&*series.space) {
        violations.push(format!("{}: of {}, which is the height of something", series.space, series.metric));
    }
    if !metric.is_level && series.space != "sum" {
        violations.push(format!("{}: of {}, which is a number of things", series.space, series.metric));
    }
    if series.is_count != metric.is_count {
        violations.push(format!("as_count() is {} for {}", series.is_count, series.metric));
    }
    for part in series.scope.iter().filter(|part| *part != "*") {
        if let Some(variable) = part.strip_prefix('$') {
            if !variables.iter().any(|known| known == variable) {
                violations.push(format!("no variable {part}"));
            }
        } else if let Some((key, value)) = part.split_once(':') {
            violations.extend((!metric.tags.iter().any(|tag| tag == key)).then(|| format!("no tag {key}")));
            let is_stored = value == "*" || stored_tag(part) == *part;
            violations.extend((!is_stored).then(|| format!("Datadog does not store {part}")));
        } else {
            violations.push(format!("{part} is no tag"));
        }
    }
    for tag in &series.by {
        violations.extend((!metric.tags.contains(tag)).then(|| format!("no tag {tag} to group by")));
        if let Some(id) = id_beside(tag, metric)
            && !series.by.contains(&id)
        {
            violations.push(format!("{tag} without {id}: two can have one name"));
        }
    }
    violations
}

/// The id that is a tag beside this name.
fn id_beside(tag: &str, metric: &Metric) -> Option<String> {
    let id = format!("{}_id", tag.strip_suffix("_name")?);
    metric.tags.contains(&id).then_some(id)
}

/// What is wrong with a monitor, besides its shape.
pub(crate) fn check_monitor(monitor: &Value, known: &BTreeMap<String, Metric>) -> Vec<String> {
    let query = monitor["query"].as_str().unwrap_or_default();
    let Some(alert) = Alert::parse(query) else { return vec![format!("the query can't be read: {query}")] };
    let summands = [&alert.series].into_iter().chain(&alert.added);
    let mut violations: Vec<_> = summands.flat_map(|series| check_series(series, known, &[])).collect();
    // What lacks one of the tags that a monitor groups by is in no group. Source: Datadog's guide "Troubleshooting No Data
    // in Monitors".
    let metric = known.get(&alert.series.metric);
    let named =
        alert.series.by.iter().filter(|tag| metric.is_some_and(|metric| id_beside(tag, metric).is_some()));
    violations.extend(
        named.map(|tag| format!("a group by {tag} is not seen without a name, and is new with a new one")),
    );
    let mut check = |is_right: bool, what: &str| violations.extend((!is_right).then(|| what.to_owned()));
    let options = &monitor["options"];
    let threshold = options["thresholds"]["critical"].as_f64();
    check(
        threshold.is_some_and(|critical| (critical - alert.threshold).abs() < 1e-9),
        "the threshold is not the query's",
    );
    let is_level = known.get(&alert.series.metric).is_some_and(|metric| metric.is_level);
    check(is_level || alert.time == "sum", "sends are summed up over time");
    check(!is_level || ["min", "max", "avg"].contains(&&*alert.time), "a height is not summed up over time");
    check(is_window(&alert), "a window that Datadog does not take");
    check(options["require_full_window"] == false, "sparse data is skipped with a full window");
    check(options.get("notify_no_data").is_none(), "notify_no_data beside on_missing_data");
    // A height that is low is told.
    let is_silence = alert.operator == "<" && !is_level;
    let is_named = alert.series.metric == heartbeat::METRIC || alert.series.by.is_empty();
    // Braze is up to 30 minutes late.
    let is_late =
        options.get("scheduling_options").is_some() || options["evaluation_delay"].as_u64() >= Some(1800);
    let is_of_braze = alert.series.metric != heartbeat::METRIC;
    check(!is_silence || !is_of_braze || is_late, "what was sent in time may still be on its way");
    check(!is_silence || is_named, "a group that is silent is forgotten: no group in a monitor on silence");
    let missing = if is_silence { "show_and_notify_no_data" } else { "resolve" };
    check(options["on_missing_data"] == missing, "the wrong answer to no data");
    violations_of_schedule(options, &mut check);
    check(!query.contains("default_zero"), "default_zero() does nothing where there is no data at all");
    for text in [&monitor["name"], &monitor["message"]] {
        let text = text.as_str().unwrap_or_default();
        check(!text.is_empty(), "a name or message is missing");
        let wrong = wrong_variables(text, &alert.series.by);
        check(wrong.is_empty(), &format!("variables that Datadog does not fill in: {wrong:?}"));
    }
    violations
}

/// What a monitor that is looked at when something is due has to have. Sources: Datadog's API reference (one that has a
/// schedule says what no data means), its guide "Customize monitor evaluation frequencies" (a day or longer, no DTSTART,
/// DTEND or DURATION), and its Terraform provider (exactly one recurrence).
fn violations_of_schedule(options: &Value, check: &mut impl FnMut(bool, &str)) {
    let Some(scheduling) = options.get("scheduling_options") else { return };
    let recurrences = scheduling["custom_schedule"]["recurrences"].as_array();
    let recurrences = recurrences.map_or(&[][..], Vec::as_slice);
    check(recurrences.len() == 1, "a schedule has one recurrence");
    check(options["on_missing_data"].is_string(), "a schedule wants on_missing_data");
    check(options.get("renotify_interval").is_none(), "each evaluation of a schedule tells anew");
    check(
        options["evaluation_delay"].as_u64() > Some(59),
        "what was sent in time has not arrived when it is looked at",
    );
    for recurrence in recurrences {
        let text = |key: &str| recurrence[key].as_str().unwrap_or_default().to_owned();
        let rule = text("rrule");
        let parts: BTreeMap<&str, &str> = rule.split(';').filter_map(|part| part.split_once('=')).collect();
        check(parts.len() == rule.split(';').count(), "a rule is KEY=VALUE;…");
        let is_longer = ["DAILY", "WEEKLY", "MONTHLY"].contains(parts.get("FREQ").unwrap_or(&""));
        check(is_longer, "a schedule is daily, weekly or monthly");
        let known = ["FREQ", "INTERVAL", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS", "WKST"];
        check(parts.keys().all(|key| known.contains(key)), "a part of a rule that Datadog does not take");
        let start = text("start").parse::<jiff::civil::DateTime>();
        check(
            start.as_ref().is_ok_and(|start| start.second() == 0),
            "a schedule starts at a minute, without a zone",
        );
        let zone = jiff::tz::TimeZone::get(&text("timezone"));
        check(
            zone.is_ok_and(|zone| zone.iana_name() == Some(&*text("timezone"))),
            "a zone of the tz database",
        );
        if let (Ok(start), Some(days)) = (start, parts.get("BYDAY").filter(|_| parts["FREQ"] == "WEEKLY")) {
            let day = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
                [start.weekday().to_monday_zero_offset().unsigned_abs() as usize];
            check(days.split(',').any(|known| known == day), "a schedule starts on one of its days");
        }
    }
}

/// The windows of Datadog's API reference and of its "Configure Monitors", and what a change can compare with.
fn is_window(alert: &Alert) -> bool {
    let number = |unit: char| {
        let number = alert.window.strip_prefix("last_")?.strip_suffix(unit)?;
        number.parse::<u32>().ok().filter(|number| *number > 0)
    };
    let (minutes_max, hours_max) = if alert.change.is_empty() { (10_080, 168) } else { (2_880, 48) };
    let is_long = alert.change.is_empty() && ["last_1w", "last_1mo"].contains(&&*alert.window);
    let before =
        ["5m", "10m", "15m", "30m", "1h", "2h", "4h", "1d", "1w"].map(|before| format!("last_{before}"));
    (number('m').is_some_and(|minutes| minutes <= minutes_max)
        || number('h').is_some_and(|hours| hours <= hours_max)
        || alert.window == "last_1d"
        || is_long)
        && (alert.change.is_empty() == alert.before.is_empty())
        && (alert.before.is_empty() || before.contains(&alert.before))
}

/// `{{…}}` that are neither known to Datadog nor a tag that is grouped by, or that are opened and not closed.
fn wrong_variables(text: &str, by: &[String]) -> Vec<String> {
    const BLOCKS: [&str; 3] = ["is_alert", "is_no_data", "is_recovery"];
    let mut open = Vec::new();
    let mut wrong = Vec::new();
    for part in text.split("{{").skip(1) {
        let variable = part.split("}}").next().unwrap_or_default();
        let is_tag = || variable.strip_suffix(".name").is_some_and(|tag| by.iter().any(|known| known == tag));
        if let Some(block) = variable.strip_prefix('#').filter(|block| BLOCKS.contains(block)) {
            open.push(block);
        } else if let Some(block) = variable.strip_prefix('/') {
            wrong.extend((open.pop() != Some(block)).then(|| variable.to_owned()));
        } else if !matches!(variable, "value" | "threshold") && !is_tag() {
            wrong.push(variable.to_owned());
        }
    }
    wrong.extend(open.into_iter().map(ToOwned::to_owned));
    wrong
}

/// What is wrong with a dashboard, besides its shape.
pub(crate) fn check_dashboard(dashboard: &Value, known: &BTreeMap<String, Metric>) -> Vec<String> {
    let mut violations = Vec::new();
    let variables: Vec<String> = array(&dashboard["template_variables"])
        .filter_map(|variable| Some(variable["name"].as_str()?.to_owned()))
        .collect();
    for variable in array(&dashboard["template_variables"]) {
        let prefix = variable["prefix"].as_str().unwrap_or_default().to_owned();
        let is_tag = known.values().any(|metric| metric.tags.contains(&prefix));
        violations.extend((!is_tag).then(|| format!("no tag {prefix} for a variable")));
    }
    let text = dashboard.to_string();
    let unused = variables.iter().filter(|variable| !text.contains(&format!("${variable}")));
    violations.extend(unused.map(|variable| format!("the variable {variable} is not used")));
    let groups = array(&dashboard["widgets"]);
    for widget in groups.flat_map(|group| array(&group["definition"]["widgets"]).chain([group])) {
        let (layout, definition) = (&widget["layout"], &widget["definition"]);
        let reach = layout["x"].as_u64().unwrap_or(99) + layout["width"].as_u64().unwrap_or(99);
        violations.extend((reach > 12).then(|| format!("{} is beyond the 12 columns", definition["title"])));
        for request in array(&definition["requests"]) {
            let found = check_request(request, known, &variables);
            violations.extend(found.into_iter().map(|found| format!("{}: {found}", definition["title"])));
        }
    }
    violations
}

fn check_request(request: &Value, known: &BTreeMap<String, Metric>, variables: &[String]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut names = Vec::new();
    for query in array(&request["queries"]) {
        let text = query["query"].as_str().unwrap_or_default();
        match Series::parse(text) {
            Some(series) => violations.extend(check_series(&series, known, variables)),
            None => violations.push(format!("the query can't be read: {text}")),
        }
        let is_level = Series::parse(text).and_then(|series| Some(known.get(&series.metric)?.is_level));
        let aggregator = if is_level == Some(true) { "max" } else { "sum" };
        if request["response_format"] == "scalar" && query["aggregator"] != aggregator {
            violations.push(format!("{text} is not summed up"));
        }
        names.extend(query["name"].as_str());
    }
    for formula in array(&request["formulas"]) {
        let formula = formula["formula"].as_str().unwrap_or_default();
        let functions = ["week_before", "day_before", "default_zero", "top", "sum", "desc"];
        let words = formula.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let words = words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
        let unknown = words.filter(|word| !names.contains(word) && !functions.contains(word));
        violations.extend(unknown.map(|word| format!("{formula}: no query {word}")));
    }
    violations.extend(names.is_empty().then(|| "no query".to_owned()));
    violations
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
