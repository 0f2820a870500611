// Short forms for the SQL of CoordinatorStore. Private to coordinator_store's .cpp files.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "fedclient/coordinator/coordinator_store.h"

namespace cardionode::fed {

template <class... Values>
Result<void> CoordinatorStore::run_sql(std::string_view sql, const Values&... values) {
    auto statement = database_.prepare(sql);
    if (!statement) return std::move(statement).error();
    return statement->bind(values...).run();
}

template <class Row, class Read, class... Values>
Result<std::vector<Row>> CoordinatorStore::rows(std::string_view sql, Read read, const Values&... values) {
    auto statement = database_.prepare(sql);
    if (!statement) return std::move(statement).error();
    statement->bind(values...);
    std::vector<Row> found;
    while (true) {
        auto row = statement->step();
        if (!row) return std::move(row).error();
        if (!*row) return found;
        found.push_back(read(*statement));
    }
}

template <class Row>
Result<std::optional<Row>> first_of(Result<std::vector<Row>> rows) {
    if (!rows) return std::move(rows).error();
    if (rows->empty()) return std::optional<Row>();
    return std::optional<Row>(std::move(rows->front()));
}

inline std::int64_t to_ms(Moment moment) { return moment.time_since_epoch().count(); }
inline std::optional<std::int64_t> to_ms(const std::optional<Moment>& moment) {
    return moment ? std::optional(to_ms(*moment)) : std::nullopt;
}
inline Moment from_ms(std::int64_t ms) { return Moment(Milliseconds(ms)); }
inline std::optional<Moment> from_ms(const std::optional<std::int64_t>& ms) {
    return ms ? std::optional(from_ms(*ms)) : std::nullopt;
}
// Ids are 64 bits without a sign on the wire, with one in SQLite.
inline std::int64_t to_sql(std::uint64_t id) { return static_cast<std::int64_t>(id); }

}  // namespace cardionode::fed
