//! What serves and works takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millhand_common::model::WorkerId;

/// What every server takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServerArgs {
    /// Configuration file; otherwise ./millhand.toml if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address for operators: metrics, queues, dead letters [default: 127.0.0.1:8081]; port 0 = any
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Serve addresses other than loopback although there are no keys
    #[arg(long)]
    pub(crate) insecure: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Address for clients [default: 127.0.0.1:8080]; port 0 = any
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Data folder, made when it is not there [default: ./millhand-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Jobs that run at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) slots: Option<u32>,
    /// Do not load the sample collection
    #[arg(long)]
    pub(crate) no_sample: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Address for clients [default: 127.0.0.1:8080]; port 0 = any
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Jobs that run at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) slots: Option<u32>,
    /// The id to go by; standard input is a pipe whose end asks it to stop. For `millhand scale`
    #[arg(long, value_name = "ID", hide = true)]
    pub(crate) supervised: Option<WorkerId>,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Fewest workers; with 0 the last one stops when nothing is to be done
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=256))]
    pub(crate) min: u32,
    /// Most workers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) max: u32,
    /// Jobs that one worker runs at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) slots: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ScalerArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Address for KEDA (gRPC); port 0 = any
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub(crate) listen: SocketAddr,
    /// Jobs that one worker runs at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) slots: Option<u32>,
    /// From starting a worker until it takes jobs: what comes due within this time counts as waiting
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) start_up: Duration,
    /// Certificate to serve KEDA with, and those that signed it (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Only who has a certificate that one of these signed may ask (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Tell Kubernetes which pods of workers are busy, so that idle ones go first; needs a service account
    /// that may patch pods
    #[arg(long)]
    pub(crate) pod_costs: bool,
    /// Folder of the service account
    #[arg(
        long,
        value_name = "DIR",
        hide = true,
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub(crate) service_account: PathBuf,
}
