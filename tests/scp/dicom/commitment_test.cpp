#include "scp/dicom/commitment.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/data_set.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

constexpr auto kSeg = "1.2.840.10008.5.1.4.1.1.66.4";

CommitmentData sample() {
    CommitmentData data;
    data.transaction_uid = "2.25.1234567";
    data.referenced = {{std::string(kCtImage), "1.2.3"}, {kSeg, "1.2.3.44"}};
    data.failed = {{kSeg, "1.2.3.5", failure_reason::kNoSuchInstance}};
    return data;
}

/// One reference with its sequence and item of defined or undefined length, other elements around them.
DataSet by_hand(std::string_view syntax, bool undefined) {
    DataSet inner(syntax);
    inner.element(0x00081150, "UI", kSeg).element(0x00081155, "UI", "1.2.3");
    DataSet data(syntax);
    data.element(0x00080005, "CS", "ISO_IR 100").element(0x00081195, "UI", "2.25.1");
    const auto size = static_cast<std::uint32_t>(inner.bytes.size());
    data.header(0x00081199, "SQ", undefined ? kUndefinedLength : size + 8).item(undefined ? kUndefinedLength : size);
    data.bytes.insert(data.bytes.end(), inner.bytes.begin(), inner.bytes.end());
    if (undefined) data.end_item().end_sequence();
    return data.element(0x00880130, "SH", "MEDIUM");
}

std::string why_not(const DataSet& data, Encoding encoding = Encoding::ExplicitLittle) {
    const auto read = parse_commitment(encoding, data.view());
    return read ? "it was read" : read.error().message;
}

}  // namespace

TEST(Commitment, IsReadBackInBothEncodings) {
    for (const Encoding encoding : {Encoding::ImplicitLittle, Encoding::ExplicitLittle}) {
        const auto read = parse_commitment(encoding, write_commitment(encoding, sample()));
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_EQ(*read, sample());
    }
}

TEST(Commitment, TakesSequencesOfEitherLengthAndSkipsWhatItDoesNotNeed) {
    for (const bool undefined : {false, true}) {
        const auto implicit = parse_commitment(Encoding::ImplicitLittle, by_hand(kImplicit, undefined).view());
        const auto explicit_vr = parse_commitment(Encoding::ExplicitLittle, by_hand(kExplicit, undefined).view());
        ASSERT_TRUE(implicit.ok()) << implicit.error().message;
        ASSERT_TRUE(explicit_vr.ok()) << explicit_vr.error().message;
        const std::vector<SopReference> wanted = {{kSeg, "1.2.3"}};
        EXPECT_EQ(implicit->referenced, wanted);
        EXPECT_EQ(explicit_vr->referenced, wanted);
        EXPECT_EQ(implicit->transaction_uid, "2.25.1");
    }
}

TEST(Commitment, SequencesInsideAnItemDoNotChangeIt) {
    DataSet data(kExplicit);
    data.element(0x00081195, "UI", "2.25.1").header(0x00081199, "SQ", kUndefinedLength).item();
    data.element(0x00081150, "UI", kSeg).element(0x00081155, "UI", "1.2.3");
    data.header(0x0040a170, "SQ", kUndefinedLength).item().element(0x00081155, "UI", "6.6.6").end_item().end_sequence();
    data.end_item().end_sequence();
    const auto read = parse_commitment(Encoding::ExplicitLittle, data.view());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->referenced, (std::vector<SopReference>{{kSeg, "1.2.3"}}));
}

TEST(Commitment, RefusesWhatIsMissingOrNoUid) {
    EXPECT_THAT(why_not(DataSet(kExplicit)), HasSubstr("Transaction UID"));
    EXPECT_THAT(why_not(DataSet(kExplicit).element(0x00081195, "UI", "../../etc")), HasSubstr("Transaction UID"));
    EXPECT_THAT(why_not(DataSet(kExplicit).element(0x00081195, "UI", std::string(66, '1'))), HasSubstr("too long"));
    DataSet half(kExplicit);
    half.element(0x00081195, "UI", "2.25.1").header(0x00081199, "SQ", kUndefinedLength).item();
    half.element(0x00081155, "UI", "1.2.3").end_item().end_sequence();
    EXPECT_THAT(why_not(half), HasSubstr("no valid SOP Class or Instance UID"));
    EXPECT_FALSE(parse_commitment(Encoding::ExplicitBig, {}).ok());
    EXPECT_FALSE(parse_commitment(Encoding::Deflated, {}).ok());
}

TEST(Commitment, RefusesTooManyReferencesAndTooDeepNestingAtOnce) {
    CommitmentData many = sample();
    many.referenced.assign(kMaxCommitmentReferences + 1, {kSeg, "1.2.3"});
    const auto refused = parse_commitment(Encoding::ImplicitLittle, write_commitment(Encoding::ImplicitLittle, many));
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("too many"));
    many.failed.clear();
    many.referenced.pop_back();
    EXPECT_TRUE(parse_commitment(Encoding::ImplicitLittle, write_commitment(Encoding::ImplicitLittle, many)).ok());

    EXPECT_THAT(why_not(DataSet(kExplicit).nested(100'000)), HasSubstr("nested too deeply"));
    EXPECT_THAT(why_not(DataSet(kImplicit).nested(100'000), Encoding::ImplicitLittle), HasSubstr("nested too deeply"));
}

TEST(Commitment, RefusesEveryCutAndNoBitFlipDoesHarm) {
    for (const Encoding encoding : {Encoding::ImplicitLittle, Encoding::ExplicitLittle}) {
        const auto whole = write_commitment(encoding, sample());
        int read = 0;
        for (std::size_t size = 0; size < whole.size(); ++size)
            read += parse_commitment(encoding, std::span(whole).first(size)).ok() ? 1 : 0;
        EXPECT_LE(read, 2) << "only cuts between whole elements of the top level can be read";
        std::mt19937 random(7);
        for (int i = 0; i < 20'000; ++i) {
            auto broken = whole;
            for (int flips = 0; flips < 3; ++flips)
                broken[random() % broken.size()] ^= static_cast<std::byte>(1U << random() % 8);
            const auto result = parse_commitment(encoding, broken);
            if (!result) continue;
            EXPECT_LE(result->referenced.size() + result->failed.size(), 3U);
        }
    }
}

TEST(Commitment, NoLengthIsTrustedFurtherThanTheBytesGo) {
    for (const std::uint32_t length : {0xfffffffeU, 0x7fffffffU, 0x10000U}) {
        EXPECT_THAT(why_not(DataSet(kExplicit).header(0x00081199, "SQ", length)), HasSubstr("past the end"));
        EXPECT_THAT(why_not(DataSet(kExplicit).header(0x00081199, "SQ", kUndefinedLength).item(length)),
                    HasSubstr("past the end"));
        EXPECT_THAT(why_not(DataSet(kExplicit).header(0x00090010, "UN", length)), HasSubstr("past the end"));
    }
    DataSet over(kExplicit);
    over.header(0x00081199, "SQ", 8 + 8).item(8).element(0x00081150, "UI", "1.2.3.4.5.6.7.8");
    EXPECT_THAT(why_not(over), HasSubstr("past the end of its sequence or item"));
}
