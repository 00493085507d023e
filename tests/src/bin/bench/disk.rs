//! What one sync of this disk takes, in this run.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

const SYNCS: usize = 300;

/// Times of a 4 KiB append with its fdatasync, in microseconds.
pub(crate) fn syncs(folder: &Path) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let mut file = tempfile::tempfile_in(folder)?;
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.record(u64::try_from(started.elapsed().as_micros())?.max(1))?;
    }
    Ok(times)
}
