// Study files (study_file.h) as what teachers are asked about.
//
// A study is held whole in memory while it is asked about, one at a time. Thread safety: as StudiesToLabel.
#pragma once

#include <filesystem>
#include <vector>

#include "models/train/pseudo_labels.h"

namespace cardionode::train {

class StudyFilesToLabel final : public StudiesToLabel {
public:
    /// @param files  read when they are asked for: Config for one that is missing or damaged
    explicit StudyFilesToLabel(std::vector<std::filesystem::path> files) : files_(std::move(files)) {}
    std::size_t count() const override { return files_.size(); }
    /// The hash is the file's own; labels in the file are people's.
    Result<StudyToLabel> study(std::size_t i) const override;

private:
    std::vector<std::filesystem::path> files_;
};

}  // namespace cardionode::train
