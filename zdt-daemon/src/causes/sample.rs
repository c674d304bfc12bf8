//! What a rollout keeps of each explained failure, and the sums over it: one line per cause, one advice per setting.

use std::{collections::BTreeMap, fmt::Write as _};

use super::RULES;
use crate::verdict::{Advice, CauseCount, Judgement, Measure, Verdict};

/// Added to a computed preStop sleep: one sync period of kube-proxy (`minSyncPeriod`, 1 s by default), since the next
/// rollout's removal may just miss the sync that this one's caught.
pub(crate) const PRE_STOP_MARGIN_MS: f64 = 1_000.0;

/// Fewer samples than this of the routing time are said to be few.
pub(crate) const FEW_SAMPLES: usize = 10;

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
    /// Native preStop sleep, where there is one.
    pub pre_stop_s: Option<u64>,
    /// There is another preStop hook, which a sleep would replace.
    pub other_hook: bool,
    pub grace_s: i64,
    /// Pods that ended.
    pub pods: usize,
    /// For each of them: deletion seen to the node's rules letting go of it, milliseconds; as far as known.
    pub dropped_ms: Vec<f64>,
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

/// The preStop sleep that keeps the old pod serving until the last consumer has let go of it: the longest time that
/// the node still sent it new connections after its deletion, less the time that it served on anyway, plus a margin.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=3600 s"
)]
pub(crate) fn pre_stop_sleep(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let served = sorted(samples, Measure::StoppedServingAfterDeletion);
    let last_seen = routed.last().copied()?;
    // The rules say it exactly; without them the last connection that met the pod does.
    let longest = setting.dropped_ms.iter().copied().fold(last_seen, f64::max);
    let served_for = served.first().copied().unwrap_or(0.0);
    let present = setting.pre_stop_s.unwrap_or(0);
    // A sleep takes the place of another hook, and of the time that it held the server up.
    let served_for = if setting.other_hook { 0.0 } else { served_for };
    let more_s = ((longest - served_for + PRE_STOP_MARGIN_MS) / 1_000.0)
        .ceil()
        .clamp(1.0, 3_600.0) as u64;
    let seconds = present + more_s;
    let mut because = if setting.dropped_ms.is_empty() {
        let mut because = format!(
            "node {} still sent a connection to a pod {} after its deletion",
            setting.node,
            say_ms(longest)
        );
        if routed.len() < FEW_SAMPLES {
            let _ = write!(
                because,
                " (from {} connections only: it may be more)",
                routed.len()
            );
        }
        because
    } else {
        format!(
            "the rules of node {} let go of a pod up to {} after its deletion (seen for {} of {} pods)",
            setting.node,
            say_ms(longest),
            setting.dropped_ms.len(),
            setting.pods,
        )
    };
    let _ = write!(
        because,
        ", which served for {}; margin {}",
        say_ms(served_for),
        say_ms(PRE_STOP_MARGIN_MS)
    );
    if i64::try_from(seconds).is_ok_and(|s| s + 1 > setting.grace_s) && setting.grace_s > 0 {
        let _ = write!(
            because,
            "; raise terminationGracePeriodSeconds ({}) above it, too",
            setting.grace_s
        );
    }
    Some(Advice {
        setting: "lifecycle.preStop.sleep.seconds".to_owned(),
        value: Some(seconds),
        because,
        prevents: 0,
    })
}
