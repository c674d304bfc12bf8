//! How full the correlator's tables are, for whoever watches zdt.

use super::Correlator;

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFill {
    pub name: &'static str,
    pub entries: usize,
    /// What its bound has cost since the start.
    pub evicted: u64,
}

/// What the bounds have cost of what is yet to be judged: each is a failure that may get no verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evicted {
    pub flows: u64,
    pub attempts: u64,
    pub served: u64,
}

impl Evicted {
    pub(super) fn all(self) -> u64 {
        self.flows + self.attempts + self.served
    }

    pub(super) fn add(&mut self, more: Self) {
        self.flows += more.flows;
        self.attempts += more.attempts;
        self.served += more.served;
    }
}

impl Correlator {
    pub fn tables(&self) -> Vec<TableFill> {
        let fill = |name, (entries, evicted)| TableFill {
            name,
            entries,
            evicted,
        };
        let Evicted {
            flows,
            attempts,
            served,
        } = self.evicted;
        vec![
            fill("flows", (self.flows.len(), flows)),
            fill("attempts", (self.attempts.len(), attempts)),
            fill("served-errors", (self.served.len(), served)),
            fill("pods", self.pods.fill()),
            fill("propagations", self.propagations.fill()),
            fill("unanswered-connections", self.left.fill()),
            fill("told-connections", self.told.fill()),
            fill("stray-resets", self.strays.fill()),
            fill("listen-queues", self.queues.fill()),
            fill(
                "endpoint-addresses",
                (self.endpoints.len(), self.endpoints.cost.all()),
            ),
            fill("routes", (self.routes.len(), self.routes.cost.all())),
            fill("rollouts", (self.rollouts.len(), self.rollouts.cost.all())),
        ]
    }

    /// What the bounds have cost since they were last asked is a loss like any other.
    pub(super) fn count_costs(&mut self) {
        let costs = [
            ("pod-table", self.pods.cost.take()),
            ("endpoint-table", self.endpoints.cost.take()),
            ("route-table", self.routes.cost.take()),
            ("rollout-table", self.rollouts.cost.take()),
        ];
        for (table, cost) in costs.into_iter().filter(|(_, cost)| *cost > 0) {
            self.losses.lost(self.now, table, cost);
        }
    }
}
