-- Imported data sets: uploaded, then imported by a worker. "importing" is no state of its own: a queued one is imported again after a
-- restart.
CREATE TABLE dataset (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE CHECK (id LIKE 'ds\_%' ESCAPE '\' AND length(id) <= 31),
    owner          INTEGER NOT NULL REFERENCES account (id),
    name           TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 32),
    title          TEXT    NOT NULL,
    state          TEXT    NOT NULL DEFAULT 'uploading' CHECK (state IN ('uploading', 'queued', 'ready', 'failed')),
    archive_bytes  INTEGER NOT NULL CHECK (archive_bytes > 0),
    archive_sha256 TEXT    NOT NULL CHECK (length(archive_sha256) = 64),
    options        TEXT    NOT NULL CHECK (options LIKE '{%'),
    card           TEXT    CHECK (card LIKE '{%'),
    content        TEXT,                      -- digest of what it holds: images, labels, shape, classes
    reason         TEXT    NOT NULL DEFAULT '',
    reason_text    TEXT,
    entry          TEXT    NOT NULL DEFAULT '', -- of the archive, which is to blame
    created_us     INTEGER NOT NULL CHECK (created_us > 0),
    UNIQUE (owner, name),
    UNIQUE (owner, content),
    CHECK ((state = 'ready') = (card IS NOT NULL)),
    CHECK ((state = 'ready') = (content IS NOT NULL)),
    CHECK ((state = 'failed') = (reason <> ''))
) STRICT;
CREATE INDEX dataset_by_state ON dataset (state, seq);

-- The ids of those that turned out to hold what another one holds.
CREATE TABLE dataset_alias (
    id      TEXT NOT NULL PRIMARY KEY,
    dataset TEXT NOT NULL REFERENCES dataset (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX dataset_alias_by_dataset ON dataset_alias (dataset);

-- What a job trains on; null: a built-in set.
ALTER TABLE job ADD COLUMN dataset TEXT REFERENCES dataset (id);
CREATE INDEX job_by_dataset ON job (dataset) WHERE dataset IS NOT NULL;
