//! The life of each pod of this node, and who owned an address at a given time. Kept after the pod is gone: the
//! interesting failures come after.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use crate::input::{Attribution, CgroupId, Deletion, Ktime, NetnsInum, Place, PodState, PodUid, Workload};

/// Most listeners, containers, signals and exits kept of one pod or container; the oldest goes first.
const MAX_KEPT: usize = 64;

/// How much later than the kubelet this daemon may learn of a deletion, milliseconds.
const WATCH_LAG_MS: u64 = 2_000;

/// SIGKILL and SIGTERM (signal(7)).
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;

/// A signal that reached a container.
#[derive(Clone, Debug)]
pub struct SignalSeen {
    pub at: Ktime,
    pub tgid: u32,
    pub sig: i32,
    pub code: Option<i32>,
    pub delivered: bool,
    pub sender_comm: String,
}

impl SignalSeen {
    /// Asks the process to stop: SIGTERM, or what images declare as STOPSIGNAL (SIGQUIT, SIGINT).
    pub fn asks_to_stop(&self) -> bool {
        matches!(self.sig, SIGTERM | SIGQUIT | SIGINT) && self.from_user_space()
    }

    /// kill(2) by somebody, not the collapse of a pid namespace or the kernel's own (code 128, SI_KERNEL).
    pub fn from_user_space(&self) -> bool {
        self.code.is_none_or(|c| c <= 0)
    }
}

/// The end of a process of a container.
#[derive(Clone, Debug)]
pub struct ExitSeen {
    pub at: Ktime,
    pub tgid: u32,
    pub comm: String,
    pub exit_code: i32,
}

/// One container of a pod, by its cgroup.
#[derive(Clone, Debug, Default)]
pub struct ContainerHistory {
    /// Runtime id.
    pub id: String,
    pub signals: Vec<SignalSeen>,
    pub exits: Vec<ExitSeen>,
    pub oom: Option<Ktime>,
}

impl ContainerHistory {
    /// The first request to stop from `since` to `at`.
    pub fn asked_to_stop(&self, since: Ktime, at: Ktime) -> Option<&SignalSeen> {
        self.signals
            .iter()
            .find(|s| s.asks_to_stop() && since <= s.at && s.at <= at)
    }

    /// The first SIGKILL from user space (the runtime) from `since` to `at`.
    pub fn killed(&self, since: Ktime, at: Ktime) -> Option<&SignalSeen> {
        self.signals
            .iter()
            .find(|s| s.sig == SIGKILL && s.from_user_space() && since <= s.at && s.at <= at)
    }
}

/// One listening socket of a pod.
#[derive(Clone, Debug)]
pub struct ListenerHistory {
    pub local: SocketAddr,
    pub cgroup: CgroupId,
    /// None: it was open before zdt started.
    pub opened: Option<Ktime>,
    pub closed: Option<Ktime>,
    /// Closed by the exit of its process.
    pub by_exit: bool,
}

/// Everything known of one pod.
#[derive(Clone, Debug, Default)]
pub struct PodHistory {
    /// As the API had it last; only the uid is set when the API has not named it (yet).
    pub state: PodState,
    pub known: bool,
    pub first_seen: Ktime,
    /// When the watch first delivered it with a deletionTimestamp.
    pub deletion_seen: Option<Ktime>,
    pub deletion: Option<Deletion>,
    /// When the watch said that it ended (phase Succeeded or Failed).
    pub ended_seen: Option<Ktime>,
    pub gone: Option<Ktime>,
    pub last_change: Ktime,
    /// Runtime ids of the containers that the API has ever listed.
    pub listed: BTreeSet<String>,
    /// Its network namespace, once a listener of it has been seen (the runtime's own processes pass through others).
    pub netns: Option<NetnsInum>,
    pub containers: BTreeMap<CgroupId, ContainerHistory>,
    pub listeners: VecDeque<ListenerHistory>,
}

impl PodHistory {
    /// Signals from here on may belong to the pod's end. What a server sent its own workers before is not the kubelet's.
    /// The kubelet may be told of the deletion earlier than this daemon; its watch lags by less than this.
    pub fn end_began(&self) -> Ktime {
        self.deletion_seen
            .map_or(Ktime::default(), |d| d.minus_ms(WATCH_LAG_MS))
    }

    /// The end of the pod's sandbox, and with it of its network: the last exit, in the pod's end, of a container that the
    /// API has never listed (an init container's or a restarted one's exit was before).
    pub fn sandbox_ended(&self) -> Option<Ktime> {
        if self.state.containers.iter().any(|c| c.id.is_empty()) {
            return None;
        }
        let since = self.deletion_seen.map(|_| self.end_began())?;
        self.containers
            .values()
            .filter(|c| !self.listed.contains(&c.id))
            .filter_map(|c| c.exits.last())
            .map(|e| e.at)
            .filter(|at| *at >= since)
            .max()
    }

    /// The earliest sign that nothing answers on the pod's address any more.
    pub fn network_down(&self) -> Option<Ktime> {
        [self.sandbox_ended(), self.ended_seen, self.gone]
            .into_iter()
            .flatten()
            .min()
    }

    /// The last close of a listener on `port` at or before `at`, when none has been opened since.
    pub fn listener_closed(&self, port: u16, at: Ktime) -> Option<&ListenerHistory> {
        let on_port = || self.listeners.iter().filter(move |l| l.local.port() == port);
        let open = on_port().any(|l| l.opened.is_none_or(|o| o <= at) && l.closed.is_none_or(|c| c > at));
        if open {
            return None;
        }
        on_port()
            .filter(|l| l.closed.is_some_and(|c| c <= at))
            .max_by_key(|l| l.closed)
    }

    /// The first request to stop that any of its containers got in the pod's end, at or before `at`.
    pub fn asked_to_stop(&self, at: Ktime) -> Option<&SignalSeen> {
        let since = self.end_began();
        self.containers
            .values()
            .filter_map(|c| c.asked_to_stop(since, at))
            .min_by_key(|s| s.at)
    }
}

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
    /// Per address, in time order: (from, owner).
    owners: HashMap<IpAddr, Vec<(Ktime, PodUid)>>,
    max: usize,
}

impl Pods {
    pub(super) fn new(max: usize) -> Self {
        Self {
            pods: HashMap::new(),
            owners: HashMap::new(),
            max,
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

    pub(super) fn applied(&mut self, at: Ktime, state: &PodState) -> PodChange {
        let pod = Self::entry(&mut self.pods, self.max, at, &state.uid);
        let new = !pod.known;
        pod.known = true;
        pod.last_change = at;
        let ips = std::mem::take(&mut pod.state.ips);
        pod.state = state.clone();
        let ids = state.containers.iter().map(|c| &c.id).filter(|id| !id.is_empty());
        pod.listed.extend(ids.cloned());
        while pod.listed.len() > MAX_KEPT {
            pod.listed.pop_first();
        }
        for ip in &state.ips {
            if !state.host_network && !ips.contains(ip) {
                self.owners.entry(*ip).or_default().push((at, state.uid.clone()));
            }
        }
        // A late update may blank status.podIP (kubernetes/kubernetes#125370): the last known address stands.
        if state.ips.is_empty() {
            pod.state.ips = ips;
        }
        if pod.ended_seen.is_none() && matches!(state.phase.as_str(), "Succeeded" | "Failed") {
            pod.ended_seen = Some(at);
        }
        if let (None, Some(deletion)) = (pod.deletion_seen, state.deletion) {
            pod.deletion_seen = Some(at);
            pod.deletion = Some(deletion);
            return PodChange::Deleted;
        }
        if new { PodChange::New } else { PodChange::Other }
    }

    pub(super) fn gone(&mut self, at: Ktime, uid: &PodUid) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.gone = Some(at);
            pod.last_change = at;
            // A force-deleted pod is gone without ever having been seen terminating.
            pod.deletion_seen.get_or_insert(at);
        }
    }

    pub(super) fn listener(
        &mut self,
        at: Ktime,
        place: &Place,
        local: SocketAddr,
        open: bool,
        exiting: bool,
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
                    listener.by_exit = exiting;
                }
                None => pod.listeners.push_back(ListenerHistory {
                    local,
                    cgroup: place.cgroup,
                    opened: None,
                    closed: Some(at),
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

    pub(super) fn oom(&mut self, at: Ktime, place: &Place) {
        if let Some(container) = self.container(at, place) {
            container.oom.get_or_insert(at);
        }
    }

    /// Forgets pods that are gone (or were never named by the API) and unchanged since `before`.
    pub(super) fn forget(&mut self, before: Ktime) {
        let old = |p: &PodHistory| (p.gone.is_some() || !p.known) && p.last_change < before;
        if !self.pods.values().any(old) {
            return;
        }
        self.pods.retain(|_, p| !old(p));
        let pods = &self.pods;
        self.owners.retain(|_, owners| {
            owners.retain(|(_, uid)| pods.contains_key(uid));
            !owners.is_empty()
        });
    }

    fn pod(&mut self, at: Ktime, place: &Place) -> Option<&mut PodHistory> {
        let Attribution::Pod { uid, .. } = &place.attribution else {
            return None;
        };
        Some(Self::entry(&mut self.pods, self.max, at, uid))
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
        max: usize,
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
