//! The gate's answer as JUnit XML, which CI systems show as a test: passed, failed, or in error when it cannot be told.

use std::fmt::Write as _;

use super::{Answer, Gate, Style, html::text, screen};

/// One suite with one test case. Writing to a String cannot fail.
pub fn junit(gate: &Gate, name: &str) -> String {
    let (failures, errors) = match gate.answer {
        Answer::Lost => (1, 0),
        Answer::Unknown | Answer::UnderWay => (0, 1),
        Answer::Kept => (0, 0),
    };
    let seconds: f64 = gate
        .report
        .rollouts
        .iter()
        .map(|s| s.rollout.took_ms / 1000.0)
        .sum();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"1\" failures=\"{failures}\" errors=\"{errors}\">\n\
         <testsuite name=\"zdt\" tests=\"1\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" time=\"{seconds:.3}\">\n\
         <testcase classname=\"zdt.gate\" name=\"{}\" time=\"{seconds:.3}\">\n",
        text(name)
    );
    let said = text(&gate.says()).into_owned();
    let told = lines(&screen(&gate.report, Style::PLAIN));
    let element = match gate.answer {
        Answer::Lost => Some("failure"),
        Answer::Unknown | Answer::UnderWay => Some("error"),
        Answer::Kept => None,
    };
    match element {
        Some(element) => {
            let _ = writeln!(out, "<{element} message=\"{said}\">\n{told}</{element}>");
        }
        None => {
            let _ = writeln!(out, "<system-out>{said}\n{told}</system-out>");
        }
    }
    out.push_str("</testcase>\n</testsuite>\n</testsuites>\n");
    out
}

/// Text of several lines, which stay lines.
fn lines(from: &str) -> String {
    from.lines()
        .flat_map(|line| [text(line).into_owned(), "\n".to_owned()])
        .collect()
}
