#include "scp/queue/schema.h"

#include <fmt/format.h>

namespace cardionode {
namespace {

// Each later version adds one line here, changes schema.sql to match, and raises `newest`. A migration is never edited
// after a release: files of hospitals have gone through it.
constexpr Migration kMigrations[] = {
    {2,
     "CREATE TABLE removals (root TEXT NOT NULL CHECK (root IN ('spool', 'work')), file TEXT NOT NULL, "
     "PRIMARY KEY (root, file)) WITHOUT ROWID;"},
    {3,
     "ALTER TABLE outbox ADD COLUMN commitment TEXT NOT NULL DEFAULT 'none' CHECK (commitment IN ('none', 'wanted', "
     "'asked', 'committed', 'not_offered'));"
     "ALTER TABLE outbox ADD COLUMN commit_attempt INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE outbox ADD COLUMN commit_due INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE outbox ADD COLUMN transaction_uid TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE outbox ADD COLUMN committed_at INTEGER;"
     "CREATE INDEX outbox_uncommitted ON outbox (destination, commit_due) WHERE commitment IN ('wanted', 'asked');"
     "CREATE TABLE commitments_asked (transaction_uid TEXT NOT NULL PRIMARY KEY, destination TEXT NOT NULL, "
     "ae_title TEXT NOT NULL, study_id INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE, "
     "asked_at INTEGER NOT NULL, answered_at INTEGER, retry_first_ms INTEGER NOT NULL, "
     "retry_longest_ms INTEGER NOT NULL, give_up_ms INTEGER NOT NULL);"
     "CREATE INDEX commitments_asked_of_study ON commitments_asked (study_id);"
     "CREATE TABLE commitments_owed (id INTEGER PRIMARY KEY AUTOINCREMENT, calling_ae_title TEXT NOT NULL, "
     "called_ae_title TEXT NOT NULL, transaction_uid TEXT NOT NULL, "
     "duplicate INTEGER NOT NULL DEFAULT 0 CHECK (duplicate IN (0, 1)), reference_lines TEXT NOT NULL, "
     "state TEXT NOT NULL CHECK (state IN ('waiting', 'reported', 'given_up')), attempt INTEGER NOT NULL DEFAULT 0, "
     "asked_at INTEGER NOT NULL, not_before INTEGER NOT NULL, lease_token TEXT NOT NULL DEFAULT '', "
     "ended_at INTEGER, last_error TEXT NOT NULL DEFAULT '');"
     "CREATE UNIQUE INDEX commitments_owed_once ON commitments_owed (calling_ae_title, transaction_uid) "
     "WHERE duplicate = 0;"
     "CREATE INDEX commitments_owed_waiting ON commitments_owed (not_before) WHERE state = 'waiting';"},
    {4,
     "ALTER TABLE studies ADD COLUMN revision_since INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE studies ADD COLUMN late INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE studies ADD COLUMN other_patient INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE studies ADD COLUMN patient_mark TEXT NOT NULL DEFAULT '';"
     "UPDATE studies SET revision_since = state_since;"
     "ALTER TABLE instances ADD COLUMN other_patient INTEGER NOT NULL DEFAULT 0 CHECK (other_patient IN (0, 1));"},
};

Error newer(int found, int known) {
    return config_error(
        fmt::format("the queue has schema version {}, this program knows up to {}: it was written by a newer version "
                    "of cardionode; install that version again",
                    found, known));
}

Error older(int found, const Schema& schema) {
    return config_error(fmt::format(
        "the queue has schema version {}, this program migrates from {} on: start a version of cardionode in between "
        "first",
        found, schema.oldest));
}

Result<void> stamp(Database& database, int version, Moment now) {
    auto insert = database.prepare("INSERT INTO schema_version (version, applied_at) VALUES (?, ?)");
    if (!insert) return std::move(insert).error();
    return insert->bind(version, static_cast<std::int64_t>(now.time_since_epoch().count())).run();
}

Result<std::int64_t> number(Database& database, std::string_view sql) {
    auto query = database.prepare(sql);
    if (!query) return std::move(query).error();
    auto row = query->step();
    if (!row) return std::move(row).error();
    return *row ? query->integer(0) : 0;
}

}  // namespace

const Schema& queue_schema() {
    static const Schema schema{.newest = 4, .oldest = 1, .fresh = kQueueSchemaSql, .migrations = kMigrations};
    return schema;
}

Result<int> schema_version(Database& database) {
    auto tables = number(database, "SELECT count(*) FROM sqlite_master WHERE type = 'table'");
    if (!tables) return std::move(tables).error();
    if (*tables == 0) return 0;
    auto stamped = number(database,
                          "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('schema_version', "
                          "'studies', 'instances')");
    if (!stamped) return std::move(stamped).error();
    if (*stamped != 3) return config_error("this SQLite database is not a queue of cardionode; is the path right?");
    auto version = number(database, "SELECT max(version) FROM schema_version");
    if (!version) return std::move(version).error();
    return static_cast<int>(*version);
}

Result<void> migrate(Database& database, const Schema& schema, Moment now) {
    {
        // The usual case, without the writer's lock: a service that starts does not wait for another's transaction.
        auto version = schema_version(database);
        if (!version) return std::move(version).error();
        if (*version == schema.newest) return {};
    }
    auto transaction = Transaction::begin(database);
    if (!transaction) return std::move(transaction).error();
    auto version = schema_version(database);  // again: another process may have been faster
    if (!version) return std::move(version).error();
    if (*version > schema.newest) return newer(*version, schema.newest);
    if (*version == 0) {
        if (auto made = database.execute(schema.fresh); !made) return made;
        if (auto stamped = stamp(database, schema.newest, now); !stamped) return stamped;
        return transaction->commit();
    }
    if (*version < schema.oldest) return older(*version, schema);
    for (const Migration& migration : schema.migrations) {
        if (migration.to <= *version) continue;
        const auto doing = fmt::format("migrating the queue to schema version {}", migration.to);
        if (migration.to != *version + 1) return bug_error(doing + ": a migration is missing");
        if (auto done = database.execute(migration.sql); !done) return std::move(done).error().in(doing);
        if (auto stamped = stamp(database, migration.to, now); !stamped) return std::move(stamped).error().in(doing);
        version = migration.to;
    }
    if (*version != schema.newest) return bug_error("migrating the queue: the last migration is missing");
    return transaction->commit();
}

Result<void> require_current(Database& database, const Schema& schema) {
    auto version = schema_version(database);
    if (!version) return std::move(version).error();
    if (*version > schema.newest) return newer(*version, schema.newest);
    if (*version < schema.newest) {
        return config_error(
            fmt::format("the queue has schema version {}, this program needs {}: start the services of this version "
                        "once, they bring it up to date",
                        *version, schema.newest));
    }
    return {};
}

}  // namespace cardionode
