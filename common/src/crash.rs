//! Named crash points: with the feature `crash-points`, `MILLHAND_CRASH=name@k` aborts the process
//! when it passes the point for the k-th time. Without the feature they cost nothing.

/// Every point, so that a test can ask for each and none is forgotten.
pub const POINTS: &[&str] = &[
    "accept.before_commit",
    "accept.committed",
    "accept.hint_published",
    "accept.before_reply",
    "claim.committed",
    "step.started",
    "step.completed",
    "tokens.appended",
    "close.before_commit",
    "close.committed",
    "close.hint_acked",
    "drain.released",
    "commit.before_sync",
    "upload.stored",
    "ingest.document_stored",
    "ingest.indexed",
];

/// Passes the point `name`.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "crash-points")]
    armed::pass(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static TARGET: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("MILLHAND_CRASH").ok()?;
        let (name, hit) = text.split_once('@')?;
        Some((name.to_owned(), hit.parse().ok()?))
    });
    static HITS: AtomicU32 = AtomicU32::new(0);

    pub(super) fn pass(name: &'static str) {
        debug_assert!(super::POINTS.contains(&name), "crash point {name} is not listed");
        if let Some((target, at)) = TARGET.as_ref()
            && target == name
            && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *at
        {
            eprintln!("crash point {name} hit {at} times: aborting");
            std::process::abort();
        }
    }
}
