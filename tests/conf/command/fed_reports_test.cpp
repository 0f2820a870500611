// What an operator sees of the federation.
#include "conf/command/fed_reports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "fedclient/round/consent.h"
#include "fedclient/round/night.h"
#include "models/bundle.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class FedReports : public testing::Test {
protected:
    FedReports() {
        options.config = folder / "node.yaml";
        std::ofstream(options.config) << "federated:\n  enabled: true\n  state: " << (folder / "state").string()
                                      << "\n  consortium_key: k.pem\n  transport: {kind: dir, folder: "
                                      << folder.path().string()
                                      << "}\n  models: [{id: tavi, recipe: r.yaml, bundle: " << CARDIONODE_SOURCE_DIR
                                      << "/tests/data/quick_bundle}]\n  promotion: {folder: "
                                      << (folder / "models").string() << "}\n";
        tools.spent_epsilon = [this](const fed::FederatedSettings&) -> Result<double> { return spent; };
        tools.local_data = [](const fed::FederatedSettings&, const fed::ModelSettings&) -> Result<std::string> {
            return std::string("42 studies");
        };
        tools.put_weights = [](const fed::FederatedSettings&, const fed::ModelSettings&, const fs::path&,
                               const fs::path&, const std::map<std::string, std::string>&) { return Result<void>(); };
    }
    fed::FederatedSettings settings() const { return fed::load_federated(options.config)->federated; }
    /// A round that was answered, and its model staged.
    void add_round() {
        ASSERT_TRUE(make_folder(folder / "state").ok());
        auto store = fed::RoundStore::open(fed::store_file(settings()), fed::RoundStore::Mode::Write, clock);
        ASSERT_TRUE(store.ok()) << store.error().message;
        fed::MessageRow row;
        row.incoming = {"aaaabbbbccccdddd", "g", "train", 7, 1, 3600, folder / "state/messages/aaaa"};
        ASSERT_TRUE(store->save(row, fed::RoundState::Pulled, "train").ok());
        row.order.plan.model_id = "tavi", row.order.plan.round = 4;
        row.record_id = "1234567890abcdef";
        row.before = fed::Validation{{{"heart", 0.9}}, {{"hps", 2.5}}, 8};
        std::ofstream(folder / "weights") << "w";
        fed::AcceptedModel accepted;
        accepted.model_id = "tavi", accepted.record_id = row.record_id, accepted.version = 3;
        accepted.weights = folder / "weights", accepted.validation = *row.before;
        ASSERT_TRUE(store->save(row, fed::RoundState::Validated, "staged", accepted).ok());
        row.after = fed::Validation{{{"heart", 0.92}}, {{"hps", 2.4}}, 8};
        row.update = folder / "update", row.update_sha256 = std::string(64, 'e'), row.update_bytes = 250'000'000;
        row.norm_before["body"] = 14.5, row.norm_after["body"] = 10;
        row.steps = 100, row.patients = 12, row.bytes_sent = 250'000'000, row.bytes_received = 250'000'000;
        clock.advance(std::chrono::minutes(20));
        ASSERT_TRUE(store->save(row, fed::RoundState::Taken, "the server took the reply").ok());
    }
    std::string text(Result<Report> report) {
        EXPECT_TRUE(report.ok()) << report.error().message;
        return report ? report->text : "";
    }

    test::TemporaryFolder folder;
    test::FakeClock clock;
    FedOptions options;
    FedTools tools;
    double spent = 0;
};

TEST_F(FedReports, BeforeTheFirstNightTheySayWhatIsMissing) {
    const std::string status = text(fed_status_report(options, tools, clock));
    EXPECT_THAT(status, HasSubstr("nobody was asked yet: `cardionode fed consent`"));
    EXPECT_THAT(status, HasSubstr("Last round   none yet"));
    EXPECT_THAT(status, HasSubstr("42 studies"));
    EXPECT_THAT(text(fed_history_report(options, clock)), HasSubstr("No round has run yet"));
    EXPECT_THAT(text(promotions_report(options, clock)), HasSubstr("nothing was promoted yet"));
}

TEST_F(FedReports, ConsentIsShownAndRecordedForExactlyTheseWords) {
    const std::string shown = text(fed_consent_report(options, clock));
    EXPECT_THAT(shown, HasSubstr("This never leaves: images"));
    EXPECT_THAT(shown, HasSubstr("cardionode fed consent --yes"));
    EXPECT_EQ(*fed::consent_state(settings()), fed::ConsentState::NeverAsked) << "to look is not to agree";
    options.answer = "yes";
    EXPECT_THAT(text(fed_consent_report(options, clock)), HasSubstr("given"));
    EXPECT_EQ(*fed::consent_state(settings()), fed::ConsentState::Given);
    auto wider = settings();
    wider.privacy.outbound.clip_norm = 1000;
    EXPECT_EQ(*fed::consent_state(wider), fed::ConsentState::Outdated);
    options.answer = "no";
    EXPECT_THAT(text(fed_consent_report(options, clock)), HasSubstr("refused"));
    EXPECT_EQ(*fed::consent_state(settings()), fed::ConsentState::Refused);
}

TEST_F(FedReports, HistoryShowsWhatWasPulledAndSentAndHowGoodItIs) {
    add_round();
    const std::string history = text(fed_history_report(options, clock));
    for (const char* part : {"aaaabbbbcccc", "1234567890ab", "eeeeeeeeeeee", "heart 0.900", "heart 0.920", "hps 2.5 mm",
                             "238 MiB", "answered"})
        EXPECT_THAT(history, HasSubstr(part));
    options.message = "aaaa";
    const std::string one = text(fed_history_report(options, clock));
    EXPECT_THAT(one, HasSubstr("body 14.5 -> 10, without noise"));
    EXPECT_THAT(one, HasSubstr("the server took the reply"));
    options.json = true;
    const json parsed = json::parse(text(fed_history_report(options, clock)));
    EXPECT_EQ(parsed["transitions"].size(), 3U);
    EXPECT_EQ(parsed["norm_after_clip"]["body"], 10);
    options.message = "zzzz";
    EXPECT_FALSE(fed_history_report(options, clock).ok());
}

TEST_F(FedReports, StatusSaysWhatWasSpentAndWhatMayGoLive) {
    add_round();
    spent = std::numeric_limits<double>::infinity();
    const std::string status = text(fed_status_report(options, tools, clock));
    EXPECT_THAT(status, HasSubstr("no formal guarantee"));
    EXPECT_THAT(status, HasSubstr("1, newest 1234567890ab of round 3: heart 0.900, hps 2.5 mm; may go live"));
    EXPECT_THAT(status, HasSubstr("train 4 of tavi"));
    spent = 1.25;
    EXPECT_THAT(text(fed_status_report(options, tools, clock)), HasSubstr("epsilon 1.25 spent at delta 1e-05"));
    options.json = true;
    const json parsed = json::parse(text(fed_status_report(options, tools, clock)));
    EXPECT_EQ(parsed["may_send"], false);
    EXPECT_EQ(parsed["last"]["state"], "taken");
}

TEST_F(FedReports, PromoteSaysWhatToDoNext) {
    add_round();
    const std::string done = text(promote_report(options, tools, clock));
    EXPECT_THAT(done, HasSubstr("is live (heart 0.900, hps 2.5 mm)"));
    EXPECT_THAT(done, HasSubstr("pipeline: {bundle: " + (folder / "models/tavi/current").string() + "}"));
    EXPECT_THAT(done, HasSubstr("systemctl restart cardionode-pipeline"));
    EXPECT_TRUE(load_bundle(folder / "models/tavi/current").ok());
    EXPECT_THAT(text(rollback_report(options, clock)), HasSubstr("version 0000-shipped is live again"));
    const std::string history = text(promotions_report(options, clock));
    EXPECT_THAT(history, HasSubstr("rollback"));
    EXPECT_THAT(history, HasSubstr(account()));
    EXPECT_THAT(history, HasSubstr("Live: 0000-shipped"));
    options.model = "other";
    EXPECT_FALSE(promote_report(options, tools, clock).ok());
}

TEST_F(FedReports, WrongSettingsAreNamed) {
    std::ofstream(options.config) << "federated:\n  enabled: maybe\n";
    const auto report = fed_status_report(options, tools, clock);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().kind, ErrorKind::Config);
    EXPECT_THAT(report.error().message, HasSubstr(":2: federated.enabled"));
}

}  // namespace
}  // namespace cardionode
