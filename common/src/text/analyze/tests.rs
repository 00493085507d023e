use proptest::prelude::*;

use super::*;

fn texts(text: &str, lang: Language) -> Vec<String> {
    terms(text, lang).into_iter().map(|term| term.text).collect()
}

fn meaning(text: &str) -> Vec<String> {
    let terms = terms(text, Language::detect(text));
    terms.into_iter().filter(|term| !term.stop && !term.part).map(|term| term.text).collect()
}

/// Whether some term of the question, under any of its forms, is a term of the document.
fn meets(question: &str, document: &str) -> bool {
    let lang = Language::detect(document);
    let document = texts(document, lang);
    query_terms(question, &[lang]).iter().any(|term| term.forms.iter().any(|form| document.contains(form)))
}

#[test]
fn words_become_stems_and_stop_words_are_marked() {
    assert_eq!(meaning("The connections were configured"), ["connect", "configur"]);
    assert_eq!(meaning("数据库的备份"), ["数据库", "备份"]);
    assert_eq!(meaning("软件包管理器"), ["软件包", "管理器"]);
    assert_eq!(meaning("如何紧急停机"), ["紧急", "停机"]);
    assert_eq!(meaning("Wie werden die Netzwerkkarten eingerichtet?"), ["netzwerkkart", "eingericht"]);
}

#[test]
fn identifiers_are_found_whole_and_by_their_parts() {
    for whole in ["dpkg-buildpackage", "apt.conf", "libc6", "/etc/apt/sources.list", "std::vec", "foo_bar"] {
        let found = texts(&format!("see {whole} for more"), Language::ENGLISH);
        let expected = whole.trim_start_matches('/');
        assert!(found.iter().any(|term| term == expected), "{whole}: {found:?}");
    }
    let found = texts("dpkg-buildpackage", Language::ENGLISH);
    assert_eq!(found, ["dpkg-buildpackage", "dpkg", "buildpackag"]);
    assert!(texts("libc6", Language::ENGLISH).contains(&"libc".to_owned()));
    assert_eq!(texts("C++ C# C", Language::ENGLISH), ["c++", "c", "c#", "c", "c"]);
    assert_eq!(texts("3.14 1,000 2026-11-24", Language::ENGLISH)[..2], ["3.14", "1000"]);
}

#[test]
fn every_span_is_where_the_term_stands() {
    let text = "Ｄｅｂｉａｎ 的 apt-get 命令，2024년 Linux를 l’École.";
    for term in terms(text, Language::detect(text)) {
        assert!(term.span.of(text).is_some_and(|part| !part.trim().is_empty()), "{term:?}");
    }
    assert!(texts(text, Language::CHINESE).contains(&"debian".to_owned()));
}

#[test]
fn questions_meet_documents_across_forms_of_a_word() {
    for (question, document) in [
        ("how are packages configured", "Configuring a package is simple."),
        ("数据库备份", "定期备份数据库可以避免数据丢失。"),
        ("王小明", "负责人是王小明先生。"),
        ("データベース", "データベースのバックアップを作成します。"),
        ("東京の天気", "今日の東京は晴れです。"),
        ("서울의 날씨", "오늘 서울은 맑습니다."),
        ("리눅스 설치", "리눅스를 설치하는 방법"),
        ("Häuser", "Das Haus steht am See und ist sehr alt, sagt man hier."),
        ("ecole", "L'école est fermée pendant les vacances d'été, dit-on dans la ville."),
        ("libc", "The libc6 package provides the C library."),
        ("Установка пакетов", "Для установки пакета используйте команду."),
        ("ｆｕｌｌｗｉｄｔｈ", "a fullwidth word"),
    ] {
        assert!(meets(question, document), "{question:?} should meet {document:?}");
    }
    assert!(!meets("天气", "数据库备份"));
    assert!(!meets("weather in Paris", "Configuring a package is simple in principle."));
}

#[test]
fn a_question_of_stop_words_only_keeps_them() {
    let terms = query_terms("to be or not to be", &[Language::ENGLISH]);
    assert!(terms.iter().any(|term| term.text == "not"));
    assert!(query_terms("what is a socket", &[]).iter().all(|term| term.text == "socket"));
    assert!(query_terms("什么是套接字？", &[]).iter().all(|term| "套接字".contains(&term.text)));
}

#[test]
fn a_short_question_has_the_forms_of_every_language_present() {
    let terms = query_terms("Motoren", &[Language::ENGLISH, Language::GERMAN]);
    assert!(terms[0].forms.contains(&"motor".to_owned()), "{terms:?}");
}

#[test]
fn languages_are_told_apart() {
    for (text, code) in [
        ("How do I install a package?", "eng"),
        ("kubernetes", "eng"),
        ("如何安装软件包？", "cmn"),
        ("Debian 的软件包管理", "cmn"),
        ("パッケージをインストールする方法は？", "jpn"),
        ("패키지를 어떻게 설치하나요?", "kor"),
        ("Wie installiere ich ein Paket?", "deu"),
        ("¿Cómo se instala un paquete en el sistema?", "spa"),
        ("Как установить пакет?", "rus"),
        ("12345", "und"),
    ] {
        assert_eq!(Language::detect(text).code(), code, "{text}");
    }
    let long = "Die Paketverwaltung ist ein zentraler Bestandteil des Systems. ".repeat(5);
    assert_eq!(Language::detect(&long), Language::GERMAN);
    assert_eq!(Language::from_code("deu"), Language::GERMAN);
    assert_eq!(Language::from_code("und"), Language::UNKNOWN);
}

proptest! {
    #[test]
    fn any_text_has_terms_with_true_spans_and_growing_positions(text in "\\PC{0,60}|[a-z0-9._:/'’+#-]{0,20}|[一-龥ぁ-んァ-ン가-힣a-z ]{0,20}") {
        let lang = Language::detect(&text);
        let terms = terms(&text, lang);
        prop_assert!(terms.iter().all(|term| term.span.of(&text).is_some() && !term.text.is_empty()));
        prop_assert!(terms.is_sorted_by_key(|term| term.position));
        for term in query_terms(&text, &[lang, Language::ENGLISH, Language::CHINESE]) {
            prop_assert!(!term.forms.is_empty());
        }
    }
}
