#include "conf/base/settings.h"

#include <cmath>
#include <set>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "conf/base/files.h"

namespace cardionode {

void Problems::add(const std::string& file, int line, std::string_view key, std::string_view expected) {
    lines_.push_back(line > 0 ? fmt::format("{}:{}: {}: {}", file, line, key, expected)
                              : fmt::format("{}: {}: {}", file, key, expected));
}

Result<void> Problems::result() const {
    if (lines_.empty()) return {};
    return config_error(fmt::format("{}", fmt::join(lines_, "\n")));
}

struct Section::Node {
    YAML::Node yaml;
    std::string file;
    int fallback_line = 0;  ///< of the parent, for keys that are absent
    Problems* problems = nullptr;
    std::set<std::string, std::less<>> asked;

    int line_of(const YAML::Node& node) const {
        return node.IsDefined() && node.Mark().line >= 0 ? node.Mark().line + 1 : fallback_line;
    }
};

namespace {

YAML::Node child(const YAML::Node& mapping, std::string_view key) {
    if (!mapping.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
    for (const auto& entry : mapping) {
        if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.second;
    }
    return YAML::Node(YAML::NodeType::Undefined);
}

std::string found(const YAML::Node& node) {
    if (node.IsScalar()) return fmt::format("\"{}\"", node.Scalar());
    if (node.IsSequence()) return "a list";
    if (node.IsMap()) return "a mapping";
    return "nothing";
}

bool is_present(const YAML::Node& node) { return node.IsDefined() && !node.IsNull(); }

}  // namespace

Section::Section(std::shared_ptr<Node> node, std::string path) : node_(std::move(node)), path_(std::move(path)) {}
Section::~Section() = default;
Section::Section(const Section&) = default;
Section& Section::operator=(const Section&) = default;

namespace {

/// Looks `key` up, notes that it was asked for, and gives `read` the value when there is one.
template <class Read>
void read_key(Section::Node& node, const std::string& path, std::string_view key, std::string_view expected,
              Read&& read) {
    node.asked.emplace(key);
    const YAML::Node value = child(node.yaml, key);
    if (!is_present(value)) return;
    bool good = false;
    try {
        good = read(value);
    } catch (const YAML::Exception&) {
        good = false;  // not convertible: reported below with what was expected
    }
    if (!good) {
        const std::string name = path.empty() ? std::string(key) : path + "." + std::string(key);
        node.problems->add(node.file, node.line_of(value), name,
                           fmt::format("expected {}, found {}", expected, found(value)));
    }
}

template <class T, class Accepts>
bool read_list(const YAML::Node& value, std::vector<T>& target, Accepts&& accepts) {
    if (!value.IsSequence()) return false;
    std::vector<T> items;
    for (const auto& entry : value) {
        if (!entry.IsScalar()) return false;
        items.push_back(entry.template as<T>());
        if (!accepts(items.back())) return false;
    }
    target = std::move(items);
    return true;
}

}  // namespace

void Section::text(std::string_view key, std::string& target, const std::function<bool(std::string_view)>& accepts,
                   std::string_view expected) {
    read_key(*node_, path_, key, expected, [&](const YAML::Node& value) {
        if (!value.IsScalar() || (accepts && !accepts(value.Scalar()))) return false;
        target = value.Scalar();
        return true;
    });
}

void Section::path(std::string_view key, std::filesystem::path& target) {
    read_key(*node_, path_, key, "a path", [&](const YAML::Node& value) {
        if (!value.IsScalar() || value.Scalar().empty()) return false;
        target = value.Scalar();
        return true;
    });
}

void Section::integer(std::string_view key, std::int64_t& target, std::int64_t lowest, std::int64_t highest) {
    read_key(*node_, path_, key, fmt::format("a whole number from {} to {}", lowest, highest),
             [&](const YAML::Node& value) {
                 const auto n = value.as<std::int64_t>();
                 if (n < lowest || n > highest) return false;
                 target = n;
                 return true;
             });
}

void Section::integer(std::string_view key, int& target, int lowest, int highest) {
    std::int64_t wide = target;
    integer(key, wide, lowest, highest);
    target = static_cast<int>(wide);
}

void Section::number(std::string_view key, double& target, double lowest, double highest) {
    read_key(*node_, path_, key, fmt::format("a number from {} to {}", lowest, highest), [&](const YAML::Node& value) {
        const auto n = value.as<double>();
        if (!std::isfinite(n) || n < lowest || n > highest) return false;
        target = n;
        return true;
    });
}

void Section::boolean(std::string_view key, bool& target) {
    read_key(*node_, path_, key, "true or false", [&](const YAML::Node& value) {
        target = value.as<bool>();
        return true;
    });
}

void Section::one_of(std::string_view key, std::string& target, const std::vector<std::string>& words) {
    text(
        key, target,
        [&](std::string_view word) {
            for (const auto& w : words) {
                if (w == word) return true;
            }
            return false;
        },
        fmt::format("one of {}", fmt::join(words, ", ")));
}

void Section::texts(std::string_view key, std::vector<std::string>& target,
                    const std::function<bool(std::string_view)>& accepts, std::string_view expected) {
    read_key(*node_, path_, key, expected, [&](const YAML::Node& value) {
        return read_list(value, target, [&](const std::string& item) { return !accepts || accepts(item); });
    });
}

void Section::integers(std::string_view key, std::vector<std::int64_t>& target) {
    read_key(*node_, path_, key, "a list of whole numbers",
             [&](const YAML::Node& value) { return read_list(value, target, [](std::int64_t) { return true; }); });
}

void Section::numbers(std::string_view key, std::vector<double>& target) {
    read_key(*node_, path_, key, "a list of numbers", [&](const YAML::Node& value) {
        return read_list(value, target, [](double n) { return std::isfinite(n); });
    });
}

bool Section::has(std::string_view key) const { return is_present(child(node_->yaml, key)); }

std::vector<std::string> Section::keys() const {
    std::vector<std::string> out;
    if (!node_->yaml.IsMap()) return out;
    for (const auto& entry : node_->yaml) {
        if (entry.first.IsScalar()) out.push_back(entry.first.Scalar());
    }
    return out;
}

Section Section::section(std::string_view key) {
    const std::string name = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    auto node = std::make_shared<Node>();
    node->file = node_->file;
    node->problems = node_->problems;
    node->fallback_line = node_->line_of(node_->yaml);
    read_key(*node_, path_, key, "a mapping", [&](const YAML::Node& value) {
        if (!value.IsMap()) return false;
        node->yaml = value;
        return true;
    });
    return {std::move(node), name};
}

std::vector<Section> Section::sections(std::string_view key) {
    std::vector<Section> out;
    const std::string name = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    read_key(*node_, path_, key, "a list of mappings", [&](const YAML::Node& value) {
        if (!value.IsSequence()) return false;
        for (std::size_t i = 0; i < value.size(); ++i) {
            const YAML::Node entry = value[i];
            if (!entry.IsMap()) return false;
            auto node = std::make_shared<Node>();
            node->yaml = entry;
            node->file = node_->file;
            node->problems = node_->problems;
            node->fallback_line = node_->line_of(value);
            out.emplace_back(std::move(node), fmt::format("{}[{}]", name, out.size()));
        }
        return true;
    });
    return out;
}

void Section::required(std::string_view key, std::string_view expected) {
    if (has(key)) return;
    const std::string name = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    node_->problems->add(node_->file, node_->line_of(node_->yaml), name, fmt::format("missing: expected {}", expected));
}

void Section::problem(std::string_view key, std::string_view expected) {
    const std::string name = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    const YAML::Node value = child(node_->yaml, key);
    node_->problems->add(node_->file, node_->line_of(is_present(value) ? value : node_->yaml), name, expected);
}

void Section::no_other_keys() {
    if (!node_->yaml.IsMap()) return;
    std::set<std::string> seen;
    for (const auto& entry : node_->yaml) {
        const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
        const std::string name = path_.empty() ? key : path_ + "." + key;
        if (!seen.insert(key).second) {
            node_->problems->add(node_->file, node_->line_of(entry.first), name, "the key stands here twice");
        } else if (!node_->asked.contains(key)) {
            node_->problems->add(node_->file, node_->line_of(entry.first), name,
                                 fmt::format("unknown key; expected one of {}", fmt::join(node_->asked, ", ")));
        }
    }
}

SettingsFile SettingsFile::load(const std::filesystem::path& file, Problems& problems) {
    auto text = read_file(file);
    if (!text) {
        problems.add(file.string(), 0, "file", text.error().message);
        return parse("", file.string(), problems);
    }
    return parse(*text, file.string(), problems);
}

SettingsFile SettingsFile::parse(std::string_view text, const std::string& name_for_messages, Problems& problems) {
    auto node = std::make_shared<Section::Node>();
    node->file = name_for_messages;
    node->fallback_line = 1;
    node->problems = &problems;
    try {
        node->yaml = YAML::Load(std::string(text));
        if (is_present(node->yaml) && !node->yaml.IsMap()) {
            problems.add(name_for_messages, 1, "file", "expected a mapping of keys at the top level");
            node->yaml = YAML::Node();
        }
    } catch (const YAML::ParserException& error) {
        problems.add(name_for_messages, error.mark.line + 1, "file", "not valid YAML: " + error.msg);
        node->yaml = YAML::Node();
    }
    return SettingsFile(Section(std::move(node), ""));
}

}  // namespace cardionode
