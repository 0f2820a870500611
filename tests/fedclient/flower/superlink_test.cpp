// The client against a real Fleet HTTP server, for example a Flower SuperLink with a run waiting. Skipped unless
//   FEDCLIENT_SUPERLINK_URL      http://127.0.0.1:9095 or https://...
// is set. Also looked at: FEDCLIENT_SUPERLINK_DIALECT (v0 or v1; v0), _NODE_KEY (PEM; a new one without), _CA,
// _CERTIFICATE, _KEY, _PIN, and _SECONDS (how long to wait for a message; 60).
// It answers each train message with the weights it got, and each evaluate message with a metric, until none comes.
#include <cstdlib>
#include <thread>

#include <gtest/gtest.h>

#include "fedclient/flower/flower_http.h"
#include "tests/support/authority.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

std::string setting(const std::string& name, const std::string& otherwise = "") {
    const char* value = std::getenv(("FEDCLIENT_SUPERLINK_" + name).c_str());
    return value ? value : otherwise;
}

TEST(SuperLink, RoundsWithARealServer) {
    TransportOptions options;
    options.http.url = setting("URL");
    if (options.http.url.empty()) GTEST_SKIP() << "FEDCLIENT_SUPERLINK_URL is not set";
    test::TemporaryFolder folder;
    test::Authority authority(folder / "pki", "self");
    const auto made_key = authority.issue("node");
    std::filesystem::permissions(made_key.key, std::filesystem::perms::owner_read);
    options.dialect = setting("DIALECT", "v0") == "v1" ? Dialect::V1 : Dialect::V0;
    options.node_key = setting("NODE_KEY", made_key.key.string());
    options.work = folder / "work";
    options.http.ca = setting("CA");
    options.http.certificate = setting("CERTIFICATE");
    options.http.key = setting("KEY");
    if (!setting("PIN").empty()) options.http.pins = {setting("PIN")};
    options.patience = std::chrono::seconds(30);
    auto made = make_flower_transport(options);
    ASSERT_TRUE(made.ok()) << made.error().message;
    Transport& transport = **made;
    const auto joined = transport.join();
    ASSERT_TRUE(joined.ok()) << joined.error().message;

    int answered = 0;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(std::stoi(setting("SECONDS", "60")));
    auto wait_until = until;
    while (std::chrono::steady_clock::now() < wait_until) {
        const auto message = transport.poll();
        ASSERT_TRUE(message.ok()) << message.error().message;
        if (!*message) {
            std::this_thread::sleep_for(std::chrono::seconds(1));
            continue;
        }
        const auto pulled = transport.fetch(**message);
        ASSERT_TRUE(pulled.ok()) << pulled.error().message;
        Reply reply;
        reply.metrics = {{"num-examples", std::int64_t{10}}, {"loss", 0.5}};
        if ((*message)->type == "train" && !pulled->arrays.empty())
            reply.weights = pulled->arrays.begin()->second.weights;
        const auto prepared = transport.prepare(**message, reply);
        ASSERT_TRUE(prepared.ok()) << prepared.error().message;
        const auto outcome = transport.push(**message);
        ASSERT_TRUE(outcome.ok()) << outcome.error().message;
        ASSERT_EQ(*outcome, PushOutcome::Stored);
        Receipt receipt = Receipt::Waiting;
        for (int i = 0; i < 60 && receipt == Receipt::Waiting; ++i) {
            const auto asked = transport.receipt(**message);
            ASSERT_TRUE(asked.ok()) << asked.error().message;
            receipt = *asked;
            if (receipt == Receipt::Waiting) std::this_thread::sleep_for(std::chrono::seconds(1));
        }
        EXPECT_EQ(receipt, Receipt::Taken);
        ++answered;
        wait_until = std::chrono::steady_clock::now() + std::chrono::seconds(20);  // for the next round
    }
    const auto left = transport.leave();
    EXPECT_TRUE(left.ok()) << left.error().message;
    EXPECT_GT(answered, 0) << "no message came: is a run submitted?";
}

}  // namespace
}  // namespace cardionode::fed
