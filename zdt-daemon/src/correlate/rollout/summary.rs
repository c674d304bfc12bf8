//! The sum of one rollout: what it broke and why, how fast this node followed it, and which setting prevents it.

use super::{Key, Known, Rollouts, one::Rollout};
use crate::{
    causes::{self, Setting},
    correlate::{history::PodHistory, judge::wall, pods::Pods, propagation::Propagations},
    verdict::{CauseCount, Change, Revision, RolloutSummary, TemplateSeen, Trigger},
};

impl Rollouts {
    pub(super) fn summary(
        &self,
        key: &Key,
        rollout: &Rollout,
        known: &Known<'_>,
        propagations: &Propagations,
    ) -> RolloutSummary {
        let Known {
            now,
            start,
            pods,
            losses,
            ..
        } = *known;
        let node = start.map(|(_, s)| s.node.clone()).unwrap_or_default();
        let revision = |hash: &Option<String>| {
            hash.as_ref().map(|hash| Revision {
                number: self.replica_sets.number(&key.0, hash),
                template_hash: hash.clone(),
            })
        };
        let newest = self
            .revisions
            .get(key)
            .and_then(|r| r.newest.clone())
            .and_then(|(_, hash)| hash);
        let trigger = rollout
            .members
            .values()
            .chain(rollout.elsewhere.values())
            .next()
            .map_or(Trigger::None, |m| self.member_trigger(key, m));
        let propagation = propagations.of(&key.0, &key.1, rollout.began..=rollout.last_pod_change, known);
        let removals = || propagation.iter().filter(|p| p.change == Change::Removal);
        let setting = Setting {
            pods: rollout.members.len() + rollout.elsewhere.len(),
            dropped_ms: removals().filter_map(|p| p.rules_ms).collect(),
            connected_ms: removals().filter_map(|p| p.connection_ms).collect(),
            served_ms: removals().filter_map(|p| p.stopped_serving_ms).collect(),
            node: node.clone(),
            ..template(rollout, pods)
        };
        let (causes, advice) = causes::sum_up(&rollout.samples, &rollout.counts, &setting);
        let savings = if rollout.failed() == 0 {
            causes::savings(&setting)
        } else {
            Vec::new()
        };
        let explained: usize = causes.iter().map(|c: &CauseCount| c.count).sum();
        RolloutSummary {
            node,
            namespace: key.0.clone(),
            workload: key.1.clone(),
            trigger,
            to: if matches!(trigger, Trigger::RollingUpdate | Trigger::DeleteAndCreate) {
                revision(&newest)
            } else {
                None
            },
            from: revision(&rollout.from),
            pods: rollout.members.len(),
            pods_elsewhere: rollout.elsewhere.len(),
            began: rollout.began,
            wall: wall(start, rollout.began),
            took_ms: rollout.last_pod_change.ms_since(rollout.began),
            failed: explained + rollout.unexplained,
            explained,
            unexplained: rollout.unexplained,
            events_lost: losses.within(rollout.began, now),
            gaps: losses.gaps(rollout.began, rollout.last, now),
            not_the_rollout: rollout.not_the_rollout,
            causes,
            propagation,
            advice,
            template: seen(rollout, known),
            savings,
        }
    }
}

/// What a patch of the template has to know of it.
fn seen(rollout: &Rollout, known: &Known<'_>) -> Option<TemplateSeen> {
    let pod = rollout.members.keys().find_map(|uid| known.pods.get(uid))?;
    let uid = &pod.state.uid;
    let ports = |ip| known.endpoints.served_by(ip, uid).map(|to| to.port());
    let mut ports = pod.state.ips.iter().flat_map(|ip| ports(*ip));
    let container = ports.find_map(|port| pod.container_on(port));
    let hook = container.and_then(|c| c.pre_stop.as_deref());
    Some(TemplateSeen {
        container: container.map(|c| c.name.clone()),
        pre_stop_s: hooks(pod).find_map(sleep_seconds),
        other_hook: hook.filter(|h| sleep_seconds(h).is_none()).map(str::to_owned),
        grace_s: pod.state.grace_s,
    })
}

/// What the pod template said, as far as a pod of this node tells it.
fn template(rollout: &Rollout, pods: &Pods) -> Setting {
    let pod = rollout.members.keys().find_map(|uid| pods.get(uid));
    pod.map_or_else(Setting::default, |pod| Setting {
        known: true,
        pre_stop_s: hooks(pod).find_map(sleep_seconds),
        other_hook: hooks(pod).any(|h| sleep_seconds(h).is_none()),
        grace_s: pod.state.grace_s,
        ..Setting::default()
    })
}

/// The preStop hooks of a pod's containers.
fn hooks(pod: &PodHistory) -> impl Iterator<Item = &str> {
    pod.state.containers.iter().filter_map(|c| c.pre_stop.as_deref())
}

/// Seconds of a native preStop sleep.
fn sleep_seconds(pre_stop: &str) -> Option<u64> {
    pre_stop.strip_prefix("sleep:")?.parse().ok()
}
