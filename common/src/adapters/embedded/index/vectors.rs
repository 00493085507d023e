//! Vectors as rows of one file: little-endian `f32`, each of length 1, so that a product of two is
//! their cosine. Rows of removed passages are used again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Read at a time: large enough that the scan is bound by memory, small enough to be no burden.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct Vectors {
    path: PathBuf,
    /// Opened when first needed: most indexes hold no vectors.
    file: OnceLock<File>,
}

impl Vectors {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("vectors.f32"), file: OnceLock::new() }
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Durable after [`Self::sync`].
    pub(super) fn write(&self, row: u64, vector: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = normalised(vector).flat_map(f32::to_le_bytes).collect();
        self.file()?.write_all_at(&bytes, row * bytes.len() as u64)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    /// The cosine of `query` with each of `rows`, which must rise; calls `found` with a row's place in
    /// `rows`.
    pub(super) fn scan(
        &self,
        rows: &[u64],
        query: &[f32],
        mut found: impl FnMut(usize, f32),
    ) -> io::Result<()> {
        let query: Vec<f32> = normalised(query).collect();
        let row_bytes = query.len() * size_of::<f32>();
        if row_bytes == 0 {
            return Ok(());
        }
        let file = self.file()?;
        let chunk_rows = (CHUNK_BYTES / row_bytes).max(1) as u64;
        let mut buffer = Vec::new();
        let mut at = 0;
        while let Some(first) = rows.get(at) {
            let last = at + rows[at..].partition_point(|row| row - first < chunk_rows) - 1;
            buffer.resize((rows[last] - first + 1) as usize * row_bytes, 0);
            file.read_exact_at(&mut buffer, first * row_bytes as u64)?;
            for (place, row) in rows.iter().enumerate().take(last + 1).skip(at) {
                let from = (row - first) as usize * row_bytes;
                found(place, product(&buffer[from..from + row_bytes], &query));
            }
            at = last + 1;
        }
        Ok(())
    }
}

fn normalised(vector: &[f32]) -> impl Iterator<Item = f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let scale = if length.is_normal() { 1.0 / length } else { 0.0 };
    vector.iter().map(move |x| x * scale)
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn product(row: &[u8], query: &[f32]) -> f32 {
    let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut sums = [0f32; 8];
    let (mut rows, mut queries) = (row.chunks_exact(32), query.chunks_exact(8));
    for (row, query) in (&mut rows).zip(&mut queries) {
        for lane in 0..8 {
            sums[lane] += number(&row[lane * 4..lane * 4 + 4]) * query[lane];
        }
    }
    let rest = rows.remainder().chunks_exact(4).zip(queries.remainder());
    sums.iter().sum::<f32>() + rest.map(|(x, y)| number(x) * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_asked_for_is_scored_once_whatever_the_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = Vectors::new(dir.path());
        let dimensions = 19;
        let vector =
            |row: u64| (0..dimensions).map(|n| ((row * 31 + n) % 17) as f32 - 8.0).collect::<Vec<_>>();
        for row in 0..40_000 {
            vectors.write(row, &vector(row)).unwrap();
        }
        let rows: Vec<u64> =
            (0..40_000).filter(|row| row % 7 == 3 || (20_000..20_100).contains(row)).collect();
        let query = vector(5);
        let mut seen = Vec::new();
        vectors.scan(&rows, &query, |place, score| seen.push((place, score))).unwrap();
        assert_eq!(seen.len(), rows.len());
        for (place, score) in seen {
            let row: Vec<f32> = normalised(&vector(rows[place])).collect();
            let expected: f32 = row.iter().zip(normalised(&query)).map(|(x, y)| x * y).sum();
            assert!((score - expected).abs() < 1e-4, "row {}", rows[place]);
        }
    }
}
