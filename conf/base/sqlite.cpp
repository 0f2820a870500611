#include "conf/base/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

namespace cardionode {
namespace {

Error sqlite_error(sqlite3* handle, int code, std::string_view doing) {
    ErrorKind kind = ErrorKind::Bug;
    switch (code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_FULL:
        case SQLITE_IOERR:
        case SQLITE_NOMEM: kind = ErrorKind::Retry; break;
        case SQLITE_CANTOPEN:
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_AUTH:
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB: kind = ErrorKind::Config; break;
        default: break;
    }
    return {kind, fmt::format("database: {}: {}", doing, handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code))};
}

}  // namespace

struct Statement::State {
    sqlite3_stmt* handle = nullptr;
    ~State() { sqlite3_finalize(handle); }
};

struct Database::State {
    sqlite3* handle = nullptr;
    ~State() { sqlite3_close_v2(handle); }
};

Statement::Statement(std::unique_ptr<State> state) : state_(std::move(state)) {}
Statement::Statement(Statement&&) noexcept = default;
Statement& Statement::operator=(Statement&&) noexcept = default;
Statement::~Statement() = default;

void Statement::bind_at(int index, std::int64_t value) { sqlite3_bind_int64(state_->handle, index, value); }
void Statement::bind_at(int index, double value) { sqlite3_bind_double(state_->handle, index, value); }
void Statement::bind_at(int index, std::string_view value) {
    sqlite3_bind_text(state_->handle, index, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
}
void Statement::bind_at(int index, std::nullopt_t) { sqlite3_bind_null(state_->handle, index); }

Result<bool> Statement::step() {
    const int code = sqlite3_step(state_->handle);
    if (code == SQLITE_ROW) return true;
    sqlite3* const owner = sqlite3_db_handle(state_->handle);
    if (code == SQLITE_DONE) {
        sqlite3_reset(state_->handle);
        return false;
    }
    Error error = sqlite_error(owner, code, sqlite3_sql(state_->handle));
    sqlite3_reset(state_->handle);
    return error;
}

Result<void> Statement::run() {
    while (true) {
        auto row = step();
        if (!row) return std::move(row).error();
        if (!*row) return {};
    }
}

void Statement::reset() { sqlite3_reset(state_->handle); }
std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(state_->handle, column); }
double Statement::real(int column) const { return sqlite3_column_double(state_->handle, column); }
std::string Statement::text(int column) const {
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(state_->handle, column));
    return data ? std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(state_->handle, column)))
                : std::string();
}
bool Statement::is_null(int column) const { return sqlite3_column_type(state_->handle, column) == SQLITE_NULL; }
std::optional<std::int64_t> Statement::optional_integer(int column) const {
    if (is_null(column)) return std::nullopt;
    return integer(column);
}
std::optional<std::string> Statement::optional_text(int column) const {
    if (is_null(column)) return std::nullopt;
    return text(column);
}

Database::Database(std::unique_ptr<State> state) : state_(std::move(state)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

Result<Database> Database::open(const std::filesystem::path& file, bool durable) {
    auto state = std::make_unique<State>();
    const int code = sqlite3_open_v2(file.c_str(), &state->handle,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code != SQLITE_OK) return sqlite_error(state->handle, code, "opening " + file.string());
    sqlite3_extended_result_codes(state->handle, 1);
    sqlite3_busy_timeout(state->handle, 10'000);
    Database database(std::move(state));
    const auto pragmas = fmt::format("PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; PRAGMA synchronous={};",
                                     durable ? "FULL" : "NORMAL");
    if (auto done = database.execute(pragmas); !done) return std::move(done).error().in("opening " + file.string());
    return database;
}

Result<Database> Database::open_read_only(const std::filesystem::path& file) {
    auto state = std::make_unique<State>();
    const int code = sqlite3_open_v2(file.c_str(), &state->handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code != SQLITE_OK) return sqlite_error(state->handle, code, "opening " + file.string());
    sqlite3_busy_timeout(state->handle, 10'000);
    return Database(std::move(state));
}

Result<Statement> Database::prepare(std::string_view sql) {
    auto state = std::make_unique<Statement::State>();
    const int code =
        sqlite3_prepare_v2(state_->handle, sql.data(), static_cast<int>(sql.size()), &state->handle, nullptr);
    if (code != SQLITE_OK) return sqlite_error(state_->handle, code, sql);
    return Statement(std::move(state));
}

Result<void> Database::execute(std::string_view sql) {
    const int code = sqlite3_exec(state_->handle, std::string(sql).c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return sqlite_error(state_->handle, code, sql);
    return {};
}

std::int64_t Database::changes() const { return sqlite3_changes64(state_->handle); }
std::int64_t Database::last_insert_id() const { return sqlite3_last_insert_rowid(state_->handle); }

Result<Transaction> Transaction::begin(Database& database) {
    if (auto begun = database.execute("BEGIN IMMEDIATE"); !begun) return std::move(begun).error();
    return Transaction(database);
}

Transaction::~Transaction() {
    // A failed COMMIT may have rolled back already; then there is nothing left to undo and nobody to tell.
    if (database_) [[maybe_unused]]
        const auto undone = database_->execute("ROLLBACK");
}

Result<void> Transaction::commit() {
    if (auto committed = database_->execute("COMMIT"); !committed) return committed;
    database_ = nullptr;
    return {};
}

}  // namespace cardionode
