//! Lanes as text: one row of letters a pod, with a row of failures under it.

use std::fmt::Write as _;

use super::{
    Style, escape,
    lane::{Lane, Step},
};
use crate::{causes::say_ms, verdict::Change};

const COLUMNS: usize = 64;

/// More pods than this do not fit on a screen.
const MOST: usize = 6;

/// The timeline of the pods that ended, and of those at which something failed; empty where there is none. The pods with
/// most failures are shown.
pub fn timeline(lanes: &[Lane], style: Style) -> String {
    let of_note = |l: &&Lane| l.change == Some(Change::Removal) || !l.failures.is_empty();
    let mut shown: Vec<&Lane> = lanes.iter().filter(of_note).collect();
    let all = shown.len();
    if all > MOST {
        let mut by_failures = shown.clone();
        by_failures.sort_by_key(|l| std::cmp::Reverse(l.failures.len()));
        by_failures.truncate(MOST);
        shown.retain(|l| by_failures.iter().any(|b| std::ptr::eq(*b, *l)));
    }
    let Some(scale) = Scale::of(&shown) else {
        return String::new();
    };
    let mut text = String::new();
    let _ = writeln!(text, "{}", legend(&shown));
    let _ = writeln!(
        text,
        "one column is {}; ! one failed request, * up to 9, # more",
        say_ms(scale.step_ms)
    );
    let name = |l: &Lane| l.pod.clone().unwrap_or_else(|| "(no pod)".to_owned());
    let wide = shown
        .iter()
        .map(|l| name(l).chars().count())
        .max()
        .unwrap_or(0)
        .min(48);
    for lane in &shown {
        let failed = lane.failures.len();
        let note = match failed {
            0 => style.green("none failed"),
            n => style.red(format!("{n} failed")),
        };
        let row = letters(lane, &scale);
        let row = row.trim_end();
        let _ = writeln!(
            text,
            "  {:<wide$}  {:<COLUMNS$}  {note}",
            escape(&name(lane)),
            row
        );
        if failed > 0 {
            let row = failures(lane, &scale);
            let _ = writeln!(text, "  {:<wide$}  {}", "", style.red(row.trim_end()));
        }
    }
    if all > shown.len() {
        let _ = writeln!(text, "  and {} pods more", all - shown.len());
    }
    text
}

/// The letters that are used; a pod that began has its own zero.
fn legend(lanes: &[&Lane]) -> String {
    let used = |s: &&Step| lanes.iter().any(|l| l.mark(**s).is_some());
    let one = |s: &Step| format!("{} {}", s.letter(), s.what());
    let lines = [&Step::END[..], &Step::BEGINNING[..]].map(|steps| {
        let words: Vec<String> = steps.iter().filter(used).map(one).collect();
        words.join("  ")
    });
    let lines: Vec<String> = lines.into_iter().filter(|l| !l.is_empty()).collect();
    lines.join("\n")
}

struct Scale {
    from_ms: f64,
    step_ms: f64,
}

impl Scale {
    fn of(lanes: &[&Lane]) -> Option<Self> {
        let spans: Vec<(f64, f64)> = lanes.iter().filter_map(|l| l.span()).collect();
        let from = spans.iter().map(|s| s.0).min_by(f64::total_cmp)?.min(0.0);
        let to = spans.iter().map(|s| s.1).max_by(f64::total_cmp)?;
        let rough = ((to - from) / (COLUMNS - 2) as f64).max(1.0);
        Some(Self {
            from_ms: from,
            step_ms: round_up(rough),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the columns"
    )]
    fn column(&self, ms: f64) -> usize {
        ((ms - self.from_ms) / self.step_ms)
            .floor()
            .clamp(0.0, (COLUMNS - 1) as f64) as usize
    }
}

/// The next of 1, 2, 5, 10, …
pub(super) fn round_up(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let of = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    of.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0)
}

/// Steps that share a column stand side by side, in the order of time.
fn letters(lane: &Lane, scale: &Scale) -> String {
    let mut marks: Vec<_> = lane.marks.iter().collect();
    marks.sort_by(|a, b| a.ms.total_cmp(&b.ms).then(a.step.cmp(&b.step)));
    let mut row = vec![' '; COLUMNS];
    let mut next = 0;
    for mark in marks {
        let at = scale.column(mark.ms).max(next);
        if let Some(place) = row.get_mut(at) {
            *place = mark.step.letter();
            next = at + 1;
        }
    }
    let (Some(first), Some(last)) = (
        row.iter().position(|c| *c != ' '),
        row.iter().rposition(|c| *c != ' '),
    ) else {
        return String::new();
    };
    let between = |(i, c): (usize, char)| {
        if c == ' ' && (first..last).contains(&i) {
            '-'
        } else {
            c
        }
    };
    row.into_iter().enumerate().map(between).collect()
}

fn failures(lane: &Lane, scale: &Scale) -> String {
    let mut counts = vec![0_usize; COLUMNS];
    for failure in &lane.failures {
        if let Some(count) = counts.get_mut(scale.column(failure.ms)) {
            *count += 1;
        }
    }
    let sign = |n: usize| match n {
        0 => ' ',
        1 => '!',
        2..=9 => '*',
        _ => '#',
    };
    counts.into_iter().map(sign).collect()
}
