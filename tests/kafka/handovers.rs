//! Members that come, go, die and stand still under load, whichever broker it is and however partitions are assigned.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::Producer;
use crate::load::{BATCH, Load};
use crate::members::{assert_repeated_within, assert_valid, committed_all, counted_all, share_all, stop};
use crate::support;
use crate::support::braze::assert_each_once;
use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;

/// A group that nobody has joined yet, and its topic.
pub(crate) struct Group<'a> {
    pub(crate) topic: &'static str,
    pub(crate) partitions: i32,
    pub(crate) producer: Producer,
    /// Where its members send to.
    pub(crate) intake: &'a Intake,
    /// A member by its name, which is its key as well.
    pub(crate) member: &'a dyn Fn(&str) -> Configuration,
    pub(crate) committed: &'a dyn Fn() -> BTreeMap<i32, i64>,
}

/// Three forwarders; one stops, one comes. Everything is counted once.
pub(crate) async fn clean(group: Group<'_>) {
    let Group { topic, partitions, producer, intake, member, committed } = group;
    let start = async |name: &str| member(name).start().await;
    let (first, second, third) = tokio::join!(start("first"), start("second"), start("third"));
    share_all(&[&first, &second, &third], partitions).await;
    let load = Load::start(producer, topic);
    load.more(50).await;
    stop(second).await;
    share_all(&[&first, &third], partitions).await;
    load.more(50).await;
    let fourth = start("fourth").await;
    share_all(&[&first, &third, &fourth], partitions).await;
    load.more(50).await;
    let (batches, producer) = load.finish();

    intake.wait_for_sends(batches * BATCH).await;
    committed_all(committed, &producer, topic).await;
    for forwarder in [first, third, fourth] {
        forwarder.books_balance().await;
        stop(forwarder).await;
    }
    assert_each_once(&intake.accepted(), batches);
    assert_eq!(committed(), producer.ends(topic));
    assert_valid(intake);
}

/// Until what is counted last, and may be repeated, is a part of what the second one has counted: six seconds and more, and on a slow
/// machine as many flushes.
async fn count_for_long(load: &Load, intake: &Intake) {
    const BATCHES: u64 = 300;
    const FLUSHES: usize = 6;
    load.more(BATCHES).await;
    support::eventually("the second one has flushed for long", async || {
        let flushes = intake.requests().iter().filter(|request| request.key() == "second").count();
        (flushes >= FLUSHES).then_some(())
    })
    .await;
}

/// One of three is killed. Nothing is lost, and what is repeated are at most its flushes under way.
pub(crate) async fn kill_9(group: Group<'_>) {
    /// Between the flush before the last one and the kill lie less than two intervals of a second.
    const UNDER_WAY: Duration = Duration::from_millis(2_500);
    let Group { topic, partitions, producer, intake, member, committed } = group;
    let start = async |name: &str| member(name).start().await;
    let (first, second, third) = tokio::join!(start("first"), start("second"), start("third"));
    share_all(&[&first, &second, &third], partitions).await;
    let load = Load::start(producer, topic);
    count_for_long(&load, intake).await;
    let killed = Instant::now();
    second.crash().await;
    share_all(&[&first, &third], partitions).await;
    load.more(50).await;
    let (batches, producer) = load.finish();

    counted_all(intake, batches).await;
    committed_all(committed, &producer, topic).await;
    stop(first).await;
    stop(third).await;
    // Its last two flushes, on a slow machine, too.
    let of_second = intake.requests().into_iter().filter(|request| request.key() == "second");
    let last_but_one = of_second.map(|request| request.at).rev().nth(1).unwrap_or(killed);
    let since = last_but_one.min(killed.checked_sub(UNDER_WAY).unwrap_or(killed));
    assert_repeated_within(intake, "second", |at| at >= since);
    assert_valid(intake);
}

/// One of two stands still, heartbeats and all, for as long as the other needs to get its partitions. It repeats at most
/// what it had not committed. Returns its log.
pub(crate) async fn stopped_and_back(group: Group<'_>) -> String {
    /// What was counted within an interval of a second before the silence, or before it was a member again, is in the flush
    /// that follows.
    const AROUND: Duration = Duration::from_secs(3);
    let Group { topic, partitions, producer, intake, member, committed } = group;
    let start = async |name: &str| member(name).start().await;
    let (first, second) = tokio::join!(start("first"), start("second"));
    share_all(&[&first, &second], partitions).await;
    let load = Load::start(producer, topic);
    count_for_long(&load, intake).await;
    let cut_off = Instant::now();
    second.signal("STOP");
    share_all(&[&first], partitions).await;
    load.more(20).await;
    second.signal("CONT");
    // Until the group has told it, it goes on with what it had fetched.
    share_all(&[&first, &second], partitions).await;
    let back = Instant::now();
    load.more(50).await;
    let (batches, producer) = load.finish();

    counted_all(intake, batches).await;
    committed_all(committed, &producer, topic).await;
    let log = second.log();
    stop(first).await;
    stop(second).await;
    assert_repeated_within(intake, "second", |at| at + AROUND > cut_off && at < back + AROUND);
    assert_valid(intake);
    log
}
