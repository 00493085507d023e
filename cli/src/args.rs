//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use millhand_common::model::{
    AgentName, CollectionName, ConversationId, JobId, Scope, Status, TenantId, WorkerId,
};

use crate::provider::ProviderArgs;

/// Runs chat agents as queued jobs that survive crashes, and answers from your documents.
#[derive(Debug, Parser)]
#[command(
    name = "millhand",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command: `millhand up`. Start there, then: millhand ask \"…\""
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: UpArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve everything in one process: HTTP, queue, worker, storage, search
    Up(UpArgs),
    /// Serve HTTP only, on a shared store and queue
    Api(ApiArgs),
    /// Work on jobs only, from a shared store and queue
    Worker(WorkerArgs),
    /// Run workers on this machine, as many as there is use for
    Scale(ScaleArgs),
    /// Tell KEDA how many workers there should be
    Scaler(ScalerArgs),
    /// Add files and folders to a collection, and wait until they can be asked
    Ingest(IngestArgs),
    /// Find passages
    Search(SearchArgs),
    /// Ask a question; the answer is printed as it comes, then its sources
    Ask(AskArgs),
    /// List, show, follow and cancel jobs
    Jobs(JobsArgs),
    /// List, show, replay and drop jobs that failed for good
    DeadLetters(DeadLettersArgs),
    /// List workers, and have one drain
    Workers(WorkersArgs),
    /// List, pause and resume the lanes of the queue
    Lanes(LanesArgs),
    /// Show what the system does, live
    Top(TopArgs),
    /// Look at every part that is configured: what is wrong, and what to type
    Doctor(DoctorArgs),
    /// Make, list and revoke the keys that the API asks for
    Keys(KeysArgs),
    /// Serve a model provider in a box: limits, faults and bills without a model
    Provider(Box<ProviderArgs>),
    /// Look at the configuration
    Config(ConfigArgs),
    /// Copy the data folder into a new one, also while a server runs on it
    Backup(BackupArgs),
    /// Bring the data folder to this version's format
    Migrate(FolderArgs),
    /// Parse one document from standard input; started by workers, one process per document
    #[command(hide = true)]
    ParseDocument,
}

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

/// Which folder, for commands that open it.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// Configuration file; otherwise ./millhand.toml if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder [default: ./millhand-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// What every client takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// Address of the server
    #[arg(
        long,
        env = "MILLHAND_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// Credential to send, if the server asks for one
    #[arg(long, env = "MILLHAND_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Print JSON, as the server sends it
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Files, and folders with all that is in them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Collection to add to; made when it is not there
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) collection: CollectionName,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to find
    pub(crate) query: String,
    /// Collection to search
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) collection: CollectionName,
    /// Most passages to print
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// The question, in any language
    pub(crate) question: String,
    /// Collection to answer from, may be repeated; otherwise all of yours
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) collection: Vec<CollectionName>,
    /// Agent to ask [default: rag]
    #[arg(long, short = 'a', value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// Conversation to go on with
    #[arg(long, short = 'c', value_name = "CONVERSATION")]
    pub(crate) conversation: Option<ConversationId>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<JobsCommand>,
    #[command(flatten)]
    pub(crate) list: JobsListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Newest jobs first
    List(JobsListArgs),
    /// One job with its output
    Show(JobArgs),
    /// The log of a job, to its end
    Events(JobArgs),
    /// End a job
    Cancel(JobArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct JobsListArgs {
    /// Only jobs that are queued, in_progress, completed, incomplete, expired, failed or cancelled
    #[arg(long, value_parser = status)]
    pub(crate) status: Option<Status>,
    /// Only jobs of this conversation
    #[arg(long, short = 'c', value_name = "CONVERSATION")]
    pub(crate) conversation: Option<ConversationId>,
    /// Most jobs to print
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

fn status(text: &str) -> Result<Status, String> {
    let known = || Status::ALL.map(Status::as_str).join(", ");
    Status::parse(text).ok_or_else(|| format!("a status is one of {}", known()))
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Id of the job, job_…
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What clients of the admin address take.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdminClientArgs {
    /// Admin address of the server
    #[arg(
        long = "url",
        env = "MILLHAND_ADMIN_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// Credential to send, if the server asks for one
    #[arg(long, env = "MILLHAND_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Print JSON, as the server sends it
    #[arg(long)]
    pub(crate) json: bool,
}

impl From<AdminClientArgs> for ClientArgs {
    fn from(args: AdminClientArgs) -> Self {
        Self { url: args.url, key: args.key, json: args.json }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DeadLettersCommand>,
    #[command(flatten)]
    pub(crate) list: DeadLettersListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Newest first
    List(DeadLettersListArgs),
    /// One dead letter with its job
    Show(DeadLetterArgs),
    /// Run it again, as a new job
    Replay(DeadLetterArgs),
    /// Forget it; its job stays, failed
    Drop(DeadLetterArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadLettersListArgs {
    /// Most dead letters to print
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) client: AdminClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetterArgs {
    /// Id of the job that failed, job_…
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) client: AdminClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    pub(crate) command: WorkersCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// The workers that live, on all machines
    List(AdminClientArgs),
    /// Have a worker finish what it runs and pull no more
    Drain(WorkerDrainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WorkerDrainArgs {
    /// As `millhand workers list` shows it
    pub(crate) worker: WorkerId,
    #[command(flatten)]
    pub(crate) client: AdminClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LanesArgs {
    #[command(subcommand)]
    pub(crate) command: LanesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LanesCommand {
    /// The lanes, and what is in them
    List(AdminClientArgs),
    /// Start no job of a lane; jobs are still accepted, and what runs goes on
    Pause(LaneArgs),
    /// Start jobs of a lane again
    Resume(LaneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LaneArgs {
    /// interactive or batch
    #[arg(value_parser = ["interactive", "batch"])]
    pub(crate) lane: String,
    #[command(flatten)]
    pub(crate) client: AdminClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print once and end, as when standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) client: AdminClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key; it is shown once
    Create(KeysCreateArgs),
    /// All keys, oldest first
    List(KeysListArgs),
    /// Make a key useless, within seconds
    Revoke(KeysRevokeArgs),
}

/// Which store the keys are in.
#[derive(Debug, Args)]
pub(crate) struct KeysStoreArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Admin address of the server that runs on the folder; otherwise as the folder says
    #[arg(long, env = "MILLHAND_ADMIN_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) admin_url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysCreateArgs {
    /// Whose jobs, documents and conversations it opens
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: TenantId,
    /// What it may be used for, of submit, read and admin
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "submit,read")]
    pub(crate) scopes: Vec<Scope>,
    #[command(flatten)]
    pub(crate) store: KeysStoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeysListArgs {
    #[command(flatten)]
    pub(crate) store: KeysStoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeysRevokeArgs {
    /// Id of the key, key_…
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) store: KeysStoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check file and environment, and print what is set and from where; secrets are not printed
    Check {
        /// Configuration file; otherwise ./millhand.toml if it is there
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where the copy goes: a folder that is empty or not there
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Admin address of the server that runs on the folder; otherwise as the folder says
    #[arg(long, env = "MILLHAND_ADMIN_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) admin_url: Option<String>,
}
