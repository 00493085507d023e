//! Tells Kubernetes which pods of workers are busy: when there are to be fewer, those whose
//! `pod-deletion-cost` is lowest go first.
//!
//! The scaler does it for all, so that workers, which read strangers' documents, need no access to the cluster.
//! A worker's pod has the name of its host. The annotation is a hint to the controller: a pod that is deleted
//! although it is busy drains as ever.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use millhand_common::ports::{JobStore, WorkerInfo};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::stop::Task;

/// As Kubernetes names it.
const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Between two rounds, in which only what changed is told.
///
/// Source: Kubernetes asks not to update it often, "because doing so will generate a significant number of pod
/// updates"; the controller that takes pods away is asked for it every 15 s, KEDA's own rate.
const EVERY: Duration = Duration::from_secs(15);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pods of this scaler's own namespace.
pub(super) struct Pods {
    client: Client,
    /// `…/api/v1/namespaces/NAMESPACE/pods/`.
    url: Url,
    token: PathBuf,
    /// What each was told to cost.
    told: HashMap<String, u32>,
}

impl Pods {
    /// As a service account sees them, whose folder this is. Fails outside of Kubernetes.
    pub(super) fn of_this_cluster(account: &Path) -> anyhow::Result<Self> {
        let address = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) =
            (address("KUBERNETES_SERVICE_HOST"), address("KUBERNETES_SERVICE_PORT"))
        else {
            bail!("--pod-costs is for pods: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
        };
        // An IPv6 address stands in brackets in a URL.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let read = |name: &str| {
            let path = account.join(name);
            fs::read_to_string(&path).with_context(|| {
                format!("--pod-costs needs a service account, but {} cannot be read", path.display())
            })
        };
        let (authority, namespace) = (read("ca.crt")?, read("namespace")?);
        read("token")?;
        let url = format!("https://{host}:{port}/api/v1/namespaces/{}/pods/", namespace.trim());
        let authorities = Certificate::from_pem_bundle(authority.as_bytes()).context("ca.crt")?;
        let client = Client::builder().tls_certs_only(authorities).timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { client, url: url.parse()?, token: account.join("token"), told: HashMap::new() })
    }

    /// Tells what changed, until `shutdown`.
    pub(super) async fn keep_told(mut self, store: Arc<dyn JobStore>, shutdown: CancellationToken) -> Task {
        loop {
            // Cancel-safe: what was not told is told in another round, perhaps by another scaler.
            tokio::select! {
                () = shutdown.cancelled() => return Task::Rest("pods"),
                () = self.round(&*store) => {}
            }
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = shutdown.cancelled() => return Task::Rest("pods"),
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn round(&mut self, store: &dyn JobStore) {
        let workers = match store.workers().await {
            Ok(workers) => workers,
            Err(err) => return tracing::warn!(error = %err, "cannot see which workers are busy"),
        };
        let costs = costs(&workers);
        self.told.retain(|pod, _| costs.contains_key(pod));
        let news: Vec<_> = costs.into_iter().filter(|(pod, cost)| self.told.get(pod) != Some(cost)).collect();
        for (pod, cost) in news {
            match self.tell(&pod, cost).await {
                Ok(()) => {
                    self.told.insert(pod, cost);
                }
                // The others would fail too, and are told in the next round.
                Err(err) => {
                    return tracing::warn!(error = format!("{err:#}"), "cannot tell Kubernetes what is busy");
                }
            }
        }
    }

    async fn tell(&self, pod: &str, cost: u32) -> anyhow::Result<()> {
        // Kubernetes replaces it every hour or so.
        let token = fs::read_to_string(&self.token).context("the token cannot be read")?;
        let patch = json!({ "metadata": { "annotations": { ANNOTATION: cost.to_string() } } });
        let request = self
            .client
            .patch(self.url.join(pod)?)
            .bearer_auth(token.trim())
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        let response = request.send().await?;
        match response.status() {
            // It has gone meanwhile, or the worker runs elsewhere.
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::FORBIDDEN => bail!("403: the service account may not patch pods"),
            status if status.is_success() => Ok(()),
            status => bail!("{status}"),
        }
    }
}

/// What each pod costs: the jobs that a drain would have to wait for.
fn costs(workers: &[WorkerInfo]) -> HashMap<String, u32> {
    let mut costs = HashMap::new();
    for worker in workers.iter().filter(|worker| is_a_name(&worker.host)) {
        *costs.entry(worker.host.clone()).or_default() += worker.running;
    }
    costs
}

/// A pod's name, which goes into a path: a DNS subdomain.
fn is_a_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    host.bytes().all(plain) && host.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use millhand_common::model::WorkerId;

    use super::*;

    #[test]
    fn a_pod_costs_what_runs_in_it_and_a_strange_name_is_none() {
        let worker = |host: &str, running| WorkerInfo {
            id: WorkerId::new(),
            slots: 64,
            running,
            draining: false,
            own_index: false,
            host: host.to_owned(),
        };
        let told = costs(&[worker("a-1", 3), worker("a-2", 0), worker("", 9), worker("../secrets/x", 1)]);
        assert_eq!(told, HashMap::from([("a-1".to_owned(), 3), ("a-2".to_owned(), 0)]));
        // The worker before it in the same pod has not been forgotten yet.
        assert_eq!(costs(&[worker("a-1", 3), worker("a-1", 2)])["a-1"], 5);
    }
}
