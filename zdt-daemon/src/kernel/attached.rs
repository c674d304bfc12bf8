//! The kernel half while it runs: what it watches, when its armed programs are attached, and what is read from it.

use std::{collections::BTreeSet, os::fd::AsFd as _};

use aya::Ebpf;
use tokio::sync::watch;
use zdt_common::{Addr, BESIDE, Endpoint, Hook, IN_TRANSIT, Service};

pub(super) use super::place::{attach, detach, load};
use super::{
    Costs, EventRing, Losses, Translator,
    btf::KernelFacts,
    map::{Map, MapError, Ports},
    place::{self, Link},
    table::{DETAILS, Detail, Place, Program},
};

/// A program that runs, or that runs while something is in transition.
#[derive(Clone, Copy, Debug)]
pub struct AttachedHook {
    pub program: &'static Program,
}

/// A program that does not run, and why.
#[derive(Clone, Debug)]
pub struct MissingHook {
    pub program: &'static Program,
    pub reason: String,
}

/// Why an address in transition is not, or not wholly, watched.
#[derive(Debug, thiserror::Error)]
pub enum TransitError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(
        "cannot attach the hook {tracepoint} for pods that come and go: {reason}; zdt tries again at the next"
    )]
    Arm {
        tracepoint: &'static str,
        reason: String,
    },
}

/// The maps that say what is watched.
pub(super) struct Maps {
    pub(super) addrs: Map<Addr>,
    pub(super) endpoints: Map<Endpoint>,
    pub(super) ports: Ports,
    pub(super) services: Map<Service>,
    pub(super) transit: Map<Addr>,
}

/// A program that is attached only while something is in transition.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) program: &'static Program,
    /// Its attachment, while it has one.
    pub(super) link: Option<Link>,
}

/// Programs run until this is dropped.
pub struct Attached {
    /// Holds the links.
    pub(super) ebpf: Ebpf,
    pub(super) maps: Maps,
    pub(super) armed: Vec<Armed>,
    /// Addresses in transition.
    pub(super) transit: BTreeSet<[u8; 16]>,
    /// Addresses of pods that may be the next.
    pub(super) beside: BTreeSet<[u8; 16]>,
    /// Whether there are any of either, for the ring's reader.
    pub(super) moving: watch::Sender<bool>,
    pub(super) ring: Option<EventRing>,
    pub(super) losses: Option<Losses>,
    pub(super) facts: KernelFacts,
    pub(super) running: Vec<AttachedHook>,
    pub(super) missing: Vec<MissingHook>,
    pub(super) spared: Vec<&'static Program>,
}

impl Attached {
    /// Says what an address is: `ADDR_*` bits of zdt_common.
    pub fn watch_addr(&mut self, addr: Addr, bits: u32) -> Result<(), MapError> {
        self.maps.addrs.insert(addr, bits)
    }

    /// Forgets an address; one that is not there is no error.
    pub fn unwatch_addr(&mut self, addr: Addr) -> Result<(), MapError> {
        self.maps.addrs.remove(addr)
    }

    /// Says that an address and port serve.
    pub fn watch_endpoint(&mut self, endpoint: Endpoint) -> Result<(), MapError> {
        self.maps.ports.insert(endpoint.port)?;
        self.maps.endpoints.insert(endpoint, 1)
    }

    /// Forgets an endpoint; one that is not there is no error.
    pub fn unwatch_endpoint(&mut self, endpoint: Endpoint) -> Result<(), MapError> {
        self.maps.endpoints.remove(endpoint)
    }

    /// Says that a service is at an address and port, or, at the address of zeroes, at a port of the node.
    pub fn watch_service(&mut self, service: Service) -> Result<(), MapError> {
        self.maps.services.insert(service, 1)
    }

    /// Forgets a service; one that is not there is no error.
    pub fn unwatch_service(&mut self, service: Service) -> Result<(), MapError> {
        self.maps.services.remove(service)
    }

    /// Says that an endpoint or pod is going or coming. The first one attaches the armed programs.
    pub fn watch_transit(&mut self, addr: Addr) -> Result<(), TransitError> {
        self.transit.insert(addr.0);
        self.moves(addr)
    }

    /// The end of that; one that is not there is no error. The last one detaches the armed programs.
    pub fn unwatch_transit(&mut self, addr: Addr) -> Result<(), TransitError> {
        self.transit.remove(&addr.0);
        self.moves(addr)
    }

    /// Says that a pod may be the next to go, or is so no longer: what it begins to answer is remembered.
    pub fn watch_beside(&mut self, addr: Addr, on: bool) -> Result<(), TransitError> {
        if on {
            self.beside.insert(addr.0);
        } else {
            self.beside.remove(&addr.0);
        }
        self.moves(addr)
    }

    fn moves(&mut self, addr: Addr) -> Result<(), TransitError> {
        let moving = !(self.transit.is_empty() && self.beside.is_empty());
        self.moving
            .send_if_modified(|before| std::mem::replace(before, moving) != moving);
        if self.transit.contains(&addr.0) {
            self.maps.transit.insert(addr, IN_TRANSIT)?;
        } else if self.beside.contains(&addr.0) {
            self.maps.transit.insert(addr, BESIDE)?;
        } else {
            self.maps.transit.remove(addr)?;
        }
        if moving {
            return self.arm();
        }
        self.disarm();
        Ok(())
    }

    /// Attaches what is armed and not attached.
    fn arm(&mut self) -> Result<(), TransitError> {
        for armed in self.armed.iter_mut().filter(|a| a.link.is_none()) {
            let link = attach(&mut self.ebpf, armed.program);
            armed.link = Some(link.map_err(|reason| TransitError::Arm {
                tracepoint: armed.program.tracepoint,
                reason,
            })?);
        }
        Ok(())
    }

    fn disarm(&mut self) {
        for armed in &mut self.armed {
            if let Some(link) = armed.link.take() {
                // It fails only for a link that is not there.
                let _ = detach(&mut self.ebpf, armed.program, link);
            }
        }
    }

    /// Whether the armed programs are attached now.
    pub fn is_armed(&self) -> bool {
        self.armed.iter().any(|a| a.link.is_some())
    }

    /// The reader of events; there is one, so only the first call gets it.
    pub fn take_ring(&mut self) -> Option<EventRing> {
        self.ring.take()
    }

    /// The reader of the loss counters; only the first call gets it.
    pub fn take_losses(&mut self) -> Option<Losses> {
        self.losses.take()
    }

    /// The reader of what each program costs.
    pub fn costs(&self) -> Costs {
        let fds = self.running.iter().filter_map(|a| {
            let fd = place::running(&self.ebpf, a.program)?;
            Some((a.program.name, fd.as_fd().try_clone_to_owned().ok()?))
        });
        Costs::new(fds.collect())
    }

    /// Makes observations of this kernel's events.
    pub fn translator(&self) -> Translator {
        Translator::new(
            self.facts.reset_reasons.clone(),
            self.facts.drop_reasons.clone(),
            self.facts.hz,
        )
    }

    /// What BTF told.
    pub fn facts(&self) -> &KernelFacts {
        &self.facts
    }

    /// Programs that run, now or when something is in transition.
    pub fn attached(&self) -> &[AttachedHook] {
        &self.running
    }

    /// Programs that do not, and why.
    pub fn missing(&self) -> &[MissingHook] {
        &self.missing
    }

    /// Programs that this kernel does not need, since a tracepoint tells the same.
    pub fn spared(&self) -> &[&'static Program] {
        &self.spared
    }

    /// Whether this kernel has no such tracepoint.
    pub fn lacks(&self, program: &Program) -> bool {
        program.place() == Place::Tracepoint && self.facts.arity(program.tracepoint).is_none()
    }

    /// Details that this kernel's hooks do not tell.
    pub fn untold(&self) -> impl Iterator<Item = &'static Detail> {
        let runs = |name: &&str| self.running.iter().any(|r| r.program.name == *name);
        DETAILS.iter().filter(move |detail| {
            let passed = self.facts.arity(detail.tracepoint) >= Some(detail.arguments);
            let instead = !detail.instead.is_empty() && detail.instead.iter().all(runs);
            !passed && !instead
        })
    }

    /// Names of the hooks that report, for [`crate::input::Start`].
    pub fn hook_names(&self) -> Vec<String> {
        let hooks = self.running.iter().flat_map(|a| a.program.hooks);
        hooks.copied().map(Hook::name).map(str::to_owned).collect()
    }

    /// What is not told here of all that can be, for [`crate::input::Start`]: hooks, and details of them.
    pub fn not_told(&self) -> Vec<String> {
        let hooks = self.missing().iter().map(|m| m.program.tracepoint);
        let details = self.untold().map(|detail| detail.name);
        let mut all: Vec<String> = hooks.chain(details).map(str::to_owned).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
