#include "scp/dicom/requestor.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace cardionode {
namespace {

constexpr std::uint32_t kMaxPdu = 65536;
constexpr std::chrono::milliseconds kLook{200};  // how often `stop` is asked

Error rejection(std::span<const std::byte> body) {
    const auto number = [&](std::size_t at) { return at < body.size() ? std::to_integer<int>(body[at]) : 0; };
    const bool permanent = number(1) == 1;
    const int source = number(2), reason = number(3);
    std::string_view words = "no reason given";
    if (source == 1 && reason == 2) words = "application context not supported";
    if (source == 1 && reason == 3) words = "calling AE title not recognised";
    if (source == 1 && reason == 7) words = "called AE title not recognised";
    if (source == 2 && reason == 2) words = "protocol version not supported";
    if (source == 3 && reason == 1) words = "temporary congestion";
    if (source == 3 && reason == 2) words = "local limit exceeded";
    return {permanent ? ErrorKind::Reject : ErrorKind::Retry,
            fmt::format("association rejected {}: {}", permanent ? "for good" : "for the moment", words)};
}

}  // namespace

Result<Requestor> Requestor::open(RequestorOptions options) {
    auto stream = options.dial(options.host, options.port, std::chrono::steady_clock::now() + options.connect);
    if (!stream) return std::move(stream).error();
    Requestor requestor(std::move(options), std::move(stream).value());
    if (auto opened = requestor.negotiate(); !opened) return std::move(opened).error();
    return requestor;
}

Result<void> Requestor::negotiate() {
    AssociateRequest request;
    request.called_ae_title = options_.called_ae_title;
    request.calling_ae_title = options_.calling_ae_title;
    request.contexts = options_.contexts;
    request.roles = options_.roles;
    request.max_pdu = kMaxPdu;
    if (auto sent = stream_->write(write_associate_request(request), answer_time()); !sent) return sent;
    auto pdu = read_pdu(answer_time());
    if (!pdu) return std::move(pdu).error();
    if (!*pdu) return retry_error("no answer to the association request");
    switch ((*pdu)->type) {
        case PduType::AssociateAccept: break;
        case PduType::AssociateReject: return rejection((*pdu)->body);
        case PduType::Abort: return retry_error("the peer aborted the association request");
        default: return broken("the association request was answered with something else");
    }
    auto accept = parse_associate_accept((*pdu)->body);
    if (!accept) return broken(accept.error().message);
    accept_ = std::move(accept).value();
    return {};
}

std::optional<Requestor::Accepted> Requestor::accepted(std::string_view abstract_syntax) const {
    for (const ProposedContext& proposed : options_.contexts) {
        if (proposed.abstract_syntax != abstract_syntax) continue;
        for (const AnsweredContext& answered : accept_.contexts) {
            if (answered.id != proposed.id || answered.result != ContextResult::Accepted) continue;
            if (std::ranges::find(proposed.transfer_syntaxes, answered.transfer_syntax) ==
                proposed.transfer_syntaxes.end())
                continue;  // one that we did not propose: we could not write it
            return Accepted{answered.id, answered.transfer_syntax};
        }
    }
    return std::nullopt;
}

Result<void> Requestor::send(std::uint8_t context_id, std::span<const std::byte> command,
                             std::span<const std::byte> data) {
    auto sent = stream_->write(write_data_pdus(context_id, true, command, accept_.max_pdu), answer_time());
    if (!sent || data.empty()) return sent;
    return stream_->write(write_data_pdus(context_id, false, data, accept_.max_pdu), answer_time());
}

Result<std::optional<DimseMessage>> Requestor::receive(std::chrono::milliseconds longest) {
    DimseMessage message;
    std::vector<std::byte> command_bytes;
    bool begun = false, have_command = false;
    while (true) {
        auto pdu = read_pdu(begun ? answer_time() : std::chrono::steady_clock::now() + longest);
        if (!pdu) return std::move(pdu).error();
        if (!*pdu) {
            if (begun) return broken("a message does not go on");
            return std::optional<DimseMessage>();
        }
        if ((*pdu)->type == PduType::ReleaseRequest) {
            (void)stream_->write(write_release_response(), answer_time());
            over_ = true;
            return retry_error("the peer released the association");
        }
        if ((*pdu)->type == PduType::Abort) {
            over_ = true;
            return retry_error("the peer aborted the association");
        }
        if ((*pdu)->type != PduType::Data) return broken("an unexpected PDU came");
        auto values = parse_data_values((*pdu)->body);
        if (!values) return broken(values.error().message);
        bool whole = false;
        for (const DataValue& value : *values) {
            if (whole || value.command == have_command || (begun && value.context_id != message.context_id))
                return broken("the parts of a message are mixed up");
            begun = true;
            message.context_id = value.context_id;
            std::vector<std::byte>& target = value.command ? command_bytes : message.data;
            if (target.size() + value.bytes.size() > (value.command ? kMaxCommandBytes : options_.max_data_bytes))
                return broken("a message is too long");
            target.insert(target.end(), value.bytes.begin(), value.bytes.end());
            if (!value.last) continue;
            if (value.command) {
                auto command = parse_command(command_bytes);
                if (!command) return broken(command.error().message);
                message.command = std::move(command).value();
                have_command = true;
            }
            whole = !value.command || !message.command.has_data_set;
        }
        if (whole) return std::optional<DimseMessage>(std::move(message));
    }
}

void Requestor::release() {
    if (std::exchange(over_, true)) return;
    if (!stream_->write(write_release_request(), answer_time())) return;
    const SteadyTime until = answer_time();
    while (std::chrono::steady_clock::now() < until) {  // what still comes before the answer is not waited for any more
        auto pdu = read_pdu(until);
        if (!pdu || !*pdu || (*pdu)->type != PduType::Data) return;
    }
}

void Requestor::abort() {
    if (std::exchange(over_, true)) return;
    (void)stream_->write(write_abort(0, AbortReason::NotSpecified), answer_time());
}

Error Requestor::broken(std::string reason) {
    abort();
    return retry_error(std::move(reason));
}

ByteStream::End Requestor::fill(std::size_t wanted, SteadyTime until) {
    std::array<std::byte, 16384> part{};
    while (buffer_.size() < wanted) {
        if (options_.stop && options_.stop()) return ByteStream::End::TimedOut;
        const auto now = std::chrono::steady_clock::now();
        if (now >= until) return ByteStream::End::TimedOut;
        const auto got = stream_->read_some(std::span(part).first(std::min(part.size(), wanted - buffer_.size())),
                                            std::min(until, now + kLook));
        if (got.end == ByteStream::End::Closed) return got.end;
        buffer_.insert(buffer_.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(got.size));
    }
    return ByteStream::End::Bytes;
}

Result<std::optional<Requestor::Pdu>> Requestor::read_pdu(SteadyTime first) {
    buffer_.clear();
    const auto begun = fill(1, first);
    if (begun == ByteStream::End::TimedOut) return std::optional<Pdu>();
    const SteadyTime until = answer_time();
    if (begun == ByteStream::End::Closed || fill(kPduHeaderBytes, until) != ByteStream::End::Bytes) {
        over_ = true;
        return retry_error("the peer closed the connection");
    }
    const PduHeader header =
        parse_pdu_header(std::span<const std::byte, kPduHeaderBytes>(buffer_.data(), kPduHeaderBytes));
    if (header.type < 1 || header.type > 7 || header.length > kMaxPdu) return broken("what came is no PDU of DICOM");
    if (fill(kPduHeaderBytes + header.length, until) != ByteStream::End::Bytes)
        return retry_error("a PDU does not come whole");
    return std::optional<Pdu>(
        Pdu{static_cast<PduType>(header.type), std::span(buffer_).subspan(kPduHeaderBytes, header.length)});
}

}  // namespace cardionode
