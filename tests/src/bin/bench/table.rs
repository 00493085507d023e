//! The one table that comes out.

use std::fmt;

/// Rows in the order they were measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 6]>,
}

impl Table {
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
        self.rows.push([
            what.to_owned(),
            figure(ours, unit),
            floored(|_, floor, unit| figure(floor, unit)),
            floored(|ours, floor, _| format!("{:.2}", ours / floor)),
            aim.to_owned(),
            met.map_or("", |met| if met { "ok" } else { "MISS" }).to_owned(),
        ]);
        let row = self.rows.last().expect("just pushed");
        eprintln!("{}", row.join("  "));
    }
}

fn figure(value: f64, unit: &str) -> String {
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.0} {unit}") }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["measurement", "ours", "floor", "ratio", "aim", ""].map(str::to_owned);
        let all = || std::iter::once(&head).chain(&self.rows);
        let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in all() {
            for (text, width) in row.iter().zip(widths) {
                write!(out, "{text:width$}  ")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
