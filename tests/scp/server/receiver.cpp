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

RawPeer::~RawPeer() {
    if (fd_ >= 0) ::close(fd_);
}

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

void RawPeer::close_half() { ::shutdown(fd_, SHUT_WR); }

void RawPeer::reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    ::close(fd_);
    fd_ = -1;
}

bool echo_works(int port) {
    RawPeer peer(port);
    peer.send(associate_request({{3, "1.2.840.10008.1.1", {std::string(kImplicit)}}}));
    if (peer.receive_pdu().substr(0, 1) != "\2") return false;
    peer.send(data_pdu(3, 3, echo_command()));
    return response_of(peer.receive_pdu()).first == 0;
}

}  // namespace cardionode::test
