//! What a node that does not tell everything makes of a verdict.

use super::RULES;

/// Of what is `missing` on this node, that for the lack of which the verdict may be wrong. `named`: the cause that it names,
/// which needs it (to be named at all, or to be told from a look-alike); None: unexplained, which may be any that needs it.
pub(crate) fn doubts(named: Option<&str>, missing: &[String]) -> Vec<&'static str> {
    let may_be = |name: &str| named.is_none_or(|named| named == name);
    let mut doubts: Vec<&'static str> = RULES
        .iter()
        .filter(|rule| !missing.is_empty() && may_be(rule.name))
        .flat_map(|rule| rule.needs.iter().copied())
        .filter(|need| missing.iter().any(|m| m == need))
        .collect();
    doubts.sort_unstable();
    doubts.dedup();
    doubts
}

/// The causes that cannot be named without it.
pub(crate) fn costs(need: &str) -> String {
    let rules = RULES.iter().filter(|rule| rule.needs.contains(&need));
    rules.map(|rule| rule.name).collect::<Vec<_>>().join(", ")
}

/// The same, as the end of a sentence.
pub(crate) fn say_costs(need: &str) -> String {
    match costs(need) {
        none if none.is_empty() => "costs evidence, no cause".to_owned(),
        causes => format!("costs {causes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(named: Option<&str>, missing: &[&str]) -> Vec<&'static str> {
        let missing: Vec<String> = missing.iter().map(|m| (*m).to_owned()).collect();
        doubts(named, &missing)
    }

    #[test]
    fn a_node_that_tells_everything_leaves_no_doubt() {
        for rule in RULES {
            assert!(without(Some(rule.name), &[]).is_empty());
        }
        assert!(without(None, &[]).is_empty());
        assert!(without(None, &["no_such_hook"]).is_empty());
    }

    #[test]
    fn a_cause_is_in_doubt_without_each_thing_that_it_needs_and_nothing_else() {
        let all = RULES.iter().flat_map(|rule| rule.needs);
        for need in all {
            for rule in RULES {
                let doubts = without(Some(rule.name), &[need]);
                assert_eq!(!doubts.is_empty(), rule.needs.contains(need), "{}", rule.name);
            }
            assert_eq!(without(None, &[need]), [*need]);
        }
    }
}
