//! One rollout as a block: what was rolled out, what it broke, why, and which setting prevents it.

use std::fmt::Write as _;

use super::{Style, escape, propagation_table};
use crate::verdict::{Advice, Revision, RolloutSummary};

/// The block, without its last newline; an empty line before and after it sets it off from the verdicts.
pub fn rollout_block(rollout: &RolloutSummary, style: Style) -> String {
    let mut text = String::from("\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", head(rollout, style));
    let _ = writeln!(text, "{}", counts(rollout, style));
    if rollout.not_the_rollout > 0 {
        let _ = writeln!(
            text,
            "{} more failed in the same time and were not the rollout's",
            rollout.not_the_rollout
        );
    }
    let table = propagation_table(&rollout.propagation);
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
    text.push_str(&causes_part(rollout, style));
    text.push_str(&advice_part(rollout, style));
    text
}

/// One line a cause, behind an empty line.
pub(super) fn causes_part(rollout: &RolloutSummary, style: Style) -> String {
    let mut text = String::new();
    if !rollout.causes.is_empty() {
        text.push('\n');
        let wide = rollout.causes.iter().map(|c| c.cause.len()).max().unwrap_or(0);
        for cause in &rollout.causes {
            let name = style.red(format!("{:<wide$}", cause.cause));
            let _ = writeln!(text, "{:>5}  {name}  {}", cause.count, escape(&cause.summary));
        }
    }
    text
}

/// What to do, and what could be spared, each behind an empty line.
pub(super) fn advice_part(rollout: &RolloutSummary, style: Style) -> String {
    let mut text = String::new();
    if !rollout.advice.is_empty() {
        text.push('\n');
        for (i, advice) in rollout.advice.iter().enumerate() {
            let _ = writeln!(text, "{}", advice_lines(advice, i, rollout.failed, style));
        }
    }
    for saving in &rollout.savings {
        let _ = writeln!(
            text,
            "\n{} {}     ({})\n    -> a saving: it prevents nothing",
            style.bold("could:"),
            setting(saving),
            escape(&saving.because)
        );
    }
    text
}

pub(super) fn head(rollout: &RolloutSummary, style: Style) -> String {
    let name = format!(
        "{}/{}/{}",
        rollout.namespace, rollout.workload.kind, rollout.workload.name
    );
    let mut head = format!("{}  {}", style.bold("rollout"), style.bold(escape(&name)));
    match (&rollout.from, &rollout.to) {
        (Some(from), Some(to)) => {
            let _ = write!(head, "   {} -> {}", revision(from), revision(to));
        }
        (Some(one), None) | (None, Some(one)) => {
            let _ = write!(head, "   {}", revision(one));
        }
        (None, None) => {}
    }
    let pods = if rollout.pods == 1 { "pod" } else { "pods" };
    let elsewhere = match rollout.pods_elsewhere {
        0 => String::new(),
        more => format!(" (and {more} on other nodes)"),
    };
    let _ = write!(
        head,
        "   {} {pods}{elsewhere}   {:.1} s   by {}   node {}",
        rollout.pods,
        rollout.took_ms / 1000.0,
        rollout.trigger,
        escape(&rollout.node),
    );
    head
}

pub(super) fn revision(revision: &Revision) -> String {
    let hash = escape(&revision.template_hash);
    match revision.number {
        Some(number) => format!("rev {number} ({hash})"),
        None => format!("rev ? ({hash})"),
    }
}

pub(super) fn counts(rollout: &RolloutSummary, style: Style) -> String {
    let lost = format!("events lost {}", rollout.events_lost);
    let mut lost = if rollout.events_lost > 0 {
        style.yellow(lost)
    } else {
        lost
    };
    if let Some((first, more)) = rollout.gaps.split_first() {
        let more = match more.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        lost = format!(
            "{lost}     {}",
            style.yellow(format!("not all seen: {}{more}", escape(&first.to_string())))
        );
    }
    if rollout.failed == 0 {
        return format!("{}     {lost}", style.green("no request failed"));
    }
    let unexplained = format!("unexplained {}", rollout.unexplained);
    let unexplained = if rollout.unexplained > 0 {
        style.yellow(unexplained)
    } else {
        unexplained
    };
    format!(
        "requests failed {}     explained {}     {unexplained}     {lost}",
        rollout.failed, rollout.explained
    )
}

pub(super) fn setting(advice: &Advice) -> String {
    match advice.value {
        Some(value) => format!("{}: {value}", escape(&advice.setting)),
        None => escape(&advice.setting).into_owned(),
    }
}

fn advice_lines(advice: &Advice, index: usize, failed: usize, style: Style) -> String {
    let setting = setting(advice);
    let effect = if index == 0 {
        format!("would have prevented {} of {failed}", advice.prevents)
    } else {
        format!("{} of {failed}", advice.prevents)
    };
    format!(
        "{} {setting}     ({})\n    -> {effect}",
        style.bold("do:"),
        escape(&advice.because)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{Ktime, Wall, Workload},
        verdict::{CauseCount, Trigger},
    };

    fn summary() -> RolloutSummary {
        RolloutSummary {
            node: "n1".into(),
            namespace: "shop".into(),
            workload: Workload {
                kind: "deployment".into(),
                name: "web".into(),
            },
            trigger: Trigger::RollingUpdate,
            from: Some(Revision {
                number: Some(7),
                template_hash: "5895c69847".into(),
            }),
            to: Some(Revision {
                number: Some(8),
                template_hash: "8cc9f4fb5".into(),
            }),
            pods: 10,
            pods_elsewhere: 0,
            began: Ktime(0),
            wall: Wall(0),
            took_ms: 48_200.0,
            failed: 255,
            explained: 255,
            unexplained: 0,
            events_lost: 0,
            gaps: Vec::new(),
            not_the_rollout: 0,
            causes: vec![
                CauseCount {
                    cause: "pod-ip-gone",
                    count: 206,
                    summary: "new connections after their network was removed".into(),
                },
                CauseCount {
                    cause: "endpoint-removal-race",
                    count: 49,
                    summary: "SYN refused".into(),
                },
            ],
            propagation: Vec::new(),
            advice: vec![Advice {
                setting: "lifecycle.preStop.sleep.seconds".into(),
                value: Some(3),
                because: "slowest of 30 samples 2.31 s".into(),
                prevents: 253,
            }],
            template: None,
            savings: Vec::new(),
        }
    }

    #[test]
    fn block_reads_as_the_design_has_it() {
        assert_eq!(
            rollout_block(&summary(), Style::PLAIN),
            "\n\
             rollout  shop/deployment/web   rev 7 (5895c69847) -> rev 8 (8cc9f4fb5)   10 pods   48.2 s   \
             by rolling update   node n1\n\
             requests failed 255     explained 255     unexplained 0     events lost 0\n\
             \n\
             \x20 206  pod-ip-gone            new connections after their network was removed\n\
             \x20  49  endpoint-removal-race  SYN refused\n\
             \n\
             do: lifecycle.preStop.sleep.seconds: 3     (slowest of 30 samples 2.31 s)\n\
             \x20   -> would have prevented 253 of 255\n"
        );
    }

    #[test]
    fn saving_is_no_advice_that_prevents_something() {
        let clean = RolloutSummary {
            failed: 0,
            explained: 0,
            causes: Vec::new(),
            advice: Vec::new(),
            savings: vec![Advice {
                setting: "lifecycle.preStop.sleep.seconds".into(),
                value: Some(7),
                because: "your 60 s could be 7 s".into(),
                prevents: 0,
            }],
            ..summary()
        };
        let block = rollout_block(&clean, Style::PLAIN);
        assert!(
            block.ends_with(
                "\ncould: lifecycle.preStop.sleep.seconds: 7     (your 60 s could be 7 s)\n    -> a saving: it prevents \
                 nothing\n"
            ),
            "{block}"
        );
    }

    #[test]
    fn clean_rollout_says_that_nothing_failed() {
        let clean = RolloutSummary {
            failed: 0,
            explained: 0,
            causes: Vec::new(),
            propagation: Vec::new(),
            advice: Vec::new(),
            ..summary()
        };
        let block = rollout_block(&clean, Style::PLAIN);
        assert!(
            block.contains("\nno request failed     events lost 0\n"),
            "{block}"
        );
    }
}
