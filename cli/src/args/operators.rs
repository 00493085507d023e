//! What operators type, on the admin address of a server.

use clap::{Args, Subcommand};
use millhand_common::model::{JobId, WorkerId};

use super::ClientArgs;

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
