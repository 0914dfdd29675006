//! Reads Datadog's query language as far as this repository uses it.

/// `sum:braze.messaging.sent{campaign_id:*} by {campaign_id}.as_count()`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    /// `sum`
    pub(crate) space: String,
    /// `braze.messaging.sent`
    pub(crate) metric: String,
    /// `campaign_id:*`, `$env`
    pub(crate) scope: Vec<String>,
    /// `campaign_id`
    pub(crate) by: Vec<String>,
    /// Whether it ends in `.as_count()`.
    pub(crate) is_count: bool,
}

/// `change(sum(last_1h),last_1d):SERIES > 5000`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    /// `change`, `pct_change`, or nothing.
    pub(crate) change: String,
    /// `sum`
    pub(crate) time: String,
    /// `last_1h`
    pub(crate) window: String,
    /// `last_1d`; empty where nothing is compared with.
    pub(crate) before: String,
    pub(crate) series: Series,
    /// What is added to it.
    pub(crate) added: Vec<Series>,
    pub(crate) operator: String,
    pub(crate) threshold: f64,
}

impl Series {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (space, rest) = text.split_once(':')?;
        let (metric, rest) = rest.split_once('{')?;
        let (scope, rest) = rest.split_once('}')?;
        let (by, rest) = match rest.strip_prefix(" by {") {
            Some(rest) => rest.split_once('}')?,
            None => ("", rest),
        };
        let is_count = match rest {
            "" => false,
            ".as_count()" => true,
            _ => return None,
        };
        let list = |text: &str| text.split(',').filter(|part| !part.is_empty()).map(Into::into).collect();
        Some(Self { space: space.into(), metric: metric.into(), scope: list(scope), by: list(by), is_count })
    }
}

impl Alert {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (left, threshold) = text.rsplit_once(' ')?;
        let (left, operator) = left.rsplit_once(' ')?;
        let (head, series) = left.split_once("):")?;
        let (change, time, window, before) = match head.split_once('(')? {
            (change @ ("change" | "pct_change"), rest) => {
                let (time, rest) = rest.split_once('(')?;
                let (window, before) = rest.split_once("),")?;
                (change, time, window, before)
            }
            (time, window) => ("", time, window, ""),
        };
        let mut summands = series.split(" + ").map(Series::parse);
        Some(Self {
            change: change.into(),
            time: time.into(),
            window: window.into(),
            before: before.into(),
            series: summands.next()??,
            added: summands.collect::<Option<_>>()?,
            operator: operator.into(),
            threshold: threshold.parse().ok()?,
        })
    }
}

#[test]
fn queries_are_read() {
    let alert =
        Alert::parse("change(sum(last_1h),last_1d):sum:m.n{a:x:y,$b} by {c,d}.as_count() > 5000").unwrap();
    let Alert { change, time, window, before, series, added, operator, threshold } = alert;
    assert_eq!(added, []);
    assert_eq!(
        [&*change, &*time, &*window, &*before, &*operator],
        ["change", "sum", "last_1h", "last_1d", ">"]
    );
    assert!((threshold - 5000.0).abs() < f64::EPSILON);
    assert_eq!((&*series.space, &*series.metric, series.is_count), ("sum", "m.n", true));
    assert_eq!((series.scope, series.by), (vec!["a:x:y".into(), "$b".into()], vec!["c".into(), "d".into()]));
    let alert = Alert::parse("sum(last_1w):sum:m{*} < 1").unwrap();
    assert_eq!((&*alert.change, &*alert.before, alert.series.is_count), ("", "", false));
    let alert = Alert::parse("min(last_5m):max:m{*} + max:n{*} > 0").unwrap();
    assert_eq!((&*alert.series.metric, &*alert.added[0].metric, alert.added.len()), ("m", "n", 1));
    for bad in [
        "",
        "min(last_5m):max:m{*} + n > 0",
        "sum(last_1w):sum:m{*}",
        "sum(last_1w):sum:m < 1",
        "sum(last_1w):sum:m{*}.fill(0) < 1",
    ] {
        assert_eq!(Alert::parse(bad), None, "{bad}");
    }
}
