//! A question finds the same in PostgreSQL as in a folder.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millhand_common::adapters::embedded::EmbeddedIndex;
use millhand_common::conformance::documents::{by, collection, some_tenant};
use millhand_common::model::{CollectionName, Document, DocumentId, Filter, Passage, TenantId, Timestamp};
use millhand_common::ports::{Documents, Index, NewDocument, SearchQuery};
use millhand_worker::ingest::{parse, split};

use super::{built, database};
use millhand_common::adapters::pgvector::PgvectorOptions;

const FAQ: &str = "/usr/share/doc/debian/FAQ";
const TOP: usize = 5;

/// Debian's own FAQ, of the package `debian-faq`, as it is ingested.
fn faq(all: &CollectionName) -> Vec<NewDocument> {
    let mut documents = Vec::new();
    let files =
        fs::read_dir(FAQ).unwrap_or_else(|err| panic!("{FAQ}: {err}; run ./tests/run, which installs it"));
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // The table of contents holds every question and no answer.
        if !name.ends_with(".en.html") || name.starts_with("index.") {
            continue;
        }
        let canonical = parse(&name, None, &fs::read(&path).unwrap()).unwrap();
        let passages = split(&canonical);
        let document = Document {
            id: DocumentId::new(),
            collection: all.clone(),
            title: canonical.title.clone(),
            name,
            content_type: "text/html".to_owned(),
            bytes: 0,
            passages: u32::try_from(passages.len()).unwrap(),
            source: None,
            metadata: Default::default(),
            created_at: Timestamp::now(),
        };
        documents.push(NewDocument { document, canonical, passages, writer: by(1, 0) });
    }
    assert!(10 < documents.len(), "{} documents", documents.len());
    documents
}

/// Its questions: the headings that ask.
fn questions(documents: &[NewDocument]) -> Vec<String> {
    let headings = documents.iter().flat_map(|new| {
        new.canonical.headings.iter().filter_map(|heading| heading.span.of(&new.canonical.text))
    });
    // Without the number of the section.
    let asked = headings.map(|text| text.trim_start_matches(|c: char| c.is_numeric() || " .".contains(c)));
    let mut questions: Vec<String> =
        asked.filter(|text| text.ends_with(['?', '？'])).map(str::to_owned).collect();
    questions.sort();
    questions.dedup();
    questions
}

async fn top(
    index: &dyn Index,
    tenant: &TenantId,
    all: &CollectionName,
    question: &str,
    took: &mut Vec<Duration>,
) -> Vec<Passage> {
    let query = SearchQuery {
        texts: vec![question.to_owned()],
        vector: None,
        collections: vec![all.clone()],
        filter: Filter::default(),
        limit: TOP,
    };
    let started = Instant::now();
    let found = index.search(tenant, &query).await.unwrap();
    took.push(started.elapsed());
    found
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn english_questions_find_what_the_folder_finds() {
    let (database, _server) = database().await;
    let (tenant, all) = (some_tenant(), collection("faq"));
    let faq = faq(&all);
    let documents: Arc<dyn Documents> = Arc::new(database.documents());
    for new in &faq {
        documents.put(&tenant, new.clone()).await.unwrap();
    }
    let started = Instant::now();
    let shared = built(&database, PgvectorOptions::default()).await;
    let shared_built = started.elapsed();
    let folder = tempfile::tempdir().unwrap();
    let (own, _) = EmbeddedIndex::open(folder.path(), None).unwrap();
    let started = Instant::now();
    own.rebuild_from(&*documents, None).await.unwrap();
    let own_built = started.elapsed();

    let questions = questions(&faq);
    let (mut hits, mut same, mut first) = ([0, 0], 0, 0);
    let mut took = [Vec::new(), Vec::new()];
    for question in &questions {
        let found = [
            top(&shared, &tenant, &all, question, &mut took[0]).await,
            top(&own, &tenant, &all, question, &mut took[1]).await,
        ];
        for (hits, found) in hits.iter_mut().zip(&found) {
            *hits += usize::from(found.iter().any(|passage| passage.title.contains(question.as_str())));
        }
        let in_own = |passage: &&Passage| found[1].iter().any(|own| own.passage_id == passage.passage_id);
        same += found[0].iter().filter(in_own).count();
        first += usize::from(found[0][0].passage_id == found[1][0].passage_id);
    }
    let [shared_took, own_took] = took.map(median);
    let (all, passages) = (questions.len(), faq.iter().map(|new| new.passages.len()).sum::<usize>());
    println!(
        "{passages} passages, {all} questions; in the top {TOP}: PostgreSQL {}, folder {}; the same \
         passages {same} of {}, the same first {first}; a search takes {shared_took:?} and {own_took:?}, a build \
         {shared_built:?} and {own_built:?}",
        hits[0],
        hits[1],
        all * TOP,
    );
    assert!(20 <= all, "{all} questions");
    assert!(hits[0].abs_diff(hits[1]) <= 2, "{hits:?} of {all}");
    assert!(all * 85 <= hits[0] * 100, "{hits:?} of {all}");
    assert!(all * TOP * 85 <= same * 100, "{same} of {}", all * TOP);
    assert!(all * 85 <= first * 100, "{first} of {all}");
}
