//! Outputs of one node or of several, joined to one story a rollout: the sum, the pods, the failed requests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{lane::Lane, patch::patch};
use crate::{
    input::Workload,
    verdict::{Blame, Change, Confidence, Output, RolloutSummary, SelectorSwitch, Verdict},
};

/// Clocks of nodes, and what a verdict waits for, may be apart by this much, milliseconds.
const APART_MS: i64 = 15_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub namespace: Option<String>,
    /// `web`, or `deployment/web`.
    pub workload: Option<String>,
    /// Only what happened so long before the last thing that was read, milliseconds.
    pub since_ms: Option<i64>,
}

impl Wanted {
    pub fn workload(&self, namespace: &str, workload: Option<&Workload>) -> bool {
        let named = |asked: &String| match asked.split_once('/') {
            Some((kind, name)) => workload.is_some_and(|w| w.kind == kind && w.name == name),
            None => workload.is_some_and(|w| w.name == *asked),
        };
        self.namespace.as_ref().is_none_or(|n| n == namespace) && self.workload.as_ref().is_none_or(named)
    }
}

/// One rollout as all nodes that were read saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The sum over these nodes; `propagation` has every node's.
    pub rollout: RolloutSummary,
    pub nodes: Vec<String>,
    /// Pods that ended, then pods that began, each in the order of time.
    pub lanes: Vec<Lane>,
    /// Verdicts that rest on a time in which something was lost.
    pub unsure: usize,
    /// For `kubectl patch --patch-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    pub verdicts: Vec<Verdict>,
}

/// Everything that was read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub rollouts: Vec<Story>,
    /// Failed requests that no rollout above did.
    pub apart: Vec<Verdict>,
    pub switches: Vec<SelectorSwitch>,
}

impl Report {
    pub fn of(outputs: Vec<Output>, wanted: &Wanted) -> Self {
        let mut sums: BTreeMap<(String, String, Workload, u64), RolloutSummary> = BTreeMap::new();
        let mut verdicts: BTreeMap<(i64, String), Verdict> = BTreeMap::new();
        let mut switches = Vec::new();
        for output in outputs {
            match output {
                // A later sum of the same rollout takes the place of the earlier one.
                Output::Rollout(r) => {
                    let key = (r.namespace.clone(), r.node.clone(), r.workload.clone(), r.began.0);
                    sums.insert(key, *r);
                }
                Output::Verdict(v) if v.blame != Blame::NotARequest => {
                    verdicts.insert((v.wall.0, format!("{} {}", v.node, v.id)), *v);
                }
                Output::SelectorSwitch(s) => switches.push(*s),
                // Verdicts and sums name what they were not told themselves.
                Output::Verdict(_) | Output::Propagation(_) | Output::NotSeen(_) => {}
            }
        }
        let last = sums
            .values()
            .map(end)
            .chain(verdicts.keys().map(|(at, _)| *at))
            .max();
        let since = wanted
            .since_ms
            .zip(last)
            .map_or(i64::MIN, |(ms, last)| last.saturating_sub(ms));
        sums.retain(|_, s| end(s) >= since && wanted.workload(&s.namespace, Some(&s.workload)));
        verdicts.retain(|(at, _), v| *at >= since && of_workload(v, wanted));
        let since_and_named = |s: &SelectorSwitch| {
            let namespace = wanted.namespace.as_ref();
            s.wall.0 >= since
                && wanted.workload.is_none()
                && namespace.is_none_or(|n| *n == s.service.namespace)
        };
        switches.retain(since_and_named);
        let mut report = Self {
            rollouts: join(sums.into_values().collect()),
            switches,
            ..Self::default()
        };
        for (_, verdict) in verdicts {
            report.tell(verdict);
        }
        report.rollouts.iter_mut().for_each(Story::finish);
        report
    }

    /// Puts a verdict where it belongs.
    fn tell(&mut self, verdict: Verdict) {
        let blamed = matches!(verdict.blame, Blame::Rollout | Blame::Unknown);
        let at = verdict.wall.0;
        let mut stories = self.rollouts.iter_mut().rev();
        let story = stories.find(|s| {
            let (from, to) = (s.rollout.wall.0 - APART_MS, end(&s.rollout) + APART_MS);
            blamed && (from..=to).contains(&at) && s.is_of(&verdict)
        });
        match story {
            Some(story) => story.verdict(verdict),
            None => self.apart.push(verdict),
        }
    }

    /// Requests that failed by a rollout, or for an unknown reason.
    pub fn failed(&self) -> usize {
        let unknown = self
            .apart
            .iter()
            .filter(|v| v.blame != Blame::NotTheRollout)
            .count();
        self.rollouts.iter().map(|s| s.rollout.failed).sum::<usize>() + unknown
    }

    pub fn is_empty(&self) -> bool {
        self.rollouts.is_empty() && self.apart.is_empty() && self.switches.is_empty()
    }
}

impl Story {
    fn of(rollout: RolloutSummary) -> Self {
        Self {
            nodes: vec![rollout.node.clone()],
            rollout,
            lanes: Vec::new(),
            unsure: 0,
            patch: None,
            verdicts: Vec::new(),
        }
    }

    fn is_of(&self, verdict: &Verdict) -> bool {
        let rollout = &self.rollout;
        match &verdict.pod {
            Some(pod) => {
                let of_name = || rollout.propagation.iter().any(|p| p.pod == pod.pod.name);
                pod.pod.namespace == rollout.namespace
                    && pod
                        .workload
                        .as_ref()
                        .map_or_else(of_name, |w| *w == rollout.workload)
            }
            None => verdict
                .service
                .as_ref()
                .is_none_or(|s| s.namespace == rollout.namespace),
        }
    }

    /// Two nodes may have judged the same connection: the one that can explain it is right.
    fn verdict(&mut self, verdict: Verdict) {
        let twin = self
            .verdicts
            .iter_mut()
            .find(|v| v.id == verdict.id && v.node != verdict.node);
        let Some(twin) = twin else {
            self.verdicts.push(verdict);
            return;
        };
        if verdict.blame == Blame::Unknown || twin.blame == Blame::Unknown {
            self.rollout.failed = self.rollout.failed.saturating_sub(1);
            self.rollout.unexplained = self.rollout.unexplained.saturating_sub(1);
            if twin.blame == Blame::Unknown {
                *twin = verdict;
            }
        }
    }

    fn finish(&mut self) {
        for p in &self.rollout.propagation {
            let same = |l: &&mut Lane| l.pod.as_ref() == Some(&p.pod) && l.change == Some(p.change);
            match self.lanes.iter_mut().find(same) {
                Some(lane) => lane.add(p),
                None => self.lanes.push(Lane::of(p)),
            }
        }
        for verdict in &self.verdicts {
            lane_of(&mut self.lanes, verdict, self.rollout.wall.0).fail(verdict);
        }
        let order = |l: &Lane| (l.change == Some(Change::Addition), l.zero);
        self.lanes.sort_by_key(order);
        let unsure = |v: &&Verdict| matches!(v.confidence, Confidence::Degraded { .. });
        self.unsure = self.verdicts.iter().filter(unsure).count();
        self.patch = patch(&self.rollout);
    }
}

/// The lane that a failed request is a mark on. A pod may have two: its beginning and its end.
fn lane_of<'a>(lanes: &'a mut Vec<Lane>, verdict: &Verdict, began: i64) -> &'a mut Lane {
    let name = verdict.pod.as_ref().map(|p| p.pod.name.clone());
    let own = |l: &Lane, change| l.pod == name && l.change == change;
    let find = |change| lanes.iter().position(|l| own(l, change));
    let removal = find(Some(Change::Removal));
    let addition = find(Some(Change::Addition));
    let ends = super::lane::since_deletion_ms(verdict).is_some();
    let found = match (removal, addition) {
        (Some(removal), Some(_)) if ends => Some(removal),
        (removal, addition) => addition.or(removal),
    };
    let found = found.or_else(|| find(None));
    let index = found.unwrap_or_else(|| {
        lanes.push(Lane {
            pod: name.clone(),
            pod_node: None,
            change: None,
            zero: began,
            marks: Vec::new(),
            failures: Vec::new(),
        });
        lanes.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "a position just found, or the last one")]
    &mut lanes[index]
}

/// When the last pod changed.
#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a rollout")]
fn end(rollout: &RolloutSummary) -> i64 {
    rollout.wall.0.saturating_add(rollout.took_ms as i64)
}

fn of_workload(verdict: &Verdict, wanted: &Wanted) -> bool {
    match &verdict.pod {
        Some(pod) => wanted.workload(&pod.pod.namespace, pod.workload.as_ref()),
        None => {
            let namespace = verdict.service.as_ref().map(|s| &s.namespace);
            wanted.namespace.is_none() || namespace == wanted.namespace.as_ref()
        }
    }
}

/// Joins what several nodes say of the same rollout, and puts rollouts in the order of time.
fn join(mut sums: Vec<RolloutSummary>) -> Vec<Story> {
    sums.sort_by_key(|s| s.wall);
    let mut stories: Vec<Story> = Vec::new();
    for sum in sums {
        let same = |s: &&mut Story| {
            let r = &s.rollout;
            r.namespace == sum.namespace
                && r.workload == sum.workload
                && !s.nodes.contains(&sum.node)
                && sum.wall.0 <= end(r) + APART_MS
        };
        match stories.iter_mut().rev().find(same) {
            Some(story) => merge(story, sum),
            None => stories.push(Story::of(sum)),
        }
    }
    stories
}

/// Adds what a further node says. Each failed request is counted by one node.
fn merge(story: &mut Story, more: RolloutSummary) {
    let all = &mut story.rollout;
    let last = end(all).max(end(&more));
    // Every node knows of the same pods, as its own or as another's.
    let ended = (all.pods + all.pods_elsewhere).max(more.pods + more.pods_elsewhere);
    all.pods += more.pods;
    all.pods_elsewhere = ended.saturating_sub(all.pods);
    all.took_ms = (last - all.wall.0) as f64;
    all.failed += more.failed;
    all.explained += more.explained;
    all.unexplained += more.unexplained;
    all.events_lost += more.events_lost;
    all.gaps.extend(more.gaps);
    all.not_the_rollout += more.not_the_rollout;
    all.from = all.from.take().or(more.from);
    all.to = all.to.take().or(more.to);
    all.template = all.template.take().or(more.template);
    for cause in more.causes {
        match all.causes.iter_mut().find(|c| c.cause == cause.cause) {
            Some(known) => {
                if cause.count > known.count {
                    known.summary = cause.summary;
                }
                known.count += cause.count;
            }
            None => all.causes.push(cause),
        }
    }
    all.causes.sort_by_key(|c| std::cmp::Reverse(c.count));
    for advice in more.advice {
        match all.advice.iter_mut().find(|a| a.setting == advice.setting) {
            // The slowest node decides.
            Some(known) => {
                let prevents = known.prevents + advice.prevents;
                if advice.value > known.value {
                    *known = advice;
                }
                known.prevents = prevents;
            }
            None => all.advice.push(advice),
        }
    }
    all.advice.sort_by_key(|a| std::cmp::Reverse(a.prevents));
    // A saving that one node allows, another may forbid.
    let kept =
        |s: &crate::verdict::Advice| all.failed == 0 && more.savings.iter().any(|m| m.setting == s.setting);
    all.savings.retain(kept);
    all.propagation.extend(more.propagation);
    story.nodes.push(more.node);
    story.nodes.sort();
    all.node = story.nodes.join(", ");
}
