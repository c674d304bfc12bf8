//! Truth against verdicts: matches each verdict with the request it is about, and counts. Pure.

mod blamed;
pub mod causes;
mod counts;
pub mod gaps;
pub mod limits;
mod matching;
pub mod nat;
pub mod proxied;
pub mod stages;
pub mod table;

pub use counts::Counts;
use counts::ratio;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use crate::{
    scenario::Expect,
    truth::{Outcome, Request},
};

/// A verdict as far as the score needs it: one JSON line of the daemon with `"kind":"verdict"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claim {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub began: u64,
    pub ended: u64,
    /// The client, before any masquerade.
    pub client: SocketAddr,
    #[serde(default)]
    pub dialled: Option<SocketAddr>,
    /// The pod's address that was chosen for it.
    #[serde(default)]
    pub server: Option<SocketAddr>,
    pub outcome: String,
    pub blame: String,
    /// Absent: unexplained.
    #[serde(default)]
    pub cause: Option<String>,
    /// The node whose daemon says it.
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub pod: Option<blamed::Pod>,
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub confidence: gaps::Confidence,
    #[serde(default)]
    pub gaps: Vec<gaps::Mark>,
    /// It is about an attempt of a proxy that another one made good (proxied.rs).
    #[serde(skip)]
    pub retried: bool,
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            began: 0,
            ended: 0,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
            dialled: None,
            server: None,
            outcome: String::new(),
            blame: String::new(),
            cause: None,
            node: String::new(),
            pod: None,
            id: String::new(),
            confidence: gaps::Confidence::default(),
            gaps: Vec::new(),
            retried: false,
        }
    }
}

impl Claim {
    pub fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or("unexplained")
    }

    /// It says that a client's request failed.
    fn claims_a_failure(&self) -> bool {
        self.blame != "not-a-request"
    }
}

/// What the daemon printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Printed {
    pub claims: Vec<Claim>,
    /// Rollout summaries, as they are.
    pub rollouts: Vec<serde_json::Value>,
    /// Propagations of single pods, as they are.
    pub propagations: Vec<serde_json::Value>,
    /// Times in which a daemon did not see everything.
    pub gaps: Vec<gaps::Gap>,
    /// Connections that stayed where they were when a service selected other pods.
    pub stayed: u64,
}

/// A line that is not one of the daemon's.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the daemon's output is not a verdict or a rollout ({what}): {text}")]
pub struct PrintedError {
    pub line: usize,
    pub what: String,
    pub text: String,
}

impl Printed {
    /// The claims, without those about the background's clients. One that blames a rollout for them stays: it is false.
    pub fn about_the_workload(&self, background: &[IpAddr]) -> Vec<Claim> {
        let of_background = |claim: &Claim| {
            claim.blame != "rollout" && background.contains(&claim.client.ip().to_canonical())
        };
        self.claims
            .iter()
            .filter(|c| !of_background(c))
            .cloned()
            .collect()
    }

    /// Reads `zdt run -o json`. Fields and kinds that the score does not know are left alone.
    pub fn parse(text: &str) -> Result<Self, PrintedError> {
        let mut printed = Self::default();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty()) {
            let wrong = |what: String| PrintedError {
                line: n + 1,
                what,
                text: line.chars().take(200).collect(),
            };
            let value: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
            match value.get("kind").and_then(|k| k.as_str()) {
                Some("verdict") => printed
                    .claims
                    .push(serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?),
                Some("not-seen") => printed
                    .gaps
                    .push(serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?),
                Some("rollout") => printed.rollouts.push(value),
                Some("propagation") => printed.propagations.push(value),
                Some("selector-switch") => {
                    let stayed = value.get("stayed").and_then(serde_json::Value::as_u64);
                    printed.stayed += stayed.unwrap_or_default();
                }
                Some(_) => {}
                None => return Err(wrong("no kind".to_owned())),
            }
        }
        Ok(printed)
    }
}

/// What one node's daemon said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    pub verdicts: usize,
    /// Verdicts that claim a failure.
    pub claims: usize,
    /// Claims that are right, and the first about their request.
    pub right: usize,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    pub counts: Counts,
    /// (cause, outcome as the client saw it) to matched verdicts.
    pub confusion: BTreeMap<(String, &'static str), usize>,
    /// What was taken for what, where the scenario judges causes.
    pub confused: causes::Confusion,
    /// Failed requests without a verdict, by their index in the truth.
    pub missed: Vec<usize>,
    /// Verdicts that claim a failure nobody had, by their index.
    pub false_claims: Vec<usize>,
    /// Matched verdicts with a cause that the scenario does not allow: (verdict, request).
    pub wrong_causes: Vec<(usize, usize)>,
    /// Node to what its daemon said.
    pub by_node: BTreeMap<String, NodeCounts>,
    /// Expectations of the scenario that were missed, in sentences.
    pub findings: Vec<String>,
}

/// Scores one run. `events_lost` is what the daemon counted as lost, `gaps` what it says it has not all seen.
pub fn score(
    truth: &[Request],
    claims: &[Claim],
    gaps: &[gaps::Gap],
    expect: &Expect,
    events_lost: u64,
) -> Score {
    let owed = |r: &Request| {
        (r.outcome.failed() && r.outcome != Outcome::LocalError) || r.outcome == Outcome::Aborted
    };
    let pairs = matching::pairs(truth, claims, owed);
    let mut score = Score::default();
    let counts = &mut score.counts;
    counts.requests = truth.len();
    counts.verdicts = claims.len();
    counts.events_lost = events_lost;
    counts.claims = claims.iter().filter(|c| c.claims_a_failure()).count();
    let unexplained = |c: &&Claim| c.cause() == "unexplained" && !c.doubted(gaps);
    counts.unexplained = claims.iter().filter(unexplained).count();
    let mut matched = vec![false; claims.len()];
    let mut has_verdict = vec![false; truth.len()];
    for &(c, r) in &pairs {
        let (Some(claim), Some(request)) = (claims.get(c), truth.get(r)) else {
            continue;
        };
        let failed = request.outcome != Outcome::Aborted;
        // Naming somebody else for a client's own hang-up is a false claim.
        let right = claim.claims_a_failure() && (failed || claim.blame == "not-the-rollout");
        counts.right_claims += usize::from(right);
        counts.found += usize::from(failed);
        counts.aborts_found += usize::from(!failed);
        // A hang-up has no outcome: the client did not wait for one.
        counts.right_outcomes += usize::from(failed && claim.outcome == request.outcome.name());
        let is_right = expect.is_right(claim.cause(), request.outcome);
        let doubted = is_right == Some(false) && claim.doubted(gaps);
        counts.marked += usize::from(doubted);
        if let Some(is_right) = is_right.filter(|_| !doubted) {
            counts.judged += 1;
            counts.right_causes += usize::from(is_right);
            if is_right {
                score.confused.note(claim.cause(), claim.cause());
            } else {
                score.wrong_causes.push((c, r));
                let owed = expect.owed(request.outcome).unwrap_or_default();
                score.confused.note(owed, claim.cause());
            }
        }
        *score
            .confusion
            .entry((claim.cause().to_owned(), request.outcome.name()))
            .or_default() += 1;
        set(&mut matched, c, right);
        set(&mut has_verdict, r, true);
    }
    for (c, claim) in claims.iter().enumerate().filter(|(_, c)| c.retried) {
        counts.right_claims += usize::from(claim.claims_a_failure());
        set(&mut matched, c, claim.claims_a_failure());
        let outcome = Outcome::ALL.iter().find(|o| o.name() == claim.outcome);
        if let Some(is_right) = outcome.and_then(|o| expect.is_right(claim.cause(), *o)) {
            counts.judged += 1;
            counts.right_causes += usize::from(is_right);
        }
        *score
            .confusion
            .entry((claim.cause().to_owned(), "(retried)"))
            .or_default() += 1;
    }
    for (r, request) in truth.iter().enumerate() {
        match request.outcome {
            Outcome::Aborted => counts.aborted += 1,
            Outcome::LocalError => counts.local_errors += 1,
            outcome if outcome.failed() => {
                if has_verdict.get(r) != Some(&true) && gaps::unseen(request, gaps) {
                    counts.marked += 1;
                    continue;
                }
                counts.failed += 1;
                if has_verdict.get(r) != Some(&true) {
                    score.missed.push(r);
                    if let Some(owed) = expect.owed(outcome) {
                        score.confused.note(owed, causes::NO_VERDICT);
                    }
                }
            }
            _ => {}
        }
    }
    for (c, claim) in claims.iter().enumerate() {
        let of_node = score.by_node.entry(claim.node.clone()).or_default();
        let right = matched.get(c) == Some(&true);
        of_node.verdicts += 1;
        of_node.claims += usize::from(claim.claims_a_failure());
        of_node.right += usize::from(right);
        if claim.claims_a_failure() && !right {
            score.false_claims.push(c);
            score.confused.note(causes::NO_REQUEST, claim.cause());
        }
    }
    score.findings = findings(&score, expect);
    score.findings.extend(blamed::another(claims, expect));
    let of_gaps = gaps::findings(&score, (truth, claims), &pairs, gaps, expect);
    score.findings.extend(of_gaps);
    score
}

fn set(all: &mut [bool], at: usize, to: bool) {
    if let Some(one) = all.get_mut(at) {
        *one = to;
    }
}

/// Which expectations were missed.
fn findings(score: &Score, expect: &Expect) -> Vec<String> {
    let c = &score.counts;
    let mut missed = Vec::new();
    if c.local_errors > 0 {
        missed.push(format!(
            "{} requests could not begin on the client's machine: the run does not count",
            c.local_errors
        ));
    }
    if !expect.failed.contains(c.failed) {
        let max = expect
            .failed
            .max
            .map_or("any number".to_owned(), |m| m.to_string());
        missed.push(format!(
            "{} requests failed; the scenario says {} to {max}",
            c.failed, expect.failed.min
        ));
    }
    for (name, (part, whole), least) in [
        ("recall", (c.found, c.failed), expect.recall),
        ("precision", (c.right_claims, c.claims), expect.precision),
        (
            "cause accuracy",
            (c.right_causes, c.judged),
            expect.cause_accuracy,
        ),
    ] {
        if limits::short(part, whole, least) {
            let got = ratio(part, whole);
            missed.push(format!("{name} is {got:.4}; the scenario says at least {least}"));
        }
    }
    let all: usize = score.confusion.values().sum();
    for (cause, expected) in expect.causes.iter().flatten() {
        let named: usize = score
            .confusion
            .iter()
            .filter(|((n, _), _)| n == cause)
            .map(|(_, v)| v)
            .sum();
        let share = named as f64 / all.max(1) as f64;
        if share < expected.min_share {
            missed.push(format!(
                "{cause} is {share:.3} of the matched verdicts ({named} of {all}); the scenario says at least {}",
                expected.min_share
            ));
        }
    }
    let named_aborts = expect
        .causes
        .iter()
        .flatten()
        .any(|(_, c)| c.outcomes.contains(&Outcome::Aborted));
    if named_aborts && ratio(c.aborts_found, c.aborted) < expect.recall {
        missed.push(format!(
            "{} of {} clients that hung up have a verdict",
            c.aborts_found, c.aborted
        ));
    }
    missed
}

#[cfg(test)]
mod tests;
