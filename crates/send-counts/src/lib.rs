//! Counts Braze's sends by tag set: a [router](route::Router) finds a send's connection, a [memory of ids](dedup::Dedup)
//! whether it is new, and an [aggregator](aggregate::Aggregator) counts it in its series and time bucket, until a cut takes
//! all counts out to merge them with those of other aggregators.
//!
//! All of it is pure: time is an argument, and there are neither threads nor sockets.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use braze_events::{FIELDS, Field, SendEvent};
//! use send_counts::aggregate::tags::{self, Layout, Names, Tag};
//! use send_counts::aggregate::{Aggregator, Late, AggregateSettings, Timestamp};
//! use send_counts::route::ConnectionId;
//!
//! let tags = tags::TagSettings { include: vec![Tag::Field(Field::CampaignId)], static_tags: vec![], names: Names::Latest };
//! let settings = AggregateSettings {
//!     timestamp: Timestamp::Event,
//!     late: Late::Drop,
//!     flush_interval: Duration::from_secs(10),
//!     flush_timeout: Duration::from_secs(5),
//!     series_max: 1000,
//!     series_max_total: 1000,
//! };
//! let mut counts = Aggregator::new(Arc::new(Layout::new(&tags)), &settings, foldhash::fast::RandomState::default());
//! let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
//! fields[Field::CampaignId as usize] = b"c1";
//! let send = SendEvent { event_type: 0, id: b"1", time: Some(1_800_000_000), fields };
//! counts.record(ConnectionId(0), &send, "email", 1_800_000_000, 1_800_000_000);
//! assert_eq!((counts.len(), counts.series(0).sends()), (1, 1));
//! ```

pub mod aggregate;
pub mod dedup;
pub mod route;
pub mod shared_dedup;
#[cfg(feature = "testing")]
pub mod testing;

use std::hash::{BuildHasher, Hasher};

/// The hash of `bytes` alone; [`BuildHasher::hash_one`] adds their length.
#[inline]
fn hash(hasher: &impl BuildHasher, bytes: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
