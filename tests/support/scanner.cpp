#include "tests/support/scanner.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "tests/support/process.h"

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

std::string text_of_value(const Bytes& b, std::size_t at, std::size_t size) {
    std::string text(b.begin() + at, b.begin() + at + size);
    while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
    return text;
}

}  // namespace

Instance read_instance(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    const Bytes b((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (b.size() < 144 || std::memcmp(b.data() + 128, "DICM", 4) != 0) {
        throw std::runtime_error("no Part 10 file: " + file.string());
    }
    Instance instance;
    std::size_t at = 132;
    std::size_t end = b.size();
    while (at + 8 <= end && read_le(b, at, 2) == 2) {
        const std::size_t element = read_le(b, at + 2, 2);
        const std::string vr(b.begin() + at + 4, b.begin() + at + 6);
        const bool is_long = vr == "OB" || vr == "UN" || vr == "OW" || vr == "SQ" || vr == "UT";
        const std::size_t size = is_long ? read_le(b, at + 8, 4) : read_le(b, at + 6, 2);
        const std::size_t value = at + (is_long ? 12 : 8);
        if (value + size > b.size()) throw std::runtime_error("cut file meta information: " + file.string());
        if (element == 0x0000) end = std::min(b.size(), value + 4 + read_le(b, value, 4));
        if (element == 0x0002) instance.sop_class_uid = text_of_value(b, value, size);
        if (element == 0x0003) instance.sop_instance_uid = text_of_value(b, value, size);
        if (element == 0x0010) instance.transfer_syntax_uid = text_of_value(b, value, size);
        at = value + size;
    }
    instance.dataset.assign(b.begin() + at, b.end());
    return instance;
}

std::vector<Instance> read_instances(const std::filesystem::path& folder) {
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.is_regular_file() && entry.path().filename() != "LICENSE") files.insert(entry.path());
    }
    std::vector<Instance> instances;
    for (const auto& file : files) instances.push_back(read_instance(file));
    if (instances.empty()) throw std::runtime_error("no DICOM file in " + folder.string());
    return instances;
}

void write_instance(const Instance& instance, const std::filesystem::path& file) {
    Bytes meta;
    const auto uid_element = [&meta](int element, const std::string& uid) {
        le16(meta, 2);
        le16(meta, element);
        add(meta, std::string("UI"));
        const std::string value = even(uid);
        le16(meta, value.size());
        add(meta, value);
    };
    uid_element(0x0002, instance.sop_class_uid);
    uid_element(0x0003, instance.sop_instance_uid);
    uid_element(0x0010, instance.transfer_syntax_uid);
    Bytes b(128, 0);
    add(b, std::string("DICM"));
    le16(b, 2);
    le16(b, 0);
    add(b, std::string("UL"));
    le16(b, 4);
    le32(b, meta.size());
    add(b, meta);
    add(b, instance.dataset);
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
    if (!out) throw std::runtime_error("cannot write " + file.string());
}

std::vector<Instance> as_other_study(const std::vector<Instance>& instances, int number) {
    const auto changed = [number](std::string uid) {
        const std::string digits = std::to_string(1000 + number).substr(1);  // three digits
        if (uid.rfind("2.25.", 0) == 0 && uid.size() > 20) uid.replace(uid.size() - 3, 3, digits);
        return uid;
    };
    std::vector<Instance> others = instances;
    for (Instance& instance : others) {
        const std::string mark = "2.25.";
        auto at = instance.dataset.begin();
        while ((at = std::search(at, instance.dataset.end(), mark.begin(), mark.end())) != instance.dataset.end()) {
            auto end = at;
            while (end != instance.dataset.end() && ((*end >= '0' && *end <= '9') || *end == '.')) ++end;
            const std::string uid = changed(std::string(at, end));
            std::copy(uid.begin(), uid.end(), at);
            at = end;
        }
        instance.sop_instance_uid = changed(instance.sop_instance_uid);
    }
    return others;
}

std::filesystem::path cta_folder() {
    const std::filesystem::path data = std::filesystem::path(CARDIONODE_BINARY_DIR) / ".." / "test-data";
    std::filesystem::create_directories(data);
    const std::string lock_file = (data / "lock").string();
    const int lock = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0 || ::flock(lock, LOCK_EX) != 0) throw std::runtime_error("cannot lock " + lock_file);
    const std::filesystem::path done = data / "cta.unpacked";
    if (!std::filesystem::exists(done)) {  // tests run side by side: one of them unpacks
        const Finished tar = run(
            {"tar", "-xJf", std::string(CARDIONODE_SOURCE_DIR) + "/tests/data/cta/cta.tar.xz", "-C", data.string()});
        if (!tar.ok()) throw std::runtime_error("tar: " + tar.errors);
        std::ofstream(done) << "whole\n";
    }
    ::close(lock);
    return data / "cta";
}

std::vector<Instance> cta() { return read_instances(cta_folder()); }

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
