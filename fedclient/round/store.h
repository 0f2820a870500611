// Where a night's rounds are remembered: one row a message, one row a global model that was accepted. SQLite,
// synchronous=FULL: what a method wrote is on disk when it returns.
//
//   pulled -> fetched -> checked -> validated -> trained -> filtered -> booked -> prepared -> pushed -> taken
//      |         |          |           |           |           |         ^          |          |
//      +---------+----------+-----------+-----------+-----------+---> declined       |          +-> failed (run over)
//                                                                  (an honest error  +-> refused | failed
//   evaluate: validated -> prepared                                 reply) -> prepared
//
// pulled     The transport has the message's metadata; a server gives it only once.
// fetched    All objects are on disk and verified, the contract was read.
// checked    Architecture, bounds, signature and inbound rules hold.
// validated  The own hold-out says how good the pulled model is; it is staged.
// trained    The own update is there, and validated.
// filtered   What may leave of it lies in update.safetensors. A dry run ends here.
// booked     The privacy ledger holds it: from here on it may leave.
// prepared   The reply's bytes are on disk. declined: the reason is, no bytes yet.
// pushed     The server has them; the node stays online until they are taken.
// taken, refused (the server wants no reply any more), failed (no answer was sent): the end.
//
// A transition is written before its effect is relied on; a step that was cut off runs again and ends the same.
// Thread safety: one object, one thread; one process at a time writes (the client's lock), others may read.
// Errors: as conf/base/sqlite.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/sqlite.h"
#include "conf/base/time.h"
#include "fedclient/flower/transport.h"
#include "fedclient/methods/local_round.h"
#include "fedclient/round/contract.h"

namespace cardionode::fed {

enum class RoundState {
    Pulled,
    Fetched,
    Checked,
    Validated,
    Trained,
    Filtered,
    Booked,
    Declined,
    Prepared,
    Pushed,
    Taken,
    Refused,
    Failed
};
std::string_view to_string(RoundState state);
bool is_over(RoundState state);  ///< Taken, Refused, Failed

struct MessageRow {
    Incoming incoming;
    RoundState state = RoundState::Pulled;
    Moment since{};  ///< of the state
    Moment pulled_at{};
    int tries = 0;    ///< of the step that comes next
    std::string key;  ///< round_key(); empty before `fetched`
    RoundOrder order;
    std::string record_id;  ///< of the pulled ArrayRecord "arrays"
    std::filesystem::path weights;
    std::map<std::string, PulledArrays> teachers;
    double fetch_seconds = 0;
    std::int64_t bytes_received = 0, bytes_sent = 0;
    std::optional<Validation> before, after;
    // of training
    std::filesystem::path trained;
    std::map<std::string, std::int64_t> labelled;
    std::int64_t unlabelled = 0, patients = 0, steps = 0;
    double loss = 0, train_seconds = 0;
    // of the filters
    std::filesystem::path update;  ///< empty: nothing was filtered yet
    std::string update_sha256;
    std::int64_t update_bytes = 0;
    std::map<std::string, double> norm_before, norm_after;
    std::vector<std::string> withheld;
    bool noised = false;
    double booked_multiplier = 0;  ///< FilteredUpdate
    std::string answered_from;     ///< message id of the round whose result this reply repeats
    std::string reply_id;
    std::string reason;  ///< why it was declined, refused or failed: "fedclient:validation_drop: ..."
};

/// A global model that passed the inbound checks and the own hold-out.
struct AcceptedModel {
    std::string model_id, record_id;
    std::int64_t version = 0;  ///< rounds that made it: that of an evaluate message, one less of a train message
    Moment at{};
    double change_norm = 0;
    std::filesystem::path weights;
    Validation validation;
};

struct TransitionRow {
    Moment at{};
    std::string message_id, state, detail;
};

class RoundStore {
public:
    enum class Mode { Write, ReadOnly };
    /// Config: ReadOnly and nothing was ever written; a schema of a later program.
    static Result<RoundStore> open(const std::filesystem::path& file, Mode mode, const Clock& clock = system_clock());

    /// The row as it stands, and a line of history with `detail`. Inserts or replaces.
    Result<void> save(MessageRow& row, RoundState state, const std::string& detail);
    /// The same, and the model is accepted, in one transaction.
    Result<void> save(MessageRow& row, RoundState state, const std::string& detail, const AcceptedModel& accepted);
    Result<void> count_try(MessageRow& row);

    Result<std::optional<MessageRow>> message(const std::string& message_id);
    Result<std::vector<MessageRow>> unfinished();      ///< oldest first
    Result<std::vector<MessageRow>> newest(int most);  ///< newest first
    /// One that has an update for this round.
    Result<std::optional<MessageRow>> result_for(const std::string& key);
    Result<std::vector<AcceptedModel>> accepted(const std::string& model_id);  ///< by when they came last
    Result<void> forget_accepted(const AcceptedModel& model);  ///< its files are gone; the row stays for the history
    Result<std::vector<TransitionRow>> transitions(const std::string& message_id);

private:
    RoundStore(Database database, const Clock& clock) : database_(std::move(database)), clock_(&clock) {}
    Result<void> write(MessageRow& row, RoundState state, const std::string& detail, const AcceptedModel* accepted);
    Result<std::vector<MessageRow>> rows(std::string_view where, const std::vector<std::string>& texts);
    Database database_;
    const Clock* clock_;
};

}  // namespace cardionode::fed
