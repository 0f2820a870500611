// From the tree of a message to its content: objects, weights, the confirmation.
#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/base/log.h"
#include "fedclient/flower/flower_transport.h"
#include "fedclient/flower/records.h"

namespace cardionode::fed {
namespace {

constexpr int kTriesOfDamaged = 4;
constexpr std::size_t kCachedWeights = 16;
constexpr std::string_view kTeacher = "teacher/";

std::vector<std::string> ids_of(const std::vector<ObjectTree>& trees) {
    std::vector<std::string> ids;
    for (const ObjectTree& tree : trees) ids.push_back(tree.id);
    return ids;
}

/// The records of a message by name. Reject: a message without content.
Result<std::map<std::string, std::string>> records_of(const ObjectStore& store, const std::string& message_id) {
    const auto message = store.load(message_id);
    if (!message) return message.error();
    if (message->head.type != ObjectType::Message || message->head.children.size() != 1)
        return reject_error("message: it has no content");
    const auto dict = store.load(message->head.children.front());
    if (!dict) return dict.error();
    if (dict->head.type != ObjectType::RecordDict) return reject_error("message: its content is no RecordDict");
    return parse_name_object(*dict);
}

}  // namespace

Result<bool> FlowerTransport::has_weights(const MessageFolder& folder, const std::string& record_id) {
    if (is_there(folder.weights_of(record_id))) return true;
    const std::filesystem::path cached = options_->work / "cache" / (record_id + ".safetensors");
    const std::filesystem::path note = options_->work / "cache" / (record_id + ".sha256");
    if (!is_there(cached) || !is_there(note)) return false;
    const auto expected = read_file(note);
    const auto found = sha256_of_file(cached);
    if (!expected || !found || *expected != *found) {
        std::error_code ignored;  // it is fetched again and replaced
        std::filesystem::remove(cached, ignored);
        std::filesystem::remove(note, ignored);
        log_warning("fed_cache_damaged", {{"record", record_id.substr(0, 12)}});
        return false;
    }
    if (auto linked = link_or_copy(cached, folder.weights_of(record_id)); !linked) return std::move(linked).error();
    std::error_code ignored;  // the time of use only orders the cache
    std::filesystem::last_write_time(note, std::filesystem::file_time_type::clock::now(), ignored);
    return true;
}

Result<void> FlowerTransport::cache_weights(const MessageFolder& folder, const std::string& record_id) {
    const std::filesystem::path cache = options_->work / "cache";
    if (auto made = make_folder(cache); !made) return made;
    const std::filesystem::path note = cache / (record_id + ".sha256");
    if (is_there(note)) return {};
    const auto sha = sha256_of_file(folder.weights_of(record_id));
    if (!sha) return sha.error();
    if (auto linked = link_or_copy(folder.weights_of(record_id), cache / (record_id + ".safetensors")); !linked)
        return linked;
    if (auto written = write_file_durably(note, *sha); !written) return written;
    std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> notes;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(cache, error)) {
        std::error_code gone;
        if (entry.path().extension() == ".sha256") notes.emplace_back(entry.last_write_time(gone), entry.path());
    }
    std::sort(notes.begin(), notes.end());
    for (std::size_t i = 0; i + kCachedWeights < notes.size(); ++i) {
        std::filesystem::path weights = notes[i].second;
        std::filesystem::remove(notes[i].second, error);
        std::filesystem::remove(weights.replace_extension(".safetensors"), error);
    }
    return {};
}

Result<void> FlowerTransport::fetch_object(const Incoming& message, const ObjectStore& store, const ObjectTree& node) {
    const auto id = node_id();
    if (!id) return id.error();
    const CallLimits allowed = limits(&message);
    Backoff backoff(surroundings(), allowed.until, Milliseconds(1000), Milliseconds(3000));
    for (int damaged = 0;;) {
        auto pulled = client_.pull_object(*id, message.run_id, node.id, &store, allowed);
        if (!pulled) return std::move(pulled).error();
        std::string reason;
        if (pulled->refusal) {
            if (state_of_run(message.run_id) == RunState::Over || options_->dialect == Dialect::V1)
                return reject_error(fmt::format("the run is over: {}", pulled->refusal->text()));
            return retry_error(fmt::format("fetching an object: {}", pulled->refusal->text()));
        }
        if (!pulled->found) return reject_error("the server does not have the message's objects any more");
        if (pulled->head) {
            if (pulled->head->children == ids_of(node.children)) return {};
            if (auto removed = store.remove(node.id); !removed) return removed;
            return reject_error("an object has other children than the message's tree says");
        }
        if (!pulled->damage.empty()) {
            log_warning("fed_object_damaged", {{"object", node.id.substr(0, 12)}, {"reason", pulled->damage}});
            if (++damaged == kTriesOfDamaged) return reject_error(pulled->damage);
            reason = pulled->damage;
        } else {
            reason = "the server is not given an object that it announced";
        }
        if (!backoff.wait()) return retry_error(reason);
    }
}

Result<void> FlowerTransport::fetch_objects(const MessageFolder::Kept& kept, const MessageFolder& folder,
                                            const ObjectStore& store) {
    std::unordered_set<std::string> done;
    std::uint64_t bytes = 0;
    std::int64_t fetched = 0;
    std::vector<const ObjectTree*> stack = {&kept.tree};
    while (!stack.empty()) {
        const ObjectTree& node = *stack.back();
        stack.pop_back();
        if (!done.insert(node.id).second) continue;
        auto there = store.verify(node.id);
        if (!there) return std::move(there).error();
        if (!*there) {
            if (auto got = fetch_object(kept.incoming, store, node); !got) return got;
            ++fetched;
        }
        const auto size = store.size_of(node.id);
        if (!size) return size.error();
        bytes += *size;
        if (bytes > options_->largest_message)
            return reject_error(fmt::format("message: more than {} bytes", options_->largest_message));
        if (!node.children.empty()) {
            const auto head = store.head_of(node.id);
            if (!head) return head.error();
            if (head->type == ObjectType::ArrayRecord) {
                auto known = has_weights(folder, node.id);
                if (!known) return std::move(known).error();
                if (*known) continue;
            }
        }
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) stack.push_back(&*child);
    }
    log_info("fed_objects_fetched", {{"message", kept.incoming.message_id.substr(0, 12)},
                                     {"fetched", fetched},
                                     {"objects", done.size()},
                                     {"bytes", bytes}});
    return {};
}

Result<void> FlowerTransport::confirm(const Incoming& message) {
    const auto node = node_id();
    if (!node) return node.error();
    fleet::ConfirmMessageReceivedRequest request;
    request.mutable_node()->set_node_id(*node);
    request.set_run_id(message.run_id);
    request.set_message_object_id(message.message_id);
    const auto called =
        client_.call<fleet::ConfirmMessageReceivedResponse>("confirm-message-received", request, limits(&message));
    if (!called) return called.error();
    // Confirmed before, with the answer lost, or a run that is over: what was fetched is good in either case.
    if (called->refusal) log_warning("fed_confirm_refused", {{"reason", called->refusal->text()}});
    return {};
}

Result<Pulled> FlowerTransport::fetch(const Incoming& message) {
    const MessageFolder folder(options_->work, message.message_id);
    const auto kept = folder.kept();
    if (!kept) return kept.error();
    const auto store = folder.objects();
    if (!store) return store.error();
    const bool confirmed = folder.marked("confirmed");
    if (!confirmed) {
        if (auto fetched = fetch_objects(*kept, folder, *store); !fetched) return std::move(fetched).error();
    }
    const auto records = records_of(*store, message.message_id);
    if (!records) return records.error();
    Pulled pulled;
    for (const auto& [name, id] : *records) {
        const auto head = store->head_of(id);
        if (!head) return head.error();
        if (head->type == ObjectType::ArrayRecord) {
            if (!is_there(folder.weights_of(id))) {
                if (auto made = decode_tensors(*store, id, folder.weights_of(id)); !made)
                    return std::move(made).error().in(name);
            }
            if (name.starts_with(kTeacher)) {
                if (auto cached = cache_weights(folder, id); !cached) return std::move(cached).error();
            }
            pulled.arrays[name] = {folder.weights_of(id), id};
            continue;
        }
        const auto object = store->load(id);
        if (!object) return object.error();
        auto record = parse_record_object(*object);
        if (!record) return std::move(record).error().in(name);
        auto& to = head->type == ObjectType::ConfigRecord ? pulled.configs : pulled.metrics;
        to[name] = std::move(record).value();
    }
    if (confirmed) return pulled;

    // Everything is on disk, for a power cut too, before the server may forget it.
    std::vector<std::string> keep, chunks;
    const auto all = store->ids();
    if (!all) return all.error();
    for (const std::string& id : *all) {
        const auto head = store->head_of(id);
        if (!head) return head.error();
        (head->type == ObjectType::ArrayChunk ? chunks : keep).push_back(id);
    }
    if (auto synced = store->sync(keep); !synced) return std::move(synced).error();
    if (auto synced = sync_folder(folder.path()); !synced) return std::move(synced).error();
    if (auto done = confirm(message); !done) return std::move(done).error();
    if (auto marked = folder.mark("confirmed"); !marked) return std::move(marked).error();
    for (const std::string& id : chunks) {
        if (auto removed = store->remove(id); !removed) return std::move(removed).error();
    }
    return pulled;
}

}  // namespace cardionode::fed
