//! A rollout that is not over, told as if it ended now.

use std::collections::BTreeSet;

use crate::verdict::{CauseCount, Output, Propagation, RolloutSummary, UnderWay};

/// Adds a summary for each that is under way and has none yet, with the pods that were said.
pub fn live_stories(mut outputs: Vec<Output>, under_way: &[UnderWay]) -> Vec<Output> {
    let summed_up: BTreeSet<_> = outputs
        .iter()
        .filter_map(|o| match o {
            Output::Rollout(r) => Some((r.node.clone(), r.namespace.clone(), r.workload.clone(), r.began)),
            _ => None,
        })
        .collect();
    for on in under_way {
        let key = (
            on.node.clone(),
            on.namespace.clone(),
            on.workload.clone(),
            on.began,
        );
        if summed_up.contains(&key) {
            continue;
        }
        let pods = outputs.iter().filter_map(|o| match o {
            Output::Propagation(p) => Some(p.as_ref()),
            _ => None,
        });
        let own = |p: &&Propagation| {
            p.node == on.node
                && p.namespace == on.namespace
                && p.workload.as_ref() == Some(&on.workload)
                && p.at >= on.began
        };
        let propagation: Vec<Propagation> = pods.filter(own).cloned().collect();
        outputs.push(Output::Rollout(Box::new(so_far(on, propagation))));
    }
    outputs
}

fn so_far(on: &UnderWay, propagation: Vec<Propagation>) -> RolloutSummary {
    let last = propagation.iter().map(|p| p.at.ms_since(on.began));
    let causes = on.causes.iter().filter_map(|(name, count)| {
        let cause = crate::causes::RULES.iter().find(|r| r.name == name)?;
        Some(CauseCount {
            cause: cause.name,
            count: *count,
            summary: "so far".to_owned(),
        })
    });
    RolloutSummary {
        node: on.node.clone(),
        namespace: on.namespace.clone(),
        workload: on.workload.clone(),
        trigger: on.trigger,
        from: on.from.clone(),
        to: on.to.clone(),
        pods: on.here.ended,
        pods_elsewhere: on.elsewhere.ended,
        began: on.began,
        wall: on.wall,
        took_ms: last.fold(0.0, f64::max),
        failed: on.failed,
        explained: on.failed.saturating_sub(on.unexplained),
        unexplained: on.unexplained,
        events_lost: on.events_lost,
        not_the_rollout: on.not_the_rollout,
        gaps: Vec::new(),
        causes: causes.collect(),
        propagation,
        advice: Vec::new(),
        template: None,
        savings: Vec::new(),
    }
}
