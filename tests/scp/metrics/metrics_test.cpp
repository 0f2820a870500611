// The text that Prometheus reads, and the responder that gives it to whoever asks, however rudely.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "scp/metrics/exposition.h"
#include "scp/metrics/responder.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Type = Exposition::Type;

TEST(Exposition, WritesHelpTypeAndSamples) {
    Exposition out;
    out.counter("cardionode_things_total", "Things.", 3);
    out.family("cardionode_age_seconds", Type::Gauge, "Age.");
    out.sample(1.5, {{"state", "ready"}, {"destination", "a\"b\\c"}});
    EXPECT_EQ(out.text(),
              "# HELP cardionode_things_total Things.\n# TYPE cardionode_things_total counter\n"
              "cardionode_things_total 3\n"
              "# HELP cardionode_age_seconds Age.\n# TYPE cardionode_age_seconds gauge\n"
              "cardionode_age_seconds{state=\"ready\",destination=\"a\\\"b\\\\c\"} 1.5\n");
}

TEST(Exposition, KeepsLargeCountsExact) {
    EXPECT_THAT(Exposition().counter("a_total", "A.", 8'999'999'999'999'999.0).text(),
                HasSubstr("a_total 8999999999999999\n"));
}

class Responding : public ::testing::Test {
protected:
    void SetUp() override {
        auto responder = Responder::create(Responder::listen("127.0.0.1", port).value(),
                                           observe([] { return std::string("cardionode_up 1\n"); },
                                                   [this] {
                                                       return Health{not_live ? "dead" : "", not_ready ? "busy" : ""};
                                                   }));
        thread =
            std::thread([r = std::move(responder).value(), this]() mutable { r.run([this] { return stop.load(); }); });
    }
    void TearDown() override {
        stop = true;
        thread.join();
    }
    int connected() const {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval limit{10, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        return fd;
    }
    static std::string rest_of(int fd) {
        std::string all;
        char buffer[4096];
        for (ssize_t n = 0; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
            all.append(buffer, static_cast<std::size_t>(n));
        ::close(fd);
        return all;
    }
    std::string answer_to(const std::string& request) const {
        const int fd = connected();
        EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
        return rest_of(fd);
    }
    std::string get(const std::string& path) const { return answer_to("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"); }

    int port = test::free_port();
    std::atomic<bool> stop{false}, not_live{false}, not_ready{false};
    std::thread thread;
};

TEST_F(Responding, GivesMetricsWithPrometheusContentType) {
    const std::string answer = get("/metrics");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK"));
    EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4"));
    EXPECT_THAT(answer, HasSubstr("\r\n\r\ncardionode_up 1\n"));
    EXPECT_THAT(get("/metrics?x=1"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Responding, TellsLiveAndReadyApart) {
    EXPECT_THAT(get("/health/live"), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(get("/health/ready"), StartsWith("HTTP/1.1 200"));
    not_ready = true;
    EXPECT_THAT(get("/health/live"), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(get("/health/ready"), ::testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("not ready: busy")));
    EXPECT_THAT(get("/health"), StartsWith("HTTP/1.1 503"));
    not_live = true;
    EXPECT_THAT(get("/health/live"), ::testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("not live: dead")));
}

TEST_F(Responding, RefusesWhatIsNoReading) {
    EXPECT_THAT(answer_to("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
                StartsWith("HTTP/1.1 405"));
    EXPECT_THAT(get("/etc/passwd"), StartsWith("HTTP/1.1 404"));
    const std::string head = answer_to("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_THAT(head, ::testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 16"),
                                       ::testing::EndsWith("\r\n\r\n")));
}

TEST_F(Responding, ClosesWhatIsNoHttp) {
    for (const std::string& bytes : {std::string("\x01\x00\x00\x00\x00\xcd", 6) + std::string(200, '\0'),
                                     std::string("\x16\x03\x01\x02\x00", 5) + std::string(600, 'x'),
                                     "GET /metrics HTTP/1.1\r\nX: " + std::string(100'000, 'x')}) {
        const int fd = connected();
        (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        EXPECT_EQ(rest_of(fd).find("200"), std::string::npos);
    }
    EXPECT_THAT(get("/metrics"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Responding, SilentAndSlowPeersAreClosedInTimeAndOneTooManyAtOnce) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<int> silent;
    for (int i = 0; i < Responder::kMaxConnections; ++i) silent.push_back(connected());
    EXPECT_EQ(::send(silent[0], "GET /me", 7, MSG_NOSIGNAL), 7);
    EXPECT_TRUE(test::eventually(std::chrono::seconds(3), [&] { return get("/metrics").empty(); }));
    for (const int fd : silent) EXPECT_EQ(rest_of(fd), "");
    EXPECT_LT(std::chrono::steady_clock::now() - start, Responder::kTime + std::chrono::seconds(3));
    EXPECT_THAT(get("/metrics"), StartsWith("HTTP/1.1 200"));
}

TEST(Responder, NamesAPortThatIsTaken) {
    const int port = test::free_port();
    const auto first = Responder::listen("127.0.0.1", port);
    ASSERT_TRUE(first.ok());
    const auto second = Responder::listen("127.0.0.1", port);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, ErrorKind::Config);
    EXPECT_THAT(second.error().message, HasSubstr("metrics: listening on 127.0.0.1 port " + std::to_string(port)));
}

}  // namespace
}  // namespace cardionode
