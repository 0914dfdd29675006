//! Asks Braze: a few requests at a time, with limited patience.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use admin_api::HistoryKind;
use braze_rest::{
    BrazeClient, CAMPAIGN_DAYS_MAX, CANVAS_DAYS_MAX, CanvasSeries, Endpoint, ListedObject, RestError,
};
use tokio::task::JoinSet;

use super::OBJECTS_MAX;
use crate::app::Failure;
use crate::reconcile::{BrazeAnswer, BrazeSeries, DayRange, DayRequest};

/// Requests under way.
const REQUESTS_MAX: usize = 4;

/// How long one request may wait in all, for rate limits and for Braze to recover.
const WAIT_MAX: Duration = Duration::from_mins(2);

/// How long to wait for a rate limit where Braze states no time.
const LIMIT_WAIT: Duration = Duration::from_secs(10);

/// How often a request is tried that Braze fails, or does not answer.
const TRIES_MAX: u32 = 3;

/// After this many failures in a row, an endpoint is not asked any more.
const FAILURES_MAX: u32 = 5;

/// After this time no request is made any more.
const ALL_MAX: Duration = Duration::from_mins(30);

/// A campaign or Canvas to ask about.
#[derive(Debug, Clone)]
pub(crate) struct AskedObject {
    pub(crate) kind: HistoryKind,
    pub(crate) id: String,
    pub(crate) name: String,
}

impl AskedObject {
    fn endpoint(&self) -> Endpoint {
        match self.kind {
            HistoryKind::Campaign => Endpoint::CampaignSeries,
            HistoryKind::Canvas | HistoryKind::Step => Endpoint::CanvasSeries,
        }
    }
}

/// Braze's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The answer for each object, in the order of the objects.
    pub(crate) all: Vec<BrazeAnswer>,
    /// Why not all of them were asked about.
    pub(crate) broken_off: Option<String>,
}

/// The id of no campaign and no Canvas.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Reports that something takes long.
pub(crate) type Note = fn(&str);

/// Every campaign and Canvas that Braze lists.
pub(crate) async fn list(client: &BrazeClient, note: Note) -> Result<Vec<AskedObject>, Failure> {
    let mut all = Vec::new();
    for kind in [HistoryKind::Campaign, HistoryKind::Canvas] {
        let endpoint = match kind {
            HistoryKind::Campaign => Endpoint::CampaignList,
            HistoryKind::Canvas | HistoryKind::Step => Endpoint::CanvasList,
        };
        let mut seen = BTreeSet::new();
        for page in 0.. {
            let listed = patiently(note, || async move {
                match kind {
                    HistoryKind::Campaign => client.campaigns(page).await,
                    HistoryKind::Canvas | HistoryKind::Step => client.canvases(page).await,
                }
            })
            .await
            .map_err(Failure::failed)?;
            if listed.is_empty() {
                break;
            }
            let before = seen.len();
            for ListedObject { id, name } in listed {
                if seen.insert(id.clone()) {
                    all.push(AskedObject { kind, id, name });
                }
            }
            if seen.len() == before {
                let path = endpoint.path();
                return Err(Failure::failed(format!("Braze's lists ({path}) do not end: a page came twice")));
            }
            if all.len() > OBJECTS_MAX {
                return Ok(all);
            }
        }
    }
    Ok(all)
}

/// Whether Braze takes the key, where there is nothing to ask about. With one of both permissions it is a key.
///
/// That there is no such campaign is said of a key that was taken. In which words is not published, so any message with a
/// 400 or 404 counts, although another API in Braze's place might answer so, too. An answer that is not whole says nothing.
pub(crate) async fn try_key(client: &BrazeClient, range: &DayRange, note: Note) -> Result<(), Failure> {
    let mut refused = None;
    for kind in [HistoryKind::Campaign, HistoryKind::Canvas] {
        let object = AskedObject { kind, id: NOBODY.to_owned(), name: String::new() };
        match ask(client, range, &object, note).await {
            Ok(_) | Err(RestError::Unknown { .. }) => return Ok(()),
            Err(error @ RestError::Refused { .. }) => {
                refused.get_or_insert(error);
            }
            Err(error) => return Err(Failure::failed(error)),
        }
    }
    refused.map_or(Ok(()), |error| Err(Failure::failed(error)))
}

/// Braze's answer for each object, in their order.
pub(crate) async fn series(
    client: &BrazeClient,
    range: &DayRange,
    asked: Vec<AskedObject>,
    note: Note,
) -> Result<Answers, Failure> {
    let started = Instant::now();
    let mut waiting: VecDeque<(usize, AskedObject)> = asked.into_iter().enumerate().collect();
    let mut answers = BTreeMap::new();
    let (mut endpoints, mut broken_off) = (ClosedEndpoints::default(), None);
    let mut unanswered = None;
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < REQUESTS_MAX
            && let Some((number, object)) = waiting.pop_front()
        {
            let closed = endpoints.closed(object.endpoint());
            let refused = if object.id.is_empty() {
                Some("its events have no id, which Braze could be asked for".to_owned())
            } else if started.elapsed() > ALL_MAX {
                let reason = format!("not asked: {} minutes are over", ALL_MAX.as_secs() / 60);
                broken_off = Some(reason.clone());
                Some(reason)
            } else {
                closed.map(|reason| format!("not asked, since an earlier answer was: {reason}"))
            };
            if let Some(reason) = refused {
                answers.insert(number, answer(object, Err(reason)));
                continue;
            }
            let (client, range) = (client.clone(), range.clone());
            asking.spawn(async move { (number, ask(&client, &range, &object, note).await, object) });
        }
        let Some(joined) = asking.join_next().await else { break };
        let (number, said, object) = joined.map_err(Failure::failed)?;
        endpoints.note(object.endpoint(), said.as_ref().err());
        if let Err(error) = &said {
            unanswered.get_or_insert_with(|| error.to_string());
        }
        answers.insert(number, answer(object, said.map_err(|error| error.to_string())));
    }
    // There may be too few of them to give an endpoint up for, and a key of another workspace is no reason to: it knows none.
    let unanswered = unanswered.filter(|_| answers.values().all(|answer| answer.said.is_err()));
    let of_none = |error| {
        let all = answers.len();
        format!(
            "none of {all} campaigns and Canvases could be compared; the first that Braze was asked about: {error}"
        )
    };
    let broken_off = endpoints.closed.into_values().next().or(broken_off).or(unanswered.map(of_none));
    Ok(Answers { all: answers.into_values().collect(), broken_off })
}

fn answer(object: AskedObject, said: Result<BrazeSeries, String>) -> BrazeAnswer {
    BrazeAnswer { kind: object.kind, id: object.id, name: object.name, said }
}

/// Endpoints that are not asked any more: one that has refused the key would refuse it each time.
#[derive(Debug, Default)]
struct ClosedEndpoints {
    closed: BTreeMap<Endpoint, String>,
    failures: BTreeMap<Endpoint, u32>,
}

impl ClosedEndpoints {
    fn closed(&self, endpoint: Endpoint) -> Option<&String> {
        self.closed.get(&endpoint)
    }

    fn note(&mut self, endpoint: Endpoint, error: Option<&RestError>) {
        let failures = self.failures.entry(endpoint).or_insert(0);
        let is_final = match error {
            Some(RestError::Refused { .. } | RestError::RateLimited { .. } | RestError::Foreign { .. }) => {
                true
            }
            Some(RestError::Failed { .. } | RestError::Unreachable { .. }) => {
                *failures += 1;
                *failures >= FAILURES_MAX
            }
            Some(RestError::Unknown { .. } | RestError::Incomplete { .. }) | None => {
                *failures = 0;
                false
            }
        };
        if let (true, Some(error)) = (is_final, error) {
            self.closed.entry(endpoint).or_insert_with(|| error.to_string());
        }
    }
}

/// All days of one object, in as many requests as needed.
async fn ask(
    client: &BrazeClient,
    range: &DayRange,
    object: &AskedObject,
    note: Note,
) -> Result<BrazeSeries, RestError> {
    let id = &*object.id;
    if object.kind == HistoryKind::Campaign {
        let mut all = Vec::new();
        for request in range.requests(CAMPAIGN_DAYS_MAX) {
            let DayRequest { ending_at, days, .. } = &request;
            let came = patiently(note, || client.campaign_series(id, ending_at, *days)).await?;
            all.extend(came.into_iter().filter(|day| request.has(day.day)));
        }
        return Ok(BrazeSeries::Campaign(all));
    }
    let mut all = CanvasSeries { name: String::new(), days: Vec::new() };
    for request in range.requests(CANVAS_DAYS_MAX) {
        let DayRequest { ending_at, days, .. } = &request;
        let came = patiently(note, || client.canvas_series(id, ending_at, *days)).await?;
        if all.name.is_empty() {
            all.name = came.name;
        }
        all.days.extend(came.days.into_iter().filter(|day| request.has(day.day)));
    }
    Ok(BrazeSeries::Canvas(all))
}

/// Repeats a request that may succeed later, within limits.
async fn patiently<T, F>(note: Note, ask: impl Fn() -> F) -> Result<T, RestError>
where
    F: Future<Output = Result<T, RestError>>,
{
    let (mut tries, mut waited) = (0, Duration::ZERO);
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let wait = match &error {
            RestError::RateLimited { opens_in, .. } => {
                opens_in.unwrap_or(LIMIT_WAIT).max(Duration::from_secs(1))
            }
            RestError::Failed { .. } | RestError::Unreachable { .. } if tries + 1 < TRIES_MAX => {
                tries += 1;
                Duration::from_secs(1 << (tries - 1))
            }
            _ => return Err(error),
        };
        if waited + wait > WAIT_MAX {
            return Err(error);
        }
        if let RestError::RateLimited { endpoint, .. } = error {
            let (path, seconds) = (endpoint.path(), wait.as_secs());
            note(&format!("Braze's rate limit for {path} is reached; waiting {seconds} s"));
        }
        tokio::time::sleep(wait).await;
        waited += wait;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What comes of a request that fails in these ways, one after the other, and how many times it was made.
    async fn asked(fails: &[RestError]) -> (Result<(), RestError>, usize) {
        let made = RefCell::new(0);
        let ask = || async {
            let number = made.replace_with(|made| *made + 1);
            fails.get(number).cloned().map_or(Ok(()), Err)
        };
        (patiently(|_| {}, ask).await, made.take())
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_takes_no_try_from_what_may_fail_three_times() {
        let endpoint = Endpoint::CampaignSeries;
        let limited = RestError::RateLimited { endpoint, opens_in: Some(Duration::from_secs(1)) };
        let failed = RestError::Failed { endpoint, status: 500 };
        let all = [&limited, &failed, &limited, &limited, &failed].map(Clone::clone);
        assert_eq!(asked(&all).await, (Ok(()), 6));
        let last = [&all[..], std::slice::from_ref(&failed)].concat();
        assert_eq!(asked(&last).await, (Err(failed), 6));
        assert_eq!(asked(&vec![limited.clone(); 200]).await, (Err(limited), 121));
    }
}
