// A safetensors file tensor by tensor, without torch: for programs that carry weights but do not compute with them, and
// for files that must never be in memory whole.
//
// Layout and checks are those of models/weights/safetensors.h; a file is streamed, never mapped. dtypes by the names of
// the format: F64, F32, F16, BF16, I64, I32, U8.
// Thread safety: const functions of TensorFile may run at once; a TensorFileWriter belongs to one thread.
// Errors: Config for a missing, forbidden or damaged file; Retry for I/O trouble or a full disk; Bug for misuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct TensorEntry {
    std::string name;
    std::string dtype = "F32";
    std::vector<std::int64_t> shape;  ///< empty: a scalar
    std::uint64_t begin = 0;          ///< bytes from the end of the header
    std::uint64_t bytes = 0;

    std::uint64_t elements() const;
    bool floating() const;  ///< F64, F32, F16, BF16
};

class TensorFile {
public:
    static Result<TensorFile> open(const std::filesystem::path& file);
    TensorFile(TensorFile&&) noexcept;
    TensorFile& operator=(TensorFile&&) noexcept;
    ~TensorFile();

    /// In the order in which they lie in the file.
    const std::vector<TensorEntry>& entries() const;
    const TensorEntry* find(std::string_view name) const;
    const std::map<std::string, std::string>& metadata() const;

    /// Raw little-endian bytes [offset, offset + target.size()) of a tensor. Bug: beyond its end.
    Result<void> read(const TensorEntry& entry, std::uint64_t offset, std::span<std::byte> target) const;
    /// All values of an F32 tensor. Bug: another dtype.
    Result<std::vector<float>> floats(const TensorEntry& entry) const;

private:
    struct State;
    explicit TensorFile(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Writes durably and atomically: nothing is visible under the name before commit() has synced file and folder.
class TensorFileWriter {
public:
    /// @param entries  name, dtype and shape in the order in which the data will come; begin and bytes are set here
    static Result<TensorFileWriter> create(const std::filesystem::path& file, std::vector<TensorEntry> entries,
                                           const std::map<std::string, std::string>& metadata = {});
    TensorFileWriter(TensorFileWriter&&) noexcept;
    ~TensorFileWriter();  ///< without commit() nothing is left behind

    /// The next bytes of the data, tensor after tensor, in pieces of any size. Bug: more than announced.
    Result<void> append(std::span<const std::byte> bytes);
    Result<void> append(std::span<const float> values);
    /// Bug: bytes are missing.
    Result<void> commit();

private:
    struct State;
    explicit TensorFileWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
