//! Stories: each test tells one, and says which cause it must be.

mod containers;
mod identity;
mod stories;
mod triggers;
mod world;
