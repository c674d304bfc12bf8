//! Everything that can happen, as zdt knows it. What is not an [`Input`] did not happen (invariant I4): recorded
//! inputs replay to the same verdicts, byte for byte.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

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
pub struct PodUid(pub String);

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    /// A watch was interrupted and has been listed anew: changes since `since` may be missing.
    WatchGap {
        resource: String,
        since: Ktime,
    },
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
    /// Jiffies per second as the kernel counts them (CONFIG_HZ), for `lrcvtime` and `lsndtime`.
    pub hz: u32,
}

/// TCP states by name (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    /// A number this zdt has no name for.
    Unknown,
}

/// Which side of the connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Local address and port are a known endpoint.
    Server,
    Client,
}

/// One side of a TCP connection. Fields as in `zdt_common::SockView`; zero where there was no full socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sock {
    pub side: Side,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub netns: NetnsInum,
    pub cgroup: CgroupId,
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub cookie: u64,
    pub state: TcpState,
    /// positive errno
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub err: i32,
    /// positive errno
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub err_soft: i32,
    /// None: no full socket (headers only, request socket or TIME_WAIT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCounters>,
}

/// Counters of a full TCP socket; see `zdt_common::SockView` for each field's kernel source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCounters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub bytes_acked: u64,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// `rcv_nxt - copied_seq`: received and not read, a FIN counts as one.
    pub unread: u32,
    /// `rcv_nxt - rcv_wup`: received since our last segment, a FIN counts as one.
    pub since_last_segment: u32,
    /// `write_seq - snd_una`: written and not acknowledged.
    pub unacked: u32,
    /// `rcv_nxt - snd_wl1`: received in and after the segment that last acknowledged something of ours. When nothing is
    /// unacknowledged, that is what the peer sent with our last answer in its hands.
    #[serde(default)]
    pub since_last_acked: u32,
    /// `lrcvtime - lsndtime` in jiffies, signed: > 0 when the last payload went in.
    pub last_in_after_out_jiffies: i32,
    /// Retransmission timeouts in a row.
    pub retransmits: u8,
    /// In SYN_SENT: when the first SYN was sent (1 ms resolution).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_syn: Option<Ktime>,
    /// In SYN_SENT: the initial sequence number of the SYN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isn: Option<u32>,
}

/// Where a process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub cgroup: CgroupId,
    pub netns: NetnsInum,
    pub attribution: Attribution,
}

/// Whose process or socket it is, from the cgroup's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// A pod's container (its runtime id; empty for a process in the pod's own cgroup).
    Pod {
        uid: PodUid,
        container: String,
    },
    /// A process of the host.
    Host,
    Unknown(String),
}

/// What the kernel half reported, with names instead of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "snake_case")]
pub enum Observation {
    /// `inet_sock_set_state`: a connection ends (`new` is FIN_WAIT1, LAST_ACK or CLOSE).
    FlowEnd {
        sock: Sock,
        old: TcpState,
        new: TcpState,
        /// The running thread is exiting: the close comes from a dying process.
        exiting: bool,
        tgid: u32,
    },
    /// `inet_sock_set_state` to and from LISTEN.
    Listener {
        place: Place,
        /// Unspecified address: any.
        local: SocketAddr,
        open: bool,
        exiting: bool,
        tgid: u32,
    },
    /// `tcp_send_reset`. `sock.local` sends the RST.
    ResetSent {
        sock: Sock,
        /// Name from BTF without its prefix (`NO_SOCKET`); None on kernels that give none.
        reason: Option<String>,
        /// The RST answers a SYN.
        to_syn: bool,
        has_socket: bool,
        /// Of the answered SYN: its sequence number, which no translation changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        isn: Option<u32>,
    },
    /// `tcp_receive_reset`.
    ResetReceived { sock: Sock },
    /// `inet_sk_error_report`.
    SockError { sock: Sock },
    /// `tcp_retransmit_skb` after a timeout.
    Retransmit {
        sock: Sock,
        /// negative errno, 0: sent
        #[serde(default, skip_serializing_if = "is_zero_i32")]
        err: i32,
    },
    /// `signal_generate` for a process in a pod.
    Signal {
        place: Place,
        pid: u32,
        tgid: u32,
        comm: String,
        sig: i32,
        /// `si_code`; None: the kernel gave no siginfo.
        code: Option<i32>,
        /// The signal was not discarded by an ignore disposition.
        delivered: bool,
        sender_tgid: u32,
        sender_comm: String,
    },
    /// `sched_process_exit` of the last thread of a process in a pod.
    Exit {
        place: Place,
        tgid: u32,
        comm: String,
        /// As wait(2) encodes it.
        exit_code: i32,
    },
    /// `mark_victim`: the out-of-memory killer chose it.
    OomVictim { place: Place, pid: u32, comm: String },
    /// A table of this node's legacy iptables was replaced: the new one was in force at this time at the latest.
    TableReplaced {
        netns: NetnsInum,
        /// 4 or 6.
        family: u8,
        /// `nat`, `filter` …; empty when the kernel could not tell.
        table: String,
        /// `comm` of the process that replaced it.
        by: String,
        tgid: u32,
    },
}

/// A conntrack entry of this node, looked up when a client socket of this node failed or retransmitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    /// What the client dialled: its address, and the service's or pod's.
    pub orig: Tuple,
    /// Where replies come from: `reply.from` is the pod that was chosen, `reply.to` is the client as that pod saw it.
    /// None: no entry was found.
    pub reply: Option<Tuple>,
    /// The entry has seen a packet from the pod (not UNREPLIED).
    pub replied: bool,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    pub uid: PodUid,
    pub pod: NsName,
    pub ips: Vec<IpAddr>,
    pub host_network: bool,
    /// The controller, resolved as far as names and labels tell: a ReplicaSet `web-5895c69847` with the template hash
    /// `5895c69847` is Deployment `web`.
    pub workload: Option<Workload>,
    /// Label `pod-template-hash` or `controller-revision-hash`.
    pub template_hash: Option<String>,
    pub deletion: Option<Deletion>,
    /// `spec.terminationGracePeriodSeconds`
    pub grace_s: i64,
    /// `status.phase`
    pub phase: String,
    pub ready: bool,
    /// `metadata.creationTimestamp`
    pub created: Option<Wall>,
    /// Type and reason of a true `DisruptionTarget` condition.
    pub disruption: Option<String>,
    pub containers: Vec<ContainerState>,
}

/// `metadata.deletionTimestamp` and what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When the grace ends (deletion time + grace), resolution 1 s.
    pub timestamp: Wall,
    /// `metadata.deletionGracePeriodSeconds`
    pub grace_s: i64,
}

/// Kind and name of the object that owns a pod for its user.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Lower case: `deployment`, `statefulset`, `daemonset`, `replicaset`, `job`, `pod`.
    pub kind: String,
    pub name: String,
}

/// One container's specification and status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub name: String,
    /// Runtime id without its scheme (`containerd://`); empty before it runs.
    pub id: String,
    pub restarts: i32,
    /// `running`, `waiting:<reason>`, `terminated:<exit code>:<reason>`.
    pub state: String,
    /// Ports that the kubelet probes.
    pub probe_ports: Vec<u16>,
    /// preStop, as `sleep:<seconds>`, `exec` or `http`.
    pub pre_stop: Option<String>,
}

/// One endpoint slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceState {
    pub slice: NsName,
    /// Label `kubernetes.io/service-name`.
    pub service: String,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<EndpointState>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    pub name: String,
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP`
    pub protocol: String,
}

/// One endpoint of a slice with its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    pub addrs: Vec<IpAddr>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// `targetRef` where it is a pod.
    pub pod: Option<(PodUid, String)>,
    pub node: Option<String>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    pub service: NsName,
    /// Cluster, external and load balancer addresses.
    pub vips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    /// 0: none
    pub node_port: u16,
    pub protocol: String,
}

/// One ReplicaSet: which revision its template hash is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSetState {
    pub replica_set: NsName,
    /// Name of the owning Deployment.
    pub deployment: Option<String>,
    pub template_hash: Option<String>,
    /// Annotation `deployment.kubernetes.io/revision`.
    pub revision: Option<u64>,
    pub replicas: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_u64(v: &u64) -> bool {
    *v == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_i32(v: &i32) -> bool {
    *v == 0
}
