//! What `/status` says of the configuration.

use serde::{Deserialize, Serialize};

/// How the configuration was read last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadStatus {
    /// Whether it and the files of the push port were taken over, connections that are wrong aside.
    pub successful: bool,
    /// Why it was not.
    pub refused_because: Option<String>,
    /// When one was refused last, in Unix seconds; none since the start, or since one was taken over.
    pub refused_at: Option<u64>,
    /// Why files of the push port were not, by themselves.
    pub push_files_refused_because: Option<String>,
    /// When they were refused last, in Unix seconds; none since they were right.
    pub push_files_refused_at: Option<u64>,
    /// When one was taken over last, in Unix seconds; the start is one.
    pub last_success: u64,
}

/// A setting as it is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingValue {
    /// Its key.
    pub key: String,
    /// Its value; a secret is only said to be there.
    pub value: String,
}
