//! What Kubernetes says: watches of pods, endpoint slices, services and ReplicaSets become inputs, and the addresses
//! in them become the kernel half's watch set; and what is told there, as Events. Only this folder names kube.

mod beside;
mod connect;
mod endpoints;
mod events;
mod index;
mod logs;
mod owners;
mod pods;
mod reach;
mod review;
mod step;
mod stream;
mod transit;
mod watch;
mod watch_set;

pub use beside::Beside;
pub use connect::{ConnectError, client};
pub use endpoints::{service_state, slice_state};
pub use events::Telling;
pub use kube::Client;
pub use logs::{LogsError, PodLog, logs};
pub use owners::{replica_set_state, workload};
pub use pods::pod_state;
pub use review::{Allowed, Reviewer};
pub use transit::{GONE_MS, NEW_MS, Transit, UNREADY_MS};
pub use watch::{WatchError, Watched, watch};
pub use watch_set::{Change, KernelMaps, RETENTION_MS, WatchSet};
