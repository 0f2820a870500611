// What the coordinator sends, and which model it keeps: teachers once, signatures, validation against the old model.
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <cmath>
#include <limits>

#include "fedclient/privacy/inbound.h"
#include "tests/fedclient/coordinator/coordinator_fixture.h"

namespace cardionode::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void write_signing_keys(const std::filesystem::path& private_key, const std::filesystem::path& public_key) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"),
                                                                  &EVP_PKEY_free);
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> secret(BIO_new_file(private_key.c_str(), "w"), &BIO_free_all);
    ASSERT_EQ(PEM_write_bio_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> open(BIO_new_file(public_key.c_str(), "w"), &BIO_free_all);
    ASSERT_EQ(PEM_write_bio_PUBKEY(open.get(), key.get()), 1);
    std::filesystem::permissions(private_key, std::filesystem::perms::owner_read);
}

class Evaluation : public CoordinatorTest {
protected:
    /// One round of two sites whose candidate is validated at `after` where the old model was at 0.5.
    void run_round(double after_a, double after_b) {
        settings.evaluation.enabled = true;
        start();
        auto a = node(), b = node();
        tick();
        ASSERT_TRUE(receive(a) && receive(b));
        ASSERT_TRUE(a.push(reply(a, 1)) && b.push(reply(b, 3)));
        tick();
        EXPECT_EQ(round(0)["state"], "evaluating");
        ASSERT_TRUE(receive(a) && receive(b));
        EXPECT_EQ(a.message.metadata().message_type(), "evaluate");
        EXPECT_EQ(a.arrays().at("w"), (std::vector<float>{2, 2}));
        EXPECT_THAT(global().at("w"), ElementsAre(0, 0)) << "global before it was validated";
        ASSERT_TRUE(a.push(a.make_reply({}, {{"num-examples", 3.0}, {"before/hps", after_a}})));
        ASSERT_TRUE(b.push(b.make_reply({}, {{"num-examples", 1.0}, {"before/hps", after_b}})));
        tick();
    }
};

TEST_F(Evaluation, BetterCandidateBecomesTheGlobalModel) {
    run_round(0.7, 0.5);
    EXPECT_EQ(round(0)["state"], "done");
    EXPECT_NEAR(round(0)["validation"]["hps"]["after"].get<double>(), 0.65, 1e-12);  // (3 * 0.7 + 0.5) / 4
    EXPECT_EQ(round(0)["validation"]["hps"]["before"], 0.5);
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Evaluation, FallWithinTheToleranceIsTaken) {
    run_round(0.45, 0.6);  // mean 0.4875, within the tolerance of 0.02
    EXPECT_EQ(round(0)["state"], "done");
}

TEST_F(Evaluation, FallBeyondTheToleranceKeepsTheOldModel) {
    run_round(0.45, 0.55);  // mean 0.475
    EXPECT_EQ(round(0)["state"], "kept_old");
    EXPECT_THAT(round(0)["reason"].get<std::string>(), HasSubstr("hps fell from 0.5000 to 0.4750"));
    EXPECT_THAT(global().at("w"), ElementsAre(0, 0));
    EXPECT_EQ(status()["global"]["round"], 0);
}

TEST_F(Evaluation, CandidateThatYieldsNoNumberKeepsTheOldModel) {
    run_round(std::numeric_limits<double>::quiet_NaN(), 0.9);
    EXPECT_EQ(round(0)["state"], "kept_old");
    EXPECT_THAT(global().at("w"), ElementsAre(0, 0));
}

class Messages : public CoordinatorTest {};

TEST_F(Messages, TeachersTravelOnceToEachSiteAndAgainWhenItLostThem) {
    settings.plan.method = "fedkd_student";
    settings.plan.teachers["hps"] = folder / "teacher.safetensors";
    write_weights(settings.plan.teachers["hps"], {{"t", {7}}});
    settings.rounds.count = 3;
    start();
    auto a = node(), b = node();
    std::string teacher;
    for (int r = 0; r < 2; ++r) {
        tick();
        ASSERT_TRUE(receive(a) && receive(b));
        EXPECT_EQ(a.record_ids().contains("teacher/hps"), r == 0);
        if (r == 0) teacher = a.record_ids().at("teacher/hps");
        EXPECT_EQ(fed::value_of<std::string>(a.config(), "teacher/hps"), teacher);
        ASSERT_TRUE(a.push(reply(a, 1)) && b.push(reply(b, 1)));
        tick();
    }
    ASSERT_TRUE(receive(a) && receive(b));
    ASSERT_TRUE(a.push(a.make_failure("fedclient:teacher_missing: hps")));
    tick();
    tick();
    ASSERT_TRUE(receive(a));
    EXPECT_EQ(a.arrays("teacher/hps").at("t"), std::vector<float>{7});
    EXPECT_FALSE(b.record_ids().contains("teacher/hps"));
}

TEST_F(Messages, PoisonedModelsAndWrongContractsGoOutAsOrdered) {
    settings.rounds.expected_sites = 4;
    start({"nan-model=1", "other-arch=1", "other-schema=1"});
    std::vector<ScriptedNode> nodes;
    for (int i = 0; i < 4; ++i) nodes.push_back(node());
    tick();
    int nan = 0, arch = 0, schema = 0;
    for (auto& n : nodes) {
        ASSERT_TRUE(receive(n));
        nan += std::isnan(n.arrays().begin()->second.front());
        arch += fed::value_of<std::string>(n.config(), "arch-sha256") != settings.arch_sha256;
        schema += fed::value_of<std::int64_t>(n.config(), "fed-schema") == 2;
    }
    EXPECT_EQ(nan, 1);
    EXPECT_EQ(arch, 1);
    EXPECT_EQ(schema, 1);
}

TEST_F(Messages, ModelsAndTeachersAreSignedByTheConsortium) {
    settings.signing_key = folder / "consortium.key";
    const auto public_key = folder / "consortium.pub";
    write_signing_keys(settings.signing_key, public_key);
    settings.plan.method = "fedkd_student";
    settings.plan.teachers["hps"] = folder / "teacher.safetensors";
    write_weights(settings.plan.teachers["hps"], {{"t", {7}}});
    start({"wrong-signature=1"});
    auto a = node(), b = node();
    tick();
    ASSERT_TRUE(receive(a) && receive(b));
    int good = 0;
    for (const auto* n : {&a, &b}) {
        const auto config = n->config();
        const auto ids = n->record_ids();
        good += fed::verify_model(public_key, "heart-root", 1, ids.at("arrays"),
                                  fed::value_of<std::string>(config, "signature").value())
                    .ok();
        EXPECT_TRUE(fed::verify_model(public_key, "heart-root/teacher/hps", 1, ids.at("teacher/hps"),
                                      fed::value_of<std::string>(config, "signature/hps").value())
                        .ok());
    }
    EXPECT_EQ(good, 1) << "one signature was ordered to be wrong";
}

}  // namespace
}  // namespace cardionode::test
