//! The life of one pod: its containers, their signals and exits, its listeners.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use crate::{
    input::{CgroupId, ContainerState, Deletion, Ktime, NetnsInum, PodState},
    verdict::PodSteps,
};

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
    pub sender_tgid: u32,
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

    /// Sent by the container's runtime, for its kubelet: not by a server to its own workers, not by who runs `kill` inside.
    /// On a real node it is runc (its `kill` and `delete`); the others by the names of their binaries.
    pub fn from_runtime(&self) -> bool {
        const RUNTIMES: [&str; 6] = ["runc", "crun", "youki", "conmon", "crio", "containerd-shim"];
        self.from_user_space() && RUNTIMES.iter().any(|r| self.sender_comm.starts_with(r))
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

impl ExitSeen {
    /// A signal ended it (wait(2): the low seven bits).
    pub fn killed_by(&self, sig: i32) -> bool {
        self.exit_code & 0x7f == sig
    }

    /// What ended it, for sentences.
    pub fn how(&self) -> String {
        match (self.exit_code & 0x7f, self.exit_code >> 8 & 0xff) {
            (0, status) => format!("exited with status {status}"),
            (sig, _) => format!("was killed by signal {sig}"),
        }
    }
}

/// How a process of a container came to its end.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// The runtime asked its container to stop, or killed it.
    Stopped {
        asked: &'a SignalSeen,
        exit: &'a ExitSeen,
    },
    /// The out-of-memory killer.
    OutOfMemory { chosen: Ktime, exit: &'a ExitSeen },
    /// It exited, or a signal from inside or of its own making ended it.
    ByItself { exit: &'a ExitSeen },
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

    /// How this process of it came to its end, when it has ended by `at`.
    pub fn ending(&self, tgid: u32, at: Ktime) -> Option<Ending<'_>> {
        let exit = self.exits.iter().rev().find(|e| e.tgid == tgid && e.at <= at)?;
        // When the first process of a pid namespace exits the kernel kills the others (kernel/pid_namespace.c
        // zap_pid_ns_processes): they came to their end as it did.
        let zapped_by = self.signals.iter().rev().find(|s| {
            s.tgid == tgid
                && s.sig == SIGKILL
                && !s.from_user_space()
                && s.sender_tgid != tgid
                && s.at <= exit.at
        });
        if let Some(first) = zapped_by.filter(|_| exit.killed_by(SIGKILL))
            && let Some(its) = self
                .exits
                .iter()
                .rev()
                .find(|e| e.tgid == first.sender_tgid && e.at <= first.at)
        {
            return Some(self.ended(its));
        }
        Some(self.ended(exit))
    }

    fn ended<'a>(&'a self, exit: &'a ExitSeen) -> Ending<'a> {
        let until = self.signals.iter().take_while(|s| s.at <= exit.at);
        let asked = until
            .filter(|s| s.from_runtime() && (s.asks_to_stop() || s.sig == SIGKILL))
            .last();
        match (self.oom.filter(|o| *o <= exit.at), asked) {
            // The runtime's own SIGKILL is seen; what else kills with 9 after the choice of a victim is the kernel.
            (Some(chosen), None) if exit.killed_by(SIGKILL) => Ending::OutOfMemory { chosen, exit },
            (_, Some(asked)) => Ending::Stopped { asked, exit },
            (_, None) => Ending::ByItself { exit },
        }
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
    /// The process that ran when it closed, which is the one that closed it.
    pub closed_by: u32,
    /// Closed by the exit of its process.
    pub by_exit: bool,
}

/// Everything known of one pod.
#[derive(Clone, Debug, Default)]
pub struct PodHistory {
    /// As the API had it last; only the uid is set when the API has not named it (yet).
    pub state: PodState,
    pub known: bool,
    /// The API told of it before any of its containers had run: everything it did was seen.
    pub from_birth: bool,
    pub first_seen: Ktime,
    /// When the watch first delivered it with a deletionTimestamp, or as ended by its kubelet. Of one that it had missed: when that was, as far as known.
    pub deletion_seen: Option<Ktime>,
    /// When the watch told of its deletion, where that was late.
    pub deletion_late: Option<Ktime>,
    pub deletion: Option<Deletion>,
    /// When the watch said that it ended (phase Succeeded or Failed).
    pub ended_seen: Option<Ktime>,
    pub gone: Option<Ktime>,
    /// When it first answered with an error, other than the node itself, after it had been told to go.
    pub erred: Option<Ktime>,
    pub last_change: Ktime,
    /// Runtime ids of the containers that the API has ever listed.
    pub listed: BTreeSet<String>,
    /// Its network namespace, once a listener of it has been seen (the runtime's own processes pass through others).
    pub netns: Option<NetnsInum>,
    pub containers: BTreeMap<CgroupId, ContainerHistory>,
    pub listeners: VecDeque<ListenerHistory>,
}

impl PodHistory {
    /// Whether there has been a listener on `port` by `at`.
    pub fn has_listened(&self, port: u16, at: Ktime) -> bool {
        let mut on_port = self.listeners.iter().filter(|l| l.local.port() == port);
        on_port.any(|l| l.opened.is_none_or(|opened| opened <= at))
    }

    /// One of its containers was seen to have this cgroup.
    pub(super) fn has_cgroup(&self, cgroup: CgroupId) -> bool {
        self.containers.contains_key(&cgroup) || self.listeners.iter().any(|l| l.cgroup == cgroup)
    }

    /// When its last listener on `port` by `at` had opened; 0: before zdt started.
    pub(super) fn last_listened(&self, port: u16, at: Ktime) -> Option<Ktime> {
        let on_port = self.listeners.iter().filter(|l| l.local.port() == port);
        on_port
            .map(|l| l.opened.unwrap_or_default())
            .filter(|o| *o <= at)
            .max()
    }

    /// The listeners that are open at `at`.
    pub fn listening(&self, at: Ktime) -> impl Iterator<Item = &ListenerHistory> {
        let open =
            move |l: &&ListenerHistory| l.opened.is_none_or(|o| o <= at) && l.closed.is_none_or(|c| c > at);
        self.listeners.iter().filter(open)
    }

    /// A preStop hook that may tell the application that it is to go, before any signal does; a sleep tells nothing.
    pub fn hook_speaks(&self) -> bool {
        let hooks = self.state.containers.iter().filter_map(|c| c.pre_stop.as_deref());
        hooks.into_iter().any(|h| !h.starts_with("sleep:"))
    }

    /// It had been told to go by `at`: from its deletion's being seen on, and as long before that as the kubelet may have
    /// known of it earlier.
    pub fn ending_at(&self, at: Ktime) -> bool {
        self.deletion_seen.is_some() && self.end_began() <= at
    }

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

    /// An error that it answered at `at` may come from its being told to go: something had told its application by then, and it
    /// had not answered with errors between its deletion and that.
    pub fn errs_because_told(&self, at: Ktime) -> bool {
        let told = if self.hook_speaks() {
            Some(self.end_began())
        } else {
            self.asked_to_stop(at).map(|s| s.at)
        };
        let told = told.filter(|_| self.ending_at(at));
        told.is_some_and(|told| self.erred.is_none_or(|first| first >= told))
    }

    /// The first request to stop that any of its containers got in the pod's end, at or before `at`.
    pub fn asked_to_stop(&self, at: Ktime) -> Option<&SignalSeen> {
        let since = self.end_began();
        self.containers
            .values()
            .filter_map(|c| c.asked_to_stop(since, at))
            .min_by_key(|s| s.at)
    }

    /// The steps of its end, in milliseconds since `at`, its deletion.
    pub fn end_since(&self, at: Ktime) -> PodSteps {
        let ms = |step: Option<Ktime>| step.map(|step| step.ms_since(at));
        let term = self.asked_to_stop(Ktime(u64::MAX)).map(|s| s.at);
        // The kubelet may be earlier than this daemon. What a reload closed before either is not the pod's end.
        let began = term.map_or(at, |term| term.min(at));
        let closed = self.listeners.iter().filter_map(|l| l.closed);
        // What the API never listed is the sandbox, whose end is the network's.
        let own = self.containers.values().filter(|c| self.listed.contains(&c.id));
        let exits = own.filter_map(|c| c.exits.last()).map(|e| e.at);
        PodSteps {
            term_ms: ms(term),
            listener_closed_ms: ms(closed.filter(|c| *c >= began).min()),
            exited_ms: ms(exits.filter(|e| *e >= began).max()),
            network_down_ms: ms(self.network_down()),
            listening_ms: None,
        }
    }

    /// When it first listened on one of these ports; None: not yet, or since before zdt started.
    pub fn listened(&self, ports: &[u16]) -> Option<Ktime> {
        let on = self.listeners.iter().filter(|l| ports.contains(&l.local.port()));
        on.filter_map(|l| l.opened).min()
    }

    /// The container that listens on `port`, or did; of a pod with one container, that one.
    pub fn container_on(&self, port: u16) -> Option<&ContainerState> {
        let of = |l: &ListenerHistory| {
            let id = &self.containers.get(&l.cgroup)?.id;
            self.state.containers.iter().find(|c| c.id == *id)
        };
        let seen = self
            .listeners
            .iter()
            .rev()
            .filter(|l| l.local.port() == port)
            .find_map(of);
        match self.state.containers.as_slice() {
            [only] => Some(only),
            _ => seen,
        }
    }
}
