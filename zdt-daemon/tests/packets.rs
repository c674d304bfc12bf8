//! What becomes of packets that have no socket on this node, and what pods answer, on the running kernel: real namespaces,
//! rules and packets.
//! Needs root, and fails without.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "packets/answers.rs"]
mod answers;
#[path = "packets/drops.rs"]
mod drops;
#[path = "packets/eyes.rs"]
mod eyes;
#[path = "packets/forwards.rs"]
mod forwards;
#[path = "packets/quiet.rs"]
mod quiet;
#[path = "packets/world.rs"]
mod world;
