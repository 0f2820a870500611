// Content-addressed objects: how messages, records and weights travel in Flower's protocol.
//
// An object's bytes are "<Type> <child ids joined by ','> <length of the body>" + 0x00 + body, and its id is the
// SHA-256 of those bytes in lower-case hex: whoever has an id can check everything below it. Children are unique, in
// order of first use; without children two spaces stand in a row.
//   Message      0 or 1 child (the RecordDict); body: Message protobuf without message_id and content
//   RecordDict   body: JSON {record name: id}          ArrayRecord  body: JSON {tensor name: id of an Array}
//   Array        body: JSON, see tensor_objects.h      ArrayChunk   body: a slice of a .npy stream
//   ConfigRecord, MetricRecord   body: their protobuf, see records.h
// Thread safety: pure functions and values. Errors: Reject for bytes that are no such object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

enum class ObjectType { Message, RecordDict, ArrayRecord, Array, ArrayChunk, ConfigRecord, MetricRecord };
std::string_view to_string(ObjectType type);

/// Longest head that is accepted: 16,000 children.
inline constexpr std::size_t kLongestObjectHead = 1U << 20;

struct ObjectHead {
    ObjectType type = ObjectType::Message;
    std::vector<std::string> children;
    std::uint64_t body_bytes = 0;
    std::size_t head_bytes = 0;  ///< with the zero byte
};

struct Object {
    ObjectHead head;
    std::string body;
};

/// 64 lower-case hex digits: safe as a file name.
bool is_object_id(std::string_view text);

/// The bytes before the body, with the zero byte.
std::string object_head(ObjectType type, const std::vector<std::string>& children, std::uint64_t body_bytes);
/// All bytes; the id is sha256_hex of them.
std::string make_object(ObjectType type, const std::vector<std::string>& children, std::string_view body);

/// @param bytes  at least the head; what follows is not looked at
Result<ObjectHead> parse_object_head(std::string_view bytes);
/// The whole object; its length must fit.
Result<Object> parse_object(std::string_view bytes);

/// {name: object id} with each id once among the children in order of first use: RecordDict and ArrayRecord.
std::string make_name_object(ObjectType type, const std::vector<std::pair<std::string, std::string>>& ids_by_name);
/// The reverse. Reject: an id that is no child, a child that nobody names.
Result<std::map<std::string, std::string>> parse_name_object(const Object& object);

/// What a message consists of. The same object may stand at several places.
struct ObjectTree {
    std::string id;
    std::vector<ObjectTree> children;

    bool operator==(const ObjectTree&) const = default;
};

/// Each id once, children before parents: the order of uploads.
std::vector<std::string> post_order(const ObjectTree& tree);
/// Each id once, parents before children: the order of downloads, so that structure is checked before weights come.
std::vector<std::string> pre_order(const ObjectTree& tree);
/// Ids are ids, at most 6 levels and 200,000 nodes, equal ids have equal children. Reject otherwise.
Result<void> check_tree(const ObjectTree& tree);

}  // namespace cardionode::fed
