//! Static pods: the API knows a mirror under a uid of its own.

use super::Pods;
use crate::input::{Ktime, PodUid};

impl Pods {
    /// A static pod's cgroups are these. The kernel may have told of them before the API server; and a mirror that was deleted
    /// comes again with another uid, while the pod lives on.
    pub(super) fn joined(&mut self, at: Ktime, cgroup_uid: &PodUid, uid: &PodUid) {
        let before = self.by_cgroup_uid.insert(cgroup_uid.clone(), uid.clone());
        if before.as_ref() == Some(uid) {
            return;
        }
        let seen = match before {
            Some(mirror) => self.pods.get(&mirror).cloned(),
            None => self.pods.remove(cgroup_uid),
        };
        if let Some(seen) = seen {
            let bound = (self.max, &mut self.cost, &mut self.passed);
            let pod = Self::entry(&mut self.pods, bound, at, uid);
            pod.first_seen = pod.first_seen.min(seen.first_seen);
            pod.netns = pod.netns.or(seen.netns);
            pod.containers.extend(seen.containers);
            pod.listeners.extend(seen.listeners);
        }
    }
}
