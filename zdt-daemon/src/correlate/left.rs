//! What unanswered connections leave behind in conntrack: entries that send whoever uses the same ports again to the same
//! pod, whatever the rules say by then.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    flow::{Flow, Left},
    peer::Ends,
};
use crate::input::{Ktime, Tuple};

/// nf_conntrack_tcp_timeout_syn_sent (net/netfilter/nf_conntrack_proto_tcp.c); each retransmitted SYN starts it anew.
const ENTRY_LIVES_MS: u64 = 120_000;

/// What is too old counts no more, and is thrown away so often.
const LOOK_MS: u64 = 1_000;

/// Most entries kept: the bound of the flow table.
const MAX_LEFT: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Leftovers {
    entries: HashMap<Ends, Left>,
    /// When they are looked through again.
    look: Ktime,
    /// What found no room.
    refused: u64,
}

impl Leftovers {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.entries.len(), self.refused)
    }

    /// Tells the flow what it inherited, and remembers what it leaves.
    pub(super) fn pass(&mut self, flow: &mut Flow) {
        let (Some(dialled), Some(ended), Some(server)) = (flow.dialled(), flow.ended, flow.server_addr())
        else {
            return;
        };
        let orig = Tuple {
            from: flow.client(),
            to: dialled,
        };
        let leaves = flow.unanswered_syn() || flow.met_an_answered_entry();
        let room = self.entries.len() < MAX_LEFT;
        let mut left = Left {
            began: flow.began,
            ended,
            server,
        };
        match self.entries.entry(orig.into()) {
            Entry::Occupied(mut entry) => {
                let before = *entry.get();
                let lives = before.ended < flow.began && flow.began < before.ended.plus_ms(ENTRY_LIVES_MS);
                flow.left = (before.server == server && lives).then_some(before);
                if leaves {
                    // The first one of a chain is the one to blame.
                    left.began = flow.left.map_or(left.began, |l| l.began);
                    entry.insert(left);
                } else {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) if leaves && room => drop(entry.insert(left)),
            Entry::Vacant(_) => self.refused += u64::from(leaves),
        }
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        if now < self.look {
            return;
        }
        self.look = now.plus_ms(LOOK_MS);
        self.entries
            .retain(|_, left| now < left.ended.plus_ms(ENTRY_LIVES_MS));
    }
}
