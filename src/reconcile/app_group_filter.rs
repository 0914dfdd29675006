//! The app groups that have sends, where those of one of them are wanted.

use std::collections::BTreeSet;

use admin_api::format::harmless;
use braze_events::app_group;

/// Others that are named.
const NAMED_MAX: usize = 20;

/// Whether two ids are of one app group.
pub(super) fn is_same(id: &str, other: &str) -> bool {
    id == other || app_group::canonical(id) == app_group::canonical(other)
}

/// Whether the wanted app group is among those that have sends.
#[derive(Debug)]
pub struct AppGroupFilter<'w> {
    wanted: &'w str,
    is_there: bool,
    has_unknown: bool,
    others: BTreeSet<String>,
}

impl<'w> AppGroupFilter<'w> {
    /// Where those of `wanted` are; empty: all.
    pub fn new(wanted: &'w str) -> Self {
        Self { wanted, is_there: wanted.is_empty(), has_unknown: false, others: BTreeSet::new() }
    }

    /// Whether sends of this app group are wanted, which has some.
    pub fn note(&mut self, app_group_id: &str) -> bool {
        let is_wanted = self.wanted.is_empty() || is_same(self.wanted, app_group_id);
        self.is_there |= is_wanted;
        self.has_unknown |= app_group_id.is_empty();
        // One more tells that there are more.
        let is_other = !is_wanted && !app_group_id.is_empty() && self.others.len() <= NAMED_MAX;
        if is_other && !self.others.contains(app_group_id) {
            self.others.insert(app_group_id.to_owned());
        }
        is_wanted
    }

    /// Says so where others have sends, and the wanted one has none.
    pub fn missing(&self) -> Option<String> {
        if self.is_there || (self.others.is_empty() && !self.has_unknown) {
            return None;
        }
        let wanted = self.wanted;
        let mut named: Vec<String> =
            self.others.iter().take(NAMED_MAX).map(|other| harmless(other)).collect();
        if self.others.len() > NAMED_MAX {
            named.push("others".to_owned());
        }
        let rest = if named.is_empty() {
            "some whose app group it does not know: has its tags.include the tag app_group_id?".to_owned()
        } else {
            format!("some of {}: is the id right?", named.join(", "))
        };
        Some(format!("the forwarder has no sends of the app group {wanted:?}, but {rest}"))
    }

    /// Whether some sends that are left out are of an app group that is not known.
    pub fn leaves_out_unknown(&self) -> bool {
        self.has_unknown && !self.wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(wanted: &str, others: &[&str]) -> Option<String> {
        let mut groups = AppGroupFilter::new(wanted);
        for other in others {
            groups.note(other);
        }
        groups.missing()
    }

    #[test]
    fn a_group_is_missed_only_where_others_have_sends() {
        assert_eq!(missing("emea", &[]), None);
        assert_eq!(missing("", &["a", ""]), None);
        assert_eq!(missing("EMEA", &["a", "EMEA"]), None);
        assert!(missing("EMEA", &["emea"]).unwrap().ends_with("but some of emea: is the id right?"));
        let small = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
        assert_eq!(missing(&small.to_uppercase(), &["a", small]), None);
        let told = |others: &[&str]| missing("emae", others).unwrap();
        assert!(told(&["b", "a", "a"]).ends_with("\"emae\", but some of a, b: is the id right?"));
        assert!(told(&[""]).ends_with("has its tags.include the tag app_group_id?"));
        let many: Vec<String> = (10..99).map(|number| format!("g{number}")).collect();
        let many: Vec<&str> = many.iter().map(|name| &**name).collect();
        assert!(told(&many).ends_with("g28, g29, others: is the id right?"), "{}", told(&many));
        assert!(told(&["a\u{1b}[2J"]).contains("a\u{fffd}[2J"));
    }
}
