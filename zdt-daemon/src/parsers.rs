//! What comes from outside, with what reads it and nothing else: the root of the crate that `fuzz/` builds.
//!
//! The daemon has 300 crates; instrumented, they take minutes to build. What is left out here is what speaks to the kernel and
//! to the API server, not what reads what they say.
#![allow(
    dead_code,
    unused_imports,
    reason = "what the daemon uses of these and a fuzz target does not"
)]

mod addrs;
pub mod causes;
pub mod clock;
pub mod correlate;
pub mod input;
pub mod live;
pub mod netfilter;
pub mod record;
pub mod report;
pub mod verdict;

pub mod kernel {
    mod answer;
    pub mod btf;
    mod packet;
    mod resets;
    mod split_btf;
    pub mod table;
    mod translate;

    pub use btf::walk;
    pub use translate::Translator;
}

pub mod cluster {
    mod endpoints;
    mod index;
    mod owners;
    mod pods;

    pub use endpoints::{service_state, slice_state};
    pub use owners::{replica_set_state, workload};
    pub use pods::pod_state;

    use crate::input::{Input, Ktime, PodState, ReplicaSetState, ServiceState, SliceState};
    use index::{Event, Index, Tracked};

    /// All watches of a daemon.
    #[derive(Default)]
    pub struct Watches {
        pods: Index<PodState>,
        slices: Index<SliceState>,
        services: Index<ServiceState>,
        replica_sets: Index<ReplicaSetState>,
    }

    impl Watches {
        /// What follows when one of them says something: `kind` and `event` are letters, and what is no object is skipped.
        pub fn told(&mut self, at: Ktime, kind: u8, event: u8, object: &[u8]) -> Vec<Input> {
            match kind {
                b'p' => one(&mut self.pods, at, event, object),
                b's' => one(&mut self.slices, at, event, object),
                b'v' => one(&mut self.services, at, event, object),
                _ => one(&mut self.replica_sets, at, event, object),
            }
        }
    }

    fn one<S: Tracked>(index: &mut Index<S>, at: Ktime, event: u8, object: &[u8]) -> Vec<Input>
    where
        S::Object: serde::de::DeserializeOwned,
    {
        let mut out = Vec::new();
        let read = || serde_json::from_slice::<S::Object>(object).ok();
        let event = match event {
            b'b' => Some(Event::Init),
            b'l' => read().map(Event::InitApply),
            b'e' => Some(Event::InitDone),
            b'd' => read().map(Event::Delete),
            b'i' => {
                index.interrupted(at, at, &mut out);
                None
            }
            b'g' => {
                index.began(at);
                None
            }
            _ => read().map(Event::Apply),
        };
        if let Some(event) = event {
            index.step(at, event, &mut out);
        }
        index.settle(at, &mut out);
        out
    }
}

pub mod sink {
    pub mod recent;

    pub use crate::verdict::Sink;
}

pub mod serve {
    mod answer;
    mod api;
    mod connection;
    mod limits;
    mod page;
    mod query;
    mod site;
    mod stream;

    pub use api::Told;
    pub use connection::one;
    pub use site::{Aside, Pages, Site, Text};
}
