//! Tables that say where they are cut: a number without its first digits would be another one, as plausible.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, TableState};

use admin_api::format::grouped;

use crate::cells::{fitting, shortened};

/// Columns between two columns.
const SPACING: u16 = 1;

/// The mark of the selected row.
const MARK: &str = " ";

/// With fewer columns left for texts, numbers are shortened.
const REST_MIN: u16 = 12;

/// A shortened number, as in `123.4M`.
const NUMBER_MIN: u16 = 6;

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnWidth {
    /// So many characters.
    Exactly(u16),
    /// As its longest cell.
    Longest,
    /// What the others leave.
    Rest,
}

/// A column's head and width.
#[derive(Debug, Clone)]
pub(crate) struct TableColumn {
    head: String,
    width: ColumnWidth,
    is_number: bool,
}

impl TableColumn {
    pub(crate) fn text(head: impl Into<String>, width: ColumnWidth) -> Self {
        Self { head: head.into(), width, is_number: false }
    }

    pub(crate) fn number(head: &str) -> Self {
        Self { head: head.to_owned(), width: ColumnWidth::Longest, is_number: true }
    }
}

/// What a cell holds.
#[derive(Debug, Clone)]
enum Content {
    Text(String),
    Number(u64),
}

/// A cell that is not yet as wide as its column.
#[derive(Debug, Clone)]
pub(crate) struct TableCell {
    content: Content,
    style: Style,
}

impl TableCell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { content: Content::Text(text.into()), style: Style::new() }
    }

    pub(crate) const fn number(number: u64) -> Self {
        Self { content: Content::Number(number), style: Style::new() }
    }

    pub(crate) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    fn width(&self) -> u16 {
        let width = match &self.content {
            Content::Text(text) => Line::raw(text.as_str()).width(),
            Content::Number(number) => grouped(*number).len(),
        };
        u16::try_from(width).unwrap_or(u16::MAX)
    }

    fn fit(self, width: u16) -> Cell<'static> {
        let width = usize::from(width);
        let line = match self.content {
            Content::Text(text) => Line::from(shortened(text, width)),
            Content::Number(number) => Line::from(fitting(number, width)).right_aligned(),
        };
        Cell::from(line).style(self.style)
    }
}

/// Draws a table whose row `selected` is marked.
pub(crate) fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    selected: usize,
    columns: &[TableColumn],
    rows: Vec<Vec<TableCell>>,
) {
    let widths = widths(area.width, columns, &rows);
    let head = columns.iter().zip(&widths).map(|(column, width)| {
        let line = Line::from(shortened(column.head.clone(), usize::from(*width)));
        Cell::from(if column.is_number { line.right_aligned() } else { line })
    });
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::DIM));
    let fit =
        |row: Vec<TableCell>| Row::new(row.into_iter().zip(&widths).map(|(cell, width)| cell.fit(*width)));
    let rows: Vec<Row<'_>> = rows.into_iter().map(fit).collect();
    let table = Table::new(rows, widths.iter().map(|width| Constraint::Length(*width)))
        .header(head)
        .column_spacing(SPACING)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol(MARK);
    let mut state = TableState::default();
    state.select(Some(selected));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The width of each column in a table of `width`.
fn widths(width: u16, columns: &[TableColumn], rows: &[Vec<TableCell>]) -> Vec<u16> {
    let longest = |at: usize, column: &TableColumn| {
        let head = u16::try_from(Line::raw(column.head.as_str()).width()).unwrap_or(u16::MAX);
        rows.iter().filter_map(|row| row.get(at)).map(TableCell::width).fold(head, u16::max)
    };
    let whole: Vec<Option<u16>> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| match column.width {
            ColumnWidth::Exactly(width) => Some(width),
            ColumnWidth::Longest => Some(longest(at, column)),
            ColumnWidth::Rest => None,
        })
        .collect();
    let gaps = SPACING.saturating_mul(u16::try_from(columns.len().saturating_sub(1)).unwrap_or(u16::MAX));
    let free = width.saturating_sub(1);
    let wanted = whole.iter().map(|width| width.unwrap_or(REST_MIN)).fold(gaps, u16::saturating_add);
    let fits = wanted <= free;
    let least = |(column, width): (&TableColumn, Option<u16>)| match width {
        None => Constraint::Fill(1),
        Some(width) if fits || !column.is_number => Constraint::Length(width),
        Some(width) => {
            let head = u16::try_from(Line::raw(column.head.as_str()).width()).unwrap_or(u16::MAX);
            Constraint::Length(width.min(head.max(NUMBER_MIN)))
        }
    };
    let constraints: Vec<Constraint> = columns.iter().zip(whole).map(least).collect();
    let split = Layout::horizontal(constraints).spacing(SPACING).split(Rect::new(0, 0, free, 1));
    split.iter().map(|part| part.width).collect()
}
