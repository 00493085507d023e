//! Waiting for conditions, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Polls until `condition` gives a value.
///
/// # Panics
///
/// After [`PATIENCE`], with the label.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}
