//! The report as Markdown, for the pages of CI systems. What comes from outside cannot become a mark-up of its own.

use std::fmt::Write as _;

use super::{
    Answer, Gate, Style, escape, patch_command,
    rollout::{revision, setting},
    screen::confidence,
    story::{Report, Story},
    switch_line, timeline, verdict_line,
};

/// Most verdicts listed.
const MOST_LISTED: usize = 50;

/// Text outside of code: every character that means something to Markdown or HTML is escaped.
fn text(from: &str) -> String {
    let mut out = String::with_capacity(from.len() + 16);
    for c in escape(from).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Named anywhere, a user of a forge would be told of it.
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A block of code that its content cannot end.
fn code(out: &mut String, language: &str, content: &str) {
    let content = content.replace('`', "'");
    let _ = writeln!(out, "```{language}\n{}\n```\n", content.trim_end());
}

/// The gate's answer, then the report.
pub fn gate_markdown(gate: &Gate, name: &str) -> String {
    let sign = match gate.answer {
        Answer::Kept => "passed",
        Answer::Lost => "failed",
        Answer::Unknown | Answer::UnderWay => "unknown",
    };
    format!(
        "# {}: gate {sign}\n\n{}\n\n{}",
        text(name),
        text(&gate.says()),
        markdown(&gate.report)
    )
}

/// Writing to a String cannot fail, here and below.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for story in &report.rollouts {
        told(&mut out, story);
    }
    for switch in &report.switches {
        let _ = writeln!(out, "{}\n", text(&switch_line(switch)));
    }
    if !report.apart.is_empty() {
        let _ = writeln!(
            out,
            "### {} failed requests that no rollout did\n",
            report.apart.len()
        );
        let lines = report.apart.iter().map(|v| verdict_line(v, Style::PLAIN));
        listed(&mut out, lines.collect());
    }
    out
}

fn told(out: &mut String, story: &Story) {
    let r = &story.rollout;
    let name = format!("{}/{}/{}", r.namespace, r.workload.kind, r.workload.name);
    let verdict = if r.failed == 0 {
        "no request failed".to_owned()
    } else {
        format!("{} requests failed", r.failed)
    };
    let _ = writeln!(out, "## {}: {verdict}\n", text(&name));
    let revisions: Vec<String> = [&r.from, &r.to].into_iter().flatten().map(revision).collect();
    let elsewhere = match r.pods_elsewhere {
        0 => String::new(),
        more => format!(" (and {more} on other nodes)"),
    };
    let _ = writeln!(
        out,
        "{}, {} pods{elsewhere}, {:.1} s, by {}, node {}\n",
        text(&revisions.join(" to ")),
        r.pods,
        r.took_ms / 1000.0,
        r.trigger,
        text(&r.node)
    );
    let _ = writeln!(
        out,
        "| failed | explained | unexplained | failed otherwise | events lost |\n|---:|---:|---:|---:|---:|\n| {} | {} | {} | {} | {} |\n\n{}\n",
        r.failed,
        r.explained,
        r.unexplained,
        r.not_the_rollout,
        r.events_lost,
        text(&confidence(story, Style::PLAIN))
    );
    if !r.causes.is_empty() {
        out.push_str("| requests | cause | why |\n|---:|---|---|\n");
        for cause in &r.causes {
            let _ = writeln!(
                out,
                "| {} | **{}** | {} |",
                cause.count,
                cause.cause,
                text(&cause.summary)
            );
        }
        out.push('\n');
    }
    for advice in &r.advice {
        let _ = writeln!(
            out,
            "- **do: {}**: would have prevented {} of {} ({})",
            text(&setting(advice)),
            advice.prevents,
            r.failed,
            text(&advice.because)
        );
    }
    for saving in &r.savings {
        let _ = writeln!(
            out,
            "- could: {} ({})",
            text(&setting(saving)),
            text(&saving.because)
        );
    }
    if !r.advice.is_empty() || !r.savings.is_empty() {
        out.push('\n');
    }
    if let Some(patch) = &story.patch {
        let _ = writeln!(out, "Patch, for {}:\n", text(&patch_command(r)));
        code(out, "yaml", patch);
    }
    let rows = timeline(&story.lanes, Style::PLAIN);
    if !rows.is_empty() {
        out.push_str("Each pod, since its deletion (new pods: since Ready):\n\n");
        code(out, "text", &rows);
    }
    if !story.verdicts.is_empty() {
        let _ = writeln!(
            out,
            "<details><summary>the failed requests, one by one</summary>\n"
        );
        let lines = story.verdicts.iter().map(|v| verdict_line(v, Style::PLAIN));
        listed(out, lines.collect());
        out.push_str("</details>\n\n");
    }
}

fn listed(out: &mut String, lines: Vec<String>) {
    let more = lines.len().saturating_sub(MOST_LISTED);
    let mut shown: Vec<String> = lines.into_iter().take(MOST_LISTED).collect();
    if more > 0 {
        shown.push(format!("... {more} more"));
    }
    code(out, "text", &shown.join("\n"));
}
