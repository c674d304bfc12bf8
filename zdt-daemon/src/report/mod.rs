//! Outputs as text for people: one line a verdict, one block a rollout.

mod escape;
mod explain;
mod html;
mod lane;
mod markdown;
mod not_seen;
mod patch;
mod propagation;
mod rollout;
mod screen;
mod story;
mod style;
mod svg;
mod switch;
mod timeline;
mod verdict;

pub use escape::escape;
pub use explain::explanation;
pub use html::html;
pub use lane::{Failure, Lane, Mark, Step};
pub use markdown::markdown;
pub use not_seen::not_seen_line;
pub use patch::{patch, patch_command};
pub use propagation::{propagation_advice, propagation_table, stopped_before_rules};
pub use rollout::rollout_block;
pub use screen::screen;
pub use story::{Report, Story, Wanted};
pub use style::Style;
pub use switch::switch_line;
pub use timeline::timeline;
pub use verdict::verdict_line;
