//! What unanswered connections leave behind in conntrack: entries that send whoever uses the same ports again to the same
//! pod, whatever the rules say by then.

use std::collections::HashMap;

use super::flow::{Flow, Left};
use crate::input::{Ktime, Tuple};

/// nf_conntrack_tcp_timeout_syn_sent (net/netfilter/nf_conntrack_proto_tcp.c); each retransmitted SYN starts it anew.
const ENTRY_LIVES_MS: u64 = 120_000;

/// Most entries kept: the bound of the flow table.
const MAX_LEFT: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Leftovers {
    entries: HashMap<Tuple, Left>,
    /// What found no room.
    refused: u64,
}

impl Leftovers {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.entries.len(), self.refused)
    }

    /// Tells the flow what it inherited, and remembers what it leaves.
    pub(super) fn pass(&mut self, flow: &mut Flow) {
        let (Some(dialled), Some(ended), Some(server)) = (flow.dialled, flow.ended, flow.server_addr())
        else {
            return;
        };
        let orig = Tuple {
            from: flow.client,
            to: dialled,
        };
        let alive = |l: &&Left| {
            l.server == server && l.ended < flow.began && flow.began < l.ended.plus_ms(ENTRY_LIVES_MS)
        };
        flow.left = self.entries.get(&orig).filter(alive).copied();
        if !flow.unanswered_syn() && !flow.met_an_answered_entry() {
            self.entries.remove(&orig);
        } else if self.entries.len() < MAX_LEFT || self.entries.contains_key(&orig) {
            // The first one of a chain is the one to blame.
            let began = flow.left.map_or(flow.began, |l| l.began);
            self.entries.insert(orig, Left { began, ended, server });
        } else {
            self.refused += 1;
        }
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        self.entries
            .retain(|_, left| now < left.ended.plus_ms(ENTRY_LIVES_MS));
    }
}
