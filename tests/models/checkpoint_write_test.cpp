#include "models/weights/checkpoint_write.h"

#include <torch/serialize.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/weights/checkpoint.h"
#include "models/weights/zip_archive.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

std::string content(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

OrderedTensors some() {
    torch::manual_seed(3);
    return {{"body.0.weight", torch::randn({4, 3, 2, 2, 2})},
            {"body.0.bias", torch::randn({4})},
            {"view", torch::arange(12, torch::kFloat).view({3, 4}).t()},
            {"scalar", torch::tensor(2.5)},
            {"half", torch::randn({300}).to(torch::kHalf)},
            {"whole", torch::tensor({-1, 2, 70000}, torch::kInt64)},
            {"wide", torch::zeros({1, 70000})}};
}

class WrittenCheckpoint : public ::testing::Test {
protected:
    std::filesystem::path write(CheckpointDict kind = CheckpointDict::Ordered) {
        const Result<void> written = write_checkpoint(folder / "w.pt", some(), kind);
        if (!written) throw std::runtime_error(written.error().message);
        return folder / "w.pt";
    }
    test::TemporaryFolder folder;
};

TEST_F(WrittenCheckpoint, ComesBackThroughOurReader) {
    const auto read = read_checkpoint(write());
    ASSERT_TRUE(read.ok()) << read.error().message;
    ASSERT_EQ(read->size(), some().size());
    for (const auto& [name, tensor] : some()) {
        EXPECT_EQ(read->at(name).scalar_type(), tensor.scalar_type()) << name;
        EXPECT_TRUE(torch::equal(read->at(name), tensor)) << name;
    }
    const auto either = read_weights(folder / "w.pt");
    ASSERT_TRUE(either.ok());
    EXPECT_EQ(either->size(), some().size());
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "no temporary file is left";
}

TEST_F(WrittenCheckpoint, ComesBackThroughLibTorch) {
    // torch::pickle_load knows plain dicts alone; archive and tensors are the same in both kinds.
    const std::string bytes = content(write(CheckpointDict::Plain));
    const torch::IValue value = torch::pickle_load({bytes.begin(), bytes.end()});
    ASSERT_TRUE(value.isGenericDict());
    const auto dict = value.toGenericDict();
    ASSERT_EQ(dict.size(), some().size());
    for (const auto& [name, tensor] : some()) EXPECT_TRUE(torch::equal(dict.at(name).toTensor(), tensor)) << name;
}

TEST_F(WrittenCheckpoint, ComesBackThroughPythonsUnpicklerWithTheNamesOfWeightsOnly) {
    const std::string script = std::string(CARDIONODE_SOURCE_DIR) + "/tests/models/read_checkpoint.py";
    for (const CheckpointDict kind : {CheckpointDict::Ordered, CheckpointDict::Plain}) {
        const std::string command = "python3 " + script + " " + write(kind).string();
        std::FILE* pipe = ::popen(command.c_str(), "r");
        ASSERT_NE(pipe, nullptr);
        std::string out;
        char buffer[4096];
        for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
        ASSERT_EQ(::pclose(pipe), 0) << out;
        const auto json = nlohmann::json::parse(out);
        EXPECT_EQ(json["kind"], kind == CheckpointDict::Ordered ? "OrderedDict" : "dict");
        std::size_t at = 0;
        for (const auto& [name, tensor] : some()) {
            EXPECT_EQ(json["order"][at++], name);
            const auto& got = json["tensors"][name];
            EXPECT_EQ(got["shape"].get<std::vector<std::int64_t>>(), tensor.sizes().vec());
            const torch::Tensor flat = tensor.contiguous().flatten().to(torch::kDouble);
            ASSERT_EQ(got["values"].size(), static_cast<std::size_t>(flat.numel()));
            for (std::int64_t i = 0; i < std::min<std::int64_t>(flat.numel(), 50); ++i)
                EXPECT_EQ(got["values"][static_cast<std::size_t>(i)].get<double>(), flat[i].item<double>()) << name;
        }
    }
}

/// data.pkl of an archive.
std::string pickle_in(const std::filesystem::path& file) {
    const Result<WeightsFile> opened = WeightsFile::open(file);
    const auto entries = read_zip_directory(*opened);
    for (const auto& [name, entry] : *entries) {
        if (name.find("/data.pkl") != std::string::npos) return *opened->text(entry.bytes, entry.begin);
    }
    return {};
}

TEST_F(WrittenCheckpoint, IsInstructionByInstructionWhatTorchSaves) {
    const auto shared = test::shared("reference/checkpoints");
    CARDIONODE_NEEDS(shared / "state_dict.pt");
    const auto tensors = read_checkpoint(shared / "plain_dict.pt");
    ASSERT_TRUE(tensors.ok());
    OrderedTensors ordered;
    for (const char* name : {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
                             "1.num_batches_tracked", "2.weight", "2.bias"})
        ordered.emplace_back(name, tensors->at(name));
    EXPECT_EQ(*checkpoint_pickle(ordered, CheckpointDict::Plain), pickle_in(shared / "plain_dict.pt"));
    std::string ours = *checkpoint_pickle(ordered, CheckpointDict::Ordered);
    ours.pop_back();  // STOP; torch sets _metadata before it
    const std::string theirs = pickle_in(shared / "state_dict.pt");
    EXPECT_EQ(ours, theirs.substr(0, ours.size()));

    ASSERT_TRUE(write_checkpoint(folder / "plain_dict.pt", ordered, CheckpointDict::Plain).ok());
    const Result<WeightsFile> a = WeightsFile::open(folder / "plain_dict.pt"),
                              b = WeightsFile::open(shared / "plain_dict.pt");
    const auto mine = read_zip_directory(*a), torchs = read_zip_directory(*b);
    ASSERT_TRUE(mine.ok() && torchs.ok());
    ASSERT_EQ(mine->size(), torchs->size());
    for (const auto& [name, entry] : *torchs) {
        ASSERT_EQ(mine->count(name), 1u) << name;
        EXPECT_EQ(mine->at(name).crc, entry.crc) << name;
        EXPECT_EQ(mine->at(name).bytes, entry.bytes) << name;
        EXPECT_EQ(mine->at(name).begin % 64, entry.begin % 64) << name;
    }
}

TEST_F(WrittenCheckpoint, RefusesWhatItCannotWrite) {
    EXPECT_EQ(write_checkpoint(folder / "no/such/folder/w.pt", some()).error().kind, ErrorKind::Config);
    EXPECT_EQ(write_checkpoint(folder / "w.pt", {{"u", torch::Tensor()}}).error().kind, ErrorKind::Bug);
    EXPECT_FALSE(std::filesystem::exists(folder / "w.pt"));
}

}  // namespace
}  // namespace cardionode
