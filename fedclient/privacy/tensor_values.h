// Walking through the values of tensors in pieces, so that no tensor is in memory whole.
//
// Thread safety: functions without shared state. Errors: as models/weights/tensor_file.h.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {

inline constexpr std::size_t kValuesAtOnce = 1U << 17;  ///< 1 MiB as doubles

/// All values of floating tensors of one shape, side by side: values[i] is a piece of entries[i], all of one length.
/// @param use  an error of it ends the walk and is returned
Result<void> walk_values(const std::vector<const TensorFile*>& files, const std::vector<const TensorEntry*>& entries,
                         const std::function<Result<void>(const std::vector<std::vector<double>>& values)>& use);

/// "body", or the head that a tensor belongs to.
std::string group_of(const std::string& tensor);

}  // namespace cardionode::fed
