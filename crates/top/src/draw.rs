//! Draws a state. Pure: the output is a buffer, whatever the terminal.

use admin_api::format::{ago, grouped, span};
use admin_api::{
    BusyCampaign, CollapsedTag, ConnectionStatus, FlowState, ObjectMatch, SendCounts, SeriesMatch,
    SettingValue, Status,
};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Wrap};

use crate::cells::{clean, fitting, rate, shortened, sketch};
use crate::search_results::{said, search_details, title};
use crate::state::{Pane, TopState};
use crate::table::{ColumnWidth, TableCell, TableColumn, table};

/// In a narrower terminal, optional columns are left out.
const WIDE: u16 = 90;

/// In a lower terminal, the line of the last hour is left out.
const HIGH: u16 = 18;

const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// The meaning of colours; without them, weight shows it.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    /// Whether there are colours: not where `NO_COLOR` is set.
    pub has_colours: bool,
}

impl Paint {
    fn style(self, flow: FlowState) -> Style {
        let (colour, weight) = match flow {
            FlowState::Flowing => (Color::Green, Modifier::empty()),
            FlowState::Trouble => (Color::Red, Modifier::BOLD),
            FlowState::Quiet => (Color::Yellow, Modifier::empty()),
            FlowState::Unknown => (Color::Reset, Modifier::empty()),
        };
        let style = Style::new().add_modifier(weight);
        if self.has_colours { style.fg(colour) } else { style }
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, state: &TopState, paint: Paint) {
    let area = frame.area();
    let hour = if area.height >= HIGH && state.status.is_some() { 4 } else { 0 };
    let [head, facts, line, tabs, body, detail, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(hour),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(headline(state, head.width, paint), head);
    if let Some(status) = &state.status {
        frame.render_widget(facts_of(status, facts.width, paint), facts);
        frame.render_widget(last_hour(status, line.width, paint), line);
    }
    frame.render_widget(tab_line(state), tabs);
    pane(frame, state, body, paint);
    frame.render_widget(details(state), detail);
    let keys = if state.is_typing {
        "Enter searches  Esc leaves"
    } else {
        "q quit  Tab pane  ↑↓ move  s sort  / search"
    };
    frame.render_widget(Paragraph::new(keys).style(FAINT), help);
}

fn headline(state: &TopState, width: u16, paint: Paint) -> Line<'static> {
    let (flow, mark, words) = match (&state.status, &state.trouble) {
        (_, Some(trouble)) => {
            let since = match &state.status {
                Some(_) => format!("No answer for {}: ", ago(state.age.as_secs())),
                None => format!("No answer from {}: ", state.url),
            };
            (FlowState::Trouble, "?", since + trouble)
        }
        (None, None) => (FlowState::Quiet, "…", format!("Asking {} …", state.url)),
        (Some(status), None) => {
            let mark = match status.headline.state {
                FlowState::Flowing => "✓",
                FlowState::Quiet => "–",
                FlowState::Trouble | FlowState::Unknown => "!",
            };
            (status.headline.state, mark, status.headline.words.clone())
        }
    };
    let style = paint.style(flow).add_modifier(Modifier::BOLD);
    Line::styled(shortened(format!(" {mark} {}", clean(&words)), usize::from(width)), style)
}

/// What became of sends that the books call accepted. A reload begins and ends dry runs, so what has been printed says it; where
/// there is nothing yet, what the connections are.
const fn accepted_or_printed(
    accepted: u64,
    printed: u64,
    status: &Status,
    sent: &'static str,
) -> &'static str {
    let (printed, all) = match accepted {
        0 => (status.connections_dry_run, status.connections_total),
        sends => (printed, sends),
    };
    match printed {
        0 => sent,
        printed if printed >= all => "printed, not sent",
        _ => "accepted or printed",
    }
}

/// A line of facts; those that do not fit are left out whole.
fn facts_of(status: &Status, width: u16, paint: Paint) -> Line<'static> {
    let minute = &status.rates.last_minute;
    let books = if status.books.balanced { "books balance" } else { "BOOKS DO NOT BALANCE" };
    let accepted = accepted_or_printed(minute.accepted, minute.printed, status, "accepted by Datadog");
    let lately = match span(minute.seconds) {
        minute if minute == "minute" => format!("a {minute}"),
        longer => longer,
    };
    let trouble = match (status.connections_in_trouble, status.connections_total) {
        (0, _) => None,
        (some, all) => Some(format!("{some} of {all} in trouble")),
    };
    // An older forwarder measures both over the same time.
    let accepted_seconds =
        if minute.accepted_seconds == 0 { minute.seconds } else { minute.accepted_seconds };
    let parts = [
        format!("{}/s {accepted}", rate(minute.accepted, accepted_seconds)),
        format!("{} dropped in {lately}", grouped(minute.dropped)),
        format!("{} queued", grouped(status.queue.depth)),
        books.to_owned(),
        format!("up {}", ago(status.uptime_seconds)),
        format!("v{}", clean(&status.version)),
    ];
    let mut line = String::from(" ");
    for part in trouble.into_iter().chain(parts) {
        let longer = format!("{line}  {part}");
        if Span::raw(&*longer).width() <= usize::from(width) {
            line = longer;
        }
    }
    let is_well = status.books.balanced && minute.dropped == 0;
    Line::styled(line, paint.style(trouble_unless(is_well)))
}

/// Sends accepted, as many slots to a column as the width needs.
fn last_hour(status: &Status, width: u16, paint: Paint) -> Sparkline<'static> {
    let slots = &status.rates.accepted;
    let each = slots.len().div_ceil(usize::from(width.max(1))).max(1);
    let columns: Vec<u64> = slots.chunks(each).map(|chunk| chunk.iter().sum()).collect();
    Sparkline::default().data(columns).style(paint.style(FlowState::Flowing))
}

fn tab_line(state: &TopState) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for pane in Pane::ALL {
        let style = if pane == state.pane { Modifier::REVERSED | Modifier::BOLD } else { Modifier::DIM };
        spans.push(Span::styled(format!(" {} ", pane.title()), Style::new().add_modifier(style)));
    }
    Line::from(spans)
}

fn pane(frame: &mut Frame<'_>, state: &TopState, area: Rect, paint: Paint) {
    let Some(status) = &state.status else { return };
    match state.pane {
        Pane::Connections => connections(frame, state, area, paint),
        Pane::Campaigns | Pane::Steps => busiest(frame, state, area),
        Pane::Books => {
            let lines = Paragraph::new(books(status, area.width, paint)).wrap(Wrap { trim: false });
            frame.render_widget(lines, area);
        }
        Pane::Configuration => {
            let row = |one: &SettingValue| {
                vec![TableCell::text(clean(&one.key)), TableCell::text(clean(&one.value))]
            };
            let columns = [
                TableColumn::text("Key", ColumnWidth::Exactly(26)),
                TableColumn::text("Value", ColumnWidth::Rest),
            ];
            table(frame, area, state.row, &columns, status.configuration.iter().map(row).collect());
        }
        Pane::Search => search(frame, state, area, paint),
    }
}

fn connections(frame: &mut Frame<'_>, state: &TopState, area: Rect, paint: Paint) {
    let is_wide = area.width >= WIDE;
    let outcome =
        if is_wide { format!("Last outcome, {}", state.sort.label()) } else { "Last outcome".to_owned() };
    let name = ColumnWidth::Exactly(if is_wide { 20 } else { 14 });
    // A column, and whether it is optional.
    let columns = [
        (TableColumn::text("Connection", name), false),
        (TableColumn::text("Site", ColumnWidth::Exactly(6)), true),
        (TableColumn::text(outcome, ColumnWidth::Rest), false),
        (TableColumn::number("Accepted"), false),
        (TableColumn::number("Dropped"), false),
        (TableColumn::number("Pending"), true),
        (TableColumn::number("Series"), true),
    ];
    let is_shown = columns.each_ref().map(|(_, can_be_missed)| is_wide || !can_be_missed);
    let row = |one: &ConnectionStatus| -> Vec<TableCell> {
        let SendCounts { accepted, dropped, pending, series, .. } = one.sends;
        let cells = [
            TableCell::text(clean(&one.name)),
            TableCell::text(clean(&one.site)),
            TableCell::text(clean(&one.words)).style(paint.style(one.state)),
            TableCell::number(accepted),
            TableCell::number(dropped).style(paint.style(trouble_unless(dropped == 0))),
            TableCell::number(pending),
            TableCell::number(series),
        ];
        cells.into_iter().zip(is_shown).filter_map(|(cell, is_shown)| is_shown.then_some(cell)).collect()
    };
    let shown = columns.into_iter().zip(is_shown).filter(|(_, is_shown)| *is_shown);
    let shown: Vec<TableColumn> = shown.map(|((column, _), _)| column).collect();
    table(frame, area, state.row, &shown, state.connections().into_iter().map(row).collect());
}

fn busiest(frame: &mut Frame<'_>, state: &TopState, area: Rect) {
    let row = |busy: &BusyCampaign| {
        vec![
            TableCell::text(clean(&busy.title())),
            TableCell::text(clean(&busy.connection)),
            TableCell::text(sketch(&busy.minutes)),
            TableCell::number(busy.sends),
        ]
    };
    let columns = [
        TableColumn::text(state.pane.title(), ColumnWidth::Rest),
        TableColumn::text("Connection", ColumnWidth::Exactly(14)),
        TableColumn::text("The last hour", ColumnWidth::Exactly(20)),
        TableColumn::number("Sends"),
    ];
    table(frame, area, state.row, &columns, state.busiest().into_iter().map(row).collect());
}

fn books(status: &Status, width: u16, paint: Paint) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for one in &status.invariants {
        let (flow, mark) =
            if one.balanced { (FlowState::Flowing, "✓") } else { (FlowState::Trouble, "✕") };
        let sums = format!("{} = {}", grouped(one.left), grouped(one.right));
        lines.push(Line::styled(format!(" {mark} {}: {sums}", clean(&one.words)), paint.style(flow)));
    }
    let books = &status.books;
    let accepted = accepted_or_printed(books.accepted, books.printed, status, "accepted");
    let queue = &status.queue;
    let all = [
        ("received", books.received),
        ("ignored", books.ignored),
        ("malformed", books.malformed),
        ("duplicate", books.duplicate),
        ("counted", books.counted),
        (accepted, books.accepted),
        ("dropped", books.dropped),
        ("pending", books.pending),
        ("queue", queue.depth),
    ];
    let name_width = all.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let longest = all.iter().map(|(_, value)| grouped(*value).len()).max().unwrap_or_default().max(18);
    let number_width = longest.min(usize::from(width).saturating_sub(3 + name_width + 2));
    for (name, value) in all {
        let value = fitting(value, number_width);
        lines.push(Line::raw(format!("   {name:<name_width$}  {value:>number_width$}")));
    }
    let more = match (queue.kafka, queue.embedded) {
        (Some(kafka), _) => {
            let paused = if kafka.paused { ", fetching is paused" } else { "" };
            format!("{} partitions{paused}", kafka.partitions)
        }
        (None, Some(log)) => {
            format!("{} of {} MiB on disk", grouped(log.size_bytes >> 20), grouped(log.size_max_bytes >> 20))
        }
        (None, None) => queue.storage.map_or_else(String::new, |buckets| {
            format!("objects, {} s behind", grouped(buckets.lag_seconds))
        }),
    };
    if !more.is_empty() {
        lines.push(Line::raw(format!("   {more}")));
    }
    let reload = &status.last_reload;
    let refused = [
        ("", queue.trouble.as_ref()),
        ("the configuration was refused: ", reload.refused_because.as_ref()),
        ("files of the push port were refused: ", reload.push_files_refused_because.as_ref()),
        (
            "the history of sends is not kept: ",
            status.history.as_ref().and_then(|kept| kept.trouble.as_ref()),
        ),
    ];
    for (what, why) in refused.into_iter().filter_map(|(what, why)| Some((what, why?))) {
        lines.push(Line::styled(format!("   {what}{}", clean(why)), paint.style(FlowState::Trouble)));
    }
    lines
}

fn search(frame: &mut Frame<'_>, state: &TopState, area: Rect, paint: Paint) {
    let [line, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let cursor = if state.is_typing { "▏" } else { "" };
    let (said, style) = match (state.answer(), state.query.is_empty()) {
        (Some(Ok(found)), _) => (said(found), FAINT),
        (Some(Err(trouble)), _) => (clean(trouble), paint.style(FlowState::Trouble)),
        (None, true) => ("a name or an id of a campaign, Canvas or step; / to type".to_owned(), FAINT),
        (None, false) => (String::new(), FAINT),
    };
    let typed = Span::raw(format!(" / {}{cursor}", clean(&state.query)));
    let left = usize::from(line.width).saturating_sub(typed.width());
    let said = Span::styled(shortened(format!("  {said}"), left), style);
    frame.render_widget(Line::from(vec![typed, said]), line);
    let Some(found) = state.found() else { return };
    let row = |title: String, words: &str, state: FlowState, last_send: u64, sends: u64| {
        vec![
            TableCell::text(title),
            TableCell::text(clean(words)).style(paint.style(state)),
            TableCell::text(format!("{} ago", ago(last_send))),
            TableCell::number(sends),
        ]
    };
    let of_past = |one: &ObjectMatch| {
        row(clean(&one.title()), &one.words, one.state, one.last_send_seconds_ago, one.week())
    };
    let of_series =
        |one: &SeriesMatch| row(title(one), &one.words, one.state, one.last_send_seconds_ago, one.sends);
    let what = if found.objects.is_empty() { "Series" } else { "Last sent, sends of 7 days; then series" };
    let columns = [
        TableColumn::text(what, ColumnWidth::Rest),
        TableColumn::text("Does it reach Datadog?", ColumnWidth::Rest),
        TableColumn::text("Last send", ColumnWidth::Longest),
        TableColumn::number("Sends"),
    ];
    let rows = found.objects.iter().map(of_past).chain(found.results.iter().map(of_series)).collect();
    table(frame, body, state.row, &columns, rows);
}

/// The details of the selected row.
fn details(state: &TopState) -> Paragraph<'static> {
    let words = match state.pane {
        Pane::Connections => state.connections().get(state.row).map(|one| connection_details(one)),
        Pane::Search => state.found().and_then(|found| search_details(found, state.row)),
        Pane::Campaigns | Pane::Steps => state.busiest().get(state.row).map(|busy| format!("id {}", busy.id)),
        Pane::Books | Pane::Configuration => None,
    };
    let words = words.map(|words| format!(" {}", clean(&words))).unwrap_or_default();
    Paragraph::new(words).style(FAINT).wrap(Wrap { trim: false })
}

fn connection_details(one: &ConnectionStatus) -> String {
    let mut parts = vec![format!("{}: {}", one.name, one.words)];
    if one.sends.printed > 0 {
        parts.push(format!("{} printed, not sent", grouped(one.sends.printed)));
    }
    if one.state == FlowState::Trouble
        && let Some(last) = one.last_outcome.as_ref().filter(|last| last.dropped.is_some())
    {
        parts.push(last.outcome.clone());
    }
    parts.extend(one.refused.clone());
    parts.extend(
        one.sends.dropped_by_reason.iter().map(|(reason, sends)| format!("{} {reason}", grouped(*sends))),
    );
    if !one.key.words.is_empty() {
        parts.push(format!("key {}", one.key.words));
    }
    parts.extend(one.collapsing.first().map(|gravest| collapsing(one, gravest)));
    parts.join("  ")
}

/// The gravest of the names that Datadog can't tell apart, and how many more there are.
fn collapsing(one: &ConnectionStatus, gravest: &CollapsedTag) -> String {
    let CollapsedTag { tag, names, names_total, ids_total, group_by, .. } = gravest;
    let what = match names.first() {
        Some(name) if gravest.same_name => format!("{ids_total} ids are called “{name}”"),
        _ => format!("{names_total} names are one in Datadog, {tag}"),
    };
    let more = match (one.names_collapsing + one.names_shared).saturating_sub(1) {
        0 => String::new(),
        more => format!(", and {} more", grouped(more)),
    };
    format!("{what}: group by {group_by}{more}")
}

/// The state of a figure: well, or trouble.
const fn trouble_unless(is_well: bool) -> FlowState {
    if is_well { FlowState::Unknown } else { FlowState::Trouble }
}

#[cfg(test)]
mod tests {
    use admin_api::{ChartDay, HistoryStatus, OutcomeStatus, SearchAnswer};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::*;

    const PAINT: Paint = Paint { has_colours: true };

    fn answer() -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "9.9.9",
            "uptime_seconds": 7320,
            "headline": {"state": "trouble", "words": "Sends are being dropped: 403 on beta"},
            "rates": {"slot_seconds": 10, "accepted": vec![5; 360], "dropped": vec![0; 360],
                      "last_minute": {"seconds": 60, "accepted": 74_040, "dropped": 20}},
            "connections": [
                {"name": "acme", "site": "EU1", "state": "flowing", "words": "accepted 2 s ago", "accepted": 1_234_567,
                 "names_collapsing": 1, "names_shared": 3,
                 "collapsing": [{"tag": "campaign_name:weekly_newsletter", "names": ["a", "b"], "names_total": 2, "group_by": "campaign_id"},
                                {"tag": "campaign_name:sale", "names": ["Sale"], "same_name": true, "group_by": "campaign_id"}]},
                {"name": "beta", "site": "US5", "state": "trouble", "words": "403: this key is not valid on US5",
                 "last_outcome": {"outcome": "http_403: 403 Forbidden", "dropped": "http_403"}, "dropped": 20, "dropped_by_reason": {"http_403": 20}},
            ],
            "busiest": {
                "campaigns": [{"connection": "acme", "id": "8a3f", "name": "Weekly newsletter", "sends": 90, "minutes": (0..60).collect::<Vec<u64>>()}],
                "steps": [{"connection": "acme", "id": "s1", "name": "Welcome", "canvas": "Onboarding", "sends": 7, "minutes": vec![0; 60]}],
            },
            "queue": {"kind": "embedded", "depth": 1204, "size_bytes": 61_203_968, "size_max_bytes": 4_294_967_296_u64},
            "books": {"received": 71_530_118, "balanced": true},
            "invariants": [{"words": "counted = accepted + dropped + pending", "left": 5, "right": 5, "balanced": true}],
            "configuration": [{"key": "flush.interval", "value": "10s"}],
            "something_new": 1,
        }))
        .unwrap()
    }

    fn looked_at() -> TopState {
        let mut state = TopState::new("http://127.0.0.1:8081");
        state.answered(Ok(answer()));
        state
    }

    fn drawn(state: &TopState, width: u16, height: u16, paint: Paint) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, paint)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(state: &TopState, width: u16, height: u16) -> String {
        let buffer = drawn(state, width, height, PAINT);
        let row =
            |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
        (0..height).map(row).collect()
    }

    #[track_caller]
    fn assert_shows(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn one_look_says_how_it_is() {
        let text = text(&looked_at(), 120, 30);
        assert_shows(
            &text,
            &[
                " ! Sends are being dropped: 403 on beta",
                "1,234/s accepted by Datadog",
                "20 dropped in a minute",
                "books balance",
                "up 2 hours 2 minutes",
                "403: this key is not valid on US5",
                "accepted 2 s ago",
                "1,234,567",
                "http_403: 403 Forbidden",
                "q quit",
                "█",
            ],
        );
        assert!(text.find("beta").unwrap() < text.find("acme").unwrap(), "trouble comes first\n{text}");
    }

    #[test]
    fn a_low_rate_has_a_decimal_and_a_longer_interval_is_named() {
        let mut status = answer();
        let minute = &mut status.rates.last_minute;
        (minute.seconds, minute.accepted, minute.dropped) = (180, 150, 3_520);
        let mut state = looked_at();
        state.answered(Ok(status));
        assert_shows(&text(&state, 120, 30), &["0.8/s accepted by Datadog", "3,520 dropped in 3 minutes"]);
    }

    #[test]
    fn a_dry_run_is_not_said_to_be_accepted() {
        let mut status = answer();
        status.connections.truncate(1);
        status.connections[0].dry_run = true;
        status.connections[0].words = "dry run: printed 2 s ago, not sent".into();
        status.connections[0].sends.printed = 1_234_567;
        status.rates.last_minute.printed = 74_040;
        (status.connections_total, status.connections_dry_run) = (1, 1);
        let mut state = looked_at();
        state.answered(Ok(status));
        let text = text(&state, 120, 30);
        assert_shows(
            &text,
            &["1,234/s printed, not sent", "dry run: printed 2 s ago", "1,234,567 printed, not sent"],
        );
        assert!(!text.contains("accepted by"), "{text}");

        let mut mixed = answer();
        mixed.rates.last_minute.printed = 40;
        (mixed.connections_total, mixed.connections_dry_run) = (2, 1);
        state.answered(Ok(mixed));
        assert_shows(&self::text(&state, 120, 30), &["1,234/s accepted or printed"]);
    }

    #[test]
    fn what_a_dry_run_that_has_begun_or_ended_since_has_printed_is_told_apart() {
        for is_dry in [true, false] {
            let mut status = answer();
            status.connections.truncate(1);
            status.connections[0].dry_run = is_dry;
            (status.connections[0].sends.accepted, status.connections[0].sends.printed) = (5, 2);
            (status.rates.last_minute.accepted, status.rates.last_minute.printed) = (300, 120);
            (status.books.accepted, status.books.printed) = (5, 2);
            (status.connections_total, status.connections_dry_run) = (1, u64::from(is_dry));
            let mut state = looked_at();
            state.answered(Ok(status.clone()));
            let first = text(&state, 120, 30);
            assert_shows(&first, &["5/s accepted or printed", "2 printed, not sent"]);
            assert!(!first.contains("5 printed") && !first.contains("accepted by"), "{first}");
            state.pane = Pane::Books;
            assert_shows(&text(&state, 120, 30), &["accepted or printed"]);

            // Before the dry run began, or after it has ended.
            let now_printed = if is_dry { 0 } else { 300 };
            (status.rates.last_minute.printed, status.books.printed) = (now_printed, now_printed.min(5));
            state.answered(Ok(status));
            let words = if is_dry { "accepted" } else { "printed, not sent" };
            assert_shows(&text(&state, 120, 30), &[&format!("5/s {words}"), &format!("   {words} ")]);
        }
    }

    #[test]
    fn each_pane_shows_its_part() {
        let of = |pane| text(&TopState { pane, ..looked_at() }, 120, 30);
        assert_shows(&of(Pane::Campaigns), &["Weekly newsletter", "90", "▁", "█", "id 8a3f"]);
        assert_shows(&of(Pane::Steps), &["Onboarding › Welcome", "7"]);
        assert_shows(
            &of(Pane::Books),
            &["✓ counted = accepted + dropped + pending: 5 = 5", "71,530,118", "58 of 4,096 MiB"],
        );
        assert_shows(&of(Pane::Configuration), &["flush.interval", "10s"]);
        let acme = TopState { row: 1, ..looked_at() };
        assert_shows(
            &text(&acme, 120, 30),
            &[
                "2 names are one in Datadog, campaign_name:weekly_newsletter: group by campaign_id, and 3 more",
            ],
        );
    }

    #[test]
    fn below_trouble_stands_no_outcome_that_is_well_and_a_blank_name_is_none() {
        let mut status = answer();
        status.connections[1].last_outcome =
            Some(OutcomeStatus { outcome: "all of it accepted".into(), ..OutcomeStatus::default() });
        status.busiest.campaigns[0].name = "   ".into();
        let mut state = looked_at();
        state.answered(Ok(status));
        assert!(!text(&state, 120, 30).contains("all of it accepted"));
        let campaigns = text(&TopState { pane: Pane::Campaigns, ..state }, 120, 30);
        assert_eq!(campaigns.matches("8a3f").count(), 2, "{campaigns}");
    }

    #[test]
    fn why_a_configuration_was_refused_is_told() {
        let mut status = answer();
        status.connections.truncate(1);
        status.connections[0].refused = Some("Bad Name.toml: no name".into());
        status.last_reload.refused_because = Some("flush.interval: no duration".into());
        status.last_reload.push_files_refused_because = Some("tls.key: of another".into());
        status.history = Some(HistoryStatus { trouble: Some("in use".into()), ..HistoryStatus::default() });
        let mut state = looked_at();
        state.answered(Ok(status));
        assert_shows(&text(&state, 120, 30), &["Bad Name.toml: no name"]);
        assert_shows(
            &text(&TopState { pane: Pane::Books, ..state }, 120, 30),
            &[
                "the configuration was refused: flush.interval: no duration",
                "files of the push port were refused: tls.key: of another",
                "the history of sends is not kept: in use",
            ],
        );
    }

    fn searched(found: SearchAnswer) -> TopState {
        let (query, asked) = (found.query.clone(), found.query.clone());
        TopState { pane: Pane::Search, query, asked, answer: Some(Ok(found)), ..looked_at() }
    }

    #[test]
    fn a_search_says_where_a_campaign_is() {
        let found = SearchAnswer {
            query: "weekly".into(),
            matches: 1,
            remembered_series: 1_874,
            results: vec![SeriesMatch {
                connection: "acme".into(),
                tags: vec!["campaign_id:8a3f".into(), "campaign_name:Weekly newsletter".into()],
                sends: 12,
                last_send_seconds_ago: 61,
                state: FlowState::Flowing,
                words: "reaches Datadog: accepted 2 s ago".into(),
                ..SeriesMatch::default()
            }],
            ..SearchAnswer::default()
        };
        let state = searched(found);
        assert_shows(
            &text(&state, 120, 30),
            &[
                "/ weekly",
                "1 of 1,874 series",
                "Weekly newsletter",
                "reaches Datadog",
                "1 minute ago",
                "campaign_id:8a3f",
            ],
        );
    }

    #[test]
    fn a_search_says_what_was_sent_before_the_start() {
        let day = |counted| ChartDay { counted, ..ChartDay::default() };
        let found = SearchAnswer {
            query: "weekly".into(),
            remembered_series: 5,
            objects: vec![ObjectMatch {
                connection: "acme".into(),
                id: "8a3f".into(),
                name: "Weekly newsletter".into(),
                last_send_seconds_ago: 3 * 86_400,
                state: FlowState::Flowing,
                words: "last sent Thu 26 Nov 2026, 09:15: 1,234 sends that day, all accepted by Datadog"
                    .into(),
                comparison: "the same day a week before 1,200 (+2 %)".into(),
                days: [vec![day(None); 20], vec![day(Some(9)); 8]].concat(),
                ..ObjectMatch::default()
            }],
            ..SearchAnswer::default()
        };
        let state = searched(found);
        assert_shows(
            &text(&state, 160, 30),
            &[
                "Weekly newsletter",
                "last sent Thu 26 Nov 2026",
                "3 days ago",
                "63",
                "campaign 8a3f",
                "(+2 %)",
            ],
        );
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters() {
        let text = text(&looked_at(), 60, 14);
        assert_shows(&text, &["Sends are being dropped", "beta", "403: this key", "acme", "q quit"]);
    }

    /// An answer with numbers of as many digits as there may be.
    fn large() -> Status {
        let mut status = answer();
        let SendCounts { accepted, dropped, pending, series, .. } = &mut status.connections[0].sends;
        (*accepted, *dropped, *pending, *series) = (20_000_000_123, 12_345_678, 1_234_567_890, 1_234_567);
        status.busiest.campaigns[0].sends = 1_234_567_890;
        (status.books.received, status.books.accepted) = (u64::MAX, 123_456_789_012_345);
        status.queue.depth = 123_456_789_012;
        status.rates.last_minute.dropped = 1_234_567;
        status
    }

    /// Every number that is seen is one of those that were told, or is marked as shortened.
    #[test]
    fn a_number_is_never_cut_to_another_one() {
        let mut told: Vec<String> = [
            "20,000,000,123 12,345,678 1,234,567,890 1,234,567 123,456,789,012,345 123,456,789,012",
            "18,446,744,073,709,551,615 0 1 2 3 5 7 8 10 20 60 403 58 4,096 1,234 9.9.9 90 7.9 8a3f",
            "20.0G 20G 12.3M 12M 1.2G 1G 1.2M 1M 123.4T 123T 123.4G 123G 18.4E 18E",
        ]
        .iter()
        .flat_map(|words| words.split(' ').map(str::to_owned))
        .collect();
        told.push("12,345,678/s".into());
        let mut state = looked_at();
        state.answered(Ok(large()));
        for width in 14..=140 {
            for pane in [Pane::Connections, Pane::Campaigns, Pane::Books] {
                let text = text(&TopState { pane, ..state.clone() }, width, 40);
                let numbers = text.split(|c: char| !c.is_ascii_alphanumeric() && !",.…".contains(c));
                let numbers = numbers.map(|word| word.trim_end_matches([',', '.']));
                let numbers = numbers.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                for number in numbers.filter(|number| !number.ends_with('…')) {
                    assert!(told.iter().any(|told| told == number), "{width}, {pane:?}: {number}\n{text}");
                }
            }
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_numbers_and_what_does_not_fit_is_left_out_whole_or_shortened() {
        let mut state = looked_at();
        state.answered(Ok(large()));
        assert_shows(
            &text(&state, 80, 24),
            &["20,000,000,123", "12,345,678", "1,234,567 dropped in a minute"],
        );
        assert_shows(&text(&state, 120, 24), &["1,234,567,890", "1,234,567"]);
        assert_shows(&text(&state, 45, 24), &["20.0G", "12.3M"]);
        let books = TopState { pane: Pane::Books, ..state.clone() };
        assert_shows(&text(&books, 40, 24), &["18,446,744,073,709,551,615"]);
        assert_shows(&text(&books, 36, 24), &["18.4E", "123,456,789,012,345"]);
        let campaigns = TopState { pane: Pane::Campaigns, ..state };
        assert_shows(&text(&campaigns, 80, 24), &["1,234,567,890"]);
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 40), (200, 2), (20, 6), (80, 24), (300, 100)] {
            for pane in Pane::ALL {
                drawn(&TopState { pane, ..looked_at() }, width, height, PAINT);
            }
        }
        drawn(&TopState::new("http://x"), 80, 24, PAINT);
    }

    #[test]
    fn no_answer_is_said_with_how_long_ago_there_was_one() {
        let mut state = looked_at();
        state.answered(Err("connection refused".into()));
        state.age = std::time::Duration::from_secs(12);
        assert_shows(&text(&state, 100, 24), &["No answer for 12 s: connection refused", "acme"]);
        let mut state = TopState::new("http://127.0.0.1:8081");
        assert_shows(&text(&state, 100, 24), &["Asking http://127.0.0.1:8081"]);
        state.answered(Err("refused".into()));
        assert_shows(&text(&state, 100, 24), &["No answer from http://127.0.0.1:8081: refused"]);
    }

    #[test]
    fn without_colours_nothing_is_coloured() {
        let is_coloured = |paint| {
            let buffer = drawn(&looked_at(), 100, 30, paint);
            buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        assert!(is_coloured(PAINT));
        assert!(!is_coloured(Paint { has_colours: false }));
    }

    #[test]
    fn names_can_not_move_the_cursor() {
        let mut status = answer();
        status.connections[0].name = "\u{1b}[2Jevil\u{7}\u{202e}\u{200b}".into();
        status.headline.words = "\u{1b}]0;owned\u{7}".into();
        let mut state = looked_at();
        state.answered(Ok(status));
        let text = text(&state, 120, 30);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}']), "{text:?}");
        assert_shows(&text, &["·[2Jevil···"]);
    }
}
