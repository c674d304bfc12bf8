//! The whole evidence of one failed request, in the order of time.

use std::fmt::Write as _;

use super::{
    Style, escape,
    lane::since_zero_ms,
    verdict::{missing, path},
};
use crate::{
    causes::{RULES, amplifiers::AMPLIFIERS},
    verdict::{Confidence, Evidence, Judgement, Verdict},
};

/// Everything that the verdict rests on.
pub fn explanation(verdict: &Verdict, style: Style) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "{}  {}", style.bold(format!("{name:<10}")), what);
    };
    line("request", &escape(&verdict.id));
    line("path", &path(verdict));
    line(
        "outcome",
        &format!(
            "{} at {}, {:.1} ms after it began, as node {} saw it",
            verdict.outcome,
            wall(verdict),
            verdict.ended.ms_since(verdict.began),
            escape(&verdict.node)
        ),
    );
    line("cause", &style.red(verdict.cause()));
    let rule = RULES.iter().find(|r| r.name == verdict.cause());
    if let Some(rule) = rule {
        line("", rule.what);
    }
    line("trigger", &verdict.trigger.to_string());
    for name in &verdict.amplifiers {
        let what = AMPLIFIERS.iter().find(|a| a.name == *name).map_or("", |a| a.what);
        line("worse by", &format!("{name}: {what}"));
    }
    if let Judgement::Explained { finding, .. } = &verdict.judgement {
        line("because", &escape(&finding.because));
    }
    line(
        "confidence",
        &match verdict.confidence {
            Confidence::Full => "full: nothing was lost that it rests on".to_owned(),
            Confidence::Degraded { lost } => {
                style.yellow(format!("unsure: {}", missing(lost, &verdict.gaps)))
            }
        },
    );
    chain(&mut text, verdict, style);
    if let Judgement::Explained { finding, .. } = &verdict.judgement {
        for (measure, ms) in &finding.measures {
            let name = serde_json::to_value(measure).unwrap_or_default();
            let _ = writeln!(text, "  {:<32}  {ms:>10.3} ms", name.as_str().unwrap_or_default());
        }
    }
    if !verdict.also_matched.is_empty() {
        let _ = writeln!(text, "also fits: {}", verdict.also_matched.join(", "));
    }
    if let Some(rule) = rule {
        let _ = writeln!(
            text,
            "\n{} {}\n{} {}",
            style.bold("told by:"),
            rule.told_by,
            style.bold("remedy:"),
            rule.remedy
        );
    }
    text
}

/// The evidence with the connection's own beginning and end among it.
fn chain(text: &mut String, verdict: &Verdict, style: Style) {
    let (evidence, missing): (&[Evidence], &[String]) = match &verdict.judgement {
        Judgement::Explained { finding, .. } => (&finding.evidence, &[]),
        Judgement::Unexplained { seen, missing } => (seen, missing),
    };
    let zero = since_zero_ms(verdict, verdict.began);
    let origin = if zero.is_some() {
        "since the pod's deletion was seen"
    } else {
        "since the connection began"
    };
    let mut steps: Vec<(f64, String)> = evidence
        .iter()
        .map(|e| {
            let ms = since_zero_ms(verdict, e.at).unwrap_or_else(|| e.at.ms_since(verdict.began));
            (ms, escape(&e.what).into_owned())
        })
        .collect();
    let began = zero.unwrap_or(0.0);
    steps.push((began, style.dim("the connection began")));
    steps.push((
        began + verdict.ended.ms_since(verdict.began),
        style.red(format!("the client saw it: {}", verdict.outcome)),
    ));
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let _ = writeln!(text, "\n{} ({origin})", style.bold("evidence"));
    for (ms, what) in steps {
        let _ = writeln!(text, "  {ms:>+12.3} ms  {what}");
    }
    for missing in missing {
        let _ = writeln!(text, "  {:>15}  {}", "missing", escape(missing));
    }
    text.push('\n');
}

/// The time of its end in UTC.
fn wall(verdict: &Verdict) -> String {
    jiff::Timestamp::from_millisecond(verdict.wall.0)
        .map_or_else(|_| verdict.wall.0.to_string(), |t| format!("{t:.3}"))
}
