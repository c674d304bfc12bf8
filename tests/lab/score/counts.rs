//! What is counted of a run. Pure.

use serde::Serialize;

/// Counts of one run, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: usize,
    pub failed: usize,
    /// Requests that the client gave up on purpose.
    pub aborted: usize,
    /// Requests that the client's machine could not begin: the lab's fault, never the daemon's.
    pub local_errors: usize,
    pub verdicts: usize,
    /// Verdicts that claim a failure.
    pub claims: usize,
    /// Failed requests that have a verdict.
    pub found: usize,
    /// Claims that belong to a failed request, or name a client's hang-up where one was.
    pub right_claims: usize,
    /// Aborted requests that have a verdict.
    pub aborts_found: usize,
    /// Matched verdicts whose cause the scenario judges.
    pub judged: usize,
    pub right_causes: usize,
    /// Of `found`: verdicts that name the client's outcome.
    pub right_outcomes: usize,
    pub unexplained: usize,
    /// Failed requests without a verdict, and verdicts with a wrong cause, in what the daemon had marked as not all seen. They
    /// count nowhere else.
    pub marked: usize,
    pub events_lost: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.aborted += other.aborted;
        self.local_errors += other.local_errors;
        self.verdicts += other.verdicts;
        self.claims += other.claims;
        self.found += other.found;
        self.right_claims += other.right_claims;
        self.aborts_found += other.aborts_found;
        self.judged += other.judged;
        self.right_causes += other.right_causes;
        self.right_outcomes += other.right_outcomes;
        self.unexplained += other.unexplained;
        self.marked += other.marked;
        self.events_lost += other.events_lost;
    }

    pub fn recall(&self) -> f64 {
        ratio(self.found, self.failed)
    }

    pub fn precision(&self) -> f64 {
        ratio(self.right_claims, self.claims)
    }

    pub fn cause_accuracy(&self) -> f64 {
        ratio(self.right_causes, self.judged)
    }

    pub fn outcome_agreement(&self) -> f64 {
        ratio(self.right_outcomes, self.found)
    }
}

/// Nothing of nothing is complete: the counts stand beside it.
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}
