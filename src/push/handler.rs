//! Answers one push: checks its token, reads its body, and appends it to the queue.

#[cfg(fuzzing)]
pub mod fuzzing;
mod subscription;

use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tracing::{error, warn};

use super::body::{self, Pace};
use super::buffer_pool::BodyBuffers;
use super::coding::{self, Coding, Plain};
use super::counters::{Counters, Received};
use super::credentials::Reload;
use super::health::{self, Readiness};
use super::intermediary::Intermediary;
use super::memory::{self, Memory, Share};
use super::offered;
use super::path;
use super::query;
use super::refusal::Refusal;
use super::token::AppGroups;
use braze_events::decode::{self, Damage, Scope};
use event_lanes::clock::Clock;
use event_queues::EventDefaults;
use event_queues::embedded::{AppendError, Pushed};
use http_listener::worker_pool::{WorkError, WorkerPool};
use http_listener::{Admission, Answer, Caller, StartError, hang_up};

/// Bodies up to this size are checked on the connection's task (under 0.1 ms); larger ones on a thread, where they delay no
/// other connection.
const CHECK_INLINE_BYTES_MAX: usize = 256 * 1024;

/// Compressed bodies up to this size are unpacked on the connection's task, up to [`CHECK_INLINE_BYTES_MAX`]: a bomb goes on
/// on a thread.
const UNPACK_INLINE_BYTES_MAX: usize = 32 * 1024;

/// A body up to this size may be a credential check without events, which is answered even while the queue takes nothing: a
/// person waits for it.
const CREDENTIAL_CHECK_BYTES_MAX: usize = 1024;

/// The limits of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes of one body, after decompression.
    pub(super) body_bytes_max: usize,
    /// How long a body may take.
    pub(super) pace: Pace,
    /// Bytes that all bodies together may hold.
    pub(super) memory_bytes_max: usize,
    /// How long a body waits for memory.
    pub(super) memory_wait_max: Duration,
    /// How long a large body waits for a thread.
    pub(super) thread_wait_max: Duration,
}

impl BodyLimits {
    /// A full-sized body needs its bytes up to twice (compressed and not, or with its extract), so eight times the largest
    /// body lets at least four of those in, or 1,600 batches of a typical 80 KB at the default of 16 MiB. The time is what a
    /// full-sized body takes at 2 Mbit/s; Braze's typical batch takes less than a second at any speed. A sender of less than
    /// 64 KiB in 15 s (4 KiB a second) is cut off long before that.
    pub(super) fn new(body_bytes_max: usize) -> Self {
        Self {
            body_bytes_max,
            pace: Pace { time_max: Duration::from_mins(1), stretch_time_max: Duration::from_secs(15) },
            memory_bytes_max: body_bytes_max.saturating_mul(8).max(64 * 1024 * 1024),
            memory_wait_max: Duration::from_secs(2),
            // A memory full of such bodies is checked in less than a second.
            thread_wait_max: Duration::from_secs(10),
        }
    }

    /// The message names the limit that the sender can know: the one after decompression.
    fn too_large(self) -> Refusal {
        Refusal::TooLarge { bytes_max: self.body_bytes_max }
    }
}

/// The state that all requests share.
#[derive(Debug)]
pub(super) struct PushHandler {
    limits: BodyLimits,
    reload: Reload,
    memory: Memory,
    buffers: BodyBuffers,
    /// The threads that unpack and check large bodies.
    pool: WorkerPool,
    readiness: Readiness,
    counters: Arc<Counters>,
    no_defaults: Arc<EventDefaults>,
    clock: Clock,
}

/// The facts about a request before its body is read.
struct Admitted {
    /// The number of the sender, where there are several.
    sender: Option<usize>,
    scope: RequestScope,
    /// `None`: the request validly has no body.
    coding: Option<Coding>,
    /// Whether more than a credential check is taken; how large a body in chunks is, shows as it comes.
    accepts: Result<(), Refusal>,
}

/// The app groups that a request may speak for.
#[derive(Debug, Clone)]
struct RequestScope {
    /// `None`: every app group; events are not examined.
    app_groups: Option<AppGroups>,
    /// Facts for events that do not state them.
    defaults: Arc<EventDefaults>,
}

/// A body that has been read and checked.
struct Checked {
    events: u32,
    damage: Option<Damage>,
    extract: Vec<u8>,
    /// Bytes left out behind a gzip.
    bytes_left_out: usize,
}

/// The threads for large bodies: as many as cores, because hundreds would take time from the threads that serve others.
pub(super) fn start_pool(limits: BodyLimits) -> Result<WorkerPool, StartError> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    WorkerPool::start("push-body", threads, limits.thread_wait_max)
}

impl PushHandler {
    pub(super) fn new(
        limits: BodyLimits,
        reload: Reload,
        counters: Arc<Counters>,
        pool: WorkerPool,
        readiness: Readiness,
    ) -> Self {
        Self {
            limits,
            reload,
            memory: Memory::new(limits.memory_bytes_max, limits.memory_wait_max),
            buffers: BodyBuffers::default(),
            pool,
            readiness,
            counters,
            no_defaults: Arc::default(),
            clock: Clock::system(),
        }
    }

    /// Answers a request. `append` makes a frame durable, and keeps its share of memory until then; `accepts` tells
    /// whether that can succeed.
    pub(super) async fn answer<A, F>(
        &self,
        request: Request<Incoming>,
        caller: Caller,
        accepts: Result<(), Refusal>,
        append: A,
    ) -> Answer
    where
        A: FnOnce(Pushed, Share) -> F,
        F: Future<Output = Result<(), AppendError>>,
    {
        if let Some(answer) = health::answer(&request, &self.readiness).or_else(|| path::probe(&request)) {
            return answer;
        }
        let intermediary = Intermediary::of(request.headers());
        let (mut unread, body) = (true, self.counters.body());
        let received = self.receive(request, &caller, accepts, append, &body, &mut unread).await;
        let now = self.clock.unix_seconds().saturating_mul(1000);
        match received {
            Ok(events) => {
                self.counters.book_answer(StatusCode::OK);
                intermediary.accepted(events, now)
            }
            Err(refusal) => {
                let answer = intermediary.refused(&refusal, now);
                self.counters.book_answer(answer.status());
                let hidden = self.counters.book_refusal(refusal.reason(), refusal.is_grave(), body.bytes());
                if let Some(hidden) = hidden {
                    log(&refusal, answer.status(), &caller, hidden);
                }
                if unread { hang_up(answer) } else { answer }
            }
        }
    }

    /// Handles a push from its header to its place in the queue. `unread` is cleared once the connection can go on after a
    /// refusal; strangers never get there, so that they can't hold a connection open.
    async fn receive<A, F>(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
        accepts: Result<(), Refusal>,
        append: A,
        received: &Received<'_>,
        unread: &mut bool,
    ) -> Result<u32, Refusal>
    where
        A: FnOnce(Pushed, Share) -> F,
        F: Future<Output = Result<(), AppendError>>,
    {
        let (head, body) = request.into_parts();
        let intermediary = Intermediary::of(&head.headers);
        let limits = self.limits.of(&intermediary);
        let Admitted { sender, scope, coding, accepts } =
            self.admit(&head, &body, limits, caller.admission, accepts)?;
        if !caller.vouch(sender) {
            return Err(Refusal::Crowded);
        }
        let Some(coding) = coding else { return Ok(0) };
        let mut share = self.memory.share(sender);
        let (wire_bytes_max, beyond) = match accepts {
            Ok(()) => (coding.wire_bytes_max(limits.body_bytes_max), limits.too_large()),
            Err(refusal) => (CREDENTIAL_CHECK_BYTES_MAX, refusal),
        };
        let read = body::read(body, wire_bytes_max, limits.pace, &mut share, &self.buffers, received);
        let read = tokio::select! {
            biased;
            read = read => read,
            () = caller.displaced() => Err(Refusal::Crowded),
        };
        let wire = match read {
            Err(Refusal::TooLarge { .. }) => return Err(beyond),
            read => read?,
        };
        *unread = false;
        caller.keep();
        if let Intermediary::Sns { subscription: Some(subscription) } = intermediary {
            return self.log_subscription(subscription, limits, coding, wire, share, caller);
        }

        let (Checked { events, damage, extract, bytes_left_out }, share) =
            self.understand(coding, wire, share, &scope).await?;
        if bytes_left_out > 0 {
            self.log_left_out(bytes_left_out, caller);
        }
        if let Some(damage) = damage {
            self.log_damage(damage, caller);
        }
        if events == 0 {
            return Ok(0);
        }
        let pushed = Pushed { events, defaults: scope.defaults, body: extract.into(), is_extract: true };
        append(pushed, share).await.map_err(Refusal::Append)?;
        Ok(events)
    }

    /// Checks everything that does not need the body, cheapest first.
    fn admit(
        &self,
        head: &Parts,
        body: &Incoming,
        limits: BodyLimits,
        admission: Admission,
        accepts: Result<(), Refusal>,
    ) -> Result<Admitted, Refusal> {
        if !path::is_for_push(head.uri.path()) {
            return Err(Refusal::NotFound);
        }
        if head.method != Method::POST {
            return Err(Refusal::NotPost);
        }
        if admission == Admission::Stopping {
            return Err(Refusal::Stopping);
        }
        let (sender, scope) = self.authorize(head)?;
        if body.is_end_stream() {
            return Ok(Admitted { sender, scope, coding: None, accepts });
        }
        let coding = Coding::of(&head.headers)?;
        if body.size_hint().lower() > coding.wire_bytes_max(limits.body_bytes_max) as u64 {
            return Err(limits.too_large());
        }
        match accepts {
            Err(refusal) if body.size_hint().lower() > CREDENTIAL_CHECK_BYTES_MAX as u64 => Err(refusal),
            accepts => Ok(Admitted { sender, scope, coding: Some(coding), accepts }),
        }
    }

    /// The number of the sender, and the app groups that the request may speak for.
    fn authorize(&self, head: &Parts) -> Result<(Option<usize>, RequestScope), Refusal> {
        let credentials = self.reload.current();
        let query = head.uri.query();
        let Some(tokens) = &credentials.tokens else {
            offered::ensure_no_page(head)?;
            return Ok((None, RequestScope { app_groups: None, defaults: self.defaults(query) }));
        };
        let (sender, app_groups) = offered::find_token(tokens, head)?;
        let defaults = match &app_groups {
            None => self.defaults(query),
            Some(app_groups) => Arc::new(query::read_within(query.unwrap_or_default(), app_groups)?),
        };
        Ok(((tokens.len() > 1).then_some(sender), RequestScope { app_groups, defaults }))
    }

    /// Decompresses and checks a body. Returns the share, to be held for as long as the body.
    async fn understand(
        &self,
        coding: Coding,
        mut wire: Vec<u8>,
        mut share: Share,
        scope: &RequestScope,
    ) -> Result<(Checked, Share), Refusal> {
        let bytes_max = self.limits.body_bytes_max;
        let reader = Reader { scope: scope.clone(), kept: self.buffers.clone() };
        share.grow(wire.len() + coding.guess(wire.len(), bytes_max)).await?;
        let is_coded = coding != Coding::Identity;
        if wire.len() <= if is_coded { UNPACK_INLINE_BYTES_MAX } else { CHECK_INLINE_BYTES_MAX } {
            match reader.read(coding, &mut wire, bytes_max.min(CHECK_INLINE_BYTES_MAX), &mut share) {
                Err(Refusal::TooLarge { .. }) => {}
                read => return Ok((read?, share)),
            }
        }
        let work = move || (reader.read(coding, &mut wire, bytes_max, &mut share), share);
        match self.pool.run(work).await {
            Ok((checked, share)) => Ok((checked?, share)),
            Err(WorkError::Busy) => Err(Refusal::Busy),
            Err(WorkError::Panicked) => {
                error!("checking a body ended in a panic");
                Err(Refusal::Inside)
            }
        }
    }

    fn defaults(&self, query: Option<&str>) -> Arc<EventDefaults> {
        query.map_or_else(|| Arc::clone(&self.no_defaults), |query| Arc::new(query::read(query)))
    }

    /// Logs once in a while: the same sender will do it again and again.
    fn log_left_out(&self, bytes: usize, caller: &Caller) {
        if let Some(hidden) = self.counters.left_out_log.pass() {
            let peer = caller.peer;
            warn!(%peer, bytes, hidden, "bytes that are no gzip follow the gzip of a push; they are left out, as gunzip does");
        }
    }

    /// As [`log`], for a body that is accepted.
    fn log_damage(&self, damage: Damage, caller: &Caller) {
        let Some(hidden) = self.counters.damage_log.pass() else { return };
        let (Damage { first, skipped }, peer) = (damage, caller.peer);
        error!(
            %peer,
            stretches = skipped.stretches,
            bytes = skipped.bytes,
            hidden,
            "a push holds bytes that can't be read as JSON: the events in them are lost, those around them are taken; \
             the first: {first}"
        );
    }
}

/// Logs a refusal. Neither path nor query nor body: they may hold anything.
fn log(refusal: &Refusal, status: StatusCode, caller: &Caller, hidden: u64) {
    let (status, peer) = (status.as_u16(), caller.peer);
    if refusal.is_grave() {
        error!(status, %peer, hidden, "refused a push: {refusal}");
    } else {
        warn!(status, %peer, hidden, "refused a push: {refusal}");
    }
}

/// Decodes and checks the body of one request.
struct Reader {
    scope: RequestScope,
    kept: BodyBuffers,
}

impl Reader {
    /// Unpacks a body, up to `bytes_max`, and checks it; a larger `wire` is left unchanged.
    fn read(
        &self,
        coding: Coding,
        wire: &mut Vec<u8>,
        bytes_max: usize,
        share: &mut Share,
    ) -> Result<Checked, Refusal> {
        let Plain { body, bytes_left_out } = coding::undo(coding, wire, bytes_max, share)?;
        self.kept.keep(mem::take(wire));
        let both = memory::with_extract(body.len());
        share.try_grow(both)?;
        let mut extract = Vec::with_capacity(both - body.len());
        let RequestScope { app_groups, defaults } = &self.scope;
        let may_be_silent = defaults.app_group_id.is_some();
        let scope = app_groups.as_ref().map(|app_groups| Scope { app_groups, may_be_silent });
        let checked = decode::extract(&body, &mut extract, scope);
        share.try_grow(body.len() + extract.len())?;
        self.kept.keep(body);
        let found = checked.map_err(|error| Refusal::NotAnEnvelope(error.to_string()))?;
        extract.shrink_to_fit();
        Ok(Checked { events: found.elements, damage: found.damage, extract, bytes_left_out })
    }
}
