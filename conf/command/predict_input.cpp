#include "conf/command/predict_input.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <set>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "pipeline/read/identity.h"
#include "pipeline/read/instance.h"
#include "pipeline/read/nifti.h"

namespace cardionode {
namespace {

constexpr std::size_t kMostFiles = 100'000;

/// Part 10 files say DICM after 128 bytes (PS3.10 7.1).
bool is_dicom(const std::filesystem::path& file) {
    std::array<char, 132> start{};
    std::ifstream stream(file, std::ios::binary);
    return stream.read(start.data(), start.size()) && std::string_view(&start[128], 4) == "DICM";
}

struct Found {
    std::vector<std::filesystem::path> dicom;
    std::size_t others = 0;
};

Result<Found> files_in(const std::filesystem::path& folder, bool recursive) {
    namespace fs = std::filesystem;
    Found found;
    const auto take = [&](const fs::directory_entry& entry) {
        std::error_code no_matter;
        if (!entry.is_regular_file(no_matter)) return;
        // DICOMDIR lists files and is no image.
        if (entry.path().filename() != "DICOMDIR" && is_dicom(entry.path())) found.dicom.push_back(entry.path());
        else ++found.others;
    };
    std::error_code error;
    if (recursive) {
        for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
            take(*at);
            if (found.dicom.size() > kMostFiles) {
                return reject_error("the folder holds more than 100000 DICOM files; give the folder of one study");
            }
        }
    } else {
        for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) take(*at);
    }
    if (error) return file_error("reading", folder, error.value());
    std::sort(found.dicom.begin(), found.dicom.end());
    return found;
}

/// The CT images of one study in a folder.
struct Study {
    std::vector<InstanceFacts> images;
};

struct Sorted {
    std::vector<std::string> order;  ///< study UIDs in the order of their first file
    std::map<std::string, Study> studies;
    std::vector<StudyFile> rest;  ///< no CT, or not readable: for the reasons that read_study gives
};

Result<Sorted> sort_by_study(const std::vector<std::filesystem::path>& files, const ReadLimits& limits,
                             const InputProgress& progress) {
    Sorted sorted;
    int done = 0;
    const int total = 2 * static_cast<int>(files.size());  // read_study opens them again
    for (const auto& file : files) {
        if (!progress(++done, total)) return retry_error("cancelled");
        const auto kind = read_class(file, limits.max_file_bytes);
        if (!kind && kind.error().kind != ErrorKind::Reject) return kind.error();
        if (!kind || !is_ct_class(kind->sop_class_uid)) {
            sorted.rest.push_back({file, kind ? kind->sop_class_uid : "", kind ? kind->modality : ""});
            continue;
        }
        auto facts = read_instance(file, limits.max_file_bytes);
        if (!facts && facts.error().kind != ErrorKind::Reject) return std::move(facts).error();
        if (!facts) {
            sorted.rest.push_back({file, kind->sop_class_uid, kind->modality});
            continue;
        }
        const std::string uid = facts->study_instance_uid;
        if (!sorted.studies.contains(uid)) sorted.order.push_back(uid);
        sorted.studies[uid].images.push_back(std::move(*facts));
    }
    return sorted;
}

/// "series 2 (CTA 0.75), 164 images; series 1 (Topogram), 1 image"
std::string series_of(const Study& study) {
    std::map<std::pair<std::optional<int>, std::string>, std::pair<int, std::string>> by_series;
    for (const InstanceFacts& image : study.images) {
        auto& [count, description] = by_series[{image.series_number, image.series_instance_uid}];
        ++count;
        description = image.series_description;
    }
    std::string text;
    for (const auto& [key, value] : by_series) {
        const auto& [count, description] = value;
        text += fmt::format("{}series {}{}, {} image{}", text.empty() ? "" : "; ",
                            key.first ? std::to_string(*key.first) : "without number",
                            description.empty() ? "" : " (" + description + ")", count, count == 1 ? "" : "s");
    }
    return text;
}

Error many_studies(const Sorted& sorted, const std::filesystem::path& folder) {
    std::string message =
        fmt::format("the folder holds CT images of {} studies; choose one with --study NUMBER:", sorted.order.size());
    for (std::size_t n = 0; n < sorted.order.size(); ++n) {
        const Study& study = sorted.studies.at(sorted.order[n]);
        std::error_code no_matter;
        const auto where =
            std::filesystem::relative(study.images.front().file.parent_path(), folder, no_matter).string();
        message += fmt::format("\n  {}  in {}: {}", n + 1, where.empty() ? "." : where, series_of(study));
    }
    return reject_error(std::move(message));
}

Result<PredictInput> read_dicom(const std::filesystem::path& path, const InputChoice& choice, bool with_identity,
                                const ReadLimits& limits, const InputProgress& progress) {
    const bool one_file = !std::filesystem::is_directory(path);
    const std::filesystem::path folder =
        one_file ? (path.has_parent_path() ? path.parent_path() : std::filesystem::path(".")) : path;
    auto files = files_in(folder, !one_file);
    if (!files) return std::move(files).error();
    if (files->dicom.empty()) {
        if (files->others == 0) return reject_error("the folder is empty");
        return reject_error(
            fmt::format("the folder holds no DICOM file ({} other file{}); give a folder with the CT "
                        "images of a study, or a NIfTI file",
                        files->others, files->others == 1 ? "" : "s"));
    }
    auto sorted = sort_by_study(files->dicom, limits, progress);
    if (!sorted) return std::move(sorted).error();

    std::vector<StudyFile> chosen;
    if (!sorted->order.empty()) {
        std::size_t number = 0;
        std::string series_uid;
        if (one_file) {
            auto facts = read_instance(path, limits.max_file_bytes);
            if (!facts) return std::move(facts).error();
            series_uid = facts->series_instance_uid;
            number = static_cast<std::size_t>(
                std::find(sorted->order.begin(), sorted->order.end(), facts->study_instance_uid) -
                sorted->order.begin());
        } else if (choice.study) {
            number = static_cast<std::size_t>(*choice.study - 1);
        } else if (sorted->order.size() > 1) {
            return many_studies(*sorted, folder);
        }
        if (number >= sorted->order.size()) {
            return reject_error(
                fmt::format("there is no study {}; the folder holds {}", number + 1, sorted->order.size()));
        }
        const Study& study = sorted->studies.at(sorted->order[number]);
        for (const InstanceFacts& image : study.images) {
            if (choice.series && image.series_number != choice.series) continue;
            if (one_file && image.series_instance_uid != series_uid) continue;
            chosen.push_back({image.file, image.sop_class_uid, image.modality});
        }
        if (chosen.empty()) {
            return reject_error(
                fmt::format("there is no series {}; the study has: {}", choice.series.value_or(0), series_of(study)));
        }
    }
    // What is no CT is told apart by read_study; beside CT images only what could not be read is worth a warning.
    for (StudyFile& file : sorted->rest) {
        if (sorted->order.empty() || file.sop_class_uid.empty() || is_ct_class(file.sop_class_uid)) {
            chosen.push_back(std::move(file));
        }
    }
    const int offset = static_cast<int>(files->dicom.size());
    auto series = read_study(chosen, SeriesSettings{}, limits,
                             [&](int done, int total) { return progress(offset + done, offset + total); });
    if (!series) return std::move(series).error();
    PredictInput input{std::move(*series), true, {}};
    if (with_identity) {
        auto identity = read_identity(input.series.slices.front().file, limits.max_file_bytes);
        if (!identity) return std::move(identity).error();
        input.identity = std::move(*identity);
    }
    return input;
}

/// The node's rules for a series (SeriesSettings), as far as a NIfTI file can tell.
Result<void> judge(const Grid& grid, std::vector<std::string>& warnings) {
    const SeriesSettings rules;
    Vec3 extent{};
    for (std::size_t a = 0; a < 3; ++a) extent[a] = static_cast<double>(grid.size()[a]) * grid.spacing()[a];
    const double thickest = *std::max_element(grid.spacing().begin(), grid.spacing().end());
    if (thickest > rules.max_slice_thickness_mm) {
        return reject_error(
            fmt::format("the voxels are {:.1f} mm long; at most {:.1f} mm are useful for these "
                        "measurements",
                        thickest, rules.max_slice_thickness_mm));
    }
    const double shortest = *std::min_element(extent.begin(), extent.end());
    if (shortest < rules.min_coverage_mm) {
        warnings.push_back(
            fmt::format("the image covers only {:.0f} mm along one axis; the whole heart is needed", shortest));
    }
    return {};
}

Result<PredictInput> read_nifti(const std::filesystem::path& path, bool with_identity, const InputProgress& progress) {
    if (!progress(0, 1)) return retry_error("cancelled");
    std::vector<std::string> warnings;
    auto volume = read_nifti_ct(path, &warnings);
    if (!volume) return std::move(volume).error().in(path.filename().string());
    if (Result<void> judged = judge(volume->grid, warnings); !judged) {
        return std::move(judged).error().in(path.filename().string());
    }
    if (with_identity) warnings.emplace_back("a NIfTI file names no patient");
    const auto& size = volume->grid.size();
    const auto& spacing = volume->grid.spacing();
    std::string what = fmt::format("NIfTI file, {} x {} x {} voxels of {:.2f} x {:.2f} x {:.2f} mm", size[0], size[1],
                                   size[2], spacing[0], spacing[1], spacing[2]);
    CtSeries series{std::move(*volume),  {},    false, {},   {}, {}, std::move(what), {},
                    std::move(warnings), false, {},    false};
    if (!progress(1, 1)) return retry_error("cancelled");
    return PredictInput{std::move(series), false, {}};
}

}  // namespace

Result<PredictInput> read_input(const std::filesystem::path& path, const InputChoice& choice, bool with_identity,
                                const ReadLimits& limits, const InputProgress& progress) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) return file_error("reading", path, error ? error.value() : ENOENT);
    if (std::filesystem::is_directory(status) || is_dicom(path)) {
        return read_dicom(path, choice, with_identity, limits, progress);
    }
    if (choice.study || choice.series) {
        return config_error("--study and --series choose among DICOM files; the input is a single file");
    }
    return read_nifti(path, with_identity, progress);
}

}  // namespace cardionode
