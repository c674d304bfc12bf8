//! All maps, and nothing else. Names and types are the daemon's `kernel::load` contract.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use zdt_common::{Addr, Endpoint, HOOK_COUNT, LastAnswer, PORT_WORDS, Service};

use crate::{
    hooks::{net_dev_queue::Queued, percpu_free_percpu::Replaced},
    queue::{Known, Place},
    rate::{Datagrams, Window},
};

/// Events to the daemon. 1 MiB unless the daemon sets another size at load.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What an address is: `zdt_common::ADDR_*` bits.
#[map]
pub static ADDRS: HashMap<Addr, u32> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Addresses and ports that serve.
#[map]
pub static ENDPOINTS: HashMap<Endpoint, u32> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// The ports of `ENDPOINTS`, a bit each: that a client's port is none is told without a look into the large table, whose entries
/// for ports that never come again no cache holds. A bit stays when its last endpoint goes.
#[map]
pub static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// Addresses and ports of services, and node ports.
#[map]
pub static SERVICES: HashMap<Service, u32> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Addresses of endpoints and pods that are going or coming, and of pods that may be the next: `zdt_common::IN_TRANSIT` or
/// `BESIDE`.
#[map]
pub static TRANSIT: HashMap<Addr, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Pods' listeners.
#[map]
pub static LISTENERS: HashMap<Place, Known> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// The SYN that `net_dev_queue` reported last on each CPU.
#[map]
pub static QUEUED: PerCpuArray<Queued> = PerCpuArray::with_max_entries(1, 0);

/// The packet that was answered last with a RST on each CPU, where `kfree_skb` gives no reasons.
#[map]
pub static ANSWERED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Reports of packets, by hook.
#[map]
pub static WINDOWS: PerCpuArray<Window> = PerCpuArray::with_max_entries(HOOK_COUNT as u32, 0);

/// When a flow of datagrams was reported last.
#[map]
pub static DATAGRAMS: LruHashMap<Datagrams, u64> = LruHashMap::with_max_entries(4096, 0);

/// The last answer of each connection of a pod that is going or may be the next, by its socket's cookie. The least recently
/// used one goes when it is full: of that connection nobody learns whether its answer was whole. (4.5 MB.)
#[map]
pub static ANSWERS: LruHashMap<u64, LastAnswer> = LruHashMap::with_max_entries(4096, 0);

/// Events that found no room in `EVENTS`, or were too many, by hook.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOK_COUNT as u32, 0);

/// Events written to `EVENTS`, by hook.
#[map]
pub static EMITTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOK_COUNT as u32, 0);

/// The table replacement that was reported last on each CPU.
#[map]
pub static REPLACED: PerCpuArray<Replaced> = PerCpuArray::with_max_entries(1, 0);
