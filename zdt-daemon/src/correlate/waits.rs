//! What waits for time to pass, so that whoever tells the time knows when to.

use super::Correlator;
use crate::input::Ktime;

impl Correlator {
    /// When the next flow is due: told then what time it is, it is judged. None: none waits, or only for a watch that is
    /// interrupted.
    pub fn next_due(&self) -> Option<Ktime> {
        if self.judged_to() < self.now {
            return None;
        }
        let grace_ms = self.settings.judge_grace_ms;
        let flows = self.flows.next_due(grace_ms);
        [flows, self.served.next_due(), self.attempts.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether something is yet to be said that comes with time alone: a rollout that is to be quiet for a while, a pod that is
    /// followed, a watch that may be waited for no longer.
    pub fn is_open(&self) -> bool {
        self.judged_to() < self.now
            || self.propagations.any_open()
            || self.rollouts.any_open()
            || self.switches.any_open()
    }
}
