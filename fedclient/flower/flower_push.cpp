// From a reply to objects at the server.
#include <algorithm>
#include <cerrno>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/flower/flower_transport.h"
#include "fedclient/flower/records.h"

namespace cardionode::fed {
namespace {

constexpr std::uint64_t kSuperLink = 1;  ///< the server's own node id
constexpr int kMostInVain = 10;          ///< offers in a row by which nothing was stored

/// What a reply is made of, below the Message object.
struct Content {
    ObjectTree dict;
    std::map<std::string, ChunkSlice> chunks;
    std::vector<std::string> small;  ///< ids in the store
};

Result<Content> store_content(const MessageFolder& folder, const Reply& reply, const ObjectStore& store) {
    Content content;
    std::vector<std::pair<std::string, std::string>> names;
    std::unordered_map<std::string, ObjectTree> trees;
    const auto add = [&](const std::string& name, const std::string& bytes) -> Result<void> {
        auto id = store.put(bytes);
        if (!id) return std::move(id).error();
        names.emplace_back(name, *id);
        trees.emplace(*id, ObjectTree{*id, {}});
        return {};
    };
    if (reply.weights) {
        if (auto adopted = folder.adopt_weights(*reply.weights); !adopted) return std::move(adopted).error();
        auto encoded = encode_tensors(folder.reply_weights(), store, ChunkPlace::InWeights);
        if (!encoded) return std::move(encoded).error();
        content.chunks = std::move(encoded->chunks);
        const std::string id = encoded->tree.id;
        names.emplace_back("arrays", id);
        trees.emplace(id, std::move(encoded->tree));
    }
    const auto metrics = make_metric_object(reply.metrics);
    if (!metrics) return metrics.error();
    if (auto added = add("metrics", *metrics); !added) return std::move(added).error();
    for (const auto& [name, record] : reply.configs) {
        if (auto added = add(name, make_config_object(record)); !added) return std::move(added).error();
    }
    const std::string dict = make_name_object(ObjectType::RecordDict, names);
    auto id = store.put(dict);
    if (!id) return std::move(id).error();
    content.dict.id = std::move(id).value();
    const auto head = parse_object_head(dict);
    if (!head) return head.error();
    for (const std::string& child : head->children) content.dict.children.push_back(std::move(trees.at(child)));
    for (const std::string& one : post_order(content.dict)) {
        if (!content.chunks.contains(one)) content.small.push_back(one);
    }
    return content;
}

}  // namespace

/// Where the bytes of a reply's objects come from.
struct FlowerTransport::ReplySource {
    ObjectTree tree;
    ObjectStore objects;
    std::optional<ChunkReader> chunks;

    static Result<ReplySource> open(const MessageFolder& folder, const fleet::ObjectTree& from) {
        auto tree = tree_from(from);
        if (!tree) return std::move(tree).error();
        auto objects = folder.reply_objects();
        if (!objects) return std::move(objects).error();
        ReplySource source{std::move(tree).value(), std::move(objects).value(), std::nullopt};
        auto slices = folder.reply_chunks();
        if (!slices) return std::move(slices).error();
        if (slices->empty()) return source;
        auto reader = ChunkReader::open(folder.reply_weights(), std::move(slices).value());
        if (!reader) return std::move(reader).error();
        source.chunks.emplace(std::move(reader).value());
        return source;
    }

    Result<BodySource> body(const std::string& id) const {
        BodySource body;
        if (chunks && chunks->has(id)) {
            body.size = chunks->size_of(id);
            body.read = [this, id](std::uint64_t offset, std::span<std::byte> target) {
                return chunks->read(id, offset, target);
            };
            return body;
        }
        const auto size = objects.size_of(id);
        if (!size) return size.error();
        body.size = *size;
        body.read = [this, id](std::uint64_t offset, std::span<std::byte> target) {
            return objects.read(id, offset, target);
        };
        return body;
    }
};

Result<std::string> FlowerTransport::prepare(const Incoming& message, const Reply& reply) {
    const MessageFolder folder(options_->work, message.message_id);
    if (folder.marked("stored")) {  // the server has it: nothing can be changed any more
        const auto sent = folder.reply();
        if (!sent) return sent.error();
        return sent->messages_list(0).metadata().message_id();
    }
    const auto kept = folder.kept();
    if (!kept) return kept.error();
    const auto node = node_id();
    if (!node) return node.error();
    const auto created_at = folder.reply_created_at(now_seconds());
    if (!created_at) return created_at.error();
    const auto store = folder.reply_objects();
    if (!store) return store.error();

    const fleet::Metadata& asked = kept->message.metadata();
    fleet::Message sent;
    fleet::Metadata& metadata = *sent.mutable_metadata();
    metadata.set_run_id(asked.run_id());
    metadata.set_src_node_id(*node);
    metadata.set_dst_node_id(asked.src_node_id() != 0 ? asked.src_node_id() : kSuperLink);
    metadata.set_reply_to_message_id(asked.message_id());
    metadata.set_group_id(asked.group_id());
    metadata.set_message_type(asked.message_type());
    metadata.set_created_at(*created_at);
    // The server refuses a reply that outlives its question; an own clock that is wrong cancels out here.
    metadata.set_ttl(asked.created_at() + asked.ttl() - *created_at);
    if (asked.has_src_task_id()) metadata.set_dst_task_id(asked.src_task_id());
    if (asked.has_dst_task_id()) metadata.set_src_task_id(asked.dst_task_id());

    ObjectTree tree;
    Content content;
    std::vector<std::string> children;
    if (reply.failure) {
        sent.mutable_failure()->set_code(reply.failure->code);
        sent.mutable_failure()->set_reason(reply.failure->reason);
    } else {
        auto stored = store_content(folder, reply, *store);
        if (!stored) return std::move(stored).error();
        content = std::move(stored).value();
        children.push_back(content.dict.id);
        tree.children.push_back(std::move(content.dict));
    }
    auto id = store->put(make_object(ObjectType::Message, children, sent.SerializeAsString()));
    if (!id) return std::move(id).error();
    tree.id = *id;
    content.small.push_back(*id);
    if (auto synced = store->sync(content.small); !synced) return std::move(synced).error();

    metadata.set_message_id(*id);
    if (!reply.failure) sent.mutable_content();  // present and empty: the content travels as objects
    fleet::PushMessagesRequest request;
    request.mutable_node()->set_node_id(*node);
    *request.add_messages_list() = sent;
    tree_to(tree, *request.add_message_object_trees());
    request.add_clientapp_runtime_list(0);
    if (auto saved = folder.save_reply(request, content.chunks); !saved) return std::move(saved).error();
    return id;
}

/// One push-messages and the uploads that it asks for. none: offer again.
Result<std::optional<PushOutcome>> FlowerTransport::offer(const Incoming& message,
                                                          const fleet::PushMessagesRequest& request,
                                                          const ReplySource& source, Progress& progress) {
    const CallLimits allowed = limits(&message);
    const auto refused = [&](const Refusal& refusal, std::string_view doing) -> Result<std::optional<PushOutcome>> {
        const RunState state = state_of_run(message.run_id);
        const bool over = state == RunState::Over || (state == RunState::Unknown && options_->dialect == Dialect::V1);
        if (!over) return retry_error(fmt::format("{}: {}", doing, refusal.text()));
        if (auto ended = finish(message, "run over"); !ended) return std::move(ended).error();
        return std::optional(PushOutcome::Refused);
    };
    const auto called = client_.call<fleet::PushMessagesResponse>("push-messages", request, allowed);
    if (!called) return called.error();
    if (called->refusal) return refused(*called->refusal, "push-messages");
    const fleet::PushMessagesResponse& response = called->response;
    if (!response.results().contains(source.tree.id)) {
        // Wanted a moment ago and all of it sent: it was taken before the last answer arrived.
        if (progress.everything_sent) return std::optional(PushOutcome::Stored);
        if (auto ended = finish(message, "refused"); !ended) return std::move(ended).error();
        return std::optional(PushOutcome::Refused);
    }
    const std::unordered_set<std::string> wanted(response.objects_to_push().begin(), response.objects_to_push().end());
    std::vector<std::string> missing = post_order(source.tree);
    std::erase_if(missing, [&](const std::string& id) { return !wanted.contains(id); });
    std::uint64_t bytes = 0;
    for (const std::string& id : missing) {
        const auto body = source.body(id);
        if (!body) return body.error();
        const auto pushed =
            client_.push_object(request.node().node_id(), message.run_id, id, response.session_id(), *body, allowed);
        if (!pushed) return pushed.error();
        if (pushed->refusal && state_of_run(message.run_id) == RunState::Over)
            return refused(*pushed->refusal, "push-object");
        if (id == missing.back()) progress.everything_sent = true;
        if (pushed->refusal || !pushed->response.stored()) {
            // Stored already by an attempt whose answer was lost, or a session that lapsed: the next offer tells.
            log_debug("fed_upload_in_doubt", {{"reason", pushed->refusal ? pushed->refusal->text() : "not stored"}});
            return std::optional<PushOutcome>();
        }
        progress.stored_some = true;
        bytes += body->size;
    }
    log_info("fed_objects_sent",
             {{"message", message.message_id.substr(0, 12)}, {"sent", missing.size()}, {"bytes", bytes}});
    return std::optional(PushOutcome::Stored);
}

Result<PushOutcome> FlowerTransport::push(const Incoming& message) {
    const MessageFolder folder(options_->work, message.message_id);
    if (folder.marked("stored")) return PushOutcome::Stored;
    const auto request = folder.reply();
    if (!request) return request.error();
    const auto source = ReplySource::open(folder, request->message_object_trees(0));
    if (!source) return source.error();
    Progress progress;
    std::optional<Backoff> backoff;
    for (int in_vain = 0;; ++in_vain) {
        progress.stored_some = false;
        auto outcome = offer(message, *request, *source, progress);
        if (!outcome) return std::move(outcome).error();
        if (*outcome) {
            if (**outcome == PushOutcome::Stored) {
                if (auto marked = folder.mark("stored"); !marked) return std::move(marked).error();
            }
            return **outcome;
        }
        if (progress.stored_some || !backoff) {
            in_vain = 0;
            backoff.emplace(surroundings(), limits(&message).until);
        }
        if (in_vain == kMostInVain || !backoff->wait())
            return retry_error("the server goes on asking for objects that it was sent");
    }
}

}  // namespace cardionode::fed
