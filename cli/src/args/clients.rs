//! What users of the API type.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millhand_common::model::{AgentName, CollectionName, ConversationId, JobId, Status};

use crate::terminal::program;

/// Where a server is that was not told otherwise.
const HOME: &str = "http://127.0.0.1:8080";

/// What every client takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// Address of the server
    #[arg(
        long,
        env = "MILLHAND_URL",
        hide_env_values = true,
        default_value = HOME,
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

impl ClientArgs {
    /// How another command begins that is to reach the same server.
    pub(crate) fn next(&self, command: &str) -> String {
        let untold = std::env::var("MILLHAND_URL").unwrap_or_else(|_| HOME.to_owned());
        let url = if self.url == untold { String::new() } else { format!(" --url {}", self.url) };
        format!("{} {command}{url}", program())
    }
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
