//! The rules of the small world.

use super::world::{POD, World, addr};
use crate::input::{Protocol, Route, RouteChange, RulesState, What};

impl World {
    /// The rules of this node begin to lead to the pod, or cease to.
    pub(super) fn route(&mut self, t: u64, leads: bool) {
        let routes = vec![Route {
            protocol: Protocol::Tcp,
            to: addr(POD),
        }];
        let (added, removed) = if leads {
            (routes, Vec::new())
        } else {
            (Vec::new(), routes)
        };
        self.at(
            t,
            What::Rules(RulesState {
                backend: None,
                generation: None,
                by: None,
                change: RouteChange { added, removed },
                resynced: false,
                first: t == 0,
            }),
        );
    }
}
