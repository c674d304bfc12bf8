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

impl Correlator {
    pub fn tables(&self) -> Vec<TableFill> {
        let fill = |name, entries, evicted| TableFill {
            name,
            entries,
            evicted,
        };
        vec![
            fill("flows", self.flows.len(), self.evicted),
            fill("pods", self.pods.len(), self.pods.cost.all()),
            fill(
                "endpoint-addresses",
                self.endpoints.len(),
                self.endpoints.cost.all(),
            ),
            fill("routes", self.routes.len(), self.routes.cost.all()),
            fill("rollouts", self.rollouts.len(), self.rollouts.cost.all()),
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
