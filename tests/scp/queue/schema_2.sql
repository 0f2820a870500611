-- Schema version 2 as it was shipped, for the test of the way to the newest. Never edit it.
CREATE TABLE schema_version (
    version    INTEGER NOT NULL PRIMARY KEY,   -- the highest row is the schema of this file
    applied_at INTEGER NOT NULL
);

CREATE TABLE studies (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again, so no two studies ever share a key
    key                TEXT    NOT NULL UNIQUE,
    study_instance_uid TEXT    NOT NULL UNIQUE,
    state              TEXT    NOT NULL CHECK (state IN
                               ('receiving', 'ready', 'processing', 'sending', 'done', 'set_aside')),
    revision           INTEGER NOT NULL DEFAULT 1,
    instances          INTEGER NOT NULL DEFAULT 0,          -- without conflicts
    conflicts          INTEGER NOT NULL DEFAULT 0,
    bytes              INTEGER NOT NULL DEFAULT 0,          -- of both
    first_received     INTEGER NOT NULL,
    last_received      INTEGER NOT NULL,
    quiet_since        INTEGER NOT NULL,                    -- the quiet time of the study counts from here
    state_since        INTEGER NOT NULL,
    calling_ae_title   TEXT    NOT NULL DEFAULT '',         -- who sent the first instance
    called_ae_title    TEXT    NOT NULL DEFAULT '',
    peer_address       TEXT    NOT NULL DEFAULT '',
    last_error         TEXT    NOT NULL DEFAULT '',         -- of receiving or processing; each output has its own
    outcome            TEXT    NOT NULL DEFAULT ''          -- one line for people, of this revision
);
CREATE INDEX studies_by_state ON studies (state, quiet_since);
CREATE INDEX studies_by_newest ON studies (last_received);

CREATE TABLE series (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    series_instance_uid TEXT    NOT NULL,
    modality            TEXT    NOT NULL DEFAULT '',
    quiet_since         INTEGER NOT NULL,
    closed_at           INTEGER,                            -- NULL: instances may still come
    UNIQUE (study_id, series_instance_uid)
);

CREATE TABLE instances (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    series_id           INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    sop_instance_uid    TEXT    NOT NULL,
    sop_class_uid       TEXT    NOT NULL,
    transfer_syntax_uid TEXT    NOT NULL,
    modality            TEXT    NOT NULL DEFAULT '',
    sha256              TEXT    NOT NULL,                   -- of the data set as it came
    file                TEXT    NOT NULL UNIQUE,            -- relative to the spool; UNIQUE: the call is idempotent
    bytes               INTEGER NOT NULL,
    conflict            INTEGER NOT NULL DEFAULT 0 CHECK (conflict IN (0, 1)),
    revision            INTEGER NOT NULL,                   -- of the study, when it came
    calling_ae_title    TEXT    NOT NULL DEFAULT '',
    peer_address        TEXT    NOT NULL DEFAULT '',
    received_at         INTEGER NOT NULL
);
CREATE INDEX instances_of_study ON instances (study_id);
CREATE INDEX instances_of_series ON instances (series_id);
CREATE UNIQUE INDEX instances_in_use ON instances (sop_instance_uid) WHERE conflict = 0;
CREATE UNIQUE INDEX instances_beside ON instances (sop_instance_uid, sha256, study_id) WHERE conflict = 1;

-- One row per study and revision that became ready.
--   ready -> processing -> done | set_aside;  processing -> ready after a failed try;  any but done -> outdated
CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id    INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('ready', 'processing', 'done', 'set_aside', 'outdated')),
    attempt     INTEGER NOT NULL DEFAULT 0,                 -- tries since it became ready or was requeued
    claims      INTEGER NOT NULL DEFAULT 0,                 -- tries ever; 0: nobody has seen this revision yet
    ready_at    INTEGER NOT NULL,
    not_before  INTEGER NOT NULL,
    worker      TEXT    NOT NULL DEFAULT '',
    lease_token TEXT,                                       -- NULL unless processing
    lease_until INTEGER,
    finished_at INTEGER,
    error_kind  TEXT    NOT NULL DEFAULT '',                -- retry | reject | config | bug
    result_json TEXT    NOT NULL DEFAULT '',
    UNIQUE (study_id, revision)
);
CREATE INDEX jobs_waiting ON jobs (state, not_before) WHERE state IN ('ready', 'processing');

-- What a revision produced.
CREATE TABLE outputs (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id         INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    revision         INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    sop_class_uid    TEXT    NOT NULL,
    sop_instance_uid TEXT    NOT NULL UNIQUE,
    file             TEXT    NOT NULL,                      -- relative to the work folder
    made_at          INTEGER NOT NULL
);
CREATE INDEX outputs_of_study ON outputs (study_id, revision);

-- One row per output and destination; the two UNIQUEs see to it that none is ever queued twice.
--   waiting -> sending -> sent | set_aside;  sending -> waiting after a failed try;  withdrawn: see "A late image"
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    output_id   INTEGER NOT NULL REFERENCES outputs (id) ON DELETE CASCADE,
    study_id    INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    destination TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('waiting', 'sending', 'sent', 'set_aside', 'withdrawn')),
    attempt     INTEGER NOT NULL DEFAULT 0,
    silent      INTEGER NOT NULL DEFAULT 0,                 -- tries that ended because the sender went silent
    made_at     INTEGER NOT NULL,                           -- or requeued: give_up_hours counts from here
    not_before  INTEGER NOT NULL,
    worker      TEXT    NOT NULL DEFAULT '',
    lease_token TEXT,                                       -- NULL unless sending
    lease_until INTEGER,
    sent_at     INTEGER,
    last_error  TEXT    NOT NULL DEFAULT '',
    note        TEXT    NOT NULL DEFAULT '',
    UNIQUE (output_id, destination)
);
CREATE INDEX outbox_waiting ON outbox (state, not_before) WHERE state IN ('waiting', 'sending');
CREATE INDEX outbox_of_study ON outbox (study_id, revision);

-- What happened, for people. The newest 500 of a study are kept.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    detail   TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX events_of_study ON events (study_id, id);

-- Files that nothing refers to any more and that still have to be removed.
CREATE TABLE removals (
    root TEXT NOT NULL CHECK (root IN ('spool', 'work')),   -- the folder that `file` is relative to
    file TEXT NOT NULL,
    PRIMARY KEY (root, file)
) WITHOUT ROWID;
