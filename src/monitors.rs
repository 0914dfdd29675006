//! Datadog monitors over what the forwarder sends, as JSON that is ready to be posted.
//!
//! Rules of Datadog for monitors that no schema states are kept here in one place: the window's limits, that the threshold
//! equals the query's, how counts are summed, and how a query without data is evaluated.

pub mod due;
pub mod format;
pub mod recurrence;
mod text;
pub mod window;

use std::borrow::Cow;

use serde_json::{Value, json};

use self::due::Due;
use self::window::AlertWindow;
use datadog_points::normalize::stored_value;
use send_counts::aggregate::tags;

use crate::forwarder_points::{heartbeat, metrics};

/// How late the events of a quiet workspace come from Braze, in seconds: 5 to 30 minutes. A monitor on too few looks so much
/// later.
pub const LATENESS: u64 = 30 * 60;

/// What a monitor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A campaign.
    Campaign,
    /// A Canvas.
    Canvas,
    /// A Canvas step.
    Step,
}

impl Subject {
    /// Its usual name.
    pub const fn word(self) -> &'static str {
        match self {
            Subject::Campaign => "campaign",
            Subject::Canvas => "Canvas",
            Subject::Step => "Canvas step",
        }
    }

    /// The tags that tell one of them from another: its id and its name.
    pub const fn tags(self) -> [&'static str; 2] {
        match self {
            Subject::Campaign => ["campaign_id", "campaign_name"],
            Subject::Canvas => ["canvas_id", "canvas_name"],
            Subject::Step => ["canvas_step_id", "canvas_step_name"],
        }
    }

    /// The tags of a monitor's groups, of those that are sent; its own comes last. Empty: nothing tells one from another.
    ///
    /// They are ids. A send that lacks one of them is in no group (Datadog's guide "Troubleshooting No Data in Monitors"), and
    /// names are missing for an hour, or for good; a new name would be a new group without a past. So a name is taken only
    /// where its id is not sent, and that of the Canvas only where the step has no id.
    pub fn groups(self, sent: &[&str]) -> Vec<&'static str> {
        let is_sent = |tag: &&str| sent.contains(tag);
        let Some(own) = self.tags().into_iter().find(is_sent) else { return Vec::new() };
        let [id, name] = Subject::Canvas.tags();
        let canvas = match self {
            Subject::Step if own == self.tags()[0] => Some(id).filter(is_sent),
            Subject::Step => [id, name].into_iter().find(is_sent),
            Subject::Campaign | Subject::Canvas => None,
        };
        canvas.into_iter().chain([own]).collect()
    }
}

/// A filter of a query: a tag's key, and its value as Braze has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `campaign_name`
    pub key: String,
    /// `Weekly newsletter`
    pub value: String,
}

impl Filter {
    /// The value as Datadog stores what the forwarder sends; empty if nothing of it is left, and then no query finds it.
    pub fn stored(&self) -> String {
        let Self { key, value } = self;
        // It is the beginning of the value.
        let sent = tags::clean(value.as_bytes(), key).len();
        stored_value(key, value.get(..sent).unwrap_or(value))
    }
}

/// When a monitor goes off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Fewer sends than this in the window. Nothing at all counts, too.
    FewerThan(u64),
    /// More sends than this in the window.
    MoreThan(u64),
    /// So many more sends than in the window that ended so long before.
    Rise {
        /// Sends.
        more: u64,
        /// How long before.
        before: AlertWindow,
    },
    /// So many percent more sends than in the window that ended so long before. Without data to compare with there is no
    /// alert.
    Growth {
        /// Percent.
        percent: u64,
        /// How long before.
        before: AlertWindow,
    },
}

/// A monitor over sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// The metric.
    pub metric: String,
    /// What it looks at.
    pub subject: Subject,
    /// One of them or more; empty: each of them by itself.
    pub filters: Vec<Filter>,
    /// More required tags, as written (`env:prod`).
    pub scope: Vec<String>,
    /// The tags to group by; see [`Subject::groups`].
    pub tags: Vec<&'static str>,
    /// When it goes off.
    pub condition: Condition,
    /// The time that is summed up.
    pub window: AlertWindow,
    /// When it is evaluated; `None`: all the time. Its window is then that of the monitor.
    pub due: Option<Due>,
    /// Its name; `None`: one that describes it.
    pub name: Option<String>,
    /// The people to notify: `@slack-crm`, `@someone@example.com`.
    pub notify: Vec<String>,
}

impl Monitor {
    /// The monitor as Datadog's `POST /api/v1/monitor` takes it.
    pub fn to_json(&self) -> Value {
        let query_alert = QueryAlert {
            name: self.name.as_deref().map_or_else(|| text::name(self).into(), Cow::from),
            query: self.query(),
            message: text::message(self),
            priority: 2,
            threshold: self.threshold(),
            // Too few is as true tomorrow; too many should be repeated within the hour.
            renotify_minutes: if self.is_about_silence() { 1440 } else { 60 },
            on_missing_data: self.on_missing_data(),
        };
        let mut monitor = query_alert.to_json();
        let options = &mut monitor["options"];
        if self.is_about_silence() {
            options["evaluation_delay"] = LATENESS.into();
        } else {
            // A new group with thousands of sends is what this monitor is for; by default it would be skipped at first.
            options["new_group_delay"] = 0.into();
        }
        if let Some(due) = &self.due {
            // The window ends at the due time, though evaluation is later. Each evaluation alerts anew, so no renotification
            // is needed between them.
            options["evaluation_delay"] = due.grace.into();
            options["scheduling_options"] = due.schedule();
            options.as_object_mut().and_then(|options| options.remove("renotify_interval"));
        }
        monitor
    }

    /// Whether it goes off when there are no sends. Such a monitor is not grouped: a group without sends in the whole window
    /// does not exist any more, and Datadog forgets it.
    pub const fn is_about_silence(&self) -> bool {
        matches!(self.condition, Condition::FewerThan(_))
    }

    /// The query. `sum:` because a point's value is a number of sends, `.as_count()` because Datadog would show a
    /// rate otherwise.
    fn query(&self) -> String {
        let Self { metric, window, condition, .. } = self;
        let series = format!("sum:{metric}{{{}}}{}.as_count()", self.scope(), self.groups());
        let threshold = self.threshold();
        match condition {
            Condition::FewerThan(_) => format!("sum({window}):{series} < {threshold}"),
            Condition::MoreThan(_) => format!("sum({window}):{series} > {threshold}"),
            Condition::Rise { before, .. } => {
                format!("change(sum({window}),{before}):{series} > {threshold}")
            }
            Condition::Growth { before, .. } => {
                format!("pct_change(sum({window}),{before}):{series} > {threshold}")
            }
        }
    }

    fn scope(&self) -> String {
        let filters = self.filters.iter().map(|filter| format!("{}:{}", filter.key, filter.stored()));
        let mut parts: Vec<String> = filters.chain(self.scope.iter().cloned()).collect();
        if self.filters.is_empty() {
            // Sends without the tag form no group: for a monitor of steps they are campaigns'.
            parts.extend(self.tags.last().map(|tag| format!("{tag}:*")));
        }
        if parts.is_empty() { "*".to_owned() } else { parts.join(",") }
    }

    fn groups(&self) -> String {
        if self.is_about_silence() || self.tags.is_empty() {
            return String::new();
        }
        format!(" by {{{}}}", self.tags.join(","))
    }

    const fn threshold(&self) -> u64 {
        match self.condition {
            Condition::FewerThan(sends) | Condition::MoreThan(sends) => sends,
            Condition::Rise { more, .. } => more,
            Condition::Growth { percent, .. } => percent,
        }
    }

    /// How a window without any data is evaluated; a monitor with a schedule has to state it. Not `default_zero()`, which
    /// does nothing where the window has no point at all, nor `default`: that is "evaluate as zero" for count queries and
    /// "show the last status" for distributions, according to Datadog's "Configure Monitors", which is the wrong way to be
    /// silent.
    const fn on_missing_data(&self) -> &'static str {
        if self.is_about_silence() { "show_and_notify_no_data" } else { "resolve" }
    }
}

/// What every monitor of this program has.
struct QueryAlert<'n> {
    name: Cow<'n, str>,
    query: String,
    message: String,
    priority: u8,
    threshold: u64,
    renotify_minutes: u32,
    on_missing_data: &'static str,
}

impl QueryAlert<'_> {
    /// The monitor as Datadog's `POST /api/v1/monitor` takes it.
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": "query alert",
            "query": self.query,
            "message": self.message,
            "tags": ["service:braze-datadog"],
            "priority": self.priority,
            "options": {
                "thresholds": { "critical": self.threshold },
                // Sends are sparse: with true, Datadog would skip every evaluation that has a gap.
                "require_full_window": false,
                "include_tags": true,
                "notify_audit": false,
                "renotify_interval": self.renotify_minutes,
                "on_missing_data": self.on_missing_data,
            },
        })
    }
}

/// Trouble of the forwarder that its [own metrics](crate::forwarder_points::metrics) show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwarderTrouble {
    /// It took no events, all through the window.
    NotReady,
    /// More sends than this were dropped in the window, for a connection and a reason.
    Drops(u64),
    /// More events than this waited in the queue, all through the window.
    Queue(u64),
    /// The oldest object of a bucket that waits was this many seconds behind the newest, all through the window.
    BucketLag(u64),
    /// Something of its configuration was refused, all through the window.
    Configuration,
}

impl ForwarderTrouble {
    /// The usual name of its monitor, what is queried, and the threshold of the query.
    ///
    /// The minimum of a maximum is what never fell below that, and the other way round. No tag tells one forwarder from
    /// another, so the space aggregation is that which shows the one in trouble: the points of all of them stand in the same
    /// seconds, so that it goes over all.
    fn watched(self, window: AlertWindow) -> (&'static str, String, u64) {
        let highest = |metric: &str| format!("max:{metric}{{*}}");
        match self {
            ForwarderTrouble::NotReady => {
                let series = format!("min:{}{{*}}", metrics::READY);
                ("[Braze] The forwarder takes no events", format!("max({window}):{series} < 1"), 1)
            }
            ForwarderTrouble::Drops(sends) => {
                let metric = metrics::SENDS_DROPPED;
                let series = format!("sum:{metric}{{*}} by {{connection,reason}}.as_count()");
                ("[Braze] The forwarder drops sends", format!("sum({window}):{series} > {sends}"), sends)
            }
            ForwarderTrouble::Queue(events) => {
                // What is taken and not flushed does not wait.
                let series = highest(metrics::QUEUE_WAITING);
                (
                    "[Braze] Events wait in the forwarder's queue",
                    format!("min({window}):{series} > {events}"),
                    events,
                )
            }
            ForwarderTrouble::BucketLag(seconds) => {
                let series = highest(metrics::STORAGE_LAG);
                (
                    "[Braze] The forwarder lags behind its bucket",
                    format!("min({window}):{series} > {seconds}"),
                    seconds,
                )
            }
            ForwarderTrouble::Configuration => {
                let refused = [metrics::RELOAD_REFUSED, metrics::CONNECTIONS_REFUSED];
                let series = refused.map(highest).join(" + ");
                ("[Braze] The forwarder's configuration is refused", format!("min({window}):{series} > 0"), 0)
            }
        }
    }
}

/// The monitor that alerts on the forwarder's trouble.
pub fn of_forwarder(
    trouble: ForwarderTrouble,
    window: AlertWindow,
    name: Option<&str>,
    notify: &[String],
) -> Value {
    let (usual, query, threshold) = trouble.watched(window);
    let query_alert = QueryAlert {
        name: name.unwrap_or(usual).into(),
        query,
        message: text::of_forwarder(trouble, window, notify),
        priority: 1,
        threshold,
        renotify_minutes: 60,
        // Without drops there are no points of them. The heartbeat shows whether the forwarder runs at all.
        on_missing_data: "resolve",
    };
    let mut monitor = query_alert.to_json();
    if let ForwarderTrouble::Drops(_) = trouble {
        // A reason without earlier drops is what this monitor is for.
        monitor["options"]["new_group_delay"] = 0.into();
    }
    monitor
}

/// The monitor that alerts when a connection's heartbeat is missing: for one connection, or for each.
pub fn of_heartbeat(
    connection: Option<&str>,
    window: AlertWindow,
    name: Option<&str>,
    notify: &[String],
) -> Value {
    let scope = connection
        .map_or_else(|| "*".to_owned(), |name| format!("connection:{}", stored_value("connection", name)));
    let metric = heartbeat::METRIC;
    let query_alert = QueryAlert {
        name: name.unwrap_or("[Braze] The forwarder is silent").into(),
        query: format!("sum({window}):sum:{metric}{{{scope}}} by {{connection}}.as_count() < 1"),
        message: text::of_heartbeat(window, notify),
        priority: 1,
        threshold: 1,
        renotify_minutes: 60,
        // There is no heartbeat with the value 0: silence is no data.
        on_missing_data: "show_and_notify_no_data",
    };
    query_alert.to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_as_the_forwarder_sends_it_and_datadog_stores_it() {
        let long = "a  ".repeat(100);
        let kept = 200 - "campaign_name:".len();
        for (name, stored) in [
            ("Weekly Newsletter", "weekly_newsletter"),
            // Without the colons at the end.
            ("Newsletter:", "newsletter"),
            ("Newsletter::", "newsletter"),
            ("a:b", "a:b"),
            ("::", ""),
            // Cut first, and joined then.
            (&long, &"a_".repeat(kept / 3)),
        ] {
            let filter = Filter { key: "campaign_name".to_owned(), value: name.to_owned() };
            assert_eq!(filter.stored(), stored.trim_end_matches('_'), "{name:?}");
            let monitor = Monitor {
                metric: "braze.messaging.sent".to_owned(),
                subject: Subject::Campaign,
                filters: vec![filter],
                scope: Vec::new(),
                tags: Vec::new(),
                condition: Condition::FewerThan(5),
                window: AlertWindow::at_most(3600),
                due: None,
                name: None,
                notify: Vec::new(),
            };
            let json = monitor.to_json();
            let tag = format!("campaign_name:{}", stored.trim_end_matches('_'));
            assert!(json["query"].as_str().unwrap().contains(&format!("{{{tag}}}")), "{json}");
            assert!(json["message"].as_str().unwrap().contains(&format!("`{tag}`")), "{json}");
        }
    }
}
