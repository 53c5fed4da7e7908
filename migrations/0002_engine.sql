-- The engine: jobs that stop early, best epochs, hashes of weights, what each attempt's worker said of itself, verifications.
-- SQLite changes a CHECK only by building the table anew; rows, keys and the last key given away are kept.
CREATE TABLE job2 (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 31),
    owner               INTEGER NOT NULL REFERENCES account (id),
    state               TEXT    NOT NULL DEFAULT 'queued'
                        CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt             INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    tries               INTEGER NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND attempt),
    epochs_done         INTEGER NOT NULL DEFAULT 0 CHECK (epochs_done BETWEEN 0 AND epochs),
    epochs              INTEGER NOT NULL CHECK (epochs >= 1),
    best_epoch          INTEGER NOT NULL DEFAULT 0 CHECK (best_epoch BETWEEN 0 AND epochs_done), -- 0: none
    stopped_early       INTEGER NOT NULL DEFAULT 0 CHECK (stopped_early IN (0, 1)),
    test_accuracy       REAL,                      -- of the newest epoch
    spec                TEXT    NOT NULL CHECK (spec LIKE '{%'),
    hello               TEXT    CHECK (hello LIKE '{%'),
    device              TEXT    NOT NULL DEFAULT '',
    reason              TEXT    NOT NULL DEFAULT '',
    reason_text         TEXT,
    created_us          INTEGER NOT NULL CHECK (created_us > 0),
    started_us          INTEGER NOT NULL DEFAULT 0,
    ended_us            INTEGER NOT NULL DEFAULT 0,
    cancel_requested_us INTEGER NOT NULL DEFAULT 0,
    verifies            TEXT    NOT NULL DEFAULT '', -- the job that this one runs again
    verify_job          TEXT    NOT NULL DEFAULT '', -- the other side of the newest verification
    verify_result       TEXT    NOT NULL DEFAULT '' CHECK (verify_result IN ('', 'pending', 'identical', 'differs', 'unfinished')),
    verify_epoch        INTEGER NOT NULL DEFAULT 0,  -- the first that differs
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_us > 0)),
    CHECK (state <> 'succeeded' OR epochs_done = epochs OR stopped_early = 1),
    CHECK ((verify_result = '') = (verify_job = '')),
    CHECK ((verify_result = 'differs') = (verify_epoch > 0))
) STRICT;

INSERT INTO job2 (seq, id, owner, state, attempt, tries, epochs_done, epochs, spec, hello, device, reason, reason_text, created_us,
                  started_us, ended_us, cancel_requested_us, test_accuracy)
SELECT seq, id, owner, state, attempt, tries, epochs_done, epochs, spec, hello, device, reason, reason_text, created_us, started_us,
       ended_us, cancel_requested_us,
       (SELECT CAST(json_extract(body, '$.test.accuracy') AS REAL) FROM epoch WHERE epoch.job = job.seq ORDER BY epoch DESC LIMIT 1)
FROM job;
DELETE FROM sqlite_sequence WHERE name = 'job2';
INSERT INTO sqlite_sequence (name, seq) SELECT 'job2', seq FROM sqlite_sequence WHERE name = 'job';

CREATE TABLE epoch2 (
    job            INTEGER NOT NULL REFERENCES job2 (seq) ON DELETE CASCADE,
    epoch          INTEGER NOT NULL CHECK (epoch >= 1),
    attempt        INTEGER NOT NULL,
    created_us     INTEGER NOT NULL,
    weights_sha256 TEXT    NOT NULL CHECK (length(weights_sha256) IN (0, 64)), -- '': from before it was recorded
    body           TEXT    NOT NULL,
    PRIMARY KEY (job, epoch)
) STRICT;

INSERT INTO epoch2 (job, epoch, attempt, created_us, weights_sha256, body)
SELECT job, epoch, attempt, created_us, '', body FROM epoch;

DROP TABLE epoch; -- first, so that no row of it goes with its job
DROP TABLE job;
ALTER TABLE job2 RENAME TO job;
ALTER TABLE epoch2 RENAME TO epoch;
CREATE INDEX job_by_state ON job (state, seq);
CREATE INDEX job_by_verified ON job (verifies) WHERE verifies <> '';

-- What the worker of each attempt said of itself.
CREATE TABLE attempt (
    job     INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    hello   TEXT    NOT NULL CHECK (hello LIKE '{%'),
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

INSERT INTO attempt (job, attempt, hello) SELECT seq, attempt, hello FROM job WHERE hello IS NOT NULL AND attempt >= 1;
