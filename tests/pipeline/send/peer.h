// A storage SCP that misbehaves in one stated way, from raw sockets, on 127.0.0.1.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "conf/base/files.h"

namespace cardionode::test {

enum class Manner {
    Answer,           ///< takes the object and answers with `status`
    RejectForGood,    ///< A-ASSOCIATE-RJ 1, 1, 7
    RejectForNow,     ///< A-ASSOCIATE-RJ 2, 3, 2
    CloseAtOnce,      ///< closes without a word
    SayNothing,       ///< accepts the connection and never answers
    NoContext,        ///< accepts the association, but no presentation context
    AbortOnStore,     ///< A-ABORT in place of the response
    CloseOnStore,     ///< closes in place of the response
    NoAnswerToStore,  ///< takes the object and never answers
    WrongMessage,     ///< success for another message
    WrongInstance,    ///< success for another instance
    StopReading,      ///< accepts the association and reads nothing more
};

class Peer {
public:
    using Bytes = std::vector<std::uint8_t>;
    explicit Peer(Manner manner, std::uint16_t status = 0) : manner_(manner), status_(status) {
        listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (manner == Manner::StopReading) {
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
    int connections() const { return connections_; }
    /// Transfer syntaxes that the last association proposed, in order, one list a context.
    std::vector<std::vector<std::string>> proposed() const {
        const std::lock_guard lock(mutex_);
        return proposed_;
    }
    void set_manner(Manner manner) { manner_ = manner; }

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
            const ssize_t n = ::read(fd, to.data() + got, size - got);
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
    void idle(const std::stop_token& stop) {
        while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
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
                append(context, item(0x40, proposed.back().at(0)));
                append(body, item(0x21, context));
            }
            at += 4 + size;
        }
        Bytes length;
        put32(length, 16384);
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
        put_element(elements, 0x0100, u16(0x8001));
        put_element(elements, 0x0120, id);
        put_element(elements, 0x0800, u16(0x0101));
        put_element(elements, 0x0900, u16(status_));
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
        write(fd, accept_pdu(request->second));
        if (manner_ == Manner::StopReading) return idle(stop);
        Bytes command;
        while (const auto next = read_pdu(fd, stop)) {
            if (next->first == 0x05) return write(fd, pdu(0x06, {0, 0, 0, 0}));
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
                if (manner_ == Manner::AbortOnStore) return write(fd, pdu(0x07, {0, 0, 2, 0}));
                if (manner_ == Manner::CloseOnStore) return;
                if (manner_ == Manner::NoAnswerToStore) return idle(stop);
                write(fd, response_pdu(context, command));
                command.clear();
                ++stored_;
            }
        }
    }

    std::atomic<Manner> manner_;
    std::uint16_t status_;
    FileDescriptor listener_;
    int port_ = 0;
    std::atomic<int> stored_{0}, connections_{0};
    mutable std::mutex mutex_;
    std::vector<std::vector<std::string>> proposed_;
    std::jthread thread_;
};

}  // namespace cardionode::test
