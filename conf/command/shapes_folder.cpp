#include "conf/command/shapes_folder.h"

namespace cardionode {

std::filesystem::path default_shapes_folder() {
    std::error_code no_matter;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", no_matter);
    const std::filesystem::path installed = self.parent_path() / ".." / "share" / "cardionode" / "shapes";
    if (std::filesystem::exists(installed, no_matter)) return installed.lexically_normal();
    return CARDIONODE_SHAPES_FOLDER;
}

}  // namespace cardionode
