//! Whose an address was, and how long pods are remembered.

use std::net::IpAddr;

use super::Pods;
use crate::{
    correlate::history::MAX_KEPT,
    input::{Ktime, PodState, PodUid},
};

impl Pods {
    /// From `at` on the addresses that it had not before are this pod's.
    pub(super) fn took(&mut self, at: Ktime, state: &PodState) {
        let before = self.pods.get(&state.uid).map_or(&[][..], |p| &p.state.ips);
        let new: Vec<IpAddr> = state
            .ips
            .iter()
            .filter(|ip| !before.contains(ip))
            .copied()
            .collect();
        for ip in new {
            self.owns(at, ip, &state.uid);
        }
    }

    fn owns(&mut self, at: Ktime, ip: IpAddr, uid: &PodUid) {
        let owners = self.owners.entry(ip).or_default();
        if owners.len() >= MAX_KEPT {
            owners.remove(0);
        }
        owners.push((at, uid.clone()));
        let addrs = self.addrs.entry(uid.clone()).or_default();
        if addrs.contains(&ip) {
            return;
        }
        addrs.push(ip);
        if addrs.len() > MAX_KEPT {
            let first = addrs.remove(0);
            self.disown(first, uid);
        }
    }

    fn disown(&mut self, ip: IpAddr, uid: &PodUid) {
        let Some(owners) = self.owners.get_mut(&ip) else {
            return;
        };
        owners.retain(|(_, owner)| owner != uid);
        if owners.is_empty() {
            self.owners.remove(&ip);
        }
    }

    /// Forgets pods that are gone (or were never named by the API) and unchanged since `before`, and what is left of those
    /// that the bound has cost. Returns them.
    pub(in crate::correlate) fn forget(&mut self, before: Ktime) -> Vec<PodUid> {
        let mut forgotten = Vec::new();
        while let Some(uid) = self.passed.take(before) {
            match self.pods.get(&uid) {
                // It has got its name since then.
                Some(pod) if pod.known && pod.gone.is_none() => {}
                Some(pod) if pod.last_change >= before => self.passed.add(pod.last_change, uid),
                _ => forgotten.push(uid),
            }
        }
        for uid in &forgotten {
            self.pods.remove(uid);
            self.on_host.remove(uid);
            self.terminating.remove(uid);
            for ip in self.addrs.remove(uid).unwrap_or_default() {
                self.disown(ip, uid);
            }
        }
        // Those of static pods: a handful.
        if !forgotten.is_empty() {
            let pods = &self.pods;
            self.by_cgroup_uid.retain(|_, uid| pods.contains_key(uid));
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::PodState;

    fn uid(n: u64) -> PodUid {
        PodUid(format!("pod-{n}").into())
    }

    fn applied(pods: &mut Pods, at: u64, n: u64, ips: &[&str]) {
        let state = PodState {
            uid: uid(n),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            phase: "Running".into(),
            ..PodState::default()
        };
        pods.applied(Ktime(at), &state, None, None);
    }

    fn owner(pods: &Pods, ip: &str, at: u64) -> Option<PodUid> {
        let owner = pods.owner(ip.parse().unwrap(), Ktime(at));
        owner.map(|pod| pod.state.uid.clone())
    }

    #[test]
    fn an_address_outlives_one_of_its_owners() {
        let mut pods = Pods::new(10);
        applied(&mut pods, 1, 1, &["10.0.0.1", "10.0.0.2"]);
        pods.gone(Ktime(5), &uid(1), None);
        applied(&mut pods, 6, 2, &["10.0.0.1"]);
        assert_eq!(pods.forget(Ktime(5)), []);
        assert_eq!(owner(&pods, "10.0.0.1", 3), Some(uid(1)));
        // A late word of it: it stays for as long again.
        applied(&mut pods, 8, 1, &["10.0.0.1", "10.0.0.2"]);
        assert_eq!(pods.forget(Ktime(8)), []);
        assert_eq!(pods.forget(Ktime(9)), [uid(1)]);
        assert_eq!(owner(&pods, "10.0.0.1", 3), Some(uid(2)));
        assert_eq!(owner(&pods, "10.0.0.2", 3), None);
        assert!(pods.owners.len() == 1 && pods.addrs.len() == 1);
        assert_eq!(pods.forget(Ktime(u64::MAX)), [], "the other lives");
    }

    #[test]
    fn what_the_bound_has_cost_leaves_nothing() {
        let mut pods = Pods::new(2);
        for n in 1..=3 {
            applied(&mut pods, n, n, &[&format!("10.0.0.{n}")]);
        }
        assert_eq!(pods.forget(Ktime(1)), [uid(1)]);
        assert!(pods.owners.len() == 2 && pods.addrs.len() == 2);
        assert_eq!(owner(&pods, "10.0.0.1", 9), None);
    }

    #[test]
    fn the_addresses_of_one_pod_are_bounded() {
        let mut pods = Pods::new(2);
        for n in 0..200 {
            applied(&mut pods, n, 1, &[&format!("10.0.0.{n}")]);
        }
        assert_eq!(pods.owners.len(), MAX_KEPT);
        assert_eq!(owner(&pods, "10.0.0.199", 500), Some(uid(1)));
    }
}
