#include "fedclient/round/promotion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/bundle.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Promotion : public testing::Test {
protected:
    Promotion() {
        settings.promotion.folder = folder / "models";
        settings.promotion.keep = 3;
        model.id = "tavi";
        model.bundle = fs::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle";
        settings.models.push_back(model);
        for (int n = 1; n <= 4; ++n) stage(n, 0.9, 8);
    }
    void stage(int n, double dice, std::int64_t studies) {
        AcceptedModel m;
        m.model_id = "tavi", m.record_id = std::to_string(n) + std::string(40, 'c'), m.version = n;
        m.weights = folder / ("weights-" + std::to_string(n));
        std::ofstream(m.weights) << "weights " << n;
        m.validation.dice["heart"] = dice, m.validation.studies = studies;
        accepted.push_back(m);
    }
    /// Stands in for the export: the file and its hash.
    static Result<void> put(const ModelSettings&, const fs::path& weights, const fs::path& target,
                            const std::map<std::string, std::string>& record) {
        auto bundle = load_bundle(target);
        if (!bundle) return std::move(bundle).error();
        std::error_code error;
        fs::copy_file(weights, bundle->weights_file(), fs::copy_options::overwrite_existing, error);
        bundle->manifest.weights.sha256 = *sha256_of_file(bundle->weights_file());
        for (const auto& [key, value] : record) bundle->manifest.training[key] = value;
        return write_file_durably(target / "manifest.yaml", to_yaml(bundle->manifest));
    }
    Result<PromotionLine> go(const std::string& record = {}, bool insist = false) {
        clock.advance(Milliseconds(1000));
        return promote(settings, model, accepted, {"anna", record, insist}, put, clock);
    }
    std::string live() const {
        auto bundle = load_bundle(folder / "models/tavi/current");
        return bundle ? *read_file(bundle->weights_file()) : bundle.error().message;
    }

    test::TemporaryFolder folder;
    test::FakeClock clock;
    FederatedSettings settings;
    ModelSettings model;
    std::vector<AcceptedModel> accepted;
};

TEST_F(Promotion, TheNewestStagedModelBecomesTheBundleThatCurrentNames) {
    const auto line = go();
    ASSERT_TRUE(line.ok()) << line.error().message;
    EXPECT_EQ(live(), "weights 4");
    EXPECT_TRUE(fs::is_symlink(folder / "models/tavi/current"));
    const auto bundle = load_bundle(folder / "models/tavi/current");
    EXPECT_EQ(bundle->folder.filename(), line->version) << "the link was followed: all files are of one version";
    EXPECT_EQ(bundle->manifest.training.at("federated_round"), "4");
    EXPECT_EQ(line->weights_sha256, weights_identity(bundle->manifest));
}

TEST_F(Promotion, RollsBackToTheOneBeforeAndToTheShippedOne) {
    const std::string shipped = *read_file(load_bundle(model.bundle)->weights_file());
    ASSERT_TRUE(go("1").ok());
    ASSERT_TRUE(go("2").ok());
    EXPECT_EQ(live(), "weights 2");
    ASSERT_TRUE(roll_back(settings, model, "", "bert", clock).ok());
    EXPECT_EQ(live(), "weights 1");
    ASSERT_TRUE(roll_back(settings, model, "", "bert", clock).ok());
    EXPECT_EQ(live(), shipped);
    EXPECT_FALSE(roll_back(settings, model, "", "bert", clock).ok()) << "nothing is before it";
    EXPECT_EQ(live(), shipped);
    ASSERT_TRUE(roll_back(settings, model, "0002", "bert", clock).ok());
    EXPECT_EQ(live(), "weights 2");
}

TEST_F(Promotion, HistorySaysWhoWhenWhichAndHowValidated) {
    ASSERT_TRUE(go("2").ok());
    ASSERT_TRUE(roll_back(settings, model, "", "bert", clock).ok());
    const auto history = promotions(settings, model);
    ASSERT_TRUE(history.ok());
    ASSERT_EQ(history->size(), 3U);
    EXPECT_EQ((*history)[0].note, "the bundle of the settings");
    EXPECT_EQ((*history)[1].by, "anna");
    EXPECT_EQ((*history)[1].round, 2);
    EXPECT_EQ((*history)[1].validation->dice.at("heart"), 0.9);
    EXPECT_EQ((*history)[1].at, clock.now());
    EXPECT_EQ((*history)[2].action, "rollback");
    EXPECT_EQ((*history)[2].by, "bert");
    EXPECT_EQ(current_version(settings, model), (*history)[2].version);
}

TEST_F(Promotion, BelowTheThresholdsNothingGoesLiveUnlessSomebodyInsists) {
    stage(5, 0.5, 8);
    const auto refused = go();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
    EXPECT_THAT(refused.error().message, HasSubstr("heart has Dice 0.500, expected at least 0.7"));
    EXPECT_FALSE(fs::exists(folder / "models/tavi/current"));
    stage(6, 0.9, 2);
    EXPECT_THAT(go().error().message, HasSubstr("validated on 2 held-out studies, expected at least 5"));
    const auto insisted = go("5", true);
    ASSERT_TRUE(insisted.ok()) << insisted.error().message;
    EXPECT_THAT(insisted->note, HasSubstr("in spite of: heart has Dice 0.500"));
}

TEST_F(Promotion, ABundleThatDoesNotLoadNeverGoesLive) {
    ASSERT_TRUE(go("1").ok());
    const auto broken = promote(
        settings, model, accepted, {"anna", "2", false},
        [](const ModelSettings&, const fs::path&, const fs::path& target, const auto&) {
            std::ofstream(target / "weights.safetensors") << "damaged";
            return Result<void>();
        },
        clock);
    EXPECT_FALSE(broken.ok());
    EXPECT_EQ(live(), "weights 1");
    ASSERT_TRUE(go("2").ok()) << "what was left of it is in nobody's way";
    EXPECT_EQ(live(), "weights 2");
}

TEST_F(Promotion, KeepsTheLastVersionsAndTheOneInUse) {
    for (const char* n : {"1", "2", "3", "4"}) ASSERT_TRUE(go(n).ok());
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "models/tavi/versions"), {}), 3);
    EXPECT_EQ(live(), "weights 4");
    EXPECT_FALSE(go("4").ok()) << "it is live already";
}

}  // namespace
}  // namespace cardionode::fed
