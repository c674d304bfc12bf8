//! Lanes as one inline SVG: what each pod still did, what was still sent to it, and the requests that fell between.

use std::fmt::Write as _;

use super::{
    html::text as esc,
    lane::{Lane, Step},
    story::Story,
    timeline::round_up,
};
use crate::{causes::say_ms, verdict::Change};

const WIDTH: f64 = 1060.0;
/// The names stand left of it.
const LEFT: f64 = 200.0;
const RIGHT: f64 = 970.0;
const TOP: f64 = 30.0;
const LANE: f64 = 56.0;
/// More lanes than this help nobody.
const MOST: usize = 60;

/// The pods of a rollout that are worth a lane: those that ended, and those at which something failed.
pub(super) fn shown(story: &Story) -> Vec<&Lane> {
    let of_note = |l: &&Lane| l.change == Some(Change::Removal) || !l.failures.is_empty();
    story.lanes.iter().filter(of_note).collect()
}

/// The picture of a rollout, as a document of its own; a page adds the style.
pub fn story_svg(story: &Story) -> String {
    let svg = lanes_svg(&shown(story), TITLE);
    svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
}

/// What those hear who do not see it.
pub(super) const TITLE: &str = "the end of each pod, and the requests that failed at it";

/// The picture, or nothing where there is nothing to draw. `title` is for those who hear it.
pub fn lanes_svg(lanes: &[&Lane], title: &str) -> String {
    let lanes = lanes.get(..MOST).unwrap_or(lanes);
    let spans: Vec<(f64, f64)> = lanes.iter().filter_map(|l| l.span()).collect();
    let Some(to) = spans.iter().map(|s| s.1).max_by(f64::total_cmp) else {
        return String::new();
    };
    let from = spans.iter().map(|s| s.0).fold(0.0, f64::min);
    let room = (to - from).max(10.0) * 0.04;
    let axis = Axis {
        from: from - room,
        to: to + room,
    };
    let height = TOP + LANE * lanes.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n<title>{}</title>\n",
        esc(title),
        esc(title)
    );
    grid(&mut svg, &axis, height);
    for (i, lane) in lanes.iter().enumerate() {
        draw(&mut svg, lane, &axis, TOP + LANE * i as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn x(&self, ms: f64) -> f64 {
        let share = (ms - self.from) / (self.to - self.from);
        LEFT + (RIGHT - LEFT) * share.clamp(0.0, 1.0)
    }
}

/// Writing to a String cannot fail, here and below.
fn grid(svg: &mut String, axis: &Axis, height: f64) {
    let step = round_up((axis.to - axis.from) / 9.0);
    let mut at = (axis.from / step).ceil() * step;
    while at <= axis.to {
        let x = axis.x(at);
        let zero = at.abs() < step / 2.0;
        let class = if zero { "zero" } else { "grid" };
        let label = if zero { "0".to_owned() } else { say_ms(at) };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"20\" y2=\"{:.1}\"/><text class=\"soft\" x=\"{x:.1}\" y=\"13\" \
             text-anchor=\"middle\">{label}</text>",
            height - 4.0
        );
        at += step;
    }
}

fn draw(svg: &mut String, lane: &Lane, axis: &Axis, y: f64) {
    let name = lane.pod.as_deref().unwrap_or("(no pod)");
    let _ = writeln!(svg, "<g><title>{}</title>", esc(&spoken(lane)));
    let _ = writeln!(
        svg,
        "<text x=\"0\" y=\"{:.1}\">{}</text><text class=\"soft\" x=\"0\" y=\"{:.1}\">{}</text>",
        y + 22.0,
        esc(&shortened(name)),
        y + 37.0,
        esc(&note(lane))
    );
    bar(svg, "track", (LEFT, RIGHT), y + 14.0, 20.0);
    match lane.change {
        Some(Change::Removal) => removal(svg, lane, axis, y),
        Some(Change::Addition) => addition(svg, lane, axis, y),
        None => {}
    }
    for failure in &lane.failures {
        let x = axis.x(failure.ms);
        let _ = writeln!(
            svg,
            "<line class=\"fail\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>{} {}</title></line>",
            y + 36.0,
            y + 48.0,
            esc(failure.cause),
            esc(&signed(failure.ms))
        );
    }
    letters(svg, lane, axis, y);
    let count = match lane.failures.len() {
        0 => ("none", "none failed".to_owned()),
        n => ("bad", format!("{n} failed")),
    };
    let _ = writeln!(
        svg,
        "<text class=\"{}\" x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></g>",
        count.0,
        y + 28.0,
        count.1
    );
}

/// Above: it serves. Below: it is still sent new connections. Between the ends of both: the hole that requests fall into.
fn removal(svg: &mut String, lane: &Lane, axis: &Axis, y: f64) {
    let stopped = lane.stopped();
    let let_go = lane.let_go();
    if let Some(stopped) = stopped {
        bar(svg, "serve", (LEFT, axis.x(stopped)), y + 14.0, 12.0);
    }
    if let Some(let_go) = let_go {
        bar(svg, "route", (LEFT, axis.x(let_go)), y + 26.0, 8.0);
    }
    if let (Some(stopped), Some(let_go)) = (stopped, let_go)
        && stopped < let_go
    {
        bar(svg, "hole", (axis.x(stopped), axis.x(let_go)), y + 14.0, 12.0);
    }
}

/// The same of a new pod: sent to before it listens, requests fall into the hole.
fn addition(svg: &mut String, lane: &Lane, axis: &Axis, y: f64) {
    let led = [lane.mark(Step::FirstRule), lane.mark(Step::FirstConnection)];
    let led = led.into_iter().flatten().min_by(f64::total_cmp);
    let listening = lane.mark(Step::Listening);
    if let Some(listening) = listening {
        bar(svg, "serve", (axis.x(listening), RIGHT), y + 14.0, 12.0);
    }
    if let Some(led) = led {
        bar(svg, "route", (axis.x(led), RIGHT), y + 26.0, 8.0);
    }
    if let (Some(led), Some(listening)) = (led, listening)
        && led < listening
    {
        bar(svg, "hole", (axis.x(led), axis.x(listening)), y + 14.0, 12.0);
    }
}

fn bar(svg: &mut String, class: &str, (from, to): (f64, f64), y: f64, height: f64) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height}\"/>",
        (to - from).max(0.0)
    );
}

/// A tick at the very time, and its letter above, moved aside where there is no room.
fn letters(svg: &mut String, lane: &Lane, axis: &Axis, y: f64) {
    let mut marks: Vec<_> = lane.marks.iter().collect();
    marks.sort_by(|a, b| a.ms.total_cmp(&b.ms).then(a.step.cmp(&b.step)));
    let mut next = f64::MIN;
    for mark in marks {
        let x = axis.x(mark.ms);
        let at = x.max(next);
        next = at + 9.5;
        let letter = mark.step.letter();
        let said = format!("{} {} (node {})", mark.step.what(), signed(mark.ms), mark.node);
        let _ = writeln!(
            svg,
            "<path class=\"mark\" d=\"M{at:.1} {:.1}L{x:.1} {:.1}V{:.1}\"/><text class=\"letter\" x=\"{at:.1}\" y=\"{:.1}\">{letter}<title>{}</title></text>",
            y + 10.5,
            y + 14.0,
            y + 34.0,
            y + 9.0,
            esc(&said)
        );
    }
}

pub(super) fn signed(ms: f64) -> String {
    if ms > 0.0 {
        format!("+{}", say_ms(ms))
    } else {
        say_ms(ms)
    }
}

/// The end of a long name tells pods apart.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= 26 {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - 25).collect();
    format!("…{end}")
}

fn note(lane: &Lane) -> String {
    let what = match lane.change {
        Some(Change::Removal) => "since its deletion",
        Some(Change::Addition) => "new, since Ready",
        None => "since the rollout began",
    };
    match &lane.pod_node {
        Some(node) => format!("{what}, on {node}"),
        None => what.to_owned(),
    }
}

fn spoken(lane: &Lane) -> String {
    let mut text = lane.pod.clone().unwrap_or_else(|| "no pod".to_owned());
    for mark in &lane.marks {
        let _ = write!(text, "; {} {}", mark.step.what(), signed(mark.ms));
    }
    let _ = write!(text, "; {} requests failed", lane.failures.len());
    text
}
