// One association that this node opens: negotiates, sends and receives DIMSE messages, releases.
//
// For small messages of the normalised services (storage commitment); images are sent by pipeline/send.
// PS3.8 7, 9.3; PS3.7 9.3, D.3.3. Whatever the peer sends is read within bounds; what does not fit ends the association
// with an A-ABORT.
// Thread safety: one object belongs to one thread.
// Errors: Retry: no connection, transient rejection, abort, silence, broken rules. Reject: permanent rejection.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "scp/dicom/byte_stream.h"
#include "scp/dicom/command.h"
#include "scp/dicom/pdu.h"

namespace cardionode {

struct RequestorOptions {
    std::string host;
    int port = 104;
    std::string calling_ae_title;
    std::string called_ae_title;
    std::vector<ProposedContext> contexts;
    std::vector<RoleSelection> roles;           ///< none for a class: we are its SCU
    std::chrono::milliseconds connect{10'000};  ///< TCP, and TLS where it is
    std::chrono::milliseconds answer{30'000};   ///< to the association request and the release; rest of a message
    std::size_t max_data_bytes = 4 << 20;       ///< of a message that we receive
    std::function<bool()> stop = {};            ///< true: give up waiting; may be empty
    Dial dial = dial_tcp;
};

struct DimseMessage {
    std::uint8_t context_id = 0;
    Command command;
    std::vector<std::byte> data;
};

class Requestor {
public:
    static Result<Requestor> open(RequestorOptions options);

    /// The accepted context of a class; none: the peer does not take it.
    struct Accepted {
        std::uint8_t id = 0;
        std::string transfer_syntax;
    };
    std::optional<Accepted> accepted(std::string_view abstract_syntax) const;

    /// @param data  empty: the message has no data set
    Result<void> send(std::uint8_t context_id, std::span<const std::byte> command, std::span<const std::byte> data);
    /// The next whole message. none: nothing began within `longest`, or stop.
    Result<std::optional<DimseMessage>> receive(std::chrono::milliseconds longest);
    /// A polite end; what was answered before stands, whatever becomes of it.
    void release();
    void abort();

private:
    using SteadyTime = ByteStream::SteadyTime;
    struct Pdu {
        PduType type{};
        std::span<const std::byte> body;
    };
    Requestor(RequestorOptions options, std::unique_ptr<ByteStream> stream)
        : options_(std::move(options)), stream_(std::move(stream)) {}
    SteadyTime answer_time() const { return std::chrono::steady_clock::now() + options_.answer; }
    Result<void> negotiate();
    /// none: nothing began until `first`, or stop.
    Result<std::optional<Pdu>> read_pdu(SteadyTime first);
    ByteStream::End fill(std::size_t wanted, SteadyTime until);
    Error broken(std::string reason);

    RequestorOptions options_;
    std::unique_ptr<ByteStream> stream_;
    AssociateAccept accept_;
    std::vector<std::byte> buffer_;
    bool over_ = false;  ///< released, aborted or closed
};

}  // namespace cardionode
