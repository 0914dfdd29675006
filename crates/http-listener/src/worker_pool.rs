//! Threads for work that would block a thread of the runtime. They are made at the start and do nothing else: work never
//! waits for a look-up of a name or for a file, and never fails for lack of a thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// The system's default is for main programs; the work here needs no deeper stack than a lane.
const STACK_BYTES: usize = 2 * 1024 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Not all threads could be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't start {threads} threads ({name}): {source}; raise the limit of threads (TasksMax= in the unit, pids of the \
     container, ulimit -u) or lower the number of cores that this process may use"
)]
pub struct StartError {
    name: &'static str,
    threads: usize,
    source: io::Error,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkError {
    /// No thread became free in time.
    Busy,
    /// The work panicked.
    Panicked,
}

/// A fixed number of threads.
#[derive(Debug)]
pub struct WorkerPool {
    /// One permit per thread.
    turns: Arc<Semaphore>,
    jobs: SyncSender<Job>,
    wait_max: Duration,
}

impl WorkerPool {
    /// Makes the threads. Work waits at most `wait_max` for one of them.
    ///
    /// # Errors
    /// When they can't all be made.
    pub fn start(name: &'static str, threads: usize, wait_max: Duration) -> Result<Self, StartError> {
        Self::start_with_stacks(name, threads, wait_max, STACK_BYTES)
    }

    fn start_with_stacks(
        name: &'static str,
        threads: usize,
        wait_max: Duration,
        stack_bytes: usize,
    ) -> Result<Self, StartError> {
        let (jobs, handed_in) = sync_channel(threads);
        let handed_in = Arc::new(Mutex::new(handed_in));
        for _ in 0..threads {
            let handed_in = Arc::clone(&handed_in);
            let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes);
            thread.spawn(move || work(&handed_in)).map_err(|source| StartError { name, threads, source })?;
        }
        Ok(Self { turns: Arc::new(Semaphore::new(threads)), jobs, wait_max })
    }

    /// Does `work` on one of the threads. Work that has begun is finished, even if the caller is gone.
    ///
    /// # Errors
    /// When no thread was free in time, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let turn = timeout(self.wait_max, Arc::clone(&self.turns).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(WorkError::Busy) };
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _turn = turn;
            // The thread lives on; the panic's hook has reported it.
            if let Ok(done) = catch_unwind(AssertUnwindSafe(work)) {
                drop(tell.send(done));
            }
        });
        // The holder of a permit finds room.
        self.jobs.try_send(job).map_err(|_full| WorkError::Busy)?;
        told.await.map_err(|_panicked| WorkError::Panicked)
    }
}

/// Works until the pool is gone.
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn work_is_done_on_as_many_threads_as_were_asked_for() {
        let pool = WorkerPool::start("test", 3, LONG).unwrap();
        // Each of the three waits for the other two.
        let together = Arc::new(Barrier::new(3));
        let join = || {
            let together = Arc::clone(&together);
            pool.run(move || {
                together.wait();
                thread::current().name().map(str::to_owned)
            })
        };
        let met = tokio::join!(join(), join(), join());
        assert_eq!(met, (Ok(Some("test".into())), Ok(Some("test".into())), Ok(Some("test".into()))));
    }

    #[tokio::test]
    async fn work_beyond_the_threads_waits_for_a_bounded_time() {
        let pool = WorkerPool::start("test", 1, Duration::from_millis(50)).unwrap();
        let (release, released) = sync_channel::<()>(1);
        let first = pool.run(move || released.recv().is_ok());
        let second = async {
            let told = pool.run(|| ()).await;
            release.send(()).unwrap();
            told
        };
        assert_eq!(tokio::join!(first, second), (Ok(true), Err(WorkError::Busy)));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_work_and_no_thread() {
        let pool = WorkerPool::start("test", 1, LONG).unwrap();
        for _ in 0..3 {
            assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(WorkError::Panicked));
        }
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    #[test]
    fn threads_that_can_not_be_made_are_an_error_at_the_start() {
        // No machine has that much to give to a stack.
        let error = WorkerPool::start_with_stacks("test", 2, LONG, 1 << 60).unwrap_err().to_string();
        assert!(error.starts_with("can't start 2 threads (test): "), "{error}");
        assert!(error.contains("TasksMax=") && error.contains("pids"), "{error}");
    }
}
