//! Counts the entries of conntrack that lead to given addresses, by a dump that the kernel filters.
//!
//! `CTA_FILTER` (Linux 5.8, `ctnetlink_alloc_filter` and `ctnetlink_filter_match` in
//! net/netfilter/nf_conntrack_netlink.c) makes the kernel compare one address while it walks the table, so what is copied
//! out is what was asked for. Not every kernel does so: one that does not know the attribute sends everything, and 6.18
//! sends of IPv6 what does *not* match. So answers are compared, and a family whose filter does not work has all addresses
//! share one dump that is compared here, up to a bound. So they do where that is cheaper.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::ControlFlow,
    time::Duration,
};

use super::{
    asker::{Asker, Ended},
    conntrack::Error,
    counters,
    entry::{self, Entry, GET, TCP_ESTABLISHED, TCP_SYN_SENT, TUPLE_IP, TUPLE_REPLY, V4_SRC, V6_SRC},
    netlink::{NLM_F_DUMP, nest, put},
};
use crate::input::{Pinned, Protocol};

/// `CTA_FILTER`, `CTA_FILTER_REPLY_FLAGS`, and `CTA_FILTER_F_CTA_IP_SRC` of net/netfilter/nf_internals.h.
const FILTER: u16 = 25;
const REPLY_FLAGS: u16 = 2;
const COMPARE_SOURCE: u32 = 1;

/// How long the kernel may take for one part: it walks the whole table for a part with few matches.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most entries that one dump reads where the kernel does not filter: kube-proxy's default table on 8 cores
/// (`--conntrack-max-per-core` 32768), about 50 MB of messages.
pub const MOST_UNFILTERED: usize = 262_144;

/// What a dump costs, in ns of one CPU (docs/conntrack.md): the kernel's walk through its hash table of 262,144 buckets,
/// an entry that it compares on the way, an entry that it sends and that is compared here.
const WALK_NS: u64 = 8_000_000;
const COMPARED_NS: u64 = 400;
const SENT_NS: u64 = 2_900;

/// What is known of the kernel's filter for one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Filter {
    #[default]
    Unproven,
    /// An answer had matching entries and no others.
    Works,
    /// An answer had others.
    Useless,
}

impl Filter {
    /// Whether a dump for each of so many addresses is cheaper than one of all entries.
    fn pays(self, addresses: usize, entries: u64) -> bool {
        let dumps = u64::try_from(addresses).unwrap_or(u64::MAX);
        let dumps = match self {
            Self::Useless => return false,
            Self::Works => dumps,
            // The first may need another one for its proof.
            Self::Unproven => dumps.saturating_add(1),
        };
        let each = WALK_NS.saturating_add(entries.saturating_mul(COMPARED_NS));
        let all = WALK_NS.saturating_add(entries.saturating_mul(SENT_NS));
        dumps.saturating_mul(each) <= all
    }
}

/// Counts entries by the address that replies come from.
#[derive(Debug)]
pub struct Counter {
    v4: Filter,
    v6: Filter,
    most: usize,
    cut: u64,
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            v4: Filter::Unproven,
            v6: Filter::Unproven,
            most: MOST_UNFILTERED,
            cut: 0,
        }
    }
}

impl Counter {
    /// Does not ask the kernel to filter.
    pub fn unfiltered() -> Self {
        Self {
            v4: Filter::Useless,
            v6: Filter::Useless,
            ..Self::default()
        }
    }

    /// Entries of the calling thread's network namespace whose replies come from each of `servers`: the pods that
    /// connections were translated to, or that were dialled. Takes as long as the kernel's walk through the table; keep it
    /// off threads that must not wait.
    pub fn pinned(&mut self, servers: &[IpAddr]) -> Result<Vec<Pinned>, Error> {
        let entries = counters::entries()?;
        if entries == 0 {
            return Ok(servers.iter().map(|ip| none(*ip)).collect());
        }
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = servers.iter().partition(|ip| ip.is_ipv4());
        let mut pinned = Vec::new();
        for (family, filter) in [(v4, self.v4), (v6, self.v6)] {
            if family.is_empty() {
                continue;
            }
            let filtered = if filter.pays(family.len(), entries) {
                self.filtered(&family)?
            } else {
                None
            };
            pinned.extend(match filtered {
                Some(counts) => counts,
                None => self.shared(&family)?,
            });
        }
        Ok(pinned)
    }

    /// Dumps that were cut at their bound since the last call: their counts are too low.
    pub fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    /// A dump for each, of one family. None: the kernel sends what was not asked for.
    fn filtered(&mut self, servers: &[IpAddr]) -> Result<Option<Vec<Pinned>>, Error> {
        let mut counts = Vec::new();
        for server in servers {
            let filter = match server {
                IpAddr::V4(_) => &mut self.v4,
                IpAddr::V6(_) => &mut self.v6,
            };
            if *filter == Filter::Useless {
                return Ok(None);
            }
            let mut pinned = none(*server);
            match only(*server, |entry| count(&mut pinned, entry))? {
                (false, _) => *filter = Filter::Useless,
                (true, 1..) => *filter = Filter::Works,
                // Nothing matches, or the kernel sends what does not match and that is nothing: no entry matches an
                // unspecified address, so whatever comes for it was not filtered.
                (true, 0) if *filter == Filter::Unproven => {
                    let nobody = match server {
                        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                    };
                    if !only(nobody, |_| {})?.0 {
                        *filter = Filter::Useless;
                    }
                }
                (true, 0) => {}
            }
            if *filter == Filter::Useless {
                return Ok(None);
            }
            counts.push(pinned);
        }
        Ok(Some(counts))
    }

    /// One dump for all, of one family.
    fn shared(&mut self, servers: &[IpAddr]) -> Result<Vec<Pinned>, Error> {
        let Some(family) = servers.first().map(|ip| entry::family(*ip)) else {
            return Ok(Vec::new());
        };
        let mut counts: BTreeMap<IpAddr, Pinned> = servers.iter().map(|ip| (*ip, none(*ip))).collect();
        let mut read = 0;
        let ended = dump(family, &[], |entry| {
            read += 1;
            if read > self.most {
                return ControlFlow::Break(());
            }
            if let Some(pinned) = counts.get_mut(&entry.reply.from.ip()) {
                count(pinned, &entry);
            }
            ControlFlow::Continue(())
        })?;
        self.cut += u64::from(ended == Ended::Broken);
        Ok(counts.into_values().collect())
    }
}

/// A dump of what leads to `server`: whether nothing else came, and how many entries.
fn only(server: IpAddr, mut each: impl FnMut(&Entry)) -> Result<(bool, usize), Error> {
    let mut attributes = Vec::new();
    nest(&mut attributes, TUPLE_REPLY, |tuple| {
        nest(tuple, TUPLE_IP, |ip| entry::put_ip(ip, server, V4_SRC, V6_SRC));
    });
    nest(&mut attributes, FILTER, |filter| {
        put(filter, REPLY_FLAGS, &COMPARE_SOURCE.to_ne_bytes());
    });
    let mut came = 0;
    let ended = dump(entry::family(server), &attributes, |entry| {
        if entry.reply.from.ip() != server {
            return ControlFlow::Break(());
        }
        came += 1;
        each(&entry);
        ControlFlow::Continue(())
    })?;
    Ok((ended != Ended::Broken, came))
}

/// One dump through a socket of its own: closing it ends a dump that is not read to its end.
fn dump(
    family: u8,
    attributes: &[u8],
    mut each: impl FnMut(Entry) -> ControlFlow<()>,
) -> Result<Ended, Error> {
    let mut malformed = None;
    let ended = Asker::open(PATIENCE)?.ask(GET, NLM_F_DUMP, family, attributes, |datagram| {
        for entry in entry::entries(datagram) {
            match entry {
                Ok(entry) => each(entry)?,
                Err(why) => {
                    malformed = Some(why);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    match malformed {
        Some(why) => Err(Error::Answer(why.to_string())),
        None => Ok(ended),
    }
}

fn none(server: IpAddr) -> Pinned {
    Pinned {
        server,
        established: 0,
        unanswered: 0,
        udp: 0,
    }
}

fn count(pinned: &mut Pinned, entry: &Entry) {
    match (Protocol::from_number(entry.protocol), entry.tcp_state) {
        (Some(Protocol::Tcp), Some(TCP_ESTABLISHED)) => pinned.established += 1,
        (Some(Protocol::Tcp), Some(TCP_SYN_SENT)) if !entry.replied => pinned.unanswered += 1,
        (Some(Protocol::Udp), _) => pinned.udp += 1,
        _ => {}
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
