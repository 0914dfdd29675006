//! The buckets that are read, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretText, Span, span};

const STORAGE_OPTIONS_EXAMPLE: &str = r#"region = "eu-central-1"
access_key_id = "AKIA…"
"secret_access_key.file" = "/etc/braze-datadog/s3.secret""#;

settings! {
pub(in crate::config) struct Storage {
    /// What is read: "s3://BUCKET/PREFIX/", "gs://BUCKET/PREFIX/", "az://CONTAINER/PREFIX/" or "file:///DIRECTORY/". Objects are
    /// Avro containers or JSON, compressed or not; event_type=… in a path says which events are in it, and date=… or
    /// YYYY/MM/DD/HH which hour (UTC). A type that is not in events.count is neither listed nor read.
    pub url: String,
    /// How often it is listed for new objects, from 1s to 1h. A listing costs a request per event type, and one more per
    /// thousand objects of the last hours.
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub poll_interval: Span = span(30),
    /// What is counted when a URL is read for the first time: "now" (objects that come after the first listing), "beginning"
    /// (everything; most of it is older than Datadog takes, see events.late), or a date or time: "2026-11-27", "2026-11-27T10:00:00Z".
    pub start: String = "now".into(),
    /// How long after its newest hour (date=…, YYYY/MM/DD/HH) an older hour may still get objects, from 1h to 720h. After that
    /// it is no longer listed, and what is remembered of it is forgotten.
    #[schemars(extend("x-min" = "1h", "x-max" = "720h"))]
    pub lateness: Span = span(48 * 3600),
    /// Where it is remembered which objects are done: one file, about half a kilobyte for each object of the hours that are
    /// listed. One process at a time; on a disk that survives a restart.
    pub state_directory: String = "/var/lib/braze-datadog/storage".into(),
    /// The URL of an Amazon SQS queue that S3 (or EventBridge, or SNS) notifies of new objects, with the credentials of the
    /// bucket: "https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE". Objects are then read within a second or two, and the bucket is
    /// listed only every ten minutes (or poll_interval, if that is longer) for what was not notified. "" for none.
    pub notifications: String = String::new(),
    /// More URLs, each with the app group of those events below it that don't state theirs; "" for none.
    #[schemars(extend("x-example" = r#""s3://bucket/acme/" = "5f3e8f0a-1234-4cde-9abc-0123456789ab""#))]
    pub sources: BTreeMap<String, String>,
    /// Options of the store, as the crate object_store names them: region, endpoint, allow_http, access_key_id,
    /// secret_access_key, account_name, service_account, … What is not set comes from the environment (AWS_…, GOOGLE_…,
    /// AZURE_…), then from the machine's role. A name that ends in .file is the path of a file that contains the value.
    #[schemars(extend("x-secret" = true, "x-example" = STORAGE_OPTIONS_EXAMPLE))]
    #[schemars(extend("additionalProperties" = {"type": ["string", "integer", "boolean"]}))]
    pub options: BTreeMap<String, SecretText>,
}
}
