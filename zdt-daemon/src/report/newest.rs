//! Which rollout is meant when nobody waited for it: the newest of the workload, as all nodes that were asked tell it.

use super::{Looked, story::Wanted};
use crate::{
    input::{Wall, Workload},
    live::State,
    verdict::{Output, Revision, RolloutSummary},
};

/// Clocks of nodes, and what a node learns of the others' pods, may be apart by this much, milliseconds.
const APART_MS: i64 = 15_000;

/// All that one node told.
#[derive(Clone, Debug, Default)]
pub struct NodeTold {
    /// The node, or where it was asked.
    pub from: String,
    /// None: it did not answer.
    pub state: Option<State>,
    /// Why it did not.
    pub silent: Option<String>,
    pub outputs: Vec<Output>,
}

/// Which rollout is meant.
#[derive(Clone, Debug)]
pub struct Which {
    pub wanted: Wanted,
    /// It may have ended so long ago, milliseconds.
    pub since_ms: i64,
    /// Hash of the template that it brings. None: any.
    pub to: Option<String>,
}

impl Which {
    fn is(&self, namespace: &str, workload: &Workload, to: Option<&Revision>) -> bool {
        let hash = to.map(|r| r.template_hash.as_str());
        self.wanted.workload(namespace, Some(workload)) && (self.to.is_none() || self.to.as_deref() == hash)
    }

    /// The one that is under way, else the last one that ended.
    fn began(&self, told: &[NodeTold]) -> Option<Wall> {
        let states = told.iter().filter_map(|t| t.state.as_ref());
        let open = states.flat_map(|s| &s.under_way);
        let open = open
            .filter(|u| self.is(&u.namespace, &u.workload, u.to.as_ref()))
            .map(|u| u.wall);
        let over = told.iter().flat_map(|t| {
            let now = t.state.as_ref().map_or(0, |s| s.now.0);
            let own = rollouts(&t.outputs).filter(move |r| {
                self.is(&r.namespace, &r.workload, r.to.as_ref())
                    && ended(r) >= now.saturating_sub(self.since_ms)
            });
            own.map(|r| r.wall)
        });
        open.max().or_else(|| over.max())
    }

    /// What each node says of that one.
    pub fn looked(&self, told: Vec<NodeTold>) -> Vec<Looked> {
        let began = self.began(&told);
        told.into_iter().map(|node| self.of_node(node, began)).collect()
    }

    fn of_node(&self, node: NodeTold, began: Option<Wall>) -> Looked {
        let NodeTold {
            from,
            state,
            silent,
            mut outputs,
        } = node;
        let state = state.unwrap_or_default();
        let mut under_way = state.under_way.clone();
        // Nodes see it begin at different times, and some of them nothing but its end.
        let first = |began: Wall| Wall(began.0.saturating_sub(APART_MS));
        under_way.retain(|u| {
            self.wanted.workload(&u.namespace, Some(&u.workload)) && began.is_some_and(|b| u.wall >= first(b))
        });
        outputs.retain(|o| match o {
            Output::Rollout(r) => {
                self.wanted.workload(&r.namespace, Some(&r.workload))
                    && began.is_some_and(|b| Wall(ended(r)) >= first(b) && r.wall >= first(b))
            }
            Output::Verdict(v) => began.is_some_and(|b| v.wall >= b),
            Output::Propagation(_) => true,
            // What of it touches a rollout is said by its summary.
            Output::SelectorSwitch(_) | Output::NotSeen(_) => false,
        });
        let mut blind = state.health.blind.clone();
        blind.extend(began.and_then(|b| state.unseen_since(b)));
        blind.extend(silent);
        Looked {
            from,
            blind,
            under_way,
            outputs,
        }
    }
}

fn rollouts(outputs: &[Output]) -> impl Iterator<Item = &RolloutSummary> {
    outputs.iter().filter_map(|o| match o {
        Output::Rollout(r) => Some(r.as_ref()),
        _ => None,
    })
}

/// When the last pod changed.
#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a rollout")]
fn ended(r: &RolloutSummary) -> i64 {
    r.wall.0.saturating_add(r.took_ms as i64)
}
