//! The life of one pod: its containers, their signals and exits, its listeners.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use crate::input::{CgroupId, Deletion, Ktime, NetnsInum, PodState};

/// Most listeners, containers, signals and exits kept of one pod or container; the oldest goes first.
pub(super) const MAX_KEPT: usize = 64;

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
