// A loaded model that turns a preprocessed volume into probabilities. torch stays inside the .cpp.
//
// Thread safety: one Predictor belongs to one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// Where to compute.
struct DeviceChoice {
    std::string device = "auto";  ///< auto | cuda | cuda:N | cpu
    bool mixed_precision = true;  ///< float16 autocast on CUDA; ignored on the CPU
    int threads = 0;              ///< CPU threads; 0: all cores
};

/// Softmax probabilities of one head on the network's grid.
struct HeadProbabilities {
    std::string head;
    std::vector<ScoreMap> channels;  ///< [0] is background; as many as the head has classes plus one
};

struct Prediction {
    std::vector<HeadProbabilities> heads;  ///< in the manifest's order
    std::string device;                    ///< where it ran in the end: "cpu" or the GPU's name
    std::vector<std::string> notes;        ///< "GPU memory full: batch 4 -> 2", for the log
};

/// Called after each window with done and total; returning false cancels.
using Progress = std::function<bool(int done, int total)>;

class Predictor {
public:
    /// Config: weights missing or damaged, names or shapes that do not fit the architecture, `cuda` asked for but
    /// absent.
    static Result<Predictor> load(const Bundle& bundle, const DeviceChoice& choice);
    Predictor(Predictor&&) noexcept;
    Predictor& operator=(Predictor&&) noexcept;
    ~Predictor();

    /// @param image  on the manifest's grid (spacing, LPS), already normalised: (clip(HU) - mean) / sd
    /// Full GPU memory: smaller batches, then the CPU, never an error of its own. Retry: memory full on the CPU or
    /// cancelled by `progress`. The windows, their order and the result do not depend on the batch size.
    Result<Prediction> run(const Volume& image, const Progress& progress = {});

private:
    struct State;
    explicit Predictor(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
