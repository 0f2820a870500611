// What a hospital does between pull and push: learn on its own studies by the round's method. torch stays inside.
//
// Methods: fedavg (all heads, own labels), fedkd_teacher (a CNN for one label type, own labels), fedkd_student
// (teachers label every study once, cached by study and teacher; the student learns every head from people's labels or
// else from the teachers'). A head without any label costs nothing and learns nothing, and its tensors leave as they
// came. A killed round goes on from the checkpoint in its work folder and ends at the same weights, bit for bit on the
// CPU. Sources: Toelle et al. 2025 (FedKD). Thread safety: one call a work folder. torch's exceptions do not leave.
// Errors: Config for a recipe or weights that do not fit; Retry when stopped (Stop) or memory or disk are full; Reject
// when there is nothing to learn from; Bug when the loss is not finite.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

enum class Method { FedAvg, FedKdTeacher, FedKdStudent };
Result<Method> method_of(const std::string& word);  ///< fedavg | fedkd_teacher | fedkd_student
std::string to_string(Method method);

/// What the coordinator may decide within the bounds of the hospital's settings; everything else is the recipe's.
struct RoundPlan {
    Method method = Method::FedAvg;
    std::string model_id;
    std::int64_t round = 1;
    std::vector<std::string> heads;  ///< that may learn; empty: all of the recipe
    std::int64_t steps = 100;        ///< of this round
    double learning_rate = 0;        ///< 0: the recipe's
    double proximal_mu = 0;          ///< FedProx: + mu/2 |w - w_pulled|^2
    std::uint64_t seed = 1;
};

struct LocalRound {
    RoundPlan plan;
    std::filesystem::path recipe;  ///< models/train/recipe.h; its data.studies names the hospital's study files
    std::filesystem::path pulled;  ///< safetensors of the global model
    std::map<std::string, std::filesystem::path> teachers;  ///< fedkd_student: head -> safetensors
    std::filesystem::path teacher_recipe;                   ///< architecture of the teachers
    std::filesystem::path work;                             ///< checkpoint, cached teacher answers, trained weights
    /// fedkd_student: how many studies the teachers label at most, those with people's labels first. Each costs a copy
    /// (float16) in the work folder.
    std::int64_t most_studies = 500;
    std::uint64_t cache_bytes = std::uint64_t{4} << 30;  ///< of the teachers' answers
    std::string device = "cpu";
    int threads = 1;
    std::function<bool()> stop;              ///< asked after each step; true ends with a checkpoint (Retry)
    std::function<bool()> enough;            ///< asked after each step; true ends the training early, as if done
    std::function<void(std::string)> print;  ///< a line for people
};

/// Held-out studies: what each head reaches. Dice for masks; median millimetres for points, over all points of all
/// studies, one that is not found counts kMissMm. A head that no held-out study is labelled for is absent.
inline constexpr double kMissMm = 100;
struct Validation {
    std::map<std::string, double> dice, point_mm;
    std::int64_t studies = 0;
};

struct LocalResult {
    std::filesystem::path trained;  ///< safetensors, all floating tensors of the network
    /// Head -> studies whose label of it was learned from: people's, for fedkd_student also the teachers'. 0: the
    /// head's tensors are those that were pulled, bit for bit.
    std::map<std::string, std::int64_t> labelled;
    std::int64_t unlabelled = 0;  ///< studies learned from that people gave no label of the recipe's heads
    std::int64_t patients = 0, steps = 0;
    double loss = 0, seconds = 0;  ///< mean of the steps; both of the process that ended the round
    Validation before, after;
};

Result<LocalResult> run_local_round(const LocalRound& round);

/// How good weights are on the held-out studies of the recipe.
Result<Validation> validate_weights(const std::filesystem::path& recipe, const std::filesystem::path& weights,
                                    const std::string& device = "cpu", int threads = 1);

/// SHA-256 over "name dtype shape" of every floating tensor in bytewise order of names, and the architecture's words:
/// the arch-sha256 of the contract. Two recipes with the same hash exchange weights.
Result<std::string> architecture_hash(const std::filesystem::path& recipe);

}  // namespace cardionode::fed
