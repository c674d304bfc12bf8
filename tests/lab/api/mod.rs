//! The lab's Kubernetes API: typed store.

mod entry;
pub mod store;

pub use store::{Change, Object, Store, StoreError, Watch, begin_deletion};
