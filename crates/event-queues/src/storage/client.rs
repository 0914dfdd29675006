//! Reads buckets.
//!
//! A task lists objects (`poller`), or is notified of new ones (`notifications`), and compares them with the state of
//! settled objects (`bucket_state`). A thread reads the new ones (`reader`), through `content` like any file, while the next are
//! on their way (`download`). Another thread writes settled objects to the state, one commit a settlement. `bucket`
//! connects to a store; `layout` reads paths.
//!
//! An object is known by its path and its version (the store's `ETag`). An object that is overwritten is compared with its
//! earlier content by a hash: the same bytes are passed, appended bytes are read on, anything else is counted as a new
//! object.

mod bucket;
mod bucket_state;
mod download;
mod health;
mod layout;
mod notifications;
mod pending;
mod poller;
mod queue;
mod reader;
mod stored;

pub use self::bucket::StorageSetupError;
pub use self::bucket_state::StateError;
pub use self::health::{StorageCounts, StorageWatch};
pub use self::queue::{StorageOpenError, StorageQueue, check, open};

#[cfg(test)]
mod tests;
