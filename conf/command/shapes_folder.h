// Where the phantoms' sources lie.
#pragma once

#include <filesystem>

namespace cardionode {

/// Installed beside the programs, or in the source tree that this program was built from.
std::filesystem::path default_shapes_folder();

}  // namespace cardionode
