//! Text for terminals.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use serde_json::Value;

/// Prints JSON, indented for people and in one line for programs.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let stdout = io::stdout();
    let text = if stdout.is_terminal() {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    writeln!(stdout.lock(), "{text}")?;
    Ok(())
}

/// Prints text as it is. A reader that has gone away is an error, not a panic.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// How this program is started from the current folder.
pub(crate) fn program() -> String {
    let name = "millhand";
    let Ok(exe) = std::env::current_exe() else { return name.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |folder: PathBuf| folder.join(name).canonicalize().is_ok_and(|found| found == exe);
    if std::env::split_paths(&path).any(on_path) {
        return name.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    exe.strip_prefix(here).unwrap_or(&exe).display().to_string()
}

/// The text at a path of keys; empty when there is none.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// Rows with columns as wide as they need to be; the last one is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell));
        cells.chain([columns(head[column])]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - columns(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How many columns of a terminal the text takes: East Asian characters take two.
fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

/// One line of at most `limit` characters, white space folded.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(limit) {
        words.truncate(end);
        words.push('…');
    }
    printable(&words)
}

/// Text without what would steer the terminal: answers and documents come from strangers.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_for_both_scripts() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "水车博物馆", "x"]), row(["long", "mill", ""])];
        insta::assert_snapshot!(table(&["id", "name", "note"], &rows), @r"
        id    name        note
        a     水车博物馆  x
        long  mill
        ");
    }

    #[test]
    fn escapes_and_line_breaks_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\n  b\u{1b}[31m 水 车", 100), "a b[31m 水 车");
        assert_eq!(one_line("一二三四", 3), "一二三…");
    }
}
