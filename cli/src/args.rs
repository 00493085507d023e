//! The command line.

mod clients;
mod keepers;
mod operators;
mod servers;

use clap::{Parser, Subcommand};

pub(crate) use clients::*;
pub(crate) use keepers::*;
pub(crate) use operators::*;
pub(crate) use servers::*;

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
