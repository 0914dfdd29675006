use super::*;

const TODAY: u32 = 20_541;

#[test]
fn a_clock_that_has_leapt_ahead_is_believed_when_it_has_kept_its_time_for_a_day() {
    let (noon, hour) = (u64::from(TODAY) * 86_400 + 43_200, Duration::from_hours(1));
    let begin = Instant::now();
    let mut believed = BelievedDay::read(TODAY, None, noon, begin);
    let mut after = |hours: u32, days_ahead: u64| {
        let now = noon + u64::from(hours) * 3_600 + days_ahead * 86_400;
        believed.heed(now, begin + hours * hour) - TODAY
    };
    assert_eq!((after(0, 0), after(13, 0)), (0, 1));
    // It is ahead for two hours, and for others by more.
    assert_eq!((after(14, 45), after(16, 45), after(17, 730), after(18, 0)), (1, 1, 1, 1));
    // It has stood still for two months.
    assert_eq!((after(20, 60), after(43, 60), after(44, 60)), (1, 1, 62));
    // It was ahead by all that.
    assert_eq!((after(45, 0), after(46, 60), after(69, 60), after(70, 60)), (2, 2, 2, 63));
}

#[test]
fn a_clock_that_went_on_for_a_day_over_restarts_is_believed_where_it_had_leapt_to() {
    let (leap, at) = (u64::from(TODAY + 7) * 86_400 + 300, Instant::now());
    let day = |leap_time, now| {
        let mut believed = BelievedDay::read(TODAY, leap_time, now, at);
        (believed.heed(now, at) - TODAY, believed.leap_time())
    };
    assert_eq!(day(None, leap), (0, Some(leap)));
    // Midnight is no day later.
    assert_eq!(day(Some(leap), leap + 86_399), (0, Some(leap)));
    assert_eq!(day(Some(leap), leap + 86_400), (8, None));
    assert_eq!(day(Some(leap), leap + 14 * 86_400), (7, Some(leap + 14 * 86_400)));
    // It was ahead, and is not any more.
    assert_eq!(day(Some(leap), u64::from(TODAY) * 86_400), (0, None));
    // A restart within that day does not begin it anew.
    let mut believed = BelievedDay::read(TODAY, Some(leap), leap + 23 * 3_600, at);
    let mut at_hour =
        |hour: u64| believed.heed(leap + hour * 3_600, at + Duration::from_hours(hour - 23)) - TODAY;
    assert_eq!((at_hour(23), at_hour(24)), (0, 8));
    let mut believed = BelievedDay::read(TODAY, Some(leap), leap + 3_600, at);
    assert_eq!(believed.heed(leap + 86_400, at) - TODAY, 0, "it leaps again");
}

#[test]
fn a_send_is_ten_minutes_ahead_at_most_by_a_clock_that_may_be_right() {
    let believed = BelievedDay { day: TODAY, leap: None };
    let (midnight, day) = (u64::from(TODAY) * 86_400, 86_400);
    assert_eq!(believed.latest_send(midnight), Some(midnight + 600));
    assert_eq!(believed.latest_send(midnight + 300 * day), Some(midnight + 300 * day + 600));
    assert_eq!(believed.latest_send(midnight - 1), Some(midnight + day));
    assert_eq!(believed.latest_send(60), None);
}

#[test]
fn since_is_corrected_only_where_sends_show_that_the_clock_is_right() {
    let (now, day) = (u64::from(TODAY) * 86_400 + 9, Some(TODAY));
    let (ahead, unset) = (now + 730 * 86_400, CLOCK_SET - 1);
    for (since, first_day, expected) in [
        (now - 5, day, now - 5),
        (ahead, day, now),
        // Of the same day it may be the clock.
        (now + 3_600, day, now + 3_600),
        (ahead, Some(TODAY + 1), ahead),
        (ahead, None, ahead),
        (unset, None, now),
    ] {
        assert_eq!(plausible_since(since, first_day, now), expected);
        assert_eq!(plausible_since(since, first_day, unset), since);
    }
}

#[test]
fn a_clock_that_is_not_set_changes_nothing() {
    let mut believed = BelievedDay::read(TODAY, None, 0, Instant::now());
    assert_eq!(believed.heed(1_600_000_000, Instant::now()), TODAY);
    assert_eq!(believed.heed(u64::from(TODAY + 1) * 86_400, Instant::now()), TODAY + 1);
}

#[test]
fn the_next_day_is_believed_at_once_and_none_beyond_it() {
    let day_at = |day, now| BelievedDay::read(day, None, now, Instant::now()).day_at(now);
    let (day, noon) = (20_000, 20_000 * u64::from(DAY) + 43_200);
    let days = |days: u64| days * u64::from(DAY);
    for (now, expected) in
        [(noon, day), (noon + days(1), day + 1), (noon + days(400), day + 1), (noon - days(2), day)]
    {
        assert_eq!(day_at(day, now), expected);
    }
    assert_eq!(day_at(0, noon), day);
}
