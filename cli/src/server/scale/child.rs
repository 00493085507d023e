//! One worker process.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use millhand_common::model::WorkerId;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How a worker is started.
pub(crate) struct Program {
    pub(crate) exe: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) slots: u32,
    /// How long one may take to drain before it is killed.
    pub(crate) patience: Duration,
}

/// How a worker ended.
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) status: Option<ExitStatus>,
}

impl Program {
    /// Starts a worker. Its output is nobody's; its log is this process's.
    pub(super) fn start(&self, worker: WorkerId) -> std::io::Result<Child> {
        let mut command = Command::new(&self.exe);
        command.args(["worker", "--admin", "127.0.0.1:0", "--slots", &self.slots.to_string()]);
        command.args(["--supervised", &worker.to_string()]);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // A Ctrl-C in this terminal is for the supervisor: it knows what its workers have to do then.
        command.process_group(0);
        command.spawn()
    }
}

/// Waits for the end of a worker, and brings it about after `stop`.
pub(super) async fn watch(
    mut child: Child,
    worker: WorkerId,
    stop: CancellationToken,
    patience: Duration,
) -> Ended {
    let pipe = child.stdin.take();
    // Cancel-safe: waiting for a child may begin anew.
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = stop.cancelled() => None,
    };
    let status = match ended {
        Some(status) => status,
        None => {
            drop(pipe);
            match timeout(patience, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    tracing::error!(worker.id = %worker, "a worker did not drain in time and is killed");
                    // It may have ended in this moment.
                    let _ended = child.start_kill();
                    child.wait().await
                }
            }
        }
    };
    Ended { worker, status: status.ok() }
}
