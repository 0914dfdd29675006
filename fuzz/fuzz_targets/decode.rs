//! Whatever the bytes, the decoder and a plain reading with `serde_json` find the same elements, and so does whoever
//! reads the extract that the push handler has made of them.
#![no_main]

use braze_events::{Decoded, EventDefaults, FIELDS, Field, Framing, Malformed, SendEvent, Skipped, decode};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/braze-events/src/decode/reference.rs"]
mod reference;

fuzz_target!(|body: &[u8]| {
    // Every length has its own way, so that an input is a body and nothing else.
    let has = |bit: usize| body.len() >> bit & 1 == 1;
    let text = |bit: usize, text: &str| has(bit).then(|| Box::from(text));
    let defaults = EventDefaults {
        event_type: text(1, reference::SMS),
        app_group_id: text(2, "og"),
        app_group_name: text(3, "on"),
    };
    for framing in [Framing::Document, Framing::Lines] {
        reference::compare(body, &framing, has(0), &defaults);
    }
    // An extract is only ever read from behind a checksum; even so it must not panic.
    let mut decoder = decode::Decoder::new(&reference::counted(), has(0));
    decoder.decode(body, &Framing::Extract, &defaults, |_| ());
});
