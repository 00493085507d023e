//! Gives each part of the server the ports it works through.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use millhand_api::{AdminState, ApiState, Backup, Drain, serve, serve_admin};
use millhand_common::ports::{Broker, Conversations, Embedder, JobReader, JobStore};
use millhand_worker::pipeline::AnswerDeps;
use millhand_worker::{Worker, housekeeping};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::parts::Parts;
use super::pipelines::Pipelines;
use super::stop::{Stop, Task};
use super::{metrics, models};
use crate::config::Config;

/// Everything that the tasks are made of.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) parts: Parts,
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    pub(super) drain: Drain,
    pub(super) stop: Stop,
}

impl Server {
    /// Starts every task.
    pub(super) fn start(
        &self,
        tasks: &mut JoinSet<Task>,
        api_listener: TcpListener,
        admin_listener: TcpListener,
        recorder: PrometheusHandle,
    ) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let worker = self.worker()?;
        let api = serve(api_listener, self.api_state(), stop.work.clone());
        tasks.spawn(async move {
            if let Err(err) = api.await {
                tracing::error!(error = %err, "the API failed");
            }
            Task::Api
        });
        let render = recorder.clone();
        let admin = serve_admin(admin_listener, self.admin_state(render), stop.rest.clone());
        tasks.spawn(async move {
            if let Err(err) = admin.await {
                tracing::error!(error = %err, "the admin address failed");
            }
            Task::Rest("admin")
        });
        let pull = stop.pull.clone();
        tasks.spawn(async move {
            worker.run(pull).await;
            Task::Worker
        });
        let (store, rest) = (self.store(), stop.rest.clone());
        tasks.spawn(async move {
            housekeeping::sweep(store, rest).await;
            Task::Rest("sweeper")
        });
        if let Some(documents) = self.parts.documents() {
            let (reader, rest) = (self.reader(), stop.rest.clone());
            tasks.spawn(async move {
                housekeeping::tidy(documents, reader, rest).await;
                Task::Rest("tidying")
            });
        }
        tasks.spawn(async move {
            metrics::upkeep(recorder, stop.rest).await;
            Task::Rest("metrics")
        });
        Ok(())
    }

    fn store(&self) -> Arc<dyn JobStore> {
        self.parts.store.clone()
    }

    fn reader(&self) -> Arc<dyn JobReader> {
        self.parts.store.clone()
    }

    fn conversations(&self) -> Arc<dyn Conversations> {
        self.parts.store.clone()
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.parts.broker.clone()
    }

    fn worker(&self) -> anyhow::Result<Worker> {
        let answer = AnswerDeps {
            conversations: self.conversations(),
            jobs: Some(self.reader()),
            documents: self.parts.documents(),
            index: self.parts.index(),
            model: models::chat(&self.config)?,
            embedder: self.embedder.clone(),
            agents: self.config.agents().into_iter().map(|agent| (agent.name.clone(), agent)).collect(),
            call_timeout: AnswerDeps::CALL_TIMEOUT,
        };
        let pipelines = Pipelines { answer, ingest: self.parts.ingest(self.embedder.clone())? };
        let config = self.config.worker.clone();
        let documents = self.parts.documents();
        Ok(Worker::new(self.store(), self.broker(), documents, Arc::new(pipelines), config))
    }

    fn api_state(&self) -> ApiState {
        ApiState {
            store: self.store(),
            reader: self.reader(),
            conversations: self.conversations(),
            broker: self.broker(),
            documents: self.parts.documents(),
            index: self.parts.index(),
            embedder: self.embedder.clone(),
            agents: self.config.agents(),
            model_configured: self.config.model.name.is_some(),
            config: self.config.api.clone(),
            drain: self.drain.clone(),
        }
    }

    fn admin_state(&self, recorder: PrometheusHandle) -> AdminState {
        let parts = self.parts.clone();
        let backup: Backup = Arc::new(move |target| {
            let parts = parts.clone();
            Box::pin(async move {
                match tokio::task::spawn_blocking(move || parts.back_up(&target)).await {
                    Ok(copied) => copied.map_err(|err| format!("{err:#}")),
                    Err(err) => Err(err.to_string()),
                }
            })
        });
        let pull = self.stop.pull.clone();
        AdminState {
            store: self.store(),
            broker: self.broker(),
            metrics: Arc::new(move || recorder.render()),
            drain: self.drain.clone(),
            on_drain: Some(Arc::new(move || pull.cancel())),
            backup: Some(backup),
        }
    }
}
