//! How full the correlator's tables are, for whoever watches zdt.

use super::Correlator;

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFill {
    pub name: &'static str,
    pub entries: usize,
    /// What its bound has cost since the start; 0 where it has none.
    pub evicted: u64,
}

impl Correlator {
    pub fn tables(&self) -> Vec<TableFill> {
        let fill = |name, entries| TableFill {
            name,
            entries,
            evicted: 0,
        };
        vec![
            TableFill {
                evicted: self.evicted,
                ..fill("flows", self.flows.len())
            },
            fill("pods", self.pods.len()),
            fill("endpoint-addresses", self.endpoints.len()),
            fill("routes", self.routes.len()),
        ]
    }
}
