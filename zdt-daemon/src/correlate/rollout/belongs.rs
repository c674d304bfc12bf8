//! Which workload each pod belongs to, for as long as the pod is remembered, or a rollout that it ended in.

use std::collections::BTreeMap;

use super::{Key, one::Rollout};
use crate::{correlate::pods::Pods, input::PodUid};

#[derive(Debug)]
struct One {
    key: Key,
    /// Rollouts that remember it as a pod of another node.
    rollouts: usize,
}

#[derive(Debug, Default)]
pub(super) struct Belongs {
    all: BTreeMap<PodUid, One>,
    /// How many of them each workload has.
    counts: BTreeMap<Key, usize>,
    /// Workloads that have lost their last pod since the last look.
    bare: Vec<Key>,
    /// Pods whose last rollout has been forgotten since then.
    loose: Vec<PodUid>,
}

impl Belongs {
    pub(super) fn get(&self, pod: &PodUid) -> Option<&Key> {
        self.all.get(pod).map(|one| &one.key)
    }

    pub(super) fn put(&mut self, pod: &PodUid, to: &Key) {
        match self.all.get_mut(pod) {
            Some(one) if one.key == *to => return,
            Some(one) => {
                let before = std::mem::replace(&mut one.key, to.clone());
                self.left(before);
            }
            None => {
                let one = One {
                    key: to.clone(),
                    rollouts: 0,
                };
                self.all.insert(pod.clone(), one);
            }
        }
        match self.counts.get_mut(to) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(to.clone(), 1)),
        }
    }

    fn left(&mut self, key: Key) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
                self.bare.push(key);
            }
        }
    }

    /// One more rollout remembers this pod of another node.
    pub(super) fn remembered(&mut self, pod: &PodUid) {
        if let Some(one) = self.all.get_mut(pod) {
            one.rollouts += 1;
        }
    }

    /// A rollout is no longer remembered.
    pub(super) fn forgotten(&mut self, rollout: &Rollout) {
        for uid in rollout.elsewhere.keys() {
            if let Some(one) = self.all.get_mut(uid) {
                one.rollouts = one.rollouts.saturating_sub(1);
                if one.rollouts == 0 {
                    self.loose.push(uid.clone());
                }
            }
        }
    }

    /// `gone`: pods that are not remembered any more. Returns the workloads that have none left.
    pub(super) fn forget(&mut self, gone: Vec<PodUid>, pods: &Pods) -> Vec<Key> {
        for uid in gone.into_iter().chain(std::mem::take(&mut self.loose)) {
            let stays = |one: &One| one.rollouts > 0 || pods.get(&uid).is_some();
            if !self.all.get(&uid).is_none_or(stays)
                && let Some(one) = self.all.remove(&uid)
            {
                self.left(one.key);
            }
        }
        let mut bare = std::mem::take(&mut self.bare);
        bare.retain(|key| !self.counts.contains_key(key));
        bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Ktime, PodState, Workload};

    fn key(name: &str) -> Key {
        let workload = Workload {
            kind: "deployment".into(),
            name: name.into(),
        };
        ("shop".into(), workload)
    }

    fn uid(n: u64) -> PodUid {
        PodUid(format!("pod-{n}").into())
    }

    #[test]
    fn a_workload_goes_with_its_last_pod() {
        let pods = Pods::new(10);
        let mut belongs = Belongs::default();
        belongs.put(&uid(1), &key("web"));
        belongs.put(&uid(1), &key("web"));
        belongs.put(&uid(2), &key("web"));
        assert_eq!(belongs.forget(vec![uid(1)], &pods), []);
        belongs.put(&uid(2), &key("api"));
        belongs.put(&uid(3), &key("web"));
        assert_eq!(belongs.forget(Vec::new(), &pods), [], "it has got another one");
        assert_eq!(
            belongs.forget(vec![uid(2), uid(3)], &pods),
            [key("api"), key("web")]
        );
        assert!(belongs.all.is_empty() && belongs.counts.is_empty());
    }

    #[test]
    fn a_pod_stays_with_what_remembers_it() {
        let mut pods = Pods::new(10);
        let state = PodState {
            uid: uid(1),
            ..PodState::default()
        };
        pods.applied(Ktime(1), &state, None, None);
        let mut belongs = Belongs::default();
        let mut rollout = Rollout::new(Ktime(1));
        for n in [1, 2] {
            belongs.put(&uid(n), &key("web"));
            belongs.remembered(&uid(n));
            rollout.elsewhere.entry(uid(n)).or_default();
        }
        belongs.remembered(&uid(2));
        belongs.forgotten(&rollout);
        assert_eq!(belongs.forget(vec![uid(2)], &pods), []);
        assert!(belongs.get(&uid(1)).is_some(), "it is a pod of this node, too");
        assert!(belongs.get(&uid(2)).is_some(), "another rollout has it");
        belongs.forgotten(&rollout);
        pods.gone(Ktime(2), &uid(1), None);
        let gone = pods.forget(Ktime(3));
        assert_eq!(belongs.forget(gone, &pods), [key("web")]);
    }
}
