//! Sends as Braze has them in Kafka, 690 bytes each: a text with gaps that are filled, so that a thread makes more than a million
//! a second. Pure.

use super::population::{ID_LENGTH, IdOf, Population, id, mix};

/// Digits of the number in a name.
const NUMBER: usize = 7;

const HEAD: &str = r#"{"event_type":"users.messages.email.Send","id":"{event                             }","time":{time    },"user":{"user_id":"{user                  }","external_user_id":"customer-4711-0815","device_id":"9a3f0c52-77aa-4be1-8f5e-0c7a1d2b3c4d","timezone":"Europe/Vienna"},"properties":{"app_group_id":"{group                             }","app_id":"4d2b1c5e-0a9f-4c3d-8e7b-6a5f4e3d2c1b","#;
const CAMPAIGN: &str =
    r#""campaign_id":"{source                            }","campaign_name":"Weekly newsletter {numbr}","#;
const STEP: &str = r#""canvas_id":"{canvas                            }","canvas_name":"Cart reminder {numbr}","canvas_step_id":"{source                            }","canvas_step_name":"E-mail {s","#;
const TAIL: &str = r#""message_variation_id":"1b2c3d4e-5f60-4718-92a3-b4c5d6e7f809","email_address":"reader@example.com","country":"AT","language":"de","source":"ACTION_BASED","send_id":null}}"#;

/// A text, and where its gaps are; a gap that it does not have is behind its end.
#[derive(Debug)]
struct Template {
    text: Vec<u8>,
    event: usize,
    time: usize,
    user: usize,
    group: usize,
    source: usize,
    canvas: usize,
    number: usize,
    step: usize,
}

impl Template {
    fn new(middle: &str) -> Self {
        let text = [HEAD, middle, TAIL].concat();
        let find = |gap: &str| text.find(gap).unwrap_or(text.len());
        Self {
            event: find("{event "),
            time: find("{time "),
            user: find("{user "),
            group: find("{group "),
            source: find("{source "),
            canvas: find("{canvas "),
            number: find("{numbr}"),
            step: find("{s\""),
            text: text.into_bytes(),
        }
    }
}

/// An endless row of sends.
#[derive(Debug)]
pub(crate) struct Sends {
    campaign: Template,
    step: Template,
    chance: u64,
    number: u64,
}

/// A third of all tag sets are steps of a Canvas, four to each; the names of steps are those of every other Canvas.
fn is_step(set: u32) -> bool {
    set % 3 == 2
}

/// What tells the tag set among all tags: its campaign's or its step's id, as a tag.
pub(crate) fn tag_of(set: u32) -> String {
    let (key, of) =
        if is_step(set) { ("canvas_step_id", IdOf::Step) } else { ("campaign_id", IdOf::Campaign) };
    format!("{key}:{}", super::population::id_text(of, set.into()))
}

impl Sends {
    pub(crate) fn new(seed: u64) -> Self {
        let (campaign, step) = (Template::new(CAMPAIGN), Template::new(STEP));
        Self { campaign, step, chance: mix(seed), number: seed << 40 }
    }

    /// A number by chance.
    pub(crate) fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.chance)
    }

    /// A tag set by chance.
    pub(crate) fn tag_set(&mut self, population: &Population) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits of chance")]
        population.draw((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Writes the next send of a tag set, from another user each, whose id is the message's key.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, owner: u16, set: u32, time: u64) -> [u8; 24] {
        let user = self.next() % 50_000_000;
        let template = if is_step(set) { &self.step } else { &self.campaign };
        out.clear();
        out.extend_from_slice(&template.text);
        let put =
            |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(out, template.event, &id(IdOf::Event, self.number));
        self.number += 1;
        put(out, template.time, &digits::<10>(time));
        let mut key = [0; 24];
        key.copy_from_slice(&id(IdOf::User, user)[ID_LENGTH - 24..]);
        for byte in &mut key {
            if *byte == b'-' {
                *byte = b'0';
            }
        }
        put(out, template.user, &key);
        put(out, template.group, &id(IdOf::AppGroup, owner.into()));
        if is_step(set) {
            put(out, template.source, &id(IdOf::Step, set.into()));
            put(out, template.canvas, &id(IdOf::Canvas, (set / 12).into()));
            put(out, template.number, &digits::<NUMBER>((set / 12).into()));
            put(out, template.step, &digits::<2>((set / 3 % 4 + 1).into()));
        } else {
            put(out, template.source, &id(IdOf::Campaign, set.into()));
            put(out, template.number, &digits::<NUMBER>(set.into()));
        }
        key
    }
}

fn digits<const N: usize>(number: u64) -> [u8; N] {
    let (mut out, mut left) = ([0; N], number);
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(left % 10).unwrap()];
        left /= 10;
    }
    out
}
