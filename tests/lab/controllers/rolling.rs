//! The arithmetic of a rolling update: how many replicas each ReplicaSet should have now. Pure.
//!
//! Source: pkg/controller/deployment/{rolling.go, util/deployment_util.go}. It counts wanted replicas (spec), not pods,
//! so that it stays right while pods still follow.

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How far a rolling update may deviate from the wanted number of replicas, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub surge: i32,
    pub unavailable: i32,
}

/// One ReplicaSet as the arithmetic sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// spec.replicas
    pub wanted: i32,
    /// status.availableReplicas
    pub available: i32,
}

#[derive(Debug, Clone, Copy)]
enum Round {
    Up,
    Down,
}

impl Limits {
    /// Percentages of `replicas`: surge rounds up, unavailable rounds down, default 25 % each; both zero would never
    /// move, so unavailable is then 1 (ResolveFenceposts).
    pub fn resolve(strategy: Option<&DeploymentStrategy>, replicas: i32) -> Self {
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = scaled(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            replicas,
            Round::Up,
        );
        let unavailable = scaled(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            replicas,
            Round::Down,
        );
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        };
        Self {
            surge,
            unavailable: unavailable.min(replicas),
        }
    }
}

/// A value that is no number and no percentage counts as 0, as an API server would have refused it.
fn scaled(value: Option<&IntOrString>, replicas: i32, round: Round) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(pods)) => return (*pods).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse::<i32>().unwrap_or(0).max(0),
        None => 25,
    };
    let hundredths = replicas.saturating_mul(percent);
    match round {
        Round::Up => hundredths.saturating_add(99) / 100,
        Round::Down => hundredths / 100,
    }
}

/// What the new ReplicaSet should have (NewRSNewReplicas and reconcileNewReplicaSet). `all`: wanted replicas of all
/// ReplicaSets, the new one too.
pub fn new_replicas(replicas: i32, limits: Limits, new: i32, all: i32) -> i32 {
    if new >= replicas {
        return replicas;
    }
    let room = replicas + limits.surge - all;
    new + room.clamp(0, replicas - new)
}

/// What the old ReplicaSets should have, oldest first (reconcileOldReplicaSets).
pub fn old_replicas(replicas: i32, limits: Limits, new: Counts, old: &[Counts]) -> Vec<i32> {
    let mut wanted: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let min_available = replicas - limits.unavailable;
    let all: i32 = new.wanted + wanted.iter().sum::<i32>();
    let max_scaled_down = all - min_available - (new.wanted - new.available);
    if max_scaled_down <= 0 {
        return wanted;
    }
    // Pods that are not available go first: they cost nothing (cleanupUnhealthyReplicas).
    let mut cleaned = 0;
    for (set, wanted) in old.iter().zip(&mut wanted) {
        let drop = (set.wanted - set.available).clamp(0, max_scaled_down - cleaned);
        *wanted -= drop;
        cleaned += drop;
    }
    // Then available ones, as long as enough stay (scaleDownOldReplicaSetsForRollingUpdate). A status may still count
    // pods that are already told to go; the real controller trusts it and can overshoot when a new pod becomes ready
    // within those milliseconds.
    let available: i32 = new.available + old.iter().map(|set| set.available.min(set.wanted)).sum::<i32>();
    let mut spare = (available - min_available).max(0);
    for wanted in &mut wanted {
        let drop = (*wanted).clamp(0, spare);
        *wanted -= drop;
        spare -= drop;
    }
    wanted
}

#[cfg(test)]
#[path = "rolling_tests.rs"]
mod tests;
