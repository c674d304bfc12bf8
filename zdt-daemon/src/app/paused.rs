//! Times in which zdt itself did not run: stopped, frozen, or without a processor.
//!
//! The kernel half goes on meanwhile, and dates what it writes. What the API server and the rules told is read late, behind
//! kernel events that are younger, so it is for the correlator as if the watches had been interrupted: what failed then is
//! judged when they had time to tell, and marked.

use crate::input::{Input, Ktime, What};

/// Longer than that nothing was taken, although a tick comes at least once a second: zdt did not run. A flow is judged 2 s after
/// its failure, so what is late by less than that comes in time.
const PAUSE_MS: f64 = 2_000.0;

/// So much later what waited in the sockets of the watches has been read.
const CAUGHT_UP_MS: f64 = 1_000.0;

/// What the watches tell of.
const WATCHED: [&str; 4] = ["pods", "endpointslices", "services", "replicasets"];

/// Says what to take before an input.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// When the last input was taken.
    last: Option<Ktime>,
    open: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Ktime,
    /// When it was noticed.
    until: Ktime,
}

impl Pauses {
    /// What comes before `input`, which is taken `now`.
    pub(super) fn before(&mut self, now: Ktime, input: &Input) -> Vec<Input> {
        let mut first = Vec::new();
        let last = self.last.replace(now).unwrap_or(now);
        let took_ms = now.ms_since(last);
        if took_ms > PAUSE_MS {
            tracing::warn!(
                "zdt did not run for {:.1} s: what failed then is judged late and marked; has the node a processor for it \
                 (resources.requests.cpu), or was it stopped?",
                took_ms / 1_000.0
            );
            let since = self.open.map_or(last, |pause| pause.since);
            self.open = Some(Pause { since, until: now });
            // First the watches: what is lost makes time pass, and what is due then would be judged.
            let broken = |resource: &str| What::WatchBroken {
                resource: resource.to_owned(),
                since,
            };
            let lost = What::Loss {
                source: "paused".to_owned(),
                count: 1,
            };
            let all = WATCHED.map(broken).into_iter().chain([lost]);
            first.extend(all.map(|what| Input { at: now, what }));
        }
        if matches!(input.what, What::Tick)
            && let Some(pause) = self
                .open
                .take_if(|pause| input.at.ms_since(pause.until) >= CAUGHT_UP_MS)
        {
            tracing::info!("what changed meanwhile has been told");
            let whole = |resource: &str| What::WatchGap {
                resource: resource.to_owned(),
                since: pause.since,
            };
            let at = input.at;
            first.extend(WATCHED.map(whole).map(|what| Input { at, what }));
        }
        first
    }
}

#[cfg(test)]
#[path = "paused_tests.rs"]
mod tests;
