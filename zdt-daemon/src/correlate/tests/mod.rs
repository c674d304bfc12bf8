//! Stories: each test tells one, and says which cause it must be.

mod amplifiers;
mod containers;
mod data_plane;
mod identity;
mod losses;
mod node_rules;
mod packets;
mod propagation;
mod routes;
mod silence;
mod stories;
mod switches;
mod triggers;
mod turned_away;
mod world;
