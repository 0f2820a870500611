// Where a training step gets its windows from. A sample depends on its number alone, so that a resumed run sees what an
// uninterrupted one would have seen.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "models/train/phantom.h"
#include "models/train/recipe.h"

namespace cardionode::train {

struct Sample {
    torch::Tensor image;                           ///< float32 [1, D, H, W], normalised
    std::map<std::string, torch::Tensor> targets;  ///< by head: int64 [D, H, W]; a head without label is absent
};

/// Thread safety: sample() may be called from several threads at once.
class SampleSource {
public:
    virtual ~SampleSource() = default;
    virtual Sample sample(std::uint64_t number) const = 0;
};

/// Training windows of phantoms: number n is phantom mix(seed, n). Validation seeds never meet training seeds.
class PhantomSource final : public SampleSource {
public:
    PhantomSource(std::shared_ptr<const PhantomAtlas> atlas, const Recipe& recipe);
    Sample sample(std::uint64_t number) const override;
    /// The phantom behind validation case `number`.
    Phantom validation_phantom(std::uint64_t number) const;
    Sample to_sample(const Phantom& phantom) const;

private:
    std::shared_ptr<const PhantomAtlas> atlas_;
    Recipe recipe_;
    PhantomOptions options_;
};

}  // namespace cardionode::train
