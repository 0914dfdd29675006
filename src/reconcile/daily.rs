//! The daily comparison: its settings, its schedule, and its results. Pure: time and results are passed in.

mod compared;

use std::cmp::Reverse;

use admin_api::{FlowState, HistoryObject, ReconcileStatus, WorkspaceStatus};
use braze_rest::RestKey;
use jiff::civil::Time;

use self::compared::Compared;
use super::app_group_filter::is_same;
use super::{AppGroupFilter, DayRange, DayRangeError, Reconciliation, Tolerance};

/// How long after the start, or after a change, a workspace is compared: people should not wait a day to learn whether a key
/// is right.
const FIRST_AFTER: u64 = 5;

/// After how many seconds a failed attempt is repeated on the same day.
const RETRIES: [u64; 2] = [300, 3600];

/// Longer than any wait for the next day; a later due time was computed from a wrong clock.
const WAIT_MAX: u64 = 26 * 3600;

/// The most objects with a difference, and without a comparison, that are kept for each workspace and shown for all.
const SHOWN_MAX: usize = 20;

/// Workspaces that a short status lists.
const WORKSPACES_MAX: usize = 50;

/// The settings of the daily comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcileSettings {
    /// How many days; yesterday is the last of them.
    pub days: u32,
    /// How far apart both sides may be.
    pub tolerance: Tolerance,
    /// When, in each workspace's time zone.
    pub at: Time,
    /// The workspaces to compare.
    pub workspaces: Vec<WorkspaceSettings>,
    /// Workspaces whose configuration is wrong.
    pub refused: Vec<RefusedWorkspace>,
    /// Connections with a workspace of their own, and those of which that is not known.
    pub connections_apart: Vec<Box<str>>,
    /// Connections whose file can't be read, so that their workspace is not known. They are among `refused`, where anything is
    /// compared.
    pub unread: Vec<Box<str>>,
}

/// A workspace of Braze, and the sends that are compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceSettings {
    /// The connection whose sends are compared; `None`: all connections without a workspace of their own.
    pub connection: Option<Box<str>>,
    /// The app group whose sends are compared; empty: all.
    pub app_group_id: Box<str>,
    /// The address of Braze's REST API.
    pub braze_url: Box<str>,
    /// The workspace's key.
    pub key: RestKey,
    /// The time zone of the company in Braze's dashboard.
    pub time_zone: Box<str>,
}

/// A workspace that is left out, because its configuration is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWorkspace {
    /// As for [`WorkspaceSettings::connection`].
    pub connection: Option<Box<str>>,
    /// The diagnostics, one a line; never a key.
    pub reason: String,
}

/// A workspace to compare now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcileAttempt {
    /// The workspace.
    pub workspace: WorkspaceSettings,
    /// How far apart both sides may be.
    pub tolerance: Tolerance,
    days: u32,
    at: Time,
    connections_apart: Vec<Box<str>>,
}

/// The result of an attempt.
#[derive(Debug, Default)]
pub struct AttemptOutcome {
    /// The comparison.
    pub compared: Option<Reconciliation>,
    /// Why it is incomplete.
    pub failed: Option<String>,
}

/// When a workspace is compared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// On the next day.
    NextDay,
    /// After this many seconds, because it failed.
    Retry(u64),
    /// Never: the workspace is no longer configured, or has changed.
    Never,
}

/// When each workspace is due, and its last result.
#[derive(Debug, Default)]
pub struct DailySchedule {
    tolerance: Tolerance,
    entries: Vec<Entry>,
    refused: Vec<RefusedWorkspace>,
}

#[derive(Debug)]
struct Entry {
    attempt: ReconcileAttempt,
    due: u64,
    is_running: bool,
    /// Failures in a row.
    failures: usize,
    last_attempt: Option<u64>,
    last_success: Option<u64>,
    failed: Option<String>,
    compared: Option<Compared>,
}

impl AttemptOutcome {
    /// The comparison; one that failed for all of its objects is none.
    pub fn result(&self) -> Option<&Reconciliation> {
        let all = self.compared.as_ref()?;
        (self.failed.is_none() || all.is_any_compared()).then_some(all)
    }
}

impl ReconcileSettings {
    /// Whether there is nothing to do, and nothing wrong.
    pub fn is_off(&self) -> bool {
        self.workspaces.is_empty() && self.refused.is_empty()
    }

    /// Keeps what `old` has of the workspace of each connection whose file can't be read now, where it `is_kept`: its old form is
    /// in force.
    pub fn keep_old(&mut self, old: &Self, is_kept: impl Fn(&str) -> bool) {
        // What is wrong at the top level leaves out all of them.
        if self.refused.iter().any(|refused| refused.connection.is_none()) {
            return;
        }
        for name in self.unread.iter().filter(|name| is_kept(name)) {
            self.refused.retain(|refused| refused.connection.as_ref() != Some(name));
            let is_its = |connection: &Option<Box<str>>| connection.as_ref() == Some(name);
            self.workspaces.extend(old.workspaces.iter().filter(|one| is_its(&one.connection)).cloned());
            self.refused.extend(old.refused.iter().filter(|one| is_its(&one.connection)).cloned());
            if !old.connections_apart.contains(name) {
                self.connections_apart.retain(|apart| apart != name);
            }
        }
        // In the order in which they are read.
        self.workspaces.sort_by(|a, b| a.connection.cmp(&b.connection));
    }
}

impl ReconcileAttempt {
    /// The days to compare, as of the Unix second `now`.
    ///
    /// # Errors
    /// When there is no such time zone.
    pub fn range(&self, now: u64) -> Result<DayRange, DayRangeError> {
        DayRange::until_yesterday(&self.workspace.time_zone, self.days, now)
    }

    /// Whether an object's sends belong to the workspace.
    pub fn covers(&self, object: &HistoryObject) -> bool {
        let group = &self.workspace.app_group_id;
        self.has(&object.connection) && (group.is_empty() || is_same(group, &object.app_group_id))
    }

    /// Says so where the workspace's app group is none of those that ever had sends, given connection and app group of each.
    pub fn missing_group<'o>(&self, sent: impl IntoIterator<Item = (&'o str, &'o str)>) -> Option<String> {
        let mut groups = AppGroupFilter::new(&self.workspace.app_group_id);
        for (_, group) in sent.into_iter().filter(|(connection, _)| self.has(connection)) {
            groups.note(group);
        }
        groups.missing()
    }

    fn has(&self, connection: &str) -> bool {
        match &self.workspace.connection {
            Some(own) => **own == *connection,
            None => !self.connections_apart.iter().any(|apart| **apart == *connection),
        }
    }

    fn next_day(&self, now: u64) -> u64 {
        // The time zone is valid by now; otherwise a day from now.
        DayRange::next_moment(&self.workspace.time_zone, self.at, now).unwrap_or(now + 24 * 3600)
    }
}

impl DailySchedule {
    /// Takes over settings. Unchanged workspaces keep their turn and their result; others are due soon.
    pub fn configure(&mut self, settings: &ReconcileSettings, now: u64) {
        let mut known = std::mem::take(&mut self.entries);
        self.tolerance = settings.tolerance;
        self.refused.clone_from(&settings.refused);
        for workspace in &settings.workspaces {
            let attempt = ReconcileAttempt {
                workspace: workspace.clone(),
                tolerance: settings.tolerance,
                days: settings.days,
                at: settings.at,
                connections_apart: match workspace.connection {
                    Some(_) => Vec::new(),
                    None => settings.connections_apart.clone(),
                },
            };
            let position = known.iter().position(|entry| entry.attempt == attempt);
            let fresh = || Entry {
                attempt,
                due: now + FIRST_AFTER,
                is_running: false,
                failures: 0,
                last_attempt: None,
                last_success: None,
                failed: None,
                compared: None,
            };
            self.entries.push(position.map_or_else(fresh, |position| known.swap_remove(position)));
        }
    }

    /// Lets those that have failed be tried again soon, and as often as at first: what was put right in Braze changes no setting.
    pub fn retry_failed(&mut self, now: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.failed.is_some() && !entry.is_running) {
            (entry.due, entry.failures) = (now + FIRST_AFTER, 0);
        }
    }

    /// Takes out the workspaces that are due, `attempts_max` of them.
    pub fn due(&mut self, attempts_max: usize, now: u64) -> Vec<ReconcileAttempt> {
        for entry in self.entries.iter_mut().filter(|entry| entry.due > now + WAIT_MAX) {
            entry.due = entry.attempt.next_day(now);
        }
        let due = self.entries.iter_mut().filter(|entry| !entry.is_running && entry.due <= now);
        due.take(attempts_max)
            .map(|entry| {
                entry.is_running = true;
                entry.attempt.clone()
            })
            .collect()
    }

    /// When the next workspace is due.
    pub fn next_due(&self) -> Option<u64> {
        self.entries.iter().filter(|entry| !entry.is_running).map(|entry| entry.due).min()
    }

    /// Notes the result of an attempt.
    pub fn finished(
        &mut self,
        attempt: &ReconcileAttempt,
        outcome: &AttemptOutcome,
        now: u64,
    ) -> NextAttempt {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_running && entry.attempt == *attempt)
        else {
            return NextAttempt::Never;
        };
        entry.is_running = false;
        entry.last_attempt = Some(now);
        let is_any_compared = outcome.result().is_some_and(Reconciliation::is_any_compared);
        // An attempt without a result leaves the previous one.
        if let Some(all) = outcome.result() {
            entry.compared = Some(Compared::of(&attempt.workspace, all, now));
        }
        entry.failed.clone_from(&outcome.failed);
        let next_day = attempt.next_day(now);
        if entry.failed.is_none() {
            // Where there was nothing to compare, that is no success yet.
            if is_any_compared {
                entry.last_success = Some(now);
            }
            entry.failures = 0;
        } else if let Some(wait) = RETRIES.get(entry.failures).filter(|wait| now + **wait < next_day) {
            entry.failures += 1;
            entry.due = now + wait;
            return NextAttempt::Retry(*wait);
        } else {
            entry.failures = 0;
        }
        entry.due = next_day;
        NextAttempt::NextDay
    }

    /// The status; `None`: it is off.
    pub fn status(&self) -> Option<ReconcileStatus> {
        if self.entries.is_empty() && self.refused.is_empty() {
            return None;
        }
        let refused = self.refused.iter().map(refused_status);
        let workspaces: Vec<_> =
            refused.chain(self.entries.iter().map(|entry| entry.status(self.tolerance))).collect();
        let known = || self.entries.iter().filter_map(|entry| entry.compared.as_ref());
        let mut differing: Vec<_> = known().flat_map(|known| known.differing.clone()).collect();
        differing.sort_by_key(|one| Reverse(one.sends.difference.unsigned_abs()));
        differing.truncate(SHOWN_MAX);
        let mut not_compared: Vec<_> = known().flat_map(|known| known.unknown.clone()).collect();
        not_compared.sort_by_key(|one| Reverse(one.counted));
        not_compared.truncate(SHOWN_MAX);
        Some(ReconcileStatus {
            tolerance_percent: self.tolerance.percent(),
            workspaces_total: workspaces.len() as u64,
            workspaces,
            differing_total: known().map(|known| known.differing_total as u64).sum(),
            differing,
            not_compared_total: known().map(|known| known.sums.objects_not_compared).sum(),
            not_compared,
        })
    }
}

/// Shortens a long list: those in trouble, and those with the largest difference.
pub fn shorten(status: &mut ReconcileStatus) {
    if status.workspaces.len() > WORKSPACES_MAX {
        status.workspaces.sort_by_key(|one| {
            let difference = one.compared.as_ref().map_or(0, |sums| sums.sends.difference.unsigned_abs());
            (one.state != FlowState::Trouble, Reverse(difference))
        });
        status.workspaces.truncate(WORKSPACES_MAX);
    }
}

fn refused_status(refused: &RefusedWorkspace) -> WorkspaceStatus {
    WorkspaceStatus {
        connection: refused.connection.as_deref().map(str::to_owned),
        state: FlowState::Trouble,
        words: "left out: its configuration is wrong".to_owned(),
        failed_because: Some(refused.reason.clone()),
        ..WorkspaceStatus::default()
    }
}

impl Entry {
    fn status(&self, tolerance: Tolerance) -> WorkspaceStatus {
        let (state, words) = self.summary(tolerance);
        WorkspaceStatus {
            connection: self.attempt.workspace.connection.as_deref().map(str::to_owned),
            state,
            words,
            failed_because: self.failed.clone(),
            last_attempt: self.last_attempt,
            last_success: self.last_success,
            next_attempt: (!self.is_running).then_some(self.due),
            compared: self.compared.as_ref().map(|compared| compared.sums.clone()),
        }
    }

    fn summary(&self, tolerance: Tolerance) -> (FlowState, String) {
        let percent = tolerance.percent();
        if self.failed.is_some() {
            let part =
                if self.compared.is_some() { "the last attempt failed" } else { "could not be compared" };
            return (FlowState::Trouble, part.to_owned());
        }
        let Some(compared) = &self.compared else {
            let words = if self.is_running { "Braze is being asked" } else { "Braze was not asked yet" };
            return (FlowState::Quiet, words.to_owned());
        };
        compared.summary(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::{ComparisonTerms, CountedTypes, compare};
    use admin_api::{HistoryDay, HistoryKind};
    use braze_rest::CampaignDay;
    use jiff::civil::time;
    use std::collections::BTreeMap;

    use crate::reconcile::{BrazeAnswer, BrazeSeries};

    /// 2026-11-28 10:00 in Paris.
    const NOW: u64 = 1_795_856_400;
    const HOUR: u64 = 3600;

    fn workspace(connection: Option<&str>) -> WorkspaceSettings {
        WorkspaceSettings {
            connection: connection.map(Into::into),
            app_group_id: "".into(),
            braze_url: "https://rest.fra-01.braze.eu".into(),
            key: RestKey::new("planted-key").unwrap(),
            time_zone: "Europe/Paris".into(),
        }
    }

    fn settings(workspaces: Vec<WorkspaceSettings>) -> ReconcileSettings {
        ReconcileSettings {
            days: 2,
            tolerance: Tolerance(100),
            at: time(4, 0, 0, 0),
            workspaces,
            ..ReconcileSettings::default()
        }
    }

    fn scheduled(settings: &ReconcileSettings) -> DailySchedule {
        let mut schedule = DailySchedule::default();
        schedule.configure(settings, NOW);
        schedule
    }

    /// A campaign with so many sends there and here on 2026-11-27.
    fn compared(id: &str, braze: u64, own: u64) -> AttemptOutcome {
        let range = DayRange::until_yesterday("Europe/Paris", 2, NOW).unwrap();
        let day =
            HistoryDay { day: "2026-11-27".into(), counted: own, accepted: own, ..HistoryDay::default() };
        let history = HistoryObject { id: id.to_owned(), days: vec![day], ..HistoryObject::default() };
        let sent = Some(BTreeMap::from([("email".to_owned(), Some(braze))]));
        let said = Ok(BrazeSeries::Campaign(vec![CampaignDay { day: range.last, sent }]));
        let kind = HistoryKind::Campaign;
        let answer = BrazeAnswer { kind, id: id.to_owned(), name: String::new(), said };
        let types = CountedTypes::parse("users.messages.email.Send");
        let (tolerance, since) = (Tolerance(100), Some(0));
        let terms = ComparisonTerms { range: &range, types: &types, tolerance, since, left_out: 0, now: NOW };
        AttemptOutcome { compared: Some(compare(&terms, vec![history], vec![answer])), failed: None }
    }

    fn failed(reason: &str) -> AttemptOutcome {
        AttemptOutcome { compared: None, failed: Some(reason.to_owned()) }
    }

    #[test]
    fn it_is_due_soon_after_the_start_and_then_at_its_time_of_day() {
        let mut schedule = scheduled(&settings(vec![workspace(None)]));
        assert_eq!((schedule.due(4, NOW), schedule.next_due()), (vec![], Some(NOW + FIRST_AFTER)));
        let attempts = schedule.due(4, NOW + FIRST_AFTER);
        assert_eq!(attempts.len(), 1);
        let range = attempts[0].range(NOW).unwrap();
        assert_eq!(
            (range.first.to_string(), range.last.to_string()),
            ("2026-11-26".into(), "2026-11-27".into())
        );
        assert_eq!((schedule.due(4, NOW + 99), schedule.next_due()), (vec![], None), "it is under way");
        let next = schedule.finished(&attempts[0], &compared("a", 100, 100), NOW + 9);
        // 04:00 in Paris is 18 hours away.
        assert_eq!((next, schedule.next_due()), (NextAttempt::NextDay, Some(NOW + 18 * HOUR)));
        // A clock that was a year ahead.
        schedule.entries[0].due = NOW + 365 * 24 * HOUR;
        assert_eq!((schedule.due(4, NOW), schedule.next_due()), (vec![], Some(NOW + 18 * HOUR)));
    }

    #[test]
    fn an_attempt_that_failed_is_repeated_twice_and_then_on_the_next_day() {
        let mut schedule = scheduled(&settings(vec![workspace(None)]));
        let mut now = NOW + FIRST_AFTER;
        for expected in [NextAttempt::Retry(300), NextAttempt::Retry(3600), NextAttempt::NextDay] {
            let attempt = schedule.due(4, now).remove(0);
            assert_eq!(schedule.finished(&attempt, &failed("no answer"), now), expected);
            let status = schedule.status().unwrap().workspaces.remove(0);
            assert_eq!((status.state, &*status.words), (FlowState::Trouble, "could not be compared"));
            assert_eq!(
                (status.failed_because.as_deref(), status.last_attempt),
                (Some("no answer"), Some(now))
            );
            assert_eq!(status.last_success, None);
            now = schedule.next_due().unwrap();
        }
        assert_eq!(now, NOW + 18 * HOUR);
        // Shortly before the next day's time there is nothing to repeat in between.
        let attempt = schedule.due(4, now).remove(0);
        assert_eq!(schedule.finished(&attempt, &failed("x"), now + 24 * HOUR - 200), NextAttempt::NextDay);
        // What was known stays, and a part of an answer is told as far as it goes.
        let attempt = schedule.due(4, now + 48 * HOUR).remove(0);
        schedule.finished(&attempt, &compared("a", 100, 99), now);
        let attempt = schedule.due(4, now + 72 * HOUR).remove(0);
        schedule.finished(&attempt, &failed("the key"), now);
        let status = schedule.status().unwrap().workspaces.remove(0);
        assert_eq!((&*status.words, status.last_success), ("the last attempt failed", Some(now)));
        assert_eq!(status.compared.unwrap().sends.braze, 100);
        let attempt = schedule.due(4, now + 96 * HOUR).remove(0);
        let mut of_none = compared("a", 100, 99);
        of_none.failed = Some("another workspace's key".to_owned());
        of_none.compared.as_mut().unwrap().objects.clear();
        schedule.finished(&attempt, &of_none, now + 1);
        let status = schedule.status().unwrap().workspaces.remove(0);
        assert_eq!((&*status.words, status.last_success), ("the last attempt failed", Some(now)));
        assert_eq!(status.compared.unwrap().objects, 1);
    }

    #[test]
    fn what_has_failed_is_tried_again_soon_when_somebody_asks_for_it() {
        let all = settings(vec![workspace(Some("acme")), workspace(Some("beta"))]);
        let mut schedule = scheduled(&all);
        let mut now = NOW + FIRST_AFTER;
        let attempts = schedule.due(4, now);
        schedule.finished(&attempts[1], &compared("b", 1, 1), now);
        schedule.finished(&attempts[0], &failed("the permission"), now);
        for _ in RETRIES {
            now = schedule.next_due().unwrap();
            let attempt = schedule.due(4, now).remove(0);
            schedule.finished(&attempt, &failed("the permission"), now);
        }
        schedule.configure(&all, now);
        assert_eq!(schedule.due(4, now + FIRST_AFTER), [], "the same settings change nothing");
        schedule.retry_failed(now);
        assert_eq!(schedule.due(4, now + FIRST_AFTER), [attempts[0].clone()], "the other one has its turn");
        schedule.retry_failed(now);
        let next = schedule.finished(&attempts[0], &failed("the permission"), now);
        assert_eq!(next, NextAttempt::Retry(RETRIES[0]));
    }

    #[test]
    fn what_is_changed_is_asked_soon_and_the_rest_keeps_its_turn() {
        let mut all = settings(vec![workspace(Some("acme")), workspace(Some("beta"))]);
        let mut schedule = scheduled(&all);
        let attempts = schedule.due(4, NOW + FIRST_AFTER);
        schedule.finished(&attempts[0], &compared("a", 100, 100), NOW);
        all.workspaces[1].key = RestKey::new("rotated").unwrap();
        schedule.configure(&all, NOW + 60);
        assert_eq!(schedule.next_due(), Some(NOW + 60 + FIRST_AFTER));
        assert_eq!(schedule.finished(&attempts[1], &compared("b", 1, 1), NOW), NextAttempt::Never);
        let status = schedule.status().unwrap();
        assert!(status.workspaces[0].compared.is_some() && status.workspaces[1].compared.is_none());
        schedule.configure(&ReconcileSettings::default(), NOW);
        assert_eq!((schedule.status(), schedule.next_due()), (None, None));
    }

    #[test]
    fn a_workspace_has_the_sends_of_its_connection_or_those_of_all_others() {
        let object = |connection: &str, group: &str| HistoryObject {
            connection: connection.to_owned(),
            app_group_id: group.to_owned(),
            ..HistoryObject::default()
        };
        let mut all = settings(vec![workspace(None), workspace(Some("acme"))]);
        all.workspaces[1].app_group_id = "EMEA".into();
        all.connections_apart = vec!["acme".into()];
        let attempts = scheduled(&all).due(4, NOW + FIRST_AFTER);
        let covered = |one: &HistoryObject| [attempts[0].covers(one), attempts[1].covers(one)];
        assert_eq!(covered(&object("acme", "EMEA")), [false, true]);
        assert_eq!(
            covered(&object("acme", "emea")),
            [false, false],
            "another app group, as it is everywhere"
        );
        assert_eq!(covered(&object("acme", "apac")), [false, false]);
        assert_eq!(covered(&object("beta", "emea")), [true, false]);
        let missing = |sent: &[(&'static str, &'static str)]| attempts[1].missing_group(sent.iter().copied());
        assert_eq!(missing(&[("beta", "apac")]), None);
        assert_eq!(missing(&[("acme", "apac"), ("acme", "EMEA")]), None);
        assert!(missing(&[("acme", "apac"), ("beta", "EMEA")]).unwrap().contains("some of apac"));
    }

    #[test]
    fn a_dry_run_agrees_and_is_said_to_have_been_printed() {
        let mut schedule = scheduled(&settings(vec![workspace(None)]));
        let mut dry = compared("a", 100, 100);
        dry.compared.as_mut().unwrap().total.sends.printed = 100;
        let attempt = schedule.due(4, NOW + FIRST_AFTER).remove(0);
        schedule.finished(&attempt, &dry, NOW);
        let words = schedule.status().unwrap().workspaces.remove(0).words;
        assert!(
            words.ends_with("; 100 of the accepted sends were printed by a dry run, not sent"),
            "{words}"
        );
    }

    #[test]
    fn an_attempt_that_compared_nothing_is_no_success() {
        let mut schedule = scheduled(&settings(vec![workspace(None)]));
        let mut nothing = compared("a", 100, 100);
        nothing.compared.as_mut().unwrap().objects.clear();
        let attempt = schedule.due(4, NOW + FIRST_AFTER).remove(0);
        assert_eq!(schedule.finished(&attempt, &nothing, NOW), NextAttempt::NextDay);
        let status = schedule.status().unwrap().workspaces.remove(0);
        assert_eq!((status.state, status.last_attempt), (FlowState::Quiet, Some(NOW)));
        assert_eq!((status.last_success, status.failed_because), (None, None));
    }

    #[test]
    fn the_largest_differences_of_all_workspaces_come_first_and_are_few() {
        let names: Vec<String> = (0..60).map(|number| format!("c{number:02}")).collect();
        let mut schedule = scheduled(&settings(names.iter().map(|name| workspace(Some(name))).collect()));
        for (number, attempt) in (0..).zip(schedule.due(99, NOW + FIRST_AFTER)) {
            schedule.finished(&attempt, &compared("a", 1000, 1000 - number), NOW);
        }
        let mut status = schedule.status().unwrap();
        assert_eq!((status.workspaces_total, status.differing_total), (60, 59));
        assert_eq!(status.differing.len(), SHOWN_MAX);
        let first = &status.differing[0];
        assert_eq!((first.connection.as_deref(), first.sends.difference), (Some("c59"), -59));
        assert!(first.explanation[0].starts_with("59 never received"), "{first:?}");
        assert_eq!(status.workspaces[10].words, "all of 1 campaigns, Canvases and steps agree within 1 %");
        assert_eq!(
            status.workspaces[11].words,
            "1 of 1 campaigns, Canvases and steps differs by more than 1 %"
        );
        shorten(&mut status);
        assert_eq!((status.workspaces.len(), status.workspaces_total), (WORKSPACES_MAX, 60));
        assert_eq!(status.workspaces[0].connection.as_deref(), Some("c59"));
        let shown = format!("{schedule:?}{status:?}");
        assert!(!shown.contains("planted-key"), "{shown}");
    }

    #[test]
    fn its_time_of_day_is_that_of_the_zone_on_days_of_23_and_25_hours_too() {
        let next = |now: &str, at| {
            let now = u64::try_from(now.parse::<jiff::Timestamp>().unwrap().as_second()).unwrap();
            let next = DayRange::next_moment("Europe/Paris", at, now).unwrap();
            jiff::Timestamp::from_second(i64::try_from(next).unwrap()).unwrap().to_string()
        };
        assert_eq!(next("2026-03-28T22:00:00Z", time(4, 0, 0, 0)), "2026-03-29T02:00:00Z");
        assert_eq!(next("2026-03-28T22:00:00Z", time(2, 30, 0, 0)), "2026-03-29T01:30:00Z");
        assert_eq!(next("2026-10-24T22:00:00Z", time(4, 0, 0, 0)), "2026-10-25T03:00:00Z");
        assert_eq!(next("2026-10-25T03:00:00Z", time(4, 0, 0, 0)), "2026-10-26T03:00:00Z");
    }
}
