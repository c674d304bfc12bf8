//! The kernel half from the daemon's side: load, attach, read, translate. Only this module names aya, and raw kernel
//! numbers end at [`translate`].

mod answer;
mod attached;
pub mod btf;
mod cost;
mod drops;
mod load;
mod loss;
mod map;
mod packet;
mod place;
mod refusal;
mod resets;
mod ring;
mod split_btf;
pub mod table;
mod translate;

pub use attached::{Attached, AttachedHook, MissingHook, TransitError};
pub use cost::{Costs, RunTime};
pub use load::{LoadError, Loaded, Options, object};
pub use loss::{LossError, Losses};
pub use map::MapError;
pub use place::cgroup_root;
pub use ring::{EventRing, TakesEvents};
pub use translate::Translator;
