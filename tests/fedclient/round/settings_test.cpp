#include "fedclient/round/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "fedclient/round/consent.h"

namespace cardionode::fed {
namespace {

using testing::HasSubstr;

std::string problems_of(const std::string& federated) {
    auto settings = parse_federated("federated:\n" + federated, "node.yaml");
    return settings ? "" : settings.error().message;
}

/// Enough to be switched on, with files that need not be there.
const std::string kOn =
    "  enabled: true\n  consortium_key: k.pem\n  models: [{id: m, recipe: r.yaml, bundle: b}]\n"
    "  transport: {address: 'https://fed.example.org:443', ca: ca.pem, certificate: c.pem, key: k.pem, pins: ['" +
    std::string(64, 'a') + "']}\n";

TEST(FederatedSettings, TheShippedFileHoldsEveryDefaultAndIsOff) {
    const auto shipped = load_federated(CARDIONODE_SOURCE_DIR "/conf/node.yaml");
    ASSERT_TRUE(shipped.ok()) << shipped.error().message;
    const FederatedSettings &s = shipped->federated, d;
    EXPECT_FALSE(s.enabled);
    EXPECT_EQ(s.state, d.state);
    EXPECT_EQ(s.transport.kind, d.transport.kind);
    EXPECT_EQ(s.transport.heartbeat_seconds, d.transport.heartbeat_seconds);
    EXPECT_EQ(s.window.from, d.window.from);
    EXPECT_EQ(s.window.until, d.window.until);
    EXPECT_EQ(s.window.upload_reserve_seconds, d.window.upload_reserve_seconds);
    EXPECT_EQ(s.data.holdout, d.data.holdout);
    EXPECT_EQ(s.data.max_mib, d.data.max_mib);
    EXPECT_EQ(s.data.half, d.data.half);
    EXPECT_EQ(s.privacy.outbound.allowed, d.privacy.outbound.allowed);
    EXPECT_EQ(s.privacy.outbound.clip_norm, d.privacy.outbound.clip_norm);
    EXPECT_EQ(s.privacy.outbound.minimum_patients, d.privacy.outbound.minimum_patients);
    EXPECT_EQ(s.privacy.delta, d.privacy.delta);
    EXPECT_EQ(s.privacy.inbound.norm_factor, d.privacy.inbound.norm_factor);
    EXPECT_EQ(s.bounds.methods, d.bounds.methods);
    EXPECT_EQ(s.bounds.most_steps, d.bounds.most_steps);
    EXPECT_EQ(s.tolerance.dice, d.tolerance.dice);
    EXPECT_EQ(s.compute.device, d.compute.device);
    EXPECT_EQ(s.compute.cpu_percent, d.compute.cpu_percent);
    EXPECT_EQ(s.keep_accepted, d.keep_accepted);
    EXPECT_FALSE(s.promotion.automatic);
    EXPECT_EQ(s.promotion.least_dice, d.promotion.least_dice);
    EXPECT_EQ(s.promotion.keep, d.promotion.keep);
}

TEST(FederatedSettings, EveryKeyStandsInTheShippedFile) {
    auto text = read_file(CARDIONODE_SOURCE_DIR "/conf/node.yaml");
    ASSERT_TRUE(text.ok());
    // An unknown key names the known ones: each of them must be in the file.
    for (const char* section :
         {"", "transport", "window", "data", "privacy", "bounds", "tolerance", "compute", "promotion"}) {
        const std::string inside = *section == '\0' ? "  zzz: 1\n" : std::string("  ") + section + ": {zzz: 1}\n";
        const std::string message = problems_of(inside);
        const std::string list = message.substr(message.find("expected one of ") + 16);
        std::size_t keys = 0;
        for (std::size_t at = 0; at < list.size(); ++keys) {
            const std::size_t end = std::min(list.find(", ", at), list.size());
            EXPECT_THAT(*text, HasSubstr(list.substr(at, end - at) + ":")) << section;
            at = end + 2;
        }
        EXPECT_GE(keys, 2U) << message;
    }
}

TEST(FederatedSettings, SwitchedOnTheyNeedAServerAndKeys) {
    const std::string bare = problems_of("  enabled: true\n");
    EXPECT_THAT(bare, HasSubstr("federated.transport.address: expected https://HOST:PORT"));
    EXPECT_THAT(bare, HasSubstr("federated.models: expected at least one model"));
    EXPECT_THAT(bare, HasSubstr("federated.consortium_key: expected the consortium's public key"));
    EXPECT_EQ(problems_of(kOn), "");
    EXPECT_EQ(problems_of("  enabled: false\n"), "");
}

TEST(FederatedSettings, PlainHttpGoesToThisMachineAlone) {
    const std::string rest = ", node_key: n.pem}\n  consortium_key: k\n  models: [{id: m, recipe: r, bundle: b}]\n";
    EXPECT_THAT(problems_of("  enabled: true\n  transport: {address: 'http://fed.example.org:80'" + rest),
                HasSubstr("node.yaml:3: federated.transport.address: expected https"));
    EXPECT_EQ(problems_of("  enabled: true\n  transport: {address: 'http://127.0.0.1:80'" + rest), "");
}

TEST(FederatedSettings, MistakesAreNamedByLine) {
    EXPECT_THAT(problems_of("  window: {from: '25:00'}\n"), HasSubstr("node.yaml:2: federated.window.from"));
    EXPECT_THAT(problems_of("  transport: {pins: [abc]}\n"), HasSubstr("federated.transport.pins"));
    EXPECT_THAT(problems_of("  bounds: {methods: [magic]}\n"), HasSubstr("federated.bounds.methods"));
    EXPECT_THAT(problems_of("  privacy: {epsilon: 3}\n"), HasSubstr("expected noise_multiplier above 0"));
    EXPECT_THAT(problems_of("  models: [{id: '../x', recipe: r, bundle: b}]\n"), HasSubstr("federated.models[0].id"));
    EXPECT_THAT(problems_of("  models: [{id: a, recipe: r, bundle: b}, {id: a, recipe: r, bundle: b}]\n"),
                HasSubstr("expected an id that no other model has"));
    const auto both = parse_federated("scp: {port: 0}\nfederated: {compute: {threads: 0}}\n", "node.yaml");
    ASSERT_FALSE(both.ok());
    EXPECT_THAT(both.error().message, HasSubstr("scp.port"));
    EXPECT_THAT(both.error().message, HasSubstr("federated.compute.threads"));
}

TEST(FederatedSettings, FilesThatAreMissingAreNamed) {
    const auto settings = parse_federated("federated:\n" + kOn, "node.yaml");
    ASSERT_TRUE(settings.ok()) << settings.error().message;
    const auto files = check_federated_files(settings->federated);
    ASSERT_FALSE(files.ok());
    for (const char* key : {"transport.ca", "transport.key", "consortium_key", "models: recipe", "models: bundle"})
        EXPECT_THAT(files.error().message, HasSubstr(std::string("federated.") + key));
}

TEST(Consent, SaysInPlainWordsWhatLeavesAndWhatNot) {
    auto settings = parse_federated("federated:\n" + kOn, "node.yaml");
    ASSERT_TRUE(settings.ok());
    std::string words = what_would_leave(settings->federated);
    EXPECT_THAT(words, HasSubstr("https://fed.example.org:443"));
    EXPECT_THAT(words, HasSubstr("This never leaves: images, reports"));
    EXPECT_THAT(words, HasSubstr("No noise is added"));
    settings->federated.privacy.outbound.noise_multiplier = 0.5;
    settings->federated.privacy.epsilon = 8;
    EXPECT_NE(what_would_leave(settings->federated), words);
    EXPECT_THAT(what_would_leave(settings->federated), HasSubstr("stops at epsilon 8"));
}

}  // namespace
}  // namespace cardionode::fed
