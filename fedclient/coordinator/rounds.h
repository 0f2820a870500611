// The rounds of one run as a state machine whose state lies in CoordinatorStore: kill -9 at any moment, go on from
// there.
//
//   gathering   -> training     the expected sites are online, or gather_seconds passed and the quorum is
//               -> skipped      fewer
//   training    -> aggregating  every site that was asked has answered, or the deadline passed
//   aggregating -> evaluating   a candidate came out      -> skipped  fewer usable updates than the quorum
//   evaluating  -> done         the candidate becomes the global model
//               -> kept_old     a head's validation, weighted over the sites, fell by more than the tolerance
// A node that goes offline before its answer is taken loses it ("Node Unavailable", as with Flower); when it is back,
// and when it got a message and never fetched it, the message is issued again. The first answer of a site counts, its
// other messages are closed. Validation is paired: before/<head> of a site's train reply (the old model) against what
// its evaluate reply says of the candidate (after/<head>, else before/<head>); higher is better. Thread safety: one
// caller of tick(). Errors: Config for weights and keys; Retry: the next tick tries again.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/faults.h"
#include "fedclient/coordinator/run_settings.h"
#include "fedclient/flower/object_store.h"

namespace cardionode::fed {

class Rounds {
public:
    /// Goes on with the run in `store`, or begins one. All must outlive it. Config: the store is of another run.
    /// @param folder  for models and updates
    static Result<std::unique_ptr<Rounds>> open(const RunSettings& settings, CoordinatorStore& store,
                                                const ObjectStore& objects, Faults& faults, const Clock& clock,
                                                const std::filesystem::path& folder);
    /// Takes answers, issues messages, moves on as far as it goes.
    Result<void> tick();

private:
    struct Model {
        std::string file, record;
    };
    Rounds(const RunSettings& settings, CoordinatorStore& store, const ObjectStore& objects, Faults& faults,
           const Clock& clock, std::filesystem::path folder)
        : settings_(settings),
          store_(store),
          objects_(objects),
          faults_(faults),
          clock_(clock),
          folder_(std::move(folder)) {}

    Result<void> begin_run();
    Result<Model> current_model();
    /// false: nothing more to do now
    Result<bool> step();
    Result<bool> next_round(const std::optional<RoundRow>& last);
    Result<bool> gathering(RoundRow round);
    Result<bool> training(RoundRow round);
    Result<bool> aggregating(RoundRow round);
    Result<bool> evaluating(RoundRow round);
    Result<bool> end_round(RoundRow round, const std::string& state, const std::string& reason);

    Result<std::vector<NodeRow>> online_nodes();  ///< one a site
    /// Takes what came, drops what went offline, issues again, asks who has not been asked.
    Result<void> exchange(const RoundRow& round, const std::string& phase, const std::string& arrays);
    Result<void> take(const MessageRow& message);
    Result<void> issue(const RoundRow& round, const std::string& phase, const std::string& arrays, const NodeRow& node);
    Result<std::string> poisoned(const RoundRow& round, const std::string& arrays);
    /// Nobody is waited for any more.
    Result<bool> everybody_answered(const RoundRow& round, const std::string& phase);
    Result<void> close_phase(const RoundRow& round, const std::string& phase);
    Result<void> sweep_objects();
    std::filesystem::path update_file(const std::string& site, std::int64_t round) const;

    const RunSettings& settings_;
    CoordinatorStore& store_;
    const ObjectStore& objects_;
    Faults& faults_;
    const Clock& clock_;
    std::filesystem::path folder_;
    std::map<std::string, std::string> teachers_;  ///< head -> id of its ArrayRecord
    Model initial_;
};

}  // namespace cardionode::fed
