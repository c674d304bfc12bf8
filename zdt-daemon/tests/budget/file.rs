//! `budget.txt`: what figures may be, each with its reason.

use std::collections::BTreeMap;

const BUDGET: &str = include_str!("../budget.txt");
/// Growth that needs no reason.
const SLACK: f64 = 1.05;

/// `figure  value  reason` in each line.
pub fn budget() -> BTreeMap<&'static str, f64> {
    let lines = BUDGET.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let (figure, value) = (words.next().unwrap(), words.next().unwrap());
            assert!(words.next().is_some(), "{line:?} has no reason");
            (figure, value.parse().unwrap())
        })
        .collect()
}

/// What was measured is in the budget, or why it is not.
pub fn within(figure: &str, measured: f64) -> Result<(), String> {
    let Some(may) = budget().get(figure).copied() else {
        return Err(format!(
            "{figure} is {measured:.2} and has no line in tests/budget.txt"
        ));
    };
    if measured <= may * SLACK {
        return Ok(());
    }
    let more = (measured / may - 1.0) * 100.0;
    Err(format!(
        "{figure} is {measured:.2} and may be {may} ({more:.1} % more): make it less, or give the reason in tests/budget.txt"
    ))
}

/// Lines of figures that begin so, and that nobody measures.
pub fn without_a_measure(prefix: &str, measured: impl Fn(&str) -> bool) -> Vec<String> {
    let figures = budget()
        .into_keys()
        .filter(|f| f.starts_with(prefix) && !measured(f));
    figures
        .map(|f| format!("tests/budget.txt has {f}, and nothing measures it"))
        .collect()
}
