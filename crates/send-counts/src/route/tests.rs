use super::*;

struct Connection {
    ids: Vec<Box<str>>,
    names: HashMap<Box<str>, Box<str>>,
}

fn connection(app_groups: &[&str], names: &[(&str, &str)]) -> Connection {
    Connection {
        ids: app_groups.iter().map(|id| (*id).into()).collect(),
        names: names.iter().map(|(id, name)| ((*id).into(), (*name).into())).collect(),
    }
}

fn router(connections: &[Connection]) -> Router {
    let served = connections.iter().map(|Connection { ids, names }| AppGroups { ids, names });
    Router::new(&(0u32..).map(ConnectionId).zip(served).collect::<Vec<_>>())
}

#[test]
fn an_app_group_goes_to_the_connection_that_names_it_and_the_rest_to_the_catch_all() {
    let router = router(&[connection(&[], &[("z", "Zed")]), connection(&["x", "y"], &[("x", "Ex")])]);
    let route = |id: &str| router.route(id.as_bytes()).map(|r| (r.connection.0, &*r.app_group_name));
    assert_eq!(route("x"), Some((1, "Ex")));
    assert_eq!(route("y"), Some((1, "")));
    assert_eq!(route("z"), Some((0, "Zed")));
    assert_eq!(route("other"), Some((0, "")));
    assert_eq!(route(""), Some((0, "")));
}

#[test]
fn the_case_of_a_uuid_makes_no_difference_to_route_and_name() {
    const SMALL: [&str; 2] = ["5f3e8f0a-1234-4cde-9abc-0123456789ab", "aaaaaaaa-1234-4cde-9abc-0123456789ab"];
    let capitals = SMALL.map(str::to_uppercase);
    let mixed = SMALL.map(|id| id.replacen('a', "A", 1));
    let router = router(&[
        connection(&[], &[(&capitals[1], "Zed")]),
        connection(&[&capitals[0], "Opaque"], &[(&mixed[0], "Ex"), ("opaque", "never")]),
    ]);
    let route = |id: &str| router.route(id.as_bytes()).map(|r| (r.connection.0, &*r.app_group_name));
    for id in [SMALL[0], &capitals[0], &mixed[0]] {
        assert_eq!(route(id), Some((1, "Ex")), "{id}");
    }
    for id in [SMALL[1], &capitals[1], &mixed[1]] {
        assert_eq!(route(id), Some((0, "Zed")), "{id}");
    }
    assert_eq!(route("Opaque"), Some((1, "")));
    assert_eq!(route("opaque"), Some((0, "")));
    assert_eq!(route("BBBBBBBB-1234-4CDE-9ABC-0123456789AB"), Some((0, "")));
}

#[test]
fn without_a_catch_all_an_unnamed_app_group_has_no_route() {
    let router = router(&[connection(&["x"], &[])]);
    assert!(router.route(b"other").is_none());
    assert!(router.route(b"").is_none());
}

#[test]
fn what_a_refused_connection_serves_goes_to_nobody_else() {
    let all = [connection(&[], &[]), connection(&["x"], &[])];
    let with = |ids: Option<&[Box<str>]>| router(&all).refusing(&[(ConnectionId(2), RefusedGroups { ids })]);
    let route = |router: &Router, id: &str| {
        router.route(id.as_bytes()).map(|route| (route.connection.0, route.is_refused))
    };
    let known = with(Some(&["y".into(), "x".into()]));
    assert_eq!(route(&known, "y"), Some((2, true)));
    assert_eq!(route(&known, "x"), Some((1, false)), "another connection serves it");
    assert_eq!(route(&known, "other"), Some((0, false)));
    // Of two that serve the rest, the one that is right does.
    assert_eq!(route(&with(Some(&[])), "other"), Some((0, false)));
    let unknown = with(None);
    assert_eq!(route(&unknown, "other"), Some((2, true)), "it may be one of the refused connection's");
    assert_eq!(route(&unknown, "x"), Some((1, false)));
    let alone = Router::new(&[]).refusing(&[(ConnectionId(0), RefusedGroups { ids: Some(&[]) })]);
    assert_eq!(route(&alone, "other"), Some((0, true)));
}

#[test]
fn a_name_that_the_connection_of_the_rest_has_for_it_serves_no_refused_app_group() {
    const UUID: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
    let capitals = UUID.to_uppercase();
    let all = [connection(&[], &[("y", "Acme"), (&capitals, "Other"), ("z", "Zed")])];
    let with = |ids: Option<&[Box<str>]>| router(&all).refusing(&[(ConnectionId(1), RefusedGroups { ids })]);
    let route = |router: &Router, id: &str| {
        router.route(id.as_bytes()).map(|route| (route.connection.0, route.is_refused))
    };
    let known = with(Some(&["y".into(), UUID.into()]));
    for id in ["y", UUID, &capitals] {
        assert_eq!(route(&known, id), Some((1, true)), "{id}");
    }
    assert_eq!(known.route(b"z").map(|route| &*route.app_group_name), Some("Zed"));
    let unknown = with(None);
    for id in ["y", UUID, &capitals, "z", "other"] {
        assert_eq!(route(&unknown, id), Some((1, true)), "{id} may be one of the refused connection's");
    }
}

#[test]
fn hundreds_of_connections_each_get_their_own() {
    let all: Vec<_> = (0..500).map(|n| connection(&[&format!("group-{n}")], &[])).collect();
    let router = router(&all);
    for n in 0..500u32 {
        assert_eq!(router.route(format!("group-{n}").as_bytes()).map(|r| r.connection.0), Some(n));
    }
}
