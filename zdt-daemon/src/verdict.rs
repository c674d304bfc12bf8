//! What zdt says: one verdict per failed request, and one summary per rollout.

mod gap;
mod propagation;
mod read;
mod sink;
mod switch;
mod under_way;

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

pub use self::{
    gap::{AFTER_END, BEFORE_START, Gap, NOT_TOLD, NotSeen},
    propagation::{Change, PodSteps, Propagation, Since},
    sink::Sink,
    switch::SelectorSwitch,
    under_way::{PodCount, UnderWay},
};
use crate::input::{Ktime, NsName, PodUid, Wall, Workload};

/// What leaves the correlator, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Output {
    Verdict(Box<Verdict>),
    /// Once a pod and node, when its stages are complete, or no more of them are to come.
    Propagation(Box<Propagation>),
    Rollout(Box<RolloutSummary>),
    SelectorSwitch(Box<SelectorSwitch>),
    /// Once, when it is over.
    NotSeen(Box<NotSeen>),
}

/// What the client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Refused,
    Reset,
    TimedOut,
    Unreachable,
    ClosedEarly,
    ServedError,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::ClosedEarly => "closed-early",
            Self::ServedError => "served-error",
        })
    }
}

/// Who started what broke the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    RollingUpdate,
    ScaleDown,
    Delete,
    /// The object was removed at once (`--force --grace-period=0`), whatever still runs.
    ForceDelete,
    /// The kubelet for want of resources, or a taint.
    Eviction,
    /// The Eviction API: `kubectl drain`, an autoscaler.
    Drain,
    Preemption,
    NodeShutdown,
    /// The kubelet restarted a container whose probe failed.
    Liveness,
    Oom,
    Crash,
    /// The service selects other pods now.
    SelectorSwitch,
    /// A new template whose strategy removes every old pod first.
    Recreate,
    /// Its Deployment was deleted, and created again under its name (`kubectl replace --force`, `delete` and `apply`).
    DeleteAndCreate,
    #[default]
    None,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RollingUpdate => "rolling update",
            Self::ScaleDown => "scale-down",
            Self::Delete => "delete",
            Self::ForceDelete => "forced deletion",
            Self::Eviction => "eviction",
            Self::Drain => "drain",
            Self::Preemption => "preemption",
            Self::NodeShutdown => "node shutdown",
            Self::Liveness => "failed liveness probe",
            Self::Oom => "out of memory",
            Self::Crash => "crash",
            Self::SelectorSwitch => "selector switch",
            Self::Recreate => "recreate",
            Self::DeleteAndCreate => "delete and create",
            Self::None => "nobody",
        })
    }
}

/// Whether and how far to trust a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "level")]
pub enum Confidence {
    Full,
    /// `lost` pieces of information were lost in the verdict's window, or something stands in its `gaps`.
    Degraded {
        lost: u64,
    },
}

impl Confidence {
    /// As JSON has it.
    pub fn level(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Degraded { .. } => "degraded",
        }
    }
}

/// Whose failure it is; decides what a report counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// A change of pods, endpoints or services broke the request.
    Rollout,
    /// A request failed, and no rollout did it.
    NotTheRollout,
    /// Not a client's request: the kubelet's probe, a scanner, an ending proxy's own connection (its client's counts).
    NotARequest,
    /// Unexplained.
    Unknown,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub at: Ktime,
    /// Milliseconds since the pod's deletion was seen, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_deletion_ms: Option<f64>,
    /// A sentence without a time in it: "listener 0.0.0.0:8080 closed".
    pub what: String,
}

/// Why a rule is sure, and what it measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The whole in one sentence.
    pub because: String,
    pub evidence: Vec<Evidence>,
    /// Named measurements in milliseconds, for summaries and advice.
    pub measures: Vec<(Measure, f64)>,
}

/// What a finding may measure; all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// SIGTERM to the listener's close.
    ListenerClosedAfterTerm,
    /// Deletion seen to the listener's close (or the end of the pod's network).
    StoppedServingAfterDeletion,
    /// Deletion seen to this connection's first SYN: the node still routed to the pod then.
    RoutedAfterDeletion,
    /// Slice update that says the endpoint is to go, to this connection's first SYN: its client's list had it still.
    DialledAfterSlice,
    /// SIGTERM to the exit of the process.
    ExitAfterTerm,
    /// SIGTERM (or deletion) to SIGKILL.
    KillAfterTerm,
    /// Refusal of this connection to the opening of the listener.
    ListeningAfterRefusal,
    /// First byte of the request, or the connection, to its end.
    RequestUnfinishedFor,
    /// The service's last endpoint lost to this connection's first SYN.
    WithoutEndpoint,
    /// The stop signal (or deletion) to an answer with an error.
    ErrorAfterTold,
    /// The rules let go of the pod to this datagram.
    EntryOutlivedRules,
    /// The pod's being made to the drop of this connection's last SYN.
    DroppedAfterBirth,
}

/// Explained or not; there is no cause without a finding.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "read::Written")]
pub enum Judgement {
    Explained {
        cause: read::Name,
        finding: Finding,
    },
    /// What was seen, and what was missing to decide.
    Unexplained {
        seen: Vec<Evidence>,
        missing: Vec<String>,
    },
}

impl Judgement {
    /// One more piece of evidence, in its place.
    pub(crate) fn add(&mut self, one: Evidence) {
        let (Self::Explained {
            finding: Finding { evidence, .. },
            ..
        }
        | Self::Unexplained { seen: evidence, .. }) = self;
        let place = evidence.partition_point(|e| e.at <= one.at);
        evidence.insert(place, one);
    }
}

/// As JSON: `cause` is always there, then either `finding`, or `seen` and `missing`.
impl Serialize for Judgement {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match self {
            Self::Explained { cause, finding } => {
                map.serialize_entry("cause", cause)?;
                map.serialize_entry("finding", finding)?;
            }
            Self::Unexplained { seen, missing } => {
                map.serialize_entry("cause", crate::causes::UNEXPLAINED)?;
                map.serialize_entry("seen", seen)?;
                map.serialize_entry("missing", missing)?;
            }
        }
        map.end()
    }
}

/// Kubernetes identity of a pod at the time that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    pub uid: PodUid,
    #[serde(flatten)]
    pub pod: NsName,
    pub workload: Option<Workload>,
    pub template_hash: Option<String>,
}

/// One failed request, explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Post-NAT tuple and the second of the first SYN: equal on every node that sees the connection.
    pub id: String,
    pub node: String,
    /// When the connection began, as far as known.
    pub began: Ktime,
    /// When it failed.
    pub ended: Ktime,
    pub wall: Wall,
    pub outcome: Outcome,
    pub blame: Blame,
    /// The client, before any masquerade.
    pub client: SocketAddr,
    /// What the client dialled, where known.
    pub dialled: Option<SocketAddr>,
    /// The pod's address that was chosen for it, where known.
    pub server: Option<SocketAddr>,
    /// Namespace/name of the service that `dialled` belongs to.
    pub service: Option<NsName>,
    pub pod: Option<PodRef>,
    pub trigger: Trigger,
    /// kebab-case, sorted.
    #[serde(deserialize_with = "read::amplifiers")]
    pub amplifiers: Vec<read::Name>,
    #[serde(flatten)]
    pub judgement: Judgement,
    /// Other causes whose rules matched.
    #[serde(deserialize_with = "read::causes")]
    pub also_matched: Vec<read::Name>,
    pub confidence: Confidence,
    /// Times of which something is missing that it may rest on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

impl Verdict {
    /// The cause's name; `unexplained` where there is none.
    pub fn cause(&self) -> &'static str {
        match &self.judgement {
            Judgement::Explained { cause, .. } => cause,
            Judgement::Unexplained { .. } => crate::causes::UNEXPLAINED,
        }
    }

    /// A measurement of the finding.
    pub fn measure(&self, measure: Measure) -> Option<f64> {
        match &self.judgement {
            Judgement::Explained { finding, .. } => finding
                .measures
                .iter()
                .find(|(m, _)| *m == measure)
                .map(|(_, v)| *v),
            Judgement::Unexplained { .. } => None,
        }
    }
}

/// A template revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub number: Option<u64>,
    pub template_hash: String,
}

/// One rollout (or scale-down, or deletion) of one workload as this node saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSummary {
    pub node: String,
    pub namespace: String,
    pub workload: Workload,
    pub trigger: Trigger,
    pub from: Option<Revision>,
    pub to: Option<Revision>,
    /// Pods of this node that ended in it.
    pub pods: usize,
    /// Pods of other nodes that ended in it, as the endpoint slices told this node.
    pub pods_elsewhere: usize,
    pub began: Ktime,
    pub wall: Wall,
    pub took_ms: f64,
    /// Failed requests that are the rollout's or unexplained.
    pub failed: usize,
    pub explained: usize,
    pub unexplained: usize,
    pub events_lost: u64,
    /// Times of it of which something is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Failed requests in the window that are not the rollout's.
    pub not_the_rollout: usize,
    pub causes: Vec<CauseCount>,
    /// One a pod that was, or became, an endpoint while it went on; also pods of other nodes that this node's rules led to.
    pub propagation: Vec<Propagation>,
    pub advice: Vec<Advice>,
    /// What the replaced template said, for a patch; None: no pod of this node ended in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSeen>,
    /// Settings that cost time and prevent nothing that a smaller value would not. Only where nothing failed.
    pub savings: Vec<Advice>,
}

/// What a patch of the template must know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSeen {
    /// The container whose listener is the endpoint; None: not seen, and there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Native preStop sleep of any container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop_s: Option<u64>,
    /// The preStop hook of that container that is no sleep: `exec` or `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_hook: Option<String>,
    pub grace_s: i64,
}

/// One line of a summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CauseCount {
    #[serde(deserialize_with = "read::cause")]
    pub cause: read::Name,
    pub count: usize,
    pub summary: String,
}

/// The setting that prevents failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// Path in the pod template (`lifecycle.preStop.sleep.seconds`), or what to do in the application.
    pub setting: String,
    /// The value, where there is one.
    pub value: Option<u64>,
    /// Where the value comes from, with the number of samples.
    pub because: String,
    /// Failed requests it would have prevented.
    pub prevents: usize,
}
