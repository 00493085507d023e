//! Gives each part of the server the ports it works through.

use std::sync::Arc;

use millhand_api::{AdminState, ApiState, Backup, NamedLimiter, Stage, serve, serve_admin};
use millhand_common::brownout::Brownout;
use millhand_common::model::WorkerId;
use millhand_common::ports::Embedder;
use millhand_common::scale::Settings;
use millhand_worker::cache::Cache;
use millhand_worker::pipeline::AnswerDeps;
use millhand_worker::quota::Limited;
use millhand_worker::routing::Routes;
use millhand_worker::{Worker, housekeeping};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::metrics::Recorder;
use super::models;
use super::observe::Observer;
use super::parts::Parts;
use super::pipelines::Pipelines;
use super::scale::{Program, Supervisor};
use super::stop::{Stop, Task};
use crate::config::Config;

/// Everything that the tasks are made of.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) parts: Parts,
    pub(super) embedder: Option<Arc<Limited<dyn Embedder>>>,
    pub(super) limiters: Vec<NamedLimiter>,
    /// Of workers only; empty else.
    pub(super) routes: Arc<Routes>,
    /// Of workers only.
    pub(super) cache: Option<Arc<Cache>>,
    /// What all that serves and works here goes without under load.
    pub(super) brownout: Arc<Brownout>,
    /// Others may reach this server although it asks for no key.
    pub(super) insecure: bool,
    pub(super) stage: Stage,
    pub(super) stop: Stop,
}

impl Server {
    /// Serves clients.
    pub(super) fn start_api(&self, tasks: &mut JoinSet<Task>, listener: TcpListener) {
        let api = serve(listener, self.api_state(), self.stop.work.clone());
        tasks.spawn(async move {
            if let Err(err) = api.await {
                tracing::error!(error = %err, "the API failed");
            }
            Task::Api
        });
    }

    /// Looks how much waits, for what serves and what works.
    pub(super) fn start_brownout(&self, tasks: &mut JoinSet<Task>) {
        let watch = Arc::clone(&self.brownout).watch(self.parts.store.clone(), self.stop.rest.clone());
        tasks.spawn(async move {
            watch.await;
            Task::Rest("brownout")
        });
    }

    /// Works on jobs.
    pub(super) fn start_worker(&self, tasks: &mut JoinSet<Task>, id: Option<WorkerId>) -> anyhow::Result<()> {
        let (mut worker, pull) = (self.worker()?, self.stop.pull.clone());
        if let Some(id) = id {
            worker = worker.with_id(id);
        }
        let stage = self.stage.clone();
        tasks.spawn(async move {
            // Whoever asks it to drain, also through the store: readiness is off then.
            let unready = async {
                pull.cancelled().await;
                stage.drain();
            };
            tokio::join!(worker.run(pull.clone()), unready);
            Task::Worker
        });
        Ok(())
    }

    /// Runs processes that work on jobs.
    pub(super) fn start_supervisor(&self, tasks: &mut JoinSet<Task>, settings: Settings, program: Program) {
        let supervisor = Supervisor { observer: self.observer(), settings, program };
        let pull = self.stop.pull.clone();
        tasks.spawn(async move {
            supervisor.run(pull).await;
            Task::Worker
        });
    }

    /// What a decision about workers rests on.
    pub(super) fn observer(&self) -> Observer {
        let limiter_of = |name: &str| self.limiters.iter().find(|limiter| limiter.name == name);
        let pools = self.config.pools().filter(|(_, model)| model.base_url.is_some());
        let pools = pools.map(|(name, _)| limiter_of(name).map(|of| Arc::clone(&of.limiter))).collect();
        Observer { store: self.parts.store.clone(), pools }
    }

    /// What every process does besides: operators' address, sweeping, metrics.
    pub(super) fn start_rest(
        &self,
        tasks: &mut JoinSet<Task>,
        admin_listener: TcpListener,
        recorder: Recorder,
    ) {
        let stop = &self.stop;
        let admin = serve_admin(admin_listener, self.admin_state(recorder), stop.rest.clone());
        tasks.spawn(async move {
            if let Err(err) = admin.await {
                tracing::error!(error = %err, "the admin address failed");
            }
            Task::Rest("admin")
        });
        let (store, rest) = (self.parts.store.clone(), stop.rest.clone());
        tasks.spawn(async move {
            housekeeping::sweep(store, rest).await;
            Task::Rest("sweeper")
        });
        if let Some(documents) = self.parts.documents.clone() {
            let (reader, rest) = (self.parts.reader.clone(), stop.rest.clone());
            tasks.spawn(async move {
                housekeeping::tidy(documents, reader, rest).await;
                Task::Rest("tidying")
            });
        }
    }

    fn worker(&self) -> anyhow::Result<Worker> {
        let parts = &self.parts;
        let costs = models::costs(&self.config, &parts.budget);
        let answer = AnswerDeps {
            conversations: parts.conversations.clone(),
            jobs: Some(parts.reader.clone()),
            documents: parts.documents.clone(),
            index: parts.index.clone(),
            routes: Arc::clone(&self.routes),
            cache: self.cache.clone(),
            costs: Arc::clone(&costs),
            embedder: self.embedder.clone(),
            reranker: models::reranker(&self.config, &self.limiters)?,
            agents: self.config.agents().into_iter().map(|agent| (agent.name.clone(), agent)).collect(),
            call_timeout: AnswerDeps::CALL_TIMEOUT,
        };
        let pipelines = Pipelines { answer, ingest: parts.ingest(self.embedder.clone(), costs)? };
        let config = self.config.worker.clone();
        let (store, broker, documents) = (parts.store.clone(), parts.broker.clone(), parts.documents.clone());
        let worker = Worker::new(store, broker, documents, Arc::new(pipelines), config);
        let (agents, routes) = (self.config.agents(), &self.routes);
        let worker = worker.with_quotas(routes.gates(&agents, false), routes.gates(&agents, true));
        Ok(worker.under(Arc::clone(&self.brownout)))
    }

    fn api_state(&self) -> ApiState {
        let parts = &self.parts;
        ApiState {
            store: parts.store.clone(),
            reader: parts.reader.clone(),
            conversations: parts.conversations.clone(),
            broker: parts.broker.clone(),
            keys: parts.keys.clone(),
            documents: parts.documents.clone(),
            index: parts.index.clone(),
            embedder: self.embedder.clone().map(|embedder| embedder as _),
            agents: self.config.agents(),
            model_configured: self.config.has_default_model(),
            allowance: models::allowance(&self.config, &parts.budget),
            shares: self.config.shares(),
            brownout: Arc::clone(&self.brownout),
            config: self.config.api.clone(),
            stage: self.stage.clone(),
        }
    }

    fn admin_state(&self, recorder: Recorder) -> AdminState {
        let embedded = self.parts.embedded.clone();
        let backup: Backup = Arc::new(move |target| {
            let embedded = embedded.clone();
            Box::pin(async move {
                match tokio::task::spawn_blocking(move || embedded.back_up(&target)).await {
                    Ok(copied) => copied.map_err(|err| format!("{err:#}")),
                    Err(err) => Err(err.to_string()),
                }
            })
        });
        let pull = self.stop.pull.clone();
        AdminState {
            store: self.parts.store.clone(),
            broker: self.parts.broker.clone(),
            keys: self.parts.keys.clone(),
            limiters: self.limiters.clone(),
            needs_key: !self.config.admin.listen.ip().is_loopback() && !self.insecure,
            metrics: Arc::new(move || recorder.render()),
            stage: self.stage.clone(),
            on_drain: Some(Arc::new(move || pull.cancel())),
            backup: Some(backup),
        }
    }
}
