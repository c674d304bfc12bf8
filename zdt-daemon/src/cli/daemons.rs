//! What the daemons of a cluster have said: what one node saw is joined with what the others did.

use std::collections::BTreeMap;

use super::read::OUTPUT;
use crate::{
    app,
    causes::UNEXPLAINED,
    config,
    verdict::{Confidence, Judgement, Output, Verdict},
};

/// Asks every daemon; which did not answer is said.
pub(super) fn told(
    sources: &config::Sources,
    since: Option<jiff::SignedDuration>,
) -> anyhow::Result<Vec<Output>> {
    let logs = app::daemons_logs(sources, since.map(|s| s.as_secs().max(1)))?;
    let asked = logs.len();
    let mut told = Vec::new();
    let mut silent = 0;
    for log in logs {
        if log.cut {
            tracing::warn!(
                "the log of zdt on node {} is too long to be read whole: its newest lines are missing, ask with --since",
                log.node
            );
        }
        let said = log.texts.and_then(|texts| {
            let parsed = texts.iter().map(|text| outputs(text, log.cut));
            parsed.collect::<Result<Vec<_>, _>>()
        });
        match said {
            Ok(outputs) => told.extend(outputs.into_iter().flatten()),
            Err(why) => {
                silent += 1;
                tracing::warn!(
                    "the zdt of node {} did not answer, what it saw is missing: {why}",
                    log.node
                );
            }
        }
    }
    if silent == asked {
        anyhow::bail!(
            "none of the {asked} zdt pods in namespace {} answered",
            sources.zdt_namespace
        );
    }
    Ok(joined(told))
}

/// The outputs in a log; its other lines are for people. The last line of one that was cut may be torn.
fn outputs(log: &str, cut: bool) -> Result<Vec<Output>, String> {
    let prefix = std::str::from_utf8(OUTPUT).unwrap_or_default();
    let end = if cut {
        log.rfind('\n').unwrap_or(0)
    } else {
        log.len()
    };
    let lines = log.get(..end).unwrap_or_default().lines();
    let parsed = lines.filter(|l| l.starts_with(prefix)).map(serde_json::from_str);
    parsed
        .collect::<Result<_, _>>()
        .map_err(|e| format!("it says what this zdt cannot read ({e}): take the zdt of the same version"))
}

/// One verdict of each failure: where two nodes have judged it, that of the one that knows more.
fn joined(told: Vec<Output>) -> Vec<Output> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: Vec<Output> = Vec::with_capacity(told.len());
    for output in told {
        let Output::Verdict(new) = output else {
            all.push(output);
            continue;
        };
        let place = *places.entry(new.id.clone()).or_insert(all.len());
        match all.get_mut(place) {
            Some(Output::Verdict(old)) => {
                if worth(&new) > worth(old) {
                    *old = new;
                }
            }
            _ => all.push(Output::Verdict(new)),
        }
    }
    all
}

/// How much a verdict says: a cause, nothing lost, much evidence.
fn worth(verdict: &Verdict) -> (bool, bool, usize) {
    let evidence = match &verdict.judgement {
        Judgement::Explained { finding, .. } => finding.evidence.len(),
        Judgement::Unexplained { seen, .. } => seen.len(),
    };
    (
        verdict.cause() != UNEXPLAINED,
        verdict.confidence == Confidence::Full,
        evidence,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts of a fixture, as lines of a log.
    const FIXTURE: &str =
        include_str!("../../../tests/fixtures/endpoint-removal-race/yes-masqueraded.verdicts.jsonl");

    fn verdicts(outputs: &[Output]) -> Vec<&Verdict> {
        let verdicts = outputs.iter().filter_map(|o| match o {
            Output::Verdict(v) => Some(&**v),
            _ => None,
        });
        verdicts.collect()
    }

    #[test]
    fn lines_for_people_are_left_out_and_a_torn_end_of_a_cut_log_too() {
        let log = format!("2026-01-01T00:00:00Z  INFO ready: 14 hooks attached\n{FIXTURE}");
        let whole = outputs(&log, false).unwrap();
        assert_eq!(whole.len(), FIXTURE.lines().count());
        let torn = format!("{log}{{\"kind\":\"verd");
        assert_eq!(outputs(&torn, true).unwrap().len(), whole.len());
        assert!(outputs(&torn, false).unwrap_err().contains("same version"));
    }

    #[test]
    fn of_two_nodes_verdicts_the_one_that_knows_more_stays() {
        let one = outputs(FIXTURE, false).unwrap();
        let mut less = one.clone();
        for output in &mut less {
            if let Output::Verdict(v) = output {
                v.confidence = Confidence::Degraded { lost: 1 };
                v.node = "n2".to_owned();
            }
        }
        let count = verdicts(&one).len();
        assert!(count > 0);
        for both in [[less.clone(), one.clone()].concat(), [one, less].concat()] {
            let all = joined(both);
            let kept = verdicts(&all);
            assert_eq!(kept.len(), count);
            assert!(kept.iter().all(|v| v.confidence == Confidence::Full));
        }
    }
}
