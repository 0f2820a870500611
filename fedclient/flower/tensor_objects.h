// Weights as objects: a safetensors file <-> ArrayRecord, Array and ArrayChunk objects, streamed.
//
// Array's body: JSON {"dtype":"float32","shape":[..],"stype":"numpy.ndarray","arraychunk_ids":[index into the
// children, ..]}; a chunk's body is a slice of the tensor's .npy stream, cut at 5,242,880 bytes. Identical chunks are
// one object. On the way out float32 alone; on the way in float64 and float16 too, which become float32. Integer
// tensors (counters, index tables) never travel: averaging them destroys them. Memory: under 2 MiB, however large the
// model. Thread safety: a ChunkReader's const functions may run at once. Errors: Reject for content that is wrong;
// Config and Retry as models/weights/tensor_file.h and object_store.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "conf/base/result.h"
#include "fedclient/flower/object_store.h"
#include "fedclient/flower/objects.h"

namespace cardionode::fed {

inline constexpr std::uint64_t kChunkBytes = 5'242'880;

/// The body of a chunk: bytes [offset, offset + bytes) of the .npy stream of a tensor.
struct ChunkSlice {
    std::string tensor;
    std::uint64_t offset = 0, bytes = 0;

    bool operator==(const ChunkSlice&) const = default;
};

struct EncodedTensors {
    ObjectTree tree;                           ///< its id is the ArrayRecord's
    std::map<std::string, ChunkSlice> chunks;  ///< by object id
    std::uint64_t bytes = 0;                   ///< of all objects, each once
};

enum class ChunkPlace {
    InStore,    ///< each chunk becomes a file of the store
    InWeights,  ///< chunks are read out of the weights when they are needed: no second copy on disk
};

/// ArrayRecord and Array objects go into the store in any case. Deterministic: equal weights have equal ids.
/// Reject: a floating tensor that is not float32.
Result<EncodedTensors> encode_tensors(const std::filesystem::path& weights, const ObjectStore& store, ChunkPlace place);

/// Chunk objects read out of a safetensors file.
class ChunkReader {
public:
    static Result<ChunkReader> open(const std::filesystem::path& weights, std::map<std::string, ChunkSlice> chunks);
    ChunkReader(ChunkReader&&) noexcept;
    ChunkReader& operator=(ChunkReader&&) noexcept;
    ~ChunkReader();

    bool has(const std::string& id) const;
    std::uint64_t size_of(const std::string& id) const;  ///< of the whole object; 0: not here
    Result<void> read(const std::string& id, std::uint64_t offset, std::span<std::byte> target) const;

private:
    struct State;
    explicit ChunkReader(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Writes the weights of an ArrayRecord whose objects are all in the store, durably; tensors in bytewise order of
/// names. The metadata of the file names the record: "array-record-id".
Result<void> decode_tensors(const ObjectStore& store, const std::string& record_id, const std::filesystem::path& out);

}  // namespace cardionode::fed
