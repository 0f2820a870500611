// What a message's folder holds; the names stand in flower_http.h. Private to fedclient/flower.
//
// Thread safety: one object belongs to one thread. Errors: Retry and Config of the disk; Reject for damaged files.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "conf/base/result.h"
#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/object_store.h"
#include "fedclient/flower/objects.h"
#include "fedclient/flower/tensor_objects.h"
#include "fedclient/flower/transport.h"

namespace cardionode::fed {

/// Reject: deeper or larger than a tree may be.
Result<ObjectTree> tree_from(const fleet::ObjectTree& tree);
void tree_to(const ObjectTree& tree, fleet::ObjectTree& to);

bool is_there(const std::filesystem::path& path);
/// A second name for a file that must not change any more: a hard link where the file system allows, else a copy.
Result<void> link_or_copy(const std::filesystem::path& from, const std::filesystem::path& to);

class MessageFolder {
public:
    MessageFolder(const std::filesystem::path& work, const std::string& message_id) : path_(work / message_id) {}

    const std::filesystem::path& path() const { return path_; }

    /// Durable when it returns. Reject: a message that can never be used.
    static Result<MessageFolder> keep(const std::filesystem::path& work, const fleet::Message& message,
                                      const fleet::ObjectTree& tree);
    struct Kept {
        fleet::Message message;
        ObjectTree tree;
        Incoming incoming;
    };
    Result<Kept> kept() const;

    Result<ObjectStore> objects() const { return ObjectStore::open(path_ / "objects"); }
    std::filesystem::path weights_of(const std::string& record_id) const;

    Result<void> mark(std::string_view name, std::string_view text = {}) const;  ///< durable
    bool marked(std::string_view name) const;

    // The reply.
    Result<ObjectStore> reply_objects() const { return ObjectStore::open(path_ / "reply" / "objects"); }
    std::filesystem::path reply_weights() const { return path_ / "reply" / "weights.safetensors"; }
    /// The time of the first prepare, kept for ever: seconds since 1970.
    Result<double> reply_created_at(double now) const;
    Result<void> adopt_weights(const std::filesystem::path& file) const;
    Result<void> save_reply(const fleet::PushMessagesRequest& request,
                            const std::map<std::string, ChunkSlice>& chunks) const;
    Result<fleet::PushMessagesRequest> reply() const;  ///< Bug: prepare was not called
    Result<std::map<std::string, ChunkSlice>> reply_chunks() const;

private:
    std::filesystem::path path_;
};

}  // namespace cardionode::fed
