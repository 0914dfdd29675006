//! Braze events in the shape of Currents, fast: each tag set has its event ready as text, and an event is a
//! copy of it with its own id and time put in place.

use std::fmt::Write as _;
use std::sync::Arc;

/// Event types that are counted. A tag set stays with one, as a campaign stays with its channel.
const SENDS: [&str; 5] = [
    "users.messages.email.Send",
    "users.messages.pushnotification.Send",
    "users.messages.email.Send",
    "users.messages.sms.Send",
    "users.messages.webhook.Send",
];

/// Event types that are not counted by default.
const NO_SENDS: [&str; 6] = [
    "users.messages.email.Delivery",
    "users.messages.email.Open",
    "users.messages.pushnotification.Open",
    "users.messages.email.Click",
    "users.messages.sms.CarrierSend",
    "users.canvas.costep.Send",
];

/// Names as people give them, written as JSON: commas, colons, pipes, escapes, any language.
const NAMES: [&str; 8] = [
    "Weekly Newsletter",
    r#"Summer Sale, 20% off: \"last call\""#,
    "Cart | reminder | 2h",
    "カート放棄リマインダー",
    "🔥 Soldes d’été",
    r"Ol\u00e9 \ud83d\ude00",
    r"back\\slash\tand tab",
    "Loyalty tier review",
];

/// JSON in a string, as customers attach it.
const EXTRAS: &str = r#"{\"plan\":\"gold\",\"items\":[1,2,3],\"note\":\"ab\"}"#;

/// The characters of an id, hyphens included.
const ID_LENGTH: usize = 36;
/// The digits of a time in Unix seconds, until the year 2286.
const TIME_LENGTH: usize = 10;

/// What the events are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadSettings {
    /// Different ids and another order; the tag sets are the same whatever the seed.
    pub(crate) seed: u64,
    /// How many tag sets there are; at least 1.
    pub(crate) tag_sets: u32,
    /// How many app groups share them; at least 1.
    pub(crate) app_groups: u32,
    /// How many events of a hundred are of a type that is not counted.
    pub(crate) ignored_percent: u32,
}

/// An event as text, with gaps for its id and its time.
#[derive(Debug, Clone, Copy)]
struct Template {
    start: usize,
    length: usize,
    id_at: usize,
    time_at: usize,
}

/// Every tag set's event, one behind the other.
#[derive(Debug)]
pub(crate) struct Templates {
    settings: LoadSettings,
    text: String,
    sends: Vec<Template>,
    no_sends: Vec<Template>,
}

impl Templates {
    /// Writes them all: 0.8 KB for each tag set.
    pub(crate) fn new(settings: LoadSettings) -> Self {
        let text = String::new();
        let mut templates = Self { settings, text, sends: Vec::new(), no_sends: Vec::new() };
        for set in 0..settings.tag_sets {
            let event_type = SENDS[set as usize % SENDS.len()];
            let template = templates.write(event_type, set);
            templates.sends.push(template);
        }
        for (set, event_type) in (0..settings.tag_sets.min(600)).zip(NO_SENDS.iter().cycle()) {
            let template = templates.write(event_type, set);
            templates.no_sends.push(template);
        }
        templates
    }

    /// The id of the app group of a tag set.
    pub(crate) fn app_group(&self, set: u32) -> String {
        uuid("app group", set % self.settings.app_groups)
    }

    fn write(&mut self, event_type: &str, set: u32) -> Template {
        let app_group = self.app_group(set);
        let out = &mut self.text;
        let start = out.len();
        // Writing into a String can't fail, here and below.
        let _ = write!(out, "{{\"event_type\":\"{event_type}\",\"id\":\"");
        let id_at = out.len() - start;
        out.extend(std::iter::repeat_n('0', ID_LENGTH));
        out.push_str("\",\"time\":");
        let time_at = out.len() - start;
        out.extend(std::iter::repeat_n('0', TIME_LENGTH));
        let (user, device) = (uuid("user", set), uuid("device", set));
        let _ = write!(
            out,
            ",\"user\":{{\"user_id\":\"{}\",\"external_user_id\":\"customer-{set}\",\"device_id\":\"{device}\",\
             \"timezone\":\"Europe/Vienna\"}},\"properties\":{{\"app_group_id\":\"{app_group}\",\
             \"app_id\":\"{}\"",
            &hex(&user)[..24],
            uuid("app", set % 7),
        );
        write_source(out, set);
        let _ = write!(
            out,
            ",\"dispatch_id\":\"{}\",\"message_variation_id\":\"{}\",\"email_address\":\
             \"reader{set}@example.com\",\"ip_pool\":\"marketing\",\
             \"country\":\"AT\",\"language\":\"de\",\"source\":\"ACTION_BASED\",\"send_id\":null,\
             \"message_extras\":\"{EXTRAS}\"}}}}",
            hex(&uuid("dispatch", set)),
            uuid("variation", set),
        );
        Template { start, length: out.len() - start, id_at, time_at }
    }
}

/// What was sent: two of three tag sets are campaigns, the others steps of a Canvas, four to each. Braze names
/// some of them late.
fn write_source(out: &mut String, set: u32) {
    let name = NAMES[set as usize % NAMES.len()];
    let _ = if set % 3 == 2 {
        write!(
            out,
            ",\"canvas_id\":\"{}\",\"canvas_name\":\"{name} {}\",\"canvas_step_id\":\"{}\",\
             \"canvas_step_name\":\"Step {set}\",\"canvas_variation_name\":\"Variant 1\"",
            uuid("canvas", set / 12),
            set / 12,
            uuid("step", set),
        )
    } else if set % 16 == 15 {
        write!(out, ",\"campaign_id\":\"{}\",\"campaign_name\":null", uuid("campaign", set))
    } else {
        write!(out, ",\"campaign_id\":\"{}\",\"campaign_name\":\"{name} {set}\"", uuid("campaign", set))
    };
}

/// An endless row of events.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    templates: Arc<Templates>,
    chance: u64,
    /// The number of the next id.
    number: u64,
    seed: u64,
    /// The natural logarithm of one more than there are tag sets.
    span: f64,
}

impl Events {
    /// `row` sets ids apart: rows of one seed with different numbers have no id in common.
    pub(crate) fn new(templates: &Arc<Templates>, row: u32) -> Self {
        let LoadSettings { seed, tag_sets, .. } = templates.settings;
        Self {
            templates: Arc::clone(templates),
            chance: mix(seed ^ mix(u64::from(row))),
            number: u64::from(row) << 40,
            seed: mix(seed),
            span: (f64::from(tag_sets) + 1.0).ln(),
        }
    }

    /// Appends the next event, and returns its tag set; none for an event that is no send.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, time: u64) -> Option<u32> {
        let set = self.tag_set();
        let draw = self.next() % 100;
        let is_send = draw >= u64::from(self.templates.settings.ignored_percent);
        let templates = &*self.templates;
        let template = if is_send {
            templates.sends[set as usize]
        } else {
            templates.no_sends[set as usize % templates.no_sends.len()]
        };
        let start = out.len();
        out.extend_from_slice(&templates.text.as_bytes()[template.start..template.start + template.length]);
        let event = &mut out[start..];
        self.write_id(&mut event[template.id_at..template.id_at + ID_LENGTH]);
        write_digits(&mut event[template.time_at..template.time_at + TIME_LENGTH], time);
        is_send.then_some(set)
    }

    /// Zipf's law with exponent 1, as a continuous curve: the first of 2,000 gets 9 % of the events, the last
    /// one in 15,000.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "53 bits of chance; the power lies between 1 and the number of tag sets"
    )]
    fn tag_set(&mut self) -> u32 {
        let fraction = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (fraction * self.span).exp() as u32;
        rank.clamp(1, self.templates.settings.tag_sets) - 1
    }

    /// Every number of a seed gets an id that no other number has, for `mix` maps no two alike.
    fn write_id(&mut self, id: &mut [u8]) {
        let first = mix(self.seed ^ self.number);
        let bytes = (u128::from(first) << 64 | u128::from(mix(first))).to_be_bytes();
        self.number += 1;
        write_uuid(id, bytes);
    }

    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.chance)
    }
}

/// The finish of `splitmix64`: scatters the bits, and maps no two numbers alike.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// An id that is always the same for the same thing.
fn uuid(kind: &str, number: u32) -> String {
    let kind = kind.bytes().fold(1, |hash, byte| mix(hash ^ u64::from(byte)));
    let first = mix(kind ^ (u64::from(number) << 8));
    let mut id = [0; ID_LENGTH];
    write_uuid(&mut id, (u128::from(first) << 64 | u128::from(mix(first))).to_be_bytes());
    String::from_utf8_lossy(&id).into_owned()
}

fn hex(uuid: &str) -> String {
    uuid.replace('-', "")
}

/// 8-4-4-4-12 hexadecimal digits.
fn write_uuid(out: &mut [u8], bytes: [u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (number, byte) in bytes.into_iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            out[at] = b'-';
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
}

/// As many digits as there is room for.
fn write_digits(out: &mut [u8], number: u64) {
    let mut left = number;
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(left % 10).unwrap_or_default()];
        left /= 10;
    }
}
