//! Which language a text is in, and what a word becomes in it.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use frostem::Stemmer;
use unicode_normalization::{IsNormalized, UnicodeNormalization, char::is_combining_mark, is_nfkc_quick};
use whatlang::{Detector, Lang};

use super::stop_words;

/// A language as the analysis knows it; [`Self::UNKNOWN`] goes by the script of each word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Language(pub(super) Option<Lang>);

/// Languages that detection chooses from. With all 70 of the detector, short English is now and
/// then taken for Tagalog or Zulu.
const DETECTABLE: &[Lang] = &[
    Lang::Eng,
    Lang::Deu,
    Lang::Fra,
    Lang::Spa,
    Lang::Ita,
    Lang::Por,
    Lang::Nld,
    Lang::Swe,
    Lang::Dan,
    Lang::Nob,
    Lang::Fin,
    Lang::Pol,
    Lang::Ces,
    Lang::Slk,
    Lang::Hun,
    Lang::Ron,
    Lang::Tur,
    Lang::Vie,
    Lang::Ind,
    Lang::Cat,
    Lang::Hrv,
    Lang::Lit,
    Lang::Est,
    Lang::Rus,
    Lang::Ukr,
    Lang::Bul,
    Lang::Srp,
    Lang::Ell,
    Lang::Hye,
    Lang::Kat,
    Lang::Ara,
    Lang::Pes,
    Lang::Urd,
    Lang::Heb,
    Lang::Hin,
    Lang::Mar,
    Lang::Nep,
    Lang::Ben,
    Lang::Tam,
    Lang::Tel,
    Lang::Tha,
    Lang::Khm,
    Lang::Mya,
    Lang::Cmn,
    Lang::Jpn,
    Lang::Kor,
];

static DETECTOR: LazyLock<Detector> = LazyLock::new(|| Detector::with_allowlist(DETECTABLE.to_vec()));

/// Bytes of a text that detection looks at: enough to be sure, and bounded for large documents.
const SAMPLE_BYTES: usize = 4096;

impl Language {
    pub const UNKNOWN: Self = Self(None);
    pub const ENGLISH: Self = Self(Some(Lang::Eng));
    pub const GERMAN: Self = Self(Some(Lang::Deu));
    pub const CHINESE: Self = Self(Some(Lang::Cmn));
    pub const JAPANESE: Self = Self(Some(Lang::Jpn));
    pub const KOREAN: Self = Self(Some(Lang::Kor));

    /// The language of a text. A text too short to be sure about goes by its stop words, then by
    /// its script: Latin letters alone are taken for English.
    #[must_use]
    pub fn detect(text: &str) -> Self {
        let sample = &text[..text.floor_char_boundary(SAMPLE_BYTES)];
        let scripts = ScriptCounts::of(sample);
        if let Some(lang) = scripts.east_asian() {
            return Self(Some(lang));
        }
        let Some(script) = scripts.most() else { return Self::UNKNOWN };
        let guess = DETECTOR.detect(sample);
        if let Some(info) = &guess
            && info.is_reliable()
            && script_of(info.lang()) == script
            && sample.len() >= 100
        {
            return Self(Some(info.lang()));
        }
        let words =
            sample.split(|c: char| !c.is_alphanumeric() && c != '\'').map(|word| fold_with(word, None));
        let words: Vec<_> = words.collect();
        stop_words::vote(words.iter().map(AsRef::as_ref))
            .filter(|lang| script_of(*lang) == script)
            .or(script.main_language())
            .or(guess.map(|info| info.lang()))
            .map_or(Self::UNKNOWN, |lang| Self(Some(lang)))
    }

    /// ISO 639-3; `und` when unknown.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.map_or("und", |lang| lang.code())
    }

    /// Back from [`Self::code`]; a code of none is unknown.
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        Self(Lang::from_code(code))
    }

    /// The language of one word in a text of this language: a word of another script goes by that
    /// script, as English names in a Chinese text do.
    pub(super) fn of_word(self, word: &str) -> Option<Lang> {
        let script = word.chars().find_map(Script::of)?;
        match self.0 {
            Some(lang) if script_of(lang) == script => Some(lang),
            Some(Lang::Jpn) if script == Script::Han => Some(Lang::Jpn),
            _ => script.main_language(),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Compatibility forms composed (NFKC), lower case, straight apostrophes.
#[must_use]
pub fn fold(word: &str, lang: Language) -> Cow<'_, str> {
    fold_with(word, lang.0)
}

pub(super) fn fold_with(word: &str, lang: Option<Lang>) -> Cow<'_, str> {
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ('\u{3041}'..'\u{a000}').contains(&c);
    if word.chars().all(plain) && is_nfkc_quick(word.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(word);
    }
    let turkish = lang == Some(Lang::Tur);
    let lower = word.nfkc().flat_map(move |c| {
        let c = match c {
            'I' if turkish => 'ı',
            'İ' => 'i',
            '\u{2018}' | '\u{2019}' | '\u{ff07}' => '\'',
            other => other,
        };
        c.to_lowercase()
    });
    Cow::Owned(lower.collect())
}

/// What a folded word becomes in the index: its stem where the language has one.
pub(super) fn stem(folded: &str, lang: Option<Lang>) -> String {
    let Some(lang) = lang else { return folded.to_owned() };
    if lang == Lang::Kor {
        return without_particle(folded).to_owned();
    }
    let name = match lang {
        Lang::Nob => "nor",
        Lang::Pes => "fas",
        other => other.code(),
    };
    let stemmed = match Stemmer::try_from_name(name) {
        Ok(stemmer) => stemmer.stem(folded),
        Err(_) => Cow::Borrowed(folded),
    };
    if ignores_accents(lang) && !stemmed.is_ascii() {
        without_accents(&stemmed)
    } else {
        stemmed.into_owned()
    }
}

/// Languages whose writers leave accents out without meaning another word.
fn ignores_accents(lang: Lang) -> bool {
    matches!(
        lang,
        Lang::Eng | Lang::Fra | Lang::Spa | Lang::Ita | Lang::Por | Lang::Nld | Lang::Cat | Lang::Ell
    )
}

/// Without marks over and under letters; `ñ` stays, which is a letter of its own.
fn without_accents(word: &str) -> String {
    let bare = |c: char| if c == 'ñ' { vec![c] } else { std::iter::once(c).nfd().collect() };
    word.chars().flat_map(bare).filter(|c| !is_combining_mark(*c)).collect()
}

/// Particles and endings of Korean, longest first.
const PARTICLES: &[&str] = &[
    "에서는",
    "으로는",
    "에게서",
    "이라는",
    "입니까",
    "인가요",
    "습니다",
    "입니다",
    "에서",
    "에게",
    "으로",
    "부터",
    "까지",
    "처럼",
    "보다",
    "하고",
    "하는",
    "하기",
    "라는",
    "이나",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "와",
    "과",
    "도",
    "만",
    "로",
];

/// The Korean word without one trailing particle, as long as two syllables remain.
fn without_particle(word: &str) -> &str {
    let stem = PARTICLES.iter().find_map(|particle| word.strip_suffix(particle));
    stem.filter(|stem| stem.chars().nth(1).is_some()).unwrap_or(word)
}

/// Writing systems that matter for the choice of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Greek,
    Han,
    Kana,
    Hangul,
    Arabic,
    Devanagari,
    Tamil,
    Armenian,
    Other,
}

impl Script {
    /// Of a letter; none for digits, marks and punctuation.
    pub(super) fn of(c: char) -> Option<Self> {
        Some(match c {
            'a'..='z' | 'A'..='Z' => Self::Latin,
            '\0'..='\u{bf}' | '\u{2000}'..='\u{206f}' => return None,
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' | '\u{ff21}'..='\u{ff5a}' => Self::Latin,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Self::Greek,
            '\u{400}'..='\u{52f}' => Self::Cyrillic,
            '\u{530}'..='\u{58f}' => Self::Armenian,
            '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{fb50}'..='\u{fdff}' => Self::Arabic,
            '\u{900}'..='\u{97f}' => Self::Devanagari,
            '\u{b80}'..='\u{bff}' => Self::Tamil,
            '\u{3005}' | '\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => Self::Han,
            '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => Self::Han,
            '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}' => Self::Kana,
            '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => Self::Kana,
            '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' | '\u{ac00}'..='\u{d7a3}' => Self::Hangul,
            other if other.is_alphabetic() => Self::Other,
            _ => return None,
        })
    }

    /// Written without spaces, or with words that carry their particles.
    pub(super) fn is_east_asian(self) -> bool {
        matches!(self, Self::Han | Self::Kana | Self::Hangul)
    }

    /// What a word of this script is taken for in a text of another.
    fn main_language(self) -> Option<Lang> {
        match self {
            Self::Latin => Some(Lang::Eng),
            Self::Cyrillic => Some(Lang::Rus),
            Self::Greek => Some(Lang::Ell),
            Self::Han => Some(Lang::Cmn),
            Self::Kana => Some(Lang::Jpn),
            Self::Hangul => Some(Lang::Kor),
            Self::Arabic => Some(Lang::Ara),
            Self::Devanagari => Some(Lang::Hin),
            Self::Tamil => Some(Lang::Tam),
            Self::Armenian => Some(Lang::Hye),
            Self::Other => None,
        }
    }
}

/// The main script of a language.
fn script_of(lang: Lang) -> Script {
    match lang {
        Lang::Cmn => Script::Han,
        Lang::Jpn => Script::Kana,
        Lang::Kor => Script::Hangul,
        Lang::Ell => Script::Greek,
        Lang::Rus | Lang::Ukr | Lang::Bel | Lang::Bul | Lang::Srp | Lang::Mkd => Script::Cyrillic,
        Lang::Ara | Lang::Pes | Lang::Urd => Script::Arabic,
        Lang::Hin | Lang::Mar | Lang::Nep => Script::Devanagari,
        Lang::Tam => Script::Tamil,
        Lang::Hye => Script::Armenian,
        Lang::Heb | Lang::Yid | Lang::Ben | Lang::Tel | Lang::Kan | Lang::Mal | Lang::Guj | Lang::Pan => {
            Script::Other
        }
        Lang::Tha | Lang::Khm | Lang::Mya | Lang::Sin | Lang::Ori | Lang::Amh | Lang::Kat => Script::Other,
        _ => Script::Latin,
    }
}

/// How many letters of each script a text has.
#[derive(Default)]
struct ScriptCounts {
    counts: Vec<(Script, u32)>,
}

impl ScriptCounts {
    fn of(text: &str) -> Self {
        let mut all = Self::default();
        for script in text.chars().filter_map(Script::of) {
            match all.counts.iter_mut().find(|(known, _)| *known == script) {
                Some((_, count)) => *count += 1,
                None => all.counts.push((script, 1)),
            }
        }
        all
    }

    fn count(&self, script: Script) -> u32 {
        self.counts.iter().find(|(known, _)| *known == script).map_or(0, |(_, count)| *count)
    }

    fn most(&self) -> Option<Script> {
        self.counts.iter().max_by_key(|(_, count)| *count).map(|(script, _)| *script)
    }

    /// Chinese, Japanese or Korean when their letters weigh most; one ideograph says as much as
    /// about three Latin letters.
    fn east_asian(&self) -> Option<Lang> {
        let (han, kana, hangul) =
            (self.count(Script::Han), self.count(Script::Kana), self.count(Script::Hangul));
        let all: u32 = self.counts.iter().map(|(_, count)| count).sum();
        let east_asian = han + kana + hangul;
        if east_asian == 0 || east_asian * 3 < all - east_asian {
            return None;
        }
        Some(match () {
            () if kana.max(han) < hangul => Lang::Kor,
            // Japanese prose is about half kana; a quotation in a Chinese text is much less.
            () if han < kana * 5 => Lang::Jpn,
            () => Lang::Cmn,
        })
    }
}
