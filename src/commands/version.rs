//! The text of `--version`.

use std::sync::LazyLock;

use jiff::Timestamp;

/// The version, the commit and its day, as far as they are known: `0.1.0 (6641b3f0a 2026-11-28)`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (commit, seconds) =
        (option_env!("BRAZE_DATADOG_BUILD_COMMIT"), option_env!("BRAZE_DATADOG_BUILD_SECONDS"));
    wording(env!("CARGO_PKG_VERSION"), commit, seconds)
});

pub(super) fn version() -> &'static str {
    &VERSION
}

/// `seconds` is the time of the commit, or of `SOURCE_DATE_EPOCH`, since 1970; its day is that of UTC.
fn wording(version: &str, commit: Option<&str>, seconds: Option<&str>) -> String {
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
    let day = time.map(|time| time.strftime("%Y-%m-%d").to_string());
    match (commit, day) {
        (Some(commit), Some(day)) => format!("{version} ({commit} {day})"),
        (Some(known), None) => format!("{version} ({known})"),
        (None, Some(known)) => format!("{version} ({known})"),
        (None, None) => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_build_stands_behind_the_version() {
        let of = |commit, seconds| wording("1.2.3", commit, seconds);
        assert_eq!(of(Some("6641b3f0a"), Some("1795867200")), "1.2.3 (6641b3f0a 2026-11-28)");
        assert_eq!(of(Some("6641b3f0a-dirty"), None), "1.2.3 (6641b3f0a-dirty)");
        assert_eq!(of(None, Some("1795910399")), "1.2.3 (2026-11-28)");
        assert_eq!(of(None, Some("1795910400")), "1.2.3 (2026-11-29)");
        assert_eq!(of(None, None), "1.2.3");
    }

    #[test]
    fn the_version_comes_first_however_it_was_built() {
        assert_eq!(version().split(' ').next(), Some(env!("CARGO_PKG_VERSION")));
    }
}
