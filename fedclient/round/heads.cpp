#include "fedclient/round/tools.h"
#include "models/bundle.h"

namespace cardionode::fed {

Result<std::vector<std::string>> heads_of(const ModelSettings& model) {
    auto bundle = load_bundle(model.bundle);
    if (!bundle) return std::move(bundle).error();
    const BundleManifest& m = bundle->manifest;
    if (model.second_look) {
        if (!m.second_look) return config_error(model.bundle.string() + " has no second look");
        return m.second_look->heads;
    }
    std::vector<std::string> heads;
    for (const HeadManifest& head : m.heads) heads.push_back(head.name);
    return heads;
}

}  // namespace cardionode::fed
