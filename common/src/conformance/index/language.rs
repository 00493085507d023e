//! Questions and documents meet across the forms of a word, in every language known.

use std::sync::Arc;

use super::{ask, by, collection, document, names, put, some_tenant};
use crate::ports::Index;

/// Whether each question finds its document first, among all of them.
async fn meet(index: Arc<dyn Index>, pairs: &[(&str, &str)]) {
    let (tenant, all) = (some_tenant(), collection("all"));
    for (n, (_, text)) in pairs.iter().enumerate() {
        put(&index, &tenant, document(&all, &n.to_string(), &[text], by(1, 0))).await;
    }
    for (n, (question, text)) in pairs.iter().enumerate() {
        let found = names(&index, &tenant, &ask(question, &all)).await;
        assert_eq!(found.first(), Some(&n.to_string()), "{question:?} should find {text:?}: {found:?}");
    }
}

pub async fn english_words_meet_in_all_their_forms(index: Arc<dyn Index>) {
    meet(
        index,
        &[
            ("how are packages configured?", "Configuring a package is simple."),
            ("connection", "The two hosts were connected yesterday."),
            ("MILLERS", "A miller's day begins before sunrise."),
            ("running water", "The water runs over the wheel."),
            ("studies", "She studied the geese."),
        ],
    )
    .await;
}

pub async fn questions_of_each_language_find_their_document(index: Arc<dyn Index>) {
    meet(
        index,
        &[
            ("数据库怎么备份？", "定期备份数据库可以避免数据丢失。"),
            ("王小明是谁", "负责人是王小明先生。"),
            ("データベースの作成", "データベースのバックアップを作成します。"),
            ("東京の天気", "今日の東京は晴れです。"),
            ("서울의 날씨", "오늘 서울은 맑습니다."),
            ("리눅스 설치", "리눅스를 설치하는 방법"),
            ("Häuser am See", "Das Haus steht am See und ist sehr alt, sagt man hier."),
            ("Установка пакетов", "Для установки пакета используйте команду."),
            ("how does the wheel turn", "The wheel turns with the tide."),
            ("Debian 的软件包", "Debian 的每个软件包都有维护者。"),
        ],
    )
    .await;
}

pub async fn identifiers_are_found_whole_and_by_parts(index: Arc<dyn Index>) {
    meet(
        index,
        &[
            ("dpkg-buildpackage", "Run dpkg-buildpackage in the source folder."),
            ("where is sources.list", "The file /etc/apt/sources.list names the mirrors."),
            ("libc", "The libc6 package provides functions that programs need."),
            ("version 12.4", "Release 12.4 was made in November."),
            ("ｆｕｌｌｗｉｄｔｈ", "Some write fullwidth letters."),
        ],
    )
    .await;
}

pub async fn words_that_no_document_has_find_nothing(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    put(&index, &tenant, document(&all, "a", &["A mill by the sea. 海边的磨坊。"], by(1, 0))).await;
    for question in ["quantum", "量子", "", "?!", "\u{0}", "' OR 1=1 --"] {
        assert_eq!(names(&index, &tenant, &ask(question, &all)).await, [""; 0], "{question:?}");
    }
}
