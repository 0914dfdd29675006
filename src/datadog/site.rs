//! Datadog's sites, as users write them.

/// Where a connection sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What people call it: `EU1`, or the host where it has no short name.
    pub name: Box<str>,
    /// Scheme, host and, where there is one, port and path; no slash at the end.
    pub base_url: Box<str>,
}
