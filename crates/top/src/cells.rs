//! Formats numbers, names and minutes for a place of some width.

use admin_api::format::{grouped, is_steering};
use ratatui::text::Span;

/// The mark of what was left out.
const LEFT_OUT: &str = "…";

/// Letters for a thousand, a million and so on.
const UNITS: [(u64, char); 6] = [
    (1_000_000_000_000_000_000, 'E'),
    (1_000_000_000_000_000, 'P'),
    (1_000_000_000_000, 'T'),
    (1_000_000_000, 'G'),
    (1_000_000, 'M'),
    (1_000, 'k'),
];

/// A number in at most `width` characters: whole, else as `12.3M` (never more than it is) or `12M`, else only a mark.
pub(crate) fn fitting(number: u64, width: usize) -> String {
    let mut forms = vec![grouped(number)];
    if let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| *unit <= number) {
        forms.push(format!("{}.{}{letter}", number / unit, number % unit / (unit / 10)));
        forms.push(format!("{}{letter}", number / unit));
    }
    let fits = forms.into_iter().find(|form| form.len() <= width);
    fits.unwrap_or_else(|| shortened(LEFT_OUT.to_owned(), width))
}

/// A text that takes at most `width` columns, with a mark where its end was left out.
pub(crate) fn shortened(text: String, width: usize) -> String {
    if Span::raw(&*text).width() <= width {
        return text;
    }
    let (mut short, mut left) = (String::new(), width.saturating_sub(1));
    for letter in text.chars() {
        let mut bytes = [0; 4];
        let Some(rest) = left.checked_sub(Span::raw(&*letter.encode_utf8(&mut bytes)).width()) else { break };
        short.push(letter);
        left = rest;
    }
    if width > 0 {
        short.push_str(LEFT_OUT);
    }
    short
}

/// How many a second: below ten with a decimal, as `0.8`.
pub(crate) fn rate(number: u64, seconds: u64) -> String {
    let tenths = number.saturating_mul(10) / seconds.max(1);
    match (tenths / 10, tenths % 10) {
        (whole @ 10.., _) | (whole, 0) => grouped(whole),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_does_not_fit_is_shortened_and_never_another_one() {
        for (number, width, text) in [
            (12_345_678, 10, "12,345,678"),
            (12_345_678, 9, "12.3M"),
            (12_345_678, 4, "12M"),
            (12_345_678, 2, "…"),
            (12_345_678, 0, ""),
            (999_999, 6, "999.9k"),
            (1_000, 4, "1.0k"),
            (999, 2, "…"),
            (u64::MAX, 25, "18.4E"),
            (u64::MAX, 26, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(fitting(number, width), text, "{number} in {width}");
        }
    }

    #[test]
    fn a_text_says_that_it_is_cut() {
        for (text, width, short) in
            [("acme", 4, "acme"), ("acme", 3, "ac…"), ("acme", 1, "…"), ("acme", 0, ""), ("日本語", 4, "日…")]
        {
            assert_eq!(shortened(text.into(), width), short, "{text} in {width}");
        }
    }

    #[test]
    fn a_low_rate_has_a_decimal() {
        for (number, seconds, text) in [
            (0, 60, "0"),
            (50, 60, "0.8"),
            (60, 60, "1"),
            (599, 60, "9.9"),
            (659, 60, "10"),
            (74_040, 60, "1,234"),
            (5, 0, "5"),
        ] {
            assert_eq!(rate(number, seconds), text, "{number} in {seconds} s");
        }
    }
}
