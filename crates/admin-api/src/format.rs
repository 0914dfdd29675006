//! Numbers and spans of time as people read them, and the characters that must not reach a terminal.

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time span in its largest unit or two: `2 s`, `12 minutes`, `3 hours 5 minutes`, `4 days`.
pub fn ago(seconds: u64) -> String {
    let several = |number: u64, unit: &str| {
        if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 60 => several(minutes, "minute"),
        () if days < 2 && minutes.is_multiple_of(60) => several(hours, "hour"),
        () if days < 2 => format!("{} {}", several(hours, "hour"), several(minutes % 60, "minute")),
        () => several(days, "day"),
    }
}

/// A time span as it stands behind "the last": `minute`, `3 minutes`, `100 s`.
pub fn span(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, _) | (1, 0..10) => "minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{seconds} s"),
    }
}

/// A name, or the id where that is blank, behind the name of its Canvas, if it has one.
pub(crate) fn title(canvas: &str, name: &str, id: &str) -> String {
    let name = if name.trim().is_empty() { id } else { name };
    if canvas.trim().is_empty() { name.to_owned() } else { format!("{canvas} › {name}") }
}

/// Whether a terminal would obey this character rather than show it: controls, those that turn the direction of a line
/// around, those that end it, and those that leave no trace, so that two different names would look alike. Source: the
/// categories Cc, Zl, Zp, what of Cf is not drawn, and letters that are blank. Selectors of a glyph's variant (of emoji,
/// say) are not among them.
pub fn is_steering(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}')
}

/// A text from outside, of which a terminal obeys no character (see [`is_steering`]).
pub fn harmless(text: &str) -> String {
    text.chars().map(|letter| if is_steering(letter) { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_are_read_at_a_glance() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 minute"),
            (3_599, "59 minutes"),
            (3_600, "1 hour"),
            (3_661, "1 hour 1 minute"),
            (7_320, "2 hours 2 minutes"),
            (200_000, "2 days"),
        ] {
            assert_eq!(ago(seconds), words);
        }
        for (seconds, words) in [
            (25, "minute"),
            (60, "minute"),
            (63, "minute"),
            (100, "100 s"),
            (180, "3 minutes"),
            (185, "185 s"),
        ] {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
    }
}
