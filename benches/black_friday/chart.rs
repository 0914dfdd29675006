//! A line chart as SVG, for light and dark pages. Pure.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 272.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 34.0;

/// Colours that stand apart from each other on both grounds, for those who can't tell red from green, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:14px;font-weight:600}\
.grid{stroke:#8884;stroke-width:1}.mark{stroke:#888;stroke-dasharray:3 3}path{fill:none;stroke-width:1.6}\
@media(prefers-color-scheme:dark){text{fill:#ccc}}";

/// A line: its name and its points, seconds and a value.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// Draws lines over the seconds of the day, with marks where something happened.
pub(crate) fn draw(title: &str, lines: &[Line], marks: &[(f64, &str)]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let end = points().map(|(second, _)| *second).fold(1.0, f64::max);
    let top = step_up(points().map(|(_, value)| *value).fold(0.0, f64::max));
    let x = |second: f64| LEFT + second / end * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<text class=\"title\" x=\"8\" y=\"16\">{title}</text>\n"
    );
    // Writing into a String can't fail, here and below.
    for number in 0..=4 {
        let value = top * f64::from(number) / 4.0;
        let (at, text) = (y(value), short(value));
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (number, (second, name)) in marks.iter().enumerate() {
        let at = x(*second);
        // By turns a line higher, for they may be close together.
        let height = TOP - if number % 2 == 0 { 6.0 } else { 19.0 };
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{height}\">{name}</text>",
            HEIGHT - BOTTOM,
            at + 3.0,
        );
    }
    for minute in 0..=8 {
        let second = end * f64::from(minute) / 8.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second:.0} s</text>",
            x(second),
            HEIGHT - 16.0
        );
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let way: String =
            points.iter().map(|(at, value)| format!(" {:.1},{:.1}", x(*at), y(*value))).collect();
        // A row of names at the bottom.
        #[expect(clippy::cast_precision_loss, reason = "a few lines")]
        let place = LEFT + number as f64 * 150.0;
        let _ = writeln!(
            out,
            "<path stroke=\"{colour}\" d=\"M{way}\"/>\
             <text x=\"{place}\" y=\"{}\" style=\"fill:{colour}\">{name}</text>",
            HEIGHT - 2.0
        );
    }
    out + "</svg>\n"
}

/// The next of 1, 2, 4, 5, 10, 20, …
fn step_up(value: f64) -> f64 {
    let ten = 10f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0].iter().map(|step| step * ten).find(|step| *step >= value).unwrap_or(10.0 * ten)
}

/// As people read it.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, " bn"),
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}
