// The calls of FleetCalls about messages and their objects.
#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "fedclient/coordinator/fleet_calls.h"
#include "fedclient/coordinator/random_id.h"

namespace cardionode::fed {
namespace {

constexpr std::uint64_t kSuperLink = 1;
constexpr double kEarliestCreated = 1'711'497'600;  // 2024-03-27, as Flower has it
constexpr double kTtlTolerance = 0.1;
constexpr Milliseconds kPushSession{180'000};

void to_wire(const ObjectTree& tree, fleet::ObjectTree& wire) {
    wire.set_object_id(tree.id);
    for (const auto& child : tree.children) to_wire(child, *wire.add_children());
}

/// @param depth  what check_tree allows, and one more
Result<ObjectTree> from_wire(const fleet::ObjectTree& wire, int depth = 8) {
    if (depth == 0) return reject_error("the object tree is too deep");
    ObjectTree tree{wire.object_id(), {}};
    for (const auto& child : wire.children()) {
        auto below = from_wire(child, depth - 1);
        if (!below) return below;
        tree.children.push_back(std::move(*below));
    }
    return tree;
}

double now_seconds(Moment now) { return static_cast<double>(now.time_since_epoch().count()) / 1000; }

/// What a peer wrote, fit for a log line.
std::string printable(const std::string& text) {
    std::string clean;
    for (const char c : text.substr(0, 200)) clean += c >= 32 && c < 127 ? c : ' ';
    return clean;
}

}  // namespace

Result<fleet::PullMessagesResponse> FleetCalls::pull_messages(Call& call, const fleet::PullMessagesRequest& request) {
    fleet::PullMessagesResponse response;
    const auto node_id = request.node().node_id();
    if (!is_node(call, node_id)) return response;
    const auto run = store_.run();
    if (!run) return run.error();
    if (!*run || (*run)->status != "running") return response;
    std::optional<MessageRow> message;
    {
        const std::lock_guard lock(delivering_);  // two pulls at once must not get the same message
        auto delivered = store_.deliver(node_id, call.now);
        if (!delivered) return std::move(delivered).error();
        message = std::move(*delivered);
    }
    if (!message) return response;
    const auto tree = objects_.tree_of(message->id);
    if (!tree) return tree.error();
    to_wire(*tree, *response.add_message_object_trees());
    auto& wire = *response.add_messages_list();
    auto& metadata = *wire.mutable_metadata();
    metadata.set_run_id((*run)->id);
    metadata.set_message_id(message->id);
    metadata.set_src_node_id(kSuperLink);
    metadata.set_dst_node_id(node_id);
    metadata.set_group_id(std::to_string(message->round));
    metadata.set_ttl(message->ttl);
    metadata.set_message_type(message->phase);
    metadata.set_created_at(message->created);
    wire.mutable_content();  // empty but there
    log_info("message_delivered", {{"site", message->site}, {"round", message->round}, {"phase", message->phase}});
    return response;
}

Result<fleet::PullObjectResponse> FleetCalls::pull_object(Call& call, const fleet::PullObjectRequest& request) {
    fleet::PullObjectResponse response;
    if (!is_node(call, request.node().node_id()) || !run_is_running(call, request.run_id())) return response;
    const auto& id = request.object_id();
    if (!is_object_id(id)) return response;
    const auto held = store_.is_held(id);
    if (!held) return held.error();
    if (!*held) return response;
    response.set_object_found(true);
    if (!objects_.has(id)) return response;
    if (auto touched = store_.touch(request.node().node_id(), id, call.now); !touched)
        return std::move(touched).error();
    const auto size = objects_.size_of(id);
    if (!size) return size.error();
    std::string bytes(static_cast<std::size_t>(*size), '\0');
    if (auto read = objects_.read(id, 0, std::as_writable_bytes(std::span(bytes))); !read)
        return std::move(read).error();
    if (faults_.take("wrong-hash")) {
        bytes.back() = static_cast<char>(bytes.back() ^ 1);
        call.spoiled = true;
    } else if (faults_.take("truncated-chunk")) {
        bytes.resize(bytes.size() / 2);
        call.spoiled = true;
    }
    response.set_object_available(true);
    response.set_object_content(std::move(bytes));
    return response;
}

Result<fleet::ConfirmMessageReceivedResponse> FleetCalls::confirm(Call& call,
                                                                  const fleet::ConfirmMessageReceivedRequest& request) {
    fleet::ConfirmMessageReceivedResponse response;
    if (!is_node(call, request.node().node_id()) || !run_is_running(call, request.run_id())) return response;
    const auto message = store_.message(request.message_object_id());
    if (!message) return message.error();
    if (!*message || (*message)->node != request.node().node_id()) return response;
    if (auto done = store_.confirm((*message)->id, call.now); !done) return std::move(done).error();
    log_info("message_fetched",
             {{"site", (*message)->site}, {"round", (*message)->round}, {"phase", (*message)->phase}});
    return response;
}

Result<std::string> FleetCalls::unwanted(const fleet::Message& reply, const ObjectTree& tree, std::uint64_t node_id,
                                         std::optional<MessageRow>& parent) {
    const auto& metadata = reply.metadata();
    auto found = store_.message(metadata.reply_to_message_id());
    if (!found) return std::move(found).error();
    parent = std::move(*found);
    if (!parent) return std::string("the message that it answers is closed or unknown");
    if (metadata.src_node_id() != node_id || parent->node != node_id) return std::string("another node's message");
    if (metadata.dst_node_id() != kSuperLink) return std::string("dst_node_id is not 1");
    if (metadata.message_type() != parent->phase) return std::string("another message type");
    if (metadata.message_id() != tree.id) return std::string("message_id is not the root of the object tree");
    if (!(metadata.created_at() >= kEarliestCreated)) return std::string("created_at is too old");
    if (!(metadata.ttl() > 0)) return std::string("ttl is not above 0");
    if (now_seconds(now()) > parent->created + parent->ttl) return std::string("the message has expired");
    if (metadata.ttl() - (parent->created + parent->ttl - metadata.created_at()) > kTtlTolerance)
        return std::string("ttl is longer than what is left of the message's");
    if (!parent->reply_id.empty() && parent->reply_id != tree.id && parent->reply_complete)
        return std::string("there is another reply already");
    return std::string();
}

Result<fleet::PushMessagesResponse> FleetCalls::push_messages(Call& call, const fleet::PushMessagesRequest& request) {
    fleet::PushMessagesResponse response;
    const auto node_id = request.node().node_id();
    if (!is_node(call, node_id)) return response;
    if (request.messages_list_size() != 1 || request.message_object_trees_size() != 1) {
        call.refusal = Refusal{400, "INVALID_REQUEST", "exactly one message and its object tree"};
        return response;
    }
    const auto& reply = request.messages_list(0);
    if (!run_is_running(call, reply.metadata().run_id())) return response;
    if (faults_.take("stop-run")) {
        auto run = store_.run();
        if (!run) return std::move(run).error();
        (*run)->status = "stopped";
        if (auto done = store_.put_run(**run); !done) return std::move(done).error();
        run_is_running(call, reply.metadata().run_id());
        return response;
    }
    auto tree = from_wire(request.message_object_trees(0));
    auto checked = tree ? check_tree(*tree) : Result<void>(tree.error());
    if (!checked) {
        call.refusal = Refusal{400, "INVALID_REQUEST", checked.error().message};
        return response;
    }
    const auto objects = pre_order(*tree);
    const std::lock_guard lock(pushing_);
    for (const auto& id : post_order(*tree))
        if (!objects_.has(id)) response.add_objects_to_push(id);

    std::optional<MessageRow> parent;
    auto reason = unwanted(reply, *tree, node_id, parent);
    if (!reason) return std::move(reason).error();
    if (faults_.take("late")) {
        *reason = "late (fault)";
        call.spoiled = true;
    }
    if (!reason->empty()) {
        log_warning("reply_refused", {{"site", parent ? parent->site : "unknown"}, {"reason", *reason}});
        (*response.mutable_results())["None"] = 0;
        return response;
    }
    const bool again = parent->reply_id == tree->id;
    if (!again && !parent->reply_id.empty())  // an earlier one that was never complete
        log_info("reply_replaced", {{"site", parent->site}, {"round", parent->round}});
    parent->reply_id = tree->id;
    parent->failed = reply.has_failure();
    parent->failure_code = reply.failure().code();
    parent->failure_reason = printable(reply.failure().reason());
    parent->touched = call.now;
    if (call.dialect == Dialect::V1) {
        parent->session = fmt::format("{:016x}{:016x}", random_id(), random_id());
        parent->session_until = call.now + kPushSession;
        response.set_session_id(parent->session);
    }
    if (auto done = store_.put_reply(*parent, objects); !done) return std::move(done).error();
    if (auto done = settle(*parent, call.now); !done) return std::move(done).error();
    (*response.mutable_results())[tree->id] = 0;
    return response;
}

/// Marks a reply as complete when its last object is there.
Result<void> FleetCalls::settle(MessageRow& message, Moment now) {
    const auto objects = store_.objects_of(message.reply_id);
    if (!objects) return objects.error();
    for (const auto& id : *objects)
        if (!objects_.has(id)) return {};
    if (auto synced = objects_.sync(*objects); !synced) return synced;
    message.reply_complete = true;
    message.session_until.reset();
    message.touched = now;
    if (auto done = store_.put_reply(message, {}); !done) return done;
    log_info("reply_complete", {{"site", message.site}, {"round", message.round}, {"phase", message.phase}});
    return {};
}

Result<fleet::PushObjectResponse> FleetCalls::push_object(Call& call, const fleet::PushObjectRequest& request) {
    fleet::PushObjectResponse response;
    if (!is_node(call, request.node().node_id()) || !run_is_running(call, request.run_id())) return response;
    const auto& id = request.object_id();
    const std::lock_guard lock(pushing_);
    if (auto lapsed = store_.lapse_sessions(call.now); !lapsed) return std::move(lapsed).error();
    auto message = request.session_id().empty() ? store_.message_of_reply_object(id)
                                                : store_.message_of_session(request.session_id());
    if (!message) return std::move(message).error();
    if (!*message || (*message)->node != request.node().node_id()) return response;
    const auto expected = store_.objects_of((*message)->reply_id);
    if (!expected) return expected.error();
    if (std::find(expected->begin(), expected->end(), id) == expected->end()) return response;
    if (objects_.has(id)) {
        response.set_stored(call.dialect == Dialect::V0);
        return response;
    }
    if (faults_.take("lose-object")) {
        response.set_stored(true);
        return response;
    }
    auto writer = objects_.begin();
    if (!writer) return std::move(writer).error();
    if (auto written = writer->append(request.object_content()); !written) return std::move(written).error();
    if (const auto head = writer->commit(id); !head) {
        if (head.error().kind != ErrorKind::Reject) return head.error();
        log_warning("object_refused", {{"site", (*message)->site}, {"reason", head.error().message}});
        return response;
    }
    response.set_stored(true);
    (*message)->touched = call.now;
    if ((*message)->session_until) (*message)->session_until = call.now + kPushSession;
    if ((*message)->session_until && faults_.take("lapse-session")) (*message)->session_until = call.now;
    if (auto done = store_.put_reply(**message, {}); !done) return std::move(done).error();
    if ((*message)->session_until == call.now) {
        if (auto lapsed = store_.lapse_sessions(call.now); !lapsed) return std::move(lapsed).error();
        return response;
    }
    if (auto done = settle(**message, call.now); !done) return std::move(done).error();
    return response;
}

}  // namespace cardionode::fed
