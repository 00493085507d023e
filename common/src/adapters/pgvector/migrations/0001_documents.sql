-- Texts that users choose are kept as bytes: PostgreSQL takes no NUL in a text, and bytes are compared
-- by value whatever the collation of the database.

CREATE TABLE millhand.uploads (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    -- Milliseconds since 1970.
    at bigint NOT NULL,
    crc bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX uploads_at ON millhand.uploads (at);
-- Most originals are compressed already.
ALTER TABLE millhand.uploads ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE millhand.collections (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- The newest deletion of it.
    version bigint NOT NULL DEFAULT 0,
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, name)
);

-- The fence: one row per name ever written, with the newest writer and the current document, if any.
CREATE TABLE millhand.names (
    tenant text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    name bytea NOT NULL,
    version bigint NOT NULL,
    epoch bigint NOT NULL,
    current uuid,
    PRIMARY KEY (tenant, collection, name)
);

CREATE TABLE millhand.documents (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    -- 0 current; 1 replaced, its text kept for those who cite it; 2 deleted, only its id known.
    state smallint NOT NULL,
    -- The order in which versions were replaced.
    replaced bigint,
    meta bytea,
    text bytea,
    passages bytea,
    crc bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX documents_current ON millhand.documents (id) WHERE state = 0;
CREATE INDEX documents_replaced ON millhand.documents (replaced) WHERE state = 1;
CREATE SEQUENCE millhand.replacements;
