//! What tests start ends with the test process, whatever way that ends: `kill -9` of it alone leaves nothing.

use crate::hostile::Crowd;
use crate::support::children;
use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use crate::top::Terminal;

/// Not a test by itself: the process that is killed, with a forwarder, one behind a shell, a terminal and a crowd.
#[tokio::test]
async fn the_process_that_is_killed() {
    if !children::is_to_be_killed() {
        return;
    }
    let intake = Intake::start();
    let configuration = || Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let forwarder = configuration().start().await;
    let _wrapped = configuration().files_max(200).start().await;
    let terminal = Terminal::start(&format!("--url {}", forwarder.admin_url("")), &[]);
    terminal.shows("acme").await;
    let address = forwarder.push_url("").trim_start_matches("http://").parse().unwrap();
    let _crowd = Crowd::gather(address, 3, 3, 3);
    children::wait_for_the_kill();
}

#[test]
fn nothing_that_a_test_process_has_started_outlives_it() {
    let test = "leftovers::the_process_that_is_killed";
    children::assert_none_is_left(test, &["braze-datadog", "script", "python3"]);
}
