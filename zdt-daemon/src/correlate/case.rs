//! What a rule sees: one flow that failed, with everything known of its pod at that time. Read-only.

use std::net::{IpAddr, SocketAddr};

use super::{
    conntrack::Conntrack,
    endpoints::{Choice, Dialled, EndpointHistory, Endpoints, Had, Policy},
    flow::Flow,
    history::{ContainerHistory, PodHistory},
    loss::Losses,
    queues::Queues,
    routes::RoutesAsked,
};
use crate::{
    input::{CgroupId, Ktime, NsName, Side, Workload},
    verdict::{Evidence, Outcome, Trigger},
};

/// How far the connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Established,
}

/// What stood at the server's address then.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// A pod of this node: the one that the endpoint slices meant, else the address's owner.
    pub pod: Option<&'a PodHistory>,
    /// The pod that got its address after it, by now.
    pub heir: Option<&'a PodHistory>,
    /// What the endpoint slices said; also for pods of other nodes.
    pub endpoint: Option<&'a EndpointHistory>,
}

/// The end of a pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndOf<'a> {
    pub trigger: Trigger,
    pub workload: Option<&'a Workload>,
}

/// One failed flow, ready to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub flow: &'a Flow,
    pub outcome: Outcome,
    pub phase: Phase,
    /// Which side ended an established connection.
    pub ended_by: Option<Side>,
    /// When it failed.
    pub ended: Ktime,
    /// The pod's address and port.
    pub server: Option<SocketAddr>,
    pub service: Option<&'a NsName>,
    /// The service port that the client dialled, and what it had to choose from when this connection began. None where it
    /// dialled a pod.
    pub(super) dialled: Option<(Dialled<'a>, Had)>,
    pub target: Target<'a>,
    /// The pod of this node that the client is.
    pub client_pod: Option<&'a PodHistory>,
    /// Who ended the pod, and the workload that it was of; where the service had nobody left, of the endpoint that it lost
    /// last.
    pub end_of: EndOf<'a>,
    /// Since when a rollout to the pod's template had been going, when it had by then and was not long over.
    pub brought: Option<Ktime>,
    /// And by what; means something only then.
    pub brought_by: Trigger,
    pub node: &'a str,
    /// Addresses of the node itself.
    pub node_addrs: &'a [IpAddr],
    pub endpoints: &'a Endpoints,
    pub routes: RoutesAsked<'a>,
    pub conntrack: &'a Conntrack,
    pub queues: &'a Queues,
    pub(super) losses: &'a Losses,
    /// When it is judged.
    pub now: Ktime,
    /// Jiffies a second of this kernel; 0: not known.
    pub(super) hz: u32,
}

impl<'a> Case<'a> {
    /// When this node learned that the pod is to go: from its own watch, else from the slice.
    pub fn deletion_seen(&self) -> Option<Ktime> {
        self.target
            .pod
            .and_then(|p| p.deletion_seen)
            .or_else(|| self.target.endpoint.and_then(|e| e.terminating))
    }

    /// The service had no ready endpoint when this connection began, whatever its rules did about it.
    pub fn nobody_ready(&self) -> bool {
        self.choice_when_begun(Policy::Cluster)
            .is_some_and(|choice| choice.ready == 0)
    }

    /// Whether the node's rules sent new connections to the server when this one began. None: not known.
    pub fn routed_when_begun(&self) -> Option<bool> {
        let [earliest, latest] = self.routed_while_beginning()?;
        latest.filter(|_| earliest == latest)
    }

    /// When it began is not known exactly, and the rules changed meanwhile: they may have sent it to the server, or not.
    pub fn rules_changed_while_beginning(&self) -> bool {
        self.routed_while_beginning()
            .is_some_and(|[earliest, latest]| earliest != latest)
    }

    fn routed_while_beginning(&self) -> Option<[Option<bool>; 2]> {
        let server = self.server?;
        let began = self.flow.began;
        let earliest = began.minus_ms(self.flow.began_within_ms);
        Some([earliest, began].map(|at| self.routes.routed(server, at)))
    }

    /// When the node's rules let go of the server after its pod's deletion, as far as known by now.
    pub fn rules_dropped(&self) -> Option<Ktime> {
        self.routes.dropped(self.server?, self.deletion_seen()?)
    }

    /// The service port that the client dialled; None where it dialled a pod.
    pub fn dialled(&self) -> Option<Dialled<'a>> {
        self.dialled.map(|(dialled, _)| dialled)
    }

    /// What the slices left the rules to choose from when this connection began.
    pub fn choice_when_begun(&self, policy: Policy<'_>) -> Option<Choice> {
        let (dialled, had) = &self.dialled?;
        match policy {
            Policy::Cluster => had.choice,
            Policy::Local(_) => self.endpoints.choice(dialled, policy, self.flow.began),
        }
    }

    /// The last endpoint that the dialled service had lost when this connection began, and when.
    pub fn lost(&self) -> Option<(Ktime, SocketAddr, &'a EndpointHistory)> {
        self.endpoints.lost_of(&self.dialled.as_ref()?.1)
    }

    /// Whether the node's rules sent new connections to any endpoint of the dialled service when this one began. None:
    /// not known, or it is not these rules that balance.
    pub fn any_routed_when_begun(&self) -> Option<bool> {
        self.endpoints
            .behind(&self.dialled()?)
            .filter_map(|(to, _)| self.routes.routed(to, self.flow.began))
            .reduce(|any, one| any || one)
    }

    /// Conntrack holds a translation of this connection to a pod.
    pub fn translated_to_a_pod(&self) -> bool {
        let reply = self.flow.translated().and_then(|t| t.reply);
        reply.is_some_and(|r| Some(r.from) != self.flow.dialled())
    }

    /// This node was seen to drop or refuse it, and no rule had translated it: whatever is known of the rules then, they did
    /// not lead it to a pod. They are in force a little before this daemon is told.
    pub fn turned_away_untranslated(&self) -> bool {
        let flow = self.flow;
        let turned_away = !flow.drops.is_empty() || flow.icmp.is_some() || flow.seldom().soft_error.is_some();
        turned_away && !self.translated_to_a_pod()
    }

    /// Somebody answered the client with a RST, whichever side of it was seen. What comes behind the client's own end answers that.
    pub fn any_reset(&self) -> bool {
        let flow = self.flow;
        let sent = [flow.server_reset.as_ref(), flow.seldom().lost_reset.as_ref()];
        let sent = sent.into_iter().flatten().map(|reset| reset.at);
        sent.chain(flow.client_got_reset).any(|at| at <= self.ended)
    }

    /// When the client's socket last got data, as it stood when it sent for the last time at `sent`.
    pub fn client_last_got(&self, sent: Ktime) -> Option<Ktime> {
        let end = self.flow.client_end.as_ref().filter(|e| e.received() > 0)?;
        let before = u64::from(end.tcp.last_in_after_out_jiffies.min(0).unsigned_abs());
        let ms = (before * 1_000).checked_div(u64::from(self.hz))?;
        Some(sent.minus_ms(ms))
    }

    /// Nothing was lost from `since` to now: what was not seen did not happen. A rule that concludes from what it has not
    /// seen asks this first.
    pub fn whole_since(&self, since: Ktime) -> bool {
        self.losses.whole(since, self.now)
    }

    /// A pod that is not known to go does not go. A rule that concludes from that asks this first: while the watch of pods is
    /// interrupted, nobody would have told.
    pub fn deletions_known(&self) -> bool {
        !self.losses.pods_unknown()
    }

    /// The first time that this node dropped a SYN (or the datagram) of it.
    pub fn first_drop(&self) -> Option<Evidence> {
        let drop = self.flow.drops.first()?;
        let reason = drop.reason.as_deref().unwrap_or("no reason given");
        Some(self.evidence(drop.at, format!("node {} dropped the SYN, {reason}", self.node)))
    }

    /// The pod's name, for sentences.
    pub fn pod_name(&self) -> &'a str {
        if let Some(pod) = self.target.pod {
            return &pod.state.pod.name;
        }
        self.target
            .endpoint
            .and_then(|e| e.pod.as_deref())
            .map_or("the pod", |(_, name)| name)
    }

    /// The client, for sentences: its pod's name where it is one of this node.
    pub fn client_name(&self) -> String {
        let name = self.client_pod.filter(|p| p.known).map(|p| &p.state.pod);
        name.map_or_else(
            || self.flow.client().ip().to_string(),
            |pod| format!("{}/{}", pod.namespace, pod.name),
        )
    }

    /// The container that a cgroup belongs to, in the target pod.
    pub fn container(&self, cgroup: CgroupId) -> Option<&'a ContainerHistory> {
        self.target.pod.and_then(|p| p.containers.get(&cgroup))
    }

    /// The container whose socket served this flow.
    pub fn serving_container(&self) -> Option<&'a ContainerHistory> {
        let end = self.flow.server_end.as_ref().map(|e| e.cgroup);
        let cgroup = end.or_else(|| {
            self.flow
                .server_reset
                .as_ref()
                .filter(|r| r.has_socket)
                .map(|r| r.cgroup)
        });
        let cgroup = cgroup.or_else(|| self.flow.seldom().answer.as_ref().map(|a| a.cgroup))?;
        self.container(cgroup)
    }

    /// The client is the node itself (kubelet, host network, masqueraded).
    pub fn client_is_node(&self) -> bool {
        self.node_addrs.contains(&self.flow.client().ip())
    }

    /// A piece of evidence, dated from the pod's deletion.
    pub fn evidence(&self, at: Ktime, what: impl Into<String>) -> Evidence {
        Evidence {
            at,
            since_deletion_ms: self.deletion_seen().map(|d| at.ms_since(d)),
            what: what.into(),
        }
    }
}
