// Training windows out of studies that lie in memory: the labelled ones and those that teachers labelled.
//
// Sample n is a study, a place in it and a change of its intensities, all drawn from n: a resumed run sees what an
// uninterrupted one would have seen. No mirroring: left and right are labels here.
// Thread safety: immutable after creation.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "models/train/samples.h"

namespace cardionode::train {

struct Jitter {
    double gain = 0;    ///< the normalised image times 1 + [-gain, gain]
    double offset = 0;  ///< plus [-offset, offset], in normalised units
    double noise = 0;   ///< plus white noise of a standard deviation in [0, noise]
};

class StudyWindows final : public SampleSource {
public:
    /// @param labelled,pseudo  images [C, D, H, W] of at least the window's size; one of the lists may be empty
    /// @param labelled_share   of windows taken from `labelled`, 0..1; the rest come from `pseudo`
    /// Throws std::invalid_argument: no study, or one that is smaller than the window.
    StudyWindows(std::vector<Sample> labelled, std::vector<Sample> pseudo, double labelled_share,
                 std::array<int, 3> window, std::uint64_t seed, const Jitter& jitter = {});
    Sample sample(std::uint64_t number) const override;

private:
    std::vector<Sample> labelled_, pseudo_;
    double labelled_share_;
    std::array<int, 3> window_;
    std::uint64_t seed_;
    Jitter jitter_;
};

/// The window of a sample that begins at `start` (D, H, W): image, targets and counts.
Sample cut_window(const Sample& study, const std::array<std::int64_t, 3>& start, const std::array<int, 3>& size);

}  // namespace cardionode::train
