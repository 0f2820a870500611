#include "fedclient/flower/message_folder.h"

#include <cerrno>
#include <charconv>
#include <cmath>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"

namespace cardionode::fed {
namespace {

constexpr int kDeepest = 8;

Result<ObjectTree> copy_tree(const fleet::ObjectTree& from, int levels_left) {
    if (levels_left == 0) return reject_error("object tree: too many levels");
    ObjectTree tree{from.object_id(), {}};
    for (const fleet::ObjectTree& child : from.children()) {
        auto below = copy_tree(child, levels_left - 1);
        if (!below) return below;
        tree.children.push_back(std::move(below).value());
    }
    return tree;
}

Result<void> sync_file(const std::filesystem::path& path) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("opening", path, errno);
    if (::fsync(file.get()) != 0) return file_error("syncing", path, errno);
    return {};
}

template <class Message>
Result<Message> read_message(const std::filesystem::path& file) {
    const auto bytes = read_file(file);
    if (!bytes) return bytes.error();
    Message message;
    if (!message.ParseFromString(*bytes)) return reject_error(fmt::format("{}: damaged", file.string()));
    return message;
}

Incoming incoming_of(const fleet::Metadata& metadata, const std::filesystem::path& folder) {
    Incoming incoming;
    incoming.message_id = metadata.message_id();
    incoming.group_id = metadata.group_id();
    incoming.type = metadata.message_type();
    incoming.run_id = metadata.run_id();
    incoming.created_at = metadata.created_at();
    incoming.ttl = metadata.ttl();
    incoming.folder = folder;
    return incoming;
}

}  // namespace

bool is_there(const std::filesystem::path& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<void> link_or_copy(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::error_code error;
    const std::filesystem::path part = to.string() + ".part";
    ::unlink(part.c_str());
    std::filesystem::create_hard_link(from, part, error);
    if (error) {
        error.clear();
        std::filesystem::copy_file(from, part, error);
        if (error) return file_error("copying", from, error.value());
    }
    if (auto synced = sync_file(part); !synced) return synced;
    if (::rename(part.c_str(), to.c_str()) != 0) return file_error("renaming to", to, errno);
    ::unlink(part.c_str());  // rename leaves both names where they are links of one file
    return {};
}

Result<ObjectTree> tree_from(const fleet::ObjectTree& from) {
    auto tree = copy_tree(from, kDeepest);
    if (!tree) return tree;
    if (auto good = check_tree(*tree); !good) return std::move(good).error();
    return tree;
}

void tree_to(const ObjectTree& tree, fleet::ObjectTree& to) {
    to.set_object_id(tree.id);
    for (const ObjectTree& child : tree.children) tree_to(child, *to.add_children());
}

Result<MessageFolder> MessageFolder::keep(const std::filesystem::path& work, const fleet::Message& message,
                                          const fleet::ObjectTree& tree) {
    const fleet::Metadata& metadata = message.metadata();
    if (!is_object_id(metadata.message_id())) return reject_error("message: its id is no object id");
    if (tree.object_id() != metadata.message_id())
        return reject_error("message: the object tree is of another message");
    if (auto good = tree_from(tree); !good) return std::move(good).error();
    if (!std::isfinite(metadata.created_at()) || !(metadata.ttl() > 0) || !std::isfinite(metadata.ttl()))
        return reject_error("message: created_at or ttl is no time");
    MessageFolder folder(work, metadata.message_id());
    if (auto made = make_folder(folder.path_); !made) return std::move(made).error();
    fleet::PullMessagesResponse kept;
    *kept.add_messages_list() = message;
    *kept.add_message_object_trees() = tree;
    if (auto written = write_file_durably(folder.path_ / "message.pb", kept.SerializeAsString()); !written)
        return std::move(written).error();
    return folder;
}

Result<MessageFolder::Kept> MessageFolder::kept() const {
    auto file = read_message<fleet::PullMessagesResponse>(path_ / "message.pb");
    if (!file) return std::move(file).error();
    if (file->messages_list_size() != 1 || file->message_object_trees_size() != 1)
        return reject_error(fmt::format("{}: damaged", (path_ / "message.pb").string()));
    auto tree = tree_from(file->message_object_trees(0));
    if (!tree) return std::move(tree).error();
    return Kept{file->messages_list(0), std::move(tree).value(), incoming_of(file->messages_list(0).metadata(), path_)};
}

std::filesystem::path MessageFolder::weights_of(const std::string& record_id) const {
    return path_ / ("weights-" + record_id + ".safetensors");
}

Result<void> MessageFolder::mark(std::string_view name, std::string_view text) const {
    return write_file_durably(path_ / name, text);
}

bool MessageFolder::marked(std::string_view name) const { return is_there(path_ / name); }

Result<double> MessageFolder::reply_created_at(double now) const {
    const std::filesystem::path file = path_ / "reply" / "created_at";
    if (is_there(file)) {
        const auto text = read_file(file);
        if (!text) return text.error();
        double seconds = 0;
        const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
        if (error != std::errc{} || end == text->data()) return reject_error(fmt::format("{}: damaged", file.string()));
        return seconds;
    }
    if (auto made = make_folder(file.parent_path()); !made) return std::move(made).error();
    if (auto written = write_file_durably(file, fmt::format("{}", now)); !written) return std::move(written).error();
    return now;
}

Result<void> MessageFolder::adopt_weights(const std::filesystem::path& file) const {
    std::error_code error;
    if (std::filesystem::equivalent(file, reply_weights(), error)) return {};
    if (auto linked = link_or_copy(file, reply_weights()); !linked) return linked;
    return sync_folder(path_ / "reply");
}

Result<void> MessageFolder::save_reply(const fleet::PushMessagesRequest& request,
                                       const std::map<std::string, ChunkSlice>& chunks) const {
    nlohmann::json slices = nlohmann::json::object();
    for (const auto& [id, slice] : chunks) slices[id] = {slice.tensor, slice.offset, slice.bytes};
    const std::filesystem::path folder = path_ / "reply";
    if (auto written = write_file_durably(folder / "chunks.json", slices.dump()); !written) return written;
    return write_file_durably(folder / "reply.pb", request.SerializeAsString());
}

Result<fleet::PushMessagesRequest> MessageFolder::reply() const {
    const std::filesystem::path file = path_ / "reply" / "reply.pb";
    if (!is_there(file)) return bug_error("push without a prepared reply");
    auto request = read_message<fleet::PushMessagesRequest>(file);
    if (request && (request->messages_list_size() != 1 || request->message_object_trees_size() != 1))
        return reject_error(fmt::format("{}: damaged", file.string()));
    return request;
}

Result<std::map<std::string, ChunkSlice>> MessageFolder::reply_chunks() const {
    const std::filesystem::path file = path_ / "reply" / "chunks.json";
    const auto text = read_file(file);
    if (!text) return text.error();
    const nlohmann::json slices = nlohmann::json::parse(*text, nullptr, false);
    std::map<std::string, ChunkSlice> chunks;
    const auto damaged = [&] { return reject_error(fmt::format("{}: damaged", file.string())); };
    if (!slices.is_object()) return damaged();
    for (const auto& [id, slice] : slices.items()) {
        if (!is_object_id(id) || !slice.is_array() || slice.size() != 3 || !slice[0].is_string() ||
            !slice[1].is_number_unsigned() || !slice[2].is_number_unsigned())
            return damaged();
        chunks[id] = {slice[0].get<std::string>(), slice[1].get<std::uint64_t>(), slice[2].get<std::uint64_t>()};
    }
    return chunks;
}

}  // namespace cardionode::fed
