use libdd_trace_normalization::normalize_utils::normalize_tag_cloned as datadogs;
use proptest::prelude::*;

use super::*;

/// Bytes of a tag beyond which Datadog's normaliser cuts it.
const BYTES_MAX: usize = 2 * TAG_CHARACTERS_MAX;

#[test]
fn a_name_is_stored_in_small_letters_with_underscores() {
    for (name, stored) in [
        ("Weekly Newsletter", "weekly_newsletter"),
        ("weekly_newsletter", "weekly_newsletter"),
        ("Weekly!!Newsletter!", "weekly_newsletter"),
        ("  Weekly -- Newsletter  ", "_weekly_--_newsletter"),
        ("50% OFF / v1.2", "50_off_/_v1.2"),
        ("a:b", "a:b"),
        ("a__ _b", "a_b"),
        ("Été à Zürich", "été_à_zürich"),
        ("ΣΟΦΙΑ Щука", "σοφια_щука"),
        ("週刊ニュース 📰!", "週刊ニュース"),
        ("🎉🎉", ""),
        ("___", ""),
        ("5ea1f0c2-AB", "5ea1f0c2-ab"),
    ] {
        assert_eq!(stored_value("campaign_name", name), stored, "{name:?}");
    }
}

#[test]
fn a_tag_begins_with_a_letter_or_a_colon() {
    for (tag, stored) in
        [("1love", "love"), ("_foo", "foo"), ("12.:trim@@", ":trim"), ("", ""), (" ", ""), ("9", "")]
    {
        assert_eq!(stored_tag(tag), stored, "{tag:?}");
    }
}

#[test]
fn a_tag_is_cut_at_two_hundred_characters_of_any_width() {
    let stored = stored_tag(&format!("campaign_name:{}", "週".repeat(300)));
    assert_eq!(stored.chars().count(), 200);
    // What is left out does not count; an underscore that comes to the end goes, too.
    assert_eq!(stored_tag(&format!("{}!!!!b", "a".repeat(198))), format!("{}_b", "a".repeat(198)));
    assert_eq!(stored_tag(&format!("{}!!!!b", "a".repeat(199))), "a".repeat(199));
}

#[test]
fn capital_letters_that_have_no_equal_small_one_are_treated_as_datadog_does() {
    for tag in ["aȺ", "aİ", "aẞ", "aǅ", "aſ", "aK", "aⅣ", "aⓐ", "a²", "aª", "e\u{301}", "हिन्दी"]
    {
        assert_eq!(stored_tag(tag), datadogs(tag), "{tag:?}");
    }
}

#[test]
fn every_character_is_treated_as_datadog_does() {
    for character in '\0'..=char::MAX {
        for tag in [format!("{character}a"), format!("a{character}"), format!("a{character}a")] {
            assert_eq!(stored_tag(&tag), datadogs(&tag), "{tag:?}");
        }
    }
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,100}",
        any::<String>(),
        "[a-zA-Z0-9_:./ !é週🎉-]{0,100}",
        "[a-z]{190,205}[!_ a]{0,10}[a-z]{0,10}",
    ]
}

proptest! {
    /// The result is what Datadog's own normaliser makes of the tag, or begins with it where that cuts at 400
    /// bytes.
    #[test]
    fn a_tag_is_stored_as_datadogs_normaliser_has_it(tag in tag()) {
        let (ours, theirs) = (stored_tag(&tag), datadogs(&tag));
        if ours.len() < BYTES_MAX {
            prop_assert_eq!(ours, theirs);
        } else {
            prop_assert!(ours.starts_with(&theirs), "{} {}", ours, theirs);
        }
    }

    /// What is stored is stored as it is: a query that was written with the result finds the result.
    #[test]
    fn a_stored_tag_is_stored_unchanged(tag in tag()) {
        let stored = stored_tag(&tag);
        prop_assert_eq!(stored_tag(&stored), stored);
    }

    /// A value is what stands behind the key in the whole tag.
    #[test]
    fn a_value_is_the_rest_of_its_tag(value in tag()) {
        let stored = format!("canvas_step_name:{}", stored_value("canvas_step_name", &value));
        prop_assert_eq!(stored, stored_tag(&format!("canvas_step_name:{value}")));
    }
}
