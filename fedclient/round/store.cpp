#include "fedclient/round/store.h"

#include <array>

#include "fedclient/round/store_json.h"

namespace cardionode::fed {
namespace {

constexpr int kSchema = 1;
constexpr const char* kTables = R"(
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY);
CREATE TABLE IF NOT EXISTS messages (
    message_id TEXT    NOT NULL PRIMARY KEY,
    run_id     INTEGER NOT NULL,              -- the bits of an unsigned number
    group_id   TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    created_at REAL    NOT NULL,
    ttl        REAL    NOT NULL,
    folder     TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    pulled_at  INTEGER NOT NULL,
    tries      INTEGER NOT NULL,
    model_id   TEXT    NOT NULL,
    round      INTEGER NOT NULL,
    record_id  TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    has_update INTEGER NOT NULL,
    data       TEXT    NOT NULL               -- store_json.h
);
CREATE INDEX IF NOT EXISTS messages_by_key ON messages (key) WHERE has_update = 1;
CREATE TABLE IF NOT EXISTS transitions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT    NOT NULL REFERENCES messages (message_id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    detail     TEXT    NOT NULL
);
CREATE INDEX IF NOT EXISTS transitions_of ON transitions (message_id, id);
CREATE TABLE IF NOT EXISTS accepted (
    model_id    TEXT    NOT NULL,
    record_id   TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    change_norm REAL    NOT NULL,
    weights     TEXT    NOT NULL,             -- empty: not kept any more
    validation  TEXT    NOT NULL,
    PRIMARY KEY (model_id, record_id)
);
)";

constexpr std::array<std::string_view, 13> kWords = {"pulled",   "fetched", "checked",  "validated", "trained",
                                                     "filtered", "booked",  "declined", "prepared",  "pushed",
                                                     "taken",    "refused", "failed"};

std::int64_t to_number(Moment moment) { return moment.time_since_epoch().count(); }
Moment to_moment(std::int64_t number) { return Moment(Milliseconds(number)); }

}  // namespace

std::string_view to_string(RoundState state) { return kWords.at(static_cast<std::size_t>(state)); }
bool is_over(RoundState s) { return s == RoundState::Taken || s == RoundState::Refused || s == RoundState::Failed; }

Result<RoundStore> RoundStore::open(const std::filesystem::path& file, Mode mode, const Clock& clock) {
    std::error_code no_matter;
    if (mode == Mode::ReadOnly && !std::filesystem::exists(file, no_matter))
        return config_error("no round has run yet: " + file.string() + " is not there");
    auto database = mode == Mode::Write ? Database::open(file, true) : Database::open_read_only(file);
    if (!database) return std::move(database).error();
    if (mode == Mode::Write) {
        auto transaction = Transaction::begin(*database);
        if (!transaction) return std::move(transaction).error();
        if (auto made = database->execute(kTables); !made) return std::move(made).error();
        if (auto noted = database->execute("INSERT OR IGNORE INTO schema_version VALUES (1)"); !noted)
            return std::move(noted).error();
        if (auto done = transaction->commit(); !done) return std::move(done).error();
    }
    auto version = database->prepare("SELECT max(version) FROM schema_version");
    if (!version) {
        if (mode == Mode::ReadOnly) return config_error("no round has run yet: " + file.string() + " is empty");
        return std::move(version).error();
    }
    auto row = version->step();
    if (!row) return std::move(row).error();
    if (version->integer(0) > kSchema)
        return config_error(file.string() + " was written by a later version of this program");
    version->reset();
    return RoundStore(*std::move(database), clock);
}

Result<void> RoundStore::write(MessageRow& row, RoundState state, const std::string& detail,
                               const AcceptedModel* accepted) {
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    MessageRow next = row;
    const bool moved = next.state != state || next.pulled_at == Moment{};
    next.state = state;
    const Moment now = clock_->now();
    if (next.pulled_at == Moment{}) next.pulled_at = now;
    if (moved) next.since = now, next.tries = 0;
    // An upsert, not REPLACE: the latter would delete the row, and its history with it.
    auto put = database_.prepare(
        "INSERT INTO messages VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17) "
        "ON CONFLICT (message_id) DO UPDATE SET state = ?8, since = ?9, tries = ?11, model_id = ?12, round = ?13, "
        "record_id = ?14, key = ?15, has_update = ?16, data = ?17");
    if (!put) return std::move(put).error();
    const Incoming& m = next.incoming;
    put->bind(m.message_id, static_cast<std::int64_t>(m.run_id), m.group_id, m.type, m.created_at, m.ttl,
              m.folder.string(), to_string(state), to_number(next.since), to_number(next.pulled_at), next.tries,
              next.order.plan.model_id, next.order.plan.round, next.record_id, next.key, !next.update.empty(),
              to_text(next));
    if (auto done = put->run(); !done) return done;
    if (moved) {
        auto line = database_.prepare("INSERT INTO transitions (message_id, at, state, detail) VALUES (?,?,?,?)");
        if (!line) return std::move(line).error();
        line->bind(m.message_id, to_number(now), to_string(state), detail);
        if (auto done = line->run(); !done) return done;
    }
    if (accepted != nullptr) {
        auto model = database_.prepare(
            "INSERT INTO accepted VALUES (?1,?2,?3,?4,?5,?6,?7) ON CONFLICT (model_id, record_id) DO UPDATE SET at = "
            "?4, "
            "weights = ?6, validation = ?7");
        if (!model) return std::move(model).error();
        model->bind(accepted->model_id, accepted->record_id, accepted->version, to_number(now), accepted->change_norm,
                    accepted->weights.string(), to_json(accepted->validation).dump());
        if (auto done = model->run(); !done) return done;
    }
    if (auto done = transaction->commit(); !done) return done;
    row = std::move(next);
    return {};
}

Result<void> RoundStore::save(MessageRow& row, RoundState state, const std::string& detail) {
    return write(row, state, detail, nullptr);
}

Result<void> RoundStore::save(MessageRow& row, RoundState state, const std::string& detail,
                              const AcceptedModel& accepted) {
    return write(row, state, detail, &accepted);
}

Result<void> RoundStore::count_try(MessageRow& row) {
    ++row.tries;
    return write(row, row.state, "", nullptr);
}

Result<std::vector<MessageRow>> RoundStore::rows(std::string_view where, const std::vector<std::string>& texts) {
    auto query = database_.prepare(
        "SELECT message_id, run_id, group_id, type, created_at, ttl, folder, state, since, pulled_at, tries, model_id, "
        "round, record_id, key, data FROM messages " +
        std::string(where));
    if (!query) return std::move(query).error();
    for (std::size_t i = 0; i < texts.size(); ++i) query->bind_at(static_cast<int>(i) + 1, texts[i]);
    std::vector<MessageRow> out;
    while (true) {
        auto row = query->step();
        if (!row) return std::move(row).error();
        if (!*row) return out;
        MessageRow r;
        r.incoming = {query->text(0), query->text(2), query->text(3), static_cast<std::uint64_t>(query->integer(1)),
                      query->real(4), query->real(5), query->text(6)};
        std::size_t state = 0;
        const std::string word = query->text(7);
        while (state < kWords.size() && kWords[state] != word) ++state;
        if (state == kWords.size()) return bug_error("a row of the rounds has the unknown state " + word);
        r.state = static_cast<RoundState>(state);
        r.since = to_moment(query->integer(8));
        r.pulled_at = to_moment(query->integer(9));
        r.tries = static_cast<int>(query->integer(10));
        r.record_id = query->text(13);
        r.key = query->text(14);
        if (auto read = from_text(query->text(15), r); !read) return std::move(read).error();
        r.order.plan.model_id = query->text(11);
        r.order.plan.round = query->integer(12);
        out.push_back(std::move(r));
    }
}

Result<std::optional<MessageRow>> RoundStore::message(const std::string& message_id) {
    auto found = rows("WHERE message_id = ?", {message_id});
    if (!found) return std::move(found).error();
    if (found->empty()) return std::optional<MessageRow>();
    return std::optional<MessageRow>(found->front());
}

Result<std::vector<MessageRow>> RoundStore::unfinished() {
    return rows("WHERE state NOT IN ('taken', 'refused', 'failed') ORDER BY pulled_at, rowid", {});
}

Result<std::vector<MessageRow>> RoundStore::newest(int most) {
    return rows("ORDER BY pulled_at DESC, rowid DESC LIMIT " + std::to_string(most), {});
}

Result<std::optional<MessageRow>> RoundStore::result_for(const std::string& key) {
    auto found = rows("WHERE key = ? AND has_update = 1 ORDER BY pulled_at LIMIT 1", {key});
    if (!found) return std::move(found).error();
    if (found->empty()) return std::optional<MessageRow>();
    return std::optional<MessageRow>(found->front());
}

Result<std::vector<AcceptedModel>> RoundStore::accepted(const std::string& model_id) {
    auto query = database_.prepare(
        "SELECT record_id, version, at, change_norm, weights, validation FROM accepted WHERE model_id = ? ORDER BY at, "
        "rowid");
    if (!query) return std::move(query).error();
    query->bind(model_id);
    std::vector<AcceptedModel> out;
    while (true) {
        auto row = query->step();
        if (!row) return std::move(row).error();
        if (!*row) return out;
        AcceptedModel m{
            model_id, query->text(0), query->integer(1), to_moment(query->integer(2)), query->real(3), query->text(4),
            {}};
        try {
            m.validation = validation_from(nlohmann::ordered_json::parse(query->text(5)));
        } catch (const nlohmann::json::exception& e) {
            return bug_error(std::string("a row of the accepted models is damaged: ") + e.what());
        }
        out.push_back(std::move(m));
    }
}

Result<void> RoundStore::forget_accepted(const AcceptedModel& model) {
    auto update = database_.prepare("UPDATE accepted SET weights = '' WHERE model_id = ? AND record_id = ?");
    if (!update) return std::move(update).error();
    update->bind(model.model_id, model.record_id);
    return update->run();
}

Result<std::vector<TransitionRow>> RoundStore::transitions(const std::string& message_id) {
    auto query = database_.prepare("SELECT at, state, detail FROM transitions WHERE message_id = ? ORDER BY id");
    if (!query) return std::move(query).error();
    query->bind(message_id);
    std::vector<TransitionRow> out;
    while (true) {
        auto row = query->step();
        if (!row) return std::move(row).error();
        if (!*row) return out;
        out.push_back({to_moment(query->integer(0)), message_id, query->text(1), query->text(2)});
    }
}

}  // namespace cardionode::fed
