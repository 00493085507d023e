//! The order in which a server stops.

use anyhow::anyhow;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;

/// Stops in two steps: first new work, then what keeps and shows the work.
#[derive(Clone)]
pub(super) struct Stop {
    /// New requests and new jobs.
    pub(super) work: CancellationToken,
    /// New jobs; also cancelled alone, when an operator drains the worker.
    pub(super) pull: CancellationToken,
    /// All that is left.
    pub(super) rest: CancellationToken,
    worker_ended: bool,
}

/// What a task of the server was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Api,
    Worker,
    Rest(&'static str),
}

impl Stop {
    pub(super) fn new() -> Self {
        let work = CancellationToken::new();
        Self { pull: work.child_token(), work, rest: CancellationToken::new(), worker_ended: false }
    }

    /// The signal that asks the server to stop; an error when a part of it ends before that. `beside`
    /// is run meanwhile, as far as it comes.
    pub(super) async fn until_signal(
        &mut self,
        signals: &mut Signals,
        tasks: &mut JoinSet<Task>,
        beside: impl Future<Output = ()>,
    ) -> anyhow::Result<&'static str> {
        let mut beside = std::pin::pin!(beside);
        let mut beside_ended = false;
        loop {
            // Cancel-safe: signals and ended tasks are handed out or kept, `beside` goes on.
            tokio::select! {
                signal = signals.next() => return Ok(signal),
                ended = tasks.join_next() => match ended {
                    Some(Ok(Task::Worker)) if self.pull.is_cancelled() => {
                        tracing::info!("drained: no job runs, and no more is pulled");
                        self.worker_ended = true;
                    }
                    ended => return Err(ended_early(ended)),
                },
                () = &mut beside, if !beside_ended => beside_ended = true,
            }
        }
    }

    /// Ends new work and waits for the `parts` that serve or work; then stops the rest and waits for it.
    pub(super) async fn finish(&mut self, tasks: &mut JoinSet<Task>, parts: usize) {
        self.work.cancel();
        let mut left = parts - usize::from(self.worker_ended);
        if left == 0 {
            self.rest.cancel();
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Task::Rest(_)) => {}
                Ok(Task::Api | Task::Worker) => left -= 1,
                Err(err) => tracing::error!(error = %err, "a part of the server broke while stopping"),
            }
            if left == 0 {
                self.rest.cancel();
            }
        }
    }
}

fn ended_early(ended: Option<Result<Task, JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(task)) => anyhow!("{task:?} ended by itself: the server stops, see its log"),
        Some(Err(err)) => anyhow!(err).context("a part of the server broke"),
        None => anyhow!("no part of the server runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rest_stops_after_the_worker() {
        let mut stop = Stop::new();
        let mut tasks = JoinSet::new();
        let (order, mut ended) = tokio::sync::mpsc::channel(3);
        for (task, token) in [
            (Task::Rest("admin"), stop.rest.clone()),
            (Task::Worker, stop.pull.clone()),
            (Task::Api, stop.work.clone()),
        ] {
            let order = order.clone();
            tasks.spawn(async move {
                token.cancelled().await;
                order.send(task).await.unwrap();
                task
            });
        }
        stop.finish(&mut tasks, 2).await;
        let order = [ended.recv().await, ended.recv().await, ended.recv().await];
        assert_eq!(order[2], Some(Task::Rest("admin")));
    }

    #[tokio::test]
    async fn a_drained_worker_does_not_stop_the_server_and_a_lost_part_does() {
        let mut stop = Stop::new();
        let mut signals = Signals::new().unwrap();
        let mut tasks = JoinSet::new();
        let pull = stop.pull.clone();
        tasks.spawn(async move {
            pull.cancelled().await;
            Task::Worker
        });
        let work = stop.work.clone();
        let lost = CancellationToken::new();
        let api_lost = lost.clone();
        tasks.spawn(async move {
            api_lost.cancelled().await;
            Task::Api
        });
        stop.pull.cancel();
        let err = stop.until_signal(&mut signals, &mut tasks, async { lost.cancel() }).await.unwrap_err();
        assert!(err.to_string().contains("Api"), "{err}");
        assert!(!work.is_cancelled());
    }
}
