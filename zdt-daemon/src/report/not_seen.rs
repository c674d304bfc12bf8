//! A time in which something was not seen, in one line.

use super::escape;
use crate::verdict::{BEFORE_START, NotSeen};

/// What it was, and that the verdicts say so.
pub fn not_seen_line(not_seen: &NotSeen) -> String {
    let node = escape(&not_seen.node);
    if not_seen.of.iter().any(|of| of == BEFORE_START) {
        return format!("watching  node {node}; what began before is marked");
    }
    let seconds = not_seen.to.ms_since(not_seen.from) / 1000.0;
    let of = not_seen.of.join(", ");
    let of = escape(&of);
    format!(
        "gap      the watches of {of} were interrupted for {seconds:.1} s; what failed in that time waited for them, and is marked   node {node}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Ktime, Wall};

    #[test]
    fn a_start_and_an_interruption_are_told_apart() {
        let mut not_seen = NotSeen {
            node: "n1".to_owned(),
            of: vec![BEFORE_START.to_owned()],
            from: Ktime::default(),
            to: Ktime(20_300_000_000),
            wall: Wall(0),
        };
        assert!(not_seen_line(&not_seen).starts_with("watching  node n1"));
        not_seen.of = vec!["pods".to_owned(), "services".to_owned()];
        let line = not_seen_line(&not_seen);
        assert!(
            line.contains("watches of pods, services were interrupted for 20.3 s"),
            "{line}"
        );
    }
}
