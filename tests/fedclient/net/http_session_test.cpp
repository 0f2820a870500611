#include "fedclient/net/http_session.h"

#include <atomic>
#include <cstdio>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "tests/support/authority.h"
#include "tests/support/fake_clock.h"
#include "tests/support/memory_peak.h"
#include "tests/support/scripted_server.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using test::Authority;
using test::ScriptedServer;
using testing::HasSubstr;

void keep_private(const std::filesystem::path& key) {
    std::filesystem::permissions(key, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

std::string pin_of(const std::filesystem::path& certificate) {
    std::FILE* file = std::fopen(certificate.c_str(), "rb");
    X509* c = PEM_read_X509(file, nullptr, nullptr, nullptr);
    std::fclose(file);
    unsigned char* der = nullptr;
    const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c), &der);
    std::string pin = sha256_hex({reinterpret_cast<char*>(der), static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    X509_free(c);
    return pin;
}

ScriptedServer::Answer echo(const ScriptedServer::Request& request) {
    ScriptedServer::Answer answer;
    answer.body = request.target + ":" + request.body;
    return answer;
}

/// A consortium: its authority, a server and a hospital with certificates.
class OverTls : public testing::Test {
protected:
    OverTls() : authority(folder.path(), "consortium") {
        server_files = authority.issue("server", {"server", "IP:127.0.0.1"});
        hospital = authority.issue("hospital", {"hospital-a", ""});
        keep_private(hospital.key);
        options.ca = authority.certificate();
        options.certificate = hospital.certificate;
        options.key = hospital.key;
        options.pins = {pin_of(server_files.certificate)};
    }

    std::unique_ptr<ScriptedServer> serve(const Authority::Issued& shown, ScriptedServer::Handler handler = echo) {
        auto server = std::make_unique<ScriptedServer>(
            std::move(handler), ScriptedServer::Tls{authority.certificate(), shown.certificate, shown.key});
        options.url = server->url();
        return server;
    }

    Result<HttpAnswer> post(const std::string& body = "hello") {
        auto session = HttpSession::create(options);
        if (!session) return session.error();
        HttpRequest request;
        request.path = "/call";
        request.body = BodySource::of(body);
        return session->post(request);
    }

    void expect_config_error(const std::string& words) {
        const auto answer = post();
        ASSERT_FALSE(answer.ok());
        EXPECT_EQ(answer.error().kind, ErrorKind::Config) << answer.error().message;
        EXPECT_THAT(answer.error().message, HasSubstr(words));
    }

    test::TemporaryFolder folder;
    Authority authority;
    Authority::Issued server_files, hospital;
    HttpOptions options;
};

TEST_F(OverTls, SpeaksTls13AndShowsTheHospitalsCertificate) {
    std::string version, subject;
    const auto server = serve(server_files, [&](const ScriptedServer::Request& request) {
        version = request.tls_version;
        subject = request.peer_subject;
        return echo(request);
    });
    const auto answer = post();
    ASSERT_TRUE(answer.ok()) << answer.error().message;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "/call:hello");
    EXPECT_EQ(version, "TLSv1.3");
    EXPECT_EQ(subject, "hospital-a");
}

TEST_F(OverTls, RefusesAServerWhoseKeyIsNotPinned) {
    int requests = 0;
    const auto server = serve(server_files, [&](const auto& request) {
        ++requests;
        return echo(request);
    });
    options.pins = {std::string(64, 'a')};
    expect_config_error("none of the pinned ones");
    EXPECT_EQ(requests, 0);
}

TEST_F(OverTls, AcceptsTheNextPinBesideTheCurrentOne) {
    const auto server = serve(server_files);
    options.pins = {std::string(64, 'a'), pin_of(server_files.certificate)};
    EXPECT_TRUE(post().ok());
}

TEST_F(OverTls, RefusesAnExpiredServerCertificate) {
    const auto server = serve(authority.issue("old", {"server", "IP:127.0.0.1", -20, -1}));
    options.pins.clear();
    expect_config_error("expired");
}

TEST_F(OverTls, RefusesAServerOfAnotherAuthority) {
    Authority stranger(folder / "stranger", "stranger");
    const auto server = serve(stranger.issue("server", {"server", "IP:127.0.0.1"}));
    options.pins.clear();
    expect_config_error("server's certificate");
}

TEST_F(OverTls, RefusesACertificateForAnotherName) {
    const auto server = serve(authority.issue("other", {"server", "DNS:elsewhere.example"}));
    options.pins.clear();
    expect_config_error("mismatch");
}

TEST_F(OverTls, RefusesTls12) {
    const ScriptedServer server(
        echo, ScriptedServer::Tls{authority.certificate(), server_files.certificate, server_files.key, true, true});
    options.url = server.url();
    const auto answer = post();
    ASSERT_FALSE(answer.ok());
    EXPECT_THAT(answer.error().message, HasSubstr("TLS"));
}

TEST_F(OverTls, TellsWhenTheServerWantsACertificate) {
    const auto server = serve(server_files);
    options.certificate.clear();
    options.key.clear();
    expect_config_error("does not accept this hospital's certificate");
}

TEST_F(OverTls, TellsWhenTheServerDoesNotKnowTheHospitalsAuthority) {
    Authority stranger(folder / "stranger", "stranger");
    const auto own = stranger.issue("hospital");
    keep_private(own.key);
    const auto server = serve(server_files);
    options.certificate = own.certificate;
    options.key = own.key;
    expect_config_error("does not accept this hospital's certificate");
}

TEST_F(OverTls, RefusesAKeyThatOthersMayRead) {
    const auto server = serve(server_files);
    std::filesystem::permissions(hospital.key, std::filesystem::perms::others_read, std::filesystem::perm_options::add);
    expect_config_error("0600");
}

TEST_F(OverTls, RefusesAnOwnCertificateThatHasExpired) {
    const auto server = serve(server_files);
    const auto old = authority.issue("old", {"hospital-a", "", -20, -1});
    keep_private(old.key);
    options.certificate = old.certificate;
    options.key = old.key;
    expect_config_error("has expired");
}

TEST_F(OverTls, RefusesAKeyOfAnotherCertificate) {
    const auto server = serve(server_files);
    const auto other = authority.issue("other");
    keep_private(other.key);
    options.key = other.key;
    expect_config_error("key");
}

TEST_F(OverTls, NamesAPinThatIsNone) {
    const auto server = serve(server_files);
    options.pins = {"sha256//abc"};
    expect_config_error("64 hex digits");
}

TEST_F(OverTls, StreamsSixtyMegabytesBothWaysInLittleMemory) {
    constexpr std::uint64_t kBytes = 60'000'000;
    std::string arrived;
    const auto server = serve(server_files, [&](const ScriptedServer::Request& request) {
        arrived = request.body_sha256;
        ScriptedServer::Answer answer;
        answer.generated = kBytes;
        return answer;
    });
    auto session = HttpSession::create(options);
    ASSERT_TRUE(session.ok());
    const auto value = [](std::uint64_t i) { return static_cast<std::byte>(i % 251); };
    Sha256 all;
    for (std::uint64_t i = 0; i < kBytes; i += 251) {
        std::byte block[251];
        const std::size_t n = std::min<std::uint64_t>(251, kBytes - i);
        for (std::size_t k = 0; k < n; ++k) block[k] = value(k);
        all.update(std::span(block, n));
    }
    const std::string expected = all.hex_digest();
    HttpRequest request;
    request.path = "/";
    request.body.size = kBytes;
    request.body.read = [&](std::uint64_t offset, std::span<std::byte> target) -> Result<void> {
        for (std::byte& byte : target) byte = value(offset++);
        return {};
    };
    Sha256 received;
    std::uint64_t bytes = 0;
    AnswerSink sink;
    sink.start = [&] { return Result<void>(); };
    sink.take = [&](std::span<const std::byte> piece) {
        received.update(piece);
        bytes += piece.size();
        return Result<void>();
    };
    const test::MemoryPeak peak;
    const auto answer = session->post(request, &sink);
    ASSERT_TRUE(answer.ok()) << answer.error().message;
    EXPECT_LT(peak.risen_megabytes(), 15);  // most of it the server's, which keeps the first 6 MiB
    EXPECT_EQ(bytes, kBytes);
    EXPECT_EQ(received.hex_digest(), expected);
    EXPECT_EQ(arrived, expected);
    EXPECT_EQ(session->totals().bytes_sent, kBytes);
    EXPECT_EQ(session->totals().bytes_received, kBytes);
}

// Faults of the network, over plain HTTP on this machine.
class OverHttp : public testing::Test {
protected:
    void serve(ScriptedServer::Handler handler) {
        server = std::make_unique<ScriptedServer>(std::move(handler));
        HttpOptions options;
        options.url = server->url();
        options.connect_time = options.transfer_time = options.answer_time = time;
        options.surroundings = surroundings;
        session.emplace(HttpSession::create(options).value());
    }
    Result<HttpAnswer> post(bool repeatable = true, const AnswerSink* sink = nullptr) {
        HttpRequest request;
        request.path = "/call";
        request.body = BodySource::of("hello");
        request.repeatable = repeatable;
        return session->post(request, sink);
    }

    Milliseconds time{5000};
    Surroundings surroundings;
    std::unique_ptr<ScriptedServer> server;
    std::optional<HttpSession> session;
};

TEST_F(OverHttp, KeepsOneConnection) {
    serve(echo);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(post().ok());
    EXPECT_EQ(server->connections(), 1);
    EXPECT_EQ(session->totals().calls, 3);
    EXPECT_EQ(session->totals().bytes_sent, 15U);
}

TEST_F(OverHttp, ReplacesAConnectionThatTheServerClosedMeanwhile) {
    serve([](const ScriptedServer::Request& request) {
        ScriptedServer::Answer answer = echo(request);
        answer.end = ScriptedServer::End::CloseSilently;
        return answer;
    });
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(post().ok());
    EXPECT_EQ(server->connections(), 5);
}

TEST_F(OverHttp, RepeatsARequestThatAKeptConnectionLost) {
    int requests = 0;
    serve([&](const ScriptedServer::Request& request) {
        ScriptedServer::Answer answer = echo(request);
        if (++requests == 2) answer.end = ScriptedServer::End::DropBeforeAnswer;
        return answer;
    });
    ASSERT_TRUE(post().ok());
    ASSERT_TRUE(post().ok());
    EXPECT_EQ(requests, 3);
}

TEST_F(OverHttp, DoesNotRepeatWhatTheServerMayHaveActedOn) {
    int requests = 0;
    serve([&](const ScriptedServer::Request& request) {
        ScriptedServer::Answer answer = echo(request);
        if (++requests == 2) answer.end = ScriptedServer::End::DropBeforeAnswer;
        return answer;
    });
    ASSERT_TRUE(post(false).ok());
    const auto answer = post(false);
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().kind, ErrorKind::Retry);
    EXPECT_TRUE(session->may_have_arrived());
    EXPECT_EQ(requests, 2);
}

TEST_F(OverHttp, TellsABodyThatIsCut) {
    serve([](const ScriptedServer::Request&) {
        ScriptedServer::Answer answer;
        answer.body = std::string(100'000, 'x');
        answer.end = ScriptedServer::End::CutBody;
        return answer;
    });
    const auto answer = post();
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().kind, ErrorKind::Retry);
    EXPECT_THAT(answer.error().message, HasSubstr("receiving an answer"));
}

TEST_F(OverHttp, DoesNotWaitForEver) {
    time = Milliseconds(200);
    serve([](const ScriptedServer::Request&) {
        ScriptedServer::Answer answer;
        answer.end = ScriptedServer::End::Stall;
        return answer;
    });
    const auto answer = post();
    ASSERT_FALSE(answer.ok());
    EXPECT_THAT(answer.error().message, HasSubstr("no answer in time"));
}

TEST_F(OverHttp, EndsSoonWhenCancelled) {
    std::atomic<bool> cancelled{false};
    surroundings.cancelled = [&] { return cancelled.load(); };
    serve([&](const ScriptedServer::Request&) {
        cancelled = true;
        ScriptedServer::Answer answer;
        answer.end = ScriptedServer::End::Stall;
        return answer;
    });
    const auto start = std::chrono::steady_clock::now();
    const auto answer = post();
    ASSERT_FALSE(answer.ok());
    EXPECT_THAT(answer.error().message, HasSubstr("stopped"));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

TEST_F(OverHttp, GivesTheStatusAndTheServersWords) {
    serve([](const ScriptedServer::Request&) {
        ScriptedServer::Answer answer;
        answer.status = 409;
        answer.body = "{}";
        return answer;
    });
    const auto answer = post();
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(answer->status, 409);
    EXPECT_EQ(answer->body, "{}");
}

TEST_F(OverHttp, ComparesTheClockWithTheServers) {
    test::FakeClock clock(Moment(Milliseconds(1'700'000'300'000)));
    surroundings.clock = &clock;
    serve([](const ScriptedServer::Request& request) {
        ScriptedServer::Answer answer = echo(request);
        answer.date = "Tue, 14 Nov 2023 22:13:20 GMT";  // 1,700,000,000
        return answer;
    });
    EXPECT_FALSE(session->clock_skew_seconds().has_value());
    ASSERT_TRUE(post().ok());
    EXPECT_EQ(session->clock_skew_seconds().value_or(0), 300);
}

TEST_F(OverHttp, RefusesAnAnswerThatIsTooLarge) {
    serve([](const ScriptedServer::Request&) {
        ScriptedServer::Answer answer;
        answer.generated = 17U << 20;
        return answer;
    });
    EXPECT_FALSE(post().ok());
}

TEST_F(OverHttp, SaysThatNobodyListens) {
    serve(echo);
    server.reset();
    const auto answer = post();
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().kind, ErrorKind::Retry);
    EXPECT_THAT(answer.error().message, HasSubstr("connecting to 127.0.0.1"));
}

TEST(HttpSession, SendsPlainHttpToThisMachineAlone) {
    HttpOptions options;
    options.url = "http://192.0.2.1:8000";
    auto session = HttpSession::create(options);
    ASSERT_TRUE(session.ok());
    HttpRequest request;
    request.path = "/";
    const auto answer = session->post(request);
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().kind, ErrorKind::Config);
    EXPECT_THAT(answer.error().message, HasSubstr("only https"));
}

TEST(HttpSession, NamesAnAddressThatIsNone) {
    for (const char* url :
         {"ftp://a", "example.org", "https://", "https://a:99999", "https://a:x", "https://u@a", "http://[::1"}) {
        HttpOptions options;
        options.url = url;
        const auto session = HttpSession::create(options);
        ASSERT_FALSE(session.ok()) << url;
        EXPECT_EQ(session.error().kind, ErrorKind::Config);
    }
}

}  // namespace
}  // namespace cardionode::fed
