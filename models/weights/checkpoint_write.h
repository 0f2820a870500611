// Writing a PyTorch checkpoint without Python: the file that torch.save makes of a state_dict, for collaborators.
//
// A zip archive of stored entries: <name>/data.pkl (pickle protocol 2, only the names that torch.load accepts with
// weights_only=True: collections.OrderedDict, torch._utils._rebuild_tensor_v2, torch.<type>Storage), <name>/data/<key>
// (raw little-endian, each at a multiple of 64 bytes, as torch.load's memory mapping wants it), <name>/version "3".
// The pickle is, instruction by instruction, what torch.save writes, but for the state_dict's _metadata (versions of
// layers), which load_state_dict does not need.
// Thread safety: functions without shared state. torch's exceptions do not leave them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/weights/safetensors.h"

namespace cardionode {

/// Names and tensors in the order of the file.
using OrderedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

enum class CheckpointDict { Ordered, Plain };  ///< collections.OrderedDict as a state_dict is, or a dict

/// The pickle alone: tensor i lies in storage i. Bug: a dtype that read_checkpoint does not know.
Result<std::string> checkpoint_pickle(const OrderedTensors& tensors, CheckpointDict kind = CheckpointDict::Ordered);

/// Durably and atomically; each tensor contiguous, in a storage of its own.
/// Config: the folder is missing or forbidden; more than 4 GB. Retry: disk or memory full. Bug: an undefined tensor.
Result<void> write_checkpoint(const std::filesystem::path& file, const OrderedTensors& tensors,
                              CheckpointDict kind = CheckpointDict::Ordered);

}  // namespace cardionode
