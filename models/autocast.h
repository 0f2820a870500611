// Mixed precision for a block of code: inside it torch computes convolutions and matrix products in a narrower type and
// keeps parameters, sums and losses in float32.
//
// CPU: bfloat16 (about twice as fast where the processor has AVX512-BF16 or AMX, slower where it emulates it). CUDA:
// float16 or bfloat16. Thread safety: acts on the calling thread alone; scopes may nest.
#pragma once

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace cardionode {

class AutocastScope {
public:
    /// @param type  kFloat switches nothing
    AutocastScope(const torch::Device& device, torch::ScalarType type) : on_(type != torch::kFloat) {
        if (!on_) return;
        cuda_ = device.is_cuda();
        was_ = cuda_ ? at::autocast::is_enabled() : at::autocast::is_cpu_enabled();
        if (cuda_) {
            at::autocast::set_autocast_gpu_dtype(type);
            at::autocast::set_enabled(true);
        } else {
            at::autocast::set_autocast_cpu_dtype(type);
            at::autocast::set_cpu_enabled(true);
        }
        at::autocast::increment_nesting();
    }
    ~AutocastScope() {
        if (!on_) return;
        if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
        if (cuda_) at::autocast::set_enabled(was_);
        else at::autocast::set_cpu_enabled(was_);
    }
    AutocastScope(const AutocastScope&) = delete;
    AutocastScope& operator=(const AutocastScope&) = delete;

private:
    bool on_, cuda_ = false, was_ = false;
};

}  // namespace cardionode
