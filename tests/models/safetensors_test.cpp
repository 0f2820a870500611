#include "models/weights/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

std::string file_bytes(const std::string& header, const std::string& data) {
    std::string bytes;
    for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(header.size() >> shift & 0xff);
    return bytes + header + data;
}

class SafetensorsFile : public ::testing::Test {
protected:
    std::filesystem::path file() const { return folder / "t.safetensors"; }
    void put(const std::string& bytes) { std::ofstream(file(), std::ios::binary) << bytes; }
    test::TemporaryFolder folder;
};

TEST_F(SafetensorsFile, KeepsEveryDtypeShapeValueAndText) {
    NamedTensors tensors;
    for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
                             torch::kInt32, torch::kUInt8}) {
        tensors[std::string("t.") + c10::toString(dtype)] = torch::arange(6).view({1, 2, 3}).to(dtype);
    }
    tensors["scalar"] = torch::tensor(2.5f);
    tensors["empty"] = torch::empty({0, 4});
    tensors["strided"] = torch::arange(12, torch::kFloat32).view({3, 4}).t();
    ASSERT_TRUE(write_safetensors(file(), tensors, {{"step", "12"}, {"who", "phantoms"}}).ok());
    auto read = read_safetensors(file());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->metadata, (std::map<std::string, std::string>{{"step", "12"}, {"who", "phantoms"}}));
    ASSERT_EQ(read->tensors.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
        const torch::Tensor& back = read->tensors.at(name);
        EXPECT_EQ(back.scalar_type(), tensor.scalar_type()) << name;
        EXPECT_TRUE(torch::equal(back, tensor)) << name;
    }
}

TEST_F(SafetensorsFile, PrefixReadsOnlyItsTensors) {
    ASSERT_TRUE(write_safetensors(file(), {{"state.a", torch::ones({2})}, {"input", torch::ones({3})}}).ok());
    auto read = read_safetensors(file(), "state.");
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(read->tensors.size(), 1u);
    EXPECT_EQ(read->tensors.count("state.a"), 1u);
}

TEST_F(SafetensorsFile, WritingReplacesTheOldFileAndLeavesNothingElse) {
    ASSERT_TRUE(write_safetensors(file(), {{"a", torch::ones({2})}}).ok());
    ASSERT_TRUE(write_safetensors(file(), {{"b", torch::zeros({1})}}).ok());
    EXPECT_EQ(read_safetensors(file())->tensors.count("b"), 1u);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST_F(SafetensorsFile, RefusesToWriteWhatTheFormatCannotHold) {
    auto written = write_safetensors(file(), {{"c", torch::zeros({1}, torch::kComplexFloat)}});
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().kind, ErrorKind::Bug);
    EXPECT_FALSE(write_safetensors(file(), {{"u", torch::Tensor()}}).ok());
    EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(SafetensorsFile, MissingFolderIsAConfigError) {
    auto written = write_safetensors(folder / "none" / "x.safetensors", {{"a", torch::ones({1})}});
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().kind, ErrorKind::Config);
    auto read = read_safetensors(folder / "none.safetensors");
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Config);
    EXPECT_FALSE(read_safetensors(folder.path()).ok());
}

TEST_F(SafetensorsFile, FileThatIsCutAnywhereIsRefused) {
    ASSERT_TRUE(write_safetensors(file(), {{"a", torch::ones({2, 3})}, {"b", torch::ones({1})}}).ok());
    std::ifstream in(file(), std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), {});
    for (std::size_t length = 0; length < whole.size(); ++length) {
        put(whole.substr(0, length));
        auto read = read_safetensors(file());
        ASSERT_FALSE(read.ok()) << length;
        ASSERT_EQ(read.error().kind, ErrorKind::Config) << length;
    }
    put(whole + "x");
    EXPECT_FALSE(read_safetensors(file()).ok());
}

struct BadHeader {
    const char *name, *json, *expected;
};
class RefusedHeader : public SafetensorsFile, public ::testing::WithParamInterface<BadHeader> {};

TEST_P(RefusedHeader, IsNamed) {
    put(file_bytes(GetParam().json, std::string(8, '\0')));
    auto read = read_safetensors(file());
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Config);
    EXPECT_THAT(read.error().message, HasSubstr(GetParam().expected));
}

#define ENTRY(dtype, shape, offsets) R"({"dtype":")" dtype R"(","shape":)" shape R"(,"data_offsets":)" offsets "}"
INSTANTIATE_TEST_SUITE_P(
    Safetensors, RefusedHeader,
    ::testing::Values(
        BadHeader{"NotJson", "{\"a\":", "not a JSON object"}, BadHeader{"List", "[]", "does not start with"},
        BadHeader{"UnknownDtype", R"({"a":)" ENTRY("F8", "[8]", "[0,8]") "}", "'a': unknown dtype 'F8'"},
        BadHeader{"WrongLength", R"({"a":)" ENTRY("F32", "[3]", "[0,8]") "}", "do not hold the 12 bytes"},
        BadHeader{"Backwards", R"({"a":)" ENTRY("F32", "[2]", "[8,0]") "}", "do not hold"},
        BadHeader{"BehindTheEnd", R"({"a":)" ENTRY("F32", "[4]", "[0,16]") "}", "behind the file's end"},
        BadHeader{"NegativeSize", R"({"a":)" ENTRY("F32", "[-2]", "[0,8]") "}", "negative"},
        BadHeader{"HugeShape", R"({"a":)" ENTRY("F32", "[4294967296,4294967296,4294967296]", "[0,8]") "}", "too large"},
        BadHeader{"OverflowingShape", R"({"a":)" ENTRY("F32", "[2147483648,2147483648,2]", "[0,8]") "}", "too large"},
        BadHeader{"FractionalOffset", R"({"a":)" ENTRY("F32", "[2]", "[0,8.5]") "}", "whole numbers"},
        BadHeader{"Overlap", R"({"a":)" ENTRY("U8", "[6]", "[0,6]") R"(,"b":)" ENTRY("U8", "[4]", "[4,8]") "}",
                  "overlaps"},
        BadHeader{"Gap", R"({"a":)" ENTRY("U8", "[2]", "[0,2]") R"(,"b":)" ENTRY("U8", "[4]", "[4,8]") "}", "gap"},
        BadHeader{"DataWithoutTensor", R"({"a":)" ENTRY("U8", "[2]", "[0,2]") "}",
                  "8 bytes of data, the header names 2"},
        BadHeader{"SameNameTwice", R"({"a":)" ENTRY("U8", "[4]", "[0,4]") R"(,"a":)" ENTRY("U8", "[4]", "[4,8]") "}",
                  "'a' occurs twice"},
        BadHeader{"SameKeyTwice", R"({"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                  "'dtype' occurs twice"},
        BadHeader{"FurtherKey", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}})", "exactly dtype"},
        BadHeader{"DeepNesting", R"({"a":{"dtype":[[[[[]]]]],"shape":[8],"data_offsets":[0,8]}})", "nested"},
        BadHeader{"MetadataNumber", R"({"__metadata__":{"a":1}})", "not a text"},
        BadHeader{"NameWithControl", R"({"a\u0007":)" ENTRY("U8", "[8]", "[0,8]") "}", "not printable"}),
    [](const auto& info) { return std::string(info.param.name); });
#undef ENTRY

TEST_F(SafetensorsFile, HeaderLengthBeyondTheFileAllocatesNothing) {
    put(std::string(8, '\xff') + "{}");
    auto read = read_safetensors(file());
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(read.error().message, HasSubstr("18446744073709551615"));
}

}  // namespace
}  // namespace cardionode
