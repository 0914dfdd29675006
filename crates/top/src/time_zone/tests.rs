use super::*;

#[test]
fn a_time_zone_is_named_by_the_environment_or_by_the_machine() {
    for (tz, local, name) in [
        (None, Some("/usr/share/zoneinfo/Europe/Paris"), Some("Europe/Paris")),
        (None, Some("../usr/share/zoneinfo/Asia/Tokyo"), Some("Asia/Tokyo")),
        (Some("America/New_York"), Some("/usr/share/zoneinfo/Europe/Paris"), Some("America/New_York")),
        (Some(":America/New_York"), None, Some("America/New_York")),
        (Some(":/usr/share/zoneinfo/Asia/Kathmandu"), None, Some("Asia/Kathmandu")),
        (Some(""), Some("/usr/share/zoneinfo/Europe/Paris"), None),
        (Some("/elsewhere"), None, None),
        (None, Some("/etc/own-rules"), None),
        (None, None, None),
    ] {
        assert_eq!(name_of(tz, local.map(Path::new)).as_deref(), name, "{tz:?} {local:?}");
    }
}
