-- The spine: accounts, jobs, epochs, the event stream, idempotency keys. A released migration is never edited: add a new file.
-- Times are microseconds since 1970; 0 means "not yet".
PRAGMA application_id = 0x52534432; -- "RSD2"

CREATE TABLE account (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    created_us INTEGER NOT NULL
) STRICT;

-- Until there are more accounts, everything belongs to this one.
INSERT INTO account (id, name, created_us) VALUES (1, 'local', CAST(unixepoch() AS INTEGER) * 1000000);

CREATE TABLE job (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 31),
    owner               INTEGER NOT NULL REFERENCES account (id),
    state               TEXT    NOT NULL DEFAULT 'queued'
                        CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt             INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    tries               INTEGER NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND attempt),
    epochs_done         INTEGER NOT NULL DEFAULT 0 CHECK (epochs_done BETWEEN 0 AND epochs),
    epochs              INTEGER NOT NULL CHECK (epochs >= 1),
    spec                TEXT    NOT NULL CHECK (spec LIKE '{%'),
    hello               TEXT    CHECK (hello LIKE '{%'),
    device              TEXT    NOT NULL DEFAULT '',
    reason              TEXT    NOT NULL DEFAULT '',
    reason_text         TEXT,
    created_us          INTEGER NOT NULL CHECK (created_us > 0),
    started_us          INTEGER NOT NULL DEFAULT 0,
    ended_us            INTEGER NOT NULL DEFAULT 0,
    cancel_requested_us INTEGER NOT NULL DEFAULT 0,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_us > 0)),
    CHECK (state <> 'succeeded' OR epochs_done = epochs)
) STRICT;

CREATE INDEX job_by_state ON job (state, seq);

CREATE TABLE epoch (
    job        INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    epoch      INTEGER NOT NULL CHECK (epoch >= 1),
    attempt    INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (job, epoch)
) STRICT;

-- The stream. AUTOINCREMENT: an id is never given twice, not even after the newest rows were deleted. "job" is the public id and no
-- foreign key, since the event that tells of a deletion outlives its job.
CREATE TABLE event (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job        TEXT    NOT NULL,
    owner      INTEGER NOT NULL REFERENCES account (id),
    type       TEXT    NOT NULL CHECK (type IN ('job', 'progress', 'epoch')),
    created_us INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;

CREATE INDEX event_by_job ON event (job, id);
CREATE INDEX event_progress ON event (job) WHERE type = 'progress';

CREATE TABLE idempotency (
    account     INTEGER NOT NULL REFERENCES account (id),
    key         TEXT    NOT NULL,
    body_sha256 TEXT    NOT NULL CHECK (length(body_sha256) = 64),
    job         TEXT    NOT NULL,
    created_us  INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
