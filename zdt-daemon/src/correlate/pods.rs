//! Every pod of this node, and who owned an address at a given time. Kept after the pod is gone: the interesting failures
//! come after.

mod kept;
mod mirror;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::{
    blind,
    bound::Cost,
    history::{ContainerHistory, ExitSeen, ListenerHistory, MAX_KEPT, PodHistory, SignalSeen},
    passed::Passed,
};
use crate::input::{Attribution, CgroupId, Ktime, NetnsInum, Place, PodState, PodUid, Start, Workload};

/// What an applied pod state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodChange {
    New,
    Deleted,
    Other,
}

/// Every pod of this node, living or remembered.
#[derive(Debug)]
pub struct Pods {
    pods: HashMap<PodUid, PodHistory>,
    /// By the uid in the names of their cgroups, where that is another one.
    by_cgroup_uid: HashMap<PodUid, PodUid>,
    /// Per address, in time order: (from, owner).
    owners: HashMap<IpAddr, Vec<(Ktime, PodUid)>>,
    /// The addresses that each pod has owned.
    addrs: HashMap<PodUid, Vec<IpAddr>>,
    /// Those that have the node's addresses.
    on_host: BTreeSet<PodUid>,
    /// Those that were terminating when they were first heard of.
    terminating: BTreeSet<PodUid>,
    /// Those that are gone or were never named by the API, by their last change.
    passed: Passed<PodUid>,
    max: usize,
    pub(super) cost: Cost,
}

impl Pods {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.pods.len(), self.cost.all())
    }

    pub(super) fn new(max: usize) -> Self {
        Self {
            pods: HashMap::new(),
            by_cgroup_uid: HashMap::new(),
            owners: HashMap::new(),
            addrs: HashMap::new(),
            on_host: BTreeSet::new(),
            terminating: BTreeSet::new(),
            passed: Passed::default(),
            max,
            cost: Cost::default(),
        }
    }

    pub fn get(&self, uid: &PodUid) -> Option<&PodHistory> {
        self.pods.get(uid)
    }

    /// The pod that owned `ip` at `at`: the last one that took it by then, even if it is gone by now.
    pub fn owner(&self, ip: IpAddr, at: Ktime) -> Option<&PodHistory> {
        let owners = self.owners.get(&ip)?;
        let uid = owners
            .iter()
            .rev()
            .find(|(from, _)| *from <= at)
            .or_else(|| owners.first())
            .map(|(_, uid)| uid)?;
        self.pods.get(uid)
    }

    /// The pod that got `ip` after this one, by now.
    pub fn heir(&self, ip: IpAddr, of: &PodUid) -> Option<&PodHistory> {
        let mut owners = self.owners.get(&ip)?.iter().map(|(_, uid)| uid);
        owners.find(|uid| *uid == of)?;
        self.pods.get(owners.find(|uid| *uid != of)?)
    }

    /// A pod of this node has this network namespace. Numbers of namespaces come again soon: of those that have ended, too.
    pub(super) fn has_netns(&self, netns: NetnsInum) -> bool {
        self.pods.values().any(|p| p.netns == Some(netns))
    }

    /// The pod on the host's network that a port of the node belonged to at `at`: the one whose container held the socket,
    /// else the last that had listened there by then.
    pub(super) fn on_host(&self, port: u16, cgroup: Option<CgroupId>, at: Ktime) -> Option<&PodHistory> {
        let all = || self.on_host.iter().filter_map(|uid| self.pods.get(uid));
        let holds = |p: &&PodHistory| cgroup.is_some_and(|cgroup| p.has_cgroup(cgroup));
        all()
            .find(holds)
            .or_else(|| all().max_by_key(|p| p.last_listened(port, at)))
            .filter(|p| holds(p) || p.last_listened(port, at).is_some())
    }

    /// Whether a pod of this workload and of another template is there, and not gone.
    pub(super) fn older_lives(&self, namespace: &str, workload: &Workload, newest: Option<&str>) -> bool {
        self.pods.values().any(|p| {
            p.known
                && p.gone.is_none()
                && p.state.pod.namespace == namespace
                && p.state.workload.as_ref() == Some(workload)
                && p.state.template_hash.as_deref() != newest
        })
    }

    /// Pods of a workload that live and were not told to end: of other templates, of the newest, and of these the Ready ones.
    pub(super) fn living(
        &self,
        namespace: &str,
        workload: &Workload,
        newest: Option<&str>,
    ) -> (usize, usize, usize) {
        let lives = |p: &PodHistory| {
            p.known
                && p.gone.is_none()
                && p.deletion_seen.is_none()
                && p.state.pod.namespace == namespace
                && p.state.workload.as_ref() == Some(workload)
        };
        let of_newest = |p: &PodHistory| p.state.template_hash.as_deref() == newest;
        let old = |p: &&PodHistory| lives(p) && !of_newest(p);
        let new = |p: &&PodHistory| lives(p) && of_newest(p);
        let ready = |p: &&PodHistory| new(p) && p.state.ready;
        let old = self.pods.values().filter(old).count();
        let all_new = self.pods.values().filter(new).count();
        let new_ready = self.pods.values().filter(ready).count();
        (old, all_new, new_ready)
    }

    /// `missed_since`: the watch had been interrupted then.
    pub(super) fn applied(
        &mut self,
        at: Ktime,
        state: &PodState,
        missed_since: Option<Ktime>,
        start: Option<&(Ktime, Start)>,
    ) -> PodChange {
        if let Some(cgroup_uid) = &state.cgroup_uid {
            self.joined(at, cgroup_uid, &state.uid);
        }
        // It was over before this daemon heard of it: evicted pods and finished jobs stay in the API with the addresses that
        // others have by now.
        let known = self.pods.get(&state.uid).is_some_and(|p| p.known);
        let was_over = !known && matches!(state.phase.as_str(), "Succeeded" | "Failed");
        if !state.host_network && !was_over {
            self.took(at, state);
        }
        let bound = (self.max, &mut self.cost, &mut self.passed);
        let pod = Self::entry(&mut self.pods, bound, at, &state.uid);
        let new = !pod.known;
        pod.known = true;
        if new {
            pod.from_birth = state.containers.iter().all(|c| c.id.is_empty());
        }
        pod.last_change = at;
        if pod.gone.is_some() {
            self.passed.add(at, state.uid.clone());
        }
        let ips = std::mem::take(&mut pod.state.ips);
        pod.state = state.clone();
        let ids = state.containers.iter().map(|c| &c.id).filter(|id| !id.is_empty());
        pod.listed.extend(ids.cloned());
        while pod.listed.len() > MAX_KEPT {
            pod.listed.pop_first();
        }
        if state.host_network {
            self.on_host.insert(state.uid.clone());
        }
        // A late update may blank status.podIP (kubernetes/kubernetes#125370): the last known address stands.
        if state.ips.is_empty() {
            pod.state.ips = ips;
        }
        if pod.ended_seen.is_none() && matches!(state.phase.as_str(), "Succeeded" | "Failed") {
            pod.ended_seen = Some(at);
        }
        let told = state.deletion.is_some() || (state.ended_by_kubelet() && !was_over);
        if pod.deletion_seen.is_none() && told {
            pod.deletion = state.deletion;
            pod.deletion_seen = Some(at);
            if new {
                self.terminating.insert(state.uid.clone());
            }
            // Of an eviction by the kubelet the status may tell only when all is over: its signal told before.
            let over = state.deletion.is_none() && state.disruption.is_none();
            let first_seen = pod.first_seen;
            if let Some(since) = missed_since.or_else(|| over.then_some(first_seen)) {
                pod.deletion_seen = Some(blind::deleted(pod, (since, at), state.deletion, start));
                pod.deletion_late = Some(at);
            }
            return PodChange::Deleted;
        }
        if new { PodChange::New } else { PodChange::Other }
    }

    /// The pod's object is gone. Returns its state when it had not been told to go before, as far as this daemon knows.
    pub(super) fn gone(&mut self, at: Ktime, uid: &PodUid, missed_since: Option<Ktime>) -> Option<PodState> {
        let pod = self.pods.get_mut(uid)?;
        let untold = pod.known && pod.deletion_seen.is_none() && pod.ended_seen.is_none();
        pod.gone = Some(at);
        pod.last_change = at;
        self.passed.add(at, uid.clone());
        if pod.deletion_seen.is_none() {
            pod.deletion_seen = Some(at);
            if let Some(since) = missed_since {
                pod.deletion_seen = Some(blind::deleted(pod, (since, at), None, None));
                pod.deletion_late = Some(at);
            }
        }
        untold.then(|| pod.state.clone())
    }

    /// All first lists are in: since when the pods that were terminating in them have been so.
    pub(super) fn synced(&mut self, at: Ktime, start: Option<&(Ktime, Start)>) {
        for uid in std::mem::take(&mut self.terminating) {
            let pod = self.pods.get_mut(&uid).filter(|p| p.gone.is_none());
            if let Some(pod) = pod
                && let (Some(seen), Some(deletion)) = (pod.deletion_seen, pod.deletion)
            {
                pod.deletion_seen = Some(blind::deleted(
                    pod,
                    (Ktime::default(), seen),
                    Some(deletion),
                    start,
                ));
                pod.deletion_late = Some(at);
            }
        }
    }

    pub(super) fn listener(
        &mut self,
        at: Ktime,
        place: &Place,
        local: SocketAddr,
        open: bool,
        (exiting, tgid): (bool, u32),
    ) {
        let Some(pod) = self.pod(at, place) else { return };
        if place.netns.0 != 0 {
            pod.netns = Some(place.netns);
        }
        if open {
            let listener = ListenerHistory {
                local,
                cgroup: place.cgroup,
                opened: Some(at),
                closed: None,
                closed_by: 0,
                by_exit: false,
            };
            pod.listeners.push_back(listener);
        } else {
            // The close of a dual-stack socket is reported twice; the first report is the one that counts.
            let repeated =
                |l: &ListenerHistory| l.local == local && l.closed.is_some_and(|c| at.ms_since(c) < 1.0);
            if pod.listeners.iter().any(repeated) {
                return;
            }
            match pod
                .listeners
                .iter_mut()
                .rev()
                .find(|l| l.local == local && l.closed.is_none())
            {
                Some(listener) => {
                    listener.closed = Some(at);
                    listener.closed_by = tgid;
                    listener.by_exit = exiting;
                }
                None => pod.listeners.push_back(ListenerHistory {
                    local,
                    cgroup: place.cgroup,
                    opened: None,
                    closed: Some(at),
                    closed_by: tgid,
                    by_exit: exiting,
                }),
            }
        }
        if pod.listeners.len() > MAX_KEPT {
            pod.listeners.pop_front();
        }
    }

    pub(super) fn signal(&mut self, place: &Place, seen: SignalSeen) {
        if let Some(container) = self.container(seen.at, place) {
            if container.signals.len() >= MAX_KEPT {
                container.signals.remove(0);
            }
            container.signals.push(seen);
        }
    }

    pub(super) fn exit(&mut self, place: &Place, seen: ExitSeen) {
        if let Some(container) = self.container(seen.at, place) {
            if container.exits.len() >= MAX_KEPT {
                container.exits.remove(0);
            }
            container.exits.push(seen);
        }
    }

    /// Whether a cgroup is known to be a container of another pod, perhaps of another cluster's with the same addresses.
    pub(super) fn is_anothers(&self, cgroup: CgroupId, uid: &PodUid) -> bool {
        let listens = |pod: &PodHistory| pod.listeners.iter().any(|l| l.cgroup == cgroup);
        let has = |pod: &PodHistory| pod.containers.contains_key(&cgroup) || listens(pod);
        !self.get(uid).is_some_and(has) && self.pods.values().any(has)
    }

    /// The pod at an address answered with an error.
    pub(super) fn erred(&mut self, at: Ktime, ip: IpAddr) {
        let uid = self.owner(ip, at).map(|p| p.state.uid.clone());
        if let Some(pod) = uid.and_then(|uid| self.pods.get_mut(&uid))
            && pod.ending_at(at)
        {
            pod.erred.get_or_insert(at);
        }
    }

    pub(super) fn oom(&mut self, at: Ktime, place: &Place) {
        if let Some(container) = self.container(at, place) {
            container.oom.get_or_insert(at);
        }
    }

    fn pod(&mut self, at: Ktime, place: &Place) -> Option<&mut PodHistory> {
        let Attribution::Pod { uid, .. } = &place.attribution else {
            return None;
        };
        let uid = self.by_cgroup_uid.get(uid).unwrap_or(uid);
        let bound = (self.max, &mut self.cost, &mut self.passed);
        let pod = Self::entry(&mut self.pods, bound, at, uid);
        if !pod.known {
            self.passed.add(pod.last_change, uid.clone());
        }
        Some(pod)
    }

    fn container(&mut self, at: Ktime, place: &Place) -> Option<&mut ContainerHistory> {
        let Attribution::Pod { container, .. } = &place.attribution else {
            return None;
        };
        let containers = &mut self.pod(at, place)?.containers;
        // cgroup ids grow: the first is the oldest.
        if containers.len() >= MAX_KEPT && !containers.contains_key(&place.cgroup) {
            containers.pop_first();
        }
        let history = containers.entry(place.cgroup).or_default();
        if history.id.is_empty() {
            history.id.clone_from(container);
        }
        Some(history)
    }

    fn entry<'a>(
        pods: &'a mut HashMap<PodUid, PodHistory>,
        (max, cost, passed): (usize, &mut Cost, &mut Passed<PodUid>),
        at: Ktime,
        uid: &PodUid,
    ) -> &'a mut PodHistory {
        if pods.len() >= max && !pods.contains_key(uid) {
            // The bound holds even for an API server that lies: the pod unchanged for longest goes first.
            if let Some(oldest) = pods
                .iter()
                .min_by_key(|(u, p)| (p.last_change, (*u).clone()))
                .map(|(u, _)| u.clone())
            {
                pods.remove(&oldest);
                passed.add(Ktime::default(), oldest);
                cost.one();
            }
        }
        pods.entry(uid.clone()).or_insert_with(|| PodHistory {
            state: PodState {
                uid: uid.clone(),
                ..PodState::default()
            },
            first_seen: at,
            last_change: at,
            ..PodHistory::default()
        })
    }
}
