// One study on disk as training reads it: the image on the network's grid, normalised, and label maps of some heads.
//
// A safetensors file: "image" float32 (or float16) [D, H, W] in z (to head), y (to back), x (to left), as the pipeline
// hands it to the network; "<head>" uint8 [D, H, W], a head without label is absent. Metadata: study_hash (SHA-256 of
// the image's float32 values), patient_hash (one patient, one hash; never a name or an ID), source (dicom, nifti, ...),
// spacing_mm, origin_lps_mm, input (what the image was normalised by). Nothing in it names a patient.
// Windows are read from the file where they lie; a study is never in memory whole.
// Thread safety: values; const functions of StudyFile may run at once. torch stays inside the .cpp.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"

namespace cardionode::train {

using Sides = std::array<std::int64_t, 3>;  ///< D, H, W

struct StudyFacts {
    std::string study_hash, patient_hash;
    std::string source;  ///< for people: "dicom", "nifti, points", "phantom 7"
    Sides size{};
    std::array<double, 3> spacing_mm{}, origin_lps_mm{};  ///< x, y, z
    std::string input;                                    ///< input_words() of what the image was normalised by
    std::vector<std::string> heads;                       ///< those with a label map
};

struct Study {
    StudyFacts facts;  ///< study_hash and heads are filled in by write_study
    std::vector<float> image;
    std::map<std::string, std::vector<std::uint8_t>> labels;
};

/// All of an input that decides the voxels: "spacing 2 2 2 LPS, HU -250 1000, mean 100, sd 250".
std::string input_words(const InputManifest& input);

/// SHA-256 of the voxels, little-endian float32.
std::string hash_of_voxels(const std::vector<float>& image);

/// Durably and atomically. @param half  image as float16: half the size, rounded to 11 bits. Bug: sizes that do not
/// fit. Retry: disk full.
Result<void> write_study(const std::filesystem::path& file, Study study, bool half = false);

class StudyFile {
public:
    /// Config: missing, damaged, or no study.
    static Result<StudyFile> open(const std::filesystem::path& file);
    StudyFile(StudyFile&&) noexcept;
    StudyFile& operator=(StudyFile&&) noexcept;
    ~StudyFile();

    const StudyFacts& facts() const;
    const std::filesystem::path& file() const;
    /// Voxels [begin, begin + size), which may reach beyond the study: there the value is `outside`.
    Result<std::vector<float>> image(const Sides& begin, const Sides& size, float outside) const;
    /// The same of a head of facts().heads; 0 beyond the study.
    Result<std::vector<std::uint8_t>> labels(const std::string& head, const Sides& begin, const Sides& size) const;

private:
    struct State;
    explicit StudyFile(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::train
