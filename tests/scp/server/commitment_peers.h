// Scanners made of raw bytes that ask for storage commitment, and one that listens for reports.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "conf/base/files.h"
#include "scp/dicom/command.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/pdu.h"
#include "tests/scp/server/receiver.h"

namespace cardionode::test {

inline constexpr int kImages = 1, kCommitment = 3;  // presentation contexts
inline const std::string kSeg = "1.2.840.10008.5.1.4.1.1.66.4";

inline std::string text(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::span<const std::byte> bytes(const std::string& text, std::size_t from = 0) {
    return std::as_bytes(std::span(text)).subspan(from);
}

inline Command request_command(std::uint16_t field, std::uint16_t type, std::uint16_t message_id = 5) {
    Command command;
    command.field = field;
    command.message_id = message_id;
    command.sop_class_uid = kStorageCommitmentClass;
    command.sop_instance_uid = kStorageCommitmentInstance;
    command.type_id = type;
    return command;
}

inline std::string message(const Command& command, const std::string& data, int context = kCommitment) {
    const auto id = static_cast<std::uint8_t>(context);
    return text(write_data_pdus(id, true, write_request(command), 16384)) +
           (data.empty() ? "" : text(write_data_pdus(id, false, std::as_bytes(std::span(data)), 16384)));
}

inline std::string data_of(const CommitmentData& data) {
    return text(write_commitment(Encoding::ExplicitLittle, data));
}

inline CommitmentData about(const std::string& transaction, const std::vector<Instance>& instances) {
    CommitmentData data;
    data.transaction_uid = transaction;
    for (const Instance& instance : instances)
        data.referenced.push_back({instance.sop_class_uid, instance.sop_instance_uid});
    return data;
}

/// A whole DIMSE message of few PDUs.
struct Got {
    Command command;
    std::optional<CommitmentData> data;
};

inline std::optional<Got> next_message(const std::function<std::string()>& next_pdu) {
    Got got;
    std::string data;
    bool have_command = false;
    while (true) {
        const std::string pdu = next_pdu();
        if (pdu.size() < 12 || pdu[0] != 4) return std::nullopt;
        const auto values = parse_data_values(bytes(pdu, 6));
        if (!values) return std::nullopt;
        for (const DataValue& value : *values) {
            const std::string part(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
            if (value.command) {
                auto command = parse_command(value.bytes);
                if (!command) return std::nullopt;
                got.command = *command;
                have_command = true;
            } else {
                data += part;
                if (!value.last) continue;
                auto parsed = parse_commitment(Encoding::ExplicitLittle, bytes(data));
                if (parsed) got.data = *parsed;
                return got;
            }
        }
        if (have_command && !got.command.has_data_set) return got;
    }
}

/// A scanner's association with a context for CT images and one for storage commitment.
class CtScanner {
public:
    explicit CtScanner(int port, const std::string& calling = "CT1") : peer_(port) {
        peer_.send(associate_request({{kImages, std::string(kCtImage), {std::string(kExplicit)}},
                                      {kCommitment, std::string(kStorageCommitmentClass), {std::string(kExplicit)}}},
                                     "CARDIONODE", calling));
        const std::string answer = peer_.receive_pdu();
        if (answer.empty() || answer[0] != 2) return;
        const auto accept = parse_associate_accept(bytes(answer, 6));
        for (const AnsweredContext& context : accept->contexts)
            if (context.result == ContextResult::Accepted) accepted_.insert(context.id);
    }
    bool accepted(int context) const { return accepted_.contains(context); }
    int store(const Instance& instance) {
        peer_.send(data_pdu(kImages, 3, store_command(instance)));
        peer_.send(data_pdu(kImages, 2, std::string(instance.dataset.begin(), instance.dataset.end())));
        return response_of(peer_.receive_pdu()).first;
    }
    /// The status of the N-ACTION's response.
    int ask(const CommitmentData& data) {
        return ask(request_command(command_field::kActionRequest, 1), data_of(data));
    }
    int ask(const Command& command, const std::string& data) {
        peer_.send(message(command, data));
        const std::string answer = peer_.receive_pdu();
        EXPECT_EQ(answer.size() > 6 ? answer[0] : 0, 4);
        return response_of(answer).first;
    }
    /// A report on this association, answered with `status`. none: not within `longest`
    std::optional<Got> report(std::chrono::milliseconds longest, std::uint16_t status = 0) {
        const auto got = next_message([&] { return peer_.receive_pdu(longest); });
        if (got) peer_.send(text(write_data_pdus(kCommitment, true, write_response(got->command, status), 16384)));
        return got;
    }
    void release() {
        peer_.send(text(write_release_request()));
        EXPECT_EQ(peer_.receive_pdu().substr(0, 1), "\x06");
    }
    RawPeer& raw() { return peer_; }

private:
    RawPeer peer_;
    std::set<int> accepted_;
};

/// A scanner that listens for reports on new associations.
class ReportListener {
public:
    struct Report {
        AssociateRequest request;
        Got got;
    };
    explicit ReportListener(int port) {
        listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(listener_.get(), 8) != 0)
            throw std::runtime_error("cannot listen");
    }
    /// Takes one report and answers it. none: nobody called within `longest`, or no report came
    std::optional<Report> take(std::chrono::milliseconds longest, std::uint16_t status = 0) {
        pollfd item{listener_.get(), POLLIN, 0};
        if (::poll(&item, 1, static_cast<int>(longest.count())) <= 0) return std::nullopt;
        const FileDescriptor peer(::accept(listener_.get(), nullptr, nullptr));
        const auto next = [&] { return read_pdu(peer.get()); };
        const std::string request = next();
        if (request.empty() || request[0] != 1) return std::nullopt;
        auto parsed = parse_associate_request(bytes(request, 6));
        if (!parsed) return std::nullopt;
        Report report{*parsed, {}};
        const std::vector<AnsweredContext> answers = {{parsed->contexts.at(0).id, ContextResult::Accepted,
                                                       parsed->contexts.at(0).abstract_syntax, std::string(kExplicit)}};
        write(peer.get(), write_associate_accept(*parsed, answers, 1024, parsed->roles));
        const auto got = next_message(next);
        if (!got) return std::nullopt;
        report.got = *got;
        write(peer.get(), write_data_pdus(answers[0].id, true, write_response(got->command, status), 16384));
        if (!next().starts_with('\x05')) return std::nullopt;
        write(peer.get(), write_release_response());
        return report;
    }

private:
    static void write(int fd, const std::vector<std::byte>& data) {
        (void)!::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    }
    static std::string read_pdu(int fd) {
        std::string got;
        std::size_t wanted = 6;
        while (got.size() < wanted) {
            pollfd item{fd, POLLIN, 0};
            char buffer[4096];
            if (::poll(&item, 1, 5000) <= 0) return {};
            const ssize_t n = ::recv(fd, buffer, std::min(sizeof buffer, wanted - got.size()), 0);
            if (n <= 0) return {};
            got.append(buffer, static_cast<std::size_t>(n));
            if (got.size() == 6) wanted += parse_pdu_header(bytes(got).first<6>()).length;
        }
        return got;
    }
    FileDescriptor listener_;
};

}  // namespace cardionode::test
