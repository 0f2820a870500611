-- The queue of one node: schema version 4. What stands here is compiled into the program; a new file gets it as it is,
-- an older file is brought to the same shape by the migrations in schema.cpp.
--
-- Moments are whole milliseconds since 1970-01-01T00:00:00Z. There is no patient data in this file: no name, no ID, no
-- birth date; a study is spoken of by its key ("S00AM"), which is made from its row number. UIDs are kept because PACS
-- and scanner know nothing else; they are not shown unless asked for.
--
-- The states of a study
-- =====================
--
--              quiet,                                                     last output sent, and
--              or forced          claim               finish              committed where asked
--   receiving ----------> ready ---------> processing ---------> sending ------------> done
--       |                   ^               |   |   |               |                    ^
--       |                   +---------------+   |   +---------------|--------------------+
--       |                   lease ran out,      |                   |     nothing to send
--       |                   try failed          |                   |
--       | no instance                           | cannot work,      | cannot be sent,
--       | can be used                           | tried too often   | is not committed
--       v                                       v                   v
--       +----------------------------------> set_aside <------------+
--
--   `cardionode retry`:  set_aside -> ready    when there is no result yet
--                        set_aside -> sending  when the result is there: nothing is computed again
--   a late image:        ready (never claimed) -> receiving, same revision
--                        ready (tried before), processing, sending, done, set_aside -> receiving, revision + 1
--
-- receiving   Instances arrive. A series is complete (closed_at) when it was quiet for scp.series_quiet_seconds; the
--             study is complete when all its series are and it was quiet for scp.study_quiet_seconds. One that never
--             gets quiet is completed scp.longest_study_minutes after this revision began (revision_since), and an
--             operator may complete it earlier. A duplicate (same SOP Instance UID, same content) does not touch the
--             quiet time, nor the state of a study that is further on: a study that is sent again makes no work. A
--             study all of whose instances are conflicts is set aside with that reason.
-- ready       Waits for a worker, or for the end of a pause after a failed try (jobs.not_before).
-- processing  A worker holds the job by a lease. It repeats "I am here" (lease_until moves on). When it stops, another
--             one takes the job; the old one's token no longer fits, so nothing that it says later is stored.
-- sending     The result is stored and each output waits in the outbox for each destination; then, where the
--             destination offers it, for the destination's word that it keeps the output (storage commitment).
-- done        Every output reached every destination and is committed there where that is offered, or there was no
--             destination to reach.
-- set_aside   The dead letter: a person must look. `cardionode show` says why, `cardionode retry` tries again.
--             With several outputs the study keeps sending until each is delivered or set aside, and only then stands
--             here: one blocked output or destination delays no other.
--
-- A late image (a new instance after `receiving`)
-- ================================================
-- Segmentations, reports and presentation states are no images: one that comes late joins the study and changes no
-- state and no revision. It may be a radiologist's correction, or an output of ours that a PACS sends back.
-- Was this revision never claimed, the study simply goes back to receiving. Otherwise the study gets revision + 1 and:
--   * a job that waits or runs becomes `outdated` at once and its token is void: the worker learns it from its next
--     renewal or when it wants to finish, and whatever it computed is thrown away;
--   * outputs of the old revision that wait or were set aside become `withdrawn`: they are never sent any more;
--   * an output of the old revision that is being sent at this moment is let through, and its outcome is noted. No
--     output of the new revision goes to that destination before that lease is over. So a destination never gets an
--     outdated output after a newer one.
-- The new revision is told which outputs of the earlier one reached a destination (ClaimedStudy::replaces).
-- With scp.late_images: keep, a study whose revision was claimed stays where it is. The image is kept with it and
-- counted (studies.late), and whatever claims the study next takes it along: a further try, or `cardionode retry`,
-- which then begins a new revision of a done study as well.
--
-- Storage commitment by a destination (we are the SCU; PS3.4 Annex J)
-- ====================================================================
-- outbox.commitment of a row that is sent:
--
--                    asked             answer: kept
--   none    wanted ---------> asked ------------------> committed
--             ^   |             |  |
--             |   |             |  +-- answer: no such instance -> none, and the row waits to be sent again
--             |   |             |
--             +---|-------------+  no answer in time, no connection, another failure: asked again after a pause
--                 |
--                 +--> not_offered    the destination does not have the service, and the settings do not insist
--
-- A destination is asked when no output of the study's revision is on its way to it any more. The request is noted in
-- commitments_asked before it is sent: the answer may come at once, on another association and to another process. The
-- news that an output is kept counts from any request, a failure only from the newest. After give_up_hours, or when the
-- destination refuses for good, the row is set_aside with the reason. Outputs of an outdated revision are not asked for.
--
-- Storage commitment for a scanner (we are the SCP)
-- =================================================
-- A request is a row of commitments_owed before it is answered. Whether instances are stored is looked up when it is
-- reported, after the indexer has seen all that was received before. waiting -> reported | given_up.
--
-- Conflicts
-- =========
-- Of several contents under one SOP Instance UID the first stays in use. Each further one is a row with conflict = 1
-- in the study under which it arrived, keeps its own file, is counted and shown, and is not given to the pipeline. It
-- does not make a new revision. The same holds for a SOP Instance UID that arrives under another study. The same
-- conflicting content again is a duplicate of its own row. Which scanner came first decides, not which it was.
--
-- Another patient
-- ===============
-- The first instance of a study that has a Patient ID says whose study it is (studies.patient_mark, a keyed digest
-- whose key stands in the spool beside the images; without the spool it tells nothing). What comes later under the
-- same Study Instance UID with another Patient ID (patients merged or corrected in the middle of a transfer, or two
-- patients under one UID) has other_patient = 1, is counted and shown, and scp.other_patient_id says what becomes of it:
--   set_aside   kept beside like a conflict; a study that is complete with such an instance is set aside instead of
--               becoming ready, and `cardionode retry` lets it go on with the images of the first Patient ID
--   keep_first  kept beside like a conflict; the study goes on
--   accept      used like any other
-- An instance without a Patient ID is evidence of nothing and is used. Kept beside, an instance begins no revision: of
-- a study that was handed over before, the result stays that of the first Patient ID.
--
-- Retention
-- =========
-- A done study, so one whose outputs are committed where that is offered, is deleted when it is old enough or the disk
-- is short of space; no other ever is. Its rows go and its files enter `removals` in one transaction, then the files
-- are removed, then their rows: cut off anywhere, the rest is done later. Instances that are sent again afterwards make
-- a new study.

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
    outcome            TEXT    NOT NULL DEFAULT '',         -- one line for people, of this revision
    revision_since     INTEGER NOT NULL DEFAULT 0,          -- when its first instance came
    late               INTEGER NOT NULL DEFAULT 0,          -- instances that no worker was given yet, late_images: keep
    other_patient      INTEGER NOT NULL DEFAULT 0,          -- instances with another Patient ID, used or not
    patient_mark       TEXT    NOT NULL DEFAULT ''          -- see "Another patient"; '': no Patient ID so far
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
    revision            INTEGER NOT NULL,                   -- of the study, when it came; of a late one, the new one
    calling_ae_title    TEXT    NOT NULL DEFAULT '',
    peer_address        TEXT    NOT NULL DEFAULT '',
    received_at         INTEGER NOT NULL,
    other_patient       INTEGER NOT NULL DEFAULT 0 CHECK (other_patient IN (0, 1))
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
    -- Storage commitment of a row that is sent.
    commitment      TEXT    NOT NULL DEFAULT 'none'
                            CHECK (commitment IN ('none', 'wanted', 'asked', 'committed', 'not_offered')),
    commit_attempt  INTEGER NOT NULL DEFAULT 0,             -- requests so far
    commit_due      INTEGER NOT NULL DEFAULT 0,             -- wanted: when to ask; asked: until when an answer may come
    transaction_uid TEXT    NOT NULL DEFAULT '',            -- of the newest request
    committed_at    INTEGER,
    UNIQUE (output_id, destination)
);
CREATE INDEX outbox_uncommitted ON outbox (destination, commit_due) WHERE commitment IN ('wanted', 'asked');
CREATE INDEX outbox_waiting ON outbox (state, not_before) WHERE state IN ('waiting', 'sending');
CREATE INDEX outbox_of_study ON outbox (study_id, revision);

-- Requests for storage commitment to destinations, the newest and earlier ones. How to go on after a failure stands
-- beside, so that whoever gets the answer needs no settings.
CREATE TABLE commitments_asked (
    transaction_uid TEXT    NOT NULL PRIMARY KEY,
    destination     TEXT    NOT NULL,
    ae_title        TEXT    NOT NULL,                       -- the destination's: only it may answer
    study_id        INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    asked_at        INTEGER NOT NULL,
    answered_at     INTEGER,
    retry_first_ms   INTEGER NOT NULL,
    retry_longest_ms INTEGER NOT NULL,
    give_up_ms       INTEGER NOT NULL
);
CREATE INDEX commitments_asked_of_study ON commitments_asked (study_id);

-- Requests of scanners. Kept for a while after the report, to know a transaction that comes again.
CREATE TABLE commitments_owed (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    calling_ae_title TEXT    NOT NULL,
    called_ae_title  TEXT    NOT NULL,
    transaction_uid  TEXT    NOT NULL,
    duplicate        INTEGER NOT NULL DEFAULT 0 CHECK (duplicate IN (0, 1)),  -- of a transaction for other instances
    reference_lines  TEXT    NOT NULL,                      -- SOP class, space, SOP instance; a line each
    state            TEXT    NOT NULL CHECK (state IN ('waiting', 'reported', 'given_up')),
    attempt          INTEGER NOT NULL DEFAULT 0,
    asked_at         INTEGER NOT NULL,
    not_before       INTEGER NOT NULL,                      -- also the end of a lease
    lease_token      TEXT    NOT NULL DEFAULT '',
    ended_at         INTEGER,
    last_error       TEXT    NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX commitments_owed_once ON commitments_owed (calling_ae_title, transaction_uid) WHERE duplicate = 0;
CREATE INDEX commitments_owed_waiting ON commitments_owed (not_before) WHERE state = 'waiting';

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
