#include "fedclient/flower/tensor_objects.h"

#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/hash.h"
#include "fedclient/flower/npy.h"
#include "models/weights/tensor_file.h"
#include "tests/fedclient/flower/weights_of_test.h"
#include "tests/support/memory_peak.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using testing::HasSubstr;

class TensorObjects : public testing::Test {
protected:
    test::TemporaryFolder folder;
    ObjectStore store = ObjectStore::open(folder / "objects").value();

    std::string put_chunk(const std::string& body) {
        return store.put(make_object(ObjectType::ArrayChunk, {}, body)).value();
    }
    std::string put_array(const std::string& json, const std::vector<std::string>& chunks) {
        return store.put(make_object(ObjectType::Array, chunks, json)).value();
    }
    std::string put_record(const std::string& name, const std::string& array) {
        return store.put(make_name_object(ObjectType::ArrayRecord, {{name, array}})).value();
    }
    /// One tensor of one chunk.
    std::string record_of(const std::string& array_json, const std::string& npy) {
        return put_record("w", put_array(array_json, {put_chunk(npy)}));
    }
    void expect_refused(const std::string& record, const std::string& words) {
        const auto made = decode_tensors(store, record, folder / "out.safetensors");
        ASSERT_FALSE(made.ok()) << words;
        EXPECT_EQ(made.error().kind, ErrorKind::Reject);
        EXPECT_THAT(made.error().message, HasSubstr(words));
        EXPECT_FALSE(std::filesystem::exists(folder / "out.safetensors"));
    }
    static std::string array_json(const std::string& dtype, const std::string& shape) {
        return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"stype":"numpy.ndarray","arraychunk_ids":[0]})";
    }
};

std::string npy(const std::vector<std::int64_t>& shape, const std::string& values) {
    return make_npy_head(shape) + values;
}
std::string floats(std::vector<float> values) { return {reinterpret_cast<char*>(values.data()), values.size() * 4}; }

TEST_F(TensorObjects, WeightsComeBackAsTheyWere) {
    test::write_weights(folder / "in.safetensors",
                        {{"b.weight", {3, 2}, 1}, {"a.bias", {7}, 2}, {"scale", {}, 3}, {"none", {0, 4}, 0}});
    const auto encoded = encode_tensors(folder / "in.safetensors", store, ChunkPlace::InStore);
    ASSERT_TRUE(encoded.ok()) << encoded.error().message;
    EXPECT_EQ(store.tree_of(encoded->tree.id).value(), encoded->tree);
    const auto decoded = decode_tensors(store, encoded->tree.id, folder / "out.safetensors");
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    const auto in = TensorFile::open(folder / "in.safetensors"), out = TensorFile::open(folder / "out.safetensors");
    ASSERT_TRUE(in.ok() && out.ok());
    ASSERT_EQ(out->entries().size(), 4U);
    for (const TensorEntry& entry : in->entries()) {
        const TensorEntry* other = out->find(entry.name);
        ASSERT_NE(other, nullptr) << entry.name;
        EXPECT_EQ(other->shape, entry.shape);
        EXPECT_EQ(out->floats(*other).value(), in->floats(entry).value());
    }
    EXPECT_EQ(out->metadata().at("array-record-id"), encoded->tree.id);
}

TEST_F(TensorObjects, ChunksAreReadOutOfTheWeightsBitForBit) {
    test::write_weights(folder / "in.safetensors", {{"large", {1'500'000}, 1}, {"small", {5}, 2}});
    const auto stored = encode_tensors(folder / "in.safetensors", store, ChunkPlace::InStore);
    const auto empty = ObjectStore::open(folder / "small-objects");
    const auto sliced = encode_tensors(folder / "in.safetensors", *empty, ChunkPlace::InWeights);
    ASSERT_TRUE(stored.ok() && sliced.ok());
    EXPECT_EQ(stored->tree, sliced->tree);
    EXPECT_EQ(stored->chunks, sliced->chunks);
    EXPECT_EQ(stored->bytes, sliced->bytes);
    EXPECT_EQ(stored->chunks.size(), 3U);  // 6,000,128 bytes at 5,242,880; and the small one
    EXPECT_EQ(empty->ids()->size(), 3U);   // two Arrays and the ArrayRecord
    const auto reader = ChunkReader::open(folder / "in.safetensors", sliced->chunks);
    ASSERT_TRUE(reader.ok());
    for (const auto& [id, slice] : sliced->chunks) {
        std::string bytes(reader->size_of(id), '\0');
        for (std::size_t at = 0; at < bytes.size(); at += 999'983) {
            const auto part =
                std::as_writable_bytes(std::span(bytes)).subspan(at, std::min<std::size_t>(999'983, bytes.size() - at));
            ASSERT_TRUE(reader->read(id, at, part).ok());
        }
        EXPECT_EQ(sha256_hex(bytes), id);
    }
}

TEST_F(TensorObjects, IdenticalChunksAreOneObject) {
    const std::size_t count = 3 * kChunkBytes / 4;
    TensorEntry zeros;
    zeros.name = "zeros";
    zeros.shape = {static_cast<std::int64_t>(count)};
    auto writer = TensorFileWriter::create(folder / "in.safetensors", {zeros});
    ASSERT_TRUE(writer->append(std::span<const float>(std::vector<float>(count))).ok());
    ASSERT_TRUE(writer->commit().ok());
    const auto encoded = encode_tensors(folder / "in.safetensors", store, ChunkPlace::InStore);
    ASSERT_TRUE(encoded.ok());
    ASSERT_EQ(encoded->tree.children.size(), 1U);
    EXPECT_EQ(encoded->tree.children[0].children.size(), 3U);  // with the head; twice the same; the rest
    EXPECT_THAT(store.load(encoded->tree.children[0].id)->body, HasSubstr("\"arraychunk_ids\":[0,1,1,2]"));
    ASSERT_TRUE(decode_tensors(store, encoded->tree.id, folder / "out.safetensors").ok());
    const auto out = TensorFile::open(folder / "out.safetensors");
    EXPECT_EQ(out->floats(out->entries()[0]).value(), std::vector<float>(count));
}

TEST_F(TensorObjects, SixtyMegabytesPassInLittleMemory) {
    test::write_weights(folder / "in.safetensors", {{"w", {15'000'000}, 1}});
    const test::MemoryPeak peak;
    const auto encoded = encode_tensors(folder / "in.safetensors", store, ChunkPlace::InStore);
    ASSERT_TRUE(encoded.ok());
    ASSERT_TRUE(decode_tensors(store, encoded->tree.id, folder / "out.safetensors").ok());
    EXPECT_LT(peak.risen_megabytes(), 6);
    EXPECT_EQ(std::filesystem::file_size(folder / "out.safetensors") / 1'000'000, 60U);
}

TEST_F(TensorObjects, OtherFloatsBecomeFloat32) {
    std::vector<double> wide = {0.5, -3.25};
    std::string head = make_npy_head({2});
    head.replace(head.find("<f4"), 3, "<f8");
    const std::string doubles(reinterpret_cast<char*>(wide.data()), 16);
    ASSERT_TRUE(
        decode_tensors(store, record_of(array_json("float64", "[2]"), head + doubles), folder / "d.safetensors").ok());
    auto file = TensorFile::open(folder / "d.safetensors");
    EXPECT_EQ(file->floats(file->entries()[0]).value(), (std::vector<float>{0.5F, -3.25F}));

    // 1, -2, the smallest subnormal, infinity
    std::vector<std::uint16_t> halves = {0x3C00, 0xC000, 0x0001, 0x7C00};
    head = make_npy_head({4});
    head.replace(head.find("<f4"), 3, "<f2");
    const std::string narrow(reinterpret_cast<char*>(halves.data()), 8);
    ASSERT_TRUE(
        decode_tensors(store, record_of(array_json("float16", "[4]"), head + narrow), folder / "h.safetensors").ok());
    file = TensorFile::open(folder / "h.safetensors");
    EXPECT_EQ(file->floats(file->entries()[0]).value(),
              (std::vector<float>{1, -2, std::ldexp(1.0F, -24), std::numeric_limits<float>::infinity()}));
}

TEST_F(TensorObjects, ChunksMayBeCutAnywhere) {
    const std::string stream = npy({3}, floats({1, 2, 3}));
    std::vector<std::string> chunks;
    std::string indexes;
    for (std::size_t at = 0; at < stream.size(); at += 5) {
        const std::string id = put_chunk(stream.substr(at, 5));
        const auto known = std::find(chunks.begin(), chunks.end(), id);
        indexes += (indexes.empty() ? "" : ",") + std::to_string(known - chunks.begin());
        if (known == chunks.end()) chunks.push_back(id);
    }
    const std::string json =
        R"({"dtype":"float32","shape":[3],"stype":"numpy.ndarray","arraychunk_ids":[)" + indexes + "]}";
    ASSERT_TRUE(decode_tensors(store, put_record("w", put_array(json, chunks)), folder / "out.safetensors").ok());
    const auto file = TensorFile::open(folder / "out.safetensors");
    EXPECT_EQ(file->floats(file->entries()[0]).value(), (std::vector<float>{1, 2, 3}));
}

TEST_F(TensorObjects, RefuseWhatDoesNotFitTogether) {
    const std::string good = npy({2}, floats({1, 2}));
    expect_refused(record_of(array_json("float32", "[3]"), good), "another type or shape");
    expect_refused(record_of(array_json("float64", "[2]"), good), "another type or shape");
    expect_refused(record_of(array_json("float32", "[2]"), good + "x"), "more values");
    expect_refused(record_of(array_json("float32", "[2]"), good.substr(0, good.size() - 1)), "fewer values");
    expect_refused(record_of(array_json("int64", "[2]"), good), "another type");
    expect_refused(record_of(R"({"dtype":"float32","shape":[2],"stype":"pickle","arraychunk_ids":[0]})", good),
                   "stype");
    expect_refused(record_of(R"({"dtype":"float32","shape":[2],"stype":"numpy.ndarray","arraychunk_ids":[1]})", good),
                   "no child");
    expect_refused(record_of(R"({"dtype":"float32","shape":[2],"stype":"numpy.ndarray","arraychunk_ids":[]})", good),
                   "no chunk");
    expect_refused(record_of("not json", good), "missing");
    expect_refused(put_record("w", put_chunk(good)), "another type");
    expect_refused(put_chunk(good), "no ArrayRecord");
}

TEST_F(TensorObjects, IntegersStayAtHomeAndOtherFloatsAreNotSent) {
    TensorEntry real, count;
    real.name = "w";
    real.shape = {1};
    count.name = "num_batches_tracked";
    count.dtype = "I64";
    auto writer = TensorFileWriter::create(folder / "in.safetensors", {real, count});
    ASSERT_TRUE(writer->append(std::as_bytes(std::span("123456789012", 12))).ok());
    ASSERT_TRUE(writer->commit().ok());
    const auto encoded = encode_tensors(folder / "in.safetensors", store, ChunkPlace::InStore);
    ASSERT_TRUE(encoded.ok());
    EXPECT_EQ(encoded->tree.children.size(), 1U);

    TensorEntry half = real;
    half.dtype = "F16";
    auto other = TensorFileWriter::create(folder / "half.safetensors", {half});
    ASSERT_TRUE(other->append(std::as_bytes(std::span("12", 2))).ok());
    ASSERT_TRUE(other->commit().ok());
    const auto refused = encode_tensors(folder / "half.safetensors", store, ChunkPlace::InStore);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("only float32"));
}

}  // namespace
}  // namespace cardionode::fed
