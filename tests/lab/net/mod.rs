//! The lab's network: namespaces, a bridge per node, veth pairs, addresses, and their removal.
//!
//! ```text
//!  outside ── lan (router and switch) ── eth0 node n1 cni0 ── eth0 pod
//! 198.51.100.0/24   10.99.0.0/24                  10.244.1.0/24
//! ```
//!
//! The addresses are those of slot 0; worlds that run side by side have others ([`Addresses`]).
//!
//! A node's pods hang on a real bridge, as with the bridge CNI plugin that `real-cluster` was measured with: a dead pod's
//! address stays on-link, so a SYN to it gets silence (its neighbour entry stays valid for seconds) and EHOSTUNREACH at
//! the earliest 3 s later. Replies between two pods of one bridge reach conntrack through br_netfilter, which is
//! switched on inside the node's namespace only.

mod addresses;
mod ip;
mod ipam;
mod lan;
mod netns;
mod node;
mod run;
mod slot;
mod sweep;

pub use addresses::{Addresses, NODES, SLOTS, Subnet};
pub use ip::{NetError, ip_batch};
pub use ipam::{Ipam, PodIps, Reuse};
pub use lan::Lan;
pub use netns::{Netns, enter_on_exec, in_netns, sysctls};
pub use node::{NodeNet, PodNet};
pub use run::{Run, RunError, STATE_DIR, require_root};
pub use slot::{Slot, fitting};
pub(crate) use sweep::remove_cgroup;
pub use sweep::{Swept, clean};
