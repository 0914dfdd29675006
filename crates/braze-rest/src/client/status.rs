//! Turns the status of an answer into an error.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{CONTENT_ENCODING, DATE, HeaderMap, RETRY_AFTER};

use crate::answer;
use crate::{Endpoint, RestError};

/// Longer than any of Braze's limits lasts.
const OPENS_IN_MAX: Duration = Duration::from_hours(24);

/// The error of an answer; `None`: its body is to be read.
///
/// A 400 or 404 with a message in its body is Braze's; that of a proxy, or for a wrong path, has none. A 401 or 403 with a
/// web page is not Braze's either. Source: Braze's API reference, "Errors and responses".
pub(super) fn error(endpoint: Endpoint, status: u16, headers: &HeaderMap, body: &[u8]) -> Option<RestError> {
    let said = answer::message(body);
    let foreign = |reason| RestError::Foreign { endpoint, reason };
    if let (200 | 400 | 401 | 403 | 404, None, Some(coding)) = (status, &said, coding(headers)) {
        let reason = format!("status {status} with Content-Encoding {coding}, which was not asked for");
        return Some(foreign(reason));
    }
    Some(match (status, said) {
        (200, _) => return None,
        (201..=299, said) => {
            let said = said.unwrap_or_default();
            let reason = format!("status {status}: Braze may be under maintenance; it says {said:?}");
            RestError::Incomplete { endpoint, reason }
        }
        (300..=399, _) => foreign(format!("status {status}; redirects are not followed")),
        (401 | 403, None) if body.trim_ascii_start().first() == Some(&b'<') => {
            foreign(format!("status {status} with a web page; does a proxy refuse the request?"))
        }
        (401 | 403, said) => RestError::Refused { endpoint, status, said: said.unwrap_or_default() },
        (400 | 404, Some(said)) => RestError::Unknown { status, said },
        (429, _) => RestError::RateLimited { endpoint, opens_in: opens_in(headers) },
        (500.., _) => RestError::Failed { endpoint, status },
        _ => foreign(format!("status {status}")),
    })
}

/// The coding of an answer, where it has one.
fn coding(headers: &HeaderMap) -> Option<String> {
    let coding = String::from_utf8_lossy(headers.get(CONTENT_ENCODING)?.as_bytes()).into_owned();
    (!["", "identity"].contains(&&*coding.trim().to_ascii_lowercase())).then_some(coding)
}

/// When the rate limit opens again. `X-RateLimit-Reset`, and a `Retry-After` that is a date, are times by Braze's clock.
fn opens_in(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<i64>().ok();
    let date = |name: &str| Some(DateTimeParser::new().parse_timestamp(text(name)?).ok()?.as_second());
    let retry_after = RETRY_AFTER.as_str();
    let seconds = number(retry_after).or_else(|| number("x-ratelimit-retry-after"));
    let seconds = seconds.or_else(|| {
        let reset = date(retry_after).or_else(|| number("x-ratelimit-reset"))?;
        Some(reset.saturating_sub(date(DATE.as_str())?))
    })?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(OPENS_IN_MAX))
}

#[cfg(test)]
mod tests;
