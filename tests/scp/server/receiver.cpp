#include "tests/scp/server/receiver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "scp/dicom/part10.h"
#include "tests/support/free_port.h"

namespace cardionode::test {
namespace fs = std::filesystem;

Receiver::Receiver(std::string scp_settings, fs::path spool)
    : scp_settings_(std::move(scp_settings)),
      spool_(spool.empty() ? folder_ / "spool" : std::move(spool)),
      port_(free_port()) {}

Receiver::~Receiver() {
    if (process_) process_->kill_hard();
    if (::testing::Test::HasFailure()) {
        const std::string text = log();
        std::cerr << text.substr(text.size() - std::min<std::size_t>(text.size(), 3000));
    }
}

void Receiver::write_settings() const {
    std::ofstream(folder_ / "node.yaml")
        << "node:\n  spool: " << spool_.string() << "\n  work: " << (folder_ / "work").string()
        << "\n  database: " << (folder_ / "queue/queue.db").string() << "\n  log_level: debug\nscp:\n  port: " << port_
        << "\n"
        << (scp_settings_.find("min_free_mib") == std::string::npos ? "  min_free_mib: 0\n" : "") << scp_settings_;
}

void Receiver::change_settings(std::string scp_settings) {
    scp_settings_ = std::move(scp_settings);
    write_settings();
}

std::string Receiver::reload() {
    const std::size_t before = log().size();
    process_->signal(SIGHUP);
    std::string line;
    eventually(std::chrono::seconds(10), [&] {
        std::istringstream news(log().substr(before));
        while (std::getline(news, line) && !news.eof())
            if (line.find(" reloaded") != std::string::npos || line.find(" reload_failed") != std::string::npos)
                return true;
        line.clear();
        return false;
    });
    return line;
}

void Receiver::start(const std::map<std::string, std::string>& environment, int port) {
    write_settings();
    Process::Options options;
    options.output = folder_ / "log";
    options.environment = environment;
    process_.emplace(
        Process::start({program("cardionode-scp"), "--config", (folder_ / "node.yaml").string()}, options));
    if (!eventually(std::chrono::seconds(30),
                    [&] { return listens(port == 0 ? port_ : port) || !process_->running(); }) ||
        !process_->running())
        throw std::runtime_error("the receiver did not start: " + log());
}

Finished Receiver::run_to_end() {
    write_settings();
    return run({program("cardionode-scp"), "--config", (folder_ / "node.yaml").string()}, std::chrono::seconds(20));
}

std::string Receiver::log() const {
    std::ifstream in(folder_ / "log");
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

bool Receiver::wait_for_log(const std::string& text, std::chrono::seconds longest) const {
    return eventually(longest, [&] { return log().find(text) != std::string::npos; });
}

std::vector<pid_t> Receiver::children() const {
    const pid_t pid = process_->pid();
    std::ifstream in("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
    std::vector<pid_t> found;
    for (pid_t child = 0; in >> child;) found.push_back(child);
    return found;
}

Queue Receiver::queue() const {
    auto queue = Queue::open(folder_ / "queue/queue.db");
    if (!queue) throw std::runtime_error(queue.error().message);
    return std::move(queue).value();
}

std::multiset<std::string> Receiver::stored() const {
    Queue q = queue();
    std::multiset<std::string> found;
    const std::vector<StudyRow> studies = q.studies(10'000).value();
    for (const StudyRow& study : studies) {
        const std::vector<InstanceRow> rows = q.instances_of(study.study_key).value();
        for (const InstanceRow& row : rows) {
            const std::string whole = read_file(spool_ / row.file).value();
            const auto parsed = parse_file_meta(std::as_bytes(std::span(whole.data(), whole.size())));
            EXPECT_TRUE(parsed.ok());
            EXPECT_EQ(parsed->meta.transfer_syntax_uid, row.transfer_syntax_uid);
            EXPECT_EQ(parsed->meta.sop_instance_uid, row.sop_instance_uid);
            EXPECT_EQ(sha256_hex(std::string_view(whole).substr(parsed->data_set_offset)), row.sha256);
            found.insert(row.sha256);
        }
    }
    return found;
}

bool Receiver::wait_for_stored(std::size_t count, std::chrono::seconds longest) const {
    return eventually(longest, [&] {
        Queue q = queue();
        const auto status = q.known_files();
        return status.ok() && status->size() >= count;
    });
}

std::size_t Receiver::files_in(const std::string& folder) const {
    std::size_t files = 0;
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(spool_ / folder, error))
        files += entry.is_regular_file() ? 1 : 0;
    return files;
}

std::string sha256_of(const Instance& instance) {
    return sha256_hex({reinterpret_cast<const char*>(instance.dataset.data()), instance.dataset.size()});
}

RawPeer::RawPeer(int port, const std::string& from) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    sockaddr_in own{};
    own.sin_family = AF_INET;
    if (::inet_pton(AF_INET, from.c_str(), &own.sin_addr) != 1 ||
        ::bind(fd_, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0)
        throw std::runtime_error("bind");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw std::runtime_error("connect");
}

RawPeer::~RawPeer() { ::close(fd_); }

void RawPeer::send(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const ssize_t n = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
        if (n <= 0) return;  // the peer may have closed: its answer is what the test looks at
        at += static_cast<std::size_t>(n);
    }
}

std::string RawPeer::receive_all(std::chrono::milliseconds longest) {
    const auto until = std::chrono::steady_clock::now() + longest;
    std::string all;
    while (true) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        pollfd item{fd_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&item, 1, static_cast<int>(left.count())) <= 0) return all;
        char buffer[65536];
        const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
        if (n <= 0) return all;
        all.append(buffer, static_cast<std::size_t>(n));
    }
}

std::string RawPeer::receive_pdu(std::chrono::milliseconds longest) {
    const auto until = std::chrono::steady_clock::now() + longest;
    std::string got;
    while (true) {
        std::size_t wanted = 6;
        if (got.size() >= 6) {
            for (int i = 2; i < 6; ++i)
                wanted += static_cast<std::size_t>(static_cast<unsigned char>(got[static_cast<std::size_t>(i)]))
                          << 8 * (5 - i);
            if (got.size() == wanted) return got;
        }
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        pollfd item{fd_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&item, 1, static_cast<int>(left.count())) <= 0) return {};
        std::string part(wanted - got.size(), '\0');
        const ssize_t n = ::recv(fd_, part.data(), part.size(), 0);
        if (n <= 0) return {};
        got.append(part, 0, static_cast<std::size_t>(n));
    }
}

bool RawPeer::closed_within(std::chrono::milliseconds longest) {
    const auto until = std::chrono::steady_clock::now() + longest;
    while (std::chrono::steady_clock::now() < until) {
        pollfd item{fd_, POLLIN, 0};
        ::poll(&item, 1, 50);
        char buffer[4096];
        const ssize_t n = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return true;
    }
    return false;
}

namespace {

std::string be(std::size_t value, int bytes) {
    std::string out;
    for (int i = bytes; i-- > 0;) out += static_cast<char>(value >> 8 * i & 0xff);
    return out;
}
std::string le(std::size_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xff);
    return out;
}
std::string item(int type, const std::string& body) {
    return be(static_cast<std::size_t>(type), 1) + be(0, 1) + be(body.size(), 2) + body;
}
std::string element(int number, std::string value) {
    if (value.size() % 2 == 1) value += '\0';
    return le(0, 2) + le(static_cast<std::size_t>(number), 2) + le(value.size(), 4) + value;
}
std::string command(const std::string& elements) { return element(0, le(elements.size(), 4)) + elements; }

}  // namespace

std::string pdu(int type, const std::string& body) {
    return be(static_cast<std::size_t>(type), 1) + be(0, 1) + be(body.size(), 4) + body;
}

std::string associate_request(const std::vector<Proposal>& proposals, const std::string& called,
                              const std::string& calling, const std::string& application_context, int version,
                              std::uint32_t max_pdu) {
    std::string body = be(static_cast<std::size_t>(version), 2) + be(0, 2) + called +
                       std::string(16 - called.size(), ' ') + calling + std::string(16 - calling.size(), ' ') +
                       std::string(32, '\0') + item(0x10, application_context);
    for (const Proposal& proposal : proposals) {
        std::string context =
            be(static_cast<std::size_t>(proposal.id), 1) + be(0, 3) + item(0x30, proposal.abstract_syntax);
        for (const std::string& syntax : proposal.transfer_syntaxes) context += item(0x40, syntax);
        body += item(0x20, context);
    }
    return pdu(1, body + item(0x50, item(0x51, be(max_pdu, 4)) + item(0x52, "1.2.3.4") + item(0x55, "TEST")));
}

std::string data_pdu(int context, int control, const std::string& bytes) {
    return pdu(4, be(bytes.size() + 2, 4) + be(static_cast<std::size_t>(context), 1) +
                      be(static_cast<std::size_t>(control), 1) + bytes);
}

std::string store_command(const Instance& instance, int message_id, int data_set_type) {
    return command(element(0x0002, instance.sop_class_uid) + element(0x0100, le(1, 2)) +
                   element(0x0110, le(static_cast<std::size_t>(message_id), 2)) + element(0x0700, le(0, 2)) +
                   element(0x0800, le(static_cast<std::size_t>(data_set_type), 2)) +
                   element(0x1000, instance.sop_instance_uid));
}

std::string echo_command(int message_id) {
    return command(element(0x0002, "1.2.840.10008.1.1") + element(0x0100, le(0x30, 2)) +
                   element(0x0110, le(static_cast<std::size_t>(message_id), 2)) + element(0x0800, le(0x0101, 2)));
}

std::pair<int, std::string> response_of(const std::string& bytes) {
    if (bytes.size() < 12 || bytes[0] != 4) return {-1, {}};
    std::pair<int, std::string> found{-1, {}};
    for (std::size_t at = 12; at + 8 <= bytes.size();) {
        const auto number = [&](std::size_t offset, int width) {
            std::size_t value = 0;
            for (int i = width; i-- > 0;)
                value = value << 8 | static_cast<unsigned char>(bytes[at + offset + static_cast<std::size_t>(i)]);
            return value;
        };
        const std::size_t length = number(4, 4);
        if (number(2, 2) == 0x0900) found.first = static_cast<int>(number(8, 2));
        if (number(2, 2) == 0x0902) found.second = bytes.substr(at + 8, length);
        at += 8 + length;
    }
    return found;
}

}  // namespace cardionode::test
