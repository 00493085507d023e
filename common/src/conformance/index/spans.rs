//! What is found is what was put in, to the byte.

use std::sync::Arc;

use super::{ask, by, collection, document, put, search, some_tenant};
use crate::model::{PassageId, Scalar};
use crate::ports::{Index, IndexDocument};

pub async fn spans_are_bytes_of_the_canonical_text(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("手册"));
    let paragraphs =
        ["Häuser am Fluß 🙂", "磨坊在海边。\r\n第二行", "a mill by\tthe sea \u{feff} ", "é ≠ e\u{301}, mill"];
    let canonical = paragraphs.join("\n\n");
    let new = document(&all, "a", &paragraphs, by(1, 0));
    let id = new.id;
    put(&index, &tenant, new).await;
    let mut seen = Vec::new();
    for question in ["Häuser", "磨坊", "mill"] {
        for passage in search(&index, &tenant, &ask(question, &all)).await {
            assert_eq!(passage.span.of(&canonical), Some(passage.text.as_str()));
            assert_eq!((passage.document.as_str(), passage.document_id), ("a", id));
            let ordinal = passage.passage_id.ordinal;
            assert_eq!(passage.passage_id, PassageId { document: id, ordinal });
            assert_eq!(passage.text, paragraphs[ordinal as usize]);
            seen.push(ordinal);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
}

pub async fn titles_carry_the_headings_above(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let mut titled = document(&all, "guide.md", &["a mill", "a pond"], by(1, 0));
    titled.title = "Guide".to_owned();
    titled.passages[0].headings = vec!["Guide".to_owned(), "Water".to_owned(), "Wheels".to_owned()];
    put(&index, &tenant, titled).await;
    let untitled = document(&all, "磨坊.txt", &["a wheel"], by(1, 0));
    put(&index, &tenant, untitled).await;
    let mut titles = Vec::new();
    for question in ["mill", "pond", "wheel"] {
        titles.push(search(&index, &tenant, &ask(question, &all)).await[0].title.clone());
    }
    assert_eq!(titles[..2], ["Guide › Water › Wheels", "Guide"]);
    let last = search(&index, &tenant, &ask("磨坊", &all)).await;
    assert_eq!(last[0].title, "磨坊.txt", "without a title the name serves");
}

/// Also a NUL, which some databases cannot keep in a text.
pub async fn any_character_is_kept(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let odd = "mill\u{0}pond \u{202e}🙂\u{10ffff} '\\\"%_$1 \u{1}";
    let mut new = document(&all, odd, &[odd], by(1, 0));
    new.passages[0].headings = vec![odd.to_owned()];
    let new = IndexDocument {
        title: odd.to_owned(),
        source: Some(odd.to_owned()),
        metadata: [(odd.to_owned(), Scalar::Text(odd.to_owned()))].into(),
        ..new
    };
    put(&index, &tenant, new).await;
    let found = search(&index, &tenant, &ask("pond", &all)).await;
    assert_eq!((found[0].text.as_str(), found[0].document.as_str()), (odd, odd));
    let field = format!("metadata.{odd}");
    let filter = serde_json::from_value(serde_json::json!({ field: odd, "source": odd })).unwrap();
    let query = crate::ports::SearchQuery { filter, ..ask(odd, &all) };
    assert_eq!(search(&index, &tenant, &query).await.len(), 1);
    index.delete(&tenant, &all, odd, by(2, 0)).await.unwrap();
    assert_eq!(search(&index, &tenant, &ask("pond", &all)).await, []);
}
