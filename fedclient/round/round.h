// One message from where it stands to its end: the transitions of store.h.
//
// Each step reads what the step before wrote, does its work, and writes the next state; whatever ends the process, the
// next one goes on with the same row. A round that cannot be done gets an honest error reply (code 2) whose reason
// begins with a fixed word: fedclient:bad_objects, bad_contract, teacher_missing, unknown_schema, unknown_model,
// other_architecture, out_of_bounds, bad_signature, bad_weights, no_holdout, validation_drop, nothing_to_learn,
// not_finite, local_trouble, deadline, own_update_worse, privacy_rule, privacy_budget, unsupported_message. Thread
// safety: one object, one thread. Errors of work_on: Retry (network, disk, stopped: the row stands where it stood),
// Config (keys, settings, consent).
#pragma once

#include <functional>
#include <string>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/flower/transport.h"
#include "fedclient/round/settings.h"
#include "fedclient/round/store.h"
#include "fedclient/round/tools.h"

namespace cardionode::fed {

struct RoundHooks {
    std::function<bool()> stop;               ///< the program shall end
    std::function<bool()> clinic_busy;        ///< a study is ready or being worked on
    std::function<void(Milliseconds)> pause;  ///< sleeps; tests move their clock instead
    std::function<void(const MessageRow&, const std::string& detail)> moved;  ///< after each transition
    std::function<void(std::string)> print;                                   ///< a line for people
    Moment end_of_window = Moment::max();
    bool dry_run = false;  ///< ends at `filtered` (an evaluation at `validated`, a refusal at `declined`)
};

class Round {
public:
    /// All must outlive this.
    Round(const FederatedSettings& settings, RoundStore& store, Transport& transport, const RoundTools& tools,
          RoundHooks hooks, const Clock& clock = system_clock());

    /// Until the row is over, or (dry run) stands at the door.
    Result<void> work_on(MessageRow& row);
    /// A defect or a loss that is not finite was seen: the program should end with an alarm.
    bool alarm() const { return alarm_; }

private:
    Result<void> step(MessageRow& row);
    Result<void> fetch(MessageRow& row);
    Result<void> check(MessageRow& row);
    Result<void> validate(MessageRow& row);
    Result<void> train(MessageRow& row);
    Result<void> filter(MessageRow& row);
    Result<void> book(MessageRow& row);
    Result<void> prepare(MessageRow& row);
    Result<void> push(MessageRow& row);
    Result<void> receive(MessageRow& row);

    Result<void> move(MessageRow& row, RoundState state, const std::string& detail);
    Result<void> decline(MessageRow& row, const std::string& reason);
    /// An error of local work: what is worth another try is one, the rest declines.
    Result<void> after_failure(MessageRow& row, const Error& error, const std::string& word);
    Result<void> require_consent() const;
    Result<Reply> reply_of(const MessageRow& row) const;
    double deadline(const MessageRow& row) const;  ///< seconds since 1970, of the answer
    double stop_training_at(const MessageRow& row) const;
    double now() const;
    std::filesystem::path folder_of(const MessageRow& row) const;
    Result<std::filesystem::path> recipe_of(const MessageRow& row) const;

    const FederatedSettings& settings_;
    RoundStore& store_;
    Transport& transport_;
    const RoundTools& tools_;
    RoundHooks hooks_;
    const Clock& clock_;
    bool alarm_ = false;
};

/// "heart fell from 0.91 to 0.80" of the first head that became worse by more than the tolerance; empty: none did.
std::string worse_than(const Validation& before, const Validation& after, const ToleranceSettings& tolerance);

/// The same file under another name, without a copy where the disk allows it; nothing happens when it is there.
Result<void> keep_copy(const std::filesystem::path& from, const std::filesystem::path& to);

/// The recipe as it is used here: the consortium's text with `data` (the hospital's own study files and split) in place
/// of its own, and without `init`. Config: the file cannot be read.
Result<std::filesystem::path> local_recipe(const FederatedSettings& settings, const ModelSettings& model);
/// Where the study files of a model lie.
std::filesystem::path studies_folder(const FederatedSettings& settings, const ModelSettings& model);
std::filesystem::path staged_folder(const FederatedSettings& settings, const std::string& model_id);

}  // namespace cardionode::fed
