#include "fedclient/privacy/inbound.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "conf/base/free_by.h"
#include "tests/fedclient/privacy/weights.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using test::Weights;
using test::write_weights;
using ::testing::HasSubstr;

const std::string kRecord(64, 'a');

class Signature : public ::testing::Test {
protected:
    void SetUp() override { write_pair("site", EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")); }
    void write_pair(const std::string& name, EVP_PKEY* made) {
        const std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>> key(made);
        ASSERT_NE(key, nullptr);
        const auto put = [&](const std::filesystem::path& path, auto write) {
            const std::unique_ptr<std::FILE, FreeBy<std::fclose>> file(std::fopen(path.c_str(), "wb"));
            ASSERT_EQ(write(file.get()), 1);
        };
        put(secret(name), [&](std::FILE* f) {
            return PEM_write_PKCS8PrivateKey(f, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        });
        put(open_key(name), [&](std::FILE* f) { return PEM_write_PUBKEY(f, key.get()); });
    }
    std::filesystem::path secret(const std::string& name = "site") const { return folder / (name + ".key"); }
    std::filesystem::path open_key(const std::string& name = "site") const { return folder / (name + ".pub"); }
    cardionode::test::TemporaryFolder folder;
};

TEST_F(Signature, OfTheConsortiumIsTaken) {
    const auto made = sign_model(secret(), "heart", 7, kRecord);
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(made->size(), 88u);
    EXPECT_EQ(sign_model(secret(), "heart", 7, kRecord).value(), *made);
    const auto good = verify_model(open_key(), "heart", 7, kRecord, *made);
    EXPECT_TRUE(good.ok()) << good.error().message;
}

// Made once with `openssl pkeyutl -sign -rawin` from the text in the header, so that no change of it goes unseen.
TEST_F(Signature, MadeByOtherSoftwareIsTaken) {
    std::ofstream(open_key()) << "-----BEGIN PUBLIC KEY-----\n"
                                 "MCowBQYDK2VwAyEADNuSbZWILZ0lkW0aDEdToPEyKIPWKL1M1UjRiqra7ko=\n"
                                 "-----END PUBLIC KEY-----\n";
    const auto good =
        verify_model(open_key(), "heart-root-unet16", 12, kRecord,
                     "2OnadrIwtV3czd94bAdYpEUOVEKQe9xr9/iSQ5myZbeMQ1ao9mCPcvQG9fk1k+iSUMyT/jUftw8mLR8qEZQtCA==");
    EXPECT_TRUE(good.ok()) << good.error().message;
}

TEST_F(Signature, OfAnotherModelRoundOrRecordIsRefused) {
    const std::string made = sign_model(secret(), "heart", 7, kRecord).value();
    for (const auto& refused :
         {verify_model(open_key(), "heart2", 7, kRecord, made), verify_model(open_key(), "heart", 8, kRecord, made),
          verify_model(open_key(), "heart", 7, std::string(64, 'b'), made)}) {
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
        EXPECT_THAT(refused.error().message, HasSubstr("not the consortium's"));
    }
}

TEST_F(Signature, OfAnotherKeyIsRefused) {
    write_pair("thief", EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    const std::string made = sign_model(secret("thief"), "heart", 7, kRecord).value();
    EXPECT_EQ(verify_model(open_key(), "heart", 7, kRecord, made).error().kind, ErrorKind::Reject);
}

TEST_F(Signature, ThatIsDamagedIsRefused) {
    const std::string made = sign_model(secret(), "heart", 7, kRecord).value();
    std::string flipped = made;
    flipped[10] = flipped[10] == 'A' ? 'B' : 'A';
    std::string stray = made;
    stray[85] = stray[85] == '/' ? '+' : static_cast<char>(stray[85] + 1);  // bits behind the last byte
    for (const std::string& bad :
         {flipped, stray, made + "\n", " " + made, made.substr(0, 84), made.substr(0, 86), made + "AAAA", std::string(),
          std::string(88, '='), "====" + made.substr(4), made.substr(0, 40) + "-" + made.substr(41)}) {
        const auto refused = verify_model(open_key(), "heart", 7, kRecord, bad);
        ASSERT_FALSE(refused.ok()) << bad;
        EXPECT_EQ(refused.error().kind, ErrorKind::Reject) << bad;
    }
}

TEST_F(Signature, TextThatCouldBeReadInTwoWaysIsRefused) {
    EXPECT_EQ(sign_model(secret(), "heart\n7", 1, kRecord).error().kind, ErrorKind::Reject);
    EXPECT_EQ(sign_model(secret(), "", 1, kRecord).error().kind, ErrorKind::Reject);
    EXPECT_EQ(sign_model(secret(), "heart", 1, "a\nb").error().kind, ErrorKind::Reject);
    EXPECT_EQ(sign_model(secret(), "heart", 1, "").error().kind, ErrorKind::Reject);
}

TEST_F(Signature, KeyOfAnotherAlgorithmOrNoKeyIsAConfigError) {
    write_pair("ec", EVP_EC_gen("P-256"));
    const std::string made = sign_model(secret(), "heart", 7, kRecord).value();
    const auto other = verify_model(open_key("ec"), "heart", 7, kRecord, made);
    ASSERT_FALSE(other.ok());
    EXPECT_EQ(other.error().kind, ErrorKind::Config);
    EXPECT_THAT(other.error().message, HasSubstr("not an Ed25519 key"));
    EXPECT_EQ(sign_model(secret("ec"), "heart", 7, kRecord).error().kind, ErrorKind::Config);
    EXPECT_EQ(verify_model(folder / "none", "heart", 7, kRecord, made).error().kind, ErrorKind::Config);
    std::ofstream(open_key("ec")) << "no key";
    EXPECT_EQ(verify_model(open_key("ec"), "heart", 7, kRecord, made).error().kind, ErrorKind::Config);
    // A private key where the public one belongs, and the reverse.
    EXPECT_EQ(verify_model(secret(), "heart", 7, kRecord, made).error().kind, ErrorKind::Config);
    EXPECT_EQ(sign_model(open_key(), "heart", 7, kRecord).error().kind, ErrorKind::Config);
}

TEST_F(Signature, KeyWithAPassphraseIsAnErrorNotAQuestion) {
    const std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    {
        const std::unique_ptr<std::FILE, FreeBy<std::fclose>> file(std::fopen(secret("locked").c_str(), "wb"));
        ASSERT_EQ(PEM_write_PKCS8PrivateKey(file.get(), key.get(), EVP_aes_128_cbc(), "word", 4, nullptr, nullptr), 1);
    }
    EXPECT_EQ(sign_model(secret("locked"), "heart", 7, kRecord).error().kind, ErrorKind::Config);
}

class Inbound : public ::testing::Test {
protected:
    void SetUp() override {
        write_weights(folder / "reference", {{"a", {0, 0}}, {"b", {0}}});
        write_weights(folder / "previous", {{"a", {1, 1}}, {"b", {1}}});
        pull({{"a", {1, 4}}, {"b", {5}}});
    }
    void pull(const Weights& weights) { write_weights(folder / "pulled", weights); }
    Result<double> check(std::int64_t round = 4) {
        return check_inbound(folder / "pulled", folder / "reference", folder / "previous", round, history, rules);
    }
    void expect_rejected(const std::string& text) {
        const auto refused = check();
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
        EXPECT_THAT(refused.error().message, HasSubstr(text));
    }
    InboundHistory history{.round = 3, .change_norms = {0.5, 0.6, 40}};
    InboundRules rules;
    cardionode::test::TemporaryFolder folder;
};

TEST_F(Inbound, WeightsThatFitAreTakenWithTheNormOfTheirChange) {
    const auto norm = check();
    ASSERT_TRUE(norm.ok()) << norm.error().message;
    EXPECT_NEAR(*norm, 5, 1e-9);
}

TEST_F(Inbound, FirstWeightsHaveNoChange) {
    history = {};
    EXPECT_EQ(check_inbound(folder / "pulled", folder / "reference", {}, 1, history, rules).value(), 0);
}

TEST_F(Inbound, MissingExtraAndOddShapedTensorsAreRejectedByName) {
    pull({{"a", {1, 4}}});
    expect_rejected("tensor 'b' is missing");
    pull({{"a", {1, 4}}, {"b", {5}}, {"c", {5}}});
    expect_rejected("tensor 'c' is not one of this architecture");
    pull({{"a", {1, 4, 2}}, {"b", {5}}});
    expect_rejected("tensor 'a' is F32 [3], expected F32 [2]");
    auto writer = TensorFileWriter::create(folder / "pulled", {{"a", "F32", {2}}, {"b", "I32", {1}}});
    ASSERT_TRUE(writer->append(std::vector<float>{1, 2, 3}).ok());
    ASSERT_TRUE(writer->commit().ok());
    expect_rejected("tensor 'b' is I32 [1], expected F32 [1]");
}

TEST_F(Inbound, ValuesThatAreNotFiniteAreRejectedAlsoTheFirstTime) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
        pull({{"a", {1, bad}}, {"b", {5}}});
        expect_rejected("tensor 'a' holds a value that is not finite");
        EXPECT_FALSE(check_inbound(folder / "pulled", folder / "reference", {}, 9, {}, rules).ok());
    }
}

TEST_F(Inbound, HalfPrecisionIsReadAndItsNansAreSeen) {
    const auto put = [&](const std::string& name, const std::string& dtype, std::vector<std::uint16_t> bits) {
        auto writer = TensorFileWriter::create(folder / name, {{"h", dtype, {static_cast<long>(bits.size())}}});
        ASSERT_TRUE(writer->append(std::as_bytes(std::span(bits))).ok());
        ASSERT_TRUE(writer->commit().ok());
    };
    put("reference", "F16", {0, 0});
    put("previous", "F16", {0, 0x0001});     // 0, 2^-24
    put("pulled", "F16", {0xc400, 0x0001});  // -4
    EXPECT_EQ(check().value(), 4);
    put("pulled", "F16", {0x7c00, 0x0001});
    expect_rejected("not finite");
    put("reference", "BF16", {0, 0});
    put("previous", "BF16", {0, 0});
    put("pulled", "BF16", {0x4040, 0xc080});  // 3, -4
    EXPECT_EQ(check().value(), 5);
    put("pulled", "BF16", {0x7fc0, 0});
    expect_rejected("not finite");
}

TEST_F(Inbound, ChangeFarBeyondTheUsualIsRejected) {
    rules.norm_factor = 8;
    expect_rejected("they changed by 5, usual are 0.6, at most 8 times that is taken");
    rules.norm_factor = 9;
    EXPECT_TRUE(check().ok());
    rules.norm_factor = 8;
    history.change_norms = {0.5, 0.6};
    EXPECT_TRUE(check().ok()) << "two rounds are no history yet";
    rules.norm_history = 2;
    EXPECT_FALSE(check().ok());
}

TEST_F(Inbound, HugeFiniteValuesDoNotEscapeByOverflow) {
    pull({{"a", {std::numeric_limits<float>::max(), 1}}, {"b", {-std::numeric_limits<float>::max()}}});
    expect_rejected("they changed by");
}

TEST_F(Inbound, RoundThatDoesNotRiseIsRejected) {
    for (const std::int64_t round : {3, 2, 0, -1}) {
        const auto refused = check(round);
        ASSERT_FALSE(refused.ok()) << round;
        EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
        EXPECT_THAT(refused.error().message, HasSubstr("does not rise"));
    }
    history.round.reset();
    EXPECT_TRUE(check(0).ok());
    EXPECT_FALSE(check(-1).ok());
}

TEST_F(Inbound, DamagedPulledFileIsRejectedButAnOwnOneIsAConfigError) {
    std::ofstream(folder / "pulled") << "nothing";
    expect_rejected("the pulled weights");
    SetUp();
    std::ofstream(folder / "reference") << "nothing";
    EXPECT_EQ(check().error().kind, ErrorKind::Config);
    SetUp();
    write_weights(folder / "previous", {{"a", {1, 1}}});
    EXPECT_EQ(check().error().kind, ErrorKind::Config);
}

}  // namespace
}  // namespace cardionode::fed
