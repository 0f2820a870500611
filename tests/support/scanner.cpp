#include "tests/support/scanner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace cardionode::test {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr auto kVerification = "1.2.840.10008.1.1";
constexpr auto kImplicitLittle = "1.2.840.10008.1.2";

void be16(Bytes& b, std::size_t v) {
    b.push_back(static_cast<std::uint8_t>(v >> 8));
    b.push_back(static_cast<std::uint8_t>(v));
}
void be32(Bytes& b, std::size_t v) {
    be16(b, v >> 16);
    be16(b, v & 0xffff);
}
void le16(Bytes& b, std::size_t v) {
    b.push_back(static_cast<std::uint8_t>(v));
    b.push_back(static_cast<std::uint8_t>(v >> 8));
}
void le32(Bytes& b, std::size_t v) {
    le16(b, v & 0xffff);
    le16(b, v >> 16);
}
void add(Bytes& b, const std::string& text) { b.insert(b.end(), text.begin(), text.end()); }
void add(Bytes& b, const Bytes& other) { b.insert(b.end(), other.begin(), other.end()); }
std::size_t read_be(const Bytes& b, std::size_t at, int bytes) {
    std::size_t v = 0;
    for (int i = 0; i < bytes; ++i) v = v << 8 | b.at(at + i);
    return v;
}
std::size_t read_le(const Bytes& b, std::size_t at, int bytes) {
    std::size_t v = 0;
    for (int i = bytes - 1; i >= 0; --i) v = v << 8 | b.at(at + i);
    return v;
}
Bytes item(int type, const Bytes& content) {
    Bytes b = {static_cast<std::uint8_t>(type), 0};
    be16(b, content.size());
    add(b, content);
    return b;
}
Bytes item(int type, const std::string& content) { return item(type, Bytes(content.begin(), content.end())); }
std::string padded(std::string text, std::size_t size, char with) {
    text.resize(size, with);
    return text;
}
std::string even(std::string uid) { return uid.size() % 2 ? uid + '\0' : uid; }

/// An element of a command set: implicit VR, little endian (PS3.7 6.3.1).
void command_element(Bytes& b, int element, const Bytes& value) {
    le16(b, 0);
    le16(b, element);
    le32(b, value.size());
    add(b, value);
}
Bytes us(std::size_t v) {
    Bytes b;
    le16(b, v);
    return b;
}
Bytes with_group_length(const Bytes& elements) {
    Bytes length;
    le32(length, elements.size());
    Bytes b;
    command_element(b, 0, length);
    add(b, elements);
    return b;
}

}  // namespace

Scanner::Scanner(int port, const std::vector<Instance>& instances, const Options& options) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const timeval longest{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof longest);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;

    Bytes body;
    be16(body, 1);  // protocol version
    be16(body, 0);
    add(body, padded(options.called_ae_title, 16, ' '));
    add(body, padded(options.calling_ae_title, 16, ' '));
    body.insert(body.end(), 32, 0);
    add(body, item(0x10, std::string("1.2.840.10008.3.1.1.1")));
    std::map<int, std::pair<std::string, std::string>> proposed;
    int id = 1;
    const auto propose = [&](const std::string& sop_class, const std::string& transfer_syntax) {
        for (const auto& [known, pair] : proposed) {
            if (pair == std::pair(sop_class, transfer_syntax)) return;
        }
        Bytes context = {static_cast<std::uint8_t>(id), 0, 0, 0};
        add(context, item(0x30, sop_class));
        add(context, item(0x40, transfer_syntax));
        add(body, item(0x20, context));
        proposed[id] = {sop_class, transfer_syntax};
        id += 2;
    };
    propose(kVerification, kImplicitLittle);
    for (const Instance& instance : instances) propose(instance.sop_class_uid, instance.transfer_syntax_uid);
    Bytes user;
    Bytes maximum;
    be32(maximum, 131072);
    add(user, item(0x51, maximum));
    add(user, item(0x52, std::string("2.25.12345678901234567890")));
    add(user, item(0x55, std::string("SCANNERTEST")));
    add(body, item(0x50, user));
    Bytes pdu = {1, 0};
    be32(pdu, body.size());
    add(pdu, body);
    if (!send_bytes(pdu)) return;

    int type = 0;
    const auto answer = receive_pdu(type);
    if (!answer || type != 2) return;
    for (std::size_t at = 68; at + 4 <= answer->size();) {
        const std::size_t size = read_be(*answer, at + 2, 2);
        if (answer->at(at) == 0x21 && answer->at(at + 6) == 0)
            contexts_[proposed[answer->at(at + 4)]] = answer->at(at + 4);
        if (answer->at(at) == 0x50) {
            for (std::size_t sub = at + 4; sub + 4 <= at + 4 + size;) {
                const std::size_t sub_size = read_be(*answer, sub + 2, 2);
                if (answer->at(sub) == 0x51) {
                    const std::size_t most = read_be(*answer, sub + 4, 4);
                    peer_maximum_ = most == 0 ? 131072 : most;
                }
                sub += 4 + sub_size;
            }
        }
        at += 4 + size;
    }
    accepted_ = true;
}

Scanner::~Scanner() {
    if (fd_ >= 0) ::close(fd_);
}

std::optional<int> Scanner::context_of(const std::string& sop_class, const std::string& transfer_syntax) const {
    const auto found = contexts_.find({sop_class, transfer_syntax});
    if (!accepted_ || found == contexts_.end()) return std::nullopt;
    return found->second;
}

bool Scanner::send_bytes(const Bytes& bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
        const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        sent += static_cast<std::size_t>(n);
    }
    return true;
}

bool Scanner::send_pdv(int context, bool command, bool last, const std::uint8_t* data, std::size_t size) {
    Bytes pdu = {4, 0};
    be32(pdu, size + 6);
    be32(pdu, size + 2);
    pdu.push_back(static_cast<std::uint8_t>(context));
    pdu.push_back(static_cast<std::uint8_t>((command ? 1 : 0) | (last ? 2 : 0)));
    pdu.insert(pdu.end(), data, data + size);
    return send_bytes(pdu);
}

bool Scanner::send_command(int context, const Bytes& command) {
    return send_pdv(context, true, true, command.data(), command.size());
}

bool Scanner::send_store_command(int context, const Instance& instance) {
    const auto uid = [](const std::string& text) {
        const std::string value = even(text);
        return Bytes(value.begin(), value.end());
    };
    Bytes elements;
    command_element(elements, 0x0002, uid(instance.sop_class_uid));
    command_element(elements, 0x0100, us(0x0001));  // C-STORE-RQ
    command_element(elements, 0x0110, us(++message_id_));
    command_element(elements, 0x0700, us(0));  // medium priority
    command_element(elements, 0x0800, us(1));  // a data set follows
    command_element(elements, 0x1000, uid(instance.sop_instance_uid));
    return send_command(context, with_group_length(elements));
}

std::optional<Bytes> Scanner::receive_pdu(int& type) {
    const auto receive = [this](Bytes& into) {
        std::size_t got = 0;
        while (got < into.size()) {
            const ssize_t n = ::recv(fd_, into.data() + got, into.size() - got, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return false;
            got += static_cast<std::size_t>(n);
        }
        return true;
    };
    Bytes head(6);
    if (!receive(head)) return std::nullopt;
    Bytes body(read_be(head, 2, 4));
    if (body.size() > (1u << 20) || !receive(body)) return std::nullopt;
    type = head[0];
    return body;
}

std::optional<int> Scanner::receive_status() {
    Bytes command;
    for (bool last = false; !last;) {
        int type = 0;
        const auto pdu = receive_pdu(type);
        if (!pdu || type != 4) return std::nullopt;
        for (std::size_t at = 0; at + 6 <= pdu->size();) {
            const std::size_t size = read_be(*pdu, at, 4);
            last = last || (pdu->at(at + 5) & 2) != 0;
            command.insert(command.end(), pdu->begin() + at + 6, pdu->begin() + at + 4 + size);
            at += 4 + size;
        }
    }
    for (std::size_t at = 0; at + 8 <= command.size();) {
        const std::size_t size = read_le(command, at + 4, 4);
        if (read_le(command, at, 2) == 0 && read_le(command, at + 2, 2) == 0x0900) {
            return static_cast<int>(read_le(command, at + 8, 2));
        }
        at += 8 + size;
    }
    return std::nullopt;
}

std::optional<int> Scanner::store(const Instance& instance) {
    const auto context = context_of(instance.sop_class_uid, instance.transfer_syntax_uid);
    if (!context || !send_store_command(*context, instance)) return std::nullopt;
    const std::size_t most = std::min<std::size_t>(peer_maximum_, 131072) - 6;
    std::size_t sent = 0;
    do {
        const std::size_t size = std::min(most, instance.dataset.size() - sent);
        const bool last = sent + size == instance.dataset.size();
        if (!send_pdv(*context, false, last, instance.dataset.data() + sent, size)) return std::nullopt;
        sent += size;
    } while (sent < instance.dataset.size());
    return receive_status();
}

void Scanner::begin_store(const Instance& instance, std::size_t bytes) {
    const auto context = context_of(instance.sop_class_uid, instance.transfer_syntax_uid);
    if (!context) throw std::runtime_error("no presentation context for this instance");
    bytes = std::min({bytes, instance.dataset.size(), std::min<std::size_t>(peer_maximum_, 131072) - 6});
    if (!send_store_command(*context, instance) || !send_pdv(*context, false, false, instance.dataset.data(), bytes)) {
        throw std::runtime_error("the peer closed the connection");
    }
}

std::optional<int> Scanner::echo() {
    const auto context = context_of(kVerification, kImplicitLittle);
    if (!context) return std::nullopt;
    const std::string uid = even(kVerification);
    Bytes elements;
    command_element(elements, 0x0002, Bytes(uid.begin(), uid.end()));
    command_element(elements, 0x0100, us(0x0030));  // C-ECHO-RQ
    command_element(elements, 0x0110, us(++message_id_));
    command_element(elements, 0x0800, us(0x0101));  // no data set
    if (!send_command(*context, with_group_length(elements))) return std::nullopt;
    return receive_status();
}

void Scanner::release() {
    if (!accepted_) return;
    Bytes pdu = {5, 0};
    be32(pdu, 4);
    be32(pdu, 0);
    int type = 0;
    if (send_bytes(pdu)) (void)receive_pdu(type);
}

std::map<std::string, int> send_all(int port, const std::vector<Instance>& instances, const Scanner::Options& options) {
    Scanner scanner(port, instances, options);
    std::map<std::string, int> answers;
    for (const Instance& instance : instances) {
        const auto status = scanner.store(instance);
        if (status) answers[instance.sop_instance_uid] = *status;
    }
    scanner.release();
    return answers;
}

}  // namespace cardionode::test
