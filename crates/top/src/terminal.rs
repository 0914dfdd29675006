//! The terminal, and the loop: keys, answers, the clock.

use std::env;
use std::fs;
use std::future::poll_fn;
use std::io::{self, IsTerminal as _};
use std::process;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use admin_api::{Client, ClientError, SearchAnswer, Status};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal::disable_raw_mode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::draw::{Paint, draw};
use crate::state::{KeyEffect, SearchTurns, TopState};
use crate::time_zone;

/// How often to poll, and the longest interval while there is no answer.
const POLL: Duration = Duration::from_secs(2);
const POLL_FAILED_MAX: Duration = Duration::from_secs(15);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// How often to draw if nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// Events of the terminal that may wait.
const EVENTS_MAX: usize = 64;

/// How long to wait after a signal for a terminal that accepts no output.
const RESTORE_LIMIT: Duration = Duration::from_secs(2);

/// The result of a request.
enum Answered {
    Status(Box<Result<Status, String>>),
    Search(String, Result<SearchAnswer, String>),
}

/// Why it could not run.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// There is no terminal.
    #[error("top needs a terminal; for programs there are /status and /metrics on the admin port")]
    NoTerminal,
    /// The URL is invalid.
    #[error("--url {0}")]
    Url(#[from] ClientError),
    /// The terminal failed.
    #[error("the terminal failed: {0}")]
    Terminal(#[from] io::Error),
}

/// Shows the forwarder whose admin port is at `url`, until a key or a signal ends it.
///
/// The runtime needs a worker thread beside the one that calls this: it handles signals.
///
/// # Errors
/// When there is no terminal, or it fails, or `url` is invalid. A terminal that goes away is no error.
pub async fn run(url: &str) -> Result<(), TopError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let client = Client::new(url, TIMEOUT)?;
    let has_colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut guards = JoinSet::new();
    let signalled = Arc::new(Notify::new());
    guards.spawn(guard(Ends::new()?, Arc::clone(&signalled)));
    // It also restores the terminal when something panics.
    let mut terminal = ratatui::try_init().inspect_err(|_error| {
        let _gone = ratatui::try_restore();
    })?;
    let ended = tokio::select! {
        ended = look(&mut terminal, &client, TopState::new(url), Paint { has_colours }) => ended,
        () = signalled.notified() => Ok(()),
    };
    let is_gone = terminal.show_cursor().and_then(|()| ratatui::try_restore()).is_err();
    if is_gone {
        // Its destructor would complain, on a standard error that is gone as well, and panic.
        std::mem::forget(terminal);
        return Ok(());
    }
    ended.map_err(TopError::Terminal)
}

/// The signals that end it.
struct Ends(Vec<Signal>);

impl Ends {
    fn new() -> io::Result<Self> {
        let kinds =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        kinds.into_iter().map(signal).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        poll_fn(|context| {
            let has_come = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if has_come { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Handles signals on another thread than the one that draws: a terminal that accepts no output blocks that one. After a
/// while, or with a second signal, the process ends all the same; leaving raw mode does not wait for the terminal.
async fn guard(mut ends: Ends, signalled: Arc<Notify>) {
    ends.next().await;
    signalled.notify_one();
    tokio::select! {
        () = tokio::time::sleep(RESTORE_LIMIT) => {}
        () = ends.next() => {}
    }
    let _gone = disable_raw_mode();
    process::exit(1);
}

async fn look(
    terminal: &mut DefaultTerminal,
    client: &Client,
    mut state: TopState,
    paint: Paint,
) -> io::Result<()> {
    let mut events = read_events()?;
    let mut requests: JoinSet<Answered> = JoinSet::new();
    let mut turns = SearchTurns::default();
    let time_zone = time_zone_of_machine();
    let mut ticks = tokio::time::interval(TICK);
    let (mut next_poll, mut pause) = (Instant::now(), POLL);
    let (mut answered_at, mut is_asking) = (Instant::now(), false);
    loop {
        if !is_asking && Instant::now() >= next_poll {
            let client = client.clone();
            requests.spawn(async move {
                Answered::Status(Box::new(client.status().await.map_err(|error| error.to_string())))
            });
            is_asking = true;
        }
        state.age = answered_at.elapsed();
        terminal.draw(|frame| draw(frame, &state, paint))?;
        let query = tokio::select! {
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match state.press(key) {
                    KeyEffect::Draw => None,
                    KeyEffect::Quit => return Ok(()),
                    KeyEffect::Search(query) => turns.want(&query),
                },
                Some(Ok(_other)) => None,
                Some(Err(error)) => return Err(error),
                // The terminal is gone.
                None => return Ok(()),
            },
            Some(joined) = requests.join_next() => match joined {
                Ok(Answered::Status(answer)) => {
                    is_asking = false;
                    pause = if answer.is_ok() { POLL } else { (pause * 2).min(POLL_FAILED_MAX) };
                    next_poll = Instant::now() + pause;
                    if answer.is_ok() {
                        answered_at = Instant::now();
                    }
                    state.answered(*answer);
                    state.search_in_sight().and_then(|query| turns.want(query))
                }
                Ok(Answered::Search(query, answer)) => {
                    state.searched(&query, answer);
                    turns.end()
                }
                Err(error) => return Err(io::Error::other(error)),
            },
            _ = ticks.tick() => None,
        };
        if let Some(query) = query {
            requests.spawn(search(client.clone(), query, time_zone.clone()));
        }
    }
}

fn time_zone_of_machine() -> Option<Arc<str>> {
    let local = fs::read_link("/etc/localtime").ok();
    time_zone::name_of(env::var("TZ").ok().as_deref(), local.as_deref()).map(Into::into)
}

async fn search(client: Client, query: String, time_zone: Option<Arc<str>>) -> Answered {
    let mut answer = client.search(&query, time_zone.as_deref()).await;
    // Rules of this machine, or a time zone that is newer than the forwarder.
    if time_zone.is_some()
        && answer.as_ref().is_err_and(|error| error.to_string().contains("not a time zone"))
    {
        answer = client.search(&query, None).await;
    }
    Answered::Search(query, answer.map_err(|error| error.to_string()))
}

/// Reads the terminal's events on a thread of its own, which ends with the process.
fn read_events() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let read = move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("terminal".into()).spawn(read)?;
    Ok(events)
}
