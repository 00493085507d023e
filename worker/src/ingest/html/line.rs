//! White space within a block.

use std::mem;

/// The text of one block, white space collapsed as HTML does.
#[derive(Default)]
pub(super) struct Line {
    pub(super) text: String,
    /// White space was seen; true when it held a line break.
    space: Option<bool>,
}

impl Line {
    pub(super) fn push(&mut self, text: &str) {
        for c in text.chars() {
            if matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{0C}') {
                self.space = Some(self.space.unwrap_or(false) || c == '\n');
                continue;
            }
            if let Some(broke) = self.space.take() {
                let before = self.text.chars().next_back();
                // A line break between two East Asian characters is no space (CSS Text 3, 4.1.3).
                let joined = broke && before.is_some_and(is_east_asian) && is_east_asian(c);
                if !joined && before.is_some_and(|c| c != '\n') {
                    self.text.push(' ');
                }
            }
            self.text.push(c);
        }
    }

    pub(super) fn push_verbatim(&mut self, text: &str) {
        self.space = None;
        self.text.push_str(text);
    }

    pub(super) fn break_line(&mut self) {
        self.space = None;
        self.text.push('\n');
    }

    pub(super) fn take(&mut self) -> String {
        self.space = None;
        mem::take(&mut self.text)
    }
}

/// Chinese and Japanese; Korean has spaces between words.
fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{A4CF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FF60}' | '\u{20000}'..='\u{3FFFD}')
}
