//! The progress of an import on a terminal: events, rate, time left.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use admin_api::format::grouped;
use tokio::time::Instant;

use crate::telemetry;
use event_lanes::stats::Stats;
use event_queues::files::ImportProgress;

/// How often the line is drawn.
const REFRESH: Duration = Duration::from_millis(500);

/// Draws until it is dropped.
pub(super) async fn draw(progress: Arc<ImportProgress>, stats: Arc<Stats>) {
    let started = Instant::now();
    let before = stats.snapshot().received;
    loop {
        tokio::time::sleep(REFRESH).await;
        let events = stats.snapshot().received - before;
        let line = line(&progress, events, started.elapsed());
        telemetry::draw(&line);
    }
}

fn line(progress: &ImportProgress, events: u64, elapsed: Duration) -> String {
    let rate = per_second(events, elapsed);
    let mut line = format!(
        "importing: {} events, {}/s, file {} of {}",
        grouped(events),
        grouped(rate),
        (progress.files_done() + 1).min(progress.files_total()),
        progress.files_total()
    );
    if let Some(total) = progress.bytes_total().filter(|total| *total > 0) {
        let read = progress.bytes_read().min(total);
        let percent = u128::from(read) * 100 / u128::from(total);
        let speed = per_second(read, elapsed).max(1);
        let left = (total - read).div_ceil(speed);
        // Formatting into a String can't fail.
        let _infallible = write!(line, ", {percent} %, {}:{:02} left", left / 60, left % 60);
    }
    line
}

fn per_second(number: u64, elapsed: Duration) -> u64 {
    let milliseconds = elapsed.as_millis().max(1);
    u64::try_from(u128::from(number) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_events_and_rate() {
        let line = line(&ImportProgress::default(), 5_000, Duration::from_secs(2));
        assert_eq!(line, "importing: 5,000 events, 2,500/s, file 0 of 0");
    }
}
