//! The configuration as it is written: a struct for each table of the file, the one place where a key is said.
//!
//! A field is a key: its type, its default, its bounds, and the sentence above it, which is also what the reference
//! file, the table in docs/configuration.md and an editor say of it. The [schema](super::schema) is made of these
//! structs, and everything that goes through the keys is made of the schema. What a field can say besides:
//!
//! | attribute | says |
//! |---|---|
//! | `range`, `x-min`, `x-max`, `x-whole-seconds` | what it may be |
//! | `x-reload` | that SIGHUP changes it, or all of its table; otherwise it takes a restart |
//! | `x-secret` | that its value is shown to nobody |
//! | `x-empty` | what the page shows in the place of nothing |
//! | `x-example`, `example` | what the reference file shows below the key, or in the place of no default |
#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "these sentences are also comments of a file that knows neither backticks nor links"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Address, SecretText, Size, Span};
use braze_events::{Field, SEND_TYPES};
use send_counts::aggregate;
use send_counts::aggregate::tags::Tag;

/// The one event type of [`SEND_TYPES`] that is not counted by default: it has no campaign and no Canvas.
const NOT_COUNTED: &str = "users.messages.liveactivity.Send";

const OPTIONS_EXAMPLE: &str = r#""security.protocol" = "SASL_SSL"
"sasl.mechanisms" = "SCRAM-SHA-512"
"sasl.username" = "forwarder"
"sasl.password.file" = "/etc/braze-datadog/kafka.password"
A stable name for each forwarder: a restart within session.timeout.ms then moves no partition.
"group.instance.id" = "forwarder-1""#;

/// Makes the structs: a field is written with its default, if that is not the type's own.
macro_rules! settings {
    ($($(#[$($about:tt)*])* $seen:vis struct $table:ident {
        $($(#[$($key_about:tt)*])* pub $key:ident: $type:ty $(= $default:expr)?,)*
    })*) => {$(
        $(#[$($about)*])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        $seen struct $table {
            $($(#[$($key_about)*])* pub $key: $type,)*
        }

        impl Default for $table {
            fn default() -> Self {
                Self { $($key: settings!(@default $($default)?),)* }
            }
        }
    )*};
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };
}

mod reconcile;
mod storage;

pub(super) use self::reconcile::{ConnectionReconcileSection, ReconcileSection};
pub(super) use self::storage::Storage;

settings! {
/// braze-datadog: every key, with its default, its unit and when to change it.
///
/// A line that begins with # and a word is a comment; a line that begins with #key or #[section] is a setting
/// that is off by default, or that has no default: remove the # to use it.
///
/// Durations are written "250ms", "10s", "10m", "1h30m"; sizes "16MiB", "4GiB" (powers of 1024), "500KB" (powers
/// of 1000), or as a number of bytes. Relative paths start from the folder of the file they are in. Every key can also be set
/// by an environment variable, which takes precedence: flush.interval by BRAZE_DATADOG__FLUSH__INTERVAL, a list as
/// BRAZE_DATADOG__EVENTS__COUNT="a,b".
///
/// Only a connection is required. `braze-datadog check` validates this file. SIGHUP makes a running process reload it:
/// connections, keys, tags, log.level and more change at once; the log names what needs a restart. The files of
/// connections_directory, and files of API keys, tokens and certificates, are reloaded when they change.
pub(super) struct Settings {
    /// How long a stop (SIGTERM) waits for the outcome of the last flush. At most 10m. Keep it below the time that the service
    /// manager allows: systemd 45s (the units here), Kubernetes 30s, docker stop 10s.
    // Above, whatever started the program has killed it.
    #[schemars(extend("x-min" = "0s", "x-max" = "10m"))]
    pub shutdown_timeout: Span = span(20),
    /// Threads that decode and count; 0: one per core, at most 256, and no more than flush.max_series_total has room for
    /// flush.max_series in each. Lower it to leave cores to other processes.
    #[schemars(range(max = 256))]
    pub lanes: usize,
    /// Ask Datadog at the start, hourly and for each new key whether it is valid on its site (GET /api/v1/validate); /status,
    /// the metric braze_datadog_key_valid and the log show the result. Nothing waits for it, and nothing is dropped because of
    /// it; if Datadog can't be asked, the state is "unknown". Connections with a url or dry_run are never asked about.
    /// false: for networks that let nothing out but points. Changes at once on SIGHUP.
    #[schemars(extend("x-reload" = true))]
    pub validate_keys: bool = true,
    /// A folder with more connections, one per file: NAME.toml holds the keys of a [connections.NAME] section, without that
    /// line; relative paths in it start from that folder. For many customers, or for files that another system writes: changes
    /// are picked up within seconds. Empty: none.
    #[schemars(extend("x-reload" = true))]
    pub connections_directory: String,
    pub queue: QueueSection,
    /// Braze Currents HTTP push, into the embedded queue: POST /v1/events. Off unless the section is here. It takes 1,024
    /// connections (half of `ulimit -n` at most; strangers make room for newcomers), headers of 16 KiB within 15s, and bodies
    /// within 60s, no slower than 64 KiB in 15s. All bodies together take 8 times max_body of memory.
    pub push: Option<Push>,
    pub admin: Admin,
    pub events: Events,
    pub dedup: DedupSection,
    #[schemars(extend("x-reload" = true))]
    pub tags: Tags,
    pub flush: Flush,
    /// Where counts go. Any number of sections; a name is lower-case letters, digits and _.
    #[schemars(extend("x-reload" = true))]
    pub connections: BTreeMap<String, ConnectionSection>,
    pub history: HistorySection,
    /// What the forwarder reports about itself to Datadog, with every flush, so that lost sends are noticed without an Agent:
    /// braze.forwarder.sends_dropped (tags connection and reason), queue_depth, queue_waiting, kafka_consumer_lag,
    /// storage_lag_seconds, sends_pending, flush_milliseconds, ready, config_reload_refused and connections_refused, each with
    /// version and tags.static. They are points like all others, sent once; config/datadog has monitors on them.
    #[schemars(extend("x-reload" = true))]
    pub forwarder_metrics: ForwarderMetricsSection,
    /// Once a day the running process compares what it has counted, and Datadog has accepted, with Braze's dashboard, as
    /// `braze-datadog reconcile` does; the page, /status and /metrics show the result. Off unless braze_url and a key are set.
    /// The first comparison is some seconds after the start. A wrong REST API key, or a Braze that fails, affects nothing else.
    #[schemars(extend("x-reload" = true))]
    pub reconcile: ReconcileSection,
    pub log: LogSection,
}

pub(super) struct ForwarderMetricsSection {
    /// The connection that sends them. Empty: none, which is free; else they are seven series (each five custom metrics),
    /// eight with Kafka or buckets, and one for each connection and reason of drops. A connection of their own (your key, and an
    /// app group that nobody has) keeps them apart from what customers see.
    #[schemars(extend("x-empty" = "none"))]
    pub connection: String,
    /// Also send braze.forwarder.campaign_last_send_age, at most once a minute: the seconds since each campaign was last sent,
    /// from the history, so across restarts. Tags: campaign_id, campaign_name, connection and tags.static. Only for the 1,000
    /// campaigns that were sent last, within 35 days; each is one more series (five custom metrics).
    pub campaign_last_send_age: bool,
}

pub(super) struct QueueSection {
    /// Where events wait until their counts have an outcome: "embedded" (a log on the local disk, filled by [push]),
    /// "kafka" (a broker that others fill) or "storage" (a bucket that Braze's Currents writes to).
    #[serde(with = "QueueKind")]
    pub kind: super::QueueKind = super::QueueKind::Embedded,
    pub embedded: Embedded,
    /// Used with kind = "kafka" only.
    pub kafka: Kafka,
    /// Used with kind = "storage", and for --import of a URL.
    pub storage: Storage,
}

pub(super) struct Embedded {
    /// On a disk that survives a restart. How far imports have come is kept here, too, whatever the kind of queue.
    pub directory: String = "/var/lib/braze-datadog/queue".into(),
    /// Bytes on disk. When it is full, pushes are answered 503 and Braze tries again later; nothing is thrown away. One million
    /// events take about 200MB: raise it to survive a longer outage.
    pub max_size: Size = Size(4 << 30),
}

pub(super) struct Kafka {
    /// host:port of one broker or more; they name the others. If no broker can be reached it waits; /readyz says so.
    pub brokers: Vec<String> = vec!["localhost:9092".into()],
    /// Names of topics, or a regular expression that begins with ^; new topics that match it are picked up within half a
    /// minute. Messages are JSON (an envelope, an array, a bare event), Avro or JSON with a schema of a registry, or Avro
    /// containers. If a topic's name ends in an event type (braze.users.messages.email.Send), that is the type of events that do
    /// not state theirs. A message of more than 16 MiB is booked as malformed.
    pub topics: Vec<String> = vec!["braze.sends".into()],
    /// Forwarders that share a group share the work.
    pub group_id: String = "braze-datadog".into(),
    /// The URL of a schema registry, for messages that name a schema before their value or in a header: Confluent's API, or
    /// Apicurio's own (https://HOST/apis/registry/v3, v2); may contain user and password. While it is unavailable, reading waits.
    /// Empty: such messages are booked as malformed, unless they are JSON.
    pub schema_registry: SecretText,
    /// A file with user:password (in Confluent Cloud: API key and secret) or with a bearer token for the registry.
    pub schema_registry_auth_file: String,
    /// Only for Apicurio's own API, whose schemas have two ids: which one is before a message, "global" or "content" (the
    /// producer's apicurio.registry.use-id). "auto": the content id with v3, the global id with v2, as its serializers do by default.
    #[serde(with = "SchemaIds")]
    pub schema_registry_ids: event_queues::kafka::SchemaIds = event_queues::kafka::SchemaIds::Auto,
    /// For "sasl.mechanisms" = "OAUTHBEARER": a file with a JSON Web Token, reread before the token expires.
    pub oauth_token_file: String,
    /// Handed to librdkafka as they are: TLS, SASL (PLAIN, SCRAM, OAUTHBEARER), fetch sizes. A name with .file at its end
    /// is the path of a file that holds the value. In environment variables, _ stands for the dots:
    /// BRAZE_DATADOG__QUEUE__KAFKA__OPTIONS__SASL_PASSWORD. What is set here unless you do: client.id = braze-datadog (a broker's
    /// quotas and logs go by it), auto.offset.reset = earliest, partition.assignment.strategy = cooperative-sticky,
    /// queued.max.messages.kbytes = 65536 (bytes fetched ahead), fetch.queue.backoff.ms = 50, fetch.max.bytes = 16777216,
    /// statistics.interval.ms = 5000, topic.metadata.refresh.interval.ms = 30000, socket.keepalive.enable = true,
    /// reconnect.backoff.ms = 1000, allow.auto.create.topics = false, ssl.ca.location = probe (the system's CAs, or where they are
    /// set those of SSL_CERT_FILE and SSL_CERT_DIR).
    #[schemars(extend("x-secret" = true, "x-example" = OPTIONS_EXAMPLE))]
    #[schemars(extend("additionalProperties" = {"type": ["string", "integer", "boolean"]}))]
    pub options: BTreeMap<String, SecretText>,
}

pub(super) struct Push {
    /// IP address and port. Anything but 127.0.0.1 (or [::1]) needs a token_file.
    pub listen: Address = here(8080),
    /// A file with the bearer tokens that are accepted, one per line; reloaded when it changes, so that tokens can be rotated.
    /// A token may be followed by the ids of the app groups that it is bound to, separated by commas:
    ///   TOKEN
    ///   TOKEN 5f3e8f0a-1234-4cde-9abc-0123456789ab,0d6c8a4e-3f5b-4f6e-9d39-6f1f1b7c2a10
    /// An event of another app group is then booked as malformed (foreign_app_group), and a URL that names another one is
    /// answered 401. An event that names none belongs to the URL's app group, else to the one that the token is bound to.
    /// Empty: no token is required.
    #[schemars(extend("x-empty" = "none: no token is asked"))]
    pub token_file: String,
    /// The certificate chain, a PEM file; together with tls_key. Empty: plain HTTP, for a proxy in front that terminates TLS.
    pub tls_certificate: String,
    /// The private key of the certificate, a PEM file.
    pub tls_key: String,
    /// Bytes of a body after decompression, at most 1GiB. Braze sends up to 100 events of at most 900KB.
    // A body is held in memory.
    #[schemars(extend("x-max" = "1GiB"))]
    pub max_body: Size = Size(16 << 20),
}

pub(super) struct Admin {
    /// Health, metrics and the status page, without a password: IP address and port. In a container: "0.0.0.0:8081".
    pub listen: Address = here(8081),
    /// Host names that the port answers to, besides its IP address and localhost, such as "dashboard.example.com". Others are
    /// refused, because somebody else's web page could have sent a browser here. Health checks are answered under every name.
    pub hosts: Vec<String>,
}

pub(super) struct Events {
    /// The event types that are counted, each event as one send. Also available: "users.messages.liveactivity.Send". Don't add
    /// *.Retry, users.messages.sms.CarrierSend or users.canvas.costep.Send: they come in addition to the real send, and would count it twice.
    pub count: Vec<String> = counted_types(),
    /// "event": an event is counted at its own time, in buckets of flush.interval. "arrival": at the time when it is counted;
    /// for tests, or if losing no send matters more than when it was sent.
    #[serde(with = "Timestamp")]
    pub timestamp: aggregate::Timestamp = aggregate::Timestamp::Event,
    /// What to do with an event outside Datadog's window (1 hour behind, 10 minutes ahead), which Datadog would silently
    /// discard. "drop": it is booked as dropped. "restamp": it is counted at the present time.
    #[serde(with = "Late")]
    pub late: aggregate::Late = aggregate::Late::Drop,
}

pub(super) struct DedupSection {
    /// How long the id of an event is remembered, so that a redelivery counts once. "0s" switches it off. At most 24h.
    // Above, max_ids is what bounds it anyway.
    #[schemars(extend("x-min" = "0s", "x-max" = "24h"))]
    pub window: Span = span(600),
    /// How many ids are remembered. Each connection has an equal share; once there is no room left, ids beyond that share are
    /// forgotten early. 4 million last for 6,600 events a second during 10 minutes. 1 to 1,000,000,000; each takes memory.
    // Above, a zero too many is likelier than a machine of that size.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_ids: usize = 4_000_000,
}

pub(super) struct Tags {
    /// Which tags a series has. Also available: "channel" (email, sms, …). Datadog bills each tag set: leave out what nobody
    /// looks at.
    #[schemars(extend("items" = {"type": "string", "enum": tags_on_offer().map(Tag::name).collect::<Vec<_>>()}))]
    pub include: Vec<String> = tag_names(),
    /// Tags that every series gets: ["env:prod"].
    pub r#static: Vec<String>,
    /// "latest": one series per set of ids, with the newest known name. "as_sent": a renamed campaign is another series.
    #[serde(with = "Names")]
    pub names: aggregate::tags::Names = aggregate::tags::Names::Latest,
}

pub(super) struct Flush {
    /// How often counts are sent, and how wide a time bucket is: whole seconds, from 1s to 10m. Longer is cheaper, shorter
    /// is sooner on the dashboard.
    // Datadog takes points that are at most ten minutes ahead, and loses those that are an hour behind.
    #[schemars(extend("x-min" = "1s", "x-max" = "10m", "x-whole-seconds" = true))]
    pub interval: Span = span(10),
    /// How long one request may take, from 100ms to 1m; then its batch is dropped (never retried, because points add up).
    // Below, no request gets through; above, one dead site holds its payloads for longer than anyone waits.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1m"))]
    pub timeout: Span = span(5),
    /// Series per connection and flush, 1 to 10,000,000; further sends are counted with their app group and overflow:true only.
    /// It bounds memory and Datadog's bill.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series: usize = 100_000,
    /// Series of all connections together in all lanes, up to 1,000,000,000 and not below max_series; 0: what fits into a
    /// quarter of the memory of the machine or container, at 512 bytes per series. When it is reached, a connection that has
    /// more than its share (the total divided by the number of connections with series) overflows, and the others go on.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_series_total: usize,
    /// How long an HTTP connection to Datadog is used, from 1s to 24h; then the next request opens a new one and resolves the
    /// name again, so that sends follow an address that moves.
    // Below, each flush would connect anew; above, nobody would remember that it is set.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub max_connection_age: Span = span(300),
}

pub(super) struct ConnectionSection {
    /// Where you log in to Datadog: US1, US3, US5, EU1, AP1, AP2, UK1, US1-FED, or the address in your browser. It has no
    /// default: with another organisation's site Datadog says "accepted" and shows nothing.
    #[schemars(example = &"US1")]
    pub site: String,
    /// A full base URL instead of site, for proxies and tests.
    pub url: String,
    /// Allow a url that begins with http:// and is not on this machine; the API key then crosses the network unencrypted.
    pub allow_plain_http: bool,
    /// The API key (not the application key), in one of three places. A file, readable by this user only, is best: it is
    /// reloaded when it changes.
    pub api_key_file: String,
    /// The name of an environment variable that holds it.
    #[schemars(example = &"DD_API_KEY")]
    pub api_key_env: String,
    /// Or the key itself.
    pub api_key: SecretText,
    /// The app groups (workspaces) whose sends go here. Empty: every app group that no other connection names; only one
    /// connection can have that. UUIDs are compared case-insensitively; the tag keeps what the event says.
    pub app_group_ids: Vec<String>,
    /// The name of the metric: letters, digits, _ and . only, 200 at most.
    pub metric: String = "braze.messaging.sent".into(),
    /// Print the points instead of sending them; no API key is needed then.
    pub dry_run: bool,
    /// Send braze.forwarder.heartbeat, one point per flush, with or without sends, so that "no sends" and "no forwarder" can be
    /// told apart (config/datadog/monitor-heartbeat.json). It goes with the sends, or in a request of its own. Tags: connection,
    /// version and tags.static. Costs one series (five custom metrics), or a point per flush where points are billed.
    pub heartbeat: bool,
    /// Braze does not send the names of app groups. Give each its name for the tag app_group_name; it takes precedence over a
    /// name in an event or in the URL of a push.
    #[schemars(extend("x-example" = r#""5f3e8f0a-1234-4cde-9abc-0123456789ab" = "Acme EMEA""#))]
    pub app_group_names: BTreeMap<String, String>,
    /// The daily comparison with Braze's dashboard for the sends of this connection, with the key of its own workspace; the
    /// rest is as [reconcile] says. Off unless a key is set.
    pub reconcile: ConnectionReconcileSection,
}

/// What was sent when, by campaign, Canvas and step, so that the page, GET /history and `top` can say whether a newsletter
/// went out last week. Counting does not depend on it.
pub(super) struct HistorySection {
    /// Where it is kept, in one file; one process at a time. Empty: no history is kept.
    #[schemars(extend("x-empty" = "none: no history is kept"))]
    pub directory: String = "/var/lib/braze-datadog/history".into(),
    /// Bytes of the file, at least 4MiB. When it is full, the oldest days are removed first. A campaign that sends for an hour
    /// takes about 60 bytes a day, one that sends all day 800.
    // Below, a day of a few thousand campaigns does not fit.
    #[schemars(extend("x-min" = "4MiB"))]
    pub max_size: Size = Size(256 << 20),
    /// Days that are kept, 1 to 400 (13 months).
    #[schemars(range(min = 1, max = 400))]
    pub keep_days: u32 = 400,
}

pub(super) struct LogSection {
    /// error, warn, info, debug or trace. The environment variable RUST_LOG takes precedence, and can set levels per module;
    /// modules that it does not name (`RUST_LOG=reqwest=debug`) stay at this level.
    #[schemars(extend("x-reload" = true, "enum" = ["error", "warn", "info", "debug", "trace"]))]
    pub level: String = "info".into(),
    /// "auto": text on a terminal, JSON otherwise. "text". "json".
    #[serde(with = "LogFormat")]
    pub format: super::LogFormat = super::LogFormat::Auto,
}
}

/// Makes the schema of choices that other modules define.
macro_rules! choices {
    ($($name:ident of $other:literal: $($choice:ident)|*;)*) => {$(
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(remote = $other, rename_all = "snake_case")]
        enum $name { $($choice),* }
    )*};
}

choices! {
    QueueKind of "super::QueueKind": Embedded | Kafka | Storage;
    LogFormat of "super::LogFormat": Auto | Text | Json;
    SchemaIds of "event_queues::kafka::SchemaIds": Auto | Global | Content;
    Timestamp of "aggregate::Timestamp": Event | Arrival;
    Late of "aggregate::Late": Drop | Restamp;
    Names of "aggregate::tags::Names": Latest | AsSent;
}

/// Every tag, in the order of messages.
pub(super) fn tags_on_offer() -> impl Iterator<Item = Tag> {
    Field::ALL.into_iter().map(Tag::Field).chain([Tag::Channel])
}

fn span(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

fn here(port: u16) -> Address {
    Address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// The event types that are counted by default.
fn counted_types() -> Vec<String> {
    let types = SEND_TYPES.iter().map(|(name, _)| *name);
    types.filter(|name| *name != NOT_COUNTED).map(Into::into).collect()
}

fn tag_names() -> Vec<String> {
    Field::ALL.iter().map(|field| field.name().into()).collect()
}
