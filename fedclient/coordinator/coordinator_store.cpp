#include "fedclient/coordinator/coordinator_store.h"

#include "fedclient/coordinator/store_sql.h"

namespace cardionode::fed {
namespace {

// Times are milliseconds since 1970; created and ttl are seconds, as on the wire. `holds` says which objects a message
// (or a reply, under its own id) consists of: an object that nothing holds cannot be fetched and is swept away.
constexpr const char* kSchema = R"(
CREATE TABLE IF NOT EXISTS run(one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL, status TEXT NOT NULL,
  model_id TEXT NOT NULL, method TEXT NOT NULL, arch_sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS nodes(id INTEGER PRIMARY KEY, key_id TEXT NOT NULL UNIQUE, site TEXT NOT NULL,
  interval_seconds REAL NOT NULL, online_until INTEGER NOT NULL, last_seen INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages(id TEXT PRIMARY KEY, node INTEGER NOT NULL, site TEXT NOT NULL,
  round INTEGER NOT NULL, phase TEXT NOT NULL, created REAL NOT NULL, ttl REAL NOT NULL, delivered INTEGER,
  confirmed INTEGER, touched INTEGER NOT NULL, teachers TEXT NOT NULL, reply_id TEXT NOT NULL DEFAULT '',
  reply_complete INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  failure_code INTEGER NOT NULL DEFAULT 0, failure_reason TEXT NOT NULL DEFAULT '',
  session TEXT NOT NULL DEFAULT '', session_until INTEGER, open INTEGER NOT NULL DEFAULT 1);
CREATE INDEX IF NOT EXISTS messages_open ON messages(open);
CREATE TABLE IF NOT EXISTS holds(holder TEXT NOT NULL, place INTEGER NOT NULL, object TEXT NOT NULL,
  PRIMARY KEY (holder, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holds_object ON holds(object);
CREATE TABLE IF NOT EXISTS rounds(round INTEGER PRIMARY KEY, state TEXT NOT NULL, started INTEGER NOT NULL,
  deadline INTEGER NOT NULL, ended INTEGER, base_file TEXT NOT NULL, base_record TEXT NOT NULL,
  candidate_file TEXT NOT NULL, candidate_record TEXT NOT NULL, reason TEXT NOT NULL, report TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results(round INTEGER NOT NULL, phase TEXT NOT NULL, site TEXT NOT NULL,
  state TEXT NOT NULL, issues INTEGER NOT NULL, reason TEXT NOT NULL, weights TEXT NOT NULL, metrics TEXT NOT NULL,
  since INTEGER NOT NULL, PRIMARY KEY (round, phase, site));
CREATE TABLE IF NOT EXISTS teachers(site TEXT NOT NULL, head TEXT NOT NULL, PRIMARY KEY (site, head));
)";

NodeRow read_node(const Statement& s) {
    return {static_cast<std::uint64_t>(s.integer(0)),
            s.text(1),
            s.text(2),
            s.real(3),
            from_ms(s.integer(4)),
            from_ms(s.integer(5))};
}
constexpr const char* kNodes = "SELECT id, key_id, site, interval_seconds, online_until, last_seen FROM nodes ";

RoundRow read_round(const Statement& s) {
    return {s.integer(0),
            s.text(1),
            from_ms(s.integer(2)),
            from_ms(s.integer(3)),
            from_ms(s.optional_integer(4)),
            s.text(5),
            s.text(6),
            s.text(7),
            s.text(8),
            s.text(9),
            s.text(10)};
}
constexpr const char* kRounds =
    "SELECT round, state, started, deadline, ended, base_file, base_record, candidate_file, candidate_record, reason, "
    "report FROM rounds ";

}  // namespace

Result<std::unique_ptr<CoordinatorStore>> CoordinatorStore::open(const std::filesystem::path& file) {
    auto database = Database::open(file, true);
    if (!database) return std::move(database).error();
    std::unique_ptr<CoordinatorStore> store(new CoordinatorStore(std::move(*database)));
    if (auto made = store->database_.execute(kSchema); !made) return std::move(made).error();
    return store;
}

Result<std::unique_ptr<CoordinatorStore>> CoordinatorStore::open_read_only(const std::filesystem::path& file) {
    auto database = Database::open_read_only(file);
    if (!database) return std::move(database).error();
    return std::unique_ptr<CoordinatorStore>(new CoordinatorStore(std::move(*database)));
}

Result<std::optional<RunRow>> CoordinatorStore::run() {
    const std::lock_guard lock(mutex_);
    return first_of(rows<RunRow>("SELECT id, status, model_id, method, arch_sha256 FROM run", [](const Statement& s) {
        return RunRow{static_cast<std::uint64_t>(s.integer(0)), s.text(1), s.text(2), s.text(3), s.text(4)};
    }));
}

Result<void> CoordinatorStore::put_run(const RunRow& run) {
    const std::lock_guard lock(mutex_);
    return run_sql(
        "INSERT OR REPLACE INTO run(one, id, status, model_id, method, arch_sha256) VALUES(1, ?, ?, ?, ?, ?)",
        to_sql(run.id), run.status, run.model_id, run.method, run.arch_sha256);
}

Result<std::vector<NodeRow>> CoordinatorStore::nodes() {
    const std::lock_guard lock(mutex_);
    return rows<NodeRow>(std::string(kNodes) + "ORDER BY site, id", read_node);
}

Result<std::optional<NodeRow>> CoordinatorStore::node(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    return first_of(rows<NodeRow>(std::string(kNodes) + "WHERE id = ?", read_node, to_sql(id)));
}

Result<std::optional<NodeRow>> CoordinatorStore::node_of_key(const std::string& key_id) {
    const std::lock_guard lock(mutex_);
    return first_of(rows<NodeRow>(std::string(kNodes) + "WHERE key_id = ?", read_node, key_id));
}

Result<void> CoordinatorStore::put_node(const NodeRow& node) {
    const std::lock_guard lock(mutex_);
    return run_sql(
        "INSERT OR REPLACE INTO nodes(id, key_id, site, interval_seconds, online_until, last_seen) "
        "VALUES(?, ?, ?, ?, ?, ?)",
        to_sql(node.id), node.key_id, node.site, node.interval_seconds, to_ms(node.online_until),
        to_ms(node.last_seen));
}

Result<void> CoordinatorStore::remove_node(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    return run_sql("DELETE FROM nodes WHERE id = ?", to_sql(id));
}

Result<std::optional<RoundRow>> CoordinatorStore::latest_round() {
    const std::lock_guard lock(mutex_);
    return first_of(rows<RoundRow>(std::string(kRounds) + "ORDER BY round DESC LIMIT 1", read_round));
}

Result<std::vector<RoundRow>> CoordinatorStore::rounds() {
    const std::lock_guard lock(mutex_);
    return rows<RoundRow>(std::string(kRounds) + "ORDER BY round", read_round);
}

Result<void> CoordinatorStore::put_round(const RoundRow& r) {
    const std::lock_guard lock(mutex_);
    return run_sql(
        "INSERT OR REPLACE INTO rounds(round, state, started, deadline, ended, base_file, base_record, "
        "candidate_file, candidate_record, reason, report) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        r.round, r.state, to_ms(r.started), to_ms(r.deadline), to_ms(r.ended), r.base_file, r.base_record,
        r.candidate_file, r.candidate_record, r.reason, r.report);
}

Result<std::vector<ResultRow>> CoordinatorStore::results(std::int64_t round, const std::string& phase) {
    const std::lock_guard lock(mutex_);
    return rows<ResultRow>(
        "SELECT round, phase, site, state, issues, reason, weights, metrics, since FROM results "
        "WHERE round = ? AND phase = ? ORDER BY site",
        [](const Statement& s) {
            return ResultRow{s.integer(0),
                             s.text(1),
                             s.text(2),
                             s.text(3),
                             static_cast<int>(s.integer(4)),
                             s.text(5),
                             s.text(6),
                             s.text(7),
                             from_ms(s.integer(8))};
        },
        round, phase);
}

Result<void> CoordinatorStore::put_result(const ResultRow& result) {
    const std::lock_guard lock(mutex_);
    return put_result_unlocked(result);
}

Result<void> CoordinatorStore::put_result_unlocked(const ResultRow& r) {
    return run_sql(
        "INSERT OR REPLACE INTO results(round, phase, site, state, issues, reason, weights, metrics, since) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        r.round, r.phase, r.site, r.state, r.issues, r.reason, r.weights, r.metrics, to_ms(r.since));
}

Result<std::set<std::string>> CoordinatorStore::teachers_of(const std::string& site) {
    const std::lock_guard lock(mutex_);
    auto heads = rows<std::string>(
        "SELECT head FROM teachers WHERE site = ?", [](const Statement& s) { return s.text(0); }, site);
    if (!heads) return std::move(heads).error();
    return std::set<std::string>(heads->begin(), heads->end());
}

Result<void> CoordinatorStore::forget_teachers(const std::string& site) {
    const std::lock_guard lock(mutex_);
    return run_sql("DELETE FROM teachers WHERE site = ?", site);
}

}  // namespace cardionode::fed
