use super::super::tests::{LEAST, assert_one, errors, parse, warnings};
use super::super::{Config, Purpose, changes_needing_restart};
use super::*;

#[test]
fn a_total_of_series_that_is_too_small_for_one_connection_is_told() {
    let of =
        |total: usize| format!("lanes = 4\n[flush]\nmax_series = 1000\nmax_series_total = {total}\n{LEAST}");
    assert_one(&errors(&of(999)), &["flush.max_series_total", "999", "flush.max_series, 1000", "raise it"]);
    assert_one(&warnings(&of(1000)), &["flush.max_series_total", "is 250 for each of the 4 lanes"]);
    assert_eq!(warnings(&of(4000)), Vec::<String>::new());
}

#[test]
fn there_are_no_more_lanes_by_default_than_can_hold_the_series_of_a_connection() {
    let lanes = |cores, total| lanes_by_default(NonZeroUsize::new(cores).unwrap(), total, 100_000).get();
    // A container of 1 GiB on a machine with 64 cores.
    assert_eq!(lanes(64, (1 << 30) / 2048), 5);
    assert_eq!((lanes(2, 12_000_000), lanes(400, usize::MAX), lanes(8, 100_000)), (2, 256, 1));
    let of = |lanes: usize| {
        format!("lanes = {lanes}\n[flush]\nmax_series = 1000\nmax_series_total = 1999\n{LEAST}")
    };
    assert_eq!((parse(&of(0)).lanes.get(), warnings(&of(0))), (1, Vec::new()));
    assert_one(&warnings(&of(2)), &["flush.max_series_total", "is 999 for each of the 2 lanes"]);
    // The default total is held to the same.
    let of = |lanes: usize| format!("lanes = {lanes}\n[flush]\nmax_series = 10_000_000\n{LEAST}");
    assert_eq!(warnings(&of(0)), Vec::<String>::new());
    assert_one(&warnings(&of(256)), &["lanes: 256 lanes have room for", "set flush.max_series_total"]);
}

#[test]
fn where_nobody_says_how_many_series_there_may_be_it_is_what_fits_and_enough_for_one_connection() {
    let total = |text: &str| parse(&format!("{text}{LEAST}")).aggregate.series_max_total;
    assert!(total("[flush]\nmax_series = 10_000_000\n") >= 10_000_000);
    let fitting = usize::try_from(memory::available() / 2048).unwrap();
    assert_eq!(total("[flush]\nmax_series = 1\n"), fitting);
    assert_eq!(total("[flush]\nmax_series_total = 0\n"), fitting.max(100_000));
    assert_eq!(total("[flush]\nmax_series_total = 123_456\n"), 123_456);
}

#[test]
fn a_machine_that_becomes_another_one_is_no_change_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, LEAST).unwrap();
    let machine = Machine { cores: NonZeroUsize::new(3).unwrap(), memory: 64 << 30 };
    let purpose = Purpose { machine, ..Purpose::default() };
    let (started, _) = Config::parse_over(LEAST, &path, &[], purpose).unwrap();
    assert_eq!((started.lanes.get(), started.aggregate.series_max_total), (3, (64 << 30) / 2048));
    for again in [started.load_over(&path, &[]), started.load_named_over(&path, &[])] {
        let (again, _) = again.unwrap();
        assert_eq!(changes_needing_restart(&started, &again), Vec::<String>::new());
        assert!(again == started);
    }
}
