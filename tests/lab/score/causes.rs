//! The score by cause, and what was taken for what. Pure.
//!
//! A scenario says which causes are right for which outcome, not which cause each request has: where several are, a verdict
//! that names one of them is right, and one that names another was owed "a or b".

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

/// What stands for a cause where there is none.
pub const NO_VERDICT: &str = "(no verdict)";
pub const NO_REQUEST: &str = "(no such failed request)";

/// (owed, named) to how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion(BTreeMap<(String, String), usize>);

/// How one cause did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfCause {
    /// Verdicts that name it.
    pub named: usize,
    /// Of these, the right ones.
    pub right: usize,
    /// Requests that were owed it alone.
    pub owed: usize,
    /// Of these, the ones that got it.
    pub got: usize,
}

impl OfCause {
    /// The smaller of the shares that are right among what it was named for, and among what it was owed for.
    pub fn accuracy(&self) -> f64 {
        super::ratio(self.right, self.named).min(super::ratio(self.got, self.owed))
    }
}

impl Confusion {
    pub fn note(&mut self, owed: impl Into<String>, named: impl Into<String>) {
        *self.0.entry((owed.into(), named.into())).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
    }

    /// Every cause that was named or owed.
    pub fn by_cause(&self) -> BTreeMap<&str, OfCause> {
        let mut all: BTreeMap<&str, OfCause> = BTreeMap::new();
        for ((owed, named), count) in &self.0 {
            let right = owed == named;
            if named != NO_VERDICT {
                let one = all.entry(named).or_default();
                one.named += count;
                one.right += if right { *count } else { 0 };
            }
            if owed != NO_REQUEST && !owed.contains(" or ") {
                let one = all.entry(owed).or_default();
                one.owed += count;
                one.got += if right { *count } else { 0 };
            }
        }
        all
    }

    /// The table by cause, then each confusion.
    pub fn text(&self) -> String {
        let all = self.by_cause();
        let width = all.keys().map(|c| c.len()).max().unwrap_or_default().max(8);
        let mut text = format!(
            "{:<width$}  {:>6}  {:>6}  {:>8}\n",
            "cause", "named", "right", "accuracy"
        );
        for (cause, of) in &all {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{cause:<width$}  {:>6}  {:>6}  {:>8.4}",
                of.named,
                of.right,
                of.accuracy()
            );
        }
        let mut confused = self
            .0
            .iter()
            .filter(|((owed, named), _)| owed != named)
            .peekable();
        if confused.peek().is_none() {
            text += "nothing was taken for anything else\n";
        } else {
            let _ = writeln!(text, "\n{:>6}  {:<width$}  owed", "count", "named");
        }
        for ((owed, named), count) in confused {
            let _ = writeln!(text, "{count:>6}  {named:<width$}  {owed}");
        }
        text
    }

    /// `{"causes": {cause: {named, right, accuracy}}, "confusion": [{owed, named, count}]}`
    pub fn object(&self) -> Value {
        let causes: serde_json::Map<String, Value> = self
            .by_cause()
            .into_iter()
            .map(|(cause, of)| {
                let one = json!({"named": of.named, "right": of.right, "accuracy": of.accuracy()});
                (cause.to_owned(), one)
            })
            .collect();
        let confusion: Vec<Value> = self
            .0
            .iter()
            .map(|((owed, named), count)| json!({"owed": owed, "named": named, "count": count}))
            .collect();
        json!({"causes": causes, "confusion": confusion})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Confusion {
        let mut c = Confusion::default();
        for _ in 0..3 {
            c.note("pod-ip-gone", "pod-ip-gone");
        }
        c.note("pod-ip-gone", "stale-conntrack-entry");
        c.note("immediate-exit or accept-queue-flush", "unexplained");
        c.note("oom-kill", NO_VERDICT);
        c.note(NO_REQUEST, "pod-ip-gone");
        c
    }

    #[test]
    fn a_cause_is_as_good_as_the_worse_of_what_it_claims_and_what_it_is_owed() {
        let c = example();
        let all = c.by_cause();
        assert_eq!(
            all["pod-ip-gone"],
            OfCause {
                named: 4,
                right: 3,
                owed: 4,
                got: 3
            }
        );
        assert!((all["pod-ip-gone"].accuracy() - 0.75).abs() < 1e-9);
        assert!(all["oom-kill"].accuracy().abs() < 1e-9);
        assert!(all["stale-conntrack-entry"].accuracy().abs() < 1e-9);
    }

    #[test]
    fn the_table_says_what_was_taken_for_what() {
        let text = example().text();
        assert!(text.contains("     1  (no verdict)           oom-kill"), "{text}");
        assert!(
            text.contains("     1  unexplained            immediate-exit or accept-queue-flush"),
            "{text}"
        );
    }
}
