//! Intermediaries that push in Braze's place: the answers they expect, and their requests that are no pushes.

use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::refusal::{RETRY_SOON, Refusal, answer_of, json_answer};
use http_listener::Answer;

/// Amazon Data Firehose gives each request an id, and requires the answer to repeat it.
const FIREHOSE_REQUEST_ID: &str = "x-amz-firehose-request-id";

/// The header for the key of a Firehose stream.
pub(super) const FIREHOSE_ACCESS_KEY: &str = "x-amz-firehose-access-key";

/// The header for the type of an SNS message.
const SNS_MESSAGE_TYPE: &str = "x-amz-sns-message-type";

/// Firehose's ids are GUIDs.
const REQUEST_ID_BYTES_MAX: usize = 256;

/// SNS sends its user and password only after this challenge.
const SNS_CHALLENGE: &str = "Basic realm=\"braze-datadog\"";

/// Bytes of an SNS text that are logged; its URLs have some 400.
const LOGGED_BYTES_MAX: usize = 1024;

/// The intermediary that pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Intermediary {
    /// Braze, or a sender without special needs.
    Direct,
    /// Amazon Data Firehose's HTTP endpoint delivery.
    ///
    /// Source: its documentation, "HTTP endpoint delivery request and response specifications".
    Firehose {
        /// The id to repeat.
        request_id: Box<str>,
    },
    /// Amazon SNS over HTTPS.
    ///
    /// Source: its documentation, "Parsing Amazon SNS message formats".
    Sns {
        /// A change of a subscription, in the place of events.
        subscription: Option<SubscriptionChange>,
    },
}

/// A change of a subscription of Amazon SNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscriptionChange {
    /// Somebody has subscribed this port to a topic, and it is to be confirmed.
    Subscribed,
    /// The subscription has been taken back.
    Unsubscribed,
}

/// The message of a change, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubscriptionMessage {
    /// The topic; unsafe characters are left out.
    pub(super) topic: String,
    /// The URL that confirms the subscription, or gives it back. It is never requested from here: otherwise a sender would
    /// choose a request of this machine.
    pub(super) url: String,
}

impl Intermediary {
    /// The intermediary by a request's headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(id) = text(FIREHOSE_REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX) {
            return Self::Firehose { request_id: id.into() };
        }
        match text(SNS_MESSAGE_TYPE) {
            Some("SubscriptionConfirmation") => {
                Self::Sns { subscription: Some(SubscriptionChange::Subscribed) }
            }
            Some("UnsubscribeConfirmation") => {
                Self::Sns { subscription: Some(SubscriptionChange::Unsubscribed) }
            }
            Some(_) => Self::Sns { subscription: None },
            None => Self::Direct,
        }
    }

    /// The answer to a push of so many events that are safe; `now` in Unix milliseconds.
    pub(super) fn accepted(&self, events: u32, now: u64) -> Answer {
        match self {
            Self::Firehose { request_id } => {
                json_answer(StatusCode::OK, &json!({ "requestId": request_id, "timestamp": now }))
            }
            // Nearly every push: a tree for one number would take several allocations.
            _ => answer_of(StatusCode::OK, format!("{{\"accepted\":{events}}}")),
        }
    }

    /// The answer to a refused push.
    pub(super) fn refused(&self, refusal: &Refusal, now: u64) -> Answer {
        let answer = refusal.answer();
        match self {
            Self::Direct => answer,
            Self::Firehose { request_id } => {
                let words = refusal.text();
                let body = json!({ "requestId": request_id, "timestamp": now, "errorMessage": words });
                let (mut head, _) = answer.into_parts();
                let (own, body) = json_answer(head.status, &body).into_parts();
                head.headers.extend(own.headers);
                Response::from_parts(head, body)
            }
            Self::Sns { .. } => {
                let mut answer = answer;
                if answer.status() == StatusCode::UNAUTHORIZED {
                    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(SNS_CHALLENGE));
                }
                // SNS retries no 4xx but 429, so a 408 becomes a 503. Source: its documentation, "Message delivery retries".
                if answer.status() == StatusCode::REQUEST_TIMEOUT {
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SOON.as_secs()));
                }
                answer
            }
        }
    }
}

impl SubscriptionMessage {
    /// Reads the body of a change.
    pub(super) fn of(body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Message {
            topic_arn: String,
            #[serde(rename = "SubscribeURL")]
            subscribe_url: String,
        }
        let Message { topic_arn, subscribe_url } = serde_json::from_slice(body).unwrap_or_default();
        let topic = if is_loggable(&topic_arn) { topic_arn } else { "(none that can be shown)".to_owned() };
        let url = if is_loggable(&subscribe_url) && is_of_aws(&subscribe_url) {
            subscribe_url
        } else {
            "(none of AWS's)".to_owned()
        };
        Self { topic, url }
    }
}

fn is_loggable(text: &str) -> bool {
    !text.is_empty() && text.len() <= LOGGED_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether it leads to Amazon's SNS and nowhere else: a person will open it. Anybody can get other names below
/// `amazonaws.com` (`sns.s3.amazonaws.com` is a bucket), so only a region may stand between: `eu-west-1`, `us-gov-east-1`.
fn is_of_aws(url: &str) -> bool {
    let rest = url.strip_prefix("https://sns.").unwrap_or_default();
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let region = [".amazonaws.com", ".amazonaws.com.cn"].iter().find_map(|end| host.strip_suffix(end));
    let mut parts = region.unwrap_or_default().split('-');
    let is_word = |part: &str| part.len() > 1 && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let starts = parts.next().is_some_and(|part| part.len() == 2 && is_word(part));
    let ends = parts.next_back().is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    starts && ends && parts.all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_too_slowly_or_was_cut_is_sent_again_by_sns_too() {
        let answer = |intermediary: &Intermediary, refusal| {
            let answer = intermediary.refused(&refusal, 0);
            (answer.status().as_u16(), answer.headers().contains_key(RETRY_AFTER))
        };
        for refusal in [|| Refusal::TooSlow, || Refusal::Incomplete] {
            assert_eq!(answer(&Intermediary::Sns { subscription: None }, refusal()), (503, true));
            assert_eq!(answer(&Intermediary::Direct, refusal()), (408, false));
        }
    }

    fn of(name: &'static str, value: &str) -> Intermediary {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Intermediary::of(&headers)
    }

    #[test]
    fn an_intermediary_is_known_by_its_headers() {
        assert_eq!(Intermediary::of(&HeaderMap::new()), Intermediary::Direct);
        let firehose = Intermediary::Firehose { request_id: "ed4acda5".into() };
        assert_eq!(of(FIREHOSE_REQUEST_ID, "ed4acda5"), firehose);
        assert_eq!(of(FIREHOSE_REQUEST_ID, &"x".repeat(257)), Intermediary::Direct);
        for (kind, subscription) in [
            ("Notification", None),
            ("SubscriptionConfirmation", Some(SubscriptionChange::Subscribed)),
            ("UnsubscribeConfirmation", Some(SubscriptionChange::Unsubscribed)),
            ("x", None),
        ] {
            assert_eq!(of(SNS_MESSAGE_TYPE, kind), Intermediary::Sns { subscription }, "{kind}");
        }
    }

    #[test]
    fn only_a_url_of_awss_is_told() {
        for (url, is_loggable) in [
            ("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=ab", true),
            ("https://sns.cn-north-1.amazonaws.com.cn/?Token=ab", true),
            ("http://sns.eu-west-1.amazonaws.com/?Token=ab", false),
            ("https://sns.s3.eu-west-1.amazonaws.com/?Token=ab", false),
            ("https://sns.us-gov-east-1.amazonaws.com/?Token=ab", true),
            ("https://sns.elb.amazonaws.com/?Token=ab", false),
            ("https://sns.s3.amazonaws.com/?Token=ab", false),
            ("https://sns.s3-eu-west-1.amazonaws.com/?Token=ab", false),
            ("https://sns.eu-west-1.amazonaws.com.evil.example/", false),
            ("https://sns.example/?x=.amazonaws.com", false),
            ("https://sns.a@evil.example/.amazonaws.com", false),
            ("https://sns.a:b@c.amazonaws.com/", false),
            ("https://sns.evil.example\\.amazonaws.com", false),
            ("https://sns.eu.amazonaws.com/\u{1b}[31m", false),
            ("", false),
        ] {
            let body = json!({ "TopicArn": "arn:aws:sns:x:1:t", "SubscribeURL": url }).to_string();
            let words = SubscriptionMessage::of(body.as_bytes());
            assert_eq!(words.url == url && !url.is_empty(), is_loggable, "{words:?}");
            assert_eq!(words.topic, "arn:aws:sns:x:1:t");
        }
        let nothing = SubscriptionMessage::of(b"{");
        assert!(nothing.topic.contains("none") && nothing.url.contains("none"), "{nothing:?}");
    }
}
