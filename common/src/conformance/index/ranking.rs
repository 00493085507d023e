//! The order of what is found by words: BM25, and what is worth more.

use std::sync::Arc;

use super::{ask, by, collection, document, names, search, some_tenant};
use crate::model::{CollectionName, TenantId};
use crate::ports::{Index, IndexDocument, SearchQuery};

struct Corpus {
    index: Arc<dyn Index>,
    tenant: TenantId,
    all: CollectionName,
}

impl Corpus {
    /// Documents of one passage each.
    async fn of(index: Arc<dyn Index>, texts: &[(&str, &str)]) -> Self {
        let (tenant, all) = (some_tenant(), collection("all"));
        let documents = texts.iter().map(|(name, text)| document(&all, name, &[text], by(1, 0)));
        index.upsert(&tenant, documents.collect()).await.unwrap();
        Self { index, tenant, all }
    }

    async fn found(&self, question: &str) -> Vec<String> {
        names(&self.index, &self.tenant, &ask(question, &self.all)).await
    }
}

pub async fn a_rare_word_says_more_than_a_common_one(index: Arc<dyn Index>) {
    let corpus = Corpus::of(
        index,
        &[
            ("common", "granite walls stand here"),
            ("rare", "oaken beams stand here"),
            ("c2", "granite blocks lie there"),
            ("c3", "granite steps lead down"),
            ("c4", "granite sinks in water"),
        ],
    )
    .await;
    assert_eq!(corpus.found("granite oaken").await[0], "rare");
    assert_eq!(corpus.found("oaken granite").await[0], "rare");
}

pub async fn more_of_a_word_scores_higher(index: Arc<dyn Index>) {
    let corpus = Corpus::of(
        index,
        &[
            ("once", "granite wall timber roof copper door"),
            ("thrice", "granite wall granite roof granite door"),
            ("twice", "granite wall granite roof copper door"),
            ("never", "timber wall timber roof copper door"),
        ],
    )
    .await;
    assert_eq!(corpus.found("granite").await, ["thrice", "twice", "once"]);
}

pub async fn shorter_passages_score_higher(index: Arc<dyn Index>) {
    let filler = "timber roof copper door oaken beam slate floor ".repeat(12);
    let (middle, long) = (format!("granite {}", &filler[..96]), format!("granite {filler}"));
    let corpus = Corpus::of(index, &[("long", &long), ("short", "granite wall"), ("middle", &middle)]).await;
    assert_eq!(corpus.found("granite").await, ["short", "middle", "long"]);
}

pub async fn more_words_of_the_question_score_higher(index: Arc<dyn Index>) {
    let corpus = Corpus::of(
        index,
        &[
            ("one", "granite wall timber roof copper door"),
            ("three", "granite beam slate roof copper floor"),
            ("two", "granite beam timber roof bronze floor"),
        ],
    )
    .await;
    assert_eq!(corpus.found("granite beam slate").await, ["three", "two", "one"]);
}

pub async fn a_word_in_the_title_beats_a_heading_and_that_the_text(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let made = |name: &str, title: &str, heading: &str, text: &str| {
        let mut made = document(&all, name, &[text], by(1, 0));
        made.passages[0].headings = vec![heading.to_owned()];
        IndexDocument { title: title.to_owned(), ..made }
    };
    let documents = vec![
        made("d1", "Timber roof", "Copper door", "granite beam slate floor"),
        made("d2", "Timber roof", "Granite door", "oaken beam slate floor"),
        made("d3", "Granite roof", "Copper door", "oaken beam slate floor"),
        made("d4", "Timber roof", "Copper door", "oaken beam slate floor"),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    assert_eq!(names(&index, &tenant, &ask("granite", &all)).await, ["d3", "d2", "d1"]);
    // A document is found by its name too.
    assert_eq!(names(&index, &tenant, &ask("d4", &all)).await, ["d4"]);
}

pub async fn neighbours_in_the_question_are_better_as_neighbours(index: Arc<dyn Index>) {
    let corpus = Corpus::of(
        index,
        &[
            ("apart", "the water is deep and the old wheel of the miller is high"),
            ("together", "the water wheel is deep and the old miller of the hill is high"),
            ("other", "a hill and a house and a high old tree stand near the sea"),
        ],
    )
    .await;
    assert_eq!(corpus.found("water wheel").await, ["together", "apart"]);
}

pub async fn the_best_wording_of_a_question_counts(index: Arc<dyn Index>) {
    let corpus = Corpus::of(
        index,
        &[
            ("first", "granite wall timber roof"),
            ("second", "copper door slate floor"),
            ("neither", "oaken beam bronze bell"),
        ],
    )
    .await;
    let query = |texts: &[&str]| SearchQuery {
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..ask("", &corpus.all)
    };
    let both = query(&["granite wall", "copper"]);
    assert_eq!(names(&corpus.index, &corpus.tenant, &both).await, ["first", "second"]);
    // Saying the same twice adds nothing: one wording that holds both words is no better than two.
    let again = query(&["granite wall", "copper", "copper"]);
    let (one, two) = (
        search(&corpus.index, &corpus.tenant, &both).await,
        search(&corpus.index, &corpus.tenant, &again).await,
    );
    assert_eq!(one, two);
}

pub async fn a_limit_cuts_the_same_list(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let texts: Vec<String> = (0..30).map(|n| format!("granite {}", "timber ".repeat(n / 3))).collect();
    let documents = (0..).zip(&texts).map(|(n, text)| document(&all, &format!("d{n}"), &[text], by(1, 0)));
    index.upsert(&tenant, documents.collect()).await.unwrap();
    let limited = |limit| SearchQuery { limit, ..ask("granite", &all) };
    let whole = search(&index, &tenant, &limited(100)).await;
    assert_eq!(whole.len(), 30);
    for limit in [0, 1, 7, 29, 30] {
        let found = search(&index, &tenant, &limited(limit)).await;
        assert_eq!(found, whole[..limit], "equal scores keep one order, limit {limit}");
    }
}

pub async fn a_pasted_page_asks_for_its_rare_words(index: Arc<dyn Index>) {
    let page: Vec<String> = (0..300).map(|n| format!("filler{n}")).collect();
    let page = page.join(" ");
    let corpus = Corpus::of(
        index,
        &[
            ("page", &page),
            ("page again", &page),
            ("page thrice", &page),
            ("needle", "a zymurgist lives in the mill"),
            ("other", "nobody lives in the house"),
        ],
    )
    .await;
    let question = format!("{page} zymurgist {page}");
    let found = corpus.found(&question).await;
    assert!(found.contains(&"needle".to_owned()), "{found:?}");
}
