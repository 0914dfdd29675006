//! Turns the status of an answer into an error.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::answer;
use crate::{Endpoint, RestError};

/// Letters of Braze's message that are repeated.
const SAID_LENGTH_MAX: usize = 200;

/// Longer than any of Braze's limits lasts.
const OPENS_IN_MAX: Duration = Duration::from_hours(24);

/// The error of an answer; `None`: its body is to be read.
///
/// A 400 or 404 with a message in its body is Braze's; that of a proxy, or for a wrong path, has none. Source: Braze's API
/// reference, "Errors and responses".
pub(super) fn error(endpoint: Endpoint, status: u16, headers: &HeaderMap, body: &[u8]) -> Option<RestError> {
    let said = answer::message(body).map(|said| shortened(&said));
    let foreign = |reason| RestError::Foreign { endpoint, reason };
    Some(match (status, said) {
        (200, _) => return None,
        (201..=299, said) => {
            let said = said.unwrap_or_default();
            let reason = format!("status {status}, {said:?}; Braze may be under maintenance");
            RestError::Incomplete { endpoint, reason }
        }
        (300..=399, _) => foreign(format!("status {status}; redirects are not followed")),
        (401 | 403, said) => RestError::Refused { endpoint, status, said: said.unwrap_or_default() },
        (400 | 404, Some(said)) => RestError::Unknown { status, said },
        (429, _) => RestError::RateLimited { endpoint, opens_in: opens_in(headers) },
        (500.., _) => RestError::Failed { endpoint, status },
        _ => foreign(format!("status {status}")),
    })
}

fn shortened(said: &str) -> String {
    let letters = said.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    letters.take(SAID_LENGTH_MAX).collect()
}

/// When the rate limit opens again. `X-RateLimit-Reset` is a time by Braze's clock.
fn opens_in(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| -> Option<i64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    let seconds = number(RETRY_AFTER.as_str()).or_else(|| number("x-ratelimit-retry-after"));
    let seconds = seconds.or_else(|| {
        let reset = number("x-ratelimit-reset")?;
        let now = DateTimeParser::new().parse_timestamp(headers.get(DATE)?.to_str().ok()?).ok()?;
        Some(reset.saturating_sub(now.as_second()))
    })?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(OPENS_IN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn statuses_are_told_apart() {
        let judge = |status, body: &str| {
            error(Endpoint::CanvasSeries, status, &HeaderMap::new(), body.as_bytes())
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let message = r#"{"message":"Invalid Canvas\nID"}"#;
        for (status, body, part) in [
            (200, "", ""),
            (202, r#"{"message":"queued"}"#, "\"queued\""),
            (301, "", "redirects are not followed"),
            (400, message, "does not know it (status 400, \"Invalid Canvas ID\")"),
            (400, "<html>", "is not Braze's REST API (status 400)"),
            (401, "", "needs the permission canvas.data_series"),
            (403, "<html>", "needs the permission canvas.data_series"),
            (404, message, "does not know it"),
            (404, "not found", "is not Braze's REST API (status 404)"),
            (405, message, "is not Braze's REST API (status 405)"),
            (429, message, "rate limit for /canvas/data_series is used up"),
            (500, message, "could not answer /canvas/data_series (status 500)"),
            (503, "", "(status 503)"),
        ] {
            assert!(judge(status, body).contains(part), "{status}: {}", judge(status, body));
        }
        let long = judge(404, &format!(r#"{{"message":"{}"}}"#, "x".repeat(1000)));
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn a_limit_opens_when_braze_says_by_its_own_clock() {
        let seconds = |given: &[_]| opens_in(&headers(given)).map(|wait| wait.as_secs());
        let date = ("date", "Fri, 20 Nov 2026 10:00:00 GMT");
        // 10:00:42.
        let reset = ("x-ratelimit-reset", "1795168842");
        assert_eq!(seconds(&[("retry-after", "7"), date, reset]), Some(7));
        assert_eq!(seconds(&[("x-ratelimit-retry-after", "8")]), Some(8));
        assert_eq!(seconds(&[date, reset]), Some(42));
        assert_eq!(seconds(&[reset]), None);
        assert_eq!(seconds(&[date, ("x-ratelimit-reset", "7")]), Some(0));
        assert_eq!(seconds(&[date, ("x-ratelimit-reset", "soon")]), None);
        assert_eq!(seconds(&[("retry-after", "99999999999999")]), Some(86_400));
    }
}
