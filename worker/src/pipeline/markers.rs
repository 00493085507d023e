//! Finds citation marks in a model's text as it streams: `[[sid]]`, `[[sid|"exact words"]]`, `[[none]]`.
//!
//! From `[[` on, text is held until `]]` or until it can be no mark, so that a reader never sees a part
//! of one, however the stream is split. Spaces before a mark are held with it: they go when it goes.

use super::compose::SID_CHARS;

/// A mark is shorter than this, its quoted words included.
const MAX_MARK_BYTES: usize = 600;

/// A piece of a model's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// Spaces before the mark, and what stood in it.
    Mark {
        space: String,
        mark: Mark,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    /// Passages it names, each with the words it quotes, if any.
    Cites(Vec<(String, Option<String>)>),
}

/// Splits a stream into text and marks.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    held: String,
}

impl Markers {
    /// Takes the next text of the stream.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        let mut plain = String::new();
        loop {
            let Some(open) = self.held.find("[[") else {
                let keep = tail(&self.held);
                plain.push_str(&self.held[..keep]);
                self.held.drain(..keep);
                break;
            };
            let space = self.held[..open].trim_end_matches(' ').len();
            plain.push_str(&self.held[..space]);
            self.held.drain(..space);
            let inner = open - space + 2;
            let Some(close) = self.held[inner..].find("]]").map(|at| inner + at) else {
                if self.held.len() - inner > MAX_MARK_BYTES + 1 || !may_become_mark(&self.held[inner..]) {
                    // Not a mark: its bracket is text, and the search goes on behind it.
                    plain.push_str(&self.held[..inner - 1]);
                    self.held.drain(..inner - 1);
                    continue;
                }
                break;
            };
            let mark = Some(&self.held[inner..close]).filter(|inner| inner.len() <= MAX_MARK_BYTES);
            match mark.and_then(parse) {
                Some(mark) => {
                    let space = self.held[..inner - 2].to_owned();
                    self.held.drain(..close + 2);
                    flush(&mut plain, &mut pieces);
                    pieces.push(Piece::Mark { space, mark });
                }
                None => {
                    plain.push_str(&self.held[..inner - 1]);
                    self.held.drain(..inner - 1);
                }
            }
        }
        flush(&mut plain, &mut pieces);
        pieces
    }

    /// The rest once the stream has ended. A mark that was cut in the middle is dropped.
    pub(crate) fn finish(self) -> Option<Piece> {
        let text = match self.held.find("[[") {
            Some(open) => self.held[..open].trim_end_matches(' ').to_owned(),
            None => self.held,
        };
        (!text.is_empty()).then_some(Piece::Text(text))
    }
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain)));
    }
}

/// Where text begins that may turn out to belong to a mark: spaces and one bracket at the end.
fn tail(text: &str) -> usize {
    let text = text.strip_suffix('[').unwrap_or(text);
    text.trim_end_matches(' ').len()
}

/// Ids are four characters; what models make up instead is short too.
const MAX_SID_CHARS: usize = 8;

fn is_sid(text: &str) -> bool {
    (1..=MAX_SID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether more text may make a mark of it.
fn may_become_mark(inner: &str) -> bool {
    let inner = inner.trim_start();
    let id = inner.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let next = inner[id..].trim_start().chars().next();
    id <= MAX_SID_CHARS && next.is_none_or(|c| matches!(c, '|' | ']') || SEPARATORS.contains(&c))
}

const SEPARATORS: [char; 4] = [',', ';', '，', '、'];

fn parse(inner: &str) -> Option<Mark> {
    // `[[ file ]]` of a shell script is text: with spaces inside, only real ids make a mark.
    let loose = inner.starts_with(' ') || inner.ends_with(' ');
    let id = |text: &str| {
        let sid = text.trim().to_ascii_lowercase();
        let real = sid.len() == 4 && sid.bytes().all(|b| SID_CHARS.contains(&b));
        (real || (is_sid(&sid) && !loose)).then_some(sid)
    };
    if inner.trim().eq_ignore_ascii_case("none") {
        return Some(Mark::None);
    }
    if let Some((sid, words)) = inner.split_once('|') {
        let words = words.trim().trim_matches(['"', '“', '”', '「', '」', '\'']).trim();
        let words = (!words.is_empty()).then(|| words.to_owned());
        return Some(Mark::Cites(vec![(id(sid)?, words)]));
    }
    let sids = inner.split(SEPARATORS).map(|sid| Some((id(sid)?, None)));
    sids.collect::<Option<Vec<_>>>().map(Mark::Cites)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = "磨坊建于1786年。 [[b7k2|\"built in 1786\"]] It turns[[m2x9, q4z8]]; see [[zzzz]] \
                          a[1] and `if [[ -f x ]]; then` [[none]] end [ [[b7k2";

    fn run(parts: &[&str]) -> (String, Vec<Mark>) {
        let mut markers = Markers::default();
        let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| markers.push(part)).collect();
        pieces.extend(markers.finish());
        let mut text = String::new();
        let mut marks = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(piece) => text.push_str(&piece),
                Piece::Mark { mark, .. } => marks.push(mark),
            }
        }
        (text, marks)
    }

    #[test]
    fn marks_are_taken_out_and_everything_else_stays() {
        let (text, marks) = run(&[ANSWER]);
        assert_eq!(text, "磨坊建于1786年。 It turns; see a[1] and `if [[ -f x ]]; then` end [");
        let cites = |sids: &[&str]| Mark::Cites(sids.iter().map(|sid| ((*sid).to_owned(), None)).collect());
        assert_eq!(marks[0], Mark::Cites(vec![("b7k2".to_owned(), Some("built in 1786".to_owned()))]));
        assert_eq!(marks[1..], [cites(&["m2x9", "q4z8"]), cites(&["zzzz"]), Mark::None]);
    }

    #[test]
    fn text_without_brackets_is_not_held() {
        let mut markers = Markers::default();
        assert_eq!(markers.push("token"), [Piece::Text("token".to_owned())]);
        assert_eq!(markers.push(" next"), [Piece::Text(" next".to_owned())]);
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_text_and_marks(cuts in prop::collection::vec(0..ANSWER.len(), 0..40)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| ANSWER.floor_char_boundary(cut)).collect();
            cuts.extend([0, ANSWER.len()]);
            cuts.sort_unstable();
            let parts: Vec<&str> = cuts.windows(2).map(|pair| &ANSWER[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&parts), run(&[ANSWER]));
        }

        #[test]
        fn no_mark_is_ever_shown(text in "[a-z2-9 \\[\\]|\"]{0,60}", cuts in prop::collection::vec(0..60usize, 0..20)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&parts), run(&[text.as_str()]));
        }
    }
}
