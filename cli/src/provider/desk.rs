//! Where calls are let in, charged and written down: the one place with the provider's state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use axum::response::Response;
use millhand_common::model::Timestamp;
use serde_json::Value;

use super::dialect::{Problem, limit_headers};
use super::faults::{Endpoint, Fault, Kind};
use super::ledger::{Ended, Entry, Ledger, Totals};
use super::quota::{Ask, Counted, Quota};
use super::settings::Settings;

/// A running provider.
pub(crate) struct Desk {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    quota: Quota,
    ledger: Ledger,
    dice: fastrand::Rng,
}

/// What is known of a call before it is let in.
pub(crate) struct Request<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// What faults look for words in.
    pub(crate) text: &'a str,
    pub(crate) ask: Ask,
    /// Kept only when bodies are.
    pub(crate) messages: &'a Value,
}

impl Desk {
    /// `seed` decides the phase of windows and which calls faults hit.
    pub(crate) fn new(settings: Settings, seed: u64) -> Arc<Self> {
        let mut dice = fastrand::Rng::with_seed(seed);
        let quota = Quota::new(settings.quota, dice.u64(0..60_000_000));
        let state = State { settings, quota, ledger: Ledger::default(), dice };
        Arc::new(Self { started: Instant::now(), state: Mutex::new(state) })
    }

    /// Lets a call in and charges it, or answers why not. It is in the ledger either way.
    pub(crate) fn admit(self: &Arc<Self>, request: &Request<'_>) -> Result<Call, Box<Response>> {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let dice = &mut state.dice;
        let faults = &mut state.settings.faults;
        let fault = Fault::hit(faults, request.endpoint, request.text, || dice.f64());
        let problem = fault.as_ref().and_then(refused_by).or_else(|| {
            let admitted = state.quota.admit(now, request.ask);
            admitted.err().map(Problem::Limited)
        });
        let mut entry = self.entry(request, &state.settings, now);
        entry.fault = fault.as_ref().map(|fault| fault.kind);
        if let Some(problem) = &problem {
            entry.status = problem.status();
            entry.ended = Ended::Refused;
            entry.took_ms = Some(0);
        } else {
            entry.nano_usd = state.settings.prices.nano_usd(entry.input_tokens, 0);
        }
        let status = entry.status;
        let id = state.ledger.add(entry);
        state.ledger.running(state.quota.running());
        let limits = state.quota.shown(now);
        let dialect = state.settings.dialect;
        tracing::info!(call = id, endpoint = ?request.endpoint, status, input_tokens = request.ask.input, "call");
        if let Some(problem) = problem {
            return Err(Box::new(problem.response(dialect, &request.model, &limits)));
        }
        let headers = limit_headers(dialect, &limits, Timestamp::now());
        drop(guard);
        Ok(Call { desk: self.clone(), id, arrived: Instant::now(), fault, headers, ended: None })
    }

    fn entry(&self, request: &Request<'_>, settings: &Settings, now: u64) -> Entry {
        let text =
            |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let credential =
            text(header::AUTHORIZATION.as_str()).or_else(|| text("api-key")).or_else(|| text("x-api-key"));
        Entry {
            id: 0,
            at: Timestamp::now(),
            at_ms: now / 1000,
            caller: credential
                .map_or_else(|| "anonymous".to_owned(), |key| format!("key_{}", digest(key.as_bytes()))),
            endpoint: request.endpoint,
            model: request.model.clone(),
            stream: request.stream,
            body: digest(request.body),
            repeat_of: None,
            traceparent: text("traceparent"),
            input_tokens: request.ask.input,
            max_output_tokens: request.ask.max_output,
            output_tokens: 0,
            status: 200,
            ended: Ended::Running,
            fault: None,
            first_token_ms: None,
            took_ms: None,
            nano_usd: 0,
            messages: settings.keep_bodies.then(|| request.messages.clone()),
        }
    }

    /// As they stand now.
    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Puts `patch` over the settings; calls that run go on under the new ones.
    pub(crate) fn change(&self, patch: &Value) -> Result<Settings, String> {
        let now = self.now();
        let mut state = self.lock();
        let settings = state.settings.patched(patch).map_err(|err| err.to_string())?;
        settings.check()?;
        if settings.quota != state.settings.quota {
            state.quota.change(now, settings.quota);
        }
        state.settings = settings.clone();
        drop(state);
        tracing::info!("settings changed");
        Ok(settings)
    }

    /// Milliseconds since the start, sums, limits, and at most `limit` calls after the one with the id
    /// `after`, all of one moment.
    pub(crate) fn ledger(&self, after: u64, limit: usize) -> (u64, Totals, Vec<Counted>, Vec<Entry>) {
        let now = self.now();
        let mut state = self.lock();
        let counted = state.quota.counted(now);
        (now / 1000, state.ledger.totals(), counted, state.ledger.after(after, limit))
    }

    /// Microseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Faults that refuse a call before it costs anything.
fn refused_by(fault: &Fault) -> Option<Problem> {
    let retry_after = fault.retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match fault.kind {
        Kind::RateLimited => Some(Problem::Storm { retry_after }),
        Kind::InsufficientQuota => Some(Problem::NoCredit),
        Kind::Error => Some(Problem::Failed { status: fault.status.unwrap_or(500), retry_after }),
        _ => None,
    }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// A call that was let in. Dropped before [`Call::end`], the caller has left.
pub(crate) struct Call {
    desk: Arc<Desk>,
    id: u64,
    arrived: Instant,
    fault: Option<Fault>,
    headers: HeaderMap,
    ended: Option<Ended>,
}

impl Call {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    pub(crate) fn is_hit_by(&self, kind: Kind) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.kind == kind)
    }

    /// What the limits were when it was let in.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// How long the first token takes now.
    pub(crate) fn until_first(&self, input_tokens: u64) -> Duration {
        let mut state = self.desk.lock();
        let (running, dice) = (state.quota.running(), state.dice.f64());
        state.settings.physics.until_first(input_tokens, running, dice)
    }

    /// How long the next token takes now, when they come `gap` apart; by default as the settings say.
    pub(crate) fn until_next(&self, gap: Option<Duration>) -> Duration {
        let mut state = self.desk.lock();
        let (running, dice) = (state.quota.running(), state.dice.f64());
        let physics = &state.settings.physics;
        physics.until_next(gap.unwrap_or(physics.per_token), running, dice)
    }

    /// It has written tokens: they are charged and billed.
    pub(crate) fn wrote(&self, tokens: u64) {
        let now = self.desk.now();
        let mut state = self.desk.lock();
        state.quota.wrote(now, tokens);
        let prices = state.settings.prices;
        let first_token_ms = self.elapsed_ms();
        state.ledger.change(self.id, |entry| {
            entry.output_tokens += tokens;
            entry.nano_usd = entry.nano_usd.max(prices.nano_usd(entry.input_tokens, entry.output_tokens));
            entry.first_token_ms.get_or_insert(first_token_ms);
        });
    }

    /// It has ended, by itself or by its fault.
    pub(crate) fn end(mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (ended, took) = (self.ended.unwrap_or(Ended::Abandoned), self.elapsed_ms());
        let mut state = self.desk.lock();
        state.quota.ended();
        state.ledger.change(self.id, |entry| {
            entry.ended = ended;
            entry.took_ms = Some(took);
        });
    }
}
