//! Services: where clients dial them, and which pods they select.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::Endpoints;
use crate::input::{Ktime, NsName, ServiceState};

impl Endpoints {
    /// Returns whether it selects other pods than before.
    pub(in crate::correlate) fn service_applied(&mut self, at: Ktime, service: &ServiceState) -> bool {
        let known = self.services.contains_key(&service.service);
        if !known && self.services.len() >= self.max_services {
            self.cost.one();
            return false;
        }
        let before = self.selectors.get(&service.service);
        let switched = before.is_some_and(|before| {
            let labels = before.iter().map(|(key, value)| (&**key, &**value));
            !labels.eq(service
                .selector
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())))
        });
        if switched {
            self.selector_changed.insert(service.service.clone(), at);
        }
        self.withdraw(&service.service);
        let name = self.names.one(service.service.clone());
        for port in &service.ports {
            for vip in &service.vips {
                self.vips
                    .insert(SocketAddr::new(*vip, port.port), Arc::clone(&name));
            }
            if port.node_port != 0 {
                self.node_ports.insert(port.node_port, Arc::clone(&name));
            }
        }
        let labels = service.selector.iter();
        let selector = labels.map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        self.selectors.insert(Arc::clone(&name), selector.collect());
        let state = ServiceState {
            service: service.service.clone(),
            vips: service.vips.clone(),
            ports: service.ports.clone(),
            selector: BTreeMap::new(),
            ..*service
        };
        self.services.insert(name, state);
        switched
    }

    pub(in crate::correlate) fn service_gone(&mut self, name: &NsName) {
        self.let_go = true;
        self.withdraw(name);
    }

    /// Nothing leads to it any more.
    fn withdraw(&mut self, name: &NsName) {
        self.selectors.remove(name);
        if let Some(service) = self.services.remove(name) {
            for port in &service.ports {
                for vip in &service.vips {
                    self.vips.remove(&SocketAddr::new(*vip, port.port));
                }
                self.node_ports.remove(&port.node_port);
            }
        }
    }
}
