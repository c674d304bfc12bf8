//! The common view of a node's rules, whoever wrote them: which endpoints it sends new connections to, and the changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::input::Ktime;
pub use crate::input::{Backend, Protocol, Route, RouteChange};

/// All endpoints that this node's rules send new connections to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Routes(BTreeSet<Route>);

impl Routes {
    pub fn contains(&self, route: &Route) -> bool {
        self.0.contains(route)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// What changed from `self` to `newer`, each list in order.
    pub fn diff(&self, newer: &Self) -> RouteChange {
        RouteChange {
            added: newer.0.difference(&self.0).copied().collect(),
            removed: self.0.difference(&newer.0).copied().collect(),
        }
    }

    /// `self` after `change`.
    pub fn apply(&mut self, change: &RouteChange) {
        for route in &change.removed {
            self.0.remove(route);
        }
        self.0.extend(&change.added);
    }
}

impl FromIterator<Route> for Routes {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        Self(routes.into_iter().collect())
    }
}

/// A generation of the rules: one transaction of somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// When this daemon learned of it; the rules were in force a little earlier.
    pub at: Ktime,
    pub backend: Backend,
    /// The kernel's number of it, where it has one.
    pub generation: Option<u32>,
    /// `comm` of the process that made it, where the kernel tells.
    pub by: Option<String>,
    pub change: RouteChange,
    /// Something was lost before, and the rules were read anew: `change` is against what was known last.
    pub resynced: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(tos: &[&str]) -> Routes {
        let route = |to: &&str| Route {
            protocol: Protocol::Tcp,
            to: to.parse().unwrap(),
        };
        tos.iter().map(route).collect()
    }

    #[test]
    fn a_diff_applied_to_the_older_gives_the_newer() {
        let mut older = routes(&["10.0.0.1:80", "10.0.0.2:80"]);
        let newer = routes(&["10.0.0.2:80", "[fd00::1]:80"]);
        let change = older.diff(&newer);
        assert_eq!(change.added.len(), 1);
        assert_eq!(change.removed.len(), 1);
        older.apply(&change);
        assert_eq!(older, newer);
        assert!(older.diff(&newer).is_empty());
    }

    #[test]
    fn backends_have_the_names_that_people_use() {
        let names = [Backend::IptablesNft, Backend::Nftables, Backend::IptablesLegacy];
        let json = serde_json::to_string(&names).unwrap();
        assert_eq!(json, r#"["iptables-nft","nftables","iptables-legacy"]"#);
    }
}
