//! The state of the view, and its reaction to keys. Pure: time is an argument.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use admin_api::{BusyCampaign, ConnectionStatus, FlowState, SearchAnswer, Status};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Characters of a search.
const QUERY_MAX: usize = 200;

/// How many rows a page key moves.
const PAGE_ROWS: usize = 10;

/// The panes, shown one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// Each connection with its last outcome.
    Connections,
    /// The busiest campaigns.
    Campaigns,
    /// The busiest Canvas steps.
    Steps,
    /// The books and the queue.
    Books,
    /// The configuration as loaded.
    Configuration,
    /// A search.
    Search,
}

impl Pane {
    /// In their order.
    pub const ALL: [Pane; 6] =
        [Pane::Connections, Pane::Campaigns, Pane::Steps, Pane::Books, Pane::Configuration, Pane::Search];

    /// Its title.
    pub const fn title(self) -> &'static str {
        match self {
            Pane::Connections => "Connections",
            Pane::Campaigns => "Campaigns",
            Pane::Steps => "Steps",
            Pane::Books => "Books",
            Pane::Configuration => "Configuration",
            Pane::Search => "Search",
        }
    }
}

/// The orders of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Those in trouble first.
    Trouble,
    /// The name.
    Name,
    /// Sends accepted.
    Accepted,
    /// Sends dropped.
    Dropped,
}

impl Sort {
    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Sort::Trouble => "trouble first",
            Sort::Name => "by name",
            Sort::Accepted => "by accepted",
            Sort::Dropped => "by dropped",
        }
    }

    const fn next(self) -> Self {
        match self {
            Sort::Trouble => Sort::Name,
            Sort::Name => Sort::Accepted,
            Sort::Accepted => Sort::Dropped,
            Sort::Dropped => Sort::Trouble,
        }
    }
}

/// The effect of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEffect {
    /// Draw again.
    Draw,
    /// End.
    Quit,
    /// Search for this.
    Search(String),
}

/// The state of the view.
#[derive(Debug, Clone)]
pub struct TopState {
    /// The address of the admin port.
    pub url: String,
    /// The last answer; `None`: there was none yet.
    pub status: Option<Status>,
    /// How long ago it came.
    pub age: Duration,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// The pane that is shown.
    pub pane: Pane,
    /// The selected row.
    pub row: usize,
    /// The order of connections.
    pub sort: Sort,
    /// Whether keys go to the search.
    pub is_typing: bool,
    /// What is typed.
    pub query: String,
    /// The last query that was asked.
    pub asked: String,
    /// Its result: the search, or why there is none.
    pub answer: Option<Result<SearchAnswer, String>>,
}

/// Searches take turns, one at a time: whoever looks does not pile them up before a forwarder that is slow to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SearchTurns {
    under_way: Option<String>,
    next: Option<String>,
}

impl SearchTurns {
    /// The query to ask now, if that is this one's turn; else it is asked after the one under way, in the place of what
    /// was to come before.
    pub(crate) fn want(&mut self, query: &str) -> Option<String> {
        if let Some(under_way) = &self.under_way {
            self.next = (under_way != query).then(|| query.to_owned());
            return None;
        }
        self.under_way = Some(query.to_owned());
        self.under_way.clone()
    }

    /// The query to ask now that the one under way has ended.
    pub(crate) fn end(&mut self) -> Option<String> {
        self.under_way = self.next.take();
        self.under_way.clone()
    }
}

impl TopState {
    /// Before the first answer.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            status: None,
            age: Duration::ZERO,
            trouble: None,
            pane: Pane::Connections,
            row: 0,
            sort: Sort::Trouble,
            is_typing: false,
            query: String::new(),
            asked: String::new(),
            answer: None,
        }
    }

    /// Takes an answer, or the reason why there was none.
    pub fn answered(&mut self, answer: Result<Status, String>) {
        match answer {
            Ok(status) => {
                self.status = Some(status);
                self.age = Duration::ZERO;
                self.trouble = None;
                self.row = self.row.min(self.rows().saturating_sub(1));
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Takes the result of a search, unless another one was asked since.
    pub fn searched(&mut self, query: &str, answer: Result<SearchAnswer, String>) {
        if query == self.asked {
            self.answer = Some(answer);
            self.row = if self.pane == Pane::Search {
                self.row.min(self.rows().saturating_sub(1))
            } else {
                self.row
            };
        }
    }

    /// The search to ask once more, so that what is shown is of now: that in sight.
    pub fn search_in_sight(&self) -> Option<&str> {
        (self.pane == Pane::Search && !self.asked.is_empty()).then_some(&*self.asked)
    }

    /// The result of what stands in the line: none while something else is typed.
    pub fn answer(&self) -> Option<Result<&SearchAnswer, &str>> {
        let answer = self.answer.as_ref().filter(|_| self.query == self.asked)?;
        Some(answer.as_ref().map_err(String::as_str))
    }

    /// What was found, if anything.
    pub fn found(&self) -> Option<&SearchAnswer> {
        self.answer()?.ok()
    }

    /// Handles a key.
    pub fn press(&mut self, key: KeyEvent) -> KeyEffect {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return KeyEffect::Quit;
        }
        if self.is_typing { self.typed(key.code) } else { self.commanded(key.code) }
    }

    /// How many rows the pane has.
    pub fn rows(&self) -> usize {
        let Some(status) = &self.status else { return 0 };
        match self.pane {
            Pane::Connections => status.connections.len(),
            Pane::Campaigns => status.busiest.campaigns.len(),
            Pane::Steps => status.busiest.steps.len(),
            Pane::Books => 0,
            Pane::Configuration => status.configuration.len(),
            Pane::Search => self.found().map_or(0, |found| found.objects.len() + found.results.len()),
        }
    }

    /// The connections in their order.
    pub fn connections(&self) -> Vec<&ConnectionStatus> {
        let mut all: Vec<&ConnectionStatus> =
            self.status.iter().flat_map(|status| &status.connections).collect();
        let by_trouble = |one: &ConnectionStatus| match one.state {
            FlowState::Trouble => 0,
            FlowState::Quiet => 1,
            FlowState::Flowing | FlowState::Unknown => 2,
        };
        all.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Trouble => {
                    by_trouble(a).cmp(&by_trouble(b)).then(b.sends.dropped.cmp(&a.sends.dropped))
                }
                Sort::Name => Ordering::Equal,
                Sort::Accepted => b.sends.accepted.cmp(&a.sends.accepted),
                Sort::Dropped => b.sends.dropped.cmp(&a.sends.dropped),
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        all
    }

    /// The campaigns or the steps in their order.
    pub fn busiest(&self) -> Vec<&BusyCampaign> {
        let Some(status) = &self.status else { return Vec::new() };
        let steps = self.pane == Pane::Steps;
        let mut all: Vec<&BusyCampaign> =
            if steps { &status.busiest.steps } else { &status.busiest.campaigns }.iter().collect();
        match self.sort {
            Sort::Name => all.sort_by(|a, b| a.name.cmp(&b.name)),
            _ => all.sort_by_key(|busy| Reverse(busy.sends)),
        }
        all
    }

    fn commanded(&mut self, key: KeyCode) -> KeyEffect {
        match key {
            KeyCode::Char('q') => return KeyEffect::Quit,
            KeyCode::Char('/') => {
                self.show(Pane::Search);
                self.is_typing = true;
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.turn(1),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => self.turn(Pane::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.go_to(self.row + 1),
            KeyCode::Up | KeyCode::Char('k') => self.go_to(self.row.saturating_sub(1)),
            KeyCode::PageDown => self.go_to(self.row + PAGE_ROWS),
            KeyCode::PageUp => self.go_to(self.row.saturating_sub(PAGE_ROWS)),
            KeyCode::Home => self.go_to(0),
            KeyCode::End => self.go_to(usize::MAX),
            _ => {}
        }
        KeyEffect::Draw
    }

    fn typed(&mut self, key: KeyCode) -> KeyEffect {
        match key {
            KeyCode::Esc => {
                self.is_typing = false;
                self.query.clone_from(&self.asked);
            }
            KeyCode::Enter => {
                self.is_typing = false;
                self.query = self.query.trim().to_owned();
                self.asked.clone_from(&self.query);
                self.answer = None;
                self.row = 0;
                if !self.query.is_empty() {
                    return KeyEffect::Search(self.query.clone());
                }
            }
            KeyCode::Backspace => {
                self.query.pop();
            }
            KeyCode::Char(typed) if self.query.chars().count() < QUERY_MAX => self.query.push(typed),
            _ => {}
        }
        KeyEffect::Draw
    }

    fn turn(&mut self, by: usize) {
        let at = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or_default();
        self.show(Pane::ALL[(at + by) % Pane::ALL.len()]);
    }

    fn show(&mut self, pane: Pane) {
        self.pane = pane;
        self.row = 0;
    }

    fn go_to(&mut self, row: usize) {
        self.row = row.min(self.rows().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use admin_api::SendCounts;

    use super::*;

    fn looked_at() -> TopState {
        let connection = |name: &str, state, accepted, dropped| ConnectionStatus {
            name: name.into(),
            state,
            sends: SendCounts { accepted, dropped, ..SendCounts::default() },
            ..ConnectionStatus::default()
        };
        let connections = vec![
            connection("beta", FlowState::Flowing, 9, 0),
            connection("acme", FlowState::Flowing, 5, 3),
            connection("zeta", FlowState::Trouble, 1, 1),
        ];
        let mut state = TopState::new("http://x");
        state.answered(Ok(Status { connections, ..Status::default() }));
        state
    }

    fn press(state: &mut TopState, keys: &str) -> KeyEffect {
        let keys = keys.chars().map(|key| match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{8}' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        });
        keys.map(|key| state.press(KeyEvent::new(key, KeyModifiers::NONE))).last().unwrap()
    }

    fn names(state: &TopState) -> Vec<&str> {
        state.connections().iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn connections_are_sorted_trouble_first_and_otherwise_as_asked() {
        let mut state = looked_at();
        assert_eq!(names(&state), ["zeta", "acme", "beta"]);
        press(&mut state, "s");
        assert_eq!(names(&state), ["acme", "beta", "zeta"]);
        press(&mut state, "s");
        assert_eq!(names(&state), ["beta", "acme", "zeta"]);
        press(&mut state, "s");
        assert_eq!(names(&state), ["acme", "zeta", "beta"]);
        press(&mut state, "s");
        assert_eq!(state.sort, Sort::Trouble);
    }

    #[test]
    fn keys_move_within_what_there_is() {
        let mut state = looked_at();
        press(&mut state, "jjjjj");
        assert_eq!(state.row, 2);
        press(&mut state, "k");
        assert_eq!(state.row, 1);
        press(&mut state, "\t");
        assert_eq!((state.pane, state.row), (Pane::Campaigns, 0));
        press(&mut state, "j");
        assert_eq!(state.row, 0);
        state.press(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
        state.press(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
        assert_eq!(state.pane, Pane::Search);
    }

    #[test]
    fn rows_that_are_gone_are_not_looked_at() {
        let mut state = looked_at();
        press(&mut state, "jj");
        state.answered(Ok(Status::default()));
        assert_eq!(state.row, 0);
    }

    #[test]
    fn a_search_is_asked_for_when_it_is_typed() {
        let mut state = looked_at();
        assert_eq!(press(&mut state, "/weekly q\u{8}"), KeyEffect::Draw);
        assert_eq!(press(&mut state, "\n"), KeyEffect::Search("weekly".into()));
        state.searched("other", Ok(SearchAnswer::default()));
        assert!(state.answer().is_none());
        state.searched("weekly", Ok(SearchAnswer::default()));
        assert!(state.found().is_some());
        assert_eq!(press(&mut state, "q"), KeyEffect::Quit);
    }

    #[test]
    fn one_search_is_under_way_and_the_last_that_was_wanted_comes_next() {
        let mut turns = SearchTurns::default();
        assert_eq!(turns.want("weekly").as_deref(), Some("weekly"));
        for query in ["weekly", "month", "monthly"] {
            assert_eq!(turns.want(query), None, "{query}");
        }
        assert_eq!(turns.end().as_deref(), Some("monthly"));
        for query in ["daily", "monthly"] {
            assert_eq!(turns.want(query), None, "{query}");
        }
        assert_eq!(turns.end(), None, "what is under way need not be asked once more");
        assert_eq!(turns.want("monthly").as_deref(), Some("monthly"));
    }

    #[test]
    fn a_result_stands_under_its_own_query_and_is_asked_for_again_while_it_is_in_sight() {
        let mut state = looked_at();
        press(&mut state, "/weekly\n");
        state.searched("weekly", Ok(SearchAnswer::default()));
        press(&mut state, "/x");
        assert!(state.found().is_none(), "something else is typed");
        state.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
        assert!(state.query == "weekly" && state.found().is_some());
        assert_eq!(state.search_in_sight(), Some("weekly"));
        press(&mut state, "\t");
        assert_eq!(state.search_in_sight(), None);
    }

    #[test]
    fn a_search_that_fails_says_so_in_its_place_until_one_succeeds() {
        let mut state = looked_at();
        press(&mut state, "/weekly\n");
        state.searched("weekly", Err("503".into()));
        state.answered(Ok(Status::default()));
        assert_eq!((state.answer().unwrap().unwrap_err(), state.trouble.as_deref()), ("503", None));
        state.searched("weekly", Ok(SearchAnswer::default()));
        assert!(state.found().is_some());
    }

    #[test]
    fn control_c_quits_even_while_somebody_types() {
        let mut state = looked_at();
        press(&mut state, "/q");
        assert_eq!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), KeyEffect::Quit);
    }

    #[test]
    fn an_answer_ends_the_trouble_and_trouble_keeps_the_answer() {
        let mut state = looked_at();
        state.answered(Err("refused".into()));
        assert!(state.status.is_some() && state.trouble.is_some());
        state.answered(Ok(Status::default()));
        assert_eq!(state.trouble, None);
    }
}
