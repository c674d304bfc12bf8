//! What a daemon says it has not seen, and the failed requests that this excuses: they are counted apart, so that a score can
//! drop only where it was said beforehand. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Claim, Printed, Score};
use crate::{scenario::Expect, truth::Request};

/// A JSON line of the daemon with `"kind":"not-seen"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Gap {
    pub of: Vec<String>,
    pub from: u64,
    pub to: u64,
    /// Up to when the daemon before saw, and said what it had the time to say.
    #[serde(skip)]
    pub seen_until: u64,
}

impl Gap {
    fn start(&self) -> bool {
        self.of.iter().any(|of| of == "start")
    }

    /// It may matter to every verdict of a node that has the pods.
    fn matters(&self) -> bool {
        self.of.iter().any(|of| of == "start" || of == "pods")
    }
}

/// A gap that a verdict names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Mark {
    pub of: String,
    pub to: u64,
}

/// A verdict's confidence as the daemon prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Confidence {
    pub level: String,
}

impl Claim {
    /// It says itself that something may be missing.
    pub(super) fn marked(&self) -> bool {
        self.confidence.level == "degraded"
    }

    /// It says that it rests on a time that was not all seen, and that time was said.
    pub(super) fn doubted(&self, gaps: &[Gap]) -> bool {
        let said = |mark: &Mark| {
            let said = gaps.iter().filter(|g| g.of.contains(&mark.of));
            said.into_iter().any(|g| mark.to <= g.to)
        };
        self.marked() && self.gaps.iter().any(said)
    }
}

impl Printed {
    /// The daemon came after one that ended at a time and had said everything up to `unsaid_ns` before it; or it is the first,
    /// and nothing failed before it.
    pub fn follows(&mut self, before: Option<(u64, u64)>) {
        match before {
            Some((ended, unsaid_ns)) => {
                for gap in self.gaps.iter_mut().filter(|g| g.start()) {
                    gap.from = ended.saturating_sub(unsaid_ns);
                    gap.seen_until = ended;
                }
            }
            None => self.gaps.retain(|gap| !gap.start()),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.claims.extend(other.claims);
        self.rollouts.extend(other.rollouts);
        self.propagations.extend(other.propagations);
        self.gaps.extend(other.gaps);
        self.stayed += other.stayed;
    }

    /// Failures that were counted twice.
    pub fn repeated(&self) -> Option<String> {
        let mut ids = BTreeSet::new();
        let mut twice = Vec::new();
        for claim in self
            .claims
            .iter()
            .filter(|c| c.claims_a_failure() && !c.id.is_empty())
        {
            if !ids.insert((&claim.node, &claim.id)) {
                twice.push(&claim.id);
            }
        }
        let first = twice.first()?;
        Some(format!(
            "{} verdicts have an id that another one of their node has: {first}",
            twice.len()
        ))
    }
}

/// Something was not seen while this request was under way.
pub(super) fn unseen(request: &Request, gaps: &[Gap]) -> bool {
    gaps.iter()
        .any(|gap| gap.from <= request.ended_ns && request.began_ns <= gap.to)
}

/// What the scenario says of gaps, and was not so.
pub(super) fn findings(
    score: &Score,
    (truth, claims): (&[Request], &[Claim]),
    pairs: &[(usize, usize)],
    gaps: &[Gap],
    expect: &Expect,
) -> Vec<String> {
    let mut missed = Vec::new();
    let mut range = |what: &str, got: usize, range: &crate::scenario::Range| {
        if !range.contains(got) {
            let max = range.max.map_or("any number".to_owned(), |m| m.to_string());
            missed.push(format!("{got} {what}; the scenario says {} to {max}", range.min));
        }
    };
    range("gaps were said", gaps.len(), &expect.gaps);
    range(
        "failed requests were missed, or named wrongly, in what was marked",
        score.counts.marked,
        &expect.marked,
    );
    let mattering: Vec<Gap> = gaps.iter().filter(|g| g.matters()).cloned().collect();
    let sure = pairs.iter().filter(|&&(c, r)| {
        let (Some(claim), Some(request)) = (claims.get(c), truth.get(r)) else {
            return false;
        };
        // The daemon's times are a little off the client's; a verdict that only touches the edge may go either way.
        let inside = mattering
            .iter()
            .any(|g| g.from.max(g.seen_until) <= claim.ended && claim.began <= g.to);
        inside && unseen(request, &mattering) && !claim.marked()
    });
    match sure.count() {
        0 => {}
        n => missed.push(format!(
            "{n} verdicts about what was not all seen are sure of themselves"
        )),
    }
    let longest = gaps
        .iter()
        .map(|g| g.to.saturating_sub(g.from))
        .max()
        .unwrap_or_default() as f64
        / 1e6;
    if expect.longest_gap_ms.is_some_and(|most| longest > most) {
        missed.push(format!("a gap of {longest:.0} ms was said"));
    }
    missed
}

#[cfg(test)]
#[path = "gaps_tests.rs"]
mod tests;
