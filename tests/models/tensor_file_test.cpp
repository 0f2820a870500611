#include "models/weights/tensor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

std::string file_bytes(const std::string& header, const std::string& data) {
    std::string bytes;
    for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(header.size() >> shift & 0xff);
    return bytes + header + data;
}

class TensorFiles : public ::testing::Test {
protected:
    std::filesystem::path file() const { return folder / "t.safetensors"; }
    void put(const std::string& bytes) { std::ofstream(file(), std::ios::binary) << bytes; }
    std::string bytes_of(const std::filesystem::path& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::ptrdiff_t files() const { return std::distance(std::filesystem::directory_iterator(folder.path()), {}); }
    /// "body.weight" [2, 3] = 0..5, "count" (a scalar) = 7, "none" [0, 4].
    void write_example() {
        auto writer = TensorFileWriter::create(
            file(), {{"body.weight", "F32", {2, 3}}, {"count", "I64", {}}, {"none", "F32", {0, 4}}}, {{"round", "3"}});
        ASSERT_TRUE(writer.ok()) << writer.error().message;
        std::vector<float> values(6);
        std::iota(values.begin(), values.end(), 0.0F);
        const std::int64_t count = 7;
        ASSERT_TRUE(writer->append(std::span<const float>(values).first(1)).ok());
        ASSERT_TRUE(writer->append(std::span<const float>(values).subspan(1)).ok());
        ASSERT_TRUE(writer->append(std::as_bytes(std::span(&count, 1))).ok());
        ASSERT_TRUE(writer->commit().ok());
    }
    test::TemporaryFolder folder;
};

TEST_F(TensorFiles, KeepOrderNamesShapesValuesAndTexts) {
    write_example();
    auto read = TensorFile::open(file());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->metadata(), (std::map<std::string, std::string>{{"round", "3"}}));
    ASSERT_EQ(read->entries().size(), 3u);
    EXPECT_EQ(read->entries()[0].name, "body.weight");
    EXPECT_EQ(read->entries()[0].shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(read->floats(read->entries()[0]).value(), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_TRUE(read->entries()[0].floating());
    const TensorEntry* count = read->find("count");
    ASSERT_NE(count, nullptr);
    EXPECT_FALSE(count->floating());
    EXPECT_EQ(count->elements(), 1u);
    std::int64_t value = 0;
    ASSERT_TRUE(read->read(*count, 0, std::as_writable_bytes(std::span(&value, 1))).ok());
    EXPECT_EQ(value, 7);
    ASSERT_NE(read->find("none"), nullptr);
    EXPECT_EQ(read->find("none")->elements(), 0u);
    EXPECT_TRUE(read->floats(*read->find("none"))->empty());
    EXPECT_EQ(read->find("body"), nullptr);
}

TEST_F(TensorFiles, PieceOfATensorIsReadWhereItLies) {
    write_example();
    const auto read = TensorFile::open(file());
    float two[2] = {};
    ASSERT_TRUE(read->read(read->entries()[0], 3 * sizeof(float), std::as_writable_bytes(std::span(two))).ok());
    EXPECT_EQ(two[0], 3.0F);
    EXPECT_EQ(two[1], 4.0F);
    const auto beyond = read->read(read->entries()[0], 5 * sizeof(float), std::as_writable_bytes(std::span(two)));
    ASSERT_FALSE(beyond.ok());
    EXPECT_EQ(beyond.error().kind, ErrorKind::Bug);
    EXPECT_EQ(read->floats(*read->find("count")).error().kind, ErrorKind::Bug);
    EXPECT_FALSE(read->read({"other", "F32", {1}, 0, 4}, 0, std::as_writable_bytes(std::span(two, 1))).ok());
}

TEST_F(TensorFiles, DataStartsAtAMultipleOfEight) {
    write_example();
    std::uint64_t header = 0;
    const std::string bytes = bytes_of(file());
    std::memcpy(&header, bytes.data(), 8);
    EXPECT_EQ(header % 8, 0u);
    EXPECT_EQ(bytes.size(), 8 + header + 6 * 4 + 8);
}

TEST_F(TensorFiles, NothingIsVisibleBeforeCommitAndNothingIsLeftWithoutIt) {
    put("old");
    {
        auto writer = TensorFileWriter::create(file(), {{"a", "F32", {1}}});
        ASSERT_TRUE(writer.ok());
        ASSERT_TRUE(writer->append(std::vector<float>{1}).ok());
        EXPECT_EQ(bytes_of(file()), "old");
    }
    EXPECT_EQ(bytes_of(file()), "old");
    EXPECT_EQ(files(), 1);
    write_example();
    EXPECT_TRUE(TensorFile::open(file()).ok());
    EXPECT_EQ(files(), 1);
}

TEST_F(TensorFiles, LeftoverOfAKilledWriterIsTakenOver) {
    std::ofstream(file().string() + ".part", std::ios::binary) << std::string(100'000, 'x');
    write_example();
    EXPECT_TRUE(TensorFile::open(file()).ok());
    EXPECT_EQ(files(), 1);
}

TEST_F(TensorFiles, TwoWritersOfOneFileAreRefused) {
    auto first = TensorFileWriter::create(file(), {{"a", "F32", {1}}});
    ASSERT_TRUE(first.ok());
    const auto second = TensorFileWriter::create(file(), {{"a", "F32", {1}}});
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(second.error().message, HasSubstr("somebody else is writing it"));
    ASSERT_TRUE(first->append(std::vector<float>{4}).ok());
    ASSERT_TRUE(first->commit().ok());
    EXPECT_EQ(TensorFile::open(file())->floats({"a", "F32", {1}, 0, 4}).value(), std::vector<float>{4});
}

TEST_F(TensorFiles, TooManyOrTooFewBytesAreABug) {
    auto writer = TensorFileWriter::create(file(), {{"a", "F32", {2}}});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->append(std::vector<float>{1}).ok());
    EXPECT_EQ(writer->append(std::vector<float>{1, 2}).error().kind, ErrorKind::Bug);
    EXPECT_THAT(writer->commit().error().message, HasSubstr("4 bytes of its tensors are missing"));
    ASSERT_TRUE(writer->append(std::vector<float>{2}).ok());
    ASSERT_TRUE(writer->commit().ok());
    EXPECT_EQ(writer->commit().error().kind, ErrorKind::Bug);
    EXPECT_EQ(writer->append(std::vector<float>{2}).error().kind, ErrorKind::Bug);
}

TEST_F(TensorFiles, WriterRefusesWhatTheReaderWould) {
    for (const std::vector<TensorEntry>& entries : {std::vector<TensorEntry>{{"a", "F8", {1}}},
                                                    {{"a", "F32", {-1}}},
                                                    {{"", "F32", {1}}},
                                                    {{"a\n", "F32", {1}}},
                                                    {{"__metadata__", "F32", {1}}},
                                                    {{"a", "F32", {1LL << 40, 1LL << 40}}},
                                                    {{"a", "F32", {1}}, {"a", "F32", {1}}},
                                                    {{"a", "F32", {0}}, {"a", "F32", {0}}}}) {
        const auto writer = TensorFileWriter::create(file(), entries);
        ASSERT_FALSE(writer.ok()) << entries.back().name;
        EXPECT_EQ(writer.error().kind, ErrorKind::Bug);
    }
    EXPECT_EQ(files(), 0);
    EXPECT_EQ(TensorFileWriter::create(file(), {}, {{"bad", "\xff"}}).error().kind, ErrorKind::Bug);
}

TEST_F(TensorFiles, LinkInTheTemporarysPlaceIsNeverFollowed) {
    std::filesystem::create_symlink(folder / "target", file().string() + ".part");
    const auto linked = TensorFileWriter::create(file(), {{"a", "F32", {1}}});
    ASSERT_FALSE(linked.ok());
    EXPECT_EQ(linked.error().kind, ErrorKind::Config);
}

TEST_F(TensorFiles, MissingFolderAndStrangeFilesAreConfigErrors) {
    EXPECT_EQ(TensorFileWriter::create(folder / "none" / "x", {{"a", "F32", {1}}}).error().kind, ErrorKind::Config);
    EXPECT_EQ(TensorFile::open(folder / "none").error().kind, ErrorKind::Config);
    EXPECT_EQ(TensorFile::open(folder.path()).error().kind, ErrorKind::Config);
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_EQ(TensorFile::open(folder / "pipe").error().kind, ErrorKind::Config);
}

TEST_F(TensorFiles, FileThatIsCutAnywhereIsRefused) {
    write_example();
    const std::string whole = bytes_of(file());
    for (std::size_t length = 0; length < whole.size(); ++length) {
        put(whole.substr(0, length));
        const auto read = TensorFile::open(file());
        ASSERT_FALSE(read.ok()) << length;
        ASSERT_EQ(read.error().kind, ErrorKind::Config) << length;
    }
    put(whole + "x");
    EXPECT_FALSE(TensorFile::open(file()).ok());
    put(std::string(8, '\xff') + "{}");
    EXPECT_THAT(TensorFile::open(file()).error().message, HasSubstr("18446744073709551615"));
}

TEST_F(TensorFiles, FileThatBecomesShorterIsAnErrorNotASignal) {
    write_example();
    const auto read = TensorFile::open(file());
    std::filesystem::resize_file(file(), 100);
    const auto values = read->floats(*read->find("body.weight"));
    ASSERT_FALSE(values.ok());
    EXPECT_EQ(values.error().kind, ErrorKind::Config);
}

// The header's checks themselves are tested in safetensors_test.cpp, which reads through the same code.
TEST_F(TensorFiles, HeaderIsCheckedWithTheTensorsName) {
    put(file_bytes(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", std::string(8, '\0')));
    EXPECT_THAT(TensorFile::open(file()).error().message, HasSubstr("'a': data_offsets do not hold the 12 bytes"));
    put(file_bytes(R"({"a":{"dtype":"F9","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0')));
    EXPECT_THAT(TensorFile::open(file()).error().message, HasSubstr("unknown dtype 'F9'"));
}

}  // namespace
}  // namespace cardionode
