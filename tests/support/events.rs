//! Braze events with their truth: how many sends there are, and under which tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const SENDS: [&str; 8] = [
    "users.messages.email.Send",
    "users.messages.pushnotification.Send",
    "users.messages.sms.Send",
    "users.messages.webhook.Send",
    "users.messages.whatsapp.Send",
    "users.messages.contentcard.Send",
    "users.messages.rcs.Send",
    "users.messages.line.Send",
];

const NO_SENDS: [&str; 6] = [
    "users.messages.email.Open",
    "users.messages.email.Retry",
    "users.messages.sms.CarrierSend",
    "users.canvas.costep.Send",
    "users.messages.liveactivity.Send",
    "users.messages.hologram.Send",
];

const NAMES: [&str; 8] = [
    "Weekly Newsletter",
    "Summer Sale, 20% off: \"last call\"",
    "カート放棄リマインダー",
    "🔥🔥🔥",
    "ends in colons::",
    "back\\slash\tand tab",
    "Loyalty tier review, which nobody may edit without asking the CRM team first: it goes to every market, in \
     every language, on every Monday, and it has a name that is longer than any tag of Datadog may be, for good measure",
    "[REDACTED]",
];

/// What the events made so far hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// All of them.
    pub(crate) events: u64,
    /// Of a counted type, each for the first time.
    pub(crate) sends: u64,
    /// Of another type.
    pub(crate) ignored: u64,
    /// Of a counted type, again.
    pub(crate) duplicates: u64,
    /// Sends by app group id; empty where the event has none.
    pub(crate) by_app_group: BTreeMap<String, u64>,
    /// Sends by the tags that the default configuration gives them.
    pub(crate) by_tags: BTreeMap<Vec<String>, u64>,
}

/// Makes events: the same ones from the same seed. Ids differ from seed to seed. A campaign has one name,
/// which is always there, so that the tags do not depend on the order of events.
pub(crate) struct Events {
    seed: u64,
    state: u64,
    made: u64,
    time: u64,
    sends_percent: u64,
    campaigns: u64,
    app_groups: Vec<(String, Option<String>)>,
    last: Vec<Value>,
    truth: Truth,
}

impl Events {
    /// Events of this moment, of one app group, seven of ten of them sends.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            state: seed,
            made: 0,
            time: super::unix_now(),
            sends_percent: 70,
            campaigns: 12,
            app_groups: vec![("0d6c8a4e-3f5b-4f6e-9d39-6f1f1b7c2a10".to_owned(), None)],
            last: Vec::new(),
            truth: Truth::default(),
        }
    }

    /// The time of the events to come, Unix seconds.
    pub(crate) fn at(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    /// How many of a hundred events are sends.
    pub(crate) fn sends_percent(mut self, percent: u64) -> Self {
        self.sends_percent = percent;
        self
    }

    /// How many campaigns (and as many Canvas steps) an app group has.
    pub(crate) fn campaigns(mut self, campaigns: u64) -> Self {
        self.campaigns = campaigns;
        self
    }

    /// The app groups of the events: id, and name where the configuration gives one.
    pub(crate) fn app_groups(mut self, app_groups: &[(&str, Option<&str>)]) -> Self {
        self.app_groups =
            app_groups.iter().map(|(id, name)| ((*id).to_owned(), name.map(ToOwned::to_owned))).collect();
        self
    }

    /// What has been made so far.
    pub(crate) fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The body of a Currents HTTP push with so many events.
    pub(crate) fn push_body(&mut self, events: usize) -> String {
        json!({ "events": self.make(events) }).to_string()
    }

    /// So many bare events, one a line.
    pub(crate) fn ndjson(&mut self, events: usize) -> String {
        self.make(events).iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect()
    }

    /// The events of the last body or lines once more, as a push.
    pub(crate) fn repeat(&mut self) -> String {
        for event in &self.last {
            self.truth.events += 1;
            if SENDS.iter().any(|send| event["event_type"] == *send) {
                self.truth.duplicates += 1;
            } else {
                self.truth.ignored += 1;
            }
        }
        json!({ "events": self.last }).to_string()
    }

    fn make(&mut self, events: usize) -> Vec<Value> {
        self.last = (0..events).map(|_| self.event()).collect();
        self.last.clone()
    }

    fn event(&mut self) -> Value {
        let is_send = self.below(100) < self.sends_percent;
        let event_type = if is_send { self.pick(&SENDS) } else { self.pick(&NO_SENDS) };
        let properties = self.properties();
        self.made += 1;
        self.truth.events += 1;
        if is_send {
            self.count(&properties);
        } else {
            self.truth.ignored += 1;
        }
        json!({
            "event_type": event_type,
            "id": format!("{:08x}-0000-4000-8000-{:012x}", self.seed & 0xffff_ffff, self.made),
            "time": self.time,
            "user": { "user_id": format!("{:024x}", self.random()), "external_user_id": "someone" },
            "properties": properties,
        })
    }

    fn properties(&mut self) -> Value {
        let app_groups = u64::try_from(self.app_groups.len()).unwrap();
        let app_group = usize::try_from(self.below(app_groups)).unwrap();
        let number = self.below(self.campaigns);
        let name = NAMES[usize::try_from(number).unwrap() % NAMES.len()];
        let mut properties = json!({
            "app_group_id": self.app_groups[app_group].0,
            "email_address": "reader@example.com",
            "message_extras": "{\"campaign_id\":\"not this one\",\"a\":\"\\\"}\"}",
        });
        // Campaign, Canvas, or neither.
        match self.below(10) {
            0 => properties["campaign_id"] = Value::Null,
            1..7 => {
                properties["campaign_id"] = json!(format!("campaign-{app_group}-{number}"));
                properties["campaign_name"] = json!(name);
                properties["canvas_id"] = json!("");
            }
            _ => {
                properties["canvas_id"] = json!(format!("canvas-{app_group}"));
                properties["canvas_name"] = json!("Onboarding");
                properties["canvas_step_id"] = json!(format!("step-{app_group}-{number}"));
                properties["canvas_step_name"] = json!(name);
            }
        }
        properties
    }

    fn count(&mut self, properties: &Value) {
        let app_group_id = properties["app_group_id"].as_str().unwrap_or_default();
        let configured =
            self.app_groups.iter().find(|(id, _)| id == app_group_id).and_then(|(_, name)| name.as_deref());
        let field = |name: &'static str| (name, properties[name].as_str().unwrap_or_default());
        let mut tags: Vec<String> = [
            field("app_group_id"),
            ("app_group_name", configured.unwrap_or_default()),
            field("campaign_id"),
            field("campaign_name"),
            field("canvas_id"),
            field("canvas_name"),
            field("canvas_step_id"),
            field("canvas_step_name"),
        ]
        .into_iter()
        .filter_map(|(key, value)| tag(key, value))
        .collect();
        tags.sort();
        self.truth.sends += 1;
        *self.truth.by_app_group.entry(app_group_id.to_owned()).or_default() += 1;
        *self.truth.by_tags.entry(tags).or_default() += 1;
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let length = u64::try_from(from.len()).unwrap();
        from[usize::try_from(self.below(length)).unwrap()]
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random() % limit
    }

    /// `SplitMix64`.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A tag as the contract wants it: left out without a value, cut at 200 characters with its key, without
/// colons at its end.
fn tag(key: &str, value: &str) -> Option<String> {
    if value.is_empty() || value == "[REDACTED]" {
        return None;
    }
    let cut: String = format!("{key}:{value}").chars().take(200).collect();
    let tag = cut.trim_end_matches(':');
    (tag != key).then(|| tag.to_owned())
}
