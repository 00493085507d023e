//! Makes paragraphs and headings of the lines of pages. Pure.

use std::collections::HashMap;

use millhand_common::model::Origin;

use super::canonical::{Builder, Gap};

/// A line of a page as it is printed; lengths in points, `y` downwards from the top.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) x: f64,
    /// Right end of its last character.
    pub(super) to: f64,
    pub(super) y: f64,
    pub(super) size: f64,
}

/// A heading is this much larger than the body.
const HEADING_SIZE: f64 = 1.15;
/// Longer lines are no headings, whatever their size.
const MAX_HEADING_CHARS: usize = 160;
/// A line repeated at the edge of this share of all pages is a running header or footer.
const RUNNING_SHARE: f64 = 0.6;

/// Adds the text of all pages, in order.
pub(super) fn reflow(pages: &[(u32, Vec<Line>)], builder: &mut Builder) {
    let body = body_size(pages);
    let sizes = heading_sizes(pages, body);
    let running = running_lines(pages);
    let mut open: Option<Paragraph> = None;
    for (number, lines) in pages {
        let right = lines.iter().map(|line| line.to).fold(0.0, f64::max);
        let last = lines.len().saturating_sub(1);
        let mut before: Option<&Line> = None;
        for (at, line) in lines.iter().enumerate() {
            let edge = at <= 1 || at + 1 >= last;
            if line.text.trim().is_empty() || edge && is_running(&line.text, &running) {
                continue;
            }
            let heading = sizes.iter().position(|&size| size == tenths(line.size));
            let level =
                heading.filter(|_| looks_like_heading(&line.text)).map(|rank| (rank.min(5) + 1) as u8);
            match &mut open {
                Some(paragraph) if paragraph.level == level && paragraph.takes(line, before, right) => {
                    join(&mut paragraph.text, line.text.trim());
                }
                _ => {
                    let after_item = open.take().is_some_and(|done| done.write(builder));
                    open = Some(Paragraph {
                        text: line.text.trim().to_owned(),
                        level,
                        item: is_item(line.text.trim()),
                        after_item,
                        page: *number,
                    });
                }
            }
            before = Some(line);
        }
    }
    if let Some(done) = open {
        done.write(builder);
    }
}

struct Paragraph {
    text: String,
    level: Option<u8>,
    item: bool,
    after_item: bool,
    page: u32,
}

impl Paragraph {
    /// Whether `line` goes on with this paragraph; `before` is the last line on the same page.
    fn takes(&self, line: &Line, before: Option<&Line>, right: f64) -> bool {
        let text = line.text.trim();
        if is_item(text) {
            return false;
        }
        let ended = ends_sentence(&self.text);
        let goes_on = !ended && text.starts_with(|c: char| c.is_lowercase() || is_east_asian(c));
        // Over the edge of a page or a column only an unfinished sentence goes on.
        let Some(before) = before.filter(|before| line.y >= before.y - before.size * 0.5) else {
            return self.level.is_none() && goes_on;
        };
        if tenths(line.size) != tenths(before.size) && (line.size / before.size - 1.0).abs() > 0.1 {
            return false;
        }
        let near = line.y - before.y <= before.size.max(line.size) * 1.9;
        let indented = line.x > before.x + line.size * 0.8;
        let short = before.to < right - (right - before.x).max(0.0) * 0.2;
        near && !(ended && (indented || short))
    }

    /// Writes it, and says whether it is a list item.
    fn write(self, builder: &mut Builder) -> bool {
        let origin = Some(Origin::Page(self.page));
        match self.level {
            Some(level) => builder.heading(level, &self.text, origin),
            None => {
                let gap = if self.item && self.after_item { Gap::Line } else { Gap::Paragraph };
                builder.block(gap, &self.text, origin);
            }
        }
        self.item
    }
}

/// Joins a wrapped line: a hyphenated word becomes whole, Chinese needs no space.
fn join(text: &mut String, line: &str) {
    let mut ends = text.chars().rev();
    let (last, before_last) = (ends.next(), ends.next());
    let first = line.chars().next();
    let hyphen = matches!(last, Some('-' | '\u{2010}' | '\u{AD}'));
    if hyphen && before_last.is_some_and(char::is_lowercase) && first.is_some_and(char::is_lowercase) {
        text.pop();
    } else if !(hyphen || last.is_some_and(is_east_asian) && first.is_some_and(is_east_asian)) {
        text.push(' ');
    }
    text.push_str(line);
}

fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{A4CF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FF60}' | '“' | '”' | '…')
}

fn ends_sentence(text: &str) -> bool {
    text.trim_end_matches(['"', '”', '’', ')', '）', '」'])
        .ends_with(['.', '!', '?', ':', '。', '！', '？', '：', '；'])
}

fn is_item(text: &str) -> bool {
    text.starts_with(['•', '·', '▪', '◦', '‣', '●', '○', '■'])
        || text.starts_with("- ")
        || text.split_once(['.', ')', '、', '）']).is_some_and(|(number, rest)| {
            let number = number.trim_start_matches(['(', '（']);
            (1..=3).contains(&number.chars().count())
                && number.chars().all(|c| c.is_ascii_digit() || "一二三四五六七八九十".contains(c))
                && !rest.starts_with(|c: char| c.is_ascii_digit())
        })
}

fn looks_like_heading(text: &str) -> bool {
    let text = text.trim();
    text.chars().count() <= MAX_HEADING_CHARS
        && text.chars().any(char::is_alphanumeric)
        && !text.ends_with(['.', '。', ';', '；', ','])
}

/// Sizes are compared as tenths of a point: rounding in the file is no difference.
fn tenths(size: f64) -> u32 {
    // Sizes are small and positive; a broken one saturates to a size nothing else has.
    (size * 10.0).round().clamp(0.0, 1e6) as u32
}

/// The size that most characters have.
fn body_size(pages: &[(u32, Vec<Line>)]) -> u32 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for line in pages.iter().flat_map(|(_, lines)| lines) {
        *counts.entry(tenths(line.size)).or_default() += line.text.chars().count();
    }
    counts.into_iter().max_by_key(|&(size, count)| (count, size)).map_or(0, |(size, _)| size)
}

/// Sizes of headings, largest first.
fn heading_sizes(pages: &[(u32, Vec<Line>)], body: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = pages
        .iter()
        .flat_map(|(_, lines)| lines)
        .filter(|line| {
            f64::from(tenths(line.size)) >= f64::from(body) * HEADING_SIZE && looks_like_heading(&line.text)
        })
        .map(|line| tenths(line.size))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.dedup();
    sizes
}

/// A line without the digits that change from page to page.
fn shape(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>().split_whitespace().collect()
}

/// Shapes of the lines that stand at the top or the bottom of most pages.
fn running_lines(pages: &[(u32, Vec<Line>)]) -> Vec<String> {
    if pages.len() < 3 {
        return Vec::new();
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, lines) in pages {
        let mut shapes: Vec<_> =
            lines.iter().take(2).chain(lines.iter().rev().take(2)).map(|line| shape(&line.text)).collect();
        shapes.sort_unstable();
        shapes.dedup();
        for shape in shapes {
            *counts.entry(shape).or_default() += 1;
        }
    }
    counts.retain(|_, &mut count| count as f64 >= pages.len() as f64 * RUNNING_SHARE);
    counts.into_keys().collect()
}

fn is_running(text: &str, running: &[String]) -> bool {
    let shape = shape(text);
    // A bare page number, also in short documents: `3`, `- 3 -`, `3 / 12`.
    let page_number =
        shape.chars().all(|c| matches!(c, '-' | '–' | '—' | '/' | '|')) && text.trim().len() <= 9;
    page_number || running.contains(&shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(y: f64, size: f64, text: &str) -> Line {
        let width = size * 0.5 * text.chars().count() as f64;
        Line { text: text.to_owned(), x: 72.0, to: 72.0 + width, y, size }
    }

    fn text_of(pages: &[(u32, Vec<Line>)]) -> String {
        let mut builder = Builder::default();
        reflow(pages, &mut builder);
        builder.finish().text
    }

    #[test]
    fn wrapped_lines_become_paragraphs_and_hyphenated_words_whole() {
        let page = vec![
            line(50.0, 20.0, "Warranty"),
            line(90.0, 10.0, "The manufacturer repairs every machine within its war-"),
            line(102.0, 10.0, "ranty at no cost, and a well-known carrier brings it"),
            line(114.0, 10.0, "back."),
            line(150.0, 10.0, "本公司对其生产的所有电动工具提供为期两年的质量保证服务和"),
            line(162.0, 10.0, "维修服务。"),
            line(700.0, 10.0, "1"),
        ];
        assert_eq!(
            text_of(&[(1, page)]),
            "Warranty\n\nThe manufacturer repairs every machine within its warranty at no cost, and a well-known carrier \
             brings it back.\n\n本公司对其生产的所有电动工具提供为期两年的质量保证服务和维修服务。"
        );
    }

    #[test]
    fn a_sentence_goes_on_over_the_page_and_running_lines_do_not() {
        let page = |number: u32, body: &str| {
            (
                number,
                vec![
                    line(20.0, 10.0, "Manual 2026"),
                    line(100.0, 10.0, body),
                    line(800.0, 10.0, &format!("Page {number}")),
                ],
            )
        };
        let pages = [
            page(1, "The battery lasts for about six"),
            page(2, "months of use."),
            page(3, "Charge it weekly."),
        ];
        assert_eq!(text_of(&pages), "The battery lasts for about six months of use.\n\nCharge it weekly.");
    }
}
