//! Whom a request may speak for.

use std::sync::Arc;

use super::origin;
use super::refusal::Refusal;
use super::token::AppGroups;
use braze_events::app_group;
use braze_events::decode::Scope;
use event_queues::Origin;

/// Whom a request may speak for, by its token.
#[derive(Debug, Clone)]
pub(super) enum TokenScope {
    /// Every app group: nothing is looked at event by event.
    Anyone,
    /// Some.
    Bound(Bound),
}

/// A request whose token is bound to app groups.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    app_groups: AppGroups,
    /// What holds for its events that name no app group: the URL's, else the only one of the token.
    pub(super) origin: Arc<Origin>,
}

impl Bound {
    /// Holds the URL's query against the token's app groups.
    pub(super) fn new(app_groups: AppGroups, query: Option<&str>) -> Result<Self, Refusal> {
        let mut origin = query.map(origin::read).unwrap_or_default();
        match (&origin.app_group_id, &*app_groups) {
            (Some(named), own) if own.contains(&app_group::canonical(named)) => {}
            (Some(_), _) => return Err(Refusal::ForeignUrl),
            (None, [only]) => origin.app_group_id = Some(only.clone()),
            (None, _) => {}
        }
        Ok(Self { app_groups, origin: Arc::new(origin) })
    }

    /// What its events may say.
    pub(super) fn mandate(&self) -> Scope<'_> {
        Scope { app_groups: &self.app_groups, may_be_silent: self.origin.app_group_id.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(ids: &[&str], query: Option<&str>) -> Option<(Option<String>, bool)> {
        let app_groups = ids.iter().map(|id| Box::from(*id)).collect();
        let bound = Bound::new(app_groups, query).ok()?;
        let id = bound.origin.app_group_id.as_deref().map(str::to_owned);
        Some((id, bound.mandate().may_be_silent))
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
        let (small, capitals) =
            ("5f3e8f0a-1234-4cde-9abc-0123456789ab", "5F3E8F0A-1234-4CDE-9ABC-0123456789AB");
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
}
