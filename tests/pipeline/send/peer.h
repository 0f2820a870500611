// A storage SCP that misbehaves in one stated way, from raw sockets, on 127.0.0.1.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "conf/base/files.h"

namespace cardionode::test {

enum class Manner {
    Answer,              ///< takes the object and answers with `status`
    RejectForGood,       ///< A-ASSOCIATE-RJ 1, 1, 7
    RejectForNow,        ///< A-ASSOCIATE-RJ 2, 3, 2
    CloseAtOnce,         ///< closes without a word
    ResetAtOnce,         ///< resets the connection (RST) as soon as the request is there
    SayNothing,          ///< accepts the connection and never answers
    AbortOnAssociate,    ///< A-ABORT in place of an answer to the request
    GarbageOnAssociate,  ///< bytes that are no PDU in place of an answer to the request
    NoContext,           ///< accepts the association, but no presentation context
    OtherSyntax,         ///< accepts the contexts with a transfer syntax that was not proposed
    AbortOnStore,        ///< takes the object; A-ABORT in place of the response
    CloseOnStore,        ///< takes the object; closes in place of the response
    ResetOnStore,        ///< takes the object; RST in place of the response
    GarbageOnStore,      ///< takes the object; bytes that are no PDU in place of the response
    HalfAnswer,          ///< takes the object; closes in the middle of the response
    HugeAnswer,          ///< takes the object; a response that says it is 4 GB long
    NoAnswerToStore,     ///< takes the object and never answers
    LateAnswer,          ///< takes the object and answers after kLate
    WrongMessage,        ///< takes the object; success for another message
    WrongInstance,       ///< takes the object; success for another instance
    WrongCommand,        ///< takes the object; a C-ECHO response
    NoStatus,            ///< takes the object; a response without a status
    DoubleAnswer,        ///< takes the object and answers twice
    CloseAfterAnswer,    ///< takes the object, answers, and closes without waiting for a release
    NoAnswerToRelease,   ///< takes the object, answers, and does not answer the release
    TinyPdu,             ///< takes PDUs of at most 128 bytes
    SlowReader,          ///< reads 512 bytes, waits 2 ms, and so on
    StopReading,         ///< accepts the association and reads nothing more
};

inline constexpr std::chrono::milliseconds kLate{2'500};

class Peer {
public:
    using Bytes = std::vector<std::uint8_t>;
    explicit Peer(Manner manner, std::uint16_t status = 0) : manner_(manner), status_(status) {
        listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (manner == Manner::StopReading || manner == Manner::SlowReader) {
            const int small = 4096;
            ::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* plain = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener_.get(), plain, size) != 0 || ::listen(listener_.get(), 8) != 0 ||
            ::getsockname(listener_.get(), plain, &size) != 0) {
            throw std::runtime_error("cannot listen");
        }
        port_ = ntohs(address.sin_port);
        thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
    }
    int port() const { return port_; }
    int stored() const { return stored_; }
    /// What it holds: SOP instance UIDs, and how often each came. The same UID again is the same object.
    std::map<std::string, int> held() const {
        const std::lock_guard lock(mutex_);
        return held_;
    }
    int connections() const { return connections_; }
    /// Transfer syntaxes that the last association proposed, in order, one list a context.
    std::vector<std::vector<std::string>> proposed() const {
        const std::lock_guard lock(mutex_);
        return proposed_;
    }
    void set_manner(Manner manner, std::uint16_t status = 0) {
        status_ = status;
        manner_ = manner;
    }

private:
    static void put16(Bytes& b, std::size_t v) { b.insert(b.end(), {std::uint8_t(v >> 8), std::uint8_t(v)}); }
    static void put32(Bytes& b, std::size_t v) {
        put16(b, v >> 16);
        put16(b, v & 0xFFFF);
    }
    static std::size_t get16(const Bytes& b, std::size_t at) { return b.at(at) << 8 | b.at(at + 1); }
    static std::string text(const Bytes& b, std::size_t at, std::size_t size) {
        return std::string(b.begin() + std::ptrdiff_t(at), b.begin() + std::ptrdiff_t(at + size));
    }
    static Bytes pdu(std::uint8_t type, const Bytes& body) {
        Bytes b = {type, 0};
        put32(b, body.size());
        b.insert(b.end(), body.begin(), body.end());
        return b;
    }
    static Bytes item(std::uint8_t type, const Bytes& body) {
        Bytes b = {type, 0};
        put16(b, body.size());
        b.insert(b.end(), body.begin(), body.end());
        return b;
    }
    static Bytes item(std::uint8_t type, const std::string& body) {
        return item(type, Bytes(body.begin(), body.end()));
    }
    static void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

    bool readable(int fd, const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            pollfd p{fd, POLLIN, 0};
            if (::poll(&p, 1, 20) > 0) return true;
        }
        return false;
    }
    bool read_exactly(int fd, Bytes& to, std::size_t size, const std::stop_token& stop) {
        to.resize(size);
        for (std::size_t got = 0; got < size;) {
            if (!readable(fd, stop)) return false;
            std::size_t part = size - got;
            if (manner_ == Manner::SlowReader) {
                part = std::min<std::size_t>(part, 512);
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
            }
            const ssize_t n = ::read(fd, to.data() + got, part);
            if (n <= 0) return false;
            got += static_cast<std::size_t>(n);
        }
        return true;
    }
    /// One PDU; none: the peer is gone or the test ends.
    std::optional<std::pair<std::uint8_t, Bytes>> read_pdu(int fd, const std::stop_token& stop) {
        Bytes head, body;
        if (!read_exactly(fd, head, 6, stop)) return std::nullopt;
        const std::size_t size = get16(head, 2) << 16 | get16(head, 4);
        if (!read_exactly(fd, body, size, stop)) return std::nullopt;
        return std::pair{head[0], body};
    }
    static void write(int fd, const Bytes& b) { (void)!::send(fd, b.data(), b.size(), MSG_NOSIGNAL); }
    /// The next close of it sends an RST.
    static void reset(int fd) {
        const linger at_once{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    static Bytes garbage() {
        Bytes b;
        for (int i = 0; i < 300; ++i) b.push_back(std::uint8_t(i * 73 + 41));
        return b;
    }
    void pause(std::chrono::milliseconds longest, const std::stop_token& stop) {
        const auto until = std::chrono::steady_clock::now() + longest;
        while (!stop.stop_requested() && std::chrono::steady_clock::now() < until)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    /// Until the test ends or wants another manner.
    void idle(const std::stop_token& stop) {
        const Manner manner = manner_;
        while (!stop.stop_requested() && manner_ == manner) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }

    void serve(const std::stop_token& stop) {
        while (readable(listener_.get(), stop)) {
            const FileDescriptor peer(::accept(listener_.get(), nullptr, nullptr));
            if (!peer.valid()) continue;
            ++connections_;
            try {
                associate(peer.get(), stop);
            } catch (const std::exception&) {
                // a request we cannot read: the connection closes
            }
        }
    }

    Bytes accept_pdu(const Bytes& request) {
        Bytes body(request.begin(), request.begin() + 68);  // version, titles: as in the request
        append(body, item(0x10, "1.2.840.10008.3.1.1.1"));
        std::vector<std::vector<std::string>> proposed;
        for (std::size_t at = 68; at + 4 <= request.size();) {
            const std::size_t size = get16(request, at + 2);
            if (request[at] == 0x20) {
                Bytes context = {request[at + 4], 0, std::uint8_t(manner_ == Manner::NoContext ? 3 : 0), 0};
                proposed.emplace_back();
                for (std::size_t sub = at + 8; sub + 4 <= at + 4 + size;) {
                    const std::size_t sub_size = get16(request, sub + 2);
                    if (request[sub] == 0x40) proposed.back().push_back(text(request, sub + 4, sub_size));
                    sub += 4 + sub_size;
                }
                const std::string jpeg = "1.2.840.10008.1.2.4.50";
                append(context, item(0x40, manner_ == Manner::OtherSyntax ? jpeg : proposed.back().at(0)));
                append(body, item(0x21, context));
            }
            at += 4 + size;
        }
        Bytes length;
        put32(length, manner_ == Manner::TinyPdu ? 128 : 16384);
        Bytes user = item(0x51, length);
        append(user, item(0x52, std::string("1.2.276.0.7230010.3.0.3.6.7")));
        append(body, item(0x50, user));
        const std::lock_guard lock(mutex_);
        proposed_ = proposed;
        return pdu(0x02, body);
    }

    static void put_element(Bytes& b, int element, const Bytes& value) {
        b.insert(b.end(), {0, 0, std::uint8_t(element), std::uint8_t(element >> 8), std::uint8_t(value.size()),
                           std::uint8_t(value.size() >> 8), 0, 0});
        append(b, value);
    }
    static Bytes u16(int v) { return {std::uint8_t(v), std::uint8_t(v >> 8)}; }
    static Bytes uid(std::string v) {
        if (v.size() % 2 != 0) v.push_back('\0');
        return Bytes(v.begin(), v.end());
    }
    /// Value of an element of the command set (implicit little endian).
    static Bytes element_of(const Bytes& command, int element) {
        for (std::size_t at = 0; at + 8 <= command.size();) {
            const std::size_t size = command[at + 4] | command[at + 5] << 8;
            if ((command[at + 2] | command[at + 3] << 8) == element) {
                return Bytes(command.begin() + std::ptrdiff_t(at + 8), command.begin() + std::ptrdiff_t(at + 8 + size));
            }
            at += 8 + size;
        }
        throw std::runtime_error("no such element");
    }
    Bytes response_pdu(std::uint8_t context, const Bytes& command) {
        Bytes id = element_of(command, 0x0110), instance = element_of(command, 0x1000);
        if (manner_ == Manner::WrongMessage) id[0] = std::uint8_t(id[0] + 1);
        if (manner_ == Manner::WrongInstance) instance = uid("1.2.3.4");
        Bytes elements;
        put_element(elements, 0x0002, element_of(command, 0x0002));
        put_element(elements, 0x0100, u16(manner_ == Manner::WrongCommand ? 0x8030 : 0x8001));
        put_element(elements, 0x0120, id);
        put_element(elements, 0x0800, u16(0x0101));
        if (manner_ != Manner::NoStatus) put_element(elements, 0x0900, u16(status_));
        put_element(elements, 0x1000, instance);
        Bytes set;
        Bytes length = {std::uint8_t(elements.size()), std::uint8_t(elements.size() >> 8), 0, 0};
        put_element(set, 0x0000, length);
        append(set, elements);
        Bytes pdv;
        put32(pdv, set.size() + 2);
        pdv.push_back(context);
        pdv.push_back(0x03);
        append(pdv, set);
        return pdu(0x04, pdv);
    }

    void associate(int fd, const std::stop_token& stop) {
        if (manner_ == Manner::CloseAtOnce) return;
        if (manner_ == Manner::SayNothing) return idle(stop);
        const auto request = read_pdu(fd, stop);
        if (!request || request->first != 0x01) return;
        if (manner_ == Manner::RejectForGood) return write(fd, pdu(0x03, {0, 1, 1, 7}));
        if (manner_ == Manner::RejectForNow) return write(fd, pdu(0x03, {0, 2, 3, 2}));
        if (manner_ == Manner::AbortOnAssociate) return write(fd, pdu(0x07, {0, 0, 2, 0}));
        if (manner_ == Manner::GarbageOnAssociate) return write(fd, garbage());
        if (manner_ == Manner::ResetAtOnce) return reset(fd);
        write(fd, accept_pdu(request->second));
        if (manner_ == Manner::StopReading) return idle(stop);
        Bytes command;
        while (const auto next = read_pdu(fd, stop)) {
            if (next->first == 0x05)
                return manner_ == Manner::NoAnswerToRelease ? idle(stop) : write(fd, pdu(0x06, {0, 0, 0, 0}));
            if (next->first != 0x04) return;
            for (std::size_t at = 0; at + 6 <= next->second.size();) {
                const std::size_t size = get16(next->second, at) << 16 | get16(next->second, at + 2);
                const std::uint8_t context = next->second[at + 4], control = next->second[at + 5];
                if ((control & 1) != 0) {
                    command.insert(command.end(), next->second.begin() + std::ptrdiff_t(at + 6),
                                   next->second.begin() + std::ptrdiff_t(at + 4 + size));
                }
                at += 4 + size;
                if (control != 0x02) continue;
                if (!answer_store(fd, context, command, stop)) return;
                command.clear();
            }
        }
    }

    /// The object came whole. false: the association is over.
    bool answer_store(int fd, std::uint8_t context, const Bytes& command, const std::stop_token& stop) {
        if (judged_kept(status_)) keep(command);
        const Bytes response = response_pdu(context, command);
        switch (manner_) {
            case Manner::AbortOnStore: write(fd, pdu(0x07, {0, 0, 2, 0})); return false;
            case Manner::CloseOnStore: return false;
            case Manner::ResetOnStore: reset(fd); return false;
            case Manner::GarbageOnStore: write(fd, garbage()); return false;
            case Manner::HalfAnswer: write(fd, Bytes(response.begin(), response.begin() + 40)); return false;
            case Manner::HugeAnswer: {
                Bytes huge = response;
                for (int i = 2; i < 6; ++i) huge[std::size_t(i)] = 0xff;
                write(fd, huge);
                idle(stop);
                return false;
            }
            case Manner::NoAnswerToStore: idle(stop); return false;
            case Manner::LateAnswer: pause(kLate, stop); break;
            case Manner::DoubleAnswer: write(fd, response); break;
            default: break;
        }
        write(fd, response);
        ++stored_;
        return manner_ != Manner::CloseAfterAnswer;
    }
    /// Success, warning, duplicate: a PACS that says so has it.
    static bool judged_kept(std::uint16_t status) {
        return status == 0 || status == 1 || status == 0x0107 || status == 0x0111 || status == 0x0116 ||
               (status & 0xF000) == 0xB000;
    }
    void keep(const Bytes& command) {
        const Bytes uid = element_of(command, 0x1000);
        std::string name(uid.begin(), uid.end());
        while (!name.empty() && name.back() == '\0') name.pop_back();
        const std::lock_guard lock(mutex_);
        ++held_[name];
    }

    std::atomic<Manner> manner_;
    std::atomic<std::uint16_t> status_;
    FileDescriptor listener_;
    int port_ = 0;
    std::atomic<int> stored_{0}, connections_{0};
    mutable std::mutex mutex_;
    std::vector<std::vector<std::string>> proposed_;
    std::map<std::string, int> held_;
    std::jthread thread_;
};

}  // namespace cardionode::test
