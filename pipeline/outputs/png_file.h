// A canvas as a PNG file (libpng inside).
#pragma once

#include <filesystem>

#include "conf/base/result.h"
#include "pipeline/outputs/canvas.h"

namespace cardionode {

/// Writes durably. Errors as write_file_durably.
Result<void> write_png(const Canvas& canvas, const std::filesystem::path& file);

}  // namespace cardionode
