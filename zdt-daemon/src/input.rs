//! Everything that can happen, as zdt knows it. What is not an [`Input`] did not happen (invariant I4): recorded
//! inputs replay to the same verdicts, byte for byte.

mod objects;
mod observation;
mod packet;
mod rules;
mod uid;

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

pub use objects::{
    ContainerState, Deletion, EndpointState, PodState, ReplicaSetState, ServicePort, ServiceState, SlicePort,
    SliceState, Workload,
};
pub use observation::{
    AnswerEnd, Attribution, Body, Observation, Place, Side, Sock, TcpCounters, TcpState, Translation, Tuple,
};
pub use packet::{ConntrackState, Packet, Pinned};
pub use rules::{Backend, Protocol, Route, RouteChange, RulesState};
pub use uid::UidText;

/// CLOCK_MONOTONIC, nanoseconds: the only clock that orders inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ktime(pub u64);

impl Ktime {
    /// Milliseconds from `earlier` to `self`; negative when `self` is the earlier one.
    pub fn ms_since(self, earlier: Self) -> f64 {
        if self >= earlier {
            (self.0 - earlier.0) as f64 / 1e6
        } else {
            -((earlier.0 - self.0) as f64 / 1e6)
        }
    }

    /// `self` + `ms`, saturating.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// `self` - `ms`, saturating.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms.saturating_mul(1_000_000)))
    }
}

/// Wall clock time, milliseconds since the Unix epoch. Kubernetes timestamps have a resolution of one second; they
/// confirm, they never order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// Inode number of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsInum(pub u32);

/// cgroup v2 id: the inode number of its directory. 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// `metadata.uid` of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodUid(pub UidText);

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace and name of a Kubernetes object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for NsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One thing that happened, and when. Inputs come in the order in which the daemon learned of them; `at` may go back
/// a little, since the kernel's events are drained in batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub at: Ktime,
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// The first input of each run.
    Start(Start),
    /// The kernel reported.
    Kernel(Observation),
    /// Where the node's address translation sent one connection.
    Translation(Translation),
    /// What conntrack holds for a pod in transition.
    Pinned(Pinned),
    /// How this node's conntrack fares; only while pods are in transition.
    Conntrack(ConntrackState),
    /// A pod of this node, as the API has it now.
    Pod(PodState),
    /// A pod of this node is no longer in the API.
    PodGone {
        uid: PodUid,
    },
    /// An endpoint slice, as the API has it now.
    Slice(SliceState),
    SliceGone {
        slice: NsName,
    },
    /// A service, as the API has it now.
    Service(ServiceState),
    ServiceGone {
        service: NsName,
    },
    /// A ReplicaSet (its revision), as the API has it now.
    ReplicaSet(ReplicaSetState),
    ReplicaSetGone {
        replica_set: NsName,
    },
    /// The node's rules route to other endpoints than before.
    Rules(RulesState),
    /// A watch is interrupted: what changed since `since` is not known yet.
    WatchBroken {
        resource: String,
        since: Ktime,
    },
    /// It is whole again: what can still be told of the time since `since` has been. What came and went meanwhile is missing.
    WatchGap {
        resource: String,
        since: Ktime,
    },
    /// It was not interrupted after all: the API server was slow to answer, and nothing had happened meanwhile.
    WatchWhole {
        resource: String,
    },
    /// All first lists are in: from here on nothing of the cluster's objects is missing.
    Synced,
    /// zdt is told to end: what comes from here on is not seen.
    Stopping,
    /// `count` pieces of information were lost at `source` since the last such input.
    Loss {
        source: String,
        count: u64,
    },
    /// Time passes.
    Tick,
}

/// Where and on what zdt runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Name of the node.
    pub node: String,
    /// Wall clock at `Input::at`: `wall(t) = wall + (t - at)`.
    pub wall: Wall,
    /// `uname -r`.
    pub kernel: String,
    /// Addresses of the node's own network namespace.
    pub node_addrs: Vec<IpAddr>,
    /// That namespace; 0: unknown.
    #[serde(default)]
    pub netns: NetnsInum,
    /// Hooks that are attached, by kernel name.
    pub hooks: Vec<String>,
    /// What causes need (`zdt causes` says which) and this kernel, or the rights that zdt has, do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Jiffies per second as the kernel counts them (CONFIG_HZ), for `lrcvtime` and `lsndtime`.
    pub hz: u32,
}
