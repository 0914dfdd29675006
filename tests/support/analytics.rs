//! Braze's REST analytics and a forwarder's history on the loopback.
//!
//! Source: Braze's API reference, "Export campaign analytics", "Export Canvas data series analytics", "Export campaigns
//! list", "Export Canvas list", "Rate limits", "Errors and responses". What is held here was written for this project.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use admin_api::{History, HistoryObject};
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::loopback::{Loopback, Question, ScriptedReply};

/// The key that it takes.
pub(crate) const REST_KEY: &str = "5b1e7a90-planted-4f0c";

/// What a channel has sent, by day; each with the `messages` of that day.
pub(crate) type Sent = BTreeMap<String, Value>;

/// An instance of Braze.
pub(crate) struct ScriptedBraze {
    server: Loopback,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    withheld: BTreeSet<&'static str>,
    campaigns: BTreeMap<String, Sent>,
    canvases: BTreeMap<String, BTreeMap<String, Sent>>,
    /// What a path answers next, before anything else.
    next: BTreeMap<String, VecDeque<ScriptedReply>>,
}

impl ScriptedBraze {
    /// One with no campaign, whose key may ask everything.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = Loopback::start(move |question| shared.lock().unwrap().reply(question));
        Self { server, state }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Question> {
        self.server.asked(path)
    }

    /// Takes a permission from the key.
    pub(crate) fn withhold(&self, permission: &'static str) {
        self.state.lock().unwrap().withheld.insert(permission);
    }

    /// Gives it back.
    pub(crate) fn grant(&self, permission: &str) {
        self.state.lock().unwrap().withheld.remove(permission);
    }

    /// A campaign whose e-mails these are, by day.
    pub(crate) fn campaign(&self, id: &str, emails: &[(&str, u64)]) {
        self.state.lock().unwrap().campaigns.insert(id.to_owned(), sent(emails));
    }

    /// A campaign with these `messages` on a day.
    pub(crate) fn messages(&self, id: &str, day: &str, messages: Value) {
        let mut state = self.state.lock().unwrap();
        state.campaigns.entry(id.to_owned()).or_default().insert(day.to_owned(), messages);
    }

    /// A step of a Canvas, whose e-mails these are, by day.
    pub(crate) fn step(&self, canvas: &str, step: &str, emails: &[(&str, u64)]) {
        let mut state = self.state.lock().unwrap();
        state.canvases.entry(canvas.to_owned()).or_default().insert(step.to_owned(), sent(emails));
    }

    /// What a path answers the next times.
    pub(crate) fn next(&self, path: &str, replies: impl IntoIterator<Item = ScriptedReply>) {
        self.state.lock().unwrap().next.entry(path.to_owned()).or_default().extend(replies);
    }
}

fn sent(emails: &[(&str, u64)]) -> Sent {
    let email = |(day, sends): &(&str, u64)| ((*day).to_owned(), emails_of(*sends));
    emails.iter().map(email).collect()
}

/// The messages of a day with so many e-mails, in two variations, beside an in-app message that was only shown.
pub(crate) fn emails_of(sends: u64) -> Value {
    let variation = |name: &str, sent: u64| json!({"variation_name": name, "sent": sent, "opens": 1, "unique_opens": 1, "bounces": 0, "delivered": sent});
    json!({
        "email": [variation("A", sends / 3), variation("B", sends - sends / 3)],
        "trigger_in_app_message": [{"variation_name": "A", "impressions": 9, "clicks": 2}],
    })
}

impl State {
    fn reply(&mut self, question: &Question) -> ScriptedReply {
        if let Some(reply) = self.next.get_mut(&question.path).and_then(VecDeque::pop_front) {
            return reply;
        }
        let permission = match &*question.path {
            "/campaigns/data_series" => "campaigns.data_series",
            "/canvas/data_series" => "canvas.data_series",
            "/campaigns/list" => "campaigns.list",
            "/canvas/list" => "canvas.list",
            _ => return ScriptedReply { status: 404, body: "<html>".to_owned(), ..ScriptedReply::default() },
        };
        if question.authorization != format!("Bearer {REST_KEY}") || self.withheld.contains(permission) {
            // Braze repeats the key that it does not take.
            let said = format!("Invalid API key: {}", question.authorization.trim_start_matches("Bearer "));
            return ScriptedReply::json(401, &json!({"message": said}));
        }
        match permission {
            "campaigns.data_series" => self.campaign_series(question),
            "canvas.data_series" => self.canvas_series(question),
            "campaigns.list" => list("campaigns", self.campaigns.keys(), question),
            _ => list("canvases", self.canvases.keys(), question),
        }
    }

    fn campaign_series(&self, question: &Question) -> ScriptedReply {
        let Some(days) = days(question, 100) else { return refused("Invalid length") };
        let Some(sent) = self.campaigns.get(&question.query["campaign_id"]) else {
            return refused("Invalid Campaign ID");
        };
        let nothing = emails_of(0);
        let day = |day: &Date| {
            let messages = sent.get(&day.to_string()).unwrap_or(&nothing);
            json!({"time": day.to_string(), "messages": messages, "conversions": 0, "unique_recipients": 3})
        };
        let data: Vec<Value> = days.iter().map(day).collect();
        ScriptedReply::json(200, &json!({"message": "success", "data": data}))
    }

    fn canvas_series(&self, question: &Question) -> ScriptedReply {
        let Some(days) = days(question, 14) else { return refused("Invalid length") };
        let Some(steps) = self.canvases.get(&question.query["canvas_id"]) else {
            return refused("Invalid Canvas ID");
        };
        assert_eq!(question.query["include_step_breakdown"], "true");
        let nothing = emails_of(0);
        let day = |day: &Date| {
            let step = |(id, sent): (&String, &Sent)| {
                let messages = sent.get(&day.to_string()).unwrap_or(&nothing);
                (id.clone(), json!({"name": format!("Step {id}"), "revenue": 0.0, "messages": messages}))
            };
            let steps: serde_json::Map<String, Value> = steps.iter().map(step).collect();
            json!({"time": day.to_string(), "total_stats": {"entries": 5}, "step_stats": steps})
        };
        let stats: Vec<Value> = days.iter().map(day).collect();
        ScriptedReply::json(200, &json!({"data": {"name": "Welcome", "stats": stats}, "message": "success"}))
    }
}

fn refused(said: &str) -> ScriptedReply {
    ScriptedReply::json(400, &json!({"message": said}))
}

/// The days that are asked for, or nothing where there are too many.
fn days(question: &Question, days_max: i64) -> Option<Vec<Date>> {
    let length: i64 = question.query["length"].parse().ok()?;
    let last: Date = question.query["ending_at"][..10].parse().ok()?;
    let first = last - (length - 1).days();
    (1..=days_max).contains(&length).then(|| first.series(1.day()).take_while(|day| *day <= last).collect())
}

/// A page of a hundred.
fn list<'i>(name: &str, ids: impl Iterator<Item = &'i String>, question: &Question) -> ScriptedReply {
    let page: usize = question.query["page"].parse().unwrap();
    let listed: Vec<Value> = ids
        .skip(100 * page)
        .take(100)
        .map(|id| json!({"id": id, "name": format!("Listed {id}"), "tags": []}))
        .collect();
    ScriptedReply::json(200, &json!({name: listed, "message": "success"}))
}

/// Writes a history that was kept for a month: so many sends of a campaign of a
/// connection, all accepted on the day before yesterday (UTC), which is returned.
pub(crate) fn keep_history(directory: &std::path::Path, campaigns: &[(&str, &str, u64)]) -> Date {
    keep_history_of(directory, "", campaigns)
}

/// As [`keep_history`], of an app group.
pub(crate) fn keep_history_of(
    directory: &std::path::Path,
    app_group_id: &str,
    campaigns: &[(&str, &str, u64)],
) -> Date {
    use send_history::{FlushedSends, HistorySettings, ObjectFields, ObjectKind, SendHistory};
    let now = super::unix_now();
    std::fs::create_dir_all(directory).unwrap();
    let settings = HistorySettings::new(directory.to_owned());
    let history = SendHistory::start(&settings, move || now - 30 * 86_400).unwrap();
    assert!(history.is_open_within(super::PATIENCE));
    let noon = u32::try_from((now / 86_400 - 2) * 86_400 + 43_200).unwrap();
    let connections = campaigns.iter().map(|(connection, ..)| (*connection).into()).collect();
    let mut flushed = FlushedSends::new(connections);
    for (connection, (_, id, sends)) in campaigns.iter().enumerate() {
        let name = format!("Name of {id}");
        let of = ObjectFields::of(ObjectKind::Campaign);
        let app_group_id = app_group_id.as_bytes();
        let fields =
            ObjectFields { connection, id: id.as_bytes(), name: name.as_bytes(), app_group_id, ..of };
        flushed.series([fields], [(noon, *sends)]);
    }
    let flushed = history.note(flushed).unwrap();
    history.land(&flushed, (0..).take(campaigns.len()).collect(), None, 0, 0);
    assert!(history.stop(super::PATIENCE));
    let noon = jiff::Timestamp::from_second(i64::from(noon)).unwrap();
    jiff::tz::TimeZone::UTC.to_datetime(noon).date()
}

/// An admin port that has this history, two objects a page.
pub(crate) fn forwarder(objects: Vec<HistoryObject>, since: Option<u64>) -> Loopback {
    forwarder_that_left_out(0, objects, since)
}

/// As [`forwarder`], which has left so many sends out of its history.
pub(crate) fn forwarder_that_left_out(
    sends: u64,
    objects: Vec<HistoryObject>,
    since: Option<u64>,
) -> Loopback {
    Loopback::start(move |question| match &*question.path {
        "/status" => {
            let count = "users.messages.email.Send, users.messages.pushnotification.Send";
            let configuration = json!([{"key": "events.count", "value": count}]);
            let history = json!({"sends_left_out": sends});
            ScriptedReply::json(200, &json!({"configuration": configuration, "history": history}))
        }
        "/history" => {
            let first: usize = question.query.get("after").map_or(0, |after| after.parse().unwrap());
            let history = History {
                from: question.query["from"].clone(),
                to: question.query["to"].clone(),
                time_zone: question.query["time_zone"].clone(),
                since,
                objects: objects.iter().skip(first).take(2).cloned().collect(),
                next: (first + 2 < objects.len()).then(|| (first + 2).to_string()),
            };
            ScriptedReply::json(200, &serde_json::to_value(history).unwrap())
        }
        _ => ScriptedReply { status: 404, body: "not found\n".to_owned(), ..ScriptedReply::default() },
    })
}
