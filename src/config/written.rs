//! The configuration as it is written: every section and key, with its default.
//!
//! This is the one list of what can be configured. [`Written::listing`] turns it into the shape that
//! [layers](super::layers) hold files and environment variables against, and that the reference file is
//! compared with, so that no key can exist in one of them and not in the others.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Field, SEND_TYPES};

/// The one event type of [`SEND_TYPES`] that is not counted unless asked for: it has no campaign and no Canvas.
const NOT_COUNTED: &str = "users.messages.liveactivity.Send";

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    pub queue: Queue,
    /// Absent switches it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    pub admin: Admin,
    pub events: Events,
    pub dedup: Dedup,
    pub tags: Tags,
    pub flush: Flush,
    pub connections: BTreeMap<String, Connection>,
    pub log: Log,
    pub shutdown_timeout: String,
    pub lanes: u64,
    pub validate_keys: bool,
    pub connections_directory: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Queue {
    pub kind: String,
    pub embedded: Embedded,
    pub kafka: Kafka,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Embedded {
    pub directory: String,
    pub max_size: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kafka {
    pub brokers: Vec<String>,
    pub topics: Vec<String>,
    pub group_id: String,
    pub schema_registry: String,
    pub schema_registry_auth_file: String,
    pub oauth_token_file: String,
    pub options: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Push {
    pub listen: String,
    pub token_file: String,
    pub tls_certificate: String,
    pub tls_key: String,
    pub max_body: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    pub listen: String,
    pub hosts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Events {
    pub count: Vec<String>,
    pub timestamp: String,
    pub late: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Dedup {
    pub window: String,
    pub max_ids: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tags {
    pub include: Vec<String>,
    pub r#static: Vec<String>,
    pub names: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Flush {
    pub interval: String,
    pub timeout: String,
    pub max_series: u64,
    pub max_connection_age: String,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Connection {
    pub site: String,
    pub url: String,
    pub allow_plain_http: bool,
    pub api_key_file: String,
    pub api_key_env: String,
    pub api_key: Secret,
    pub app_group_ids: Vec<String>,
    pub metric: String,
    pub dry_run: bool,
    pub heartbeat: bool,
    pub app_group_names: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub level: String,
    pub format: String,
}

/// A text that can't be printed. Only defaults are ever serialized, and they hold no secret.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Default for Written {
    fn default() -> Self {
        Self {
            queue: Queue::default(),
            push: None,
            admin: Admin::default(),
            events: Events::default(),
            dedup: Dedup::default(),
            tags: Tags::default(),
            flush: Flush::default(),
            connections: BTreeMap::new(),
            log: Log::default(),
            shutdown_timeout: "20s".into(),
            lanes: 0,
            validate_keys: true,
            connections_directory: String::new(),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { kind: "embedded".into(), embedded: Embedded::default(), kafka: Kafka::default() }
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self { directory: "/var/lib/braze-datadog/queue".into(), max_size: "4GiB".into() }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: vec!["localhost:9092".into()],
            topics: vec!["braze.sends".into()],
            group_id: "braze-datadog".into(),
            schema_registry: String::new(),
            schema_registry_auth_file: String::new(),
            oauth_token_file: String::new(),
            options: BTreeMap::new(),
        }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            token_file: String::new(),
            tls_certificate: String::new(),
            tls_key: String::new(),
            max_body: "16MiB".into(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".into(), hosts: Vec::new() }
    }
}

impl Default for Events {
    fn default() -> Self {
        let counted = SEND_TYPES.iter().map(|(name, _)| *name).filter(|name| *name != NOT_COUNTED);
        Self { count: counted.map(Into::into).collect(), timestamp: "event".into(), late: "drop".into() }
    }
}

impl Default for Dedup {
    fn default() -> Self {
        Self { window: "10m".into(), max_ids: 4_000_000 }
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            include: Field::ALL.iter().map(|field| field.name().into()).collect(),
            r#static: Vec::new(),
            names: "latest".into(),
        }
    }
}

impl Default for Flush {
    fn default() -> Self {
        Self {
            interval: "10s".into(),
            timeout: "5s".into(),
            max_series: 100_000,
            max_connection_age: "5m".into(),
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            site: String::new(),
            url: String::new(),
            allow_plain_http: false,
            api_key_file: String::new(),
            api_key_env: String::new(),
            api_key: Secret::default(),
            app_group_ids: Vec::new(),
            metric: "braze.messaging.sent".into(),
            dry_run: false,
            heartbeat: false,
            app_group_names: BTreeMap::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: "auto".into() }
    }
}

/// Stands in the listing for a key that the user chooses.
pub(super) const ANY: &str = "*";

impl Written {
    /// Every section and key with its default, the ones that are absent by default too; a key that the user
    /// chooses is [`ANY`].
    pub(super) fn listing() -> Result<Value, serde_json::Error> {
        let chosen = |default: &str| BTreeMap::from([(ANY.to_owned(), default.to_owned())]);
        let connection = Connection { app_group_names: chosen(""), ..Connection::default() };
        let kafka = Kafka { options: chosen(""), ..Kafka::default() };
        serde_json::to_value(Written {
            queue: Queue { kafka, ..Queue::default() },
            push: Some(Push::default()),
            connections: BTreeMap::from([(ANY.to_owned(), connection)]),
            ..Written::default()
        })
    }
}
