use proptest::prelude::*;

use super::*;

#[track_caller]
fn assert_read(query: &str, id: Option<&str>, name: Option<&str>) {
    let origin = read(query);
    assert_eq!(origin.event_type, None);
    assert_eq!((origin.app_group_id.as_deref(), origin.app_group_name.as_deref()), (id, name));
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
}

proptest! {
    /// No query is a reason to panic.
    #[test]
    fn any_query_is_read(query in "[a-z_&=%+0-9A-F]{0,60}") {
        read(&query);
    }
}
