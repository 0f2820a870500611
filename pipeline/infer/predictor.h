// A loaded model that turns a preprocessed volume into probabilities. torch stays inside the .cpp.
//
// Thread safety: one Predictor belongs to one thread at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// Where to compute.
struct DeviceChoice {
    std::string device = "auto";  ///< auto | cuda | cuda:N | cpu
    bool mixed_precision = true;  ///< float16 on CUDA; bfloat16 on a CPU that multiplies it itself (AVX512-BF16)
    int threads = 0;              ///< CPU threads; 0: all cores
};

/// Softmax probabilities of one head on the network's grid.
struct HeadProbabilities {
    std::string head;
    std::vector<ScoreMap> channels;  ///< [0] is background; as many as the head has classes plus one
};

/// Where each pass of a test-time augmentation saw each point, by name; a pass that did not find it is absent.
struct PassPoints {
    int passes = 1;
    std::map<std::string, std::vector<PatientPoint>> points;
};

/// What a bundle's second network saw in its window (pipeline/runner/looks.h).
struct SecondLook {
    std::vector<HeadProbabilities> heads;  ///< all on the window's grid
    int windows = 1;                       ///< how many it took until the root stood in the middle
    PassPoints passes;
};

struct Prediction {
    std::vector<HeadProbabilities> heads;   ///< in the manifest's order
    std::string device;                     ///< where it ran in the end: "cpu" or the GPU's name
    std::vector<std::string> notes;         ///< "GPU memory full: batch 4 -> 2", for the log
    std::optional<SecondLook> second = {};  ///< none: the bundle has no second network, or nothing to look at
    PassPoints passes = {};
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

    /// The second network of the bundle on one window.
    /// @param image     of exactly the window's size, on the second look's spacing, LPS, normalised as it wants it
    /// @param chambers  the first look's heart labels on the same grid; needed where the second look has two channels
    /// @return          the second network's heads. Bug: the bundle has no second look, or the image does not fit;
    ///                  else as run()
    Result<Prediction> run_second(const Volume& image, const LabelMap* chambers, const Progress& progress = {});

private:
    struct State;
    explicit Predictor(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
