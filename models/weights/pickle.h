// A machine for the pickles that torch.save writes (protocols 2 to 5), which runs nothing.
//
// It knows the instructions that build numbers, texts, tuples, lists and dicts, and these names alone:
// collections.OrderedDict, torch.Size, torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter and
// torch.<type>Storage. A pickle that holds another instruction or name is refused, even if it would not use it.
// Values live in one arena and name each other by index, so that no depth or cycle can exhaust the stack; cycles are
// possible: whoever walks the values must bound the walk.
// Thread safety: functions without shared state. May throw std::bad_alloc. Errors: Config.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

using PickleIndex = std::uint32_t;

enum class PickleKind { None, Bool, Int, Long, Float, Text, Tuple, List, Dict, Global, Storage, Tensor };

struct PickleValue {
    PickleKind kind = PickleKind::None;
    std::int64_t integer = 0;  ///< Bool, Int; Storage: elements; Tensor: offset in its storage, in elements
    std::string text;          ///< Text; Global: "module.name"; Storage: its key; Long: two's complement, little-endian
    /// Tuple, List: the items. Dict: key, value, key, value. Storage: {its type, a Global}.
    /// Tensor: {Storage, Tuple of Int: shape, Tuple of Int: strides in elements}.
    std::vector<PickleIndex> items;
};

struct Pickle {
    std::vector<PickleValue> values;
    PickleIndex root = 0;
    std::size_t bytes = 0;  ///< how much of the text this pickle took

    const PickleValue& at(PickleIndex index) const { return values.at(index); }
};

struct PickleLimits {
    std::size_t values = 2'000'000;
};

/// Reads the pickle at the start of `bytes`. Numbers, shapes and keys are of the right kind, not yet plausible.
Result<Pickle> read_pickle(std::string_view bytes, const PickleLimits& limits = {});

}  // namespace cardionode
