// What the coordinator must not forget: nodes, messages, rounds and what each site answered, in one SQLite file.
//
// Every change that belongs together is one transaction: after kill -9 a message is open or its answer is counted,
// never both, and an answer is counted once (the key of a result is round, phase and site).
// Thread safety: all methods from any thread. Errors: Retry, Config and Bug as conf/base/sqlite.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "conf/base/sqlite.h"
#include "conf/base/time.h"

namespace cardionode::fed {

struct RunRow {
    std::uint64_t id = 0;
    std::string status;  ///< running | finished | stopped
    std::string model_id, method, arch_sha256;
};

struct NodeRow {
    std::uint64_t id = 0;
    std::string key_id;  ///< SHA-256 of the public key (SPKI, DER)
    std::string site;
    double interval_seconds = 30;
    Moment online_until, last_seen;

    bool online(Moment now) const { return online_until > now; }
};

/// A message to a node, and what came back. Open: its answer is not taken yet.
struct MessageRow {
    std::string id;
    std::uint64_t node = 0;
    std::string site;
    std::int64_t round = 0;
    std::string phase;            ///< train | evaluate
    double created = 0, ttl = 0;  ///< seconds since 1970; seconds
    std::optional<Moment> delivered, confirmed;
    Moment touched;               ///< last call about it
    std::string teachers;         ///< heads whose teachers it carries, joined by commas
    std::string reply_id;         ///< empty: none yet
    bool reply_complete = false;  ///< all its objects are here
    bool failed = false;          ///< the reply is an error
    std::int64_t failure_code = 0;
    std::string failure_reason;
    std::string session;  ///< of the push; empty: none
    std::optional<Moment> session_until;
};

struct RoundRow {
    std::int64_t round = 0;
    std::string state;  ///< gathering | training | aggregating | evaluating; ended: done | skipped | kept_old
    Moment started, deadline;
    std::optional<Moment> ended;
    std::string base_file, base_record;            ///< the global model it began with
    std::string candidate_file, candidate_record;  ///< what came out of it
    std::string reason;                            ///< why skipped or kept_old
    std::string report = "{}";                     ///< JSON, see status.h

    bool is_open() const { return state != "done" && state != "skipped" && state != "kept_old"; }
};

struct ResultRow {
    std::int64_t round = 0;
    std::string phase, site;
    std::string state;  ///< asked | answered | refused | away | silent
    int issues = 0;     ///< messages sent
    std::string reason;
    std::string weights;         ///< file of the update; empty: none
    std::string metrics = "{}";  ///< JSON: the numbers of the reply's MetricRecord
    Moment since;

    bool is_final() const { return state == "answered" || state == "refused" || state == "silent"; }
};

class CoordinatorStore {
public:
    static Result<std::unique_ptr<CoordinatorStore>> open(const std::filesystem::path& file);
    static Result<std::unique_ptr<CoordinatorStore>> open_read_only(const std::filesystem::path& file);

    Result<std::optional<RunRow>> run();
    Result<void> put_run(const RunRow& run);

    Result<std::vector<NodeRow>> nodes();
    Result<std::optional<NodeRow>> node(std::uint64_t id);
    Result<std::optional<NodeRow>> node_of_key(const std::string& key_id);
    Result<void> put_node(const NodeRow& node);
    Result<void> remove_node(std::uint64_t id);

    /// With the objects it consists of; counts it in the result of its site, which becomes "asked".
    Result<void> add_message(const MessageRow& message, const std::vector<std::string>& objects);
    /// The oldest message for a node that was not delivered and has not expired; it counts as delivered now.
    Result<std::optional<MessageRow>> deliver(std::uint64_t node, Moment now);
    Result<std::optional<MessageRow>> message(const std::string& id);
    Result<std::optional<MessageRow>> message_of_session(const std::string& session);
    Result<std::optional<MessageRow>> message_of_reply_object(const std::string& object);
    Result<std::vector<MessageRow>> open_messages();
    /// The node has it: its objects can no longer be had through it.
    Result<void> confirm(const std::string& message, Moment now);
    /// Somebody asked for an object: the messages to this node that hold it are alive.
    Result<void> touch(std::uint64_t node, const std::string& object, Moment now);
    /// Any message or reply holds the object.
    Result<bool> is_held(const std::string& object);
    Result<std::vector<std::string>> objects_of(const std::string& message_or_reply);
    /// Fields of the reply, and its objects when they are new; an earlier reply is forgotten. Nothing happens when the
    /// message is closed.
    Result<void> put_reply(const MessageRow& message, const std::vector<std::string>& objects);
    /// Forgets the replies of lapsed sessions that are not complete.
    Result<std::vector<std::string>> lapse_sessions(Moment now);
    /// Writes the result of a message's site and closes all messages to the site of that round and phase. With
    /// "answered" the teachers it carried count as delivered.
    Result<void> finish(const MessageRow& message, ResultRow result);
    /// Closes one message without a result.
    Result<void> close_message(const std::string& id);
    Result<void> close_phase(std::int64_t round, const std::string& phase);

    Result<std::optional<RoundRow>> latest_round();
    Result<std::vector<RoundRow>> rounds();
    Result<void> put_round(const RoundRow& round);
    Result<std::vector<ResultRow>> results(std::int64_t round, const std::string& phase);
    Result<void> put_result(const ResultRow& result);

    Result<std::set<std::string>> teachers_of(const std::string& site);  ///< heads
    Result<void> forget_teachers(const std::string& site);
    Result<std::set<std::string>> held_objects();

private:
    explicit CoordinatorStore(Database database) : database_(std::move(database)) {}
    template <class... Values>
    Result<void> run_sql(std::string_view sql, const Values&... values);
    template <class Row, class Read, class... Values>
    Result<std::vector<Row>> rows(std::string_view sql, Read read, const Values&... values);
    Result<std::vector<MessageRow>> messages(const std::string& where, const std::string& value);
    Result<void> put_result_unlocked(const ResultRow& result);
    Result<void> close_unlocked(const MessageRow& message);

    std::mutex mutex_;
    Database database_;
};

}  // namespace cardionode::fed
