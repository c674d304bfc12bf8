//! Stories: each test tells one, and says which cause it must be.

mod amplifiers;
mod answers;
mod bounds;
mod containers;
mod data_plane;
mod faults;
mod hooks;
mod identity;
mod losses;
mod node_rules;
mod ownership;
mod packets;
mod propagation;
mod reuse;
mod routes;
mod silence;
mod stories;
mod switches;
mod triggers;
mod turned_away;
mod under_way;
mod waits;
mod world;
