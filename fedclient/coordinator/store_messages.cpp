// The part of CoordinatorStore about messages and replies.
#include <sstream>

#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/store_sql.h"

namespace cardionode::fed {
namespace {

MessageRow read_message(const Statement& s) {
    MessageRow m;
    m.id = s.text(0);
    m.node = static_cast<std::uint64_t>(s.integer(1));
    m.site = s.text(2);
    m.round = s.integer(3);
    m.phase = s.text(4);
    m.created = s.real(5);
    m.ttl = s.real(6);
    m.delivered = from_ms(s.optional_integer(7));
    m.confirmed = from_ms(s.optional_integer(8));
    m.touched = from_ms(s.integer(9));
    m.teachers = s.text(10);
    m.reply_id = s.text(11);
    m.reply_complete = s.integer(12) != 0;
    m.failed = s.integer(13) != 0;
    m.failure_code = s.integer(14);
    m.failure_reason = s.text(15);
    m.session = s.text(16);
    m.session_until = from_ms(s.optional_integer(17));
    return m;
}

constexpr const char* kMessages =
    "SELECT id, node, site, round, phase, created, ttl, delivered, confirmed, touched, teachers, reply_id, "
    "reply_complete, failed, failure_code, failure_reason, session, session_until FROM messages WHERE open = 1 ";

}  // namespace

Result<std::vector<MessageRow>> CoordinatorStore::messages(const std::string& where, const std::string& value) {
    return rows<MessageRow>(kMessages + where, read_message, value);
}

Result<void> CoordinatorStore::add_message(const MessageRow& m, const std::vector<std::string>& objects) {
    const std::lock_guard lock(mutex_);
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    if (auto done =
            run_sql("INSERT INTO messages(id, node, site, round, phase, created, ttl, touched, teachers) "
                    "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    m.id, to_sql(m.node), m.site, m.round, m.phase, m.created, m.ttl, to_ms(m.touched), m.teachers);
        !done)
        return done;
    auto hold = database_.prepare("INSERT INTO holds(holder, place, object) VALUES(?, ?, ?)");
    if (!hold) return std::move(hold).error();
    for (std::size_t place = 0; place < objects.size(); ++place)
        if (auto done = hold->bind(m.id, static_cast<std::int64_t>(place), objects[place]).run(); !done) return done;
    if (auto done = run_sql("INSERT INTO results(round, phase, site, state, issues, reason, weights, metrics, since) "
                            "VALUES(?, ?, ?, 'asked', 1, '', '', '{}', ?) "
                            "ON CONFLICT(round, phase, site) DO UPDATE SET state = 'asked', issues = issues + 1, "
                            "reason = '', since = excluded.since",
                            m.round, m.phase, m.site, to_ms(m.touched));
        !done)
        return done;
    return transaction->commit();
}

Result<std::optional<MessageRow>> CoordinatorStore::deliver(std::uint64_t node, Moment now) {
    const std::lock_guard lock(mutex_);
    auto found = first_of(rows<MessageRow>(
        std::string(kMessages) + "AND node = ? AND delivered IS NULL AND created + ttl > ? ORDER BY created LIMIT 1",
        read_message, to_sql(node), static_cast<double>(to_ms(now)) / 1000));
    if (!found || !*found) return found;
    (*found)->delivered = (*found)->touched = now;
    if (auto done = run_sql("UPDATE messages SET delivered = ?, touched = ? WHERE id = ?", to_ms(now), to_ms(now),
                            (*found)->id);
        !done)
        return std::move(done).error();
    return found;
}

Result<std::optional<MessageRow>> CoordinatorStore::message(const std::string& id) {
    const std::lock_guard lock(mutex_);
    return first_of(messages("AND id = ?", id));
}

Result<std::optional<MessageRow>> CoordinatorStore::message_of_session(const std::string& session) {
    const std::lock_guard lock(mutex_);
    return first_of(messages("AND session = ? AND session <> ''", session));
}

Result<std::optional<MessageRow>> CoordinatorStore::message_of_reply_object(const std::string& object) {
    const std::lock_guard lock(mutex_);
    return first_of(
        messages("AND reply_id <> '' AND EXISTS (SELECT 1 FROM holds WHERE holder = reply_id AND object = ?) "
                 "ORDER BY reply_complete",
                 object));
}

Result<std::vector<MessageRow>> CoordinatorStore::open_messages() {
    const std::lock_guard lock(mutex_);
    return rows<MessageRow>(std::string(kMessages) + "ORDER BY site, created", read_message);
}

Result<void> CoordinatorStore::confirm(const std::string& message, Moment now) {
    const std::lock_guard lock(mutex_);
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    if (auto done =
            run_sql("UPDATE messages SET confirmed = ?, touched = ? WHERE id = ?", to_ms(now), to_ms(now), message);
        !done)
        return done;
    if (auto done = run_sql("DELETE FROM holds WHERE holder = ?", message); !done) return done;
    return transaction->commit();
}

Result<void> CoordinatorStore::touch(std::uint64_t node, const std::string& object, Moment now) {
    const std::lock_guard lock(mutex_);
    return run_sql(
        "UPDATE messages SET touched = ? WHERE open = 1 AND node = ? AND EXISTS "
        "(SELECT 1 FROM holds WHERE holder = messages.id AND object = ?)",
        to_ms(now), to_sql(node), object);
}

Result<bool> CoordinatorStore::is_held(const std::string& object) {
    const std::lock_guard lock(mutex_);
    auto found = rows<int>(
        "SELECT 1 FROM holds WHERE object = ? LIMIT 1", [](const Statement&) { return 1; }, object);
    if (!found) return std::move(found).error();
    return !found->empty();
}

Result<std::vector<std::string>> CoordinatorStore::objects_of(const std::string& holder) {
    const std::lock_guard lock(mutex_);
    return rows<std::string>(
        "SELECT object FROM holds WHERE holder = ? ORDER BY place", [](const Statement& s) { return s.text(0); },
        holder);
}

Result<void> CoordinatorStore::put_reply(const MessageRow& m, const std::vector<std::string>& objects) {
    const std::lock_guard lock(mutex_);
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    if (auto done =
            run_sql("DELETE FROM holds WHERE holder IN (SELECT reply_id FROM messages WHERE id = ? AND open = 1 "
                    "AND reply_id <> ?)",
                    m.id, m.reply_id);
        !done)
        return done;
    if (auto done =
            run_sql("UPDATE messages SET touched = ?, reply_id = ?, reply_complete = ?, failed = ?, "
                    "failure_code = ?, failure_reason = ?, session = ?, session_until = ? WHERE id = ? AND open = 1",
                    to_ms(m.touched), m.reply_id, m.reply_complete, m.failed, m.failure_code, m.failure_reason,
                    m.session, to_ms(m.session_until), m.id);
        !done)
        return done;
    if (database_.changes() == 0) return {};  // closed meanwhile: nothing may hold objects for it
    auto hold = database_.prepare("INSERT OR IGNORE INTO holds(holder, place, object) VALUES(?, ?, ?)");
    if (!hold) return std::move(hold).error();
    for (std::size_t place = 0; place < objects.size(); ++place)
        if (auto done = hold->bind(m.reply_id, static_cast<std::int64_t>(place), objects[place]).run(); !done)
            return done;
    return transaction->commit();
}

Result<std::vector<std::string>> CoordinatorStore::lapse_sessions(Moment now) {
    const std::lock_guard lock(mutex_);
    auto lapsed = rows<MessageRow>(
        std::string(kMessages) + "AND reply_complete = 0 AND session_until IS NOT NULL AND session_until <= ?",
        read_message, to_ms(now));
    if (!lapsed) return std::move(lapsed).error();
    std::vector<std::string> sites;
    for (const auto& m : *lapsed) {
        auto transaction = Transaction::begin(database_);
        if (!transaction) return std::move(transaction).error();
        if (auto done = run_sql("DELETE FROM holds WHERE holder = ?", m.reply_id); !done)
            return std::move(done).error();
        if (auto done = run_sql("UPDATE messages SET reply_id = '', session = '', session_until = NULL, failed = 0 "
                                "WHERE id = ?",
                                m.id);
            !done)
            return std::move(done).error();
        if (auto done = transaction->commit(); !done) return std::move(done).error();
        sites.push_back(m.site);
    }
    return sites;
}

Result<void> CoordinatorStore::close_unlocked(const MessageRow& m) {
    if (auto done = run_sql("DELETE FROM holds WHERE holder = ?", m.id); !done) return done;
    if (!m.reply_id.empty())
        if (auto done = run_sql("DELETE FROM holds WHERE holder = ?", m.reply_id); !done) return done;
    return run_sql("UPDATE messages SET open = 0 WHERE id = ?", m.id);
}

Result<void> CoordinatorStore::finish(const MessageRow& message, ResultRow result) {
    const std::lock_guard lock(mutex_);
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    auto issues = rows<std::int64_t>(
        "SELECT issues FROM results WHERE round = ? AND phase = ? AND site = ?",
        [](const Statement& s) { return s.integer(0); }, message.round, message.phase, message.site);
    if (!issues) return std::move(issues).error();
    result.issues = issues->empty() ? 1 : static_cast<int>(issues->front());
    if (auto done = put_result_unlocked(result); !done) return done;
    if (result.state == "answered" && !message.teachers.empty()) {
        std::istringstream heads(message.teachers);
        for (std::string head; std::getline(heads, head, ',');)
            if (auto done = run_sql("INSERT OR IGNORE INTO teachers(site, head) VALUES(?, ?)", message.site, head);
                !done)
                return done;
    }
    auto open = rows<MessageRow>(std::string(kMessages) + "AND round = ? AND phase = ? AND site = ?", read_message,
                                 message.round, message.phase, message.site);
    if (!open) return std::move(open).error();
    for (const auto& m : *open)
        if (auto done = close_unlocked(m); !done) return done;
    return transaction->commit();
}

Result<void> CoordinatorStore::close_message(const std::string& id) {
    const std::lock_guard lock(mutex_);
    auto found = first_of(messages("AND id = ?", id));
    if (!found) return std::move(found).error();
    if (!*found) return {};
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    if (auto done = close_unlocked(**found); !done) return done;
    return transaction->commit();
}

Result<void> CoordinatorStore::close_phase(std::int64_t round, const std::string& phase) {
    const std::lock_guard lock(mutex_);
    auto open = rows<MessageRow>(std::string(kMessages) + "AND round = ? AND phase = ?", read_message, round, phase);
    if (!open) return std::move(open).error();
    auto transaction = Transaction::begin(database_);
    if (!transaction) return std::move(transaction).error();
    for (const auto& m : *open)
        if (auto done = close_unlocked(m); !done) return done;
    return transaction->commit();
}

Result<std::set<std::string>> CoordinatorStore::held_objects() {
    const std::lock_guard lock(mutex_);
    auto objects = rows<std::string>("SELECT DISTINCT object FROM holds", [](const Statement& s) { return s.text(0); });
    if (!objects) return std::move(objects).error();
    return std::set<std::string>(objects->begin(), objects->end());
}

}  // namespace cardionode::fed
