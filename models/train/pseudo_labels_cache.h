// Teachers' answers on disk: one safetensors file a study and teacher, written whole or not at all.
//
// File: <sha256 of the key>.safetensors with, for each head, <head>.labels uint8 [D, H, W], <head>.uncertainty uint8
// [D, H, W] (255: as uncertain as can be) and, of soft answers, <head>.probabilities float16 [C, D, H, W]; the key's
// text stands in the metadata and is compared. The oldest files go when the folder grows beyond its bound.
// Thread safety: one object belongs to one thread; processes may share a folder.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "conf/base/result.h"

namespace cardionode::train {

/// What a teacher said about one head of one study. CPU tensors.
struct TeacherAnswer {
    torch::Tensor labels;         ///< uint8 [D, H, W]: the class of the largest probability
    torch::Tensor uncertainty;    ///< uint8 [D, H, W]: 0..255 for 0..1
    torch::Tensor probabilities;  ///< float16 [C, D, H, W]; undefined unless soft answers were asked for
};
using TeacherAnswers = std::map<std::string, TeacherAnswer>;  ///< by head

class PseudoLabelCache {
public:
    /// Makes the folder if it is not there. Config: it cannot be made.
    /// @param bound_bytes  of all files together; the file written last is kept even if it alone is larger
    static Result<PseudoLabelCache> open(const std::filesystem::path& folder, std::uint64_t bound_bytes);

    /// None: not there, or damaged; then it counts in damaged() and is removed.
    std::optional<TeacherAnswers> find(const std::string& key);
    /// Retry: disk full and the like.
    Result<void> store(const std::string& key, const TeacherAnswers& answers);
    std::int64_t damaged() const { return damaged_; }
    const std::filesystem::path& folder() const { return folder_; }

private:
    PseudoLabelCache(std::filesystem::path folder, std::uint64_t bound) : folder_(std::move(folder)), bound_(bound) {}
    std::filesystem::path file_of(const std::string& key) const;
    void make_room(const std::filesystem::path& newest) const;

    std::filesystem::path folder_;
    std::uint64_t bound_;
    std::int64_t damaged_ = 0;
};

}  // namespace cardionode::train
