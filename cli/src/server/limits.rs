//! What the operating system lets one process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no connections: storage, index, logs, and parsers with their pipes.
const OTHER_FILES: u64 = 1024;

/// Raises the number of files this process may open as far as it may, and answers the number of
/// connections that leaves room for.
pub(super) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(err) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(error = %err, "the number of open files cannot be raised");
    }
    connections(getrlimit(Resource::Nofile).current)
}

/// `None` is no limit.
fn connections(open_files: Option<u64>) -> usize {
    match open_files {
        None => usize::MAX,
        // With very few files half of them is better than none.
        Some(files) => {
            usize::try_from(files.saturating_sub(OTHER_FILES).max(files / 2)).unwrap_or(usize::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(connections(Some(65_536)), 64_512);
        assert_eq!(connections(Some(1024)), 512);
        assert_eq!(connections(None), usize::MAX);
    }
}
