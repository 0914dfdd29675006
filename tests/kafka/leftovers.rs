//! A broker ends with the test process, whatever way that ends.

use crate::broker::Broker;
use crate::support::children;

/// Not a test by itself: the process that is killed.
#[test]
fn a_broker_runs_until_the_kill() {
    if children::is_to_be_killed() {
        let _broker = Broker::start();
        children::wait_for_the_kill();
    }
}

#[test]
fn a_broker_ends_with_the_test_process() {
    children::assert_none_is_left("leftovers::a_broker_runs_until_the_kill", &["tansu"]);
}
