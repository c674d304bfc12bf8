//! What a service's rules had to choose from at a time, as its endpoint slices said it.

use std::net::{IpAddr, SocketAddr};

use super::{EndpointHistory, Endpoints};
use crate::{
    addrs::AddrSet,
    input::{EndpointState, Ktime, NsName, Protocol, ServicePort},
};

/// Most changes of conditions kept of one endpoint: a pod whose readiness flaps forgets its oldest.
const MAX_CONDITIONS: usize = 64;

/// What a slice said of one endpoint from `at` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    at: Ktime,
    usable: Usable,
}

/// Whether kube-proxy may send new connections to an endpoint (pkg/proxy/topology.go CategorizeEndpoints, KEP-1669).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usable {
    No,
    Ready,
    /// Serves while it terminates: only when no endpoint is ready.
    Fallback,
}

impl Condition {
    pub(super) fn of(at: Ktime, endpoint: &EndpointState) -> Self {
        let usable = match endpoint {
            EndpointState { ready: true, .. } => Usable::Ready,
            EndpointState {
                serving: true,
                terminating: true,
                ..
            } => Usable::Fallback,
            _ => Usable::No,
        };
        Self { at, usable }
    }
}

/// A service port as a client dials it.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    pub service: &'a NsName,
    /// Name of the service's port.
    port: &'a str,
    v4: bool,
    /// By one of the service's own addresses, not by a node port.
    pub by_service_address: bool,
    pub external_local: bool,
    pub internal_local: bool,
}

/// Whose endpoints may be chosen.
#[derive(Clone, Copy, Debug)]
pub enum Policy<'a> {
    Cluster,
    /// Those of this node.
    Local(&'a str),
}

/// How many endpoints a service port had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub ready: usize,
    /// Serving while they terminate: chosen only when none is ready.
    pub fallback: usize,
}

impl Choice {
    /// New connections have nowhere to go.
    pub fn is_empty(self) -> bool {
        self.ready == 0 && self.fallback == 0
    }

    /// Every endpoint that new connections can go to is terminating.
    pub fn only_terminating(self) -> bool {
        self.ready == 0 && self.fallback > 0
    }
}

impl EndpointHistory {
    pub(super) fn condition(&mut self, new: Condition) {
        if self.conditions.last().is_some_and(|c| c.usable == new.usable) {
            return;
        }
        if self.conditions.len() >= MAX_CONDITIONS {
            self.conditions.remove_first();
        }
        self.conditions.push(new);
    }

    fn usable_at(&self, at: Ktime) -> Usable {
        if at < self.added || self.removed.is_some_and(|removed| removed <= at) {
            return Usable::No;
        }
        let then = self.conditions.iter().rev().find(|c| c.at <= at);
        then.map_or(Usable::No, |c| c.usable)
    }

    /// It took new connections, by readiness or as a fallback, until then. None: it still did at `at`, or never had.
    pub fn lost(&self, at: Ktime) -> Option<Ktime> {
        self.ceased(at, |usable| usable != Usable::No)
    }

    /// It was ready until then. None: it still was at `at`, or never had been.
    fn unready(&self, at: Ktime) -> Option<Ktime> {
        self.ceased(at, |usable| usable == Usable::Ready)
    }

    /// It is chosen only where no endpoint is ready.
    pub fn falls_back(&self, at: Ktime) -> bool {
        self.usable_at(at) == Usable::Fallback
    }

    fn ceased(&self, at: Ktime, had: impl Fn(Usable) -> bool) -> Option<Ktime> {
        if had(self.usable_at(at)) {
            return None;
        }
        let mut end = self.removed.filter(|removed| *removed <= at);
        for condition in self.conditions.iter().rev().filter(|c| c.at <= at) {
            if had(condition.usable) {
                return end;
            }
            end = Some(condition.at);
        }
        None
    }

    /// The address and port that a service's port of this name goes to.
    fn port(&self, ip: IpAddr, name: &str) -> Option<SocketAddr> {
        let named = self.ports.names.iter().position(|n| n == name)?;
        Some(SocketAddr::new(ip, *self.ports.numbers.get(named)?))
    }

    pub(super) fn serves(&self, port: u16) -> bool {
        self.ports.numbers.contains(&port)
    }
}

impl Endpoints {
    /// The service port that this address is. `on_node`: it is an address of this node, so that a node port counts.
    pub fn dialled(&self, protocol: Protocol, addr: SocketAddr, on_node: bool) -> Option<Dialled<'_>> {
        let vip = self.vips.get(&addr);
        let name = vip.or_else(|| self.node_ports.get(&addr.port()).filter(|_| on_node))?;
        let service = self.services.get(name)?;
        let number = |p: &ServicePort| if vip.is_some() { p.port } else { p.node_port };
        let named = |p: &&ServicePort| number(p) == addr.port() && protocol.is(&p.protocol);
        let port = service.ports.iter().find(named)?;
        Some(Dialled {
            service: &service.service,
            port: &port.name,
            v4: addr.is_ipv4(),
            by_service_address: vip.is_some(),
            external_local: service.external_local,
            internal_local: service.internal_local,
        })
    }

    /// What this service port's rules had to choose from at `at`. None: its slices were not known by then.
    pub fn choice(&self, dialled: &Dialled<'_>, policy: Policy<'_>, at: Ktime) -> Option<Choice> {
        self.known_since
            .get(dialled.service)
            .filter(|since| **since <= at)?;
        let mut choice = Choice::default();
        for (_, endpoint) in self.behind(dialled) {
            if let Policy::Local(node) = policy
                && endpoint.node.as_deref() != Some(node)
            {
                continue;
            }
            match endpoint.usable_at(at) {
                Usable::Ready => choice.ready += 1,
                Usable::Fallback => choice.fallback += 1,
                Usable::No => {}
            }
        }
        Some(choice)
    }

    /// Every endpoint that this service port has had, as far as it is remembered.
    pub fn behind<'a>(
        &'a self,
        dialled: &Dialled<'a>,
    ) -> impl Iterator<Item = (SocketAddr, &'a EndpointHistory)> + use<'a> {
        let Dialled {
            service, port, v4, ..
        } = *dialled;
        let addrs = self.addrs_of.get(service).into_iter().flat_map(AddrSet::addrs);
        addrs.filter(move |ip| ip.is_ipv4() == v4).flat_map(move |ip| {
            let all = self.by_addr.get(&ip).map_or(&[][..], |all| &**all);
            all.iter()
                .filter(move |e| *e.service == *service)
                .filter_map(move |e| Some((e.port(ip, port)?, e)))
        })
    }

    /// The endpoint that this service port lost last by `at`, and when. Under [`Policy::Local`], of those of the node.
    pub fn last_lost<'a>(
        &'a self,
        dialled: &Dialled<'a>,
        policy: Policy<'_>,
        at: Ktime,
    ) -> Option<(Ktime, SocketAddr, &'a EndpointHistory)> {
        let here = |e: &EndpointHistory| match policy {
            Policy::Cluster => true,
            Policy::Local(node) => e.node.as_deref() == Some(node),
        };
        self.behind(dialled)
            .filter(|(_, e)| here(e))
            .filter_map(|(addr, e)| Some((e.lost(at)?, addr, e)))
            .max_by_key(|(lost, addr, _)| (*lost, *addr))
    }

    /// When the last endpoint that was ready ceased to be. None: one was at `at`, or none had been.
    pub fn last_ready(&self, dialled: &Dialled<'_>, at: Ktime) -> Option<Ktime> {
        self.behind(dialled).filter_map(|(_, e)| e.unready(at)).max()
    }
}
