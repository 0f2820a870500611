// Reading a YAML file so that every mistake is found, named by file, line and key, and reported at once.
//
//   Problems problems;
//   auto file = SettingsFile::load("node.yaml", problems);
//   Section scp = file.root().section("scp");
//   scp.integer("port", c.port, 1, 65535);
//   scp.no_other_keys();
//   -> node.yaml:3: scp.port: expected a whole number from 1 to 65535, found "eleven"
//
// A key that is absent leaves the default that stands in the target. Nothing here throws for bad input.
// Thread safety: use one object from one thread. yaml-cpp stays inside the .cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

/// All problems found so far, each a whole line "file:line: key: what was expected".
class Problems {
public:
    void add(const std::string& file, int line, std::string_view key, std::string_view expected);
    bool empty() const { return lines_.empty(); }
    const std::vector<std::string>& lines() const { return lines_; }
    /// Config error with all lines, or success.
    Result<void> result() const;

private:
    std::vector<std::string> lines_;
};

/// One mapping of the file. A copy refers to the same mapping. Every reader below records a problem instead of failing.
class Section {
public:
    struct Node;  ///< wraps a YAML node
    Section(std::shared_ptr<Node> node, std::string path);
    ~Section();
    Section(const Section&);
    Section& operator=(const Section&);

    void text(std::string_view key, std::string& target, const std::function<bool(std::string_view)>& accepts = {},
              std::string_view expected = "a text");
    void path(std::string_view key, std::filesystem::path& target);
    void integer(std::string_view key, std::int64_t& target, std::int64_t lowest, std::int64_t highest);
    void integer(std::string_view key, int& target, int lowest, int highest);
    void number(std::string_view key, double& target, double lowest, double highest);
    void boolean(std::string_view key, bool& target);
    void one_of(std::string_view key, std::string& target, const std::vector<std::string>& words);
    void texts(std::string_view key, std::vector<std::string>& target,
               const std::function<bool(std::string_view)>& accepts = {},
               std::string_view expected = "a list of texts");
    void integers(std::string_view key, std::vector<std::int64_t>& target);
    void numbers(std::string_view key, std::vector<double>& target);

    bool has(std::string_view key) const;
    /// Keys in file order.
    std::vector<std::string> keys() const;
    /// The mapping under `key`; an empty one when the key is absent.
    Section section(std::string_view key);
    /// The mappings of the list under `key`.
    std::vector<Section> sections(std::string_view key);
    /// Records a problem unless `key` is there.
    void required(std::string_view key, std::string_view expected);
    /// A problem at the line of `key` that a caller found itself (two values that do not fit together).
    void problem(std::string_view key, std::string_view expected);
    /// Records each key that no reader above asked for. Call it last.
    void no_other_keys();
    const std::string& name() const { return path_; }

private:
    std::shared_ptr<Node> node_;
    std::string path_;  ///< "scp" or "destinations[0]"; empty at the root
};

class SettingsFile {
public:
    /// A missing file or broken YAML is recorded in `problems`, and root() is then empty. `problems` must outlive this.
    static SettingsFile load(const std::filesystem::path& file, Problems& problems);
    static SettingsFile parse(std::string_view text, const std::string& name_for_messages, Problems& problems);
    Section root() const { return root_; }

private:
    explicit SettingsFile(const Section& root) : root_(root) {}
    Section root_;
};

}  // namespace cardionode
