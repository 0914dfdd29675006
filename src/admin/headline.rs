//! The headline: whether sends flow, and if not, the gravest cause with the connection it hits.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use admin_api::format::{ago, grouped, span};
use admin_api::{ConnectionStatus, FlowState, Headline};
use datadog_points::outcome::FailureReason;

use super::messages::why;
use super::rates::Hour;
use event_lanes::stats::{DropReason, UNROUTED};

/// The input of the headline.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is something that can be wrong by itself")]
pub struct Situation<'s> {
    /// The last hour.
    pub hour: &'s Hour,
    /// Why no events can be taken.
    pub not_ready: Option<&'s str>,
    /// Whether the push port's certificate is one that senders refuse.
    pub is_certificate_void: bool,
    /// Whether no source of events is configured.
    pub receives_nothing: bool,
    /// Whether the last reload of the configuration was refused.
    pub is_reload_refused: bool,
    /// Whether the books balance.
    pub is_balanced: bool,
    /// All connections.
    pub connections: &'s [ConnectionStatus],
    /// How long ago the process started.
    pub uptime_seconds: u64,
}

/// The severity of a cause, the gravest first. Each new cause gets one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Nothing comes in any more: every connection is hit.
    Closed,
    /// All sends of a connection are lost until somebody acts.
    Refused,
    /// Sends are lost while a network or Datadog is down; that may pass.
    Outage,
    /// Some sends are lost, for their time is outside what Datadog takes.
    Untimely,
    /// Nothing is lost, but somebody should look.
    Doubtful,
}

/// The severity of drops for a reason.
const fn severity(reason: DropReason) -> Severity {
    match reason {
        DropReason::Unrouted | DropReason::ConnectionRefusedConfiguration => Severity::Refused,
        DropReason::Late | DropReason::Early => Severity::Untimely,
        DropReason::Failed(reason) => match reason {
            FailureReason::Http400
            | FailureReason::Http403
            | FailureReason::Http413
            | FailureReason::Http4xx
            | FailureReason::HttpUnexpected
            | FailureReason::HttpInvalid
            | FailureReason::Defect => Severity::Refused,
            FailureReason::Http429
            | FailureReason::Http5xx
            | FailureReason::Timeout
            | FailureReason::Connect
            | FailureReason::Dns
            | FailureReason::Shutdown => Severity::Outage,
        },
    }
}

/// Something that is wrong.
#[derive(Debug)]
struct Cause {
    severity: Severity,
    /// Its label for programs: that of `reason`, or one of its own.
    label: &'static str,
    /// The connection it hits; `None`: all.
    connection: Option<String>,
    /// How many sends it has cost lately.
    sends: u64,
    text: CauseText,
}

/// How to word a cause.
#[derive(Debug)]
enum CauseText {
    /// A complete sentence.
    Said(String),
    /// Sends of one or several connections are dropped.
    Dropped(&'static str),
    /// The key of one or several connections is not valid.
    KeyRefused,
    /// One or several connections are left out.
    LeftOut,
    /// One or several connections keep their old configuration.
    Outdated,
}

/// The headline: whether sends flow.
pub fn headline(of: &Situation<'_>) -> Headline {
    let causes = causes(of);
    let Some(gravest) = causes.first() else {
        let (state, words) = flow(of);
        return Headline { state, words, ..Headline::default() };
    };
    let (alike, others): (Vec<&Cause>, Vec<&Cause>) =
        causes.iter().partition(|cause| cause.label == gravest.label);
    let whom = whom(gravest, alike.len() - 1);
    let words = match &gravest.text {
        CauseText::Said(sentence) => sentence.clone(),
        CauseText::Dropped(why) => format!("Sends of {whom} are being dropped: {why}"),
        CauseText::KeyRefused => format!("Sends of {whom} reach nobody: Datadog refuses the API key"),
        CauseText::LeftOut => format!("The configuration of {whom} is wrong: what is sent there is dropped"),
        CauseText::Outdated => format!("The new configuration of {whom} is wrong, and the old one stays"),
    };
    let rest = match others.len() {
        0 => String::new(),
        1 => "; and one more problem".to_owned(),
        problems => format!("; and {problems} more problems"),
    };
    Headline {
        state: FlowState::Trouble,
        words: words + &rest,
        cause: Some(gravest.label.to_owned()),
        connection: gravest.connection.clone(),
        others: causes.len() as u64 - 1,
    }
}

/// `acme`, or `acme and 2 others`.
fn whom(gravest: &Cause, others: usize) -> String {
    let name = gravest.connection.as_deref().unwrap_or("all connections");
    match others {
        0 => name.to_owned(),
        1 => format!("{name} and one other"),
        others => format!("{name} and {} others", grouped(others as u64)),
    }
}

/// Everything that is wrong, the gravest first; of equally grave causes, the one that costs the most sends.
fn causes(of: &Situation<'_>) -> Vec<Cause> {
    let said = |severity, label, sentence: String| Cause {
        severity,
        label,
        connection: None,
        sends: 0,
        text: CauseText::Said(sentence),
    };
    let mut causes = Vec::new();
    if let Some(reason) = of.not_ready {
        causes.push(said(Severity::Closed, "not_ready", format!("No events are taken: {reason}")));
    }
    if of.is_certificate_void {
        let sentence = "Braze can't push: the push port's certificate has expired, or is not valid yet";
        causes.push(said(Severity::Closed, "certificate", sentence.to_owned()));
    }
    if of.receives_nothing {
        let sentence = "No events can come: push is off, and there is no other queue";
        causes.push(said(Severity::Closed, "receives_nothing", sentence.to_owned()));
    }
    if of.is_reload_refused {
        let sentence = "The configuration was refused when it was read last, and the old one stays";
        causes.push(said(Severity::Doubtful, "configuration", sentence.to_owned()));
    }
    let refused = DropReason::Failed(FailureReason::Http403);
    let mut is_refused = BTreeSet::new();
    for drops in &of.hour.dropping {
        if drops.reason == refused {
            is_refused.insert(drops.connection.as_str());
        }
        let text = match drops.reason {
            DropReason::Unrouted => {
                CauseText::Said("Sends are being dropped: no connection serves their app group".to_owned())
            }
            reason => CauseText::Dropped(why(reason)),
        };
        causes.push(Cause {
            severity: severity(drops.reason),
            label: drops.reason.label(),
            connection: Some(drops.connection.clone()).filter(|name| name != UNROUTED),
            sends: drops.sends,
            text,
        });
    }
    let has_void_key = |one: &&ConnectionStatus| {
        one.key.state == "invalid" && !one.dry_run && !is_refused.contains(one.name.as_str())
    };
    causes.extend(of.connections.iter().filter(has_void_key).map(|one| Cause {
        severity: Severity::Refused,
        label: "key_invalid",
        connection: Some(one.name.clone()),
        sends: 0,
        text: CauseText::KeyRefused,
    }));
    causes.extend(refused_connections(of));
    if !of.is_balanced {
        let sentence = "The books do not balance, which is a defect: please report it";
        causes.push(said(Severity::Doubtful, "books", sentence.to_owned()));
    }
    causes.sort_by_key(|cause| (cause.severity, Reverse(cause.sends)));
    causes
}

/// Connections whose configuration is wrong, except those whose drops are already among the causes.
fn refused_connections<'s>(of: &Situation<'s>) -> impl Iterator<Item = Cause> + use<'s> {
    const REASON: DropReason = DropReason::ConnectionRefusedConfiguration;
    let dropping: BTreeSet<&str> = of
        .hour
        .dropping
        .iter()
        .filter(|drops| drops.reason == REASON)
        .map(|drops| &*drops.connection)
        .collect();
    let is_told = move |one: &&ConnectionStatus| dropping.contains(one.name.as_str());
    let refused = of.connections.iter().filter(|one| one.refused.is_some()).filter(move |one| !is_told(one));
    refused.map(|one| {
        let is_left_out = one.is_left_out();
        Cause {
            severity: if is_left_out { Severity::Refused } else { Severity::Doubtful },
            label: if is_left_out { REASON.label() } else { "connection_outdated" },
            connection: Some(one.name.clone()),
            sends: 0,
            text: if is_left_out { CauseText::LeftOut } else { CauseText::Outdated },
        }
    })
}

/// The state of the flow, when nothing is wrong.
fn flow(of: &Situation<'_>) -> (FlowState, String) {
    let Situation { hour, connections, .. } = of;
    let dry_runs = connections.iter().filter(|one| one.dry_run).count();
    let is_all_dry = dry_runs > 0 && dry_runs == connections.len();
    match hour.quiet_seconds {
        None => {
            let dry = if is_all_dry { " (a dry run: none will be sent)" } else { "" };
            (FlowState::Quiet, format!("No sends since the start {} ago{dry}", ago(of.uptime_seconds)))
        }
        // For as long as the rate is measured.
        Some(quiet) if hour.minute.counted == 0 => (FlowState::Quiet, format!("No sends for {}", ago(quiet))),
        Some(_) => {
            let rate = rate(hour.minute.counted, hour.minute_seconds);
            match (dry_runs, connections.len()) {
                // A reload has ended a dry run, and what it printed reached nobody.
                (0, _) if hour.minute.printed > 0 && hour.minute.printed >= hour.minute.accepted => {
                    (FlowState::Quiet, format!("Sends were printed by a dry run that has ended ({rate})"))
                }
                (0, _) if hour.minute.printed > 0 => (
                    FlowState::Flowing,
                    format!("Sends flow: {rate}; some were printed by a dry run that has ended"),
                ),
                (0, _) => (FlowState::Flowing, format!("Sends flow: {rate}")),
                _ if is_all_dry => {
                    (FlowState::Quiet, format!("Dry run: sends are printed, none is sent ({rate})"))
                }
                (1, all) => {
                    (FlowState::Flowing, format!("Sends flow: {rate}; 1 of {all} connections is a dry run"))
                }
                (dry, all) => (
                    FlowState::Flowing,
                    format!("Sends flow: {rate}; {dry} of {all} connections are dry runs"),
                ),
            }
        }
    }
}

/// Sends a second, or in all that time where that is clearer.
fn rate(sends: u64, seconds: u64) -> String {
    let a_second = sends / seconds.max(1);
    match (a_second, sends) {
        (0, sends) => format!("{sends} in the last {}", span(seconds)),
        (a_second, _) => format!("{} a second", grouped(a_second)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rates::{Dropping, Sends};
    use super::*;
    use admin_api::KeyVerdict;

    const HTTP_403: DropReason = DropReason::Failed(FailureReason::Http403);
    const TIMEOUT: DropReason = DropReason::Failed(FailureReason::Timeout);

    fn hour(counted: u64, quiet_seconds: Option<u64>, dropping: &[(&str, DropReason)]) -> Hour {
        Hour {
            slots: Vec::new(),
            minute: Sends { counted, ..Sends::default() },
            minute_seconds: 60,
            accepted_seconds: 60,
            quiet_seconds,
            dropping: dropping
                .iter()
                .map(|(name, reason)| Dropping { connection: (*name).into(), reason: *reason, sends: 1 })
                .collect(),
        }
    }

    fn situation(hour: &Hour) -> Situation<'_> {
        Situation {
            hour,
            not_ready: None,
            is_certificate_void: false,
            is_balanced: true,
            receives_nothing: false,
            is_reload_refused: false,
            connections: &[],
            uptime_seconds: 200,
        }
    }

    fn say(hour: &Hour) -> String {
        headline(&situation(hour)).words
    }

    fn connection(name: &str, dry_run: bool, key: &str) -> ConnectionStatus {
        let key = KeyVerdict { state: key.into(), ..KeyVerdict::default() };
        ConnectionStatus { name: name.into(), dry_run, key, ..ConnectionStatus::default() }
    }

    #[test]
    fn without_trouble_it_says_whether_sends_flow() {
        assert_eq!(say(&hour(60 * 1234, Some(0), &[])), "Sends flow: 1,234 a second");
        assert_eq!(say(&hour(12, Some(5), &[])), "Sends flow: 12 in the last minute");
        let longer = Hour { minute_seconds: 180, ..hour(12, Some(5), &[]) };
        assert_eq!(say(&longer), "Sends flow: 12 in the last 3 minutes");
        assert_eq!(say(&hour(0, Some(725), &[])), "No sends for 12 minutes");
        assert_eq!(say(&hour(0, None, &[])), "No sends since the start 3 minutes ago");
        let told = headline(&situation(&hour(12, Some(5), &[])));
        assert_eq!(
            (told.state, told.cause, told.connection, told.others),
            (FlowState::Flowing, None, None, 0)
        );
    }

    #[test]
    fn the_gravest_cause_is_named_with_whom_it_hits() {
        let of = |dropping: &[(&str, DropReason)]| headline(&situation(&hour(9, Some(0), dropping)));
        let told = of(&[("acme", HTTP_403)]);
        assert_eq!(told.words, "Sends of acme are being dropped: HTTP 403 (API key refused)");
        assert_eq!((told.state, told.cause.as_deref()), (FlowState::Trouble, Some("http_403")));
        assert_eq!((told.connection.as_deref(), told.others), (Some("acme"), 0));

        let told = of(&[("slow", TIMEOUT), ("late", DropReason::Late), ("acme", HTTP_403)]);
        let words = "Sends of acme are being dropped: HTTP 403 (API key refused); and 2 more problems";
        assert_eq!((told.words.as_str(), told.others), (words, 2));
        let told = of(&[("_unrouted", DropReason::Unrouted), ("late", DropReason::Late)]);
        let words = "Sends are being dropped: no connection serves their app group; and one more problem";
        assert_eq!((told.words.as_str(), told.connection), (words, None));
    }

    #[test]
    fn of_many_that_are_hit_alike_one_is_named() {
        let names: Vec<String> = (0..300).map(|number| format!("customer_{number:03}")).collect();
        let dropping: Vec<_> = names.iter().map(|name| (name.as_str(), HTTP_403)).collect();
        let mut hour = hour(9, Some(0), &dropping);
        hour.dropping[7].sends = 50;
        let told = headline(&situation(&hour));
        let words = "Sends of customer_007 and 299 others are being dropped: HTTP 403 (API key refused)";
        assert_eq!((told.words.as_str(), told.others), (words, 299));
    }

    #[test]
    fn what_hits_everybody_comes_before_what_hits_one() {
        let hour = hour(9, Some(0), &[("acme", HTTP_403)]);
        let closed = Situation { not_ready: Some("the queue is full"), ..situation(&hour) };
        let told = headline(&closed);
        assert_eq!(told.words, "No events are taken: the queue is full; and one more problem");
        assert_eq!(told.cause.as_deref(), Some("not_ready"));
        let void = Situation { is_certificate_void: true, ..situation(&hour) };
        assert!(
            headline(&void).words.starts_with("Braze can't push: the push port's certificate has expired")
        );
        let quiet = Situation { is_balanced: false, ..situation(&hour) };
        assert_eq!(headline(&quiet).connection.as_deref(), Some("acme"), "what is lost goes first");
    }

    #[test]
    fn a_key_that_datadog_refuses_is_trouble_though_points_are_taken() {
        let hour = hour(9, Some(0), &[]);
        let connections = [connection("acme", false, "invalid"), connection("dry", true, "invalid")];
        let told = headline(&Situation { connections: &connections, ..situation(&hour) });
        assert_eq!(told.words, "Sends of acme reach nobody: Datadog refuses the API key");
        // Where its sends are dropped for it, it is one cause.
        let hour = self::hour(9, Some(0), &[("acme", HTTP_403)]);
        let told = headline(&Situation { connections: &connections, ..situation(&hour) });
        assert_eq!((told.cause.as_deref(), told.others), (Some("http_403"), 0));
    }

    #[test]
    fn connections_that_are_wrong_are_named_once_and_those_that_lose_sends_first() {
        let hour = hour(9, Some(0), &[]);
        let refused = |name: &str, url: &str| ConnectionStatus {
            refused: Some("why".into()),
            url: url.into(),
            ..connection(name, false, "unknown")
        };
        let connections = [refused("old", "https://x"), refused("acme", ""), refused("beta", "")];
        let wrong = Situation { connections: &connections, is_reload_refused: true, ..situation(&hour) };
        let told = headline(&wrong);
        assert_eq!(
            told.words,
            "The configuration of acme and one other is wrong: what is sent there is dropped; and 2 more problems"
        );
        let dropping = self::hour(9, Some(0), &[("acme", DropReason::ConnectionRefusedConfiguration)]);
        let told = headline(&Situation { hour: &dropping, connections: &connections[1..2], ..wrong });
        assert_eq!((told.cause.as_deref(), told.others), (Some("connection_refused_configuration"), 1));
        let old = headline(&Situation { connections: &connections[..1], is_reload_refused: false, ..wrong });
        assert_eq!(old.words, "The new configuration of old is wrong, and the old one stays");
        let closed = headline(&Situation { receives_nothing: true, ..situation(&hour) });
        assert_eq!(closed.words, "No events can come: push is off, and there is no other queue");
    }

    #[test]
    fn a_dry_run_is_never_said_to_flow_to_datadog() {
        let hour = hour(600, Some(0), &[]);
        let all = [connection("a", true, "unknown")];
        let told = headline(&Situation { connections: &all, ..situation(&hour) });
        let words = "Dry run: sends are printed, none is sent (10 a second)";
        assert_eq!((told.state, told.words.as_str()), (FlowState::Quiet, words));
        let some = [connection("a", true, "unknown"), connection("b", false, "valid")];
        let told = headline(&Situation { connections: &some, ..situation(&hour) });
        assert_eq!(told.words, "Sends flow: 10 a second; 1 of 2 connections is a dry run");
        // It has ended since.
        let ended = |printed| {
            let minute = Sends { accepted: 600, printed, ..hour.minute };
            let told = headline(&situation(&Hour { minute, ..hour.clone() }));
            (told.state, told.words)
        };
        let words = "Sends were printed by a dry run that has ended (10 a second)";
        assert_eq!(ended(600), (FlowState::Quiet, words.to_owned()));
        let words = "Sends flow: 10 a second; some were printed by a dry run that has ended";
        assert_eq!(ended(70), (FlowState::Flowing, words.to_owned()));
    }
}
