#include "fedclient/flower/objects.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace cardionode::fed {
namespace {

constexpr std::size_t kIdLength = 64;
constexpr std::size_t kDeepestTree = 6;
constexpr std::size_t kLargestTree = 200'000;

constexpr std::array kTypes = {ObjectType::Message,     ObjectType::RecordDict, ObjectType::ArrayRecord,
                               ObjectType::Array,       ObjectType::ArrayChunk, ObjectType::ConfigRecord,
                               ObjectType::MetricRecord};

Error malformed(std::string_view what) { return reject_error(fmt::format("malformed object: {}", what)); }

Result<std::vector<std::string>> parse_children(std::string_view text) {
    std::vector<std::string> children;
    std::unordered_set<std::string_view> seen;
    while (!text.empty()) {
        const std::string_view id = text.substr(0, kIdLength);
        if (!is_object_id(id)) return malformed("a child that is no object id");
        if (!seen.insert(id).second) return malformed("a child that is named twice");
        children.emplace_back(id);
        text.remove_prefix(kIdLength);
        if (text.empty()) break;
        if (text.front() != ',' || text.size() == 1) return malformed("children are not separated by commas");
        text.remove_prefix(1);
    }
    return children;
}

void walk(const ObjectTree& tree, bool parents_first, std::unordered_set<std::string>& seen,
          std::vector<std::string>& ids) {
    if (!seen.insert(tree.id).second) return;
    if (parents_first) ids.push_back(tree.id);
    for (const ObjectTree& child : tree.children) walk(child, parents_first, seen, ids);
    if (!parents_first) ids.push_back(tree.id);
}

struct TreeCheck {
    std::unordered_map<std::string, const ObjectTree*> first;
    std::size_t nodes = 0;

    Result<void> check(const ObjectTree& tree, std::size_t depth) {
        if (!is_object_id(tree.id)) return reject_error("object tree: a node that has no object id");
        if (depth > kDeepestTree || ++nodes > kLargestTree)
            return reject_error(
                fmt::format("object tree: more than {} levels or {} nodes", kDeepestTree, kLargestTree));
        const auto [known, added] = first.emplace(tree.id, &tree);
        if (!added && !(*known->second == tree))
            return reject_error("object tree: the same object with different children");
        for (const ObjectTree& child : tree.children) {
            if (auto good = check(child, depth + 1); !good) return good;
        }
        return {};
    }
};

}  // namespace

std::string_view to_string(ObjectType type) {
    switch (type) {
        case ObjectType::Message: return "Message";
        case ObjectType::RecordDict: return "RecordDict";
        case ObjectType::ArrayRecord: return "ArrayRecord";
        case ObjectType::Array: return "Array";
        case ObjectType::ArrayChunk: return "ArrayChunk";
        case ObjectType::ConfigRecord: return "ConfigRecord";
        case ObjectType::MetricRecord: return "MetricRecord";
    }
    return "";
}

bool is_object_id(std::string_view text) {
    return text.size() == kIdLength && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

std::string object_head(ObjectType type, const std::vector<std::string>& children, std::uint64_t body_bytes) {
    std::string head = fmt::format("{} {} {}", to_string(type), fmt::join(children, ","), body_bytes);
    head += '\0';
    return head;
}

std::string make_object(ObjectType type, const std::vector<std::string>& children, std::string_view body) {
    return object_head(type, children, body.size()).append(body);
}

Result<ObjectHead> parse_object_head(std::string_view bytes) {
    const std::size_t end = bytes.substr(0, kLongestObjectHead).find('\0');
    if (end == std::string_view::npos) return malformed("no end of the head");
    const std::string_view head = bytes.substr(0, end);
    const std::size_t first = head.find(' ');
    const std::size_t second = first == std::string_view::npos ? first : head.find(' ', first + 1);
    if (second == std::string_view::npos) return malformed("the head has fewer than three parts");
    ObjectHead parsed;
    const std::string_view type = head.substr(0, first);
    const auto known = std::find_if(kTypes.begin(), kTypes.end(), [&](ObjectType t) { return to_string(t) == type; });
    if (known == kTypes.end()) return malformed("a type that is not known");
    parsed.type = *known;
    const std::string_view length = head.substr(second + 1);
    const auto [stop, error] = std::from_chars(length.data(), length.data() + length.size(), parsed.body_bytes);
    if (length.empty() || error != std::errc{} || stop != length.data() + length.size())
        return malformed("the length of the body is no whole number");
    auto children = parse_children(head.substr(first + 1, second - first - 1));
    if (!children) return std::move(children).error();
    parsed.children = std::move(children).value();
    parsed.head_bytes = end + 1;
    return parsed;
}

Result<Object> parse_object(std::string_view bytes) {
    auto head = parse_object_head(bytes);
    if (!head) return std::move(head).error();
    if (bytes.size() - head->head_bytes != head->body_bytes)
        return malformed(fmt::format("a body of {} bytes where {} are announced", bytes.size() - head->head_bytes,
                                     head->body_bytes));
    return Object{*head, std::string(bytes.substr(head->head_bytes))};
}

std::string make_name_object(ObjectType type, const std::vector<std::pair<std::string, std::string>>& ids_by_name) {
    std::vector<std::string> children;
    std::unordered_set<std::string> seen;
    nlohmann::ordered_json body = nlohmann::ordered_json::object();
    for (const auto& [name, id] : ids_by_name) {
        body[name] = id;
        if (seen.insert(id).second) children.push_back(id);
    }
    return make_object(type, children, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Result<std::map<std::string, std::string>> parse_name_object(const Object& object) {
    const nlohmann::json body = nlohmann::json::parse(object.body, nullptr, false);
    if (!body.is_object()) return malformed("names and ids are not a JSON object");
    std::map<std::string, std::string> ids;
    const std::set<std::string> children(object.head.children.begin(), object.head.children.end());
    std::set<std::string> named;
    for (const auto& [name, id] : body.items()) {
        if (!id.is_string() || !children.contains(id.get_ref<const std::string&>()))
            return malformed("a name whose object is no child");
        ids[name] = id.get<std::string>();
        named.insert(ids[name]);
    }
    if (named != children) return malformed("a child that has no name");
    return ids;
}

std::vector<std::string> post_order(const ObjectTree& tree) {
    std::vector<std::string> ids;
    std::unordered_set<std::string> seen;
    walk(tree, false, seen, ids);
    return ids;
}

std::vector<std::string> pre_order(const ObjectTree& tree) {
    std::vector<std::string> ids;
    std::unordered_set<std::string> seen;
    walk(tree, true, seen, ids);
    return ids;
}

Result<void> check_tree(const ObjectTree& tree) { return TreeCheck{}.check(tree, 1); }

}  // namespace cardionode::fed
