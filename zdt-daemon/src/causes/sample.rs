//! What a rollout keeps of each explained failure, and the sums over it: one line per cause, one advice per setting.

use std::collections::BTreeMap;

use super::RULES;
use crate::verdict::{Advice, CauseCount, Judgement, Measure, Verdict};

/// One explained failure, as far as sums need it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub cause: &'static str,
    pub pod: String,
    pub measures: Vec<(Measure, f64)>,
}

/// The settings of the workload that a rollout replaced.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// A pod of this node told what follows; else only the samples of other nodes' pods are there.
    pub known: bool,
    /// Native preStop sleep, where there is one.
    pub pre_stop_s: Option<u64>,
    /// There is another preStop hook, which a sleep would replace.
    pub other_hook: bool,
    pub grace_s: i64,
    /// Pods that ended, on any node.
    pub pods: usize,
    /// For each of them: deletion seen to the node's rules letting go of it, milliseconds; as far as known.
    pub dropped_ms: Vec<f64>,
    /// The same to the last new connection that the node was seen to send to it.
    pub connected_ms: Vec<f64>,
    /// The same to its listener's close, or the end of its network. Pods of this node.
    pub served_ms: Vec<f64>,
    pub node: String,
}

impl Sample {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        let measures = match &verdict.judgement {
            Judgement::Explained { finding, .. } => finding.measures.clone(),
            Judgement::Unexplained { .. } => Vec::new(),
        };
        let pod = verdict
            .pod
            .as_ref()
            .map(|p| p.pod.name.clone())
            .unwrap_or_default();
        Self {
            cause: verdict.cause(),
            pod,
            measures,
        }
    }

    /// A measurement, milliseconds.
    pub fn measure(&self, measure: Measure) -> Option<f64> {
        self.measures.iter().find(|(m, _)| *m == measure).map(|(_, v)| *v)
    }
}

/// Every sample's measurement, sorted.
pub(crate) fn sorted(samples: &[&Sample], measure: Measure) -> Vec<f64> {
    let mut all: Vec<f64> = samples.iter().filter_map(|s| s.measure(measure)).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The `q` quantile (0 to 1) of sorted values: the smallest value that at least that share does not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 <= q*len <= len"
)]
pub(crate) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .or_else(|| sorted.last())
        .copied()
}

/// Milliseconds as people say them: `12 ms`, `1.84 s`.
pub(crate) fn say_ms(ms: f64) -> String {
    if ms.abs() < 1_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1_000.0)
    }
}

/// One line per cause, the commonest first; one advice per setting, the one that prevents most first.
pub(crate) fn sum_up(
    samples: &[Sample],
    counts: &BTreeMap<&'static str, usize>,
    setting: &Setting,
) -> (Vec<CauseCount>, Vec<Advice>) {
    let mut causes = Vec::new();
    let mut advice: Vec<Advice> = Vec::new();
    for rule in RULES {
        let Some(count) = counts.get(rule.name).copied() else {
            continue;
        };
        let own: Vec<&Sample> = samples.iter().filter(|s| s.cause == rule.name).collect();
        causes.push(CauseCount {
            cause: rule.name,
            count,
            summary: (rule.summarise)(&own, setting),
        });
        let Some(mut new) = (rule.advise)(&own, setting) else {
            continue;
        };
        new.prevents = count;
        match advice.iter_mut().find(|a| a.setting == new.setting) {
            // Two causes ask for the same setting: the larger value prevents both.
            Some(old) => {
                let prevents = old.prevents + new.prevents;
                if new.value > old.value {
                    *old = new;
                }
                old.prevents = prevents;
            }
            None => advice.push(new),
        }
    }
    causes.sort_by_key(|c| std::cmp::Reverse(c.count));
    advice.sort_by_key(|a| std::cmp::Reverse(a.prevents));
    (causes, advice)
}
