//! Outputs as text for people: one line a verdict, one block a rollout.

mod escape;
mod propagation;
mod rollout;
mod style;
mod switch;
mod verdict;

pub use escape::escape;
pub use propagation::{propagation_advice, propagation_table, stopped_before_rules};
pub use rollout::rollout_block;
pub use style::Style;
pub use switch::switch_line;
pub use verdict::verdict_line;
