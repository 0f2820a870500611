// Where to compute: the device behind a word of the settings, and the CPU threads.
#pragma once

#include <torch/torch.h>

#include <string>

#include "conf/base/result.h"

namespace cardionode {

/// @param word  auto (the first GPU that works, else the CPU) | cuda | cuda:N | cpu
/// Config: another word, or a GPU that is asked for by name and absent.
Result<torch::Device> device_from(const std::string& word);

/// "cpu", or the GPU's number and, where the driver tells it, its model: "cuda:0 (NVIDIA H100)".
std::string device_name(const torch::Device& device);

/// Threads of torch for the whole process; 0: all cores this process may use. The BLAS library gets one.
/// Call it before the first computation; later calls may leave a pool larger than needed.
/// @return the number set
int set_cpu_threads(int threads);

}  // namespace cardionode
