//! The control plane's controllers: each follows the store and writes back to it, in the order and with the delays of a
//! real cluster.

mod daemonset;
mod deployment;
pub mod endpointslice;
mod job;
mod names;
mod namespace;
pub mod objects;
pub mod operations;
pub mod pods;
mod queue;
mod replicaset;
mod rolling;
mod scheduler;
mod statefulset;
pub mod timings;
mod trigger;

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::api::Store;
pub use namespace::run as end_namespaces;
pub use objects::{bare_pod, daemon_set, deployment, job, pod_template, service, stateful_set};
pub use operations::{
    annotate_template, delete_deployment, delete_pod, drain, evict, preempt, scale, set_schedulable,
    switch_selector, told_rescale,
};
pub use timings::{Delay, Timings};

/// What makes one control plane differ from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Changes all random delays and names.
    pub seed: u64,
    pub timings: Timings,
    /// The names of the nodes that get pods, in turn.
    pub nodes: Vec<String>,
}

impl Settings {
    pub fn new(seed: u64, nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        Self {
            seed,
            timings: Timings::default(),
            nodes,
        }
    }

    /// Each controller has its own stream of random numbers, so that one's events do not shift another's delays.
    fn rng(&self, controller: &str) -> fastrand::Rng {
        let mut hasher = DefaultHasher::new();
        (self.seed, controller).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish())
    }
}

/// All controllers; they stop when this future is dropped.
pub async fn run(store: Store, settings: Settings) {
    tokio::join!(
        deployment::run(store.clone(), settings.clone()),
        replicaset::run(store.clone(), settings.clone()),
        statefulset::run(store.clone(), settings.clone()),
        daemonset::run(store.clone(), settings.clone()),
        job::run(store.clone(), settings.clone()),
        namespace::run(store.clone()),
        endpointslice::run(store.clone(), settings.clone()),
        scheduler::run(store, settings),
    );
}

#[cfg(test)]
mod tests;
