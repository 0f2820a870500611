// The shape of the queue's file: making it, recognising it, bringing an older one up to date.
//
// Inside scp/queue; other folders use queue.h. Thread safety: as the Database that is handed in.
#pragma once

#include <span>
#include <string_view>

#include "conf/base/result.h"
#include "conf/base/sqlite.h"
#include "conf/base/time.h"

namespace cardionode {

/// The text of schema.sql: the newest version, for a new file.
extern const char* const kQueueSchemaSql;

/// Brings a file of version `to` - 1 to version `to`.
struct Migration {
    int to = 0;
    std::string_view sql;
};

/// All shapes that this program knows. Migrations are in order without holes and end at `newest`.
struct Schema {
    int newest = 1;
    int oldest = 1;  ///< an older file needs an older program first
    std::string_view fresh;
    std::span<const Migration> migrations;
};
const Schema& queue_schema();

/// The version of the file; 0: it holds nothing yet. Config: tables that are not of a queue.
Result<int> schema_version(Database& database);

/// Makes a new file or migrates an older one, all in one transaction; several processes may do it at once.
/// Config: newer than `schema.newest` or older than `schema.oldest`, or not a queue at all.
Result<void> migrate(Database& database, const Schema& schema, Moment now);

/// For those who must not change the file. Config: the file's version is not `schema.newest`.
Result<void> require_current(Database& database, const Schema& schema);

}  // namespace cardionode
