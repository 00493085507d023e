//! The sections `[api]` and `[admin]` of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use millhand_common::model::Lane;
use millhand_common::telemetry;
use serde::Deserialize;

use crate::submit::DEFAULT_DEADLINE_SECONDS;

/// What the ingress reads from its section.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where clients connect; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Origins of web pages besides our own that may call us, e.g. `"https://chat.example"`.
    pub cors_origins: Vec<String>,
    pub limits: ApiLimits,
    pub admission: AdmissionConfig,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            cors_origins: Vec::new(),
            limits: ApiLimits::default(),
            admission: AdmissionConfig::default(),
        }
    }
}

/// When new jobs are refused because of the work that waits already. Whatever is set here, a job is refused that
/// is not expected to start within the first half of its deadline.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// Longest expected wait of a job that is let in; absent, half its deadline.
    #[serde(with = "humantime_serde")]
    pub max_wait_interactive: Option<Duration>,
    /// The same for the batch lane.
    #[serde(with = "humantime_serde")]
    pub max_wait_batch: Option<Duration>,
    /// Jobs that all workers together are expected to end in a second, until it is measured.
    pub expected_jobs_per_second: u32,
    /// Jobs and uploads that each tenant may submit to this ingress in a minute, in the long run and at once (429
    /// beyond); other ingresses count by themselves. Absent, there is no limit.
    pub submits_per_minute: Option<u32>,
}

impl AdmissionConfig {
    pub(crate) fn max_wait(&self, lane: Lane) -> Option<Duration> {
        match lane {
            Lane::Interactive => self.max_wait_interactive,
            Lane::Batch => self.max_wait_batch,
        }
    }

    /// Tells with what wait a job of the usual deadline is let in, so that the wait that is expected can be
    /// compared.
    pub(crate) fn show(&self) {
        let in_time = Duration::from_secs(DEFAULT_DEADLINE_SECONDS) / 2;
        for lane in Lane::ALL {
            let longest = self.max_wait(lane).map_or(in_time, |most| most.min(in_time));
            metrics::gauge!(telemetry::LONGEST_WAIT, "lane" => lane.as_str()).set(longest.as_secs_f64());
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        // Many: a queue that turns out to be too long is cut as soon as it is measured.
        Self {
            max_wait_interactive: None,
            max_wait_batch: None,
            expected_jobs_per_second: 200,
            submits_per_minute: None,
        }
    }
}

/// What the admin listener reads from its section.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where operators and probes connect; port 0 takes any free one.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)) }
    }
}

/// Limits that keep one process up whatever clients do.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Connections served at a time; beyond it each is answered 503 and closed. The last fifth of them is for
    /// everything but submits, which are answered so there. Keep it below the open files the process may have.
    pub connections: usize,
    /// Submits that are decided and stored at a time; beyond it 503. So the store has time for readers.
    pub submits: usize,
    /// Event streams (SSE, WebSocket, subscriptions) open at a time; beyond it 503.
    pub streams: usize,
    /// Subscriptions of one `/v1/ws` socket.
    pub subscriptions_per_socket: usize,
    /// Messages a client may send on one WebSocket per second; more closes it (1008).
    pub socket_messages_per_second: u32,
    /// Largest WebSocket message in bytes; larger ones close the socket (1009).
    pub socket_message_bytes: usize,
    /// Largest JSON body in bytes (413).
    pub body_bytes: usize,
    /// Largest upload in bytes, all its files together (413).
    pub upload_bytes: usize,
    /// Uploads held in memory at a time; with `upload_bytes` it bounds what they can take.
    pub uploads: usize,
    /// Messages of one submit (422).
    pub messages: usize,
    /// Longest wait for the headers of a request, the first one included.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Longest wait for a JSON body, and for the next bytes of an upload (408).
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Longest time an upload may take altogether (408).
    #[serde(with = "humantime_serde")]
    pub upload_timeout: Duration,
    /// A reader that takes no byte for this long is cut.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Time between readiness off and the end of accepting; connections are closed after their next
    /// answer meanwhile. Behind a load balancer set it above its probe interval.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// Longest wait for requests in flight at shutdown. Kubernetes kills after 30 s by default.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            connections: 15_000,
            submits: 1024,
            streams: 10_000,
            subscriptions_per_socket: 256,
            socket_messages_per_second: 50,
            socket_message_bytes: 64 * 1024,
            body_bytes: 256 * 1024,
            upload_bytes: 64 * 1024 * 1024,
            uploads: 4,
            messages: 256,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(30),
            drain_delay: Duration::from_millis(200),
            drain_timeout: Duration::from_secs(25),
        }
    }
}
