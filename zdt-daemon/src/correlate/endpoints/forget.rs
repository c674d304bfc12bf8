//! What is no longer remembered. Asked with every tick, so it looks only where something has gone.

use std::net::IpAddr;

use super::{EndpointHistory, Endpoints};
use crate::input::Ktime;

impl Endpoints {
    /// Forgets what was gone before `before`.
    pub(in crate::correlate) fn forget(&mut self, before: Ktime) {
        self.selector_changed.retain(|_, at| *at >= before);
        if self.removed_since < before {
            self.forget_removed(before);
        }
        if !std::mem::take(&mut self.let_go) {
            return;
        }
        self.slices_of.retain(|_, slices| !slices.is_empty());
        self.names.forget();
        self.ports.forget();
        let (services, slices_of) = (&self.services, &self.slices_of);
        self.known_since
            .retain(|name, _| services.contains_key(name) || slices_of.contains_key(name));
    }

    fn forget_removed(&mut self, before: Ktime) {
        self.removed_since = Ktime(u64::MAX);
        let gone = |e: &EndpointHistory| e.removed.is_some_and(|r| r < before);
        self.by_addr.retain(|all| {
            if all.iter().any(gone) {
                *all = all.iter().filter(|e| !gone(e)).cloned().collect();
            }
            let removed = all.iter().filter_map(|e| e.removed);
            self.removed_since = removed.fold(self.removed_since, Ktime::min);
            !all.is_empty()
        });
        let by_addr = &self.by_addr;
        self.addrs_of.retain(|service, addrs| {
            let of = |e: &EndpointHistory| e.service == *service;
            let stays = |ip: &IpAddr| by_addr.get(ip).is_some_and(|all| all.iter().any(of));
            if !addrs.addrs().all(|ip| stays(&ip)) {
                *addrs = addrs.addrs().filter(stays).collect();
            }
            !addrs.is_empty()
        });
        self.nodes.forget();
    }
}
