//! How long this node took to let go of terminating pods, and to take up new ones: followed from the first sign to the
//! last stage, reported once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{judge::wall, passed::Passed, rollout::Known};
use crate::{
    input::{Ktime, NsName, PodUid, Workload},
    verdict::{Change, Output, PodSteps, Propagation, Since},
};

/// What belongs to a stage comes within this time: kernel events within milliseconds, the first look at a connection that
/// nobody answers when its client sends its SYN again (1 s), its end some seconds later.
const SETTLE_MS: u64 = 4_000;

/// Nothing more is waited for when the pod has been gone for so long: what a rollout is given, too.
const GONE_MS: u64 = 10_000;

/// A pod that is ready for so long and was sent nothing may never be sent anything.
const UNUSED_MS: u64 = 60_000;

/// Rules that still lead to a pod are waited for so long (progressDeadlineSeconds, 600 by default).
const LONGEST_MS: u64 = 600_000;

/// The rules may be told a little earlier than this daemon: its watch lags by less than this.
const WATCH_LAG_MS: u64 = 1_000;

/// Most changes followed; 110 pods is a node's usual limit, and the pods of other nodes come to it.
const MAX_FOLLOWED: usize = 16_384;

/// One change of one pod.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub pod: NsName,
    pub workload: Option<Workload>,
    /// Where it runs, if that is another node.
    pub node: Option<String>,
    pub ips: Vec<IpAddr>,
    pub since: Since,
    pub at: Ktime,
}

#[derive(Debug, Default)]
pub(super) struct Propagations {
    all: BTreeMap<(PodUid, Change), Followed>,
    /// Those that are not reported yet.
    open: BTreeSet<(PodUid, Change)>,
    /// All of them, by when they began.
    passed: Passed<(PodUid, Change)>,
    /// What found no room.
    refused: u64,
}

impl Propagations {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.all.len(), self.refused)
    }

    /// Follows a change from its first sign on; a second sign is none.
    pub(super) fn begin(&mut self, uid: &PodUid, change: Change, followed: Followed) {
        let key = (uid.clone(), change);
        if self.all.contains_key(&key) {
            return;
        }
        if self.all.len() >= MAX_FOLLOWED {
            self.refused += 1;
            return;
        }
        self.passed.add(followed.at, key.clone());
        self.open.insert(key.clone());
        self.all.insert(key, followed);
    }

    /// Whether any is followed still.
    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reports what is complete, or what nothing more will come of.
    pub(super) fn report_complete(&mut self, known: &Known<'_>, out: &mut Vec<Output>) {
        self.report(known, out, over);
    }

    /// Reports everything that has begun.
    pub(super) fn report_all(&mut self, known: &Known<'_>, out: &mut Vec<Output>) {
        self.report(known, out, |_, _, _| true);
    }

    fn report(
        &mut self,
        known: &Known<'_>,
        out: &mut Vec<Output>,
        over: impl Fn(&Stages, &Followed, &Known<'_>) -> bool,
    ) {
        self.open.retain(|key| {
            let Some(followed) = self.all.get(key) else {
                return false;
            };
            let (uid, change) = key;
            let stages = stages(uid, *change, followed, known);
            let over = over(&stages, followed, known);
            if over && stages.served {
                let found = propagation(*change, followed, &stages, known);
                out.push(Output::Propagation(Box::new(found)));
            }
            !over
        });
    }

    /// Those of one workload that began in this time.
    pub(super) fn of(
        &self,
        namespace: &str,
        workload: &Workload,
        time: RangeInclusive<Ktime>,
        known: &Known<'_>,
    ) -> Vec<Propagation> {
        let own = |f: &Followed| {
            time.contains(&f.at) && f.pod.namespace == namespace && f.workload.as_ref() == Some(workload)
        };
        let all = self.all.iter().filter(|(_, followed)| own(followed));
        all.filter_map(|((uid, change), followed)| {
            let stages = stages(uid, *change, followed, known);
            stages
                .served
                .then(|| propagation(*change, followed, &stages, known))
        })
        .collect()
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        while let Some(key) = self.passed.take(before) {
            self.all.remove(&key);
            self.open.remove(&key);
        }
    }
}

/// When each stage was reached.
struct Stages {
    /// It is or was an endpoint; of a pod of another node: one that this node's rules lead or led to.
    served: bool,
    /// The rules still lead to it.
    led: bool,
    change: Change,
    slice: Option<Ktime>,
    rules: Option<Ktime>,
    connection: Option<Ktime>,
    stopped: Option<Ktime>,
    /// What the pod itself did.
    own: PodSteps,
    /// The pod is in no slice any more, and in the API neither.
    gone: Option<Ktime>,
}

fn stages(uid: &PodUid, change: Change, followed: &Followed, known: &Known<'_>) -> Stages {
    let Known {
        pods,
        endpoints,
        routes,
        ..
    } = *known;
    let local = followed.node.is_none();
    let pod = pods.get(uid).filter(|_| local);
    // A late update may have blanked the addresses; and they may be told later than the change.
    let ips = pod.map_or(&followed.ips, |p| &p.state.ips);
    let each = || ips.iter().copied();
    let served: Vec<SocketAddr> = each().flat_map(|ip| endpoints.served_by(ip, uid)).collect();
    let lag = followed.at.minus_ms(WATCH_LAG_MS);
    let until: Vec<Option<Ktime>> = served
        .iter()
        .flat_map(|to| routes.until(*to, lag, followed.at))
        .collect();
    let led = until.contains(&None);
    let connections = || each().filter_map(|ip| endpoints.connections(ip, uid));
    let (slice, rules, connection) = match change {
        Change::Removal => (
            each().filter_map(|ip| endpoints.left_service(ip, uid)).max(),
            // The last rule to go is the one that counts.
            until.into_iter().max().flatten().filter(|_| !led),
            connections()
                .map(|(_, last)| last)
                .max()
                .filter(|last| *last >= lag),
        ),
        Change::Addition => (
            each().filter_map(|ip| endpoints.became_ready(ip, uid)).min(),
            served.iter().filter_map(|to| routes.taken_up(*to, lag)).min(),
            // One that it got before is of another time that it was ready.
            connections()
                .map(|(first, _)| first)
                .min()
                .filter(|first| *first >= lag),
        ),
    };
    let stopped = pod.filter(|_| change == Change::Removal).and_then(|pod| {
        let closed = pod.listeners.iter().filter_map(|l| l.closed);
        let closed = closed.filter(|c| *c >= followed.at).min();
        [closed, pod.network_down()].into_iter().flatten().min()
    });
    let own = pod.map_or_else(PodSteps::default, |pod| match change {
        Change::Removal => pod.end_since(followed.at),
        Change::Addition => {
            let ports: Vec<u16> = served.iter().map(SocketAddr::port).collect();
            PodSteps {
                listening_ms: pod.listened(&ports).map(|at| at.ms_since(followed.at)),
                ..PodSteps::default()
            }
        }
    });
    let out = || {
        let mut last = None;
        for ip in each() {
            last = last.max(Some(endpoints.gone(ip, uid)?));
        }
        last
    };
    Stages {
        served: !served.is_empty() && (local || served.iter().any(|to| routes.lead_or_led(*to))),
        led,
        change,
        slice,
        rules,
        connection,
        stopped,
        own,
        gone: if local { pod.and_then(|p| p.gone) } else { out() },
    }
}

/// Whether nothing more will come.
fn over(stages: &Stages, followed: &Followed, known: &Known<'_>) -> bool {
    let now = known.now;
    let past = |at: Option<Ktime>, ms: u64| at.is_some_and(|at| at.plus_ms(ms) <= now);
    if past(Some(followed.at), LONGEST_MS) {
        return true;
    }
    match stages.change {
        Change::Removal => {
            let local = followed.node.is_none();
            let complete = stages.slice.is_some() && (stages.stopped.is_some() || !local);
            (complete && past(stages.rules, SETTLE_MS)) || (!stages.led && past(stages.gone, GONE_MS))
        }
        Change::Addition => {
            let complete = stages.slice.is_some() && stages.connection.is_some();
            (complete && past(stages.rules, SETTLE_MS)) || past(Some(followed.at), UNUSED_MS)
        }
    }
}

fn propagation(change: Change, followed: &Followed, stages: &Stages, known: &Known<'_>) -> Propagation {
    let since = |at: Option<Ktime>| at.map(|at| at.ms_since(followed.at));
    Propagation {
        node: known.start.map(|(_, s)| s.node.clone()).unwrap_or_default(),
        namespace: followed.pod.namespace.clone(),
        workload: followed.workload.clone(),
        pod: followed.pod.name.clone(),
        pod_node: followed.node.clone(),
        change,
        since: followed.since,
        at: followed.at,
        wall: wall(known.start, followed.at),
        slice_ms: since(stages.slice),
        rules_ms: since(stages.rules),
        connection_ms: since(stages.connection),
        stopped_serving_ms: since(stages.stopped),
        own: stages.own,
    }
}
