// A canvas as a PNG (libpng inside).
#pragma once

#include <filesystem>
#include <string>

#include "conf/base/result.h"
#include "pipeline/outputs/canvas.h"

namespace cardionode {

/// The bytes of the file.
std::string encode_png(const Canvas& canvas);

/// Writes durably. Errors as write_file_durably.
Result<void> write_png(const Canvas& canvas, const std::filesystem::path& file);

}  // namespace cardionode
