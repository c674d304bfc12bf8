//! What the lab's score says of one kernel: no cause may be claimed that this kernel cannot show, and a failure with such a cause
//! is rightly unexplained.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Value, json};

/// An emulated machine does not keep times: what is late there is taken for something else now and then.
const LEAST: f64 = 0.9;
/// Of one scenario, with its few dozen failures.
const LEAST_OF_ONE: f64 = 0.75;

/// How the lab says that a scenario which is about failures had none (`expect.failed`).
const NOTHING_FAILED: &str = "0 requests failed";

const UNEXPLAINED: &str = "unexplained";
/// Failures that have no cause, where this kernel does not show what they are owed.
const EXCUSED: &str = "rightly_unexplained";
/// Share of the verdicts that are as this kernel can have them: the right cause, or none where it shows none.
const ACCURACY: &str = "cause_accuracy_here";

/// The sums, the sums of each scenario, and how many failures had no cause because the kernel does not show it.
pub fn of(said: &Value, lost: &BTreeSet<String>) -> Value {
    let Some(total) = said.get("total").and_then(Value::as_object) else {
        return Value::Null;
    };
    let mut score = total.clone();
    let (mut judged, mut right, mut excused) = (0, 0, 0);
    for (owed, named, count) in
        confusions(said).filter(|(owed, named, _)| !owed.starts_with('(') && !named.starts_with('('))
    {
        judged += count;
        if owed == named {
            right += count;
        } else if named == UNEXPLAINED && owed.split(" or ").all(|cause| lost.contains(cause)) {
            excused += count;
        }
    }
    score.insert(EXCUSED.to_owned(), json!(excused));
    score.insert(
        ACCURACY.to_owned(),
        json!((right + excused) as f64 / judged.max(1) as f64),
    );
    let one = |of: &Value| {
        let fields = [
            "name",
            "failed",
            "recall",
            "precision",
            "cause_accuracy",
            "causes",
            "missed",
        ];
        let kept = fields.map(|f| (f.to_owned(), of.get(f).cloned().unwrap_or_default()));
        Value::Object(kept.into_iter().collect())
    };
    let scenarios = said.get("scenarios").and_then(Value::as_array);
    let scenarios: Vec<Value> = scenarios.into_iter().flatten().map(one).collect();
    score.insert("scenarios".to_owned(), Value::Array(scenarios));
    let wrong: Vec<Value> = confusions(said)
        .filter(|(owed, named, _)| owed != named)
        .map(|(owed, named, count)| json!({"owed": owed, "named": named, "count": count}))
        .collect();
    score.insert("confusion".to_owned(), Value::Array(wrong));
    Value::Object(score)
}

/// What was owed, what was named instead or rightly, and how often.
fn confusions(said: &Value) -> impl Iterator<Item = (&str, &str, u64)> {
    let all = said.get("confusion").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| {
        let text = |of: &str| one.get(of)?.as_str();
        Some((text("owed")?, text("named")?, one.get("count")?.as_u64()?))
    })
}

fn number(of: &Value, what: &str) -> Option<f64> {
    of.get(what)?.as_f64()
}

/// What must not be, of `asked` scenarios.
pub fn complaints(score: &Value, asked: usize, lost: &BTreeSet<String>) -> Vec<String> {
    let mut all = Vec::new();
    let sums = [
        ("recall", number(score, "recall")),
        ("precision", number(score, "precision")),
        ("cause accuracy", number(score, ACCURACY)),
    ];
    for (what, value) in sums {
        match value {
            Some(value) if value >= LEAST => {}
            Some(value) => all.push(format!("{what} is {value:.3}, below {LEAST}")),
            None => all.push(format!("the lab told no {what}")),
        }
    }
    if number(score, "failed") == Some(0.0) {
        all.push("no request failed in the lab: nothing was scored".to_owned());
    }
    let scenarios = score.get("scenarios").and_then(Value::as_array);
    let scenarios = scenarios.map(Vec::as_slice).unwrap_or_default();
    if scenarios.len() != asked {
        all.push(format!("{} of {asked} scenarios have a score", scenarios.len()));
    }
    for one in scenarios {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        for what in ["recall", "precision"] {
            match number(one, what) {
                Some(value) if value >= LEAST_OF_ONE => {}
                value => all.push(format!(
                    "{name}: {what} is {:.3}, below {LEAST_OF_ONE}",
                    value.unwrap_or_default()
                )),
            }
        }
    }
    let idle = scenarios.iter().filter(|one| {
        let missed = one.get("missed").and_then(Value::as_array);
        let mut missed = missed.into_iter().flatten().filter_map(Value::as_str);
        missed.any(|what| what.starts_with(NOTHING_FAILED))
    });
    for one in idle {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        all.push(format!("{name}: nothing failed, so nothing was scored"));
    }
    for (owed, named, count) in confusions(score).filter(|(_, named, _)| lost.contains(*named)) {
        all.push(format!(
            "{named} is claimed {count} times for {owed}, and this kernel does not show all that it needs"
        ));
    }
    all
}

/// A line for each scenario, and each thing that was taken for another.
pub fn lines(score: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let scenarios = score.get("scenarios").and_then(Value::as_array);
    for one in scenarios.into_iter().flatten() {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        let causes: Vec<String> = one
            .get("causes")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(cause, outcomes)| {
                let counts = outcomes.as_object().into_iter().flatten();
                let sum: u64 = counts.filter_map(|(_, count)| count.as_u64()).sum();
                format!("{cause} {sum}")
            })
            .collect();
        let number = |what: &str| number(one, what).unwrap_or_default();
        lines.push(format!(
            "{name:<28}{:>4} failed   {:.3} {:.3} {:.3}   {}",
            number("failed"),
            number("recall"),
            number("precision"),
            number("cause_accuracy"),
            causes.join(", ")
        ));
    }
    for (owed, named, count) in confusions(score) {
        lines.push(format!("{count} {named} for {owed}"));
    }
    lines
}

/// The sums in one line.
pub fn line(score: &Value) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |n| format!("{n:.3}"));
    let mut line = format!(
        "recall {} precision {} cause {}",
        shown(number(score, "recall")),
        shown(number(score, "precision")),
        shown(number(score, ACCURACY))
    );
    if let Some(count) = number(score, EXCUSED).filter(|n| *n > 0.0) {
        let _ = write!(line, " ({count} rightly unexplained)");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Value {
        json!({
            "total": {"recall": 1.0, "precision": 1.0, "cause_accuracy": 0.5, "failed": 20, "claims": 20, "found": 20},
            "scenarios": [
                {"name": "policy-drop", "failed": 10, "recall": 1.0, "precision": 1.0, "cause_accuracy": 0.0,
                 "causes": {"unexplained": {"timed-out": 10}}, "missed": []},
                {"name": "oom-kill", "failed": 10, "recall": 1.0, "precision": 0.5, "cause_accuracy": 1.0,
                 "causes": {"oom-kill": {"reset": 10}}, "missed": []},
            ],
            "confusion": [
                {"owed": "policy-drop", "named": "unexplained", "count": 10},
                {"owed": "oom-kill", "named": "oom-kill", "count": 10},
            ],
        })
    }

    fn lost(causes: &[&str]) -> BTreeSet<String> {
        causes.iter().map(|&cause| cause.to_owned()).collect()
    }

    #[test]
    fn a_cause_that_the_kernel_does_not_show_is_rightly_unexplained_there() {
        let lost = lost(&["policy-drop"]);
        let score = of(&said(), &lost);
        assert_eq!(number(&score, ACCURACY), Some(1.0));
        assert_eq!(
            complaints(&score, 2, &lost),
            ["oom-kill: precision is 0.500, below 0.75"]
        );
        assert!(
            line(&score).ends_with("cause 1.000 (10 rightly unexplained)"),
            "{}",
            line(&score)
        );
    }

    #[test]
    fn a_scenario_in_which_nothing_failed_is_no_success() {
        let mut said = said();
        said["scenarios"][0]["missed"] = json!(["0 requests failed; the scenario says 20 to any number"]);
        let lost = lost(&["policy-drop"]);
        let all = complaints(&of(&said, &lost), 2, &lost);
        assert!(
            all.contains(&"policy-drop: nothing failed, so nothing was scored".to_owned()),
            "{all:?}"
        );
    }

    #[test]
    fn where_the_kernel_shows_it_unexplained_is_a_miss() {
        let score = of(&said(), &lost(&[]));
        let all = complaints(&score, 3, &lost(&[]));
        assert_eq!(all[0], "cause accuracy is 0.500, below 0.9");
        assert_eq!(all[1], "2 of 3 scenarios have a score");
    }

    #[test]
    fn a_cause_that_the_kernel_does_not_show_is_not_claimed_for_another() {
        let mut said = said();
        said["confusion"][1]["named"] = json!("policy-drop");
        let lost = lost(&["policy-drop"]);
        let all = complaints(&of(&said, &lost), 2, &lost);
        assert!(
            all.iter()
                .any(|c| c.starts_with("policy-drop is claimed 10 times for oom-kill")),
            "{all:?}"
        );
    }
}
