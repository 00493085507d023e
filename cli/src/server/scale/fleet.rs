//! The workers of this supervisor.

use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use millhand_common::model::WorkerId;
use millhand_common::ports::WorkerInfo;
use millhand_common::telemetry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::child::{Ended, Program, watch};

pub(super) struct Fleet {
    program: Program,
    places: Vec<Place>,
    /// One for each process that runs, also those that drain.
    processes: JoinSet<Ended>,
}

/// A worker that there should be.
struct Place {
    state: State,
    /// Crashes on end.
    crashes: u32,
}

enum State {
    Up {
        worker: WorkerId,
        since: Instant,
        /// As it said last; nothing before it is up.
        running: Option<u32>,
        stop: CancellationToken,
    },
    /// It crashed, and is started again then.
    Waits { until: Instant },
}

impl Fleet {
    pub(super) fn new(program: Program) -> Self {
        Self { program, places: Vec::new(), processes: JoinSet::new() }
    }

    /// Workers that were started and not told to stop, and those that will be started again.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// When the next crashed worker is to be started again.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let waits = |place: &Place| match place.state {
            State::Waits { until } => Some(until),
            State::Up { .. } => None,
        };
        self.places.iter().filter_map(waits).min()
    }

    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        for place in 0..self.places.len() {
            if matches!(self.places[place].state, State::Waits { until } if until <= now) {
                self.start(place);
            }
        }
    }

    /// Starts or drains workers until there are so many.
    pub(super) fn resize(&mut self, wanted: usize) {
        while self.places.len() < wanted {
            self.places.push(Place { state: State::Waits { until: Instant::now() }, crashes: 0 });
            self.start(self.places.len() - 1);
        }
        while self.places.len() > wanted {
            // The idlest, and of these the last.
            let places = self.places.iter().enumerate();
            let Some((idlest, _)) = places.rev().min_by_key(|(_, place)| place.state.load()) else { return };
            self.drain(idlest);
        }
    }

    /// What the workers of the store say of themselves.
    pub(super) fn saw(&mut self, workers: &[WorkerInfo]) {
        for info in workers {
            let Some(at) = self.find(info.id) else { continue };
            if info.draining {
                tracing::info!(worker.id = %info.id, "a worker was drained by an operator");
                self.drain(at);
            } else if let State::Up { running, since, .. } = &mut self.places[at].state
                && running.replace(info.running).is_none()
            {
                let up_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(worker.id = %info.id, up_ms, "a worker is up");
            }
        }
    }

    /// Waits for the end of a worker; forever, while none runs. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        match self.processes.join_next().await {
            Some(Ok(ended)) => self.note(&ended),
            Some(Err(err)) => tracing::error!(error = %err, "a worker is watched no more"),
            None => std::future::pending().await,
        }
    }

    /// All drain; returns when they are gone.
    pub(super) async fn stop(&mut self) {
        while !self.places.is_empty() {
            self.drain(self.places.len() - 1);
        }
        self.show();
        while let Some(ended) = self.processes.join_next().await {
            if let Ok(ended) = ended {
                self.note(&ended);
            }
        }
        self.show();
    }

    pub(super) fn show(&self) {
        let up = self.places.iter().filter(|place| matches!(place.state, State::Up { .. })).count();
        let (waiting, draining) = (self.places.len() - up, self.processes.len().saturating_sub(up));
        for (state, count) in [("up", up), ("draining", draining), ("waiting", waiting)] {
            gauge!(telemetry::SCALE_WORKERS, "state" => state).set(count as f64);
        }
    }

    fn find(&self, id: WorkerId) -> Option<usize> {
        self.places.iter().position(|place| matches!(place.state, State::Up { worker, .. } if worker == id))
    }

    fn start(&mut self, place: usize) {
        let worker = WorkerId::new();
        match self.program.start(worker) {
            Ok(child) => {
                counter!(telemetry::SCALE_STARTS).increment(1);
                tracing::info!(worker.id = %worker, pid = child.id(), "a worker is started");
                let stop = CancellationToken::new();
                self.processes.spawn(watch(child, worker, stop.clone(), self.program.patience));
                let since = Instant::now();
                self.places[place].state = State::Up { worker, since, running: None, stop };
            }
            Err(err) => {
                tracing::error!(error = %err, "a worker cannot be started");
                self.crashed(place, Duration::ZERO);
            }
        }
    }

    fn drain(&mut self, place: usize) {
        if let State::Up { worker, stop, .. } = self.places.remove(place).state {
            tracing::info!(worker.id = %worker, "a worker drains");
            stop.cancel();
        }
    }

    fn note(&mut self, ended: &Ended) {
        let Ended { worker, status } = ended;
        let status_text = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        let Some(place) = self.find(*worker) else {
            tracing::info!(worker.id = %worker, status = status_text, "a drained worker has ended");
            return;
        };
        if status.is_some_and(|status| status.success()) {
            // Somebody else asked it to stop. Whether there should be another is decided at the next look.
            tracing::info!(worker.id = %worker, "a worker ended without being asked by its supervisor");
            self.places.remove(place);
            return;
        }
        let State::Up { since, .. } = self.places[place].state else { return };
        let wait = self.crashed(place, since.elapsed());
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(worker.id = %worker, status = status_text, wait_ms, "a worker crashed and is started again");
    }

    /// It had run for so long. Answers when it is started again.
    fn crashed(&mut self, place: usize, ran: Duration) -> Duration {
        counter!(telemetry::SCALE_CRASHES).increment(1);
        let place = &mut self.places[place];
        place.crashes = if ran < backoff::STABLE { place.crashes.saturating_add(1) } else { 1 };
        let wait = backoff::after(place.crashes, fastrand::f64());
        place.state = State::Waits { until: Instant::now() + wait };
        wait
    }
}

impl State {
    /// What would have to wait for it to drain; a worker that does not run has the least.
    fn load(&self) -> (bool, u32) {
        match self {
            Self::Waits { .. } => (false, 0),
            Self::Up { running, .. } => (true, running.unwrap_or(0)),
        }
    }
}
