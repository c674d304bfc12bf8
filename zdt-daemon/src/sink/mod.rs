//! Where outputs go: standard output (text or JSON lines), metrics, Events in Kubernetes, a collector (OTLP), and the last
//! ones kept for HTTP. None of those of a running daemon waits for whoever reads.

pub mod events;
mod fan_out;
pub mod metrics;
pub mod otlp;
pub mod queued;
pub mod recent;
mod stdout;

pub use fan_out::FanOut;
pub use stdout::{Format, Stdout};

pub use crate::verdict::Sink;
