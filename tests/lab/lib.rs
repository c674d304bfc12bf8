//! The lab: a real cluster's network and control plane on one machine, without a cluster.

pub mod api;
pub mod controllers;
