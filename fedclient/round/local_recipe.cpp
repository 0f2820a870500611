#include <fmt/format.h>

#include "conf/base/files.h"
#include "fedclient/round/round.h"

namespace cardionode::fed {
namespace {

/// The YAML without the top-level key and all that hangs below it.
std::string without(const std::string& yaml, const std::string& key) {
    std::string out;
    bool inside = false;
    for (std::size_t begin = 0; begin < yaml.size();) {
        const std::size_t end = std::min(yaml.find('\n', begin), yaml.size() - 1) + 1;
        const std::string line = yaml.substr(begin, end - begin);
        begin = end;
        const bool top = line[0] != ' ' && line[0] != '\t' && line[0] != '#' && line[0] != '\n' && line[0] != '-' &&
                         line[0] != '}' && line[0] != ']';
        if (top) inside = line.starts_with(key + ":");
        if (!inside) out += line;
    }
    return out;
}

}  // namespace

std::filesystem::path studies_folder(const FederatedSettings& settings, const ModelSettings& model) {
    return settings.state / "studies" / model.id;
}

std::filesystem::path staged_folder(const FederatedSettings& settings, const std::string& model_id) {
    return settings.state / "staged" / model_id;
}

Result<std::filesystem::path> local_recipe(const FederatedSettings& settings, const ModelSettings& model) {
    auto text = read_file(model.recipe);
    if (!text) return std::move(text).error();
    std::string yaml = without(without(*text, "data"), "init");
    if (!yaml.empty() && yaml.back() != '\n') yaml += '\n';
    const std::filesystem::path studies = studies_folder(settings, model);
    std::string quoted;
    for (const char c : studies.string()) quoted += c == '\'' ? std::string("''") : std::string(1, c);
    yaml += fmt::format("data:\n  studies: '{}'\n  share: 1\n  holdout: {}\n  split_seed: {}\n", quoted,
                        settings.data.holdout, settings.data.split_seed);
    const std::filesystem::path file = settings.state / "recipes" / (model.id + ".yaml");
    if (auto made = make_folder(studies); !made) return std::move(made).error();
    if (auto made = make_folder(file.parent_path()); !made) return std::move(made).error();
    auto present = read_file(file);
    if (present && *present == yaml) return file;
    if (auto written = write_file_durably(file, yaml); !written) return std::move(written).error();
    return file;
}

}  // namespace cardionode::fed
