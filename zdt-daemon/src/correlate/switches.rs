//! Follows a service that selects other pods than before: which ones it let go of, and how many connections stayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{endpoints::Endpoints, judge::wall, trigger::SLICES_FOLLOW_MS};
use crate::{
    input::{Ktime, NsName, Pinned, PodUid, Start},
    verdict::{Output, SelectorSwitch},
};

/// One switch; at most one for each service.
#[derive(Debug)]
struct Open {
    at: Ktime,
    /// Established connections by the address that they lead to, as first counted since.
    counted: BTreeMap<IpAddr, u32>,
}

#[derive(Debug, Default)]
pub(super) struct Switches {
    open: BTreeMap<NsName, Open>,
}

impl Switches {
    pub(super) fn begin(&mut self, at: Ktime, service: &NsName) {
        let counted = BTreeMap::new();
        self.open.insert(service.clone(), Open { at, counted });
    }

    pub(super) fn counted(&mut self, endpoints: &Endpoints, pinned: &Pinned) {
        for (service, open) in &mut self.open {
            if left(endpoints, service, open.at).any(|(ip, _)| ip == pinned.server) {
                open.counted.entry(pinned.server).or_insert(pinned.established);
            }
        }
    }

    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Says what is complete; `all`: everything, the input has ended.
    pub(super) fn report(
        &mut self,
        now: Ktime,
        all: bool,
        start: Option<&(Ktime, Start)>,
        endpoints: &Endpoints,
        out: &mut Vec<Output>,
    ) {
        self.open.retain(|service, open| {
            if !all && now < open.at.plus_ms(SLICES_FOLLOW_MS) {
                return true;
            }
            let pods: BTreeSet<_> = left(endpoints, service, open.at).map(|(_, uid)| uid).collect();
            let stayed = open.counted.values().map(|n| u64::from(*n)).sum();
            out.push(Output::SelectorSwitch(Box::new(SelectorSwitch {
                node: start.map(|(_, s)| s.node.clone()).unwrap_or_default(),
                service: service.clone(),
                at: open.at,
                wall: wall(start, open.at),
                left: pods.len(),
                ready: endpoints.ready(service),
                stayed: (!open.counted.is_empty()).then_some(stayed),
            })));
            false
        });
    }
}

/// The endpoints that left a service's slices since then, of pods that nobody had told to go.
fn left<'a>(
    endpoints: &'a Endpoints,
    service: &'a NsName,
    since: Ktime,
) -> impl Iterator<Item = (IpAddr, &'a PodUid)> {
    endpoints.of_service(service).filter_map(move |(ip, e)| {
        let left = e.terminating.is_none() && e.removed.is_some_and(|r| r >= since);
        let (uid, _) = e.pod.as_deref()?;
        left.then_some((ip, uid))
    })
}
