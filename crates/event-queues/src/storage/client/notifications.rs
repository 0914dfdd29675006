//! Notifications of new objects: S3 puts a notification of each new object into an Amazon SQS queue, and so do Amazon
//! `EventBridge` and SNS behind it.
//!
//! They are sooner and cheaper than listings, but not needed: an object without a notification, or whose notification a
//! process took before it ended too early, is found by the next listing of all open hours. So a message is deleted as soon
//! as its objects are known here, and a message that is no notification stays in the queue.
//!
//! Google's Pub/Sub and Azure's Event Grid would be further makers of a [`Notification`]; the poller knows nothing of SQS.
//!
//! Sources: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>,
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>.

use std::collections::BTreeMap;

use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector as _, HttpRequest, ReqwestConnector};
use object_store::path::Path;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::bucket::{StorageSetupError, client, s3_builder};
use crate::Secret;

/// How long SQS waits for a message; no more than 20.
const WAIT_SECONDS: u32 = 20;
/// How many messages are taken at once; no more than 10.
const MESSAGES_MAX: u32 = 10;
/// The options of the bucket's client that the queue's client needs, too.
const CLIENT_OPTIONS: [ClientConfigKey; 5] = [
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
];
/// How much of SQS's error text is repeated.
const TOLD_BYTES_MAX: usize = 200;

/// One message: the objects that it says are new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notification {
    /// The handle to delete it by.
    receipt: String,
    /// None where it is no notification of a bucket.
    pub(super) objects: Option<Vec<NotifiedObject>>,
    /// Its first bytes, for a message that can't be read.
    pub(super) beginning: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotifiedObject {
    pub(super) bucket: String,
    pub(super) path: Path,
}

/// The SQS queue that notifications wait in.
pub(super) struct Notifications {
    pub(super) url: Url,
    region: String,
    credentials: AwsCredentialProvider,
    client: HttpClient,
}

impl Notifications {
    /// With the credentials of the buckets; the region is the URL's, else the buckets'.
    ///
    /// # Errors
    /// When the URL is none of an SQS queue, or the options do not go together.
    pub(super) fn new(url: &str, options: &BTreeMap<Box<str>, Secret>) -> Result<Self, StorageSetupError> {
        let wrong = |problem: String| StorageSetupError::Notifications { url: url.to_owned(), problem };
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        let builder = s3_builder("s3://notifications", options)?;
        let of_builder = |key: ClientConfigKey| builder.get_config_value(&AmazonS3ConfigKey::Client(key));
        let options = CLIENT_OPTIONS.into_iter().fold(client(), |options, key| match of_builder(key) {
            Some(value) => options.with_config(key, value),
            None => options,
        });
        let allows_http = of_builder(ClientConfigKey::AllowHttp)
            .is_some_and(|value| ["1", "true", "on", "yes", "y"].contains(&&*value.to_ascii_lowercase()));
        match parsed.scheme() {
            "https" => {}
            "http" if allows_http => {}
            "http" => {
                return Err(wrong(
                    "it is not https; set queue.storage.options.allow_http for a server of your own"
                        .to_owned(),
                ));
            }
            _ => return Err(wrong("it is not https".to_owned())),
        }
        if parsed.path().trim_matches('/').is_empty() {
            return Err(wrong("it names no queue".to_owned()));
        }
        let region = region_of(&parsed).map(str::to_owned);
        let region = region.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
        let region = region
            .ok_or_else(|| wrong("its region is not known; set queue.storage.options.region".to_owned()))?;
        let unfit = |error: object_store::Error| wrong(error.to_string());
        let credentials = AmazonS3Builder::build(builder).map_err(unfit)?.credentials().clone();
        let client = ReqwestConnector::default().connect(&options).map_err(unfit)?;
        Ok(Self { url: parsed, region, credentials, client })
    }

    /// Waits for messages, for twenty seconds at most. A call that is given up loses none: they come again.
    ///
    /// # Errors
    /// When SQS refuses, or can't be reached; in words.
    pub(super) async fn receive(&self) -> Result<Vec<Notification>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Received {
            #[serde(default)]
            messages: Option<Vec<Message>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Message {
            body: String,
            receipt_handle: String,
        }
        let asked = json!({
            "QueueUrl": self.url.as_str(), "MaxNumberOfMessages": MESSAGES_MAX, "WaitTimeSeconds": WAIT_SECONDS,
        });
        let answer = self.ask("ReceiveMessage", &asked).await?;
        let received: Received =
            serde_json::from_slice(&answer).map_err(|error| format!("its answer can't be read: {error}"))?;
        let messages = received.messages.unwrap_or_default().into_iter();
        Ok(messages
            .map(|message| Notification {
                receipt: message.receipt_handle,
                objects: objects_of(&message.body),
                beginning: message.body.chars().take(80).collect(),
            })
            .collect())
    }

    /// Deletes messages whose objects are known.
    ///
    /// # Errors
    /// When SQS refuses, or can't be reached; in words. They come again then.
    pub(super) async fn delete(&self, known: &[Notification]) -> Result<(), String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Deleted {
            #[serde(default)]
            failed: Vec<serde_json::Value>,
        }
        let entries: Vec<_> = (0_u32..)
            .zip(known)
            .map(|(number, message)| json!({"Id": number.to_string(), "ReceiptHandle": message.receipt}))
            .collect();
        if entries.is_empty() {
            return Ok(());
        }
        let asked = json!({"QueueUrl": self.url.as_str(), "Entries": entries});
        let answer = self.ask("DeleteMessageBatch", &asked).await?;
        let deleted: Deleted =
            serde_json::from_slice(&answer).map_err(|error| format!("its answer can't be read: {error}"))?;
        match deleted.failed.first() {
            None => Ok(()),
            Some(first) => Err(format!("messages can't be deleted: {first}")),
        }
    }

    async fn ask(&self, action: &str, asked: &serde_json::Value) -> Result<Vec<u8>, String> {
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| format!("there are no credentials for it: {error}"))?;
        let mut request = HttpRequest::new(asked.to_string().into_bytes().into());
        let unfit = |_| format!("the region {} can't be", self.region);
        *request.method_mut() = "POST".parse().map_err(|_| "POST is no method".to_owned())?;
        let endpoint = &self.url[..url::Position::BeforePath];
        *request.uri_mut() =
            format!("{endpoint}/").parse().map_err(|error| format!("{endpoint}: {error}"))?;
        let headers = request.headers_mut();
        for (name, value) in
            [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &format!("AmazonSQS.{action}"))]
        {
            headers.insert(name, value.parse().map_err(unfit)?);
        }
        AwsAuthorizer::new(&credential, "sqs", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| error.to_string())?;
        let answer = self.client.execute(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(body.to_vec()) } else { Err(refusal(status.as_u16(), &body)) }
    }
}

/// `eu-central-1` of `sqs.eu-central-1.amazonaws.com`, or of `sqs.cn-north-1.amazonaws.com.cn`.
fn region_of(url: &Url) -> Option<&str> {
    let (region, rest) = url.host_str()?.strip_prefix("sqs.")?.split_once('.')?;
    rest.starts_with("amazonaws.com").then_some(region)
}

/// The message for a request that SQS refuses, in words that stay the same while the reason does.
fn refusal(status: u16, body: &[u8]) -> String {
    let refused: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |name: &str| refused[name].as_str().unwrap_or_default();
    let kind = word("__type").rsplit('#').next().unwrap_or_default();
    let message: String = word("message").chars().take(TOLD_BYTES_MAX).collect();
    let advice = match (status, kind) {
        (_, "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue") => {
            "there is no such queue; check queue.storage.notifications"
        }
        (
            _,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException",
        ) => "the credentials are wrong or expired",
        (403, _) | (_, "AccessDeniedException" | "AccessDenied") => {
            "the rights to receive and delete messages are missing (docs/operating.md, \"Buckets\")"
        }
        _ => "it is asked again after the next listing",
    };
    [advice, ": ", &status.to_string(), " ", kind, " ", &message].concat().trim_end().to_owned()
}

/// The new objects in a message; none in S3's test message, or in one about removed objects. `None`: it is no notification.
fn objects_of(body: &str) -> Option<Vec<NotifiedObject>> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "Records")]
        records: Option<Vec<Record>>,
        /// S3 sends a test when notifications are set up: `s3:TestEvent`.
        #[serde(rename = "Event")]
        event: Option<String>,
        /// The field of SNS.
        #[serde(rename = "Message")]
        message: Option<String>,
        /// The field of `EventBridge`.
        #[serde(rename = "detail-type")]
        detail_type: Option<String>,
        detail: Option<Detail>,
    }
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "eventName", default)]
        event_name: String,
        s3: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        bucket: Named,
        object: Keyed,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Keyed {
        key: String,
    }
    let mut body: Body = serde_json::from_str(body).ok()?;
    if let Some(message) = &body.message {
        body = serde_json::from_str(message).ok()?;
    }
    // A key that can't be an object's path would fail in a listing, too.
    if let Some(records) = body.records {
        let new = records.into_iter().filter(|record| !record.event_name.contains("ObjectRemoved"));
        let object = |Record { s3: Detail { bucket, object }, .. }| {
            // Encoded as in a form.
            let path = Path::from_url_path(object.key.replace('+', "%20")).ok()?;
            Some(NotifiedObject { bucket: bucket.name, path })
        };
        return Some(new.filter_map(object).collect());
    }
    if let Some(Detail { bucket, object }) = body.detail {
        let is_new = body.detail_type.as_deref() == Some("Object Created");
        let object = Path::parse(object.key).ok().map(|path| NotifiedObject { bucket: bucket.name, path });
        return Some(object.filter(|_| is_new).into_iter().collect());
    }
    (body.event.as_deref() == Some("s3:TestEvent")).then(Vec::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifications(url: &str, options: &[(&str, &str)]) -> Result<Notifications, StorageSetupError> {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Notifications::new(url, &options)
    }

    fn object(path: &str) -> NotifiedObject {
        NotifiedObject { bucket: "events".to_owned(), path: Path::parse(path).unwrap() }
    }

    #[test]
    fn the_objects_of_every_way_that_s3_notifies_are_read() {
        const PATH: &str = "currents/event_type=users.messages.email.Send/date=2026-11-27-10/a b+ü.avro";
        let record = |name: &str| {
            json!({"eventName": name, "s3": {"bucket": {"name": "events"}, "object": {"size": 7,
                "key": "currents/event_type%3Dusers.messages.email.Send/date%3D2026-11-27-10/a+b%2B%C3%BC.avro"}}})
        };
        let direct = json!({"Records": [record("ObjectCreated:Put"), record("ObjectRemoved:Delete")]});
        let by_sns = json!({"Type": "Notification", "Message": direct.to_string()});
        let by_event_bridge = json!({"version": "0", "detail-type": "Object Created",
            "detail": {"bucket": {"name": "events"}, "object": {"key": PATH}}});
        for body in [&direct, &by_sns, &by_event_bridge] {
            assert_eq!(objects_of(&body.to_string()), Some(vec![object(PATH)]), "{body}");
        }
        let deleted = by_event_bridge.to_string().replace("Created", "Deleted");
        assert_eq!(objects_of(&deleted), Some(vec![]));
        assert_eq!(
            objects_of(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"events"}"#),
            Some(vec![])
        );
        assert_eq!(
            objects_of(
                r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a//b"}}}]}"#
            ),
            Some(vec![])
        );
    }

    #[test]
    fn what_is_no_notification_is_told_apart() {
        for body in [
            "",
            "{}",
            "[]",
            "text",
            r#"{"Records":[{"body":"{}"}]}"#,
            r#"{"Message":"hello"}"#,
            r#"{"id":"1","name":"users.messages.email.Send"}"#,
        ] {
            assert_eq!(objects_of(body), None, "{body}");
        }
    }

    #[test]
    fn the_region_is_the_urls_else_the_buckets() {
        let region =
            |url: &str, options: &[(&str, &str)]| notifications(url, options).map(|queue| queue.region);
        assert_eq!(
            region("https://sqs.eu-west-3.amazonaws.com/1/q", &[("region", "us-east-2")]).unwrap(),
            "eu-west-3"
        );
        assert_eq!(region("http://queue.example/1/q", &[("allow_http", "1"), ("region", "a")]).unwrap(), "a");
        assert_eq!(region("https://queue.example/1/q", &[("region", "us-east-2")]).unwrap(), "us-east-2");
    }

    #[test]
    fn what_is_no_queue_is_told_with_what_to_write() {
        for (url, options, expected) in [
            ("events", &[][..], "queue.storage.notifications"),
            ("arn:aws:sqs:eu-central-1:1:q", &[], "it is not https"),
            ("http://sqs.eu-central-1.amazonaws.com/1/q", &[], "allow_http"),
            ("http://sqs.eu-central-1.amazonaws.com/1/q", &[("allow_http", "0")], "allow_http"),
            ("https://sqs.eu-central-1.amazonaws.com/", &[], "names no queue"),
        ] {
            let message = notifications(url, options).err().unwrap().to_string();
            assert!(message.contains(expected) && message.contains("https://sqs.REGION"), "{url}: {message}");
        }
    }

    #[test]
    fn what_sqs_refuses_becomes_advice() {
        for (status, body, expected) in [
            (
                400,
                r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#,
                "no such queue",
            ),
            (
                403,
                r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"User is not authorized"}"#,
                "rights to receive and delete",
            ),
            (400, r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException"}"#, "wrong or expired"),
            (403, r#"{"__type":"com.amazon.coral.service#ExpiredTokenException"}"#, "wrong or expired"),
            (403, r#"{"__type":"com.amazon.coral.service#InvalidClientTokenId"}"#, "wrong or expired"),
            (403, "<html>", "rights to receive and delete"),
            (503, "<html>", "asked again after the next listing: 503"),
        ] {
            let words = refusal(status, body.as_bytes());
            assert!(words.contains(expected), "{words}");
        }
    }
}
