#include "models/weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/weights/pickle.h"
#include "models/weights/zip_archive.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

std::string little(std::uint64_t value, int width) {
    std::string bytes;
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
    return bytes;
}

std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
std::string number(std::uint32_t value) { return "J" + little(value, 4); }
std::string tuple(const std::string& items) { return "(" + items + "t"; }

std::string tensor(const std::string& type, std::uint32_t elements, std::uint32_t offset, const std::string& shape,
                   const std::string& strides) {
    const std::string storage =
        tuple(text("storage") + global("torch", type) + text("0") + text("cpu") + number(elements)) + "Q";
    return global("torch._utils", "_rebuild_tensor_v2") +
           tuple(storage + number(offset) + tuple(shape) + tuple(strides) + "\x89" +
                 global("collections", "OrderedDict") + ")R") +
           "R";
}
std::string pickled(const std::string& body) { return "\x80\x02"s + body + "."; }
std::string dict(const std::string& items) { return "}(" + items + "u"; }

struct Packed {
    std::string name, data;
    int method = 0;
};

std::string zip(const std::vector<Packed>& entries) {
    std::string bytes, table;
    for (const Packed& entry : entries) {
        const std::string common = little(static_cast<std::uint64_t>(entry.method), 2) + little(0, 4) +
                                   little(crc32_of(entry.data.data(), entry.data.size()), 4) +
                                   little(entry.data.size(), 4) + little(entry.data.size(), 4) +
                                   little(entry.name.size(), 2) + little(0, 2);
        table += "PK\x01\x02" + little(0, 4) + little(0, 2) + common + std::string(10, '\0') + little(bytes.size(), 4) +
                 entry.name;
        bytes += "PK\x03\x04" + little(0, 2) + little(0, 2) + common + entry.name + entry.data;
    }
    return bytes + table + "PK\x05\x06" + little(0, 4) + little(entries.size(), 2) + little(entries.size(), 2) +
           little(table.size(), 4) + little(bytes.size(), 4) + little(0, 2);
}

std::string floats(const std::vector<float>& values) {
    std::string bytes(values.size() * 4, '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

const std::string kColumns = tensor("FloatStorage", 6, 1, number(2) + number(2), number(1) + number(3));

class Checkpoint : public ::testing::Test {
protected:
    Result<NamedTensors> read(const std::string& bytes) {
        std::ofstream(folder / "t.pt", std::ios::binary) << bytes;
        return read_checkpoint(folder / "t.pt");
    }
    Result<NamedTensors> read_zipped(const std::string& body) {
        return read(zip({{"t/data.pkl", pickled(body)}, {"t/data/0", floats({0, 1, 2, 3, 4, 5})}}));
    }
    std::string refusal(const Result<NamedTensors>& result) {
        if (result) return "it was read";
        EXPECT_EQ(result.error().kind, ErrorKind::Config);
        return result.error().message;
    }
    test::TemporaryFolder folder;
};

TEST_F(Checkpoint, ReadsAStridedViewFromAHandMadeZip) {
    auto tensors = read_zipped(dict(text("w") + kColumns));
    ASSERT_TRUE(tensors.ok()) << tensors.error().message;
    ASSERT_EQ(tensors->size(), 1u);
    EXPECT_TRUE(torch::equal(tensors->at("w"), torch::tensor({{1.f, 4.f}, {2.f, 5.f}})));
    EXPECT_TRUE(tensors->at("w").is_contiguous());
}

TEST_F(Checkpoint, JoinsTheNamesOfNestedDictsAndUnwrapsASingleOne) {
    const std::string inner = dict(text("w") + kColumns);
    auto wrapped = read_zipped(dict(text("epoch") + number(3) + text("model") + inner));
    ASSERT_TRUE(wrapped.ok()) << wrapped.error().message;
    EXPECT_EQ(wrapped->count("w"), 1u);
    auto two = read_zipped(dict(text("a") + inner + text("b") + "](" + kColumns + kColumns + "e"));
    ASSERT_TRUE(two.ok()) << two.error().message;
    EXPECT_EQ(two->size(), 3u);
    for (const char* name : {"a.w", "b.0", "b.1"}) EXPECT_EQ(two->count(name), 1u) << name;
}

TEST_F(Checkpoint, RefusesNamesThatWouldSpoilALog) {
    EXPECT_THAT(refusal(read_zipped(dict(text("w\nERROR: all is lost") + kColumns))), HasSubstr("control characters"));
}

TEST_F(Checkpoint, CutAnywhereIsAnErrorAndNeverACrash) {
    const std::string whole =
        zip({{"t/data.pkl", pickled(dict(text("w") + kColumns))}, {"t/data/0", floats({0, 1, 2, 3, 4, 5})}});
    ASSERT_TRUE(read(whole).ok());
    for (std::size_t length = 0; length < whole.size(); ++length) {
        EXPECT_FALSE(read(whole.substr(0, length)).ok()) << length;
    }
    const std::string pickle = pickled(dict(text("w") + kColumns));
    for (std::size_t length = 0; length < pickle.size(); ++length) {
        EXPECT_FALSE(read_pickle(std::string_view(pickle).substr(0, length)).ok()) << length;
    }
}

TEST_F(Checkpoint, AnyByteChangedIsReadOrRefusedWithoutACrash) {
    const std::string whole = pickled(dict(text("w") + kColumns));
    std::size_t refused = 0;
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (const char value : {'\0', '\x7f', '\xff', '(', 't', 'R', '.'}) {
            std::string changed = whole;
            changed[at] = value;
            auto result = read(zip({{"t/data.pkl", changed}, {"t/data/0", floats({0, 1, 2, 3, 4, 5})}}));
            refused += result ? 0 : 1;
            if (!result) {
                EXPECT_EQ(result.error().kind, ErrorKind::Config) << at << ": " << result.error().message;
            }
        }
    }
    EXPECT_GT(refused, whole.size());
}

TEST_F(Checkpoint, RefusesAForbiddenFunctionByItsName) {
    const std::string call = global("posix", "system") + tuple(text("true")) + "R";
    EXPECT_THAT(refusal(read_zipped(dict(text("w") + kColumns + text("x") + call))), HasSubstr("posix.system"));
    const std::string stacked = text("builtins") + text("eval") + "\x93";
    EXPECT_THAT(refusal(read_zipped(dict(text("x") + stacked))), HasSubstr("builtins.eval"));
}

TEST_F(Checkpoint, RefusesViewsBeyondTheirStorage) {
    for (const std::string& bad :
         {tensor("FloatStorage", 6, 0, number(7), number(1)), tensor("FloatStorage", 6, 6, number(1), number(1)),
          tensor("FloatStorage", 6, 0xffffffff, number(1), number(1)),
          tensor("FloatStorage", 6, 0, number(2), number(0xfffffffe)),
          tensor("FloatStorage", 6, 0, number(2) + number(2), number(0x7fffffff) + number(1)),
          tensor("FloatStorage", 6, 0, number(0xffffffff), number(1))}) {
        EXPECT_THAT(refusal(read_zipped(dict(text("w") + bad))), HasSubstr("beyond its storage"));
    }
    EXPECT_THAT(refusal(read_zipped(dict(text("w") + tensor("FloatStorage", 5, 0, number(1), number(1))))),
                HasSubstr("not as long"));
    EXPECT_THAT(refusal(read_zipped(dict(text("w") + tensor("FloatStorage", 6, 0, number(0x7fffffff), number(0))))),
                HasSubstr("memory"));
}

TEST_F(Checkpoint, RefusesCompressedEntriesAndChangedData) {
    const std::string pickle = pickled(dict(text("w") + kColumns));
    const std::string data = floats({0, 1, 2, 3, 4, 5});
    EXPECT_THAT(refusal(read(zip({{"t/data.pkl", pickle}, {"t/data/0", data, 8}}))), HasSubstr("compressed"));
    std::string changed = zip({{"t/data.pkl", pickle}, {"t/data/0", data}});
    changed[changed.find(data) + 5] ^= 1;
    EXPECT_THAT(refusal(read(changed)), HasSubstr("checksum"));
    EXPECT_THAT(refusal(read(zip({{"t/data.pkl", pickle}, {"t/data/0", data}, {"t/byteorder", "big"}}))),
                HasSubstr("big-endian"));
}

TEST_F(Checkpoint, ListsThatHoldThemselvesEnd) {
    EXPECT_THAT(refusal(read_zipped("]q\x01h\x01\x61"s)), HasSubstr("too deep"));
    // 28 lists, each of which holds the one before twice: 2^28 ways to the innermost
    std::string wide = "(]q"s + '\1';
    for (char slot = 2; slot < 30; ++slot) {
        const std::string before = "h"s + static_cast<char>(slot - 1);
        wide += "]q"s + slot + "(" + before + before + "e";
    }
    EXPECT_THAT(refusal(read_zipped(wide + "t")), HasSubstr("too many values"));
}

class CheckpointOfTorch : public ::testing::TestWithParam<const char*> {};

TEST_P(CheckpointOfTorch, HasTheValuesThatTorchSaved) {
    const auto folder = test::shared("reference/checkpoints");
    CARDIONODE_NEEDS(folder / "expected.json");
    auto tensors = read_checkpoint(folder / (std::string(GetParam()) + ".pt"));
    ASSERT_TRUE(tensors.ok()) << tensors.error().message;
    const auto all = nlohmann::json::parse(std::ifstream(folder / "expected.json"));
    const bool half = std::string(GetParam()) == "half";
    const auto& expected =
        all.at(std::string(GetParam()) == "views" ? "views" : "plain_dict/state_dict/nested(model)/parameters/legacy");
    ASSERT_EQ(tensors->size(), expected.size());
    for (const auto& [name, want] : expected.items()) {
        ASSERT_EQ(tensors->count(name), 1u) << name;
        const torch::Tensor& got = tensors->at(name);
        EXPECT_EQ(got.sizes().vec(), want.at("shape").get<std::vector<std::int64_t>>()) << name;
        const bool whole = want.at("dtype") == "torch.int64";
        EXPECT_EQ(got.scalar_type(), whole ? torch::kInt64 : half ? torch::kFloat16 : torch::kFloat32) << name;
        const torch::Tensor flat = got.to(torch::kFloat64).flatten();
        EXPECT_NEAR(flat.sum().item<double>(), want.at("sum").get<double>(), half ? 1e-2 : 1e-6) << name;
        for (std::size_t i = 0; i < want.at("values").size(); ++i) {
            EXPECT_NEAR(flat[static_cast<std::int64_t>(i)].item<double>(), want.at("values")[i].get<double>(),
                        half ? 3e-4 : 1e-9)
                << name << " " << i;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Files, CheckpointOfTorch,
                         ::testing::Values("plain_dict", "state_dict", "nested", "parameters", "legacy", "half",
                                           "views"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(Checkpoint, AFileThatWantsToRunACommandIsRefusedAndRunsNothing) {
    const auto file = test::shared("reference/checkpoints/malicious.pt");
    CARDIONODE_NEEDS(file);
    const std::filesystem::path trace = "/tmp/cardionode_pickle_ran_code";
    ASSERT_FALSE(std::filesystem::exists(trace)) << "left by something else";
    EXPECT_THAT(refusal(read_checkpoint(file)), HasSubstr("posix.system"));
    EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST_F(Checkpoint, TheOldFormCutAnywhereIsAnError) {
    const auto file = test::shared("reference/checkpoints/legacy.pt");
    CARDIONODE_NEEDS(file);
    std::ifstream in(file, std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(in), {}};
    for (std::size_t length = 0; length < whole.size(); ++length) {
        EXPECT_FALSE(read(whole.substr(0, length)).ok()) << length;
    }
    EXPECT_THAT(refusal(read(whole + "x")), HasSubstr("follows its end"));
}

}  // namespace
}  // namespace cardionode
