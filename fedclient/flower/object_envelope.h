// The two protobuf messages that carry an object, read and written in a stream: an object never stands in memory whole.
// Private to fedclient/flower.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "conf/base/result.h"

namespace cardionode::fed {

/// A PullObjectResponse in pieces of any size.
class PullObjectReader {
public:
    using Take = std::function<Result<void>(std::span<const std::byte>)>;

    /// @param take  gets the bytes of object_content
    explicit PullObjectReader(Take take) : take_(std::move(take)) {}
    /// Reject: not protobuf.
    Result<void> feed(std::span<const std::byte> bytes);
    /// The message ended where it may end.
    bool complete() const { return state_ == State::Tag && shift_ == 0; }
    bool found() const { return found_; }
    bool available() const { return available_; }

private:
    enum class State { Tag, Varint, Length, Content, Skip };
    Result<void> take_number();

    Take take_;
    State state_ = State::Tag;
    std::uint64_t number_ = 0;
    unsigned shift_ = 0;  ///< of the number that is being read; 0: none
    std::uint64_t field_ = 0, left_ = 0;
    bool found_ = false, available_ = false;
};

/// The bytes of a PushObjectRequest before the object; the object itself is the end of the message.
std::string push_object_prefix(std::uint64_t node_id, std::uint64_t run_id, const std::string& object_id,
                               const std::string& session_id, std::uint64_t object_bytes);

}  // namespace cardionode::fed
