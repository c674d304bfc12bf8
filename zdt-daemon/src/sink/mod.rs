//! Where outputs go: standard output (text or JSON lines), metrics, Events in Kubernetes, and the last ones kept for HTTP.

pub mod events;
mod fan_out;
pub mod metrics;
pub mod recent;
mod stdout;

pub use fan_out::FanOut;
pub use stdout::{Format, Stdout};

pub use crate::verdict::Sink;
