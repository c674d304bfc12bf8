//! The pure heart: inputs in, verdicts and summaries out. No IO, no clock, no lock, no failure (invariant I3). Time is
//! what the inputs say.

mod attempts;
mod blind;
mod bound;
mod case;
mod choices;
mod conntrack;
mod early;
mod endpoints;
mod flow;
mod foreign;
mod history;
mod join;
mod judge;
mod left;
mod loss;
mod observe;
mod ownership;
mod packets;
mod passed;
mod peer;
mod pods;
mod propagation;
mod queues;
mod revisions;
mod rollout;
mod routes;
mod served;
mod shared;
mod signs;
mod strays;
mod switches;
mod table;
mod tables;
mod told;
mod trigger;
mod unowned;
mod waits;

#[cfg(test)]
mod tests;

pub use case::{Case, EndOf, Phase, Target};
pub use conntrack::{Conntrack, Counted};
pub use endpoints::{Choice, Dialled, EndpointHistory, Endpoints, Policy};
pub use flow::{AnswerSeen, End, Flow, GivenUp, Left, Live, LostAnswer, ResetSeen, Seldom};
pub use history::{ContainerHistory, Ending, ExitSeen, ListenerHistory, PodHistory, SignalSeen};
pub use packets::{DropSeen, ForwardedSeen, IcmpSeen};
pub use pods::Pods;
pub use queues::{QueueLook, Queues};
pub use routes::{Routes, RoutesAsked};
pub use tables::TableFill;

use early::Early;

use crate::{
    input::{Input, Ktime, Start, What},
    verdict::{BEFORE_START, NotSeen, Output},
};

/// How the correlator is set. Times in milliseconds of input time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A flow is judged this long after it failed, so that what the API server and the ring buffer deliver late still
    /// counts. A choice: the ring is read every 10 ms (100 ms while all is quiet) and a watch event takes milliseconds; 2 s is room for a loaded API
    /// server, and what comes later than that makes a verdict unexplained.
    pub judge_grace_ms: u64,
    /// While a watch is interrupted, flows wait for what it will tell, but not longer than this: API servers are away for
    /// minutes when they are replaced.
    pub gap_hold_ms: u64,
    /// A rollout is summed up when nothing has happened to its pods and flows for so long.
    pub rollout_quiet_ms: u64,
    /// Pods, endpoints and translations are remembered this long after they are gone: the
    /// interesting failures come after.
    pub retention_ms: u64,
    /// A flow that has not ended this long after its last event is forgotten; SYN retries last 131 s (ip-sysctl).
    pub flow_expiry_ms: u64,
    /// Most flows kept.
    pub max_flows: usize,
    /// Most pods kept, living or remembered.
    pub max_pods: usize,
    /// Most addresses of endpoints, as many slices, and as many routes of the node's rules. 150,000 dual-stack pods are 300,000.
    pub max_endpoints: usize,
    /// Most services, and most of what is remembered of each kind of workload.
    pub max_services: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            judge_grace_ms: 2_000,
            gap_hold_ms: 150_000,
            rollout_quiet_ms: 10_000,
            retention_ms: 15 * 60_000,
            flow_expiry_ms: 180_000,
            max_flows: 65_536,
            max_pods: 16_384,
            max_endpoints: 524_288,
            max_services: 65_536,
        }
    }
}

/// What summing up may look at, beside the rollouts themselves.
macro_rules! known {
    ($self:ident) => {
        rollout::Known {
            now: $self.now,
            start: $self.start.as_ref(),
            pods: &$self.pods,
            endpoints: &$self.endpoints,
            routes: &$self.routes,
            losses: &$self.losses,
        }
    };
}

/// What tells whose an attempt is.
macro_rules! whose {
    ($self:ident) => {
        attempts::Known {
            start: $self.start.as_ref(),
            pods: &$self.pods,
            endpoints: &$self.endpoints,
        }
    };
}

/// Joins what the kernel saw with the life of the pods.
#[derive(Debug)]
pub struct Correlator {
    settings: Settings,
    now: Ktime,
    start: Option<(Ktime, Start)>,
    pods: Pods,
    endpoints: Endpoints,
    choices: choices::Choices,
    flows: table::Flows,
    attempts: attempts::Attempts,
    left: left::Leftovers,
    strays: strays::Strays,
    told: told::Told,
    queues: Queues,
    served: served::ServedErrors,
    conntrack: Conntrack,
    routes: Routes,
    early: Early,
    losses: loss::Losses,
    blind: blind::Blind,
    rollouts: rollout::Rollouts,
    propagations: propagation::Propagations,
    switches: switches::Switches,
    evicted: tables::Evicted,
}

impl Correlator {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Ktime::default(),
            start: None,
            pods: Pods::new(settings.max_pods),
            endpoints: Endpoints::new(settings.max_endpoints, settings.max_services),
            choices: choices::Choices::default(),
            flows: table::Flows::new(settings.max_flows),
            attempts: attempts::Attempts::default(),
            left: left::Leftovers::default(),
            strays: strays::Strays::default(),
            told: told::Told::default(),
            queues: Queues::default(),
            served: served::ServedErrors::default(),
            conntrack: Conntrack::default(),
            routes: Routes::new(settings.max_endpoints),
            early: Early::default(),
            losses: loss::Losses::default(),
            blind: blind::Blind::default(),
            rollouts: rollout::Rollouts::new(settings.max_services),
            propagations: propagation::Propagations::default(),
            switches: switches::Switches::default(),
            evicted: tables::Evicted::default(),
        }
    }

    /// Takes one input in and appends what follows from it to `out`.
    pub fn step(&mut self, input: &Input, out: &mut Vec<Output>) {
        let at = input.at;
        let turn = at > self.now;
        self.now = self.now.max(at);
        self.choices.told(&input.what);
        match &input.what {
            What::Start(start) => {
                self.start = Some((at, start.clone()));
                self.losses.tick(at);
                self.rollouts.started(at);
            }
            What::Kernel(observation) => self.observe(at, observation),
            What::Translation(translation) => {
                let grace_ms = self.settings.judge_grace_ms;
                let sent = self.flows.translation(at, translation, grace_ms);
                if let Some(sent) = sent {
                    self.connected(sent);
                }
                self.attempts.translation(at, translation, grace_ms);
                self.served.translation(at, translation);
            }
            What::Conntrack(state) => self.conntrack.read(at, *state),
            What::Pinned(pinned) => self.switches.counted(&self.endpoints, pinned),
            What::Pod(state) => self.pod_applied(at, state),
            What::PodGone { uid } => self.pod_gone(at, uid),
            What::Slice(slice) => {
                let news = self.endpoints.slice_applied(at, slice);
                self.told(at, &news);
            }
            What::SliceGone { slice } => {
                let news = self.endpoints.slice_gone(at, slice);
                self.told(at, &news);
            }
            What::Service(service) => {
                if self.endpoints.service_applied(at, service) {
                    self.switches.begin(at, &service.service);
                }
            }
            What::ServiceGone { service } => self.endpoints.service_gone(service),
            What::ReplicaSet(rs) => {
                let missed_since = self.blind.late("replicasets");
                self.rollouts.replica_set(at, rs, missed_since);
            }
            What::ReplicaSetGone { replica_set } => {
                let missed_since = self.blind.late("replicasets");
                self.rollouts.replica_set_gone(at, replica_set, missed_since);
            }
            What::Rules(rules) => self.rules_applied(at, rules),
            What::WatchBroken { resource, since } => {
                self.losses.broke(resource, *since);
                self.blind.broke(resource, *since);
            }
            What::WatchGap { resource, since } => {
                self.losses.gap(resource, *since, at);
                let unseen = self.blind.whole(resource, *since);
                self.not_seen(at, unseen, out);
            }
            What::WatchWhole { resource } => {
                self.losses.not_broken(resource);
                let unseen = self.blind.not_broken(resource);
                self.not_seen(at, unseen, out);
            }
            What::Synced => {
                self.losses.synced(at);
                self.pods.synced(at, self.start.as_ref());
                let from = Ktime::default();
                let of = vec![BEFORE_START.to_owned()];
                self.not_seen(at, Some(blind::Unseen { of, from }), out);
            }
            What::Stopping => self.losses.stopping(at),
            What::Loss { source, count } => self.losses.lost(at, source, *count),
            What::Tick => self.losses.tick(at),
        }
        if turn {
            self.judge_due(out);
        }
        if matches!(input.what, What::Tick) {
            self.forget();
            if self.judged_to() < self.now {
                return;
            }
            let known = known!(self);
            self.propagations.report_complete(&known, out);
            self.switches
                .report(self.now, false, self.start.as_ref(), &self.endpoints, out);
            let quiet_ms = self.settings.rollout_quiet_ms;
            self.rollouts
                .report_quiet(&known, &self.propagations, quiet_ms, out);
        }
    }

    /// Up to when flows that are due are judged.
    fn judged_to(&self) -> Ktime {
        self.blind.judged_to(self.now, self.settings.gap_hold_ms)
    }

    fn not_seen(&self, to: Ktime, unseen: Option<blind::Unseen>, out: &mut Vec<Output>) {
        let Some(blind::Unseen { of, from }) = unseen else {
            return;
        };
        let start = self.start.as_ref();
        out.push(Output::NotSeen(Box::new(NotSeen {
            node: start.map(|(_, s)| s.node.clone()).unwrap_or_default(),
            of,
            from,
            to,
            wall: judge::wall(start, to),
        })));
    }

    /// The input has ended: judges what waits and sums up what is open.
    pub fn finish(&mut self, out: &mut Vec<Output>) {
        let unseen = self.blind.take();
        self.not_seen(self.now, unseen, out);
        for flow in self.flows.take_all() {
            self.judge(flow, out);
        }
        while let Some(flow) = self.served.take_first() {
            self.judge_known(flow, out);
        }
        let known = whose!(self);
        for flow in self.attempts.take_all(self.now, &known) {
            self.judge_known(flow, out);
        }
        let known = known!(self);
        self.propagations.report_all(&known, out);
        self.switches
            .report(self.now, true, self.start.as_ref(), &self.endpoints, out);
        self.rollouts.report_all(&known, &self.propagations, out);
    }

    fn judge_due(&mut self, out: &mut Vec<Output>) {
        self.open_half_open();
        let to = self.judged_to();
        while let Some(flow) = self.flows.take_due(to) {
            self.judge(flow, out);
        }
        while let Some(flow) = self.served.take_due(to) {
            self.judge_known(flow, out);
        }
        loop {
            let known = whose!(self);
            let Some(flow) = self.attempts.take_due(to, &known) else {
                break;
            };
            self.judge_known(flow, out);
        }
    }

    /// Judges a flow that has sockets, with what packets tell of it.
    fn judge(&mut self, mut flow: Flow, out: &mut Vec<Output>) {
        if self.attempts.tell(&mut flow) {
            self.judge_known(flow, out);
        }
    }

    fn judge_known(&mut self, mut flow: Flow, out: &mut Vec<Output>) {
        if self.nobodys(&flow) || self.of_the_node_alone(&flow) {
            return;
        }
        self.left.pass(&mut flow);
        self.failed_to_connect(&flow);
        if !self.strays.tell(&mut flow) || self.told.already(&flow) {
            return;
        }
        let context = judge::Context {
            now: self.now,
            grace_ms: self.settings.judge_grace_ms,
            start: self.start.as_ref(),
            pods: &self.pods,
            endpoints: &self.endpoints,
            routes: &self.routes,
            conntrack: &self.conntrack,
            queues: &self.queues,
            losses: &self.losses,
            rollouts: &self.rollouts,
        };
        if let Some(verdict) = judge::judge(&flow, &context, &mut self.choices) {
            self.told.keep(&flow);
            self.rollouts.verdict(self.now, &verdict);
            out.push(Output::Verdict(Box::new(verdict)));
        }
    }

    fn forget(&mut self) {
        let before = self.now.minus_ms(self.settings.retention_ms);
        let pods_gone = self.pods.forget(before);
        if self.endpoints.forget(before) {
            self.choices.clear();
        }
        let judged_to = self.judged_to();
        self.left.forget(judged_to);
        self.strays.forget(judged_to);
        self.told.forget(judged_to);
        self.queues
            .forget(judged_to.minus_ms(self.settings.flow_expiry_ms));
        self.conntrack.forget(before);
        self.routes.forget(before);
        self.rollouts.forget(before, pods_gone, &self.pods);
        self.propagations.forget(before);
        let evicted = tables::Evicted {
            flows: self.flows.forget(self.now.minus_ms(self.settings.flow_expiry_ms)),
            attempts: self.attempts.take_evicted(),
            served: self.served.take_evicted(),
        };
        if evicted.all() > 0 {
            self.losses.lost(self.now, "flow-table", evicted.all());
            self.evicted.add(evicted);
        }
        self.count_costs();
    }
}
