//! Stories: each test tells one, and says which cause it must be.

mod identity;
mod stories;
mod world;
