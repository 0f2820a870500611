// Where a training step gets its windows from. A sample depends on its number alone, so that a resumed run sees what an
// uninterrupted one would have seen.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "models/train/phantom.h"
#include "models/train/recipe.h"

namespace cardionode::train {

struct Sample {
    torch::Tensor image;  ///< float32 [1, D, H, W], normalised
    /// By head: labels int64 [D, H, W], or a teacher's probabilities, floating [channels, D, H, W]. A head without
    /// label is absent.
    std::map<std::string, torch::Tensor> targets;
    /// By head: bool [D, H, W], the voxels whose target counts. Absent: all.
    std::map<std::string, torch::Tensor> counts;
    std::string origin;  ///< for error messages: a file, "phantom 7"
};

/// A sample that cannot be used, with its file: ends the training, never skipped.
struct BadSample : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Thread safety: sample() may be called from several threads at once.
class SampleSource {
public:
    virtual ~SampleSource() = default;
    /// Throws BadSample.
    virtual Sample sample(std::uint64_t number) const = 0;
    /// What decides the samples beside the recipe, such as the files' hash: a run may only be resumed with the same.
    virtual std::string identity() const { return {}; }
};

/// Training windows of phantoms: number n is phantom mix(seed, n). Validation seeds never meet training seeds.
class PhantomSource final : public SampleSource {
public:
    PhantomSource(std::shared_ptr<const PhantomAtlas> atlas, const Recipe& recipe);
    Sample sample(std::uint64_t number) const override;
    /// The phantom behind validation case `number`.
    Phantom validation_phantom(std::uint64_t number) const;
    /// The phantom of a seed of the caller's on a grid of its own.
    Phantom phantom(std::uint64_t seed, const PhantomGrid& grid) const;
    Sample to_sample(const Phantom& phantom) const;

private:
    std::shared_ptr<const PhantomAtlas> atlas_;
    Recipe recipe_;
    PhantomOptions options_;
};

}  // namespace cardionode::train
