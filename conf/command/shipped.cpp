#include "conf/command/shipped.h"

#include "conf/base/node_settings.h"

namespace cardionode {

std::filesystem::path shipped_folder(const std::string& name, const std::filesystem::path& in_source_tree) {
    std::error_code no_matter;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", no_matter);
    const std::filesystem::path installed = self.parent_path() / ".." / "share" / "cardionode" / name;
    if (std::filesystem::exists(installed, no_matter)) return installed.lexically_normal();
    return in_source_tree / name;
}

std::filesystem::path shipped_bundle() {
    return shipped_folder("bundles", CARDIONODE_MODELS_FOLDER) / PipelineSettings{}.bundle.filename();
}

}  // namespace cardionode
