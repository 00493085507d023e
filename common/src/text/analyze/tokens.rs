//! Where the words of a text are, whatever its language.

use super::language::Script;
use super::segment::words;
use crate::model::Span;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A word, or a part of an identifier: becomes its stem.
    Word,
    /// An identifier, version or number as a whole: stays as it is.
    Identifier,
    /// Two neighbouring letters of Chinese, Japanese or Korean.
    Bigram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
    pub(super) position: u32,
    /// Contained in another token, or overlapping one.
    pub(super) part: bool,
}

/// What joins words into one identifier when no space is near.
const JOINERS: &[&str] = &["-", "\u{2011}", ".", "/", "@", "_", "::", ":"];
/// Longer ones, such as URLs, are found by their parts only.
const MAX_IDENTIFIER_BYTES: usize = 64;

/// All tokens, in the order of their positions.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out = Tokens { text, out: Vec::new(), position: 0 };
    let mut run: Vec<Span> = Vec::new();
    let mut run_is_east_asian = false;
    for word in words(text) {
        let east_asian = is_east_asian(text, word);
        let joined = run.last().is_some_and(|last| {
            let gap = &text[last.to..word.from];
            // Words of a script without spaces belong together only when nothing is between them.
            east_asian == run_is_east_asian
                && if east_asian { gap.is_empty() } else { gap.is_empty() || JOINERS.contains(&gap) }
        });
        if !joined {
            out.run(&run, run_is_east_asian);
            run.clear();
        }
        run_is_east_asian = east_asian;
        run.push(word);
    }
    out.run(&run, run_is_east_asian);
    out.out
}

fn is_east_asian(text: &str, word: Span) -> bool {
    let letter = text[word.from..word.to].chars().find_map(Script::of);
    letter.is_some_and(Script::is_east_asian)
}

struct Tokens<'a> {
    text: &'a str,
    out: Vec<Token>,
    position: u32,
}

impl Tokens<'_> {
    fn push(&mut self, kind: TokenKind, span: Span, position: u32, part: bool) {
        self.out.push(Token { kind, span, position, part });
    }

    fn run(&mut self, words: &[Span], east_asian: bool) {
        match words {
            [] => {}
            _ if east_asian => self.east_asian(words),
            _ => self.spaced(words),
        }
    }

    /// Words, and all pairs of neighbouring letters, so that a question and a document meet even
    /// where the dictionary cuts them differently. Positions count letters.
    fn east_asian(&mut self, words: &[Span]) {
        let run = Span::new(words[0].from, words[words.len() - 1].to);
        let letters: Vec<(usize, char)> = self.text[run.from..run.to].char_indices().collect();
        let end = |n: usize| letters.get(n).map_or(run.to, |(at, _)| run.from + at);
        let mut words = words.iter().copied().peekable();
        for n in 0..letters.len() {
            let at = end(n);
            let position = self.position + u32::try_from(n).unwrap_or(u32::MAX);
            let mut word_is_pair = false;
            if let Some(word) = words.next_if(|word| word.from == at) {
                self.push(TokenKind::Word, word, position, false);
                word_is_pair = word.to == end(n + 2);
            }
            let pair = Span::new(at, end(n + 2));
            let inflection = |c: char| ('\u{3041}'..='\u{309f}').contains(&c);
            if n + 1 < letters.len()
                && !word_is_pair
                && !(inflection(letters[n].1) && inflection(letters[n + 1].1))
            {
                self.push(TokenKind::Bigram, pair, position, true);
            }
        }
        self.position += u32::try_from(letters.len()).unwrap_or(u32::MAX);
    }

    /// One word, or an identifier with its parts.
    fn spaced(&mut self, words: &[Span]) {
        let text = self.text;
        let mut whole = Span::new(words[0].from, words[words.len() - 1].to);
        let letters = &text[whole.from..whole.to];
        // C++, C#: the signs are the name.
        let signs = match &text.as_bytes()[whole.to..] {
            [b'+', b'+', ..] => 2,
            [b'#', ..] => 1,
            _ => 0,
        };
        let named_by_sign = signs > 0 && letters.len() == 1 && letters.as_bytes()[0].is_ascii_alphabetic();
        if named_by_sign {
            whole.to += signs;
        }
        let mut parts: Vec<Span> = Vec::new();
        for word in words {
            parts_of(text, *word, &mut parts);
        }
        if parts == [whole] {
            let kind = if is_number(letters) { TokenKind::Identifier } else { TokenKind::Word };
            self.push(kind, whole, self.position, false);
            self.position += 1;
            return;
        }
        let elided = letters.contains(['\'', '\u{2019}']);
        if whole.len() <= MAX_IDENTIFIER_BYTES && !elided {
            self.push(TokenKind::Identifier, whole, self.position, false);
        }
        for part in &parts {
            self.push(TokenKind::Word, *part, self.position, !elided);
            self.position += 1;
        }
        self.position += u32::from(parts.is_empty());
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_numeric()) && word.chars().all(|c| c.is_numeric() || ".,'".contains(c))
}

/// Adds the parts of a word: what stands between dots and underscores, letters before digits, and
/// what follows the article in `l'école`.
fn parts_of(text: &str, word: Span, parts: &mut Vec<Span>) {
    let letters = &text[word.from..word.to];
    if is_number(letters) {
        parts.push(word);
        return;
    }
    let between_digits = |at: usize, len: usize| {
        letters[..at].ends_with(|c: char| c.is_ascii_digit())
            && letters[at + len..].starts_with(|c: char| c.is_ascii_digit())
    };
    let mut cuts = vec![(0, 0)];
    for (at, c) in letters.char_indices() {
        let len = c.len_utf8();
        let cut = match c {
            '_' | ':' => true,
            '.' => !between_digits(at, len),
            '\'' | '\u{2019}' => is_elision(&letters[..at]),
            _ => false,
        };
        if cut {
            cuts.push((at, at + len));
        }
    }
    cuts.push((letters.len(), letters.len()));
    let single = cuts.len() == 2;
    for pair in cuts.windows(2) {
        let piece = &letters[pair[0].1..pair[1].0];
        let from = word.from + pair[0].1;
        let digits = piece.find(|c: char| c.is_ascii_digit()).filter(|at| 2 <= *at);
        match digits {
            Some(at) => {
                parts.push(Span::new(from, from + at));
                if at + 1 < piece.len() {
                    parts.push(Span::new(from + at, from + piece.len()));
                }
            }
            // A lone letter means nothing; a word of one letter is itself.
            None if single || piece.chars().nth(1).is_some() => {
                parts.push(Span::new(from, from + piece.len()))
            }
            None => {}
        }
    }
}

/// Articles and pronouns of French, Italian and Catalan that lose their vowel.
fn is_elision(before: &str) -> bool {
    const ELIDED: &[&str] = &[
        "l", "d", "j", "m", "n", "s", "t", "c", "qu", "jusqu", "lorsqu", "puisqu", "quoiqu", "un", "dell",
        "all", "dall", "nell", "sull", "quell", "quest",
    ];
    ELIDED.iter().any(|elided| elided.eq_ignore_ascii_case(before))
}
