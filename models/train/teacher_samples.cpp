#include "models/train/teacher_samples.h"

#include <stdexcept>

#include "models/train/random.h"

namespace cardionode::train {
namespace {

torch::Tensor cut(torch::Tensor x, const std::array<std::int64_t, 3>& start, const std::array<int, 3>& size) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
        x = x.narrow(x.dim() - 3 + static_cast<std::int64_t>(axis), start[axis], size[axis]);
    }
    return x.contiguous();
}

void check(const std::vector<Sample>& studies, const std::array<int, 3>& window) {
    for (const Sample& s : studies) {
        for (std::size_t axis = 0; axis < 3; ++axis) {
            if (s.image.size(static_cast<std::int64_t>(axis) + 1) < window[axis])
                throw std::invalid_argument("a study is smaller than the training window");
        }
    }
}

}  // namespace

Sample cut_window(const Sample& study, const std::array<std::int64_t, 3>& start, const std::array<int, 3>& size) {
    Sample window;
    window.image = cut(study.image, start, size);
    for (const auto& [head, target] : study.targets) window.targets[head] = cut(target, start, size);
    for (const auto& [head, counts] : study.counts) window.counts[head] = cut(counts, start, size);
    return window;
}

StudyWindows::StudyWindows(std::vector<Sample> labelled, std::vector<Sample> pseudo, double labelled_share,
                           std::array<int, 3> window, std::uint64_t seed, const Jitter& jitter)
    : labelled_(std::move(labelled)),
      pseudo_(std::move(pseudo)),
      labelled_share_(labelled_share),
      window_(window),
      seed_(seed),
      jitter_(jitter) {
    if (labelled_.empty() && pseudo_.empty()) throw std::invalid_argument("no study to train on");
    check(labelled_, window_);
    check(pseudo_, window_);
}

Sample StudyWindows::sample(std::uint64_t number) const {
    Random random(mix_bits(seed_) ^ mix_bits(number + 1), 31);
    const bool from_labelled = random.uniform() < static_cast<float>(labelled_share_);
    const std::vector<Sample>& list = pseudo_.empty() || (from_labelled && !labelled_.empty()) ? labelled_ : pseudo_;
    const Sample& study = list[static_cast<std::size_t>(random.integer(0, static_cast<int>(list.size()) - 1))];
    std::array<std::int64_t, 3> start{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const auto side = static_cast<int>(study.image.size(static_cast<std::int64_t>(axis) + 1));
        start[axis] = random.integer(0, side - window_[axis]);
    }
    Sample window = cut_window(study, start, window_);
    const auto drawn = [&](double reach) {
        return random.uniform(static_cast<float>(-reach), static_cast<float>(reach));
    };
    const float gain = 1 + drawn(jitter_.gain), offset = drawn(jitter_.offset);
    const float noise = random.uniform(0, static_cast<float>(jitter_.noise));
    window.image = window.image * gain + offset;
    if (noise > 0) {
        // Torch's generator is shared by the process; the sample must depend on its number alone.
        float* voxels = window.image.data_ptr<float>();
        for (std::int64_t i = 0; i < window.image.numel(); ++i) voxels[i] += noise * random.normal();
    }
    return window;
}

}  // namespace cardionode::train
