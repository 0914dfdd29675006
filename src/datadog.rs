//! Datadog's side.

pub use datadog_points::{ApiKey, client as http, normalize as normal, outcome, payload, site, validity};

pub use crate::connection::{Connection, Intake};
pub use crate::pipeline::{collapse, encode, heartbeat, preview, rejudge};
pub use crate::{key_monitor as keys, monitors as monitor};
