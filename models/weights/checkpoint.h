// Reading the tensors out of a PyTorch checkpoint (torch.save), without Python and without running anything.
//
// Forms: the zip archive of PyTorch >= 1.6 (<name>/data.pkl, <name>/data/<key>, entries stored, not compressed) and the
// stream of pickles before that. A checkpoint is a pickle, a programme for a small machine that may name any Python
// function; here it can name only what torch needs for tensors (pickle.h), and those are interpreted, never called.
// Anything else is refused with its name. LibTorch's own torch::pickle_load reads plain dicts of tensors only.
// Names: keys of nested dicts, lists and tuples joined with '.'. Where all tensors lie in one inner dict, as in
// {'model': state_dict, 'epoch': 3}, the names are that dict's ("0.weight", not "model.0.weight"). Numbers, texts and
// other values beside the tensors are dropped.
// Each tensor is a copy of its own on the CPU, contiguous, dtype as stored: views and shared storages come apart.
// Checked before memory is taken: sizes against the file's, views against their storage; in a zip the CRC of what was
// read. Tensors that overlap may need at most 4 times the file and 16 MiB.
// Thread safety: functions without shared state. No exception leaves them.
// Errors: Config for a missing, damaged or refused file; Retry for I/O trouble or full memory.
#pragma once

#include <filesystem>

#include "models/weights/safetensors.h"

namespace cardionode {

/// What a checkpoint may hold before it is refused.
struct CheckpointLimits {
    std::uint64_t file_bytes = std::uint64_t{8} << 30;
    std::size_t tensors = 100'000;
    std::size_t dimensions = 8;
    std::size_t depth = 32;  ///< dicts and lists in one another
    std::size_t name_bytes = 512;
    std::size_t values_visited = 1'000'000;
};

Result<NamedTensors> read_checkpoint(const std::filesystem::path& file, const CheckpointLimits& limits = {});

/// Weights in either form: a checkpoint of torch.save by its first bytes, else safetensors.
Result<NamedTensors> read_weights(const std::filesystem::path& file);

}  // namespace cardionode
