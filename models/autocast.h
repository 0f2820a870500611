// Mixed precision for a block of code: inside it torch computes convolutions and matrix products in a narrower type and
// keeps parameters, sums and losses in float32.
//
// CPU: bfloat16 (about twice as fast where the processor has AVX512-BF16 or AMX, slower where it emulates it:
// narrow_on_cpu()). CUDA: float16 or bfloat16. Thread safety: acts on the calling thread alone; scopes may nest.
#pragma once

#include <ATen/autocast_mode.h>
#include <torch/torch.h>
#include <torch/version.h>

namespace cardionode {

/// What convolutions run in on this CPU when mixed precision is wanted: bfloat16 where the processor multiplies it
/// itself, else float32.
inline torch::ScalarType narrow_on_cpu() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") ? torch::kBFloat16 : torch::kFloat;
#else
    return torch::kFloat;
#endif
}

class AutocastScope {
public:
    /// @param type  kFloat switches nothing
    /// @param type  kFloat switches nothing
    AutocastScope(const torch::Device& device, torch::ScalarType type)
        : on_(type != torch::kFloat), kind_(device.type()) {
        if (!on_) return;
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
        was_ = at::autocast::is_autocast_enabled(kind_);
        at::autocast::set_autocast_dtype(kind_, type);
#else
        const bool cuda = kind_ == torch::kCUDA;
        was_ = cuda ? at::autocast::is_enabled() : at::autocast::is_cpu_enabled();
        if (cuda) at::autocast::set_autocast_gpu_dtype(type);
        else at::autocast::set_autocast_cpu_dtype(type);
#endif
        enable(true);
        at::autocast::increment_nesting();
    }
    ~AutocastScope() {
        if (!on_) return;
        if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
        enable(was_);
    }
    AutocastScope(const AutocastScope&) = delete;
    AutocastScope& operator=(const AutocastScope&) = delete;

private:
    void enable(bool enabled) const {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
        at::autocast::set_autocast_enabled(kind_, enabled);
#else
        if (kind_ == torch::kCUDA) at::autocast::set_enabled(enabled);
        else at::autocast::set_cpu_enabled(enabled);
#endif
    }
    bool on_, was_ = false;
    torch::DeviceType kind_;
};

}  // namespace cardionode
