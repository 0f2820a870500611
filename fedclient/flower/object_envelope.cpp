#include "fedclient/flower/object_envelope.h"

#include <algorithm>

#include "fedclient/flower/fleet.pb.h"

namespace cardionode::fed {
namespace {

constexpr std::uint64_t kFound = 1, kAvailable = 2, kContent = 3;

}  // namespace

Result<void> PullObjectReader::feed(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        if (state_ == State::Content || state_ == State::Skip) {
            const auto part = bytes.first(static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size())));
            if (state_ == State::Content) {
                if (auto taken = take_(part); !taken) return taken;
            }
            left_ -= part.size();
            bytes = bytes.subspan(part.size());
            if (left_ == 0) state_ = State::Tag;
            continue;
        }
        const auto byte = std::to_integer<std::uint64_t>(bytes.front());
        bytes = bytes.subspan(1);
        if (shift_ > 63) return reject_error("answer: a number longer than protobuf has");
        number_ |= (byte & 0x7F) << shift_;
        shift_ += 7;
        if ((byte & 0x80) != 0) continue;
        if (auto taken = take_number(); !taken) return taken;
        number_ = 0;
        shift_ = 0;
    }
    return {};
}

Result<void> PullObjectReader::take_number() {
    switch (state_) {
        case State::Tag:
            field_ = number_ >> 3;
            switch (number_ & 7) {
                case 0: state_ = State::Varint; return {};
                case 1: state_ = State::Skip, left_ = 8; return {};
                case 2: state_ = State::Length; return {};
                case 5: state_ = State::Skip, left_ = 4; return {};
                default: return reject_error("answer: no protobuf");
            }
        case State::Varint:
            if (field_ == kFound) found_ = number_ != 0;
            if (field_ == kAvailable) available_ = number_ != 0;
            state_ = State::Tag;
            return {};
        case State::Length:
            left_ = number_;
            state_ = left_ == 0 ? State::Tag : field_ == kContent ? State::Content : State::Skip;
            return {};
        default: return bug_error("answer: a number where none is read");
    }
}

std::string push_object_prefix(std::uint64_t node_id, std::uint64_t run_id, const std::string& object_id,
                               const std::string& session_id, std::uint64_t object_bytes) {
    fleet::PushObjectRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_run_id(run_id);
    request.set_object_id(object_id);
    if (!session_id.empty()) request.set_session_id(session_id);
    std::string bytes = request.SerializeAsString();
    bytes += static_cast<char>(fleet::PushObjectRequest::kObjectContentFieldNumber << 3 | 2);
    for (; object_bytes >= 0x80; object_bytes >>= 7) bytes += static_cast<char>(object_bytes | 0x80);
    bytes += static_cast<char>(object_bytes);
    return bytes;
}

}  // namespace cardionode::fed
