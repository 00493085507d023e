//! What kind of thing a question asks for, and which sentences look like one.

/// What the answer has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Time,
    Place,
    Amount,
    Way,
    Reason,
    Meaning,
    Other,
}

impl Kind {
    /// By the words one asks with, in English and Chinese.
    pub(crate) fn of(question: &str) -> Self {
        let folded = question.to_lowercase();
        let folded = folded.trim();
        let any = |words: &[&str]| words.iter().any(|word| folded.contains(word));
        let begins = |words: &[&str]| words.iter().any(|word| folded.starts_with(word));
        if any(&[
            "how many",
            "how much",
            "how long",
            "how often",
            "how big",
            "how large",
            "how old",
            "how far",
        ]) || any(&["多少", "多久", "几个", "几种", "多大", "多长", "多远", "几次", "几台"])
        {
            Self::Amount
        } else if any(&["为什么", "为何", "什么原因"]) || begins(&["why"]) || any(&[" why ", "what reason"])
        {
            Self::Reason
        } else if begins(&["when"])
            || any(&["what year", "which year", "what date", "what time", " when "])
            || any(&["什么时候", "何时", "哪一年", "哪年", "几点", "几号", "哪天", "多久前"])
        {
            Self::Time
        } else if begins(&["who", "whom", "whose"]) || any(&["谁", "哪位", "何人", " who "]) {
            Self::Person
        } else if begins(&["where"])
            || any(&[" where ", "which place", "what url", "what address"])
            || any(&["哪里", "哪儿", "何处", "什么地方", "在哪"])
        {
            Self::Place
        } else if begins(&["how"])
            || any(&["how do", "how can", "how to", "which command", "what command"])
            || any(&["如何", "怎么", "怎样", "用什么命令", "哪个命令", "什么方法"])
        {
            Self::Way
        } else if begins(&["what is", "what are", "what's", "what does", "define"])
            || any(&["是什么", "什么是", "什么意思", "何谓", "指什么", "mean"])
        {
            Self::Meaning
        } else {
            Self::Other
        }
    }

    /// How much `sentence` looks like such an answer, 0 to 1.
    pub(crate) fn fits(self, sentence: &str) -> f32 {
        let folded = sentence.to_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| folded.contains(word));
        let digits = sentence.bytes().any(|b| b.is_ascii_digit());
        let fits = match self {
            Self::Amount => {
                digits
                    || any(&[
                        " two ", " three ", " four ", " five ", " ten ", "hundred", "thousand", "million",
                    ])
                    || any(&["两", "三", "四", "五", "十", "百", "千", "万", "数"])
            }
            Self::Time => {
                has_year(sentence)
                    || any(&["january", "february", "march", "april", "june", "july", "august", "september"])
                    || any(&[
                        "october", "november", "december", "every", " day", "month", "year", "week",
                        "o'clock",
                    ])
                    || any(&["年", "月", "日", "点", "每", "周", "星期"])
            }
            Self::Person => {
                has_name(sentence)
                    || any(&["team", "people", "person", "volunteer", "developer", "maintainer", "author"])
                    || any(&["人", "者", "团队", "员", "者"])
            }
            Self::Place => {
                any(&["http", "www.", "/", "@", " at ", " in ", " from "])
                    || any(&["在", "位于", "网站", "地址", "处"])
            }
            Self::Way => {
                has_command(sentence)
                    || any(&[
                        "run ",
                        "use ",
                        "type ",
                        "edit ",
                        "install ",
                        "by ",
                        "you can",
                        "you should",
                        "to ",
                    ])
                    || any(&["运行", "使用", "输入", "编辑", "执行", "命令", "通过", "可以", "用"])
            }
            Self::Reason => {
                any(&[
                    "because",
                    "since ",
                    "so that",
                    "due to",
                    "reason",
                    "therefore",
                    "in order to",
                    "as a result",
                ]) || any(&["因为", "由于", "所以", "因此", "为了", "原因", "以便"])
            }
            Self::Meaning => {
                any(&[" is a", " is the", " are ", " means", "refers to", "stands for", "called"])
                    || any(&["是", "指", "意思", "即", "称为"])
            }
            Self::Other => return 0.5,
        };
        if fits { 1.0 } else { 0.0 }
    }
}

fn has_year(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|number| {
        number.len() == 4 && number.parse::<u32>().is_ok_and(|year| (1000..2200).contains(&year))
    })
}

/// Two words with a capital in a row, not counting the first of the sentence.
fn has_name(text: &str) -> bool {
    let capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| capital(pair[0]) && capital(pair[1]))
}

/// Something one types: an option, a path, a file name with an ending.
fn has_command(text: &str) -> bool {
    text.split_whitespace().any(|word| {
        let word = word.trim_end_matches(['.', ',', ';', ':', ')', '。', '，']);
        word.starts_with("--")
            || (word.starts_with('-') && word.len() == 2)
            || (word.starts_with('/') && word.len() > 2)
            || word.contains('`')
            || word == "#"
            || word == "$"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart_in_both_languages() {
        for (question, kind) in [
            ("How many architectures are there?", Kind::Amount),
            ("有多少种架构？", Kind::Amount),
            ("Who wrote this?", Kind::Person),
            ("这是谁写的？", Kind::Person),
            ("When was it released?", Kind::Time),
            ("它是什么时候发布的？", Kind::Time),
            ("Where can I get it?", Kind::Place),
            ("在哪里可以下载？", Kind::Place),
            ("How do I remove a package?", Kind::Way),
            ("如何删除软件包？", Kind::Way),
            ("Why is it so old?", Kind::Reason),
            ("为什么这么旧？", Kind::Reason),
            ("What is APT?", Kind::Meaning),
            ("什么是 APT？", Kind::Meaning),
            ("Does it run on a Mac?", Kind::Other),
        ] {
            assert_eq!(Kind::of(question), kind, "{question}");
        }
    }

    #[test]
    fn a_sentence_with_what_is_asked_fits_better() {
        assert!(Kind::Time.fits("It was built in 1786.") > Kind::Time.fits("It was built of oak."));
        assert!(Kind::Reason.fits("因为它很稳定。") > Kind::Reason.fits("它很稳定。"));
        assert!(Kind::Way.fits("dpkg --purge foo") > Kind::Way.fits("Packages are archives."));
    }
}
