//! The system's figures on this process: its time, memory and file descriptors.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use procfs::process::{LimitValue, Process};

/// Figures on the process. Reading them from `/proc` costs some microseconds, and a little more for each open file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// User and system time since the start.
    pub cpu: Duration,
    /// Memory that is in use.
    pub resident_bytes: u64,
    /// Memory that is addressed.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// How many it may have open; `None`: no limit.
    pub open_files_max: Option<u64>,
    /// Threads.
    pub threads: u64,
}

impl ProcessUsage {
    /// The present figures; `None` where `/proc` is missing or hidden.
    pub fn read() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let open_files_max = match process.limits().ok()?.max_open_files.soft_limit {
            LimitValue::Value(files) => Some(files),
            LimitValue::Unlimited => None,
        };
        let ticks = stat.utime.saturating_add(stat.stime);
        Some(Self {
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / procfs::ticks_per_second().max(1)),
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            open_files: process.fd_count().ok()? as u64,
            open_files_max,
            threads: u64::try_from(stat.num_threads).unwrap_or_default(),
        })
    }
}

/// The time that this thread has run so far: none of it passes while it waits for a core.
pub(super) fn thread_time() -> Duration {
    // It fails for an unknown `who` alone.
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Duration::ZERO };
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_takes_no_time() {
        let begun = thread_time();
        std::thread::sleep(Duration::from_millis(60));
        assert!(thread_time() < begun + Duration::from_millis(40));
        while thread_time() < begun + Duration::from_millis(60) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_the_process_does_shows() {
        let before = ProcessUsage::read().unwrap();
        assert!(before.threads > 0 && before.open_files > 0, "{before:?}");
        assert!(
            before.resident_bytes > 1 << 20 && before.virtual_bytes > before.resident_bytes,
            "{before:?}"
        );
        assert!(before.open_files_max.is_none_or(|most| most > before.open_files), "{before:?}");
        // Others open and close files at the same time; so many do not.
        let files: Vec<_> = (0..200).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let memory = vec![1u8; 64 << 20];
        // Not for a time that passes: on a busy machine this thread may get none of it.
        let until = thread_time() + Duration::from_millis(60);
        while thread_time() < until {
            std::hint::spin_loop();
        }
        let after = ProcessUsage::read().unwrap();
        assert!(after.open_files > before.open_files + 100, "{before:?}, {after:?}");
        assert!(after.resident_bytes > before.resident_bytes + (32 << 20), "{before:?}, {after:?}");
        assert!(after.cpu > before.cpu, "{before:?}, {after:?}");
        drop((files, std::hint::black_box(memory)));
    }
}
