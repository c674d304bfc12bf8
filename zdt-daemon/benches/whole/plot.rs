//! The rows as a plot: for each load, the throughput ratio of each observer with its spread.

use std::fmt::Write as _;

use crate::report::{Report, Row};

const LEFT: f64 = 220.0;
const WIDTH: f64 = 520.0;
const LINE: f64 = 20.0;
/// Ratios beyond are drawn at the edge.
const MOST: f64 = 1.2;

/// Where a ratio is drawn.
pub fn x(ratio: f64) -> f64 {
    LEFT + ratio.clamp(0.0, MOST) / MOST * WIDTH
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn bar(out: &mut String, y: f64, row: &Row) {
    let (least, greatest) = row.throughput_ratio.spread();
    let median = row.throughput_ratio.median();
    let colour = if row.observer.starts_with("zdt") {
        "#0a7d57"
    } else {
        "#8a8f98"
    };
    let (middle, text) = (y + LINE / 2.0, y + LINE * 0.7);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        r##"<text x="{}" y="{text}" text-anchor="end">{}</text><rect x="{LEFT}" y="{}" width="{:.1}" height="{}" fill="{colour}"/><line x1="{:.1}" x2="{:.1}" y1="{middle}" y2="{middle}" stroke="#111" stroke-width="1.5"/><text x="{:.1}" y="{text}">{median:.3}</text>"##,
        LEFT - 8.0,
        escape(&row.observer),
        y + 3.0,
        x(median) - LEFT,
        LINE - 6.0,
        x(least),
        x(greatest),
        LEFT + WIDTH + 8.0,
    );
}

/// A whole SVG document.
pub fn svg(report: &Report) -> String {
    let (mut body, mut y, mut load) = (String::new(), 30.0, "");
    for row in report
        .rows
        .iter()
        .filter(|r| r.throughput_ratio.median().is_finite())
    {
        if load != row.load {
            load = &row.load;
            y += LINE;
            let _ = writeln!(
                body,
                r#"<text x="8" y="{}" font-weight="bold">{}</text>"#,
                y + LINE * 0.7,
                escape(load)
            );
            y += LINE;
        }
        bar(&mut body, y, row);
        y += LINE;
    }
    let (one, height) = (x(1.0), y + LINE);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{height}" font-family="sans-serif" font-size="12" fill="#111">
<rect width="100%" height="100%" fill="#fff"/>
<text x="8" y="20" font-size="14">Throughput beside each observer, as a ratio to nobody in the same round (median, least to greatest)</text>
<line x1="{one}" x2="{one}" y1="32" y2="{y}" stroke="#c33" stroke-dasharray="3 3"/>
{body}</svg>
"##,
        LEFT + WIDTH + 70.0
    )
}
