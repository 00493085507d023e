//! What keeps an installation in order: its folder, its keys, its configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millhand_common::model::{Scope, TenantId};

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
