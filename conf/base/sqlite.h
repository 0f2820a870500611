// A thin RAII layer over SQLite: open with our pragmas, prepare, bind, step, transactions. sqlite3.h stays inside.
//
// Thread safety: one Database and its statements belong to one thread at a time.
// Errors: Retry for a busy or full database, Config for one that cannot be opened or is damaged, Bug for bad SQL.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

class Database;

/// A prepared statement. Columns and parameters are counted as SQLite does: parameters from 1, columns from 0.
class Statement {
public:
    Statement(Statement&&) noexcept;
    Statement& operator=(Statement&&) noexcept;
    ~Statement();

    /// Binds in order from parameter 1. std::nullopt binds NULL.
    template <class... Values>
    Statement& bind(const Values&... values) {
        int index = 0;
        (bind_at(++index, values), ...);
        return *this;
    }
    void bind_at(int index, std::int64_t value);
    void bind_at(int index, int value) { bind_at(index, static_cast<std::int64_t>(value)); }
    void bind_at(int index, bool value) { bind_at(index, static_cast<std::int64_t>(value)); }
    void bind_at(int index, double value);
    void bind_at(int index, std::string_view value);
    void bind_at(int index, const char* value) { bind_at(index, std::string_view(value)); }
    void bind_at(int index, const std::string& value) { bind_at(index, std::string_view(value)); }
    void bind_at(int index, std::nullopt_t);
    template <class T>
    void bind_at(int index, const std::optional<T>& value) {
        if (value) bind_at(index, *value);
        else bind_at(index, std::nullopt);
    }

    /// true: a row is there to read; false: done, and the statement is reset for the next use.
    Result<bool> step();
    /// Steps to the end, ignoring rows.
    Result<void> run();
    void reset();

    std::int64_t integer(int column) const;
    double real(int column) const;
    std::string text(int column) const;
    bool is_null(int column) const;
    std::optional<std::int64_t> optional_integer(int column) const;
    std::optional<std::string> optional_text(int column) const;

private:
    friend class Database;
    struct State;
    explicit Statement(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

class Database {
public:
    /// Opens or makes the file: WAL, foreign keys on, busy timeout 10 s.
    /// @param durable  true: synchronous=FULL, a commit is on disk when it returns; false: NORMAL, the last commits
    ///                 may be lost in a power cut (never torn).
    static Result<Database> open(const std::filesystem::path& file, bool durable);
    static Result<Database> open_read_only(const std::filesystem::path& file);

    Database(Database&&) noexcept;
    Database& operator=(Database&&) noexcept;
    ~Database();

    Result<Statement> prepare(std::string_view sql);
    /// Runs one or more statements without parameters.
    Result<void> execute(std::string_view sql);
    std::int64_t changes() const;
    std::int64_t last_insert_id() const;

private:
    friend class Transaction;
    struct State;
    explicit Database(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// BEGIN IMMEDIATE ... COMMIT. Rolls back when it is destroyed without commit().
class Transaction {
public:
    static Result<Transaction> begin(Database& database);
    Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();
    Result<void> commit();

private:
    explicit Transaction(Database& database) : database_(&database) {}
    Database* database_;
};

}  // namespace cardionode
