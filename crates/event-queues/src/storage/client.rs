//! Reads buckets.
//!
//! A task lists (`poller`), or is told of new objects (`notifications`), and finds what is new, with what is remembered (`memory`) of what is done; a thread reads
//! (`reader`) what it found, through `content` as every file is read, while the next objects are on their way (`download`).
//! What the settled flushes have counted is written down by a thread of its own, in one commit a settlement. `bucket` is
//! the way to a store; `layout` is what paths say.
//!
//! An object is known by its path and its version (the store's `ETag`). One that is written over is compared with what was
//! read of it, by a hash of its bytes: the same bytes are passed, what was appended is read on, anything else is counted as
//! a new object.

mod bucket;
mod download;
mod layout;
mod memory;
mod notifications;
mod pending;
mod poller;
mod queue;
mod reader;
mod watch;

pub use self::bucket::StorageSetupError;
pub use self::memory::MemoryError;
pub use self::queue::{StorageOpenError, StorageQueue, check, open};
pub use self::watch::{StorageCounts, StorageWatch};

#[cfg(test)]
mod tests;
