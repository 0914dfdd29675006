use proptest::prelude::*;

use super::*;

#[track_caller]
fn assert_read(query: &str, id: Option<&str>, name: Option<&str>) {
    let defaults = read(query);
    assert_eq!(defaults.event_type, None);
    assert_eq!((defaults.app_group_id.as_deref(), defaults.app_group_name.as_deref()), (id, name));
}

#[test]
fn both_fields_are_read_and_others_are_ignored() {
    let query = "x=1&app_group_name=Acme+EMEA%2C%20%C3%BC&app_group_id=5f-a&event_type=no";
    assert_read(query, Some("5f-a"), Some("Acme EMEA, ü"));
    assert_read("", None, None);
    assert_read("app_group_id&app_group_name=", None, None);
}

#[test]
fn the_first_value_that_is_not_empty_counts() {
    assert_read("app_group_id=&app_group_id=a&app_group_id=b", Some("a"), None);
}

#[test]
fn what_is_not_encoded_properly_is_kept_as_well_as_can_be() {
    assert_read("app_group_id=100%&app_group_name=%zz%4", Some("100%"), Some("%zz%4"));
    assert_read("app_group_id=a%FFb", Some("a\u{fffd}b"), None);
    assert_read("app_group_id=a=b%3Dc", Some("a=b=c"), None);
    assert_read("app_group_id=a%00b", Some("a\u{fffd}b"), None);
}

proptest! {
    /// No query is a reason to panic.
    #[test]
    fn any_query_is_read(query in "[a-z_&=%+0-9A-F]{0,60}") {
        read(&query);
    }
}

fn bound(ids: &[&str], query: Option<&str>) -> Option<(Option<String>, bool)> {
    let app_groups: AppGroups = ids.iter().map(|id| Box::from(*id)).collect();
    let defaults = read_within(query.unwrap_or_default(), &app_groups).ok()?;
    let id = defaults.app_group_id.as_deref().map(str::to_owned);
    Some((id, defaults.app_group_id.is_some()))
}

#[test]
fn what_an_event_leaves_out_is_the_urls_or_the_only_one_of_the_token() {
    let named = |id: &str| Some((Some(id.to_owned()), true));
    assert_eq!(bound(&["g-1"], None), named("g-1"));
    assert_eq!(bound(&["g-1"], Some("app_group_name=x&app_group_id=")), named("g-1"));
    assert_eq!(bound(&["g-1", "g-2"], Some("app_group_id=g-2")), named("g-2"));
    assert_eq!(bound(&["g-1", "g-2"], None), Some((None, false)));
}

#[test]
fn the_case_of_a_uuid_makes_no_difference_and_the_url_keeps_its_own() {
    let (small, capitals) = ("5f3e8f0a-1234-4cde-9abc-0123456789ab", "5F3E8F0A-1234-4CDE-9ABC-0123456789AB");
    let query = format!("app_group_id={capitals}");
    assert_eq!(bound(&[small], Some(&query)), Some((Some(capitals.to_owned()), true)));
    assert_eq!(bound(&[small, "x"], Some(&query)), Some((Some(capitals.to_owned()), true)));
    assert_eq!(bound(&["x"], Some(&query)), None);
}

#[test]
fn a_url_can_not_name_what_the_token_is_not_bound_to() {
    for query in
        ["app_group_id=g-3", "app_group_id=G-1", "app_group_id=g-1+", "app_group_id=g-3&app_group_id=g-1"]
    {
        assert_eq!(bound(&["g-1", "g-2"], Some(query)), None, "{query}");
    }
}
