//! Rows of the vector file.

use super::super::index_error;
use super::super::schema::ROW;
use super::Worker;
use crate::ports::IndexError;
use crate::search::Key;

/// Rows of the vector file that no passage uses, and where the file ends.
pub(super) struct FreeRows {
    pub(super) free: Vec<u64>,
    end: u64,
}

impl Worker {
    /// A row for a vector of a passage of `name`.
    pub(super) fn row(&mut self, name: Key) -> Result<u64, IndexError> {
        if self.free_rows.is_none() {
            self.free_rows = Some(self.find_free_rows().map_err(|err| index_error(&err))?);
        }
        let rows = self.free_rows.as_mut().expect("found just above");
        let row = rows.free.pop().unwrap_or_else(|| {
            rows.end += 1;
            rows.end - 1
        });
        self.batch.rows.entry(*name.bytes()).or_default().push(row);
        Ok(row)
    }

    fn find_free_rows(&self) -> tantivy::Result<FreeRows> {
        let snapshot = self.snapshots.latest();
        let mut used = Vec::new();
        for segment in snapshot.searcher.segment_readers() {
            let rows = segment.fast_fields().u64(ROW)?;
            used.extend(segment.doc_ids_alive().filter_map(|doc| rows.first(doc)));
        }
        used.sort_unstable();
        let end = used.last().map_or(0, |last| last + 1);
        let mut used = used.into_iter().peekable();
        let free = (0..end).filter(|row| used.next_if_eq(row).is_none()).collect();
        Ok(FreeRows { free, end })
    }
}
