//! Tables in canonical text: a line for each row.

/// The cells of a row on one line, `a | b`; empty when all cells are blank.
pub(super) fn row(cells: &[String]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // Blank cells in the middle keep their place, those at the end carry nothing.
    let filled = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
    cells[..filled].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_row_is_one_line() {
        let cells = ["Motor\n", "", " 5  years ", " "].map(str::to_owned);
        assert_eq!(row(&cells), "Motor |  | 5 years");
        assert_eq!(row(&[String::new()]), "");
    }
}
