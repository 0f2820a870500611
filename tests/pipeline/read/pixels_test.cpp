// Compressed pixels: every encoding, damaged streams, and a decoder that fails in every way a process can.
#include "pipeline/read/pixels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>

#include "conf/base/files.h"
#include "pipeline/read/decoder_process.h"
#include "tests/pipeline/read/compressed_ct.h"
#include "tests/support/shared_data.h"
#include "tests/support/synthetic_ct.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using test::TemporaryFolder;
using testing::HasSubstr;

const std::filesystem::path kPrograms = CARDIONODE_BINARY_DIR;

ReadLimits limits() {
    ReadLimits l;
    l.decoder = kPrograms / "cardionode-decode";
    return l;
}

const std::filesystem::path kSyntaxes = test::shared("data/transfer_syntaxes/testImages");

/// HU of a one-frame image.
Result<std::vector<float>> hu_of(const std::filesystem::path& file) {
    Result<InstanceFacts> facts = read_instance(file, 1U << 30);
    if (!facts) return std::move(facts).error();
    std::vector<float> hu(static_cast<std::size_t>(facts->pixels.rows) *
                          static_cast<std::size_t>(facts->pixels.columns));
    PixelReader reader(limits());
    if (Result<void> read = reader.read_hu(*facts, facts->frames.front(), hu); !read) return std::move(read).error();
    return hu;
}

struct Encoding {
    const char* name;
    const char* file;
    double mean_hu, worst_hu;  ///< allowed difference to the uncompressed original; 0: bit for bit
};

class EncodingOf : public testing::TestWithParam<Encoding> {};

TEST_P(EncodingOf, CtImageDecodesToTheOriginal) {
    const auto original_file = kSyntaxes / "CTImage.dcm";
    CARDIONODE_NEEDS(original_file);
    const auto original = hu_of(original_file);
    ASSERT_TRUE(original.ok()) << original.error().message;
    const auto decoded = hu_of(kSyntaxes / GetParam().file);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    ASSERT_EQ(decoded->size(), original->size());
    double worst = 0;
    double sum = 0;
    std::size_t compared = 0;
    for (std::size_t i = 0; i < original->size(); ++i) {
        // Lossy writers smear the padding outside the scanned circle into its neighbours; only the patient counts.
        if (GetParam().mean_hu > 0 && (*original)[i] < -1000) continue;
        const double d = std::abs((*decoded)[i] - (*original)[i]);
        worst = std::max(worst, d);
        sum += d;
        ++compared;
    }
    ASSERT_GT(compared, 10'000U);
    RecordProperty("worst_hu", std::to_string(worst));
    RecordProperty("mean_hu", std::to_string(sum / static_cast<double>(compared)));
    EXPECT_LE(worst, GetParam().worst_hu);
    EXPECT_LE(sum / static_cast<double>(compared), GetParam().mean_hu);
}

INSTANTIATE_TEST_SUITE_P(
    Pixels, EncodingOf,
    testing::Values(
        Encoding{"BigEndian", "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm", 0, 0},
        Encoding{"Deflated", "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm", 0,
                 0},
        Encoding{"ExplicitLittle", "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm", 0, 0},
        Encoding{"ImplicitLittle", "CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm", 0, 0},
        Encoding{"Jpeg2000Lossless", "CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm", 0, 0},
        Encoding{"JpegLsLossless", "CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm", 0, 0},
        Encoding{"JpegLossless", "CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm", 0, 0},
        Encoding{"JpegLosslessSv1", "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm", 0, 0},
        Encoding{"Rle", "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm", 0, 0},
        Encoding{"Jpeg2000Lossy", "CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm", 1, 6},
        Encoding{"JpegLsLossy", "CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm", 1, 1},
        Encoding{"JpegBaseline8Bit", "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm", 20, 70},
        Encoding{"JpegExtended", "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm", 5, 40},
        Encoding{"JpegSpectral", "CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm", 5, 40},
        Encoding{"JpegProgressive", "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm", 5, 40}),
    [](const auto& info) { return std::string(info.param.name); });

constexpr const char* kJpeg2000 = "1.2.840.10008.1.2.4.90";

std::vector<std::int32_t> pattern(int columns, int rows, std::int32_t low, std::int32_t high) {
    std::vector<std::int32_t> v;
    for (int p = 0; p < columns * rows; ++p) v.push_back(low + (p * 37) % (high - low + 1));
    return v;
}

/// One slice whose header says `bits_stored` and `is_signed` and whose codestream is `codestream`.
Result<std::vector<std::int32_t>> stored_of(const TemporaryFolder& folder, int bits_stored, bool is_signed,
                                            const std::vector<std::uint8_t>& codestream) {
    test::SyntheticSlice s;
    s.columns = 32;
    s.rows = 24;
    s.bits_stored = bits_stored;
    s.is_signed = is_signed;
    const auto file = test::write_slices(folder.path(), {s}, [](const Vec3&) { return 0.0; }).front().file;
    test::encapsulate(file, {test::cut(codestream, 400), {}}, kJpeg2000);
    Result<InstanceFacts> facts = read_instance(file, 1U << 30);
    if (!facts) return std::move(facts).error();
    return PixelReader(limits()).read_stored(*facts, 0);
}

TEST(Pixels, Jpeg2000SignAndDepthComeFromTheCodestreamWhereTheHeaderDisagrees) {
    const TemporaryFolder folder;
    const auto negative = pattern(32, 24, -1500, 2500);
    // As it should be.
    EXPECT_EQ(*stored_of(folder, 16, true, test::jpeg_2000(negative, 32, 24, 16, true)), negative);
    // Signed codestream, header says unsigned.
    EXPECT_EQ(*stored_of(folder, 16, false, test::jpeg_2000(negative, 32, 24, 16, true)), negative);
    // Signed samples that were handed to an unsigned encoder as bit patterns.
    for (const int bits : {16, 13}) {
        auto wrapped = negative;
        for (auto& v : wrapped) v &= (1 << bits) - 1;
        EXPECT_EQ(*stored_of(folder, 16, true, test::jpeg_2000(wrapped, 32, 24, bits, false)), negative) << bits;
    }
    const auto positive = pattern(32, 24, 0, 4095);
    EXPECT_EQ(*stored_of(folder, 12, false, test::jpeg_2000(positive, 32, 24, 12, false)), positive);
    EXPECT_EQ(*stored_of(folder, 16, false, test::jpeg_2000(positive, 32, 24, 12, false)), positive);
}

TEST(Pixels, RefusesACodestreamOfAnotherSize) {
    const TemporaryFolder folder;
    const auto read = stored_of(folder, 16, true, test::jpeg_2000(pattern(24, 32, 0, 9), 24, 32, 16, true));
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("another size than the header says"));
}

TEST(Pixels, FindsTheFragmentsOfEachFrame) {
    const auto level = [](const Vec3& p) { return std::round(p[2]); };
    test::SyntheticSlice first;
    first.columns = 32;
    first.rows = 24;
    first.intercept = 0;
    const auto slices = test::stack(4, 2.5, first);
    std::vector<std::vector<std::uint8_t>> codestreams;
    for (const auto& s : slices) {
        auto values = pattern(32, 24, -900, 900);
        for (auto& v : values) v += static_cast<std::int32_t>(2 * s.position[2]);
        codestreams.push_back(test::jpeg_2000(values, 32, 24, 16, true));
    }
    for (const bool whole : {true, false}) {
        for (const bool table : {true, false}) {
            const TemporaryFolder folder;
            const auto file = test::write_enhanced(folder / "e.dcm", slices, level).file;
            test::Encapsulated pixels;
            std::uint32_t offset = 0;
            for (const auto& c : codestreams) {
                if (table) pixels.offset_table.push_back(offset);
                for (const auto& f : test::cut(c, whole ? c.size() : 300)) {
                    offset += 8 + static_cast<std::uint32_t>(f.size());
                    pixels.fragments.push_back(f);
                }
            }
            test::encapsulate(file, pixels, kJpeg2000);
            const auto read = read_study(std::vector{StudyFile{file, "", ""}}, test::small_series(), limits());
            ASSERT_TRUE(read.ok()) << read.error().message;
            for (std::int64_t k = 0; k < 4; ++k) {
                EXPECT_EQ(read->volume.at({{0, 0, k}}), -900.0F + 5.0F * static_cast<float>(k));
                EXPECT_EQ(read->volume.at({{1, 0, k}}), -863.0F + 5.0F * static_cast<float>(k));
            }
        }
    }
}

TEST(Pixels, FindsFramesOfFragmentedJpegWithoutOffsetTable) {
    const auto file = kSyntaxes / "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm";
    CARDIONODE_NEEDS(file);
    const auto facts = read_instance(file, 1U << 30);
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    ASSERT_EQ(facts->frames.size(), 2U);
    EXPECT_EQ((*facts->frames[0].position)[2], -159);
    EXPECT_EQ((*facts->frames[1].position)[2], -149);
    EXPECT_EQ(facts->frames[1].slope, 1);
    EXPECT_EQ(facts->frames[1].intercept, -1024);
    PixelReader reader(limits());
    const auto one = reader.read_stored(*facts, 0);
    const auto two = reader.read_stored(*facts, 1);
    ASSERT_TRUE(one.ok()) << one.error().message;
    ASSERT_TRUE(two.ok()) << two.error().message;
    EXPECT_NE(*one, *two);
    EXPECT_LE(*std::max_element(one->begin(), one->end()), 4095);
    EXPECT_GT(*std::max_element(two->begin(), two->end()), 1000);
}

/// `file` with its last fragment shortened or with `flips` bytes of its pixels changed.
std::filesystem::path damaged(const std::filesystem::path& file, const TemporaryFolder& folder, std::size_t flips,
                              std::mt19937& random) {
    std::string bytes = *read_file(file);
    const std::size_t pixels = bytes.rfind(std::string("\xe0\x7f\x10\x00", 4));
    std::uniform_int_distribution<std::size_t> where(pixels + 60, bytes.size() - 20);
    for (std::size_t n = 0; n < flips; ++n) bytes[where(random)] = static_cast<char>(random());
    const auto path = folder / "damaged.dcm";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
}

TEST(Pixels, DamagedStreamsEndInARefusalOrInPixelsButNeverInACrash) {
    CARDIONODE_NEEDS(kSyntaxes / "CTImage.dcm");
    const TemporaryFolder folder;
    std::mt19937 random(20251);
    int refused = 0;
    for (const char* name : {"CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm",
                             "CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm",
                             "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
                             "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
                             "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm"}) {
        for (const std::size_t flips : {1U, 1U, 3U, 3U, 50U, 50U, 5000U, 5000U}) {
            const auto read = hu_of(damaged(kSyntaxes / name, folder, flips, random));
            if (read.ok()) continue;  // a flipped byte can still be a valid stream
            EXPECT_EQ(read.error().kind, ErrorKind::Reject) << read.error().message;
            ++refused;
        }
    }
    EXPECT_GT(refused, 20);
}

/// Cuts the compressed stream itself, with lengths that fit: what a writer leaves that ran out of disk.
TEST(Pixels, RefusesACompressedStreamThatIsCutOff) {
    const TemporaryFolder folder;
    const auto whole = test::jpeg_2000(pattern(32, 24, -900, 900), 32, 24, 16, true);
    for (const double part : {0.98, 0.7, 0.3, 0.1}) {
        auto cut = whole;
        cut.resize(static_cast<std::size_t>(static_cast<double>(cut.size()) * part) / 2 * 2);
        const auto read = stored_of(folder, 16, true, cut);
        ASSERT_FALSE(read.ok()) << part;
        EXPECT_EQ(read.error().kind, ErrorKind::Reject);
        EXPECT_THAT(read.error().message, HasSubstr("the compressed image is"));
    }
    // The same for the other codecs, on the shared examples.
    CARDIONODE_NEEDS(kSyntaxes / "CTImage.dcm");
    for (const auto& [name, codec] :
         {std::pair{"CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm", decode::Codec::JpegLs},
          std::pair{"CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
                    decode::Codec::JpegLosslessSv1},
          std::pair{"CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm", decode::Codec::JpegExtended},
          std::pair{"CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm", decode::Codec::Rle}}) {
        const std::string bytes = *read_file(kSyntaxes / name);
        const std::size_t element = bytes.rfind(std::string("\xe0\x7f\x10\x00", 4));
        // Behind the element's head (12) and an empty offset table (8, plus 4 where it holds one entry): the item.
        const std::size_t table = static_cast<unsigned char>(bytes[element + 16]);
        const std::size_t start = element + 12 + 8 + table + 8;
        auto decoder = DecoderProcess::start(limits().decoder, std::chrono::seconds(20));
        ASSERT_TRUE(decoder.ok());
        const bool twelve = codec == decode::Codec::JpegExtended;
        const decode::Request request{codec, 512, 512, 16, twelve ? 12U : 16U, twelve ? 0U : 1U, 0};
        const auto all = std::as_bytes(std::span(bytes)).subspan(start);
        ASSERT_TRUE(decoder->decode(request, all.first(all.size() - 8)).ok()) << name;
        for (const double part : {0.95, 0.5, 0.02}) {
            const auto read =
                decoder->decode(request, all.first(static_cast<std::size_t>(static_cast<double>(all.size()) * part)));
            ASSERT_FALSE(read.ok()) << name << " " << part;
            EXPECT_EQ(read.error().kind, ErrorKind::Reject) << read.error().message;
        }
    }
}

TEST(Pixels, SurvivesTheFuzzCorpus) {
    const auto corpus = test::shared("data/fuzz");
    CARDIONODE_NEEDS(corpus);
    int files = 0;
    int slow = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(corpus)) {
        if (entry.path().extension() != ".dcm") continue;
        ++files;
        const auto start = std::chrono::steady_clock::now();
        const Result<InstanceFacts> facts = read_instance(entry.path(), 1U << 30);
        if (facts.ok()) {
            PixelReader reader(limits());
            const auto read = reader.read_stored(*facts, 0);
            if (!read.ok()) {
                EXPECT_EQ(read.error().kind, ErrorKind::Reject) << entry.path() << read.error().message;
            } else {
                EXPECT_EQ(read->size(), static_cast<std::size_t>(facts->pixels.rows) *
                                            static_cast<std::size_t>(facts->pixels.columns));
            }
        } else {
            EXPECT_EQ(facts.error().kind, ErrorKind::Reject) << entry.path() << facts.error().message;
        }
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(5)) ++slow;
    }
    EXPECT_GT(files, 100);
    EXPECT_EQ(slow, 0);
}

// --- a decoder that fails

class FakeDecoder : public testing::Test {
protected:
    /// A script in the decoder's place.
    Result<DecodedFrame> answer_of(const std::string& script,
                                   std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
        const auto path = folder_ / "decoder";
        std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
        Result<DecoderProcess> decoder = DecoderProcess::start(path, timeout);
        if (!decoder) return std::move(decoder).error();
        const std::vector<std::byte> codestream(300'000, std::byte{7});  // more than a socket buffer holds
        return decoder->decode({decode::Codec::JpegLs, 4, 4, 16, 16, 1, 0}, codestream);
    }
    TemporaryFolder folder_;
};

TEST_F(FakeDecoder, ThatHangsCostsTheTimeoutAndIsRetried) {
    for (const char* script : {"exec sleep 100", "head -c 300032 > /dev/null; exec sleep 100",
                               "head -c 300032 > /dev/null; printf CDA1; exec sleep 100"}) {
        const auto start = std::chrono::steady_clock::now();
        const auto read = answer_of(script, std::chrono::milliseconds(300));
        ASSERT_FALSE(read.ok());
        EXPECT_EQ(read.error().kind, ErrorKind::Retry) << read.error().message;
        EXPECT_THAT(read.error().message, HasSubstr("gave no answer"));
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    }
}

TEST_F(FakeDecoder, ThatCrashesCostsTheImage) {
    for (const char* script :
         {"kill -SEGV $$", "head -c 300032 > /dev/null; kill -ABRT $$", "exit 3", "kill -SYS $$"}) {
        const auto read = answer_of(script);
        ASSERT_FALSE(read.ok());
        EXPECT_EQ(read.error().kind, ErrorKind::Reject) << read.error().message;
        EXPECT_THAT(read.error().message, HasSubstr("makes the decoder fail"));
    }
}

TEST_F(FakeDecoder, ThatIsKilledFromOutsideIsRetried) {
    const auto read = answer_of("kill -KILL $$");
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Retry);
}

TEST_F(FakeDecoder, ThatIsBusyWithoutEndCostsTheImage) {
    const auto read = answer_of("kill -PROF $$");
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("busy without end"));
}

TEST_F(FakeDecoder, ThatAnswersNonsenseCostsTheImage) {
    const auto read = answer_of("head -c 300032 > /dev/null; yes nonsense 2> /dev/null");
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("nonsense"));
}

TEST(Decoder, ThatIsMissingIsAMistakeOfTheInstallation) {
    const auto decoder = DecoderProcess::start("/nowhere/cardionode-decode", std::chrono::seconds(1));
    ASSERT_FALSE(decoder.ok());
    EXPECT_EQ(decoder.error().kind, ErrorKind::Config);
}

TEST(Decoder, ThatIsKilledWhileItWaitsIsRetriedAndAnotherOneWorks) {
    auto decoder = DecoderProcess::start(limits().decoder, std::chrono::seconds(20));
    ASSERT_TRUE(decoder.ok());
    ASSERT_EQ(::kill(decoder->pid(), SIGKILL), 0);
    const std::vector<std::byte> codestream(100);
    const auto read = decoder->decode({decode::Codec::Rle, 1, 1, 8, 8, 0, 0}, codestream);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Retry);
}

TEST(Decoder, LeavesNoProcessBehind) {
    pid_t pid = -1;
    {
        auto decoder = DecoderProcess::start(limits().decoder, std::chrono::seconds(20));
        ASSERT_TRUE(decoder.ok());
        pid = decoder->pid();
    }
    EXPECT_EQ(::kill(pid, 0), -1);
    EXPECT_EQ(errno, ESRCH);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // there the sandbox is open
int status_of(const std::string& what) {
    return std::system(((kPrograms / "cardionode-decode").string() + " --try " + what + " 2>/dev/null").c_str());
}

/// The shell reports a child's death by signal n as exit status 128 + n.
int signal_of(int status) {
    if (WIFSIGNALED(status)) return WTERMSIG(status);
    return WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128 : 0;
}

TEST(Sandbox, KillsWhoeverOpensAFileASocketOrAProcess) {
    EXPECT_EQ(signal_of(status_of("open")), SIGSYS);
    EXPECT_EQ(signal_of(status_of("socket")), SIGSYS);
    EXPECT_EQ(signal_of(status_of("fork")), SIGSYS);
}

TEST(Sandbox, BoundsMemoryAndTime) {
    EXPECT_EQ(WEXITSTATUS(status_of("memory")), 1);  // refused by the limit, and said so
    EXPECT_EQ(signal_of(status_of("cpu")), SIGPROF);
}
#endif

}  // namespace
}  // namespace cardionode
