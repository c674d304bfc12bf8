//! The report as text, on one screen.

use std::fmt::Write as _;

use super::{
    Style, escape, patch_command, propagation_table,
    rollout::{advice_part, causes_part, counts, head},
    story::{Report, Story},
    switch_line, timeline, verdict_line,
};

/// Verdicts apart from rollouts are shown up to so many.
const MOST_APART: usize = 10;

/// With more pods than this, the table of stages says more than the rows of the timeline.
const MANY_PODS: usize = 6;

pub fn screen(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for (i, story) in report.rollouts.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        text.push_str(&told(story, style));
    }
    for switch in &report.switches {
        let _ = writeln!(text, "{}", switch_line(switch));
    }
    if !report.apart.is_empty() {
        let _ = writeln!(
            text,
            "\n{}",
            style.bold(format!(
                "{} failed requests that no rollout did",
                report.apart.len()
            ))
        );
        for verdict in report.apart.iter().take(MOST_APART) {
            let _ = writeln!(text, "{}", verdict_line(verdict, style));
        }
        if report.apart.len() > MOST_APART {
            let _ = writeln!(
                text,
                "... {} more: --format json has them",
                report.apart.len() - MOST_APART
            );
        }
    }
    text
}

fn told(story: &Story, style: Style) -> String {
    let rollout = &story.rollout;
    // Writing to a String cannot fail.
    let mut text = format!("{}\n{}\n", head(rollout, style), counts(rollout, style));
    if rollout.not_the_rollout > 0 {
        let _ = writeln!(
            text,
            "{} more failed in the same time and were not the rollout's",
            rollout.not_the_rollout
        );
    }
    let _ = writeln!(text, "{}", confidence(story, style));
    text.push_str(&causes_part(rollout, style));
    text.push_str(&advice_part(rollout, style));
    let rows = timeline(&story.lanes, style);
    if !rows.is_empty() {
        let _ = write!(
            text,
            "\n{}\n{rows}",
            style.bold("each pod, since its deletion (new pods: since Ready)")
        );
    }
    if story.lanes.len() > MANY_PODS {
        let table = propagation_table(&rollout.propagation);
        if !table.is_empty() {
            let _ = write!(text, "\n{table}");
        }
    }
    if let Some(patch) = &story.patch {
        let _ = write!(
            text,
            "\n{}     (zdt report --patch ... | {})\n{}",
            style.bold("patch"),
            escape(&patch_command(rollout)),
            style.dim(patch.trim_end())
        );
        text.push('\n');
    }
    if let Some(verdict) = story.verdicts.first() {
        let _ = writeln!(
            text,
            "\nthe evidence of one request: zdt explain --record FILE '{}'     about a cause: zdt causes {}",
            escape(&verdict.id),
            rollout.causes.first().map_or(verdict.cause(), |c| c.cause)
        );
    }
    text
}

/// How far to trust the whole.
pub(super) fn confidence(story: &Story, style: Style) -> String {
    let lost = story.rollout.events_lost;
    match (story.unsure, lost) {
        (0, 0) if story.rollout.gaps.is_empty() => "confidence full: nothing was lost".to_owned(),
        (0, 0) => style.yellow("not all of it was seen; none of the verdicts rests on the rest".to_owned()),
        (0, lost) => style.yellow(format!(
            "{lost} events were lost; none of them matters to the verdicts"
        )),
        (unsure, _) => style.yellow(format!(
            "{unsure} of {} verdicts are unsure: something was lost or not seen around them",
            story.verdicts.len()
        )),
    }
}
