//! The threads of the log.

use std::io;
use std::thread::{self, JoinHandle};

/// The writer and the reader. Dropping the last handle waits for them, so that the log is whole and unlocked afterwards.
#[derive(Debug, Default)]
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts one more.
    pub(crate) fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        #[cfg(test)]
        fault::start()?;
        self.0.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the queue has panicked");
            }
        }
    }
}

/// A system that has threads left for as many as a test says.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// What may still be started from this thread.
        pub(crate) static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(super) fn start() -> io::Result<()> {
        let left = LEFT.get().checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        LEFT.set(left);
        Ok(())
    }
}
