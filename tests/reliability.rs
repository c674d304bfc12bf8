//! docs/reliability.md names for each promise the tests that hold it: each of them is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{collections::BTreeSet, fs, path::Path};

/// The code spans of a table row that name a test: `file: test`.
fn named(row: &str) -> impl Iterator<Item = (&str, &str)> {
    let spans = row.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.split_once(".rs: "))
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut seen = BTreeSet::new();
    let is_row = |line: &&str| line.starts_with("| ") && !line.contains("| test |");
    for row in text.lines().filter(is_row) {
        let tests: Vec<_> = named(row).collect();
        assert!(!tests.is_empty(), "no test holds this promise: {row}");
        for (file, test) in tests {
            let path = root.join(format!("{file}.rs"));
            let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let lines: Vec<&str> = source.lines().map(str::trim).collect();
            let defined = lines.iter().position(|l| {
                let name = l.trim_start_matches("async ").strip_prefix("fn ");
                name.is_some_and(|n| n.starts_with(test) && n[test.len()..].starts_with('('))
            });
            let at = defined.unwrap_or_else(|| panic!("{file}.rs has no test {test}"));
            let marks = &lines[at.saturating_sub(4)..at];
            let ignored = marks.iter().any(|l| l.starts_with("#[ignore"));
            // A law of proptest! is a function with arguments in the macro's body.
            assert!(!ignored, "{file}.rs: {test} is ignored");
            seen.insert((file.to_owned(), test.to_owned()));
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}
