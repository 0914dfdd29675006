//! Formats the cells of tables.

use admin_api::format::{grouped, is_steering};
use ratatui::text::Line;
use ratatui::widgets::Cell;

pub(crate) fn number(value: u64) -> Cell<'static> {
    right(&grouped(value))
}

pub(crate) fn right(text: &str) -> Cell<'static> {
    Cell::from(Line::from(text.to_owned()).right_aligned())
}

/// Minutes as blocks, three to a column.
pub(crate) fn sketch(minutes: &[u32]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns: Vec<u64> =
        minutes.chunks(3).map(|three| three.iter().map(|sends| u64::from(*sends)).sum()).collect();
    let most = columns.iter().copied().max().unwrap_or_default().max(1);
    let block = |sends: u64| match usize::try_from(sends.saturating_mul(8).div_ceil(most)) {
        Ok(0) => ' ',
        Ok(height) => BLOCKS[height.min(8) - 1],
        Err(_) => '█',
    };
    columns.into_iter().map(block).collect()
}

/// Names come from customers: no character may move the cursor, or reverse the line.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if is_steering(c) { '·' } else { c }).collect()
}
