CREATE EXTENSION IF NOT EXISTS vector;

-- What the index was made with: it serves only the same.
CREATE TABLE millhand.index_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    format bigint NOT NULL,
    analyser bigint NOT NULL,
    embedder text,
    -- Of the vectors stored, once there is one.
    dimensions integer,
    -- False until everything there was is in.
    complete boolean NOT NULL
);

-- A tenant's collection: its fence, and the sums that BM25 divides by.
CREATE TABLE millhand.scopes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    version bigint,
    epoch bigint,
    passages bigint NOT NULL DEFAULT 0,
    title_terms bigint NOT NULL DEFAULT 0,
    headings_terms bigint NOT NULL DEFAULT 0,
    body_terms bigint NOT NULL DEFAULT 0
);

CREATE TABLE millhand.scope_languages (
    scope bigint NOT NULL REFERENCES millhand.scopes ON DELETE CASCADE,
    language text NOT NULL,
    passages bigint NOT NULL,
    PRIMARY KEY (scope, language)
);

-- A document's name: its fence, and what filters ask of its current version. Without passages it is a
-- tombstone.
CREATE TABLE millhand.indexed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope bigint NOT NULL REFERENCES millhand.scopes,
    key bytea NOT NULL UNIQUE,
    version bigint NOT NULL,
    epoch bigint NOT NULL,
    filters bytea[] NOT NULL DEFAULT '{}'
);
CREATE INDEX indexed_scope ON millhand.indexed (scope);
CREATE INDEX indexed_filters ON millhand.indexed USING gin (filters);

CREATE TABLE millhand.passages (
    document bigint NOT NULL,
    ordinal integer NOT NULL,
    language text NOT NULL,
    title_length integer NOT NULL,
    headings_length integer NOT NULL,
    body_length integer NOT NULL,
    -- The passage as JSON.
    stored bytea NOT NULL,
    PRIMARY KEY (document, ordinal)
);

-- The inverted index: how often a term stands in each field of a passage, and how long the fields are.
-- All that a score needs is in the key's index. `positions` are those in the body, each as four bytes,
-- the lowest first.
CREATE TABLE millhand.postings (
    scope bigint NOT NULL,
    term text COLLATE "C" NOT NULL,
    document bigint NOT NULL,
    ordinal integer NOT NULL,
    title smallint NOT NULL,
    headings smallint NOT NULL,
    body smallint NOT NULL,
    title_length integer NOT NULL,
    headings_length integer NOT NULL,
    body_length integer NOT NULL,
    positions bytea NOT NULL,
    PRIMARY KEY (scope, term, document, ordinal)
        INCLUDE (title, headings, body, title_length, headings_length, body_length)
);
CREATE INDEX postings_document ON millhand.postings (document);

-- Of length 1, so that an inner product is a cosine. The index for the nearest is made with the first
-- vector, whose length it needs to know.
CREATE TABLE millhand.vectors (
    scope bigint NOT NULL,
    document bigint NOT NULL,
    ordinal integer NOT NULL,
    embedding vector NOT NULL,
    PRIMARY KEY (document, ordinal)
);
CREATE INDEX vectors_scope ON millhand.vectors (scope);
