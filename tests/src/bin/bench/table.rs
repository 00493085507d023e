//! The tables that come out.

use std::fmt;

/// Rows in the order they were measured.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::with(&["measurement", "ours", "floor", "ratio", "aim", ""])
    }
}

impl Table {
    /// One with these columns.
    pub(crate) fn with(head: &[&str]) -> Self {
        Self { head: head.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// A row of as many cells as there are columns; it is shown at once too.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        eprintln!("{}", row.join("  "));
        self.rows.push(row);
    }

    /// A row. `ratio` and `met` are absent where there is no floor or no aim.
    pub(crate) fn row(
        &mut self,
        what: &str,
        (ours, floor, unit): (f64, Option<f64>, &str),
        aim: &str,
        met: Option<bool>,
    ) {
        let floored =
            |of: fn(f64, f64, &str) -> String| floor.map_or(String::new(), |floor| of(ours, floor, unit));
        self.push(vec![
            what.to_owned(),
            figure(ours, unit),
            floored(|_, floor, unit| figure(floor, unit)),
            floored(|ours, floor, _| format!("{:.2}", ours / floor)),
            aim.to_owned(),
            met.map_or("", |met| if met { "ok" } else { "MISS" }).to_owned(),
        ]);
    }
}

fn figure(value: f64, unit: &str) -> String {
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.0} {unit}") }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for row in all() {
            for (text, width) in row.iter().zip(&widths) {
                let width = *width;
                write!(out, "{text:width$}  ")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
