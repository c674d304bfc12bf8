//! Follows a workload's rollout at the daemons of several nodes: what they say, and what they may have missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Context as _;

use super::{
    access::Access,
    ask::{Server, Target, get},
};
use crate::{
    config,
    input::{Ktime, Wall, Workload},
    live::{BOOT, MISSED, MORE, NEXT, State},
    report::{Gate, Looked, NodeTold, Wanted},
    verdict::{Output, RolloutSummary},
};

/// Clocks of nodes may be apart by this much, milliseconds; that they are synchronized is what NTP is for.
const APART_MS: i64 = 500;

/// Which rollout of a node: namespace, workload, when it began.
type Key = (String, Workload, Ktime);

/// The daemons that were found.
pub(super) struct Follow {
    access: Access,
    nodes: Vec<Node>,
    wanted: Wanted,
    budget: usize,
}

/// One daemon.
struct Node {
    at: Target,
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
    /// What it could not see, and when it last said so.
    blind: BTreeMap<String, Wall>,
    /// It did not answer the last time.
    silent: Option<String>,
}

impl Follow {
    /// `since_ms`: rollouts that ended so long before now count, too.
    pub(super) fn new(
        servers: &[Server],
        access: &config::Access,
        wanted: Wanted,
        budget: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            access: open(servers, access)?,
            nodes: nodes(servers)?,
            wanted,
            budget,
        })
    }

    /// Asks every daemon once, side by side.
    pub(super) fn look(&mut self) {
        look(&self.access, &mut self.nodes, &self.wanted);
    }

    pub(super) fn gate(&self) -> Gate {
        // The earliest that counts, on any node.
        let from = self.nodes.iter().filter_map(|n| n.from(&self.wanted)).min();
        let looked = self.nodes.iter().map(|n| n.looked(&self.wanted, from)).collect();
        let wanted = Wanted {
            since_ms: None,
            ..self.wanted.clone()
        };
        Gate::of(looked, &wanted, self.budget)
    }
}

/// What each node tells now of a workload, for whoever did not wait for it.
pub(super) fn told(
    servers: &[Server],
    access: &config::Access,
    wanted: &Wanted,
) -> anyhow::Result<Vec<NodeTold>> {
    let access = open(servers, access)?;
    let mut all = nodes(servers)?;
    look(&access, &mut all, wanted);
    let told = |node: Node| NodeTold {
        from: node.name(),
        state: node.state,
        silent: node.silent,
        outputs: node.outputs,
    };
    Ok(all.into_iter().map(told).collect())
}

/// What is shown to them, and trusted.
pub(super) fn open(servers: &[Server], access: &config::Access) -> anyhow::Result<Access> {
    Access::open(access, servers.iter().any(Server::tls))
}

fn nodes(servers: &[Server]) -> anyhow::Result<Vec<Node>> {
    let mut addresses = Vec::new();
    for server in servers {
        addresses.extend(server.addresses()?);
    }
    addresses.sort_unstable();
    addresses.dedup_by_key(|target| target.addr);
    Ok(addresses.into_iter().map(Node::new).collect())
}

/// Asks each once.
fn look(access: &Access, nodes: &mut Vec<Node>, wanted: &Wanted) {
    // A thread for each of a few; nodes of a cluster are many.
    for some in nodes.chunks_mut(32) {
        std::thread::scope(|scope| {
            for node in some {
                scope.spawn(move || node.look(access, wanted));
            }
        });
    }
    let mut boots = BTreeSet::new();
    nodes.retain(|node| {
        let boot = node.state.as_ref().map(|s| s.boot.clone());
        // The same daemon by two addresses counts once.
        boot.is_none_or(|boot| boots.insert(boot))
    });
}

impl Node {
    fn new(at: Target) -> Self {
        Self {
            at,
            first: None,
            state: None,
            next: 0,
            over: BTreeSet::new(),
            outputs: Vec::new(),
            gaps: BTreeSet::new(),
            blind: BTreeMap::new(),
            silent: None,
        }
    }

    fn look(&mut self, access: &Access, wanted: &Wanted) {
        let asked = self.state(access).and_then(|state| {
            let first = self.first.is_none();
            self.read(access, &state, first, wanted)?;
            if first {
                self.begin(&state, wanted.since_ms);
            }
            self.notice(state);
            Ok(())
        });
        self.silent = asked.err().map(|why| format!("{why:#}"));
    }

    /// Before the outputs: a rollout that is not under way has its summary among those that are read after this.
    fn state(&self, access: &Access) -> anyhow::Result<State> {
        let answer = get(access, &self.at, "/api/v1/state")?;
        serde_json::from_slice(&answer.body).with_context(|| format!("{} is no zdt of this version", self.at))
    }

    fn read(&mut self, access: &Access, state: &State, first: bool, wanted: &Wanted) -> anyhow::Result<()> {
        let mut of = String::new();
        for (name, value) in [("namespace", &wanted.namespace), ("workload", &wanted.workload)] {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(of, "&{name}={}", encoded(value));
            }
        }
        loop {
            let path = format!("/api/v1/outputs?since={}&boot={}{of}", self.next, state.boot);
            let answer = get(access, &self.at, &path)?;
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
                self.outputs
                    .push(output.with_context(|| format!("an output of {} cannot be read", self.at))?);
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
        if self.first.as_ref().is_some_and(|first| first.boot != state.boot) {
            self.gaps.insert("it was restarted".to_owned());
        }
        for why in &state.health.blind {
            self.blind.insert(why.clone(), state.now);
        }
        self.state = Some(state);
    }

    fn name(&self) -> String {
        let node = self.state.as_ref().map(|s| s.node.clone());
        node.filter(|n| !n.is_empty())
            .unwrap_or_else(|| self.at.addr.to_string())
    }

    fn counts(&self, r: &RolloutSummary, wanted: &Wanted) -> bool {
        wanted.workload(&r.namespace, Some(&r.workload)) && !self.over.contains(&key(r))
    }

    /// When the first rollout that counts began.
    fn from(&self, wanted: &Wanted) -> Option<Wall> {
        let began = rollouts(&self.outputs)
            .filter(|r| self.counts(r, wanted))
            .map(|r| r.wall);
        let open = self.state.iter().flat_map(|s| &s.under_way);
        let open = open.filter(|u| wanted.workload(&u.namespace, Some(&u.workload)));
        began.chain(open.map(|u| u.wall)).min()
    }

    fn looked(&self, wanted: &Wanted, from: Option<Wall>) -> Looked {
        let outputs = self.outputs.iter().filter(|o| match o {
            Output::Rollout(r) => self.counts(r, wanted),
            Output::Verdict(v) => from.is_some_and(|from| v.wall >= from),
            Output::Propagation(_) => true,
            // What of it touches a rollout is said by its summary.
            Output::SelectorSwitch(_) | Output::NotSeen(_) => false,
        });
        let state = self.state.as_ref();
        let mut blind: Vec<String> = self.gaps.iter().cloned().collect();
        // What it did not see before the rollout began is no matter.
        let matters = |at: Wall| from.is_none_or(|from| at.0 + APART_MS >= from.0);
        let unseen = self.blind.iter().filter(|(_, at)| matters(**at));
        blind.extend(unseen.map(|(why, _)| why.clone()));
        blind.extend(state.zip(from).and_then(|(state, from)| state.unseen_since(from)));
        blind.extend(self.silent.clone());
        Looked {
            from: self.name(),
            blind,
            under_way: state.map(|s| s.under_way.clone()).unwrap_or_default(),
            outputs: outputs.cloned().collect(),
        }
    }
}

/// For a query (RFC 3986, 2.3: what needs no escape).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
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
