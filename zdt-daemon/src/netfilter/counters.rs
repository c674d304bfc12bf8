//! conntrack's own counters of one network namespace, and how full its table is.

use std::{ops::ControlFlow, time::Duration};

use super::{
    asker::Asker,
    conntrack::Error,
    netlink::{Attributes, FAMILY_HEADER, Frames, Malformed, NLM_F_DUMP},
};
use crate::input::ConntrackState;

/// `IPCTNL_MSG_CT_GET_STATS_CPU` and `IPCTNL_MSG_CT_GET_STATS`; answers have the same number.
const STATS_CPU: u16 = 1 << 8 | 4;
const STATS: u16 = 1 << 8 | 5;

/// `enum ctattr_stats_cpu`
const INVALID: u16 = 4;
const INSERT_FAILED: u16 = 9;
const DROP: u16 = 10;
const EARLY_DROP: u16 = 11;
/// `enum ctattr_stats_global`; the second one since Linux 4.18.
const GLOBAL_ENTRIES: u16 = 1;
const GLOBAL_MAX: u16 = 2;

const PATIENCE: Duration = Duration::from_millis(50);

/// Reads the counters of one network namespace.
pub struct Counters {
    asker: Asker,
    before: Option<ConntrackState>,
}

impl Counters {
    /// Opens a socket in the network namespace of the calling thread and stays in it.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            asker: Asker::open(PATIENCE)?,
            before: None,
        })
    }

    /// The state now, with counters since the last call; the first call has them 0.
    pub fn since_last(&mut self) -> Result<ConntrackState, Error> {
        let now = self.read()?;
        let before = self.before.replace(now).unwrap_or(now);
        // The kernel's counters are of 32 bits per CPU, and begin anew when a CPU or the module does.
        Ok(ConntrackState {
            entries: now.entries,
            max: now.max,
            drop: now.drop.saturating_sub(before.drop),
            early_drop: now.early_drop.saturating_sub(before.early_drop),
            insert_failed: now.insert_failed.saturating_sub(before.insert_failed),
            invalid: now.invalid.saturating_sub(before.invalid),
        })
    }

    fn read(&mut self) -> Result<ConntrackState, Error> {
        let mut state = ConntrackState::default();
        for (kind, flags) in [(STATS_CPU, NLM_F_DUMP), (STATS, 0)] {
            let mut malformed = None;
            self.asker.ask(kind, flags, 0, &[], |datagram| {
                malformed = malformed.or(add(&mut state, datagram).err());
                ControlFlow::Continue(())
            })?;
            if let Some(why) = malformed {
                return Err(Error::Answer(why.to_string()));
            }
        }
        Ok(state)
    }
}

/// How many entries this namespace has.
pub(super) fn entries() -> Result<u64, Error> {
    let mut state = ConntrackState::default();
    let mut malformed = None;
    Asker::open(PATIENCE)?.ask(STATS, 0, 0, &[], |datagram| {
        malformed = add(&mut state, datagram).err();
        ControlFlow::Continue(())
    })?;
    match malformed {
        Some(why) => Err(Error::Answer(why.to_string())),
        None => Ok(state.entries),
    }
}

/// Adds what a datagram of either answer says; the counters of each CPU come in a message of their own.
pub fn add(state: &mut ConntrackState, datagram: &[u8]) -> Result<(), Malformed> {
    for frame in Frames(datagram) {
        let frame = frame?;
        let attributes = frame.payload.get(FAMILY_HEADER..).unwrap_or_default();
        if frame.kind != STATS_CPU && frame.kind != STATS {
            continue;
        }
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            let place = match (frame.kind, attribute.kind) {
                (STATS_CPU, INVALID) => &mut state.invalid,
                (STATS_CPU, INSERT_FAILED) => &mut state.insert_failed,
                (STATS_CPU, DROP) => &mut state.drop,
                (STATS_CPU, EARLY_DROP) => &mut state.early_drop,
                (STATS, GLOBAL_ENTRIES) => &mut state.entries,
                (STATS, GLOBAL_MAX) => &mut state.max,
                _ => continue,
            };
            *place = place.saturating_add(u64::from(attribute.u32()?));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
