//! The lab's Kubernetes API: a typed store for the lab's own tasks, and list and watch over HTTP for the daemon.

mod deletion;
mod entry;
pub mod events;
pub mod fault;
mod feed;
mod kinds;
mod kubeconfig;
pub mod operate;
mod pod_log;
mod request;
pub mod server;
mod status;
pub mod store;
mod watch;
mod write;

pub use kubeconfig::{kubeconfig, operator_kubeconfig};
pub use server::{ApiServer, serve, serve_operator};
pub use store::{Change, Object, Store, StoreError, Watch, begin_deletion};
