//! What is compared with Braze's dashboard once a day, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

settings! {
pub(in crate::config) struct ReconcileSection {
    /// The address of Braze's REST API: "https://rest.fra-01.braze.eu", "https://rest.iad-01.braze.com", …
    #[schemars(extend("x-empty" = "none: off, but for connections with one of their own"))]
    pub braze_url: String,
    /// A file with a REST API key of one workspace, readable by this user only, with the permissions campaigns.data_series
    /// and canvas.data_series. It is reloaded when it changes. With several workspaces each has its key in
    /// [connections.NAME.reconcile]; this one is for the sends of all connections without one.
    pub braze_key_file: String,
    /// The name of an environment variable that holds it.
    pub braze_key_env: String,
    /// Only sends of this app group (the key's workspace). Empty: all.
    pub app_group_id: String,
    /// The time zone of the company in Braze's dashboard, by its IANA name: "Europe/Paris". Days are its days.
    pub time_zone: String = "UTC".into(),
    /// How many days are compared, 1 to 100; yesterday is the last of them.
    #[schemars(range(min = 1, max = 100))]
    pub days: u32 = 7,
    /// How far apart the two sides may be, in percent of Braze's number.
    pub tolerance: String = "1%".into(),
    /// When, in that time zone: some hours after midnight, because Braze's numbers settle slowly; 01:00 at the earliest.
    pub at: String = "04:00".into(),
}

pub(in crate::config) struct ConnectionReconcileSection {
    /// Empty: that of [reconcile].
    pub braze_url: String,
    /// A file with the REST API key of the workspace whose sends go to this connection.
    pub braze_key_file: String,
    /// The name of an environment variable that holds it.
    pub braze_key_env: String,
    /// Only sends of this app group (the key's workspace), where the connection has several. Empty: all.
    pub app_group_id: String,
    /// Empty: that of [reconcile].
    pub time_zone: String,
}
}
