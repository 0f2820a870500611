#include "scp/dicom/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/data_set.h"
#include "tests/support/instance.h"
#include "tests/support/shared_data.h"

using namespace cardionode;
using namespace cardionode::test;
using ::testing::HasSubstr;

namespace {

Result<DataSetFacts> scan(std::string_view syntax, const DataSet& data, ScanLimits limits = {}) {
    return scan_data_set(*find_transfer_syntax(syntax), data.view(), limits);
}

std::string reason(const Result<DataSetFacts>& scanned) {
    if (scanned.ok()) return "accepted";
    EXPECT_EQ(scanned.error().kind, ErrorKind::Reject);
    return scanned.error().message;
}

std::span<const std::byte> view(const std::vector<std::uint8_t>& bytes) { return std::as_bytes(std::span(bytes)); }

void expect_identity(const Result<DataSetFacts>& facts) {
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    EXPECT_EQ(facts->sop_class_uid, kCtImage);
    EXPECT_EQ(facts->sop_instance_uid, "1.2.3.4");
    EXPECT_EQ(facts->modality, "CT");
    EXPECT_EQ(facts->study_instance_uid, "1.2.3.1");
    EXPECT_EQ(facts->series_instance_uid, "1.2.3.1.1");
    EXPECT_TRUE(facts->has_pixel_data);
}

}  // namespace

TEST(Scan, FindsTheIdentityInEveryEncoding) {
    for (const std::string_view syntax : {kImplicit, kExplicit, kBigEndian}) {
        SCOPED_TRACE(syntax);
        expect_identity(scan(syntax, DataSet(syntax).identity("1.2.3.4").nested(3).pixels(100)));
    }
    const auto bytes = deflated(DataSet(kExplicit).identity("1.2.3.4").nested(3).pixels(100).bytes);
    expect_identity(scan_data_set(*find_transfer_syntax(kDeflated), view(bytes)));
}

TEST(Scan, GivesTheSameResultForBytesThatComeOneByOne) {
    for (const std::string_view syntax : {kImplicit, kExplicit, kBigEndian}) {
        const DataSet data =
            DataSet(syntax).identity("1.2.3.4").element(0x00091010, "UN", "a private value").nested(2).pixels(64);
        DataSetScanner scanner(*find_transfer_syntax(syntax));
        for (const std::byte& byte : data.view()) ASSERT_TRUE(scanner.feed(std::span(&byte, 1)).ok());
        expect_identity(scanner.finish());
    }
}

TEST(Scan, FindsThePatientIdAndRefusesNothingForIt) {
    const auto id_of = [](DataSet data) {
        const auto facts = scan(kExplicit, data.identity("1.2.3.4").pixels(100));
        EXPECT_TRUE(facts.ok()) << facts.error().message;
        return facts.ok() ? facts->patient_id : "";
    };
    const DataSet none(kExplicit);
    EXPECT_EQ(id_of(none), "");
    EXPECT_EQ(id_of(DataSet(none).element(0x00100020, "LO", "ID 7 ")), "ID 7") << "without its padding";
    EXPECT_EQ(id_of(DataSet(none).element(0x00100020, "LO", "")), "");
    EXPECT_EQ(id_of(DataSet(none).element(0x00100020, "LO", std::string(200, 'x'))), "") << "longer than any may be";
    EXPECT_EQ(id_of(DataSet(none).element(0x00100020, "LO", "A").element(0x00100020, "LO", "B")), "A");
    DataSet inside(kExplicit);
    inside.header(0x00081140, "SQ", kUndefinedLength).item().element(0x00100020, "LO", "other");
    EXPECT_EQ(id_of(inside.end_item().end_sequence()), "") << "of something else";
}

TEST(Scan, ReadsFragmentsAndKnowsThatTheyAreCompressed) {
    DataSet data = DataSet(kExplicit).identity("1.2.3.4").header(0x7fe00010, "OB", kUndefinedLength);
    data.item(0).item(6).number(0x123456789abc, 6).end_sequence();
    const auto facts = scan(kJpegLossless, data);
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    EXPECT_TRUE(facts->pixel_data_encapsulated);
    EXPECT_THAT(reason(scan(kExplicit, data)), HasSubstr("fragments in an uncompressed"));
    EXPECT_THAT(reason(scan(kJpegLossless, DataSet(kExplicit).identity("1.2.3.4").pixels(4))),
                HasSubstr("not in fragments"));
}

TEST(Scan, RefusesADataSetThatIsCutAnywhere) {
    for (const std::string_view syntax : {kImplicit, kExplicit, kBigEndian}) {
        DataSet data = DataSet(syntax).identity("1.2.3.4");
        std::vector<std::size_t> whole = {data.bytes.size()};
        data.header(0x00081140, "SQ", kUndefinedLength)
            .item()
            .element(0x00080050, "SH", "AB")
            .end_item()
            .end_sequence();
        whole.push_back(data.bytes.size());
        data.pixels(20);
        for (std::size_t length = whole[0] + 1; length < data.bytes.size(); ++length) {
            if (length == whole[1]) continue;
            EXPECT_FALSE(scan_data_set(*find_transfer_syntax(syntax), data.view().first(length)).ok())
                << syntax << " " << length;
        }
    }
    auto bytes = deflated(DataSet(kExplicit).identity("1.2.3.4").pixels(3000).bytes);
    bytes.resize(bytes.size() / 2);
    EXPECT_THAT(reason(scan_data_set(*find_transfer_syntax(kDeflated), view(bytes))), HasSubstr("cut off"));
    EXPECT_THAT(reason(scan(kExplicit, DataSet(kExplicit))), HasSubstr("empty"));
}

TEST(Scan, RefusesNestingBombsWithoutRecursion) {
    EXPECT_TRUE(scan(kExplicit, DataSet(kExplicit).identity("1.2.3.4").nested(ScanLimits::kMaxDepth)).ok());
    for (const int levels : {ScanLimits::kMaxDepth + 1, 10'000, 1'000'000}) {
        EXPECT_THAT(reason(scan(kExplicit, DataSet(kExplicit).identity("1.2.3.4").nested(levels))),
                    HasSubstr("nested"));
        EXPECT_THAT(reason(scan(kImplicit, DataSet(kImplicit).identity("1.2.3.4").nested(levels))),
                    HasSubstr("nested"));
    }
}

// Without a VR only the content tells a sequence: a reader with a dictionary would go into it, so the scan does too.
TEST(Scan, LooksIntoSequencesOfDefinedLengthInImplicitVr) {
    DataSet inner(kImplicit);
    for (int i = 0; i < 200; ++i) {
        DataSet outer(kImplicit);
        outer.header(0x00081140, "SQ", static_cast<std::uint32_t>(inner.bytes.size() + 8));
        outer.item(static_cast<std::uint32_t>(inner.bytes.size()));
        outer.bytes.insert(outer.bytes.end(), inner.bytes.begin(), inner.bytes.end());
        inner = outer;
    }
    DataSet data = DataSet(kImplicit).identity("1.2.3.4");
    data.bytes.insert(data.bytes.end(), inner.bytes.begin(), inner.bytes.end());
    EXPECT_THAT(reason(scan(kImplicit, data)), HasSubstr("nested"));
}

TEST(Scan, TakesAPrivateValueThatOnlyLooksLikeASequenceAsBytes) {
    DataSet data = DataSet(kImplicit).identity("1.2.3.4");
    data.header(0x00091010, "UN", 20).item(4000).number(0, 8).number(7, 4).pixels(10);
    expect_identity(scan(kImplicit, data));
    DataSet unknown = DataSet(kExplicit).identity("1.2.3.4");
    unknown.header(0x00091010, "UN", 20).item(4000).number(0, 8).number(7, 4).pixels(10);
    expect_identity(scan(kExplicit, unknown));
}

TEST(Scan, ReadsUnknownSequencesOfUndefinedLengthAsImplicit) {
    DataSet data = DataSet(kExplicit).identity("1.2.3.4").header(0x00091010, "UN", kUndefinedLength).item();
    data.number(0x0008, 2).number(0x0050, 2).number(4, 4).number(0x41414141, 4).end_item().end_sequence().pixels(10);
    expect_identity(scan(kExplicit, data));
}

TEST(Scan, RefusesWhatDoesNotFitTogether) {
    const auto with = [](std::string_view syntax, auto add) {
        DataSet data = DataSet(syntax).identity("1.2.3.4");
        add(data);
        return reason(scan(syntax, data.pixels(10)));
    };
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.header(0x00101010, "OB", 0xfffffff0); }), HasSubstr("(0010,1010)"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.header(0x00101010, "\1\2", 2).number(0, 2); }),
                HasSubstr("value representation"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.end_item(); }), HasSubstr("not expected"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.header(0x00081140, "SQ", 8).item(100); }),
                HasSubstr("goes past the end"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.header(0x00081140, "SQ", 4).number(0, 4); }),
                HasSubstr("less than an element"));
    EXPECT_THAT(with(kExplicit,
                     [](DataSet& d) { d.header(0x00081140, "SQ", kUndefinedLength).element(0x00080050, "SH", "A"); }),
                HasSubstr("where an item"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.header(0x00280011, "OB", kUndefinedLength); }),
                HasSubstr("undefined length"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.element(0x00020010, "UI", "1.2"); }), HasSubstr("no place"));
    EXPECT_THAT(with(kExplicit, [](DataSet& d) { d.element(0x00080018, "UI", "1.2.3.5"); }), HasSubstr("there twice"));
    EXPECT_THAT(with(kImplicit, [](DataSet& d) { d.header(0x00101010, "", 0x7fffffff); }), HasSubstr("(0010,1010)"));
}

TEST(Scan, KeepsItsLimits) {
    DataSet many(kExplicit);
    for (int i = 0; i < 100; ++i) many.element(0x00100010, "SH", "A");
    EXPECT_THAT(reason(scan(kExplicit, many, {.max_elements = 99})), HasSubstr("more than 99 elements"));
    EXPECT_THAT(reason(scan(kExplicit, DataSet(kExplicit).identity("1.2.3.4").pixels(5000), {.max_bytes = 4000})),
                HasSubstr("larger than 4000"));
    DataSet long_uid = DataSet(kExplicit).element(0x00080018, "UI", std::string(200, '1'));
    EXPECT_THAT(reason(scan(kExplicit, long_uid)), HasSubstr("too long"));
    // 100 MB of zeros deflate to 100 kB: the limit holds for what comes out.
    const auto bomb = deflated(
        DataSet(kExplicit).identity("1.2.3.4").element(0x7fe00010, "OB", std::string(100'000'000, '\0')).bytes);
    ASSERT_LT(bomb.size(), 1'000'000U);
    EXPECT_FALSE(scan_data_set(*find_transfer_syntax(kDeflated), view(bomb), {.max_bytes = 10'000'000}).ok());
    auto followed = deflated(DataSet(kExplicit).identity("1.2.3.4").bytes);
    followed.insert(followed.end(), 4, 0);
    EXPECT_THAT(reason(scan_data_set(*find_transfer_syntax(kDeflated), view(followed))), HasSubstr("bytes follow"));
}

TEST(Scan, StaysFailed) {
    DataSetScanner scanner(*find_transfer_syntax(kExplicit));
    EXPECT_FALSE(scanner.feed(DataSet(kExplicit).end_item().view()).ok());
    EXPECT_FALSE(scanner.feed(DataSet(kExplicit).identity("1.2.3.4").view()).ok());
    EXPECT_FALSE(scanner.finish().ok());
}

TEST(Scan, SurvivesRandomBytesAndRandomChanges) {
    std::uint32_t state = 12345;
    const auto next = [&state] { return state = state * 1664525 + 1013904223, state >> 16; };
    for (const std::string_view syntax : {kImplicit, kExplicit, kBigEndian, kDeflated, kJpegLossless}) {
        for (int round = 0; round < 2000; ++round) {
            DataSet data = DataSet(syntax == kDeflated ? kExplicit : syntax).identity("1.2.3.4").nested(2);
            data.header(0x00081140, "SQ", 20).item(12).element(0x00080050, "SH", "ABCD").pixels(40);
            if (syntax == kDeflated) data.bytes = deflated(data.bytes);
            for (unsigned i = next() % 8; i > 0; --i)
                data.bytes[next() % data.bytes.size()] = static_cast<std::uint8_t>(next());
            const auto scanned = scan(syntax, data);
            EXPECT_TRUE(scanned.ok() || scanned.error().kind == ErrorKind::Reject);
        }
    }
}

TEST(Identity, NamesWhatIsMissing) {
    DataSetFacts facts{std::string(kCtImage), "1.2.3.4", "CT", "1.2.3.1", "1.2.3.1.1", 5, true, false};
    const auto check = [&facts] {
        const auto checked = check_identity(facts, std::string(kCtImage), "1.2.3.4");
        return checked.ok() ? "accepted" : checked.error().message;
    };
    EXPECT_EQ(check(), "accepted");
    facts.sop_instance_uid = "1.2.3.5";
    EXPECT_THAT(check(), HasSubstr("differs from the command's"));
    facts.sop_instance_uid = "";
    EXPECT_EQ(check(), "SOP Instance UID (0008,0018) is empty");
    facts.sop_instance_uid = "../../etc/passwd";
    EXPECT_EQ(check(), "SOP Instance UID (0008,0018) is not a UID");
    facts.sop_instance_uid = "1.2.3.4";
    facts.study_instance_uid = "";
    EXPECT_EQ(check(), "Study Instance UID (0020,000D) is empty");
    facts.study_instance_uid = "1.2";
    facts.sop_class_uid = "1.2.840.10008.5.1.4.1.1.4";
    EXPECT_THAT(check(), HasSubstr("SOP Class UID"));
}

TEST(Scan, AcceptsTheRealFilesAndRefusesTheEmptyUids) {
    const auto folder = test::shared("data");
    CARDIONODE_NEEDS(folder);
    int accepted = 0;
    for (const char* name :
         {"transfer_syntaxes/testImages", "cta/dicom", "geometry_tilt", "chest_acrin", "chest_heart_rtstruct",
          "seg_sr/dcmqi", "seg_sr/golden", "seg_sr/highdicom", "seg_sr/pydicom-data"}) {
        CARDIONODE_NEEDS(folder / name);
        for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / name)) {
            Instance instance;
            try {
                instance = read_instance(entry.path());
            } catch (const std::exception&) {
                continue;  // licences, metadata
            }
            const TransferSyntax* syntax = find_transfer_syntax(instance.transfer_syntax_uid);
            if (!syntax) continue;
            const auto facts = scan_data_set(*syntax, view(instance.dataset));
            EXPECT_TRUE(facts.ok()) << entry.path() << ": " << facts.error().message;
            ++accepted;
        }
    }
    EXPECT_GT(accepted, 400);
    for (const auto& entry : std::filesystem::directory_iterator(folder / "empty_uids")) {
        if (!entry.path().filename().string().starts_with("CT.")) continue;
        const Instance instance = read_instance(entry.path());
        const auto facts = scan_data_set(*find_transfer_syntax(instance.transfer_syntax_uid), view(instance.dataset));
        ASSERT_TRUE(facts.ok()) << facts.error().message;
        EXPECT_EQ(check_identity(*facts, facts->sop_class_uid, "1.2.3").error().message,
                  "SOP Instance UID (0008,0018) is empty");
    }
}

TEST(Scan, SurvivesTheFuzzFiles) {
    const auto folder = test::shared("data/fuzz");
    CARDIONODE_NEEDS(folder);
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        std::vector<std::uint8_t> bytes(std::filesystem::file_size(entry.path()));
        FILE* file = std::fopen(entry.path().c_str(), "rb");
        ASSERT_EQ(std::fread(bytes.data(), 1, bytes.size(), file), bytes.size());
        std::fclose(file);
        for (const TransferSyntax& syntax : transfer_syntaxes())
            for (const std::size_t from : {std::size_t{0}, std::size_t{132}, std::size_t{300}})
                if (from < bytes.size()) (void)scan_data_set(syntax, view(bytes).subspan(from));
        ++files;
    }
    EXPECT_GT(files, 150);
}
