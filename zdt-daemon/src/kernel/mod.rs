//! The kernel half from the daemon's side: load, attach, read, translate. Only this module names aya, and raw kernel
//! numbers end at [`translate`].

pub mod btf;
mod cost;
mod drops;
mod load;
mod loss;
mod packet;
mod ring;
pub mod table;
mod translate;

pub use cost::{Costs, RunTime};
pub use load::{Attached, AttachedHook, LoadError, Loaded, MapError, MissingHook, Options};
pub use loss::{LossError, Losses};
pub use ring::EventRing;
pub use translate::Translator;
