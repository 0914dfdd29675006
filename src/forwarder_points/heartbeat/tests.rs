use super::*;

#[test]
fn its_tags_are_the_static_ones_connection_and_version_sorted_and_each_once() {
    let static_tags = ["zone:a".into(), "env:prod".into(), "connection:acme".into()];
    let heartbeat = point("acme", &static_tags, 7);
    let version = format!("version:{}", env!("CARGO_PKG_VERSION"));
    let tags: Vec<&str> = heartbeat.tags.iter().map(|tag| &**tag).collect();
    assert_eq!(tags, ["connection:acme", "env:prod", &version, "zone:a"]);
    assert_eq!((heartbeat.metric, heartbeat.time, heartbeat.value), ("braze.forwarder.heartbeat", 7, 1));
}
