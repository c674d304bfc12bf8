//! From a flow that ended to a verdict, if a request failed: builds the case, asks the rules in order, and when none
//! matches says what was seen and what was missing.

use std::{cell::Cell, fmt::Write as _, net::SocketAddr};

use super::{
    case::{Case, EndOf, Phase, Target},
    choices::Choices,
    conntrack::Conntrack,
    endpoints::Endpoints,
    flow::Flow,
    history::PodHistory,
    loss::{Losses, RestsOn},
    ownership::{self, Server},
    pods::Pods,
    queues::Queues,
    rollout::Rollouts,
    routes::{Routes, RoutesAsked},
    trigger,
};
use crate::{
    causes::{self, RULES, unexplained},
    input::{Ktime, Start, Wall},
    verdict::{Blame, Confidence, Gap, Judgement, NOT_TOLD, PodRef, Trigger, Verdict},
};

/// A pod is dialled so long after its end: an unanswered SYN's conntrack entry leads to it for 120 s
/// (net/netfilter/nf_conntrack_proto_tcp.c, tcp_timeouts of SYN_SENT), and the slowest rules for some seconds.
const OUTLIVED_MS: u64 = 130_000;

/// What judging may look at.
pub(super) struct Context<'a> {
    pub now: Ktime,
    pub grace_ms: u64,
    pub start: Option<&'a (Ktime, Start)>,
    pub pods: &'a Pods,
    pub endpoints: &'a Endpoints,
    pub routes: &'a Routes,
    pub conntrack: &'a Conntrack,
    pub queues: &'a Queues,
    pub losses: &'a Losses,
    pub rollouts: &'a Rollouts,
}

impl Context<'_> {
    /// The pod of an address of this node.
    fn on_host(&self, flow: &Flow, server: SocketAddr) -> Option<&PodHistory> {
        let (_, start) = self.start?;
        let own = start.node_addrs.contains(&server.ip());
        let reset = flow.server_reset.as_ref().filter(|r| r.has_socket);
        let cgroup = flow.server_end.as_ref().map(|e| e.cgroup);
        let cgroup = cgroup.or(reset.map(|r| r.cgroup));
        let at = flow.ended.unwrap_or(flow.began);
        let pod = self.pods.on_host(server.port(), cgroup, at);
        pod.filter(|_| own)
    }

    fn wall(&self, at: Ktime) -> Wall {
        wall(self.start, at)
    }
}

/// Wall clock time of a monotonic time, from the start's pair of clocks.
#[expect(
    clippy::cast_possible_truncation,
    reason = "milliseconds of an uptime fit an i64"
)]
pub(super) fn wall(start: Option<&(Ktime, Start)>, at: Ktime) -> Wall {
    start.map_or(Wall(0), |(t0, start)| {
        Wall(start.wall.0 + at.ms_since(*t0) as i64)
    })
}

pub(super) fn judge(flow: &Flow, context: &Context<'_>, choices: &mut Choices) -> Option<Verdict> {
    let outcome = flow.outcome()?;
    let ended = flow.ended?;
    // Who dials an endpoint, or a pod that is none (a probe does), has chosen it.
    let dialled_itself = |d: &SocketAddr| {
        context.endpoints.is_endpoint(*d) || context.pods.owner(d.ip(), flow.began).is_some()
    };
    let server = flow
        .server_addr()
        .or_else(|| flow.dialled().filter(dialled_itself));
    let owner = server.and_then(|s| context.pods.owner(s.ip(), flow.began));
    let owner = owner.or_else(|| context.on_host(flow, server?));
    let meant = server.and_then(|s| context.pods.get(context.endpoints.meant(s, flow.began)?));
    let pod = meant.filter(|p| p.known).or(owner);
    let heir = server.and_then(|s| context.pods.heir(s.ip(), &pod?.state.uid));
    // A living server may lose a packet, or a client its patience.
    let gone = || {
        pod.and_then(PodHistory::network_down)
            .is_some_and(|down| down <= ended)
    };
    if flow.only_unfinished() && !gone() {
        return None;
    }
    // An error of a pod that lives is no failure of a rollout.
    if flow.served_error().is_some() && !pod.is_some_and(|p| p.known && p.errs_because_told(ended)) {
        return None;
    }
    let endpoint = server.and_then(|s| context.endpoints.endpoint_at(s, flow.began));
    let node = context.start.map_or("", |(_, s)| s.node.as_str());
    let whose = Server {
        pod,
        endpoint,
        endpoints: context.endpoints,
        node,
        whole: context.losses.whole(flow.began, context.now),
    };
    if ownership::counted_by_the_pods_node(flow, outcome, &whose) {
        return None;
    }
    let node_addrs = context.start.map_or(&[][..], |(_, s)| s.node_addrs.as_slice());
    let dialled = flow.dialled().and_then(|addr| {
        let on_node = node_addrs.contains(&addr.ip());
        let dialled = context.endpoints.dialled(flow.protocol, addr, on_node)?;
        let had = choices.had(context.endpoints, flow.protocol, (addr, &dialled), flow.began);
        Some((dialled, had))
    });
    let by_addr = || {
        let addr = flow.dialled()?;
        let node_port = || context.endpoints.node_port(addr.port());
        let node_port = || node_port().filter(|_| node_addrs.contains(&addr.ip()));
        context.endpoints.service_at(addr).or_else(node_port)
    };
    let service = dialled
        .map(|(dialled, _)| dialled.service)
        // A port of another protocol.
        .or_else(by_addr)
        .or_else(|| endpoint.map(|e| &*e.service));
    let connect = flow.failed_to_connect();
    let asked_routes = Cell::new(false);
    let mut case = Case {
        flow,
        outcome,
        phase: if connect {
            Phase::Connect
        } else {
            Phase::Established
        },
        ended_by: if connect { None } else { flow.ended_by() },
        ended,
        server,
        service,
        dialled,
        target: Target { pod, heir, endpoint },
        client_pod: context.pods.owner(flow.client().ip(), flow.began),
        end_of: EndOf::default(),
        brought: pod.and_then(|p| context.rollouts.brought(&p.state, ended)),
        brought_by: pod.map_or(Trigger::None, |p| context.rollouts.brought_by(&p.state)),
        node,
        node_addrs,
        endpoints: context.endpoints,
        routes: RoutesAsked {
            routes: context.routes,
            protocol: flow.protocol,
            asked: &asked_routes,
        },
        conntrack: context.conntrack,
        queues: context.queues,
        losses: context.losses,
        now: context.now,
        hz: context.start.map_or(0, |(_, s)| s.hz),
    };

    // Where the service had nobody left to send it to: the endpoint that it lost last.
    let lost = case.lost().map(|(.., endpoint)| endpoint);
    let untranslated =
        server.is_none_or(|s| flow.dialled() == Some(s) && context.endpoints.service_at(s).is_some());
    let lost = lost.filter(|_| untranslated);
    let of_node = || context.pods.get(&lost?.pod.as_ref()?.0);
    case.end_of = EndOf {
        trigger: pod
            .map(|p| &p.state.uid)
            .or_else(|| Some(&endpoint.or(lost)?.pod.as_ref()?.0))
            .map(|uid| context.rollouts.trigger(uid))
            .unwrap_or_default(),
        workload: pod.or_else(of_node).and_then(|p| p.state.workload.as_ref()),
    };

    let mut matched = RULES
        .iter()
        .filter_map(|rule| (rule.judge)(&case).map(|finding| (*rule, finding)));
    let (mut judgement, blame) = match matched.next() {
        Some((rule, finding)) => (
            Judgement::Explained {
                cause: rule.name,
                finding,
            },
            rule.blame,
        ),
        None => (unexplained::judge(&case), Blame::Unknown),
    };
    let amplifiers = match blame {
        Blame::Rollout => causes::amplifiers::of(&case),
        _ => Vec::new(),
    };
    let also_matched = matched.map(|(rule, _)| rule.name).collect();

    let pod_ref = pod.or_else(of_node).filter(|p| p.known).map(|p| PodRef {
        uid: p.state.uid.clone(),
        pod: p.state.pod.clone(),
        workload: p.state.workload.clone(),
        template_hash: p.state.template_hash.clone(),
    });
    let pod_ref = pod_ref.or_else(|| {
        let endpoint = endpoint.or(lost)?;
        let (uid, name) = endpoint.pod.as_deref()?;
        let pod = crate::input::NsName {
            namespace: endpoint.service.namespace.clone(),
            name: name.clone(),
        };
        Some(PodRef {
            uid: uid.clone(),
            workload: context.rollouts.workload(uid, &pod),
            pod,
            template_hash: None,
        })
    });
    let began = context.wall(flow.began).0;
    let id = id(flow, server, began);
    if let Some((pod, at)) = pod.and_then(|p| Some((p, p.deletion_late?))) {
        let text = format!("that {} was to go is told, late", pod.state.pod.name);
        judgement.add(case.evidence(at, text));
    }
    let trigger = trigger::of(&case, blame);
    let elsewhere = endpoint
        .and_then(|e| e.node.as_deref())
        .is_some_and(|n| n != node);
    let from = flow.began.minus_ms(flow.began_within_ms);
    // Nobody has named its server since this daemon listens: that one may have gone before, or while nobody could tell.
    let since = match (pod, endpoint) {
        (None, None) if blame == Blame::Unknown => from.minus_ms(OUTLIVED_MS),
        _ => from,
    };
    let rests_on = RestsOn {
        from,
        to: ended.plus_ms(context.grace_ms).min(context.now),
        // What they held when it began follows from every change since the deletion.
        rules_since: asked_routes
            .get()
            .then(|| case.deletion_seen().map_or(flow.began, |d| d.min(flow.began))),
        due: ended.plus_ms(context.grace_ms),
        packets: connect,
        answers: flow.seldom().answer.is_some(),
        objects_since: case.deletion_seen().map_or(since, |d| d.min(since)),
        local: pod.is_some() || !elsewhere,
        service: service.is_some() || flow.dialled().is_some_and(|d| Some(d) != server),
        trigger: trigger != Trigger::None || blame == Blame::Unknown,
    };
    let (mut confidence, mut gaps) = context.losses.confidence(&rests_on, context.now);
    let doubts = doubts(&mut judgement, context.start);
    if confidence == Confidence::Full && !doubts.is_empty() {
        confidence = Confidence::Degraded { lost: 0 };
    }
    gaps.extend(doubts.into_iter().map(|hook| Gap {
        of: format!("{NOT_TOLD}{hook}"),
        from: rests_on.from,
        to: rests_on.to,
    }));
    Some(Verdict {
        id,
        node: case.node.to_owned(),
        began: flow.began,
        ended,
        wall: context.wall(ended),
        outcome,
        blame,
        client: flow.client(),
        dialled: flow.dialled(),
        server,
        service: service.cloned(),
        trigger,
        pod: pod_ref,
        amplifiers,
        judgement,
        also_matched,
        confidence,
        gaps,
    })
}

/// The same on each node that sees the connection. It began at `began`, in milliseconds of the wall clock.
fn id(flow: &Flow, server: Option<SocketAddr>, began: i64) -> String {
    let mut id = String::with_capacity(64);
    // Writing to a String cannot fail.
    let _ = write!(id, "{}>", flow.client_to_all());
    let _ = match server {
        Some(server) => write!(id, "{server}"),
        None => write!(id, "?"),
    };
    let _ = write!(id, "@{}", began.div_euclid(1_000));
    if flow.served_error().is_some() {
        // A kept connection may carry many: each answer by its millisecond.
        let _ = write!(id, ".{:03}", began.rem_euclid(1_000));
    }
    id
}

/// What is not told on this kernel and makes the judgement unsure; an unexplained one says what it costs.
fn doubts(judgement: &mut Judgement, start: Option<&(Ktime, Start)>) -> Vec<&'static str> {
    let untold = start.map_or(&[][..], |(_, s)| s.missing.as_slice());
    match judgement {
        Judgement::Explained { cause, .. } => causes::doubts(Some(cause), untold),
        Judgement::Unexplained { missing, .. } => {
            let doubts = causes::doubts(None, untold);
            let costs =
                |hook: &&str| format!("{hook}, which is not told on this node: {}", causes::costs(hook));
            missing.extend(doubts.iter().map(costs));
            doubts
        }
    }
}
