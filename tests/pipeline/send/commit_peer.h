// A PACS with storage and storage commitment that commits in one stated way, on 127.0.0.1.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "conf/base/files.h"
#include "scp/dicom/command.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/pdu.h"

namespace cardionode::test {

enum class CommitManner {
    Keeps,             ///< reports on the same association that all is kept
    ReportsFirst,      ///< the report overtakes the N-ACTION's response
    Fails,             ///< reports that all failed, with `number` as the reason
    LeavesOneOut,      ///< reports the first of them only
    OtherTransaction,  ///< reports of a transaction that nobody asked for
    Garbage,           ///< a report that cannot be read
    NoReport,          ///< answers the N-ACTION and reports nothing here
    RefusesAction,     ///< answers the N-ACTION with `number` as the status
    NotOffered,        ///< does not accept the presentation context
    RejectsForNow,     ///< A-ASSOCIATE-RJ 2, 3, 2 to an association that asks for commitment
    AbortsOnAction,    ///< A-ABORT in place of the response
    ClosesOnAction,    ///< closes in place of the response
    NoAnswer,          ///< does not answer the N-ACTION
    WrongMessage,      ///< success for another message
    WrongCommand,      ///< a C-ECHO response
    ReleasesAtOnce,    ///< answers the N-ACTION and releases
};

class CommitPeer {
public:
    explicit CommitPeer(CommitManner manner, std::uint16_t number = 0) : manner_(manner), number_(number) {
        listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* plain = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener_.get(), plain, size) != 0 || ::listen(listener_.get(), 8) != 0 ||
            ::getsockname(listener_.get(), plain, &size) != 0)
            throw std::runtime_error("cannot listen");
        port_ = ntohs(address.sin_port);
        thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
    }
    int port() const { return port_; }
    void set_manner(CommitManner manner) { manner_ = manner; }
    std::vector<CommitmentData> asked() const {
        const std::lock_guard lock(mutex_);
        return asked_;
    }
    /// SOP instance UIDs, and how often each was stored.
    std::map<std::string, int> held() const {
        const std::lock_guard lock(mutex_);
        return held_;
    }
    std::vector<std::uint16_t> report_answers() const {
        const std::lock_guard lock(mutex_);
        return report_answers_;
    }

private:
    using Bytes = std::vector<std::byte>;
    static void write(int fd, const Bytes& bytes) { (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
    static Bytes read_pdu(int fd, const std::stop_token& stop) {
        Bytes got;
        std::size_t wanted = kPduHeaderBytes;
        while (got.size() < wanted && !stop.stop_requested()) {
            pollfd item{fd, POLLIN, 0};
            if (::poll(&item, 1, 20) <= 0) continue;
            std::byte part[4096];
            const ssize_t n = ::recv(fd, part, std::min(sizeof part, wanted - got.size()), 0);
            if (n <= 0) return {};
            got.insert(got.end(), part, part + n);
            if (got.size() == kPduHeaderBytes)
                wanted += parse_pdu_header(std::span<const std::byte, kPduHeaderBytes>(got)).length;
        }
        return got.size() == wanted ? got : Bytes();
    }

    void serve(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            pollfd item{listener_.get(), POLLIN, 0};
            if (::poll(&item, 1, 20) <= 0) continue;
            const FileDescriptor peer(::accept(listener_.get(), nullptr, nullptr));
            if (peer.valid()) associate(peer.get(), stop);
        }
    }

    void associate(int fd, const std::stop_token& stop) {
        const Bytes request = read_pdu(fd, stop);
        if (request.empty()) return;
        const auto parsed = parse_associate_request(std::span(request).subspan(kPduHeaderBytes));
        if (!parsed) return;
        const bool commits = parsed->contexts[0].abstract_syntax == kStorageCommitmentClass;
        if (commits && manner_ == CommitManner::RejectsForNow) return write(fd, write_associate_reject({2, 3, 2}));
        std::vector<AnsweredContext> answers;
        for (const ProposedContext& context : parsed->contexts) {
            const bool refused =
                manner_ == CommitManner::NotOffered && context.abstract_syntax == kStorageCommitmentClass;
            answers.push_back({context.id, refused ? ContextResult::UnknownAbstractSyntax : ContextResult::Accepted,
                               context.abstract_syntax, context.transfer_syntaxes[0]});
        }
        write(fd, write_associate_accept(*parsed, answers, 16384));
        Command command;
        Bytes command_bytes, data;
        while (true) {
            const Bytes pdu = read_pdu(fd, stop);
            if (pdu.empty()) return;
            if (pdu[0] == std::byte{5}) return write(fd, write_release_response());
            if (pdu[0] != std::byte{4}) return;
            const auto values = parse_data_values(std::span(pdu).subspan(kPduHeaderBytes));
            if (!values) return;
            for (const DataValue& value : *values) {
                Bytes& target = value.command ? command_bytes : data;
                target.insert(target.end(), value.bytes.begin(), value.bytes.end());
                if (!value.last) continue;
                if (value.command) {
                    command = *parse_command(command_bytes);
                    command_bytes.clear();
                    if (command.is_response()) note_answer(command.status);
                    continue;
                }
                if (!take(fd, value.context_id, command, data, stop)) return;
                data.clear();
            }
        }
    }

    /// false: the association is over.
    bool take(int fd, std::uint8_t context, const Command& command, const Bytes& data, const std::stop_token& stop) {
        const auto answer = [&](const Command& to, std::uint16_t status) {
            write(fd, write_data_pdus(context, true, write_response(to, status), 16384));
        };
        if (command.field == command_field::kStoreRequest) {
            const std::lock_guard lock(mutex_);
            ++held_[command.sop_instance_uid];
            answer(command, 0);
            return true;
        }
        const auto asked = parse_commitment(Encoding::ExplicitLittle, data);
        if (!asked || command.field != command_field::kActionRequest) return false;
        {
            const std::lock_guard lock(mutex_);
            asked_.push_back(*asked);
        }
        Command other = command;
        switch (manner_) {
            case CommitManner::AbortsOnAction: write(fd, write_abort(2, AbortReason::NotSpecified)); return false;
            case CommitManner::ClosesOnAction: return false;
            case CommitManner::NoAnswer: return !read_pdu(fd, stop).empty();
            case CommitManner::RefusesAction: answer(command, number_); return true;
            case CommitManner::WrongMessage: ++other.message_id; break;
            case CommitManner::WrongCommand: other.field = command_field::kEchoRequest; break;
            case CommitManner::ReportsFirst: report(fd, context, *asked); break;
            default: break;
        }
        answer(other, 0);
        if (manner_ == CommitManner::ReleasesAtOnce) {
            write(fd, write_release_request());
            return !read_pdu(fd, stop).empty() && false;
        }
        const bool silent = manner_ == CommitManner::NoReport || manner_ == CommitManner::ReportsFirst ||
                            manner_ == CommitManner::WrongMessage || manner_ == CommitManner::WrongCommand;
        if (!silent) report(fd, context, *asked);
        return true;
    }

    void report(int fd, std::uint8_t context, CommitmentData told) {
        if (manner_ == CommitManner::Fails) {
            told.failed = std::move(told.referenced);
            told.referenced.clear();
            for (SopReference& failed : told.failed) failed.reason = number_;
        }
        if (manner_ == CommitManner::LeavesOneOut) told.referenced.resize(1);
        if (manner_ == CommitManner::OtherTransaction) told.transaction_uid = "1.2.3.4.5";
        Command command;
        command.field = command_field::kEventReportRequest;
        command.message_id = 7;
        command.sop_class_uid = kStorageCommitmentClass;
        command.sop_instance_uid = kStorageCommitmentInstance;
        command.type_id = told.failed.empty() ? kCommitmentSuccessful : kCommitmentFailuresExist;
        Bytes data = write_commitment(Encoding::ExplicitLittle, told);
        if (manner_ == CommitManner::Garbage) data.assign(200, std::byte{0xfe});
        write(fd, write_data_pdus(context, true, write_request(command), 16384));
        write(fd, write_data_pdus(context, false, data, 16384));
    }
    void note_answer(std::uint16_t status) {
        const std::lock_guard lock(mutex_);
        report_answers_.push_back(status);
    }

    std::atomic<CommitManner> manner_;
    std::uint16_t number_;
    FileDescriptor listener_;
    int port_ = 0;
    mutable std::mutex mutex_;
    std::vector<CommitmentData> asked_;
    std::map<std::string, int> held_;
    std::vector<std::uint16_t> report_answers_;
    std::jthread thread_;
};

}  // namespace cardionode::test
