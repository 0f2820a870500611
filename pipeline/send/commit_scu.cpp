#include "pipeline/send/commit_scu.h"

#include <chrono>
#include <random>

#include <fmt/format.h>

#include "scp/dicom/commitment.h"
#include "scp/dicom/requestor.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

constexpr std::uint16_t kMessageId = 1;
constexpr std::string_view kExplicitLittle = "1.2.840.10008.1.2.1";

Dial dial_for(const DestinationSettings& destination) {
    return destination.tls ? dial_tls(*destination.tls, destination.name) : Dial(dial_tcp);
}

Result<Requestor> open(const DestinationSettings& destination, const SendTimeouts& timeouts,
                       const std::function<bool()>& stop) {
    RequestorOptions options;
    options.host = destination.host;
    options.port = destination.port;
    options.calling_ae_title = destination.calling_ae_title;
    options.called_ae_title = destination.ae_title;
    // Verification beside it: a PACS without storage commitment has something to accept, and says no to the other.
    options.contexts = {
        {1, std::string(kStorageCommitmentClass), {std::string(kExplicitLittle), std::string(kImplicitLittle)}},
        {3, std::string(kVerificationSopClass), {std::string(kImplicitLittle)}}};
    options.answer = std::chrono::seconds(timeouts.acse_seconds);
    options.max_data_bytes = kMaxCommitmentBytes;
    options.stop = stop;
    options.dial = dial_for(destination);
    return Requestor::open(std::move(options));
}

std::vector<std::byte> action_data(const CommitmentAsk& ask, Encoding encoding) {
    CommitmentData data;
    data.transaction_uid = ask.transaction_uid;
    for (const InstanceReference& output : ask.outputs)
        data.referenced.push_back({output.sop_class_uid, output.sop_instance_uid});
    return write_commitment(encoding, data);
}

std::vector<InstanceReference> for_queue(const std::vector<SopReference>& references) {
    std::vector<InstanceReference> out;
    out.reserve(references.size());
    for (const SopReference& r : references) out.push_back({r.sop_class_uid, r.sop_instance_uid, r.reason});
    return out;
}

/// What the status of the N-ACTION's response means (PS3.7 10.1.4.1.10). Success: nothing to say.
struct Refusal {
    bool not_offered = false;
    ErrorKind kind = ErrorKind::Retry;
    std::string words;
};
std::optional<Refusal> judge(std::uint16_t status) {
    const auto with = [status](bool not_offered, ErrorKind kind, std::string_view words) {
        return Refusal{not_offered, kind, fmt::format("the request was refused: {} (status 0x{:04X})", words, status)};
    };
    switch (status) {
        case 0x0000: return std::nullopt;
        case 0x0112: return with(true, ErrorKind::Reject, "no such SOP instance");
        case 0x0118: return with(true, ErrorKind::Reject, "no such SOP class");
        case 0x0122: return with(true, ErrorKind::Reject, "SOP class not supported");
        case 0x0123: return with(true, ErrorKind::Reject, "no such action");
        case 0x0211: return with(true, ErrorKind::Reject, "unrecognised operation");
        case 0x0114:
        case 0x0115:
        case 0x0212: return with(false, ErrorKind::Reject, "argument not understood");
        case 0x0119: return with(false, ErrorKind::Reject, "class-instance conflict");
        case 0x0124: return with(false, ErrorKind::Reject, "not authorised");
        case 0x0110: return with(false, ErrorKind::Retry, "processing failure");
        case 0x0210: return with(false, ErrorKind::Retry, "duplicate invocation");
        case 0x0213: return with(false, ErrorKind::Retry, "resource limitation");
        default: return with(false, ErrorKind::Retry, "unknown status");
    }
}

class Request {
public:
    Request(Requestor& peer, Requestor::Accepted context, const CommitmentAsk& ask, const TakeAnswer& take)
        : peer_(&peer), context_(std::move(context)), ask_(&ask), take_(&take) {}

    bool answered() const { return answered_; }

    Result<void> send() {
        Command action;
        action.field = command_field::kActionRequest;
        action.message_id = kMessageId;
        action.sop_class_uid = kStorageCommitmentClass;
        action.sop_instance_uid = kStorageCommitmentInstance;
        action.type_id = kRequestStorageCommitment;
        return peer_->send(context_.id, write_request(action), action_data(*ask_, encoding()));
    }

    /// The status of the response.
    Result<std::uint16_t> wait_for_response(std::chrono::seconds longest) {
        const auto until = std::chrono::steady_clock::now() + longest;
        while (true) {
            auto message = next(until);
            if (!message) return std::move(message).error();
            if (!*message) return retry_error(fmt::format("no answer to the N-ACTION within {} s", longest.count()));
            const Command& command = (*message)->command;
            if (command.field == command_field::kEventReportRequest) {  // the report overtakes the response
                if (auto taken = take_report(**message); !taken) return std::move(taken).error();
                continue;
            }
            if (command.field != (command_field::kActionRequest | command_field::kResponseBit))
                return retry_error("the N-ACTION was answered with something else");
            if (command.message_id != kMessageId) return retry_error("the answer belongs to another message");
            return command.status;
        }
    }

    /// Until the report for this request came, the time is over, or the peer ends the association.
    void wait_for_report(std::chrono::seconds longest) {
        const auto until = std::chrono::steady_clock::now() + longest;
        while (!answered_) {
            auto message = next(until);
            if (!message || !*message) return;
            if ((*message)->command.field != command_field::kEventReportRequest) continue;
            if (!take_report(**message)) return;
        }
    }

private:
    Encoding encoding() const { return find_transfer_syntax(context_.transfer_syntax)->encoding; }

    Result<std::optional<DimseMessage>> next(std::chrono::steady_clock::time_point until) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        return peer_->receive(std::max(left, std::chrono::milliseconds(0)));
    }

    Result<void> take_report(const DimseMessage& message) {
        std::uint16_t status = status::kInvalidArgument;
        const auto data = parse_commitment(encoding(), message.data);
        if (message.command.sop_class_uid == kStorageCommitmentClass && data) {
            const auto taken = (*take_)({data->transaction_uid, for_queue(data->referenced), for_queue(data->failed)});
            if (!taken) status = status::kProcessingFailure;
            else if (*taken == AnswerOutcome::Taken) status = status::kSuccess;
            answered_ = answered_ || (taken && data->transaction_uid == ask_->transaction_uid);
        }
        return peer_->send(message.context_id, write_response(message.command, status), {});
    }

    Requestor* peer_;
    Requestor::Accepted context_;
    const CommitmentAsk* ask_;
    const TakeAnswer* take_;
    bool answered_ = false;
};

Result<CommitmentRequested> not_offered(std::string why, const DestinationSettings& destination) {
    if (destination.commitment == "required") return reject_error("storage commitment is not offered: " + why);
    CommitmentRequested result;
    result.offered = false;
    result.why = std::move(why);
    return result;
}

Result<CommitmentRequested> ask_for(const CommitmentAsk& ask, const DestinationSettings& destination,
                                    const SendTimeouts& timeouts, const TakeAnswer& take,
                                    const std::function<bool()>& stop) {
    auto peer = open(destination, timeouts, stop);
    if (!peer) return std::move(peer).error();
    auto context = peer->accepted(kStorageCommitmentClass);
    if (!context) {
        peer->release();
        return not_offered("no presentation context was accepted", destination);
    }
    Request request(*peer, std::move(*context), ask, take);
    auto sent = request.send();
    auto status = sent ? request.wait_for_response(std::chrono::seconds(timeouts.dimse_seconds))
                       : Result<std::uint16_t>(std::move(sent).error());
    if (!status) {
        peer->abort();
        if (request.answered()) return CommitmentRequested{true, true, {}};
        return std::move(status).error().in("storage commitment");
    }
    if (auto refusal = judge(*status)) {
        peer->release();
        if (refusal->not_offered) return not_offered(std::move(refusal->words), destination);
        return Error{refusal->kind, std::move(refusal->words)}.in("storage commitment");
    }
    request.wait_for_report(std::chrono::seconds(timeouts.linger_seconds));
    peer->release();
    return CommitmentRequested{true, request.answered(), {}};
}

}  // namespace

Result<CommitmentRequested> request_commitment(const CommitmentAsk& ask, const DestinationSettings& destination,
                                               const SendTimeouts& timeouts, const TakeAnswer& take,
                                               const std::function<bool()>& stop) {
    auto asked = ask_for(ask, destination, timeouts, take, stop);
    if (asked) return asked;
    return std::move(asked).error().in(
        fmt::format("{} ({} at {}:{})", destination.name, destination.ae_title, destination.host, destination.port));
}

std::string new_transaction_uid() {
    std::random_device device;
    std::string noise;
    for (int i = 0; i < 4; ++i) noise += fmt::format("{:08x}", device());
    return derive_uid({"storage commitment", noise});
}

}  // namespace cardionode
