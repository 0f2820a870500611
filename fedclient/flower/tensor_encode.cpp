#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/hash.h"
#include "fedclient/flower/npy.h"
#include "fedclient/flower/tensor_objects.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

/// Bytes of a tensor's .npy stream, wherever they begin.
Result<void> read_stream(const TensorFile& file, const TensorEntry& entry, const std::string& npy_head,
                         std::uint64_t offset, std::span<std::byte> target) {
    if (offset < npy_head.size()) {
        const std::size_t n = std::min<std::size_t>(npy_head.size() - offset, target.size());
        std::memcpy(target.data(), npy_head.data() + offset, n);
        target = target.subspan(n);
        offset += n;
    }
    if (target.empty()) return {};
    return file.read(entry, offset - npy_head.size(), target);
}

class Encoder {
public:
    Encoder(const TensorFile& file, const ObjectStore& store, ChunkPlace place)
        : file_(&file), store_(&store), place_(place), piece_(kPiece) {}

    Result<EncodedTensors> run() {
        std::vector<std::pair<std::string, std::string>> arrays;
        std::map<std::string, ObjectTree> trees;
        for (const TensorEntry& entry : file_->entries()) {
            if (!entry.floating()) continue;
            if (entry.dtype != "F32")
                return reject_error(
                    fmt::format("tensor {}: {} weights; only float32 is sent", entry.name, entry.dtype));
            auto tree = encode_array(entry);
            if (!tree) return std::move(tree).error().in(fmt::format("tensor {}", entry.name));
            const std::string id = tree->id;
            arrays.emplace_back(entry.name, id);
            trees.emplace(id, std::move(tree).value());
        }
        if (arrays.empty()) return reject_error("weights without any float32 tensor");
        auto record = put(make_name_object(ObjectType::ArrayRecord, arrays));
        if (!record) return std::move(record).error();
        made_.tree.id = *record;
        std::unordered_set<std::string> seen;
        for (const auto& [name, id] : arrays) {
            if (seen.insert(id).second) made_.tree.children.push_back(trees.at(id));
        }
        return std::move(made_);
    }

private:
    Result<std::string> put(const std::string& bytes) {
        auto id = store_->put(bytes);
        if (id && counted_.insert(*id).second) made_.bytes += bytes.size();
        return id;
    }

    Result<ObjectTree> encode_array(const TensorEntry& entry) {
        const std::string npy_head = make_npy_head(entry.shape);
        const std::uint64_t all = npy_head.size() + entry.bytes;
        std::vector<std::string> children;
        std::vector<std::size_t> indexes;
        for (std::uint64_t at = 0; at < all; at += kChunkBytes) {
            const ChunkSlice slice{entry.name, at, std::min(kChunkBytes, all - at)};
            auto id = encode_chunk(entry, npy_head, slice);
            if (!id) return std::move(id).error();
            const auto known = std::find(children.begin(), children.end(), *id);
            indexes.push_back(static_cast<std::size_t>(known - children.begin()));
            if (known == children.end()) children.push_back(std::move(id).value());
        }
        nlohmann::ordered_json body;
        body["dtype"] = "float32";
        body["shape"] = entry.shape;
        body["stype"] = "numpy.ndarray";
        body["arraychunk_ids"] = indexes;
        auto id = put(make_object(ObjectType::Array, children, body.dump()));
        if (!id) return std::move(id).error();
        ObjectTree tree{std::move(id).value(), {}};
        for (const std::string& child : children) tree.children.push_back({child, {}});
        return tree;
    }

    Result<std::string> encode_chunk(const TensorEntry& entry, const std::string& npy_head, const ChunkSlice& slice) {
        const std::string head = object_head(ObjectType::ArrayChunk, {}, slice.bytes);
        Sha256 sha;
        sha.update(head);
        std::optional<ObjectWriter> writer;
        if (place_ == ChunkPlace::InStore) {
            auto begun = store_->begin();
            if (!begun) return std::move(begun).error();
            writer.emplace(std::move(begun).value());
            if (auto written = writer->append(head); !written) return std::move(written).error();
        }
        for (std::uint64_t at = 0; at < slice.bytes; at += kPiece) {
            const auto part =
                std::span(piece_).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, slice.bytes - at)));
            if (auto got = read_stream(*file_, entry, npy_head, slice.offset + at, part); !got)
                return std::move(got).error();
            if (writer) {
                if (auto written = writer->append(part); !written) return std::move(written).error();
            } else {
                sha.update(part);
            }
        }
        std::string id;
        if (writer) {
            auto committed = writer->commit();
            if (!committed) return committed;
            id = std::move(committed).value();
        } else {
            id = sha.hex_digest();
        }
        made_.chunks.emplace(id, slice);
        if (counted_.insert(id).second) made_.bytes += head.size() + slice.bytes;
        return id;
    }

    const TensorFile* file_;
    const ObjectStore* store_;
    ChunkPlace place_;
    std::vector<std::byte> piece_;
    EncodedTensors made_;
    std::unordered_set<std::string> counted_;
};

}  // namespace

Result<EncodedTensors> encode_tensors(const std::filesystem::path& weights, const ObjectStore& store,
                                      ChunkPlace place) {
    const auto file = TensorFile::open(weights);
    if (!file) return file.error();
    return Encoder(*file, store, place).run();
}

struct ChunkReader::State {
    TensorFile file;
    std::map<std::string, ChunkSlice> chunks;
};

ChunkReader::ChunkReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChunkReader::ChunkReader(ChunkReader&&) noexcept = default;
ChunkReader& ChunkReader::operator=(ChunkReader&&) noexcept = default;
ChunkReader::~ChunkReader() = default;

Result<ChunkReader> ChunkReader::open(const std::filesystem::path& weights, std::map<std::string, ChunkSlice> chunks) {
    auto file = TensorFile::open(weights);
    if (!file) return std::move(file).error();
    for (const auto& [id, slice] : chunks) {
        const TensorEntry* entry = file->find(slice.tensor);
        const std::uint64_t all = entry ? make_npy_head(entry->shape).size() + entry->bytes : 0;
        if (slice.offset > all || slice.bytes > all - slice.offset)
            return reject_error(fmt::format("{}: tensor {} is not what it was", weights.string(), slice.tensor));
    }
    return ChunkReader(std::make_unique<State>(State{std::move(file).value(), std::move(chunks)}));
}

bool ChunkReader::has(const std::string& id) const { return state_->chunks.contains(id); }

std::uint64_t ChunkReader::size_of(const std::string& id) const {
    const auto found = state_->chunks.find(id);
    if (found == state_->chunks.end()) return 0;
    return object_head(ObjectType::ArrayChunk, {}, found->second.bytes).size() + found->second.bytes;
}

Result<void> ChunkReader::read(const std::string& id, std::uint64_t offset, std::span<std::byte> target) const {
    const auto found = state_->chunks.find(id);
    if (found == state_->chunks.end()) return bug_error("a chunk that is not of this file");
    const ChunkSlice& slice = found->second;
    const std::string head = object_head(ObjectType::ArrayChunk, {}, slice.bytes);
    if (offset > head.size() + slice.bytes || target.size() > head.size() + slice.bytes - offset)
        return bug_error("a chunk was read beyond its end");
    if (offset < head.size()) {
        const std::size_t n = std::min<std::size_t>(head.size() - offset, target.size());
        std::memcpy(target.data(), head.data() + offset, n);
        target = target.subspan(n);
        offset += n;
    }
    if (target.empty()) return {};
    const TensorEntry& entry = *state_->file.find(slice.tensor);
    return read_stream(state_->file, entry, make_npy_head(entry.shape), slice.offset + offset - head.size(), target);
}

}  // namespace cardionode::fed
