//! Fields of the index.

use std::sync::LazyLock;

use tantivy::Term;
use tantivy::schema::{
    BytesOptions, Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions,
};

use crate::search::Key;

/// The term by which what carries this key is found.
pub(super) fn key_term(key: Key, field: Field) -> Term {
    Term::from_field_bytes(field, key.bytes())
}

/// The name under which the analyser is registered.
pub(super) const ANALYSER: &str = "millhand";

/// A tantivy document is a passage (`scope` to `row`) or a fence (`fence`, `fence_scope`, `stored`).
pub(super) struct Fields {
    /// Tenant and collection of a passage.
    pub(super) scope: Field,
    /// Tenant, collection and name of a passage's document.
    pub(super) name: Field,
    /// What filters can ask for, one value per field and value.
    pub(super) filter: Field,
    pub(super) title: Field,
    pub(super) headings: Field,
    pub(super) body: Field,
    /// ISO 639-3 code of a passage's language.
    pub(super) language: Field,
    /// A passage as JSON; of a fence, its writer.
    pub(super) stored: Field,
    /// Key of the name or scope that is fenced.
    pub(super) fence: Field,
    /// Of the fence of a name: its tenant and collection.
    pub(super) fence_scope: Field,
}

/// Fast fields, by name: the passage id in three parts, and the row of its vector.
pub(super) const ID_HIGH: &str = "id_high";
pub(super) const ID_LOW: &str = "id_low";
pub(super) const ORDINAL: &str = "ordinal";
pub(super) const ROW: &str = "row";

pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut builder = Schema::builder();
    let text = |record| {
        let indexing = TextFieldIndexing::default().set_tokenizer(ANALYSER).set_index_option(record);
        TextOptions::default().set_indexing_options(indexing)
    };
    let key = || BytesOptions::default().set_indexed();
    builder.add_bytes_field("scope", key());
    builder.add_bytes_field("name", key());
    builder.add_bytes_field("filter", key());
    builder.add_text_field("title", text(IndexRecordOption::WithFreqs));
    builder.add_text_field("headings", text(IndexRecordOption::WithFreqs));
    // Positions are what phrases are found by.
    builder.add_text_field("body", text(IndexRecordOption::WithFreqsAndPositions));
    builder.add_bytes_field("language", key());
    builder.add_bytes_field("stored", BytesOptions::default().set_stored());
    builder.add_bytes_field("fence", key());
    builder.add_bytes_field("fence_scope", key());
    for fast in [ID_HIGH, ID_LOW, ORDINAL, ROW] {
        builder.add_u64_field(fast, NumericOptions::default().set_fast());
    }
    builder.build()
});

pub(super) static FIELDS: LazyLock<Fields> = LazyLock::new(|| Fields {
    scope: field("scope"),
    name: field("name"),
    filter: field("filter"),
    title: field("title"),
    headings: field("headings"),
    body: field("body"),
    language: field("language"),
    stored: field("stored"),
    fence: field("fence"),
    fence_scope: field("fence_scope"),
});

pub(super) fn field(name: &str) -> Field {
    SCHEMA.get_field(name).expect("the schema above names it")
}
