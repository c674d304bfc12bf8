//! The lab: a real cluster's network and control plane on one machine, without a cluster.

pub mod advice;
pub mod api;
pub mod app;
pub mod client;
pub mod clock;
pub mod controllers;
pub mod cut;
pub mod demo;
pub mod e2e;
pub mod jobs;
pub mod net;
pub mod node;
pub mod run;
pub mod scan;
pub mod scenario;
pub mod score;
pub mod soak;
pub mod suite;
pub mod times;
pub mod truth;
pub mod world;
