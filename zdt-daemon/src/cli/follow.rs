//! Follows a workload's rollout at the daemons of several nodes: what they say, and what they may have missed.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::Context as _;

use super::ask::{Server, get};
use crate::{
    input::{Ktime, Workload},
    live::{BOOT, MISSED, MORE, NEXT, State},
    report::{Gate, Looked, Wanted},
    verdict::{Output, RolloutSummary},
};

/// Which rollout of a node: namespace, workload, when it began.
type Key = (String, Workload, Ktime);

/// The daemons that were found.
pub(super) struct Follow {
    nodes: Vec<Node>,
    wanted: Wanted,
    budget: usize,
}

/// One daemon.
struct Node {
    addr: SocketAddr,
    /// As it was when it was first asked.
    first: Option<State>,
    state: Option<State>,
    /// The number of the last output that has been read.
    next: u64,
    /// Rollouts that were over when it was first asked.
    over: BTreeSet<Key>,
    outputs: Vec<Output>,
    /// Why it cannot be told from this daemon whatever else it says.
    gaps: BTreeSet<String>,
    /// It did not answer the last time.
    silent: Option<String>,
}

impl Follow {
    /// `since_ms`: rollouts that ended so long before now count, too.
    pub(super) fn new(servers: &[Server], wanted: Wanted, budget: usize) -> anyhow::Result<Self> {
        let mut addresses = Vec::new();
        for server in servers {
            addresses.extend(server.addresses()?);
        }
        addresses.sort_unstable();
        addresses.dedup();
        let nodes = addresses.into_iter().map(Node::new).collect();
        Ok(Self {
            nodes,
            wanted,
            budget,
        })
    }

    /// Asks every daemon once, side by side.
    pub(super) fn look(&mut self) {
        let since_ms = self.wanted.since_ms;
        // A thread for each of a few; nodes of a cluster are many.
        for some in self.nodes.chunks_mut(32) {
            std::thread::scope(|scope| {
                for node in some {
                    scope.spawn(move || node.look(since_ms));
                }
            });
        }
        let mut boots = BTreeSet::new();
        self.nodes.retain(|node| {
            let boot = node.state.as_ref().map(|s| s.boot.clone());
            // The same daemon by two addresses counts once.
            boot.is_none_or(|boot| boots.insert(boot))
        });
    }

    pub(super) fn gate(&self) -> Gate {
        let looked = self.nodes.iter().map(|n| n.looked(&self.wanted)).collect();
        let wanted = Wanted {
            since_ms: None,
            ..self.wanted.clone()
        };
        Gate::of(looked, &wanted, self.budget)
    }
}

impl Node {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            first: None,
            state: None,
            next: 0,
            over: BTreeSet::new(),
            outputs: Vec::new(),
            gaps: BTreeSet::new(),
            silent: None,
        }
    }

    fn look(&mut self, since_ms: Option<i64>) {
        let asked = self.state().and_then(|state| {
            let first = self.first.is_none();
            self.read(&state, first)?;
            if first {
                self.begin(&state, since_ms);
            }
            self.notice(state);
            Ok(())
        });
        self.silent = asked.err().map(|why| format!("{why:#}"));
    }

    /// Before the outputs: a rollout that is not under way has its summary among those that are read after this.
    fn state(&self) -> anyhow::Result<State> {
        let answer = get(self.addr, "/api/v1/state")?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("http://{} is no zdt of this version", self.addr))
    }

    fn read(&mut self, state: &State, first: bool) -> anyhow::Result<()> {
        loop {
            let answer = get(
                self.addr,
                &format!("/api/v1/outputs?since={}&boot={}", self.next, state.boot),
            )?;
            let number = |name| answer.header(name).and_then(|v| v.parse::<u64>().ok());
            let next = number(NEXT).context("the answer has no number")?;
            let missed = number(MISSED).unwrap_or_default();
            if answer.header(BOOT) != Some(&state.boot) {
                self.gaps.insert("it was restarted".to_owned());
            }
            if missed > 0 && !first {
                self.gaps
                    .insert(format!("{missed} of its outputs were gone before they were read"));
            }
            for line in answer.body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let output = serde_json::from_slice(line);
                self.outputs.push(
                    output.with_context(|| format!("an output of http://{} cannot be read", self.addr))?,
                );
            }
            self.next = next;
            if answer.header(MORE) != Some("true") {
                return Ok(());
            }
        }
    }

    /// What was over when it was first asked does not count, unless it is recent enough.
    fn begin(&mut self, state: &State, since_ms: Option<i64>) {
        let open: BTreeSet<Key> = state
            .under_way
            .iter()
            .map(|u| (u.namespace.clone(), u.workload.clone(), u.began))
            .collect();
        let from = since_ms.map_or(i64::MAX, |ms| state.now.0.saturating_sub(ms));
        let over = rollouts(&self.outputs).filter(|r| ended(r) < from).map(key);
        self.over = over.filter(|key| !open.contains(key)).collect();
        self.first = Some(state.clone());
    }

    /// What cannot be mended by a later answer.
    fn notice(&mut self, state: State) {
        if let Some(first) = &self.first {
            if first.boot != state.boot {
                self.gaps.insert("it was restarted".to_owned());
            }
            let lost = state.health.events_lost.saturating_sub(first.health.events_lost);
            if lost > 0 {
                self.gaps.insert("it lost events meanwhile".to_owned());
            }
            if state.health.watch_gaps > first.health.watch_gaps {
                self.gaps
                    .insert("its watch of the API was interrupted meanwhile".to_owned());
            }
        }
        self.gaps.extend(state.health.blind.iter().cloned());
        self.state = Some(state);
    }

    fn looked(&self, wanted: &Wanted) -> Looked {
        let counts = |r: &RolloutSummary| {
            wanted.workload(&r.namespace, Some(&r.workload)) && !self.over.contains(&key(r))
        };
        let began = rollouts(&self.outputs).filter(|r| counts(r)).map(|r| r.wall);
        let state = self.state.as_ref();
        let under_way = state.map(|s| s.under_way.clone()).unwrap_or_default();
        let open = under_way
            .iter()
            .filter(|u| wanted.workload(&u.namespace, Some(&u.workload)));
        let from = began.chain(open.map(|u| u.wall)).min();
        let outputs = self.outputs.iter().filter(|o| match o {
            Output::Rollout(r) => counts(r),
            Output::Verdict(v) => from.is_some_and(|from| v.wall >= from),
            Output::Propagation(_) => true,
            Output::SelectorSwitch(_) => false,
        });
        let mut blind: Vec<String> = self.gaps.iter().cloned().collect();
        blind.extend(self.silent.clone());
        let node = state.map(|s| s.node.clone()).filter(|n| !n.is_empty());
        Looked {
            from: node.unwrap_or_else(|| self.addr.to_string()),
            blind,
            under_way,
            outputs: outputs.cloned().collect(),
        }
    }
}

fn rollouts(outputs: &[Output]) -> impl Iterator<Item = &RolloutSummary> {
    outputs.iter().filter_map(|o| match o {
        Output::Rollout(r) => Some(r.as_ref()),
        _ => None,
    })
}

fn key(r: &RolloutSummary) -> Key {
    (r.namespace.clone(), r.workload.clone(), r.began)
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a rollout")]
fn ended(r: &RolloutSummary) -> i64 {
    r.wall.0.saturating_add(r.took_ms as i64)
}
