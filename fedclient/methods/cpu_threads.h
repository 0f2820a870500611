// torch's CPU threads, for programs whose own code has no torch.
#pragma once

#include "conf/base/result.h"

namespace cardionode::fed {

/// As set_cpu_threads of models/device.h: once, before the first computation. Config: less than one.
Result<void> set_threads(int threads);

}  // namespace cardionode::fed
