//! Holds a request against what the real intake takes: Datadog's schema, made strict, its limits, and what
//! the contract promises of every payload.

use std::collections::HashSet;
use std::sync::OnceLock;

use flate2::{Decompress, FlushDecompress, Status};
use jsonschema::Validator;
use serde_json::Value;

use super::Request;

/// Bytes of a body as it is sent.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 500_000;
/// Bytes of a body once it is inflated.
pub(crate) const RAW_BYTES_MAX: usize = 4 << 20;
/// Series in a body.
pub(crate) const SERIES_MAX: usize = 5_000;

/// The largest value that Datadog keeps exactly.
const VALUE_MAX: u64 = 1 << 24;
/// Characters of a tag with its key.
const TAG_LENGTH_MAX: usize = 200;
/// Outside it points are dropped without a word: seconds behind, seconds ahead.
const WINDOW: (u64, u64) = (3_600, 600);

/// The values of one series in one second, added up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// The API key that it came with.
    pub(crate) key: String,
    /// The metric.
    pub(crate) metric: String,
    /// In the order of the payload.
    pub(crate) tags: Vec<String>,
    /// Unix seconds.
    pub(crate) time: u64,
    /// The sum of its values: sends.
    pub(crate) value: u64,
}

/// Reads the points of `request` into it, and says what is wrong with it.
pub(super) fn judge(request: &mut Request) -> Vec<String> {
    let mut violations = Vec::new();
    judge_head(request, &mut violations);
    match read(request) {
        Ok(payload) => judge_payload(&payload, request, &mut violations),
        Err(violation) => violations.push(violation),
    }
    violations
}

fn judge_head(request: &Request, violations: &mut Vec<String>) {
    if request.key().is_empty() {
        violations.push("no DD-API-KEY".to_owned());
    }
    if request.path != super::POINTS_PATH {
        violations.push(format!("{:?} is more than the path: a key does not belong into it", request.path));
    }
    if request.header("content-type") != "application/json" {
        violations.push(format!("content type {:?}", request.header("content-type")));
    }
    if request.body.len() > PAYLOAD_BYTES_MAX {
        violations.push(format!("a body of {} bytes", request.body.len()));
    }
}

fn read(request: &Request) -> Result<Value, String> {
    let raw = match request.header("content-encoding") {
        "" => request.body.to_vec(),
        "deflate" => inflate(&request.body)?,
        other => return Err(format!("content encoding {other:?}")),
    };
    if raw.len() > RAW_BYTES_MAX {
        return Err(format!("a body of {} bytes, inflated", raw.len()));
    }
    serde_json::from_slice(&raw).map_err(|error| format!("not JSON: {error}"))
}

/// RFC 1950, one stream, to its end, and nothing behind it.
fn inflate(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut raw = Vec::with_capacity(RAW_BYTES_MAX + 1);
    let mut inflater = Decompress::new(true);
    match inflater.decompress_vec(body, &mut raw, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if inflater.total_in() == body.len() as u64 => Ok(raw),
        Ok(Status::StreamEnd) => Err(format!(
            "{} bytes behind the end of the zlib stream",
            body.len() as u64 - inflater.total_in()
        )),
        Ok(_) if raw.len() > RAW_BYTES_MAX => Err(format!("more than {RAW_BYTES_MAX} bytes, inflated")),
        Ok(_) => Err("the zlib stream is cut off".to_owned()),
        Err(error) => Err(format!("not zlib: {error}")),
    }
}

fn schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let schema = serde_json::from_str(include_str!("../distribution-points.strict.json")).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    })
}

fn judge_payload(payload: &Value, request: &mut Request, violations: &mut Vec<String>) {
    let before = violations.len();
    violations.extend(schema().iter_errors(payload).take(5).map(|error| format!("schema: {error}")));
    if violations.len() > before {
        return; // what follows relies on the shape
    }
    let series = payload["series"].as_array().unwrap();
    request.series = series.len();
    if series.is_empty() {
        violations.push("a body without series".to_owned());
    }
    if series.len() > SERIES_MAX {
        violations.push(format!("{} series in a body", series.len()));
    }
    let now = super::super::unix_now();
    let mut seen = HashSet::new();
    for one in series {
        if let Err(violation) = judge_series(one, now, request, &mut seen) {
            violations.push(format!("{violation}: {one}"));
        }
    }
}

type Seen = HashSet<(String, Vec<String>, u64)>;

fn judge_series(series: &Value, now: u64, request: &mut Request, seen: &mut Seen) -> Result<(), String> {
    if series.get("host").is_some() {
        return Err("a host, which joins the customer's host tags".to_owned());
    }
    if series["type"] != "distribution" {
        return Err("not a distribution".to_owned());
    }
    let tags = judge_tags(series)?;
    // What the forwarder tells of itself can be a height, which can be 0.
    let least = u64::from(!series["metric"].as_str().unwrap().starts_with("braze.forwarder."));
    for point in series["points"].as_array().unwrap() {
        let time = point[0].as_u64().ok_or("a time that is not whole seconds")?;
        if time + WINDOW.0 < now || now + WINDOW.1 < time {
            return Err(format!("a time outside Datadog's window at {now}"));
        }
        let mut value = 0;
        for part in point[1].as_array().unwrap() {
            let part = part.as_u64().filter(|part| (least..=VALUE_MAX).contains(part));
            value += part.ok_or("a value that is not a whole number up to 2^24, or no send")?;
        }
        let metric = series["metric"].as_str().unwrap().to_owned();
        if !seen.insert((metric.clone(), tags.clone(), time)) {
            return Err("the same series and second twice in a body".to_owned());
        }
        request.points.push(Point { key: request.key().to_owned(), metric, tags: tags.clone(), time, value });
    }
    Ok(())
}

fn judge_tags(series: &Value) -> Result<Vec<String>, String> {
    let tags = series.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
    let tags: Vec<String> = tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    if !tags.is_sorted_by(|one, next| one < next) {
        return Err("tags that are not sorted, or not unique".to_owned());
    }
    for tag in &tags {
        if tag.chars().count() > TAG_LENGTH_MAX || tag.ends_with(':') {
            return Err(format!("a tag that Datadog changes or refuses: {tag:?}"));
        }
    }
    Ok(tags)
}
