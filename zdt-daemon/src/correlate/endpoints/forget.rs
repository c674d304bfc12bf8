//! What is no longer remembered. Asked with every tick, so it looks only at what is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{EndpointHistory, Endpoints};
use crate::input::{Ktime, NsName};

impl Endpoints {
    /// Forgets what was gone before `before`. Returns whether any endpoint was.
    pub(in crate::correlate) fn forget(&mut self, before: Ktime) -> bool {
        self.selector_changed.retain(|_, at| *at >= before);
        let forgot = self.forget_removed(before);
        if !std::mem::take(&mut self.let_go) {
            return forgot;
        }
        self.slices_of.retain(|_, slices| !slices.is_empty());
        self.names.forget();
        self.nodes.forget();
        self.ports.forget();
        let (services, slices_of) = (&self.services, &self.slices_of);
        self.known_since
            .retain(|name, _| services.contains_key(name) || slices_of.contains_key(name));
        forgot
    }

    fn forget_removed(&mut self, before: Ktime) -> bool {
        let gone = |e: &EndpointHistory| e.removed.is_some_and(|r| r < before);
        let mut left: BTreeMap<Arc<NsName>, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut forgot = false;
        while let Some((ip, service)) = self.removed.take(before) {
            let all = self.by_addr.get_mut(&ip);
            if let Some(all) = all.filter(|all| all.iter().any(gone)) {
                forgot = true;
                let (old, stay): (Vec<_>, Vec<_>) = std::mem::take(all).into_iter().partition(gone);
                *all = stay.into();
                for node in old.into_iter().filter_map(|e| e.node) {
                    self.nodes.let_go(&node);
                }
            }
            let all = self.by_addr.get(&ip).map_or(&[][..], |all| &**all);
            let of_service = all.iter().filter(|e| e.service == service);
            let next = of_service.clone().filter_map(|e| e.removed).min();
            let (none, other) = (all.is_empty(), of_service.count() == 0);
            if none {
                self.by_addr.remove(&ip);
            }
            if let Some(next) = next {
                self.removed.add(next, (ip, service));
            } else if other {
                left.entry(service).or_default().insert(ip);
            }
        }
        for (service, ips) in left {
            if let Some(addrs) = self.addrs_of.get_mut(&service) {
                *addrs = addrs.addrs().filter(|ip| !ips.contains(ip)).collect();
                if addrs.is_empty() {
                    self.addrs_of.remove(&service);
                }
            }
        }
        forgot
    }
}
