//! What the pipeline says in its own words, in the language of the question.

use super::terms::is_han;

/// The language the pipeline speaks to this asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    English,
    Chinese,
}

impl Voice {
    /// Chinese for a question in Chinese; English for every other.
    pub(crate) fn of(question: &str) -> Self {
        let kana = |c: char| matches!(c, '\u{3041}'..='\u{30ff}');
        let han = question.chars().filter(|c| is_han(*c)).count();
        let latin =
            question.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).count();
        if han > latin && !question.chars().any(kana) { Self::Chinese } else { Self::English }
    }

    /// Before quotations.
    pub(crate) fn quotations(self) -> &'static str {
        match self {
            Self::English => "No language model is configured; these are quotations from your documents.",
            Self::Chinese => "未配置语言模型；以下为您的文档中的原文摘录。",
        }
    }

    /// The same where there is a model, and it cannot be asked now.
    pub(crate) fn quotations_instead(self) -> &'static str {
        match self {
            Self::English => "No language model can be asked now; these are quotations from your documents.",
            Self::Chinese => "语言模型暂不可用；以下为您的文档中的原文摘录。",
        }
    }

    pub(crate) fn not_answered(self) -> &'static str {
        match self {
            Self::English => "The documents do not answer this question.",
            Self::Chinese => "这些文档没有回答这个问题。",
        }
    }

    pub(crate) fn no_documents(self) -> &'static str {
        match self {
            Self::English => {
                "There are no documents to answer from. Add some with `millhand ingest PATH --collection NAME`."
            }
            Self::Chinese => "没有可供回答的文档。请先用 `millhand ingest 路径 --collection 名称` 添加文档。",
        }
    }

    /// Before the titles of the closest passages.
    pub(crate) fn closest(self) -> &'static str {
        match self {
            Self::English => "Closest, not an answer:",
            Self::Chinese => "最接近的内容（并非答案）：",
        }
    }

    /// After an answer that no passage supports.
    pub(crate) fn unsupported(self) -> &'static str {
        match self {
            Self::English => "(No passage of the documents supports this answer.)",
            Self::Chinese => "（文档中没有支持该回答的内容。）",
        }
    }
}

/// Whether a model's text says that the documents do not answer.
pub(crate) fn says_not_found(text: &str) -> bool {
    const SAYINGS: &[&str] = &[
        "do not answer",
        "does not answer",
        "do not contain",
        "does not contain",
        "do not mention",
        "does not mention",
        "do not say",
        "not in the documents",
        "not in these documents",
        "no information",
        "cannot answer",
        "can't answer",
        "could not find",
        "not found in",
        "没有回答",
        "未提及",
        "没有提及",
        "没有提到",
        "没有相关",
        "未找到",
        "没有找到",
        "找不到",
        "无法回答",
        "没有包含",
        "不包含",
    ];
    let folded = text.to_lowercase();
    SAYINGS.iter().any(|saying| folded.contains(saying))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_voice_follows_the_question() {
        assert_eq!(Voice::of("Debian 的软件包如何安装？"), Voice::Chinese);
        assert_eq!(Voice::of("What does 软件 mean in this text?"), Voice::English);
        assert_eq!(Voice::of("パッケージの入れ方は？"), Voice::English);
        assert_eq!(Voice::of(""), Voice::English);
    }
}
