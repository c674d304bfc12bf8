//! Reads what the kernel half lost for want of room in the ring (invariant I7).

use aya::maps::{MapData, PerCpuArray};
use zdt_common::{HOOK_COUNT, Hook};

/// The counters could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the counter {map} of {hook}: {reason}")]
pub struct LossError {
    map: &'static str,
    hook: &'static str,
    reason: String,
}

/// Per-hook counters, summed over CPUs.
pub struct Losses {
    lost: PerCpuArray<MapData, u64>,
    emitted: PerCpuArray<MapData, u64>,
    /// What was lost when it was last asked.
    seen: [u64; HOOK_COUNT],
}

impl Losses {
    pub(super) fn new(lost: PerCpuArray<MapData, u64>, emitted: PerCpuArray<MapData, u64>) -> Self {
        Self {
            lost,
            emitted,
            seen: [0; HOOK_COUNT],
        }
    }

    /// Events lost since the last call, by hook; hooks that lost none are left out.
    pub fn take(&mut self) -> Result<Vec<(Hook, u64)>, LossError> {
        let mut losses = Vec::new();
        for (&hook, seen) in Hook::ALL.iter().zip(&mut self.seen) {
            let lost = sum(&self.lost, "LOST", hook)?;
            if lost > *seen {
                losses.push((hook, lost - *seen));
                *seen = lost;
            }
        }
        Ok(losses)
    }

    /// Events written since the start, by hook.
    pub fn emitted(&self) -> Result<Vec<(Hook, u64)>, LossError> {
        Hook::ALL
            .iter()
            .map(|&hook| Ok((hook, sum(&self.emitted, "EMITTED", hook)?)))
            .collect()
    }
}

fn sum(map: &PerCpuArray<MapData, u64>, name: &'static str, hook: Hook) -> Result<u64, LossError> {
    let per_cpu = map.get(&u32::from(hook as u16), 0).map_err(|e| LossError {
        map: name,
        hook: hook.name(),
        reason: e.to_string(),
    })?;
    Ok(per_cpu.iter().sum())
}
