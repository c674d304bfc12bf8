//! zdt, the zero-downtime tracker. `ARCHITECTURE.md` has the picture; each module says its one job.
//!
//! One direction, one type per arrow: `kernel`, `netfilter` and `cluster` make [`input::Input`]s, `record` keeps them,
//! `correlate` (pure) turns them into [`verdict::Output`]s, `sink` delivers those.

mod addrs;
pub mod app;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod correlate;
pub mod input;
pub mod kernel;
pub mod live;
mod memory;
pub mod netfilter;
pub mod pipe;
pub mod record;
pub mod report;
pub mod serve;
pub mod sink;
pub mod verdict;
