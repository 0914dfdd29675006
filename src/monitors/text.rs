//! The message of a monitor: what has happened, what it means, where to look first, and how to tell "no sends" from "no
//! forwarder".

use std::fmt::Write;

use super::due::Due;
use super::{Condition, Filter, ForwarderTrouble, LATENESS, Monitor};
use crate::forwarder_points::heartbeat;
use crate::monitors::window::AlertWindow;

/// The first advice of every message.
const FORWARDER_FIRST: &str = "**Is the forwarder there?** If the monitor on `braze.forwarder.heartbeat` has gone off too, the fault lies between \
     Braze and Datadog, and this number is wrong: wake whoever runs the forwarder. No heartbeat is set up? Look whether \
     *other* campaigns have sends: if none has, it is the forwarder. Its page on the admin port says what was received, \
     accepted and dropped.";

/// The default name of a monitor.
pub(super) fn name(monitor: &Monitor) -> String {
    let (window, word) = (article(monitor.window), monitor.subject.word());
    let who = match &monitor.filters[..] {
        [] => format!("A {word}"),
        filters => format!("{} {}", capital(word), described(filters)),
    };
    if let Some(due) = &monitor.due {
        return format!("[Braze] {who} sent fewer than {} by {}", monitor.threshold(), plain(&due.words));
    }
    match &monitor.condition {
        Condition::FewerThan(sends) => format!("[Braze] {who} sends fewer than {sends} in {window}"),
        Condition::MoreThan(sends) => format!("[Braze] {who} sends more than {sends} in {window}"),
        Condition::Rise { more, before } => {
            format!("[Braze] {who} sends {more} more in {window} than {} before", article(*before))
        }
        Condition::Growth { percent, before } => {
            format!("[Braze] {who} sends {percent} % more in {window} than {} before", article(*before))
        }
    }
}

/// A default name without its threshold: the same for a monitor that is tuned.
pub(super) fn without_threshold(name: &str, threshold: &str) -> String {
    let around =
        [("fewer than ", " "), ("more than ", " "), ("sends ", " more in "), ("sends ", " % more in ")];
    let found = around.into_iter().filter_map(|(before, after)| {
        name.rfind(&format!("{before}{threshold}{after}")).map(|at| at + before.len())
    });
    // The last of all, for the campaign's own name comes before, and may have any of them in it.
    let Some(at) = found.max() else { return name.to_owned() };
    format!("{}{}", name[..at].trim_end(), &name[at + threshold.len()..])
}

/// The message of a monitor over sends.
pub(super) fn message(monitor: &Monitor) -> String {
    let mut text = String::new();
    // Formatting into a String can't fail.
    let _infallible = if let Some(due) = &monitor.due {
        write_due(&mut text, monitor, due)
    } else if monitor.is_about_silence() {
        write_silence(&mut text, monitor)
    } else {
        write_surge(&mut text, monitor)
    };
    sign(text, &monitor.notify)
}

fn write_silence(text: &mut String, monitor: &Monitor) -> std::fmt::Result {
    let (word, window) = (monitor.subject.word(), monitor.window.phrase());
    let (who, expected) = (described(&monitor.filters), monitor.threshold());
    writeln!(text, "{{{{#is_alert}}}}")?;
    writeln!(
        text,
        "The {word} {who} sent {{{{value}}}} messages in the last {window}; at least {expected} were expected."
    )?;
    writeln!(text, "{{{{/is_alert}}}}{{{{#is_no_data}}}}")?;
    writeln!(
        text,
        "Not one send of the {word} {who} reached Datadog in the last {window}; at least {expected} were expected."
    )?;
    writeln!(text, "{{{{/is_no_data}}}}{{{{#is_recovery}}}}")?;
    writeln!(text, "The {word} {who} has sent {{{{value}}}} messages in the last {window} again.")?;
    writeln!(text, "{{{{/is_recovery}}}}")?;
    write_steps(text, monitor)?;
    writeln!(
        text,
        "\nThe window ended {} minutes ago, so that what was sent in time has arrived, and moves on: who sends later than the \
         last time is reported until it has sent, and that has arrived.",
        LATENESS / 60
    )
}

fn write_due(text: &mut String, monitor: &Monitor, due: &Due) -> std::fmt::Result {
    let (word, window) = (monitor.subject.word(), monitor.window.phrase());
    let (who, expected, when) = (described(&monitor.filters), monitor.threshold(), plain(&due.words));
    writeln!(text, "{{{{#is_alert}}}}")?;
    writeln!(
        text,
        "The {word} {who} was due ({when}) and sent {{{{value}}}} messages in the {window} before that; at least {expected} \
         were expected."
    )?;
    writeln!(text, "{{{{/is_alert}}}}{{{{#is_no_data}}}}")?;
    writeln!(
        text,
        "The {word} {who} was due ({when}), and not one send of it reached Datadog in the {window} before that; at least \
         {expected} were expected."
    )?;
    writeln!(text, "{{{{/is_no_data}}}}")?;
    write_steps(text, monitor)?;
    writeln!(
        text,
        "\nThis monitor looks once each time that it is due, {} minutes later, so that what was sent in time has arrived. \
         What is sent after the due time it does not see: look at the {word} itself before you send again.",
        due.grace / 60
    )
}

/// The advice for too few sends.
fn write_steps(text: &mut String, monitor: &Monitor) -> std::fmt::Result {
    let word = monitor.subject.word();
    writeln!(text, "\n1. {FORWARDER_FIRST}")?;
    writeln!(
        text,
        "2. **Was it sent?** Look at the {word} in Braze: paused, stopped, its schedule moved, its segment empty, its \
         messages held back by a frequency cap or a rate limit."
    )?;
    writeln!(
        text,
        "3. **Is it still the same one?** This monitor looks for {}. A {word} that was renamed or copied is another one \
         here: search Datadog by its id.",
        tags(monitor)
    )
}

fn write_surge(text: &mut String, monitor: &Monitor) -> std::fmt::Result {
    let (word, window) = (monitor.subject.word(), monitor.window.phrase());
    let is_ungrouped = |filter: &&Filter| !monitor.tags.contains(&&*filter.key);
    let others: Vec<Filter> = monitor.filters.iter().filter(is_ungrouped).cloned().collect();
    let who = [described(&others), grouped(monitor)].join(" ");
    let who = who.trim();
    writeln!(text, "{{{{#is_alert}}}}")?;
    match &monitor.condition {
        Condition::MoreThan(sends) | Condition::FewerThan(sends) => writeln!(
            text,
            "The {word} {who} sent {{{{value}}}} messages in the last {window}; more than {sends} is too many."
        ),
        Condition::Rise { more, before } => writeln!(
            text,
            "The {word} {who} sent {{{{value}}}} messages more in the last {window} than in the same time {} before \
             (allowed are {more}).",
            article(*before)
        ),
        Condition::Growth { percent, before } => writeln!(
            text,
            "The {word} {who} sent {{{{value}}}} % more messages in the last {window} than in the same time {} before \
             (allowed are {percent} %).",
            article(*before)
        ),
    }?;
    writeln!(text, "{{{{/is_alert}}}}{{{{#is_recovery}}}}")?;
    writeln!(text, "The {word} {who} sends as usual again.")?;
    writeln!(text, "{{{{/is_recovery}}}}")?;
    writeln!(
        text,
        "\nPeople may be getting messages that nobody meant to send, now. Every minute counts; whoever may stop a {word} \
         in Braze should look."
    )?;
    if let Some(id) = monitor.tags.last().filter(|tag| tag.ends_with("_id")) {
        writeln!(
            text,
            "\n**What is it called?** The forwarder's page finds {{{{{id}.name}}}} with its name and its last sends, as does \
             `/search` on its admin port."
        )?;
    }
    writeln!(
        text,
        "\n1. **Is it meant?** A launch or a one-off send looks the same. Ask its owner, or look at its change log in Braze."
    )?;
    writeln!(
        text,
        "2. **If not, stop it in Braze**, then look at what lets people in: entry schedule, segment, re-eligibility, a \
         delay that ended for everybody at once, an API trigger in a loop."
    )?;
    writeln!(
        text,
        "3. **Was the forwarder away before?** After a standstill it counts what had waited in its queue, at the times \
         when it was sent: then the earlier window fills up by itself. `braze.forwarder.heartbeat` has a gap there."
    )?;
    if matches!(monitor.condition, Condition::Growth { .. }) {
        writeln!(text, "\nWhat sent nothing a while before has no percentage, and never sets this off.")?;
    }
    Ok(())
}

/// The message of a monitor on the forwarder's own metrics.
pub(super) fn of_forwarder(trouble: ForwarderTrouble, window: AlertWindow, notify: &[String]) -> String {
    let window = window.phrase();
    let text = match trouble {
        ForwarderTrouble::NotReady => format!(
            "{{{{#is_alert}}}}\nAll through the last {window} the forwarder, or one of several, took no events: what is pushed is \
             answered 503, and Kafka or the bucket is not read. Braze and Kafka keep what is not taken; after an hour Datadog takes \
             it no more, and after five days of it Braze disables the connector.\n{{{{/is_alert}}}}{{{{#is_recovery}}}}\nThe \
             forwarder takes events again.\n{{{{/is_recovery}}}}\n\n\
             1. **Why?** `GET /readyz` on the admin port says it: the queue is full or can't be written, or the broker, the schema \
             registry or the bucket can't be used.\n\
             2. **Which one?** No tag tells one forwarder from another: ask each.\n\
             3. **The heartbeat goes on** meanwhile, and no send is dropped by it: no other monitor tells of this.\n"
        ),
        ForwarderTrouble::Drops(allowed) => format!(
            "{{{{#is_alert}}}}\nThe forwarder dropped {{{{value}}}} sends of connection {{{{connection.name}}}} in the last \
             {window}: {{{{reason.name}}}} (allowed are {allowed}). They are never sent again: every number of sends below this \
             connection is too low by that much.\n{{{{/is_alert}}}}{{{{#is_recovery}}}}\nNo more sends of connection \
             {{{{connection.name}}}} are dropped for {{{{reason.name}}}}.\n{{{{/is_recovery}}}}\n\n\
             1. **The reason**: `http_403` is a key that is not valid (any more) on this site (`braze-datadog check --online \
             --find-site`), `timeout`, `connect` and `dns` are the network between, `late` is what came more than an hour after \
             it was sent, `unrouted` an app group that no connection serves. docs/contract.md has all of them.\n\
             2. **What Datadog answered** is in the forwarder's log, at `sends were dropped`.\n\
             3. **The connection `_others`** stands for all beyond the hundred that dropped most in one flush.\n\n\
             These points go out by the connection of `[forwarder_metrics]`. If that one is refused, too, nothing comes: the \
             monitor on `braze.forwarder.heartbeat` tells of it.\n"
        ),
        ForwarderTrouble::Queue(allowed) => format!(
            "{{{{#is_alert}}}}\nMore than {allowed} events have waited in the forwarder's queue all through the last {window}; \
             the fewest were {{{{value}}}}. They are counted late, and after an hour Datadog takes them no more.\n\
             {{{{/is_alert}}}}{{{{#is_recovery}}}}\nThe forwarder's queue is short again.\n{{{{/is_recovery}}}}\n\n\
             1. **Is it a peak?** A large send is worked off within minutes: look at `braze.forwarder.queue_waiting`.\n\
             2. **Does it get on?** Its page on the admin port says what is received, accepted and dropped; with Kafka \
             `braze.forwarder.kafka_consumer_lag` is what is behind. More cores, or more forwarders of the same group.\n\
             3. **Is Datadog slow?** `braze.forwarder.flush_milliseconds` is the time from a cut to its last answer.\n"
        ),
        ForwarderTrouble::BucketLag(allowed) => format!(
            "{{{{#is_alert}}}}\nAll through the last {window} the forwarder was more than {allowed} seconds behind the newest \
             object of its bucket; the least was {{{{value}}}}. What waits is counted late, and after an hour Datadog takes it no \
             more.\n{{{{/is_alert}}}}{{{{#is_recovery}}}}\nThe forwarder has caught up with its bucket.\n{{{{/is_recovery}}}}\n\n\
             1. **Can it be read?** `/status` has `trouble` of the bucket, and the log `an object of a bucket can't be read for \
             now`.\n\
             2. **Is it a peak?** `braze.forwarder.queue_depth` is how many objects wait: it does not grow beyond some hundreds, \
             for listing waits for reading.\n\
             3. **Is Datadog slow?** `braze.forwarder.flush_milliseconds` is the time from a cut to its last answer.\n"
        ),
        ForwarderTrouble::Configuration => format!(
            "{{{{#is_alert}}}}\nAll through the last {window} something of the forwarder's configuration was refused: itself, files \
             of the push port, or that of connections.\n{{{{/is_alert}}}}{{{{#is_recovery}}}}\nThe forwarder's configuration is \
             taken over again.\n{{{{/is_recovery}}}}\n\n\
             1. **What is wrong?** `braze-datadog check` says it, and so do `/status` and the ERROR lines in the forwarder's log.\n\
             2. **Is it a connection?** `braze.forwarder.connections_refused` is how many: one goes on as it was until the next start, \
             or it is left out and its sends are dropped, as `connection_refused_configuration`.\n\
             3. **Is it all of it?** With `braze.forwarder.config_reload_refused` 1 the old configuration, or what was read of the push \
             port's files before, is in force until the next start, which the new one would fail.\n"
        ),
    };
    sign(text, notify)
}

/// The message of the monitor on the heartbeat.
pub(super) fn of_heartbeat(window: AlertWindow, notify: &[String]) -> String {
    let (metric, window) = (heartbeat::METRIC, window.phrase());
    let text = format!(
        "{{{{#is_no_data}}}}\nNo `{metric}` of connection {{{{connection.name}}}} reached Datadog in the last {window}. \
         Until it does, *every* number of sends below this connection is too low, and says nothing about Braze.\n\
         {{{{/is_no_data}}}}{{{{#is_alert}}}}\nNo `{metric}` of connection {{{{connection.name}}}} reached Datadog in the \
         last {window}.\n{{{{/is_alert}}}}{{{{#is_recovery}}}}\nThe forwarder's connection {{{{connection.name}}}} is \
         back. What waited in its queue is counted now, as far as it is younger than an hour.\n{{{{/is_recovery}}}}\n\n\
         Datadog takes no point that is more than an hour old: after an hour of silence sends are lost to it (or, with \
         `events.late = \"restamp\"`, counted at the wrong time).\n\n\
         1. **Does it run?** `systemctl status braze-datadog`, or the container. `GET /readyz` on the admin port.\n\
         2. **Does it reach Datadog?** Its log has `a heartbeat was dropped`, `points about the forwarder itself were dropped` or \
         `sends were dropped` with the reason: \
         `http_403` is a key that is not valid (any more) on this site, `timeout` and `connect` are the network between.\n\
         3. **Was the heartbeat switched off, or the connection removed or renamed?** Then end this monitor's group.\n\n\
         Several forwarders beat under one name: this goes off when the last of them is silent. Fewer beats than usual \
         mean that one of them is.\n"
    );
    sign(text, notify)
}

fn sign(mut text: String, notify: &[String]) -> String {
    if !notify.is_empty() {
        text.push('\n');
        text.push_str(&notify.join(" "));
        text.push('\n');
    }
    text
}

/// `"Weekly newsletter"`, `id c1`; several of them with a comma.
fn described(filters: &[Filter]) -> String {
    let one = |Filter { key, value }: &Filter| {
        let value = plain(value);
        if key.ends_with("_id") { format!("with {key} {value}") } else { format!("\"{value}\"") }
    };
    filters.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The alerting group, as variables that Datadog fills in; empty without a group.
fn grouped(monitor: &Monitor) -> String {
    if monitor.tags.is_empty() {
        return String::new();
    }
    let variables = monitor.tags.iter().rev().map(|tag| format!("{tag} {{{{{tag}.name}}}}"));
    format!("({})", variables.collect::<Vec<_>>().join(", "))
}

fn tags(monitor: &Monitor) -> String {
    let one = |filter: &Filter| format!("`{}:{}`", filter.key, plain(&filter.stored()));
    monitor.filters.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Escapes a text: it notifies nobody (`@`), is no variable (`{{`), and does not end the formatting around it.
fn plain(text: &str) -> String {
    let one = |character: char| match character {
        '@' => '＠',
        '{' => '(',
        '}' => ')',
        '`' => '\'',
        character if character.is_control() => ' ',
        character => character,
    };
    text.chars().map(one).collect()
}

/// `a week`, `an hour`, `4 hours`.
fn article(window: AlertWindow) -> String {
    match window.phrase() {
        words if words.starts_with(|c: char| c.is_ascii_digit()) => words,
        words if words == "hour" => format!("an {words}"),
        words => format!("a {words}"),
    }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_ascii_uppercase() + rest
}
