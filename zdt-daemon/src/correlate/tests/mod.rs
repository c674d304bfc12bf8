//! Stories: each test tells one, and says which cause it must be.

mod containers;
mod amplifiers;
mod identity;
mod packets;
mod stories;
mod turned_away;
mod triggers;
mod world;
