//! A load generator: writes Braze events as NDJSON, or pushes them as Currents does, flat out or at a given
//! rate, and says at the end what the receiving end must have counted.
//!
//! ```text
//! cargo run --release --example load -- --events 1000000 --output events.ndjson
//! cargo run --release --example load -- --push http://127.0.0.1:8080/v1/events --rate 100000 --seconds 30
//! ```

#[path = "load/events.rs"]
mod events;
#[path = "load/file.rs"]
mod file;
#[path = "load/pace.rs"]
mod pace;
#[path = "load/push.rs"]
mod push;
#[path = "load/truth.rs"]
mod truth;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use event_lanes::clock::Clock;

use events::{LoadSettings, Templates};
use pace::Plan;
use push::Target;

/// Writes or pushes Braze events, and says at the end, as JSON, what there was to count.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    /// Push to this URL (http only), for example `http://127.0.0.1:8080/v1/events`; else events are written as
    /// NDJSON
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    push: Option<String>,
    /// The file that events are written to [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The bearer token for pushes
    #[arg(long, requires = "push")]
    token: Option<String>,
    /// Connections that push at the same time, each kept alive
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Events in one push; Braze sends up to 100
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Events a second, over all connections [default: flat out]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Stop after as many events; rounded up to whole batches [default: 1000000, or no bound with --seconds]
    #[arg(long)]
    events: Option<u64>,
    /// Stop after as many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// How many different sets of tags there are; a few of them get most of the events, by Zipf's law
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tag_sets: u32,
    /// How many app groups share the tag sets
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    app_groups: u32,
    /// How many events of a hundred are of a type that is not counted
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=100))]
    ignored_percent: u32,
    /// The same seed gives the same ids and the same order [default: the time]
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let clock = Clock::system();
    let settings = LoadSettings {
        seed: arguments.seed.unwrap_or_else(|| clock.unix_seconds()),
        tag_sets: arguments.tag_sets,
        app_groups: arguments.app_groups,
        ignored_percent: arguments.ignored_percent,
    };
    let templates = Arc::new(Templates::new(settings));
    let plan = Plan {
        batch: arguments.batch,
        rate: arguments.rate,
        events_max: match (arguments.events, arguments.seconds) {
            (Some(events), _) => events,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1_000_000,
        },
        seconds_max: arguments.seconds,
    };
    let truth = if let Some(url) = &arguments.push {
        let target = Target::parse(url, arguments.token.as_deref())?;
        push::push(&target, &templates, plan, arguments.connections, &clock)?
    } else {
        let out: Box<dyn Write> = match &arguments.output {
            Some(path) => Box::new(std::fs::File::create(path)?),
            None => Box::new(io::stdout().lock()),
        };
        file::write(out, &templates, plan, &clock)?
    };
    let line = truth.json(&templates, settings.seed).to_string();
    // Standard output may be where the events went.
    if arguments.push.is_some() || arguments.output.is_some() {
        writeln!(io::stdout(), "{line}")?;
    } else {
        writeln!(io::stderr(), "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use clap::CommandFactory;
    use serde_json::Value;

    use super::*;
    use events::Events;

    const SETTINGS: LoadSettings =
        LoadSettings { seed: 7, tag_sets: 500, app_groups: 3, ignored_percent: 10 };

    fn events(settings: LoadSettings, row: u32, count: usize) -> Vec<(Option<u32>, Value)> {
        let mut events = Events::new(&Arc::new(Templates::new(settings)), row);
        let one = |_| {
            let mut out = Vec::new();
            let set = events.append(&mut out, 1_800_000_000);
            (set, serde_json::from_slice(&out).unwrap())
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_event_is_json_with_its_time_and_the_tags_of_its_set() {
        let templates = Templates::new(SETTINGS);
        let mut ids = HashMap::new();
        for (set, event) in events(SETTINGS, 0, 5000) {
            assert_eq!(event["time"], 1_800_000_000);
            let event_type = event["event_type"].as_str().unwrap();
            let is_send = event_type.starts_with("users.messages") && event_type.ends_with(".Send");
            assert_eq!(is_send, set.is_some(), "{event_type}");
            let Some(set) = set else { continue };
            let properties = &event["properties"];
            assert_eq!(properties["app_group_id"], templates.app_group(set));
            let id = (properties["campaign_id"].to_string(), properties["canvas_step_id"].to_string());
            assert_eq!(*ids.entry(set).or_insert(id.clone()), id);
        }
        assert_eq!(ids.values().collect::<HashSet<_>>().len(), ids.len(), "no two sets have the same ids");
    }

    #[test]
    fn ids_are_unique_over_rows_and_the_same_for_the_same_seed() {
        let ids = |seed, row| {
            let events = events(LoadSettings { seed, ..SETTINGS }, row, 2000);
            events.iter().map(|(_, event)| event["id"].to_string()).collect::<Vec<_>>()
        };
        let (first, second, other_seed) = (ids(7, 0), ids(7, 1), ids(8, 0));
        assert_eq!(first, ids(7, 0));
        let all: HashSet<&String> = first.iter().chain(&second).chain(&other_seed).collect();
        assert_eq!(all.len(), 6000);
    }

    #[test]
    fn an_event_is_as_long_as_those_of_braze() {
        let settings = LoadSettings { ignored_percent: 0, tag_sets: 2000, ..SETTINGS };
        let mut events = Events::new(&Arc::new(Templates::new(settings)), 0);
        let mut out = Vec::new();
        for _ in 0..10_000 {
            events.append(&mut out, 1_800_000_000);
        }
        assert!((810..850).contains(&(out.len() / 10_000)), "{} B", out.len() / 10_000);
    }

    #[test]
    fn a_few_tag_sets_have_most_of_the_events_and_one_in_ten_is_no_send() {
        let events = events(SETTINGS, 0, 20_000);
        let percent = |of: &dyn Fn(Option<u32>) -> bool| {
            events.iter().filter(|(set, _)| of(*set)).count() * 100 / events.len()
        };
        assert!((9..=11).contains(&percent(&|set| set.is_none())));
        // ln 2 / ln 501 of them, less what is no send.
        assert!((9..=11).contains(&percent(&|set| set == Some(0))));
        assert!(events.iter().filter_map(|(set, _)| *set).collect::<HashSet<_>>().len() > 450);
    }
}
