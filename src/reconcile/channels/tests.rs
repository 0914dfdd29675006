use super::*;
use braze_events::SEND_TYPES;

#[test]
fn every_type_that_is_a_send_has_a_channel_and_what_is_only_shown_has_none() {
    let all: Vec<&str> = SEND_TYPES.iter().map(|(name, _)| *name).collect();
    let types = CountedTypes::parse(&all.join(", "));
    let channels = [
        "email",
        "ios_push",
        "android_push",
        "web_push",
        "kindle_push",
        "sms",
        "webhook",
        "whatsapp",
        "content_cards",
        "rcs",
        "line",
    ];
    assert!(channels.iter().all(|channel| types.have(channel)));
    let reached: BTreeSet<_> = channels.iter().filter_map(|channel| event_type(channel)).collect();
    // A live activity has neither campaign nor Canvas.
    let left: Vec<_> = all.iter().filter(|name| !reached.contains(**name)).collect();
    assert_eq!(left, [&"users.messages.liveactivity.Send"]);
    for channel in ["in_app_message", "trigger_in_app_message", "banner", "feature_flag", "fax", ""] {
        assert!(!types.have(channel), "{channel}");
    }
    assert!(!CountedTypes::parse("users.messages.email.Send").have("sms"));
}
