#include "models/train/pseudo_labels_files.h"

#include "models/train/study_file.h"

namespace cardionode::train {

Result<StudyToLabel> StudyFilesToLabel::study(std::size_t i) const {
    Result<StudyFile> file = StudyFile::open(files_.at(i));
    if (!file) return std::move(file).error();
    const StudyFacts& facts = file->facts();
    const auto [d, h, w] = facts.size;
    StudyToLabel study;
    study.hash = facts.study_hash;
    study.spacing_mm = {facts.spacing_mm[2], facts.spacing_mm[1], facts.spacing_mm[0]};
    study.sample.origin = files_.at(i).filename().string();
    const Result<std::vector<float>> image = file->image({0, 0, 0}, facts.size, 0);
    if (!image) return image.error();
    study.sample.image = torch::tensor(*image).view({1, d, h, w});
    for (const std::string& head : facts.heads) {
        const Result<std::vector<std::uint8_t>> labels = file->labels(head, {0, 0, 0}, facts.size);
        if (!labels) return labels.error();
        study.sample.targets[head] = torch::tensor(*labels, torch::kByte).view({d, h, w}).to(torch::kLong);
    }
    return study;
}

}  // namespace cardionode::train
