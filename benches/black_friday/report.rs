//! The report: a page, and a folder of charts beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use super::arrivals::Fate;
use super::audit::{Audit, Check};
use super::chart::{self, Line, short};
use super::day::Day;
use super::extrapolation::{PLATFORM, Prices, platform};
use super::figures::{self, Costs, Work, last_above, most, quantile, whole};
use super::plan::{FORWARDERS, PARTITIONS};
use super::population::different;

/// After a trouble the group has recovered when it is no further behind than this part of the most before.
const RECOVERED: f64 = 1.1;

pub(crate) fn write(day: &Day, audit: &Audit) {
    let costs = Costs::of(day, audit);
    let parts = [
        head(day),
        account(day, audit),
        checks(day, audit),
        recovery(day),
        forwarders(day),
        pages(day),
        prices(day, &costs),
        extrapolated(day, &costs),
        bill(day, &costs),
    ];
    let page = parts.concat().replace("black-friday/", &format!("{}/", day.plan.name));
    fs::write(day.plan.output.join(format!("{}.md", day.plan.name)), page).unwrap();
    draw(day);
}

/// With commas between thousands.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures for people to read")]
fn rounded(value: f64) -> String {
    number(value.round() as u64)
}

fn head(day: &Day) -> String {
    let plan = &day.plan;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let largest = day.population.sets_of(0).len();
    let smallest = day.population.sets_of(plan.connections - 1).len();
    format!(
        "# Black Friday, measured\n\
         `{}` wrote this page, on {cores} cores of a virtual machine ({}), which carried \
         everything: {FORWARDERS} forwarders (profile `dist`, with glibc) in one group, Apache Kafka 4.3 with {PARTITIONS} partitions, \
         the producer, and Datadog with TLS on the loopback.\n\n\
         {} connections have {} tag sets ({} the largest, {} the smallest), which are sent by Zipf's law; {} of them were sent. A tenth of \
         the connections answers after 0.3 to 7 s (a request is given up after 5), a twentieth answers 500 or 429 or hangs up, the others \
         take 20 to 80 ms. {} sends a second in the worst minute, a fifth of them one newsletter, and in bursts of 5 s twice a minute; 60 % \
         of that otherwise. A message is a send of {} bytes, its key the user, in lz4 batches. `flush.interval` is {} s.\n\n\
         ![Sends a second](black-friday/flow.svg)\n",
        plan.command(),
        model.trim_start_matches([' ', '\t', ':']),
        number(plan.connections.into()),
        number(plan.tag_sets.into()),
        number(largest as u64),
        number(smallest as u64),
        number(day.truth.different() as u64),
        number(plan.rate.into()),
        day.truth.bytes / day.truth.sends.max(1),
        plan.flush,
    )
}

fn account(day: &Day, audit: &Audit) -> String {
    let mut out = "\n## Each send\n| | sends |\n|---|---:|\n".to_owned();
    let mut row = |words: &str, sends: u64| {
        let _ = writeln!(out, "| {words} | {} |", number(sends));
    };
    row("accepted by Datadog", audit.accepted);
    for (reason, sends) in &audit.dropped {
        row(&format!("dropped and booked as `{reason}`"), *sends);
    }
    row("in requests of the killed forwarder that nobody has booked", audit.lost_by_killed);
    row("less: counted again after the kill", audit.repeated);
    row("less: accepted by Datadog after the forwarder had given up", audit.both);
    let dropped: u64 = audit.dropped.values().sum();
    let all = (audit.accepted + dropped + audit.lost_by_killed).saturating_sub(audit.repeated + audit.both);
    row("**all**", all);
    row("**produced**", day.truth.sends);
    let _ = writeln!(
        out,
        "\n{} sends of the forwarder that was killed were in no flush that was over a second before, by its log: the flush that was \
         under way, and the bound of what may be counted again. {}",
        number(audit.under_way),
        audit.in_words(),
    );
    out
}

/// What is said of each process is one line for all of them.
fn checks(day: &Day, audit: &Audit) -> String {
    let mut out =
        "\nHeld against each other, to the last send:\n\n| | left | right | |\n|---|---:|---:|---|\n"
            .to_owned();
    let mut merged: Vec<(String, u64, u64, bool)> = Vec::new();
    for Check { words, left, right, holds } in &audit.checks {
        let words = words.split_once(": ").map_or(words.as_str(), |(process, rest)| {
            if process.starts_with("process") { rest } else { words }
        });
        match merged.iter_mut().find(|(known, ..)| known == words) {
            Some(row) => *row = (words.to_owned(), row.1 + left, row.2 + right, row.3 && *holds),
            None => merged.push((words.to_owned(), *left, *right, *holds)),
        }
    }
    for (words, left, right, holds) in merged {
        let mark = if holds { "holds" } else { "**does not hold**" };
        let _ = writeln!(out, "| {words} | {} | {} | {mark} |", number(left), number(right));
    }
    for life in &day.lives {
        for error in life.log.errors.iter().take(3) {
            let _ = writeln!(out, "\nProcess {}: `{error}`", life.number);
        }
    }
    out
}

fn recovery(day: &Day) -> String {
    let (times, lag, delay) = (&day.times, &figures::lag(day)[0], &figures::delay(day)[0]);
    let normal = most(delay, 0.0, times.kill);
    let back =
        |from: f64, to: f64| last_above(delay, normal * RECOVERED, from, to).map_or(0.0, |at| at - from);
    let stops: Vec<f64> = day
        .lives
        .iter()
        .filter(|life| life.killed.is_none())
        .map(|life| life.stopped_after.as_secs_f64())
        .collect();
    let starts: Vec<f64> = day.lives.iter().map(|life| life.ready_after.as_secs_f64()).collect();
    let reloaded = last_of_old_keys(day);
    format!(
        "\n## Behind, and back\n\
         ![Messages that are not committed](black-friday/lag.svg)\n\n![Age of the oldest send](black-friday/delay.svg)\n\n\
         A flush is committed when its last request has its outcome, so each waits for the slowest connection: 5 s, and before that up to \
         1.25 s until it may begin (256 begin together); most have theirs long before.\n\n\
         | | |\n|---|---:|\n\
         | messages not committed, at most before the kill | {} |\n\
         | the same, at most | {} |\n\
         | age of the oldest send that is not committed, at most before the kill | {normal:.0} s |\n\
         | after the kill, at most (`session.timeout.ms` is {} s) | {:.0} s |\n\
         | after the kill, until it was as before | {:.0} s |\n\
         | after the upgrade's begin, at most | {:.0} s |\n\
         | the upgrade of all four; until it was as before | {:.0} s; {:.0} s |\n\
         | a stop (SIGTERM), median and longest | {:.1} s, {:.1} s |\n\
         | a start until ready, median and longest | {:.1} s, {:.1} s |\n\
         | after SIGHUP, until the last request with an old key | {reloaded:.1} s |\n\
         | after the last event, until everything was committed | {:.0} s |\n\
         | the producer fell behind by at most | {:.1} s |\n",
        rounded(most(lag, 0.0, times.kill)),
        rounded(most(lag, 0.0, f64::MAX)),
        day.plan.session().as_secs(),
        most(delay, times.kill, times.upgrade),
        back(times.kill, times.upgrade),
        most(delay, times.upgrade, times.end),
        day.upgraded - times.upgrade,
        back(times.upgrade, f64::MAX),
        quantile(stops.clone(), 0.5),
        quantile(stops, 1.0),
        quantile(starts.clone(), 0.5),
        quantile(starts, 1.0),
        day.drained - times.end,
        day.truth.behind.as_secs_f64(),
    )
}

/// Those of the processes that were reloaded.
fn last_of_old_keys(day: &Day) -> f64 {
    let reloaded: Vec<u8> =
        day.arrivals.iter().filter(|one| one.sender.generation > 0).map(|one| one.sender.life).collect();
    let reloaded: std::collections::BTreeSet<u8> = reloaded.into_iter().collect();
    let old = day
        .arrivals
        .iter()
        .filter(|one| one.sender.generation == 0 && reloaded.contains(&one.sender.life))
        .map(|one| f64::from(one.at) / 1000.0);
    (old.fold(0.0, f64::max) - day.times.reload).max(0.0)
}

fn forwarders(day: &Day) -> String {
    let seconds = day.times.end;
    let mut out = "\n## The forwarders\n\
         ![CPU](black-friday/cpu.svg)\n\n![Memory](black-friday/memory.svg)\n\n![Points a second](black-friday/points.svg)\n\n\
         | | CPU, of a core | memory at most | sends | points | series of a flush, median, most | a flush, median, longest | \
         files open at most |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (member, row) in figures::rows(day).into_iter().enumerate() {
        let _ = writeln!(
            out,
            "| forwarder {} | {:.2} | {} MiB | {} | {} | {}, {} | {:.1} s, {:.1} s | {} |",
            member + 1,
            row.cpu / seconds,
            row.memory_peak >> 20,
            number(row.sends),
            number(row.points),
            rounded(quantile(row.series.clone(), 0.5)),
            rounded(quantile(row.series, 1.0)),
            quantile(row.took.clone(), 0.5) / 1e3,
            quantile(row.took, 1.0) / 1e3,
            row.files,
        );
    }
    let last = day.looks.last();
    let cpu = |of: &dyn Fn(&super::watch::Look) -> f64| last.map_or(0.0, of) / seconds;
    let _ = writeln!(
        out,
        "\nA flush is merged and encoded, and is over when its last request has its outcome: a slow connection may take 5 s from when its \
         request begins. Beside them Kafka took {:.2} cores, producer \
         and Datadog {:.2}. There were {} TLS handshakes: up to 256 requests of a flush begin together, and a host that hangs up \
         is given no idle connection for longer than 3 s for an hour.",
        cpu(&|look| look.broker.cpu),
        cpu(&|look| look.bench.cpu),
        number(day.handshakes),
    );
    out
}

fn pages(day: &Day) -> String {
    let mut out = "\n| admin port | size | answered within, median, longest |\n|---|---:|---:|\n".to_owned();
    for path in ["/metrics", "/status"] {
        let of_it = || day.scrapes.iter().filter(|scrape| scrape.path == path);
        let bytes = of_it().map(|scrape| scrape.bytes).max().unwrap_or_default();
        let took: Vec<f64> = of_it().map(|scrape| scrape.seconds * 1e3).collect();
        let (middle, longest) = (quantile(took.clone(), 0.5), quantile(took, 1.0));
        let _ = writeln!(out, "| `{path}` | {} KB | {middle:.0} ms, {longest:.0} ms |", bytes / 1000);
    }
    out
}

fn prices(day: &Day, costs: &Costs) -> String {
    let Prices { counting, flushing, sending, rest, points_a_series } = Prices::of(costs);
    let share = |work| costs.cpu(work);
    let predicted =
        different(day.plan.tag_sets, f64::from(day.plan.rate) * 0.6 / 4.0 * f64::from(day.plan.flush));
    let series = quantile(figures::rows(day).into_iter().flat_map(|row| row.series).collect(), 0.5);
    format!(
        "\n## What it costs\nCPU seconds of the four forwarders, by the threads that took them:\n\n\
         | | CPU s | for | each |\n|---|---:|---:|---:|\n\
         | counting: Kafka's client, decode, dedup, record | {:.0} | {} sends | {counting:.2} CPU s a million |\n\
         | flushing: merge, names, encode, compress | {:.0} | {} series | {flushing:.2} CPU s 200,000 |\n\
         | sending: requests, TLS, books | {:.0} | {} requests | {sending:.2} CPU ms |\n\
         | everything else: starts, reload, history, files, log | {:.0} | {} s | {rest:.2} cores |\n\n\
         A series of a flush has {points_a_series:.2} points, for a flush ends in the middle of a bucket of time; it takes {:.0} bytes of a \
         body. Zipf's law says {} \
         series for a flush of a forwarder when nothing in particular happens; the median was {}.\n",
        share(Work::Counting),
        rounded(costs.sends),
        share(Work::Flushing),
        rounded(costs.series),
        share(Work::Sending),
        rounded(costs.requests),
        share(Work::Rest),
        rounded(costs.seconds),
        costs.bytes / costs.series,
        rounded(predicted),
        rounded(series),
    )
}

fn extrapolated(day: &Day, costs: &Costs) -> String {
    let prices = Prices::of(costs);
    let mut out = format!(
        "\n## Extrapolated: {} sends a second\n\
         With the prices above, a flush every 10 s, and as many different tag sets in a flush as Zipf's law says of its sends. Cores, of each \
         forwarder: counting = sends ÷ 1,000,000 × {:.2}; flushing = series ÷ 200,000 × {:.2} ÷ 10 s; sending = (connections + series ÷ 5,000) × \
         {:.2} ms ÷ 10 s.\n\n\
         | forwarders | sends a second, each | series a flush, each | counting | flushing | sending | the rest | cores, each | points a second, all |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        rounded(PLATFORM),
        prices.counting,
        prices.flushing,
        prices.sending,
    );
    for forwarders in [1.0, 2.0, 3.0, 4.0, 6.0, 8.0] {
        let whole = platform(&prices, (day.plan.tag_sets, day.plan.connections), 10.0, forwarders);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | **{:.2}** | {} |",
            whole.forwarders,
            rounded(whole.sends),
            rounded(whole.series_a_flush),
            whole.counting,
            whole.flushing,
            whole.sending,
            whole.rest,
            whole.cores(),
            rounded(whole.points),
        );
    }
    out
}

fn bill(day: &Day, costs: &Costs) -> String {
    let taken = || day.arrivals.iter().filter(|one| one.fate == Fate::Accepted);
    let accepted: u64 = taken().map(|one| u64::from(one.points)).sum();
    let accepted_sends: u64 = taken().map(|one| one.sends).sum();
    #[expect(clippy::cast_precision_loss, reason = "figures for people to read")]
    let (accepted_points, accepted_sends) = (accepted as f64, accepted_sends as f64);
    let measured = accepted_points / day.times.end;
    let whole_platform = platform(&Prices::of(costs), (day.plan.tag_sets, day.plan.connections), 10.0, 4.0);
    let different_sets = day.truth.different() as u64;
    let sets = day.plan.tag_sets;
    let points_a_series = Prices::of(costs).points_a_series;
    // Of what one forwarder sees in a flush, or, where a tag set has one forwarder, all of them together.
    let lever = |forwarders: f64, flush: f64| {
        let points = different(sets, PLATFORM / forwarders * flush) * forwarders * points_a_series / flush;
        short(points * 86_400.0)
    };
    format!(
        "\n## The bill\n| | measured | at the platform's peak, all day |\n|---|---:|---:|\n\
         | points a second | {} | {} |\n| points a day | {} | {} |\n| sends for a point | {:.1} | {:.1} |\n\
         | tag sets that were sent, and custom metrics (5 each) | {}, {} | {}, {} |\n\n\
         {} points were accepted. What makes points fewer, at the platform's peak on four forwarders, points a day:\n\n\
         | key of the messages | `flush.interval` 10 s | 60 s |\n|---|---:|---:|\n\
         | the user: every forwarder sees every tag set | {} | {} |\n\
         | the campaign or step: each tag set has one forwarder | {} | {} |\n",
        rounded(measured),
        rounded(whole_platform.points),
        short(measured * 86_400.0),
        short(whole_platform.points * 86_400.0),
        accepted_sends / accepted_points,
        PLATFORM / whole_platform.points,
        number(different_sets),
        number(different_sets * 5),
        number(day.plan.tag_sets.into()),
        number(u64::from(day.plan.tag_sets) * 5),
        number(accepted),
        lever(4.0, 10.0),
        lever(4.0, 60.0),
        lever(1.0, 10.0),
        lever(1.0, 60.0),
    )
}

fn draw(day: &Day) {
    let (times, folder) = (&day.times, day.plan.output.join(&day.plan.name));
    fs::create_dir_all(&folder).unwrap();
    let marks = [
        (times.reload, "reload"),
        (times.worst, "worst minute"),
        (times.kill, "kill -9"),
        (times.upgrade, "upgrade"),
        (day.upgraded, "done"),
    ];
    let charts: BTreeMap<&str, (&str, Vec<Line>)> = BTreeMap::from([
        ("flow", ("Sends a second", figures::flow(day))),
        ("lag", ("Messages that are not committed", figures::lag(day))),
        ("delay", ("Age of the oldest send that is not committed, in seconds", figures::delay(day))),
        (
            "cpu",
            (
                "CPU of each forwarder, of a core",
                figures::by_forwarder(day, |seconds, before, now| (now.cpu - before.cpu).max(0.0) / seconds),
            ),
        ),
        (
            "memory",
            (
                "Memory of each forwarder, in MiB",
                figures::by_forwarder(day, |_, _, now| whole(now.memory >> 20)),
            ),
        ),
        ("points", ("Points a second of each forwarder", figures::points(day))),
    ]);
    for (name, (title, lines)) in charts {
        fs::write(folder.join(format!("{name}.svg")), chart::draw(title, &lines, &marks)).unwrap();
    }
}
