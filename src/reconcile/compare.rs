//! Compares both sides.

use std::collections::{BTreeMap, BTreeSet};

use admin_api::{HistoryDay, HistoryKind, HistoryObject};
use braze_rest::{CampaignDay, CanvasSeries, ChannelSends};
use jiff::civil::Date;

use super::explanation::{BothSides, UncomparedReason, explain, signed};
use super::{
    BrazeAnswer, BrazeSeries, ComparedDay, ComparedObject, ComparedSums, CountedTypes, DayRange,
    Reconciliation, Tolerance, UncomparedObject,
};

/// For how long after its end, in seconds, a day's events may still come: Braze sends those of a quiet workspace up to half an
/// hour late.
pub const SETTLED_AFTER: i64 = 3600;

/// The terms that all comparisons share.
#[derive(Debug)]
pub struct ComparisonTerms<'s> {
    /// The days.
    pub range: &'s DayRange,
    /// What the forwarder counts.
    pub types: &'s CountedTypes,
    /// How far apart both sides may be.
    pub tolerance: Tolerance,
    /// Since when the forwarder keeps a history, in Unix seconds.
    pub since: Option<u64>,
    /// Sends whose count or outcome the history has left out.
    pub left_out: u64,
    /// Now, in Unix seconds.
    pub now: u64,
}

/// The forwarder's numbers for one campaign, Canvas or step, over all its connections.
#[derive(Debug, Default)]
struct Own {
    name: String,
    canvas_name: String,
    last_send: u64,
    days: BTreeMap<Date, BothSides>,
}

/// What tells one object of the forwarder from another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OwnKey {
    kind: HistoryKind,
    id: String,
    /// The id of a step's Canvas.
    canvas_id: String,
    /// The name of a step without an id.
    step_name: String,
}

impl OwnKey {
    /// Of a campaign or a Canvas.
    fn of(kind: HistoryKind, id: &str) -> Self {
        Self { kind, id: lowered(id), canvas_id: String::new(), step_name: String::new() }
    }
}

/// Braze's numbers for one of them.
#[derive(Debug, Default)]
struct Said {
    days: BTreeMap<Date, Option<u64>>,
    channels_apart: BTreeSet<String>,
}

/// The identity of an object.
struct Identity<'i> {
    kind: HistoryKind,
    id: &'i str,
    name: &'i str,
    canvas_id: &'i str,
    canvas_name: &'i str,
}

/// Compares the forwarder's sends with Braze's answers. An object of the history that Braze was not asked about, and that is
/// no step of such a Canvas, does not appear.
pub fn compare(
    terms: &ComparisonTerms<'_>,
    history: Vec<HistoryObject>,
    answers: Vec<BrazeAnswer>,
) -> Reconciliation {
    let mut own = by_identity(history);
    let (mut objects, mut not_compared) = (Vec::new(), Vec::new());
    for answer in answers {
        let known = own.remove(&OwnKey::of(answer.kind, &answer.id)).unwrap_or_default();
        // Objects without an id are told apart by name.
        let name = if answer.id.is_empty() { "" } else { newest(&known.name, &answer.name) };
        let who = Identity { kind: answer.kind, id: &answer.id, name, canvas_id: "", canvas_name: "" };
        let (name, whole, steps) = match answer.said {
            Err(reason) => {
                not_compared.push(uncompared(&who, &known, reason));
                continue;
            }
            Ok(BrazeSeries::Campaign(days)) => (name.to_owned(), of_campaign(terms.types, days), None),
            Ok(BrazeSeries::Canvas(series)) => {
                let name = newest(name, &series.name).to_owned();
                let (whole, steps) = of_canvas(terms.types, series);
                (name, whole, Some(steps))
            }
        };
        let who = Identity { name: &name, ..who };
        match unnamed(terms, &known, &whole) {
            Some(reason) => not_compared.push(uncompared(&who, &known, reason)),
            None => objects.push(object(terms, &who, &known, &whole)),
        }
        let Some(steps) = steps else { continue };
        let mut found = steps_of(&mut own, &answer.id);
        for (id, (step_name, said)) in steps {
            let known = found.remove(&(lowered(&id), String::new())).unwrap_or_default();
            let who = step(&id, newest(&known.name, &step_name), &who);
            objects.push(object(terms, &who, &known, &said));
        }
        for ((id, _), known) in found {
            let reason = if id.is_empty() {
                "its events have no id, by which Braze's answer could have it"
            } else {
                "Braze's answer for its Canvas has no such step"
            };
            not_compared.push(uncompared(&step(&id, &known.name, &who), &known, reason.to_owned()));
        }
    }
    // A step without sends on either side is left out.
    objects.retain(|object| object.kind != HistoryKind::Step || !object.days.is_empty());
    sort(&mut objects);
    not_compared.sort_by(|a: &UncomparedObject, b| b.counted.cmp(&a.counted).then_with(|| a.id.cmp(&b.id)));
    let total = total(&objects);
    Reconciliation {
        from: terms.range.first,
        to: terms.range.last,
        time_zone: terms.range.time_zone.clone(),
        since: terms.since,
        tolerance_percent: terms.tolerance.percent(),
        within_tolerance: objects.iter().all(|object| object.within_tolerance),
        total,
        objects,
        not_compared,
    }
}

fn sort(objects: &mut [ComparedObject]) {
    objects.sort_by(|a, b| {
        let key =
            |object: &ComparedObject| (object.sums.sends.difference.unsigned_abs(), object.sums.sends.braze);
        key(b).cmp(&key(a)).then_with(|| (a.kind, &a.id).cmp(&(b.kind, &b.id)))
    });
}

/// The newer name: the one that the forwarder has seen, else the one that Braze lists.
fn newest<'n>(seen: &'n str, listed: &'n str) -> &'n str {
    if seen.is_empty() { listed } else { seen }
}

/// Ids are compared without regard to case, as UUIDs are elsewhere.
fn lowered(id: &str) -> String {
    id.to_ascii_lowercase()
}

fn step<'i>(id: &'i str, name: &'i str, canvas: &Identity<'i>) -> Identity<'i> {
    Identity { kind: HistoryKind::Step, id, name, canvas_id: canvas.id, canvas_name: canvas.name }
}

fn by_identity(history: Vec<HistoryObject>) -> BTreeMap<OwnKey, Own> {
    let mut all: BTreeMap<OwnKey, Own> = BTreeMap::new();
    for object in history {
        let mut key = OwnKey::of(object.kind, &object.id);
        if object.kind == HistoryKind::Step {
            key.canvas_id = lowered(&object.canvas_id);
            if object.id.is_empty() {
                key.step_name.clone_from(&object.name);
            }
        }
        let own = all.entry(key).or_default();
        if object.last_send >= own.last_send || own.name.is_empty() {
            own.last_send = object.last_send;
            own.name = object.name;
            own.canvas_name = object.canvas_name;
        }
        for day in object.days {
            let Ok(date) = day.day.parse::<Date>() else { continue };
            add(own.days.entry(date).or_default(), day);
        }
    }
    all
}

fn add(sides: &mut BothSides, day: HistoryDay) {
    sides.counted += day.counted;
    sides.accepted += day.accepted + day.printed;
    sides.printed += day.printed;
    for (reason, sends) in day.dropped {
        *sides.dropped.entry(reason).or_insert(0) += sends;
    }
}

/// Takes out the steps of a Canvas, by id, and where there is none by name.
fn steps_of(own: &mut BTreeMap<OwnKey, Own>, canvas_id: &str) -> BTreeMap<(String, String), Own> {
    let is_its =
        |key: &OwnKey| key.kind == HistoryKind::Step && key.canvas_id.eq_ignore_ascii_case(canvas_id);
    own.extract_if(.., |key, _| is_its(key)).map(|(key, own)| ((key.id, key.step_name), own)).collect()
}

fn uncompared(who: &Identity<'_>, own: &Own, reason: String) -> UncomparedObject {
    UncomparedObject {
        kind: who.kind,
        id: who.id.to_owned(),
        name: who.name.to_owned(),
        counted: own.days.values().map(|day| day.counted).sum(),
        reason,
    }
}

/// Why there is nothing that could be compared: neither side has a word of any of the days. Where the forwarder has sends, their
/// days are told one by one.
fn unnamed(terms: &ComparisonTerms<'_>, own: &Own, said: &Said) -> Option<String> {
    let is_of_any =
        |day| said.days.contains_key(&day) || own.days.get(&day).is_some_and(|own| own.counted > 0);
    let is_none = !terms.range.days().any(is_of_any);
    is_none.then(|| "Braze's answer has none of these days".to_owned())
}

fn of_campaign(types: &CountedTypes, days: Vec<CampaignDay>) -> Said {
    let mut said = Said::default();
    for day in days {
        let sent = day.sent.and_then(|sent| said.sum(types, sent));
        said.days.insert(day.day, sent);
    }
    said
}

/// The Canvas as a whole, and each of its steps with its name.
fn of_canvas(types: &CountedTypes, series: CanvasSeries) -> (Said, BTreeMap<String, (String, Said)>) {
    let mut whole = Said::default();
    let mut steps: BTreeMap<String, (String, Said)> = BTreeMap::new();
    for day in series.days {
        let mut sum = day.steps.is_some().then_some(0);
        for (id, step) in day.steps.unwrap_or_default() {
            let (name, said) = steps.entry(id).or_default();
            if !step.name.is_empty() {
                *name = step.name;
            }
            let sent = said.sum(types, step.sent);
            said.days.insert(day.day, sent);
            sum = sum.zip(sent).map(|(sum, sent): (u64, u64)| sum + sent);
        }
        whole.days.insert(day.day, sum);
    }
    whole.channels_apart = steps.values().flat_map(|(_, said)| said.channels_apart.clone()).collect();
    (whole, steps)
}

impl Said {
    /// The sends of the counted channels, if Braze has a number for each; the others are listed apart.
    fn sum(&mut self, types: &CountedTypes, sent: ChannelSends) -> Option<u64> {
        let (counted, apart): (ChannelSends, ChannelSends) =
            sent.into_iter().partition(|(channel, _)| types.have(channel));
        self.channels_apart.extend(apart.into_keys());
        counted.into_values().sum()
    }
}

fn object(terms: &ComparisonTerms<'_>, who: &Identity<'_>, own: &Own, said: &Said) -> ComparedObject {
    let (mut days, mut compared) = (Vec::new(), BTreeMap::new());
    for day in terms.range.days() {
        let said = said.days.get(&day).copied();
        let sides = own.days.get(&day).cloned().unwrap_or_default();
        // A day that has no number is none without sends; one that the answer of other days leaves out is.
        if sides.counted == 0 && said.is_none_or(|sent| sent == Some(0)) {
            continue;
        }
        let braze = said.flatten();
        let reason = uncompared_reason(terms, day, braze);
        let difference = signed(sides.accepted) - signed(braze.unwrap_or(0));
        days.push(ComparedDay {
            day,
            braze,
            counted: sides.counted,
            accepted: sides.accepted,
            printed: sides.printed,
            dropped: sides.dropped.clone(),
            difference: reason.is_none().then_some(difference),
            not_compared: reason,
        });
        if let (None, Some(braze)) = (reason, braze) {
            compared.insert(day, BothSides { braze, ..sides });
        }
    }
    let sums = sums(compared.values());
    ComparedObject {
        kind: who.kind,
        id: who.id.to_owned(),
        name: who.name.to_owned(),
        canvas_id: who.canvas_id.to_owned(),
        canvas_name: who.canvas_name.to_owned(),
        within_tolerance: terms.tolerance.allows(sums.sends.difference, sums.sends.braze),
        sums,
        differences: explain(&compared, terms.left_out),
        days,
        channels_apart: said.channels_apart.iter().cloned().collect(),
    }
}

fn uncompared_reason(terms: &ComparisonTerms<'_>, day: Date, braze: Option<u64>) -> Option<UncomparedReason> {
    let now = signed(terms.now);
    let has_history = terms.since.is_some_and(|since| signed(since) <= terms.range.begin(day));
    match braze {
        _ if terms.range.end(day).saturating_add(SETTLED_AFTER) > now => Some(UncomparedReason::DayNotOver),
        _ if !has_history => Some(UncomparedReason::BeforeHistory),
        None => Some(UncomparedReason::NotSaid),
        Some(_) => None,
    }
}

fn sums<'d>(days: impl Iterator<Item = &'d BothSides>) -> ComparedSums {
    let mut sums = ComparedSums::default();
    for day in days {
        sums.sends.braze += day.braze;
        sums.sends.counted += day.counted;
        sums.sends.accepted += day.accepted;
        sums.sends.printed += day.printed;
        for (reason, sends) in &day.dropped {
            *sums.dropped.entry(reason.clone()).or_insert(0) += sends;
        }
    }
    with_difference(sums)
}

/// Steps are included in their Canvas.
fn total(objects: &[ComparedObject]) -> ComparedSums {
    let mut total = ComparedSums::default();
    for sums in objects.iter().filter(|one| one.kind != HistoryKind::Step).map(|object| &object.sums) {
        total.sends.braze += sums.sends.braze;
        total.sends.counted += sums.sends.counted;
        total.sends.accepted += sums.sends.accepted;
        total.sends.printed += sums.sends.printed;
        for (reason, sends) in &sums.dropped {
            *total.dropped.entry(reason.clone()).or_insert(0) += sends;
        }
    }
    with_difference(total)
}

fn with_difference(mut sums: ComparedSums) -> ComparedSums {
    sums.sends.difference = signed(sums.sends.accepted) - signed(sums.sends.braze);
    // To a hundredth.
    let hundredths = (i128::from(sums.sends.difference) * 10_000).checked_div(i128::from(sums.sends.braze));
    sums.sends.difference_percent = hundredths.map(percent_of_hundredths);
    sums
}

#[expect(
    clippy::cast_precision_loss,
    reason = "where hundredths of a percent are lost, it is many times too much"
)]
const fn percent_of_hundredths(hundredths: i128) -> f64 {
    hundredths as f64 / 100.0
}

#[cfg(test)]
mod tests;
