//! The score as people and as programs read it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Counts, Score};

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub name: &'a str,
    pub seed: Option<u64>,
    pub counts: &'a Counts,
    /// Expectations that were missed.
    pub missed: usize,
}

/// The table, with a line for each row and one for the sum of all.
pub fn table(rows: &[Row<'_>], total: &Counts) -> String {
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or_default().max(8);
    let mut text = format!(
        "{:<width$}  {:>4}  {:>8}  {:>6}  {:>8}  {:>6}  {:>9}  {:>8}  {:>7}  {:>11}  {:>6}  {:>4}\n",
        "scenario",
        "seed",
        "requests",
        "failed",
        "verdicts",
        "recall",
        "precision",
        "cause",
        "outcome",
        "unexplained",
        "marked",
        "lost"
    );
    let missed = rows.iter().map(|r| r.missed).sum();
    let sum = Row {
        name: "total",
        seed: None,
        counts: total,
        missed,
    };
    for row in rows.iter().chain([&sum]) {
        let c = row.counts;
        let seed = row.seed.map_or(String::new(), |s| s.to_string());
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{:<width$}  {seed:>4}  {:>8}  {:>6}  {:>8}  {:>6.4}  {:>9.4}  {:>8.4}  {:>7.4}  {:>11}  {:>6}  {:>4}",
            row.name,
            c.requests,
            c.failed,
            c.verdicts,
            c.recall(),
            c.precision(),
            c.cause_accuracy(),
            c.outcome_agreement(),
            c.unexplained,
            c.marked,
            c.events_lost
        );
        text.push_str(if row.missed > 0 { "  MISSED\n" } else { "\n" });
    }
    text
}

/// Which cause was named for which outcome.
pub fn confusion(score: &Score) -> String {
    let mut text = String::new();
    for ((cause, outcome), count) in &score.confusion {
        let _ = writeln!(text, "  {count:>6}  {cause:<24} {outcome}");
    }
    if score.by_node.len() > 1 {
        for (node, n) in &score.by_node {
            let _ = writeln!(
                text,
                "  {:>6}  claims of node {node}, {} right, {} verdicts",
                n.claims, n.right, n.verdicts
            );
        }
    }
    if !score.missed.is_empty() {
        let _ = writeln!(text, "  {:>6}  (no verdict)", score.missed.len());
    }
    if !score.false_claims.is_empty() {
        let _ = writeln!(
            text,
            "  {:>6}  (no such failed request)",
            score.false_claims.len()
        );
    }
    text
}

/// The fields of one scenario or of the total.
pub fn fields(c: &Counts) -> Value {
    json!({
        "requests": c.requests,
        "failed": c.failed,
        "aborted": c.aborted,
        "verdicts": c.verdicts,
        "claims": c.claims,
        "found": c.found,
        "recall": c.recall(),
        "precision": c.precision(),
        "cause_accuracy": c.cause_accuracy(),
        "outcome_agreement": c.outcome_agreement(),
        "unexplained": c.unexplained,
        "marked": c.marked,
        "events_lost": c.events_lost,
    })
}
