#include "pipeline/prepare/prepare_study.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "pipeline/preprocess/preprocess.h"
#include "pipeline/read/nifti.h"
#include "pipeline/read/patient_hash.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;

using Ball = LabelPoint;
using Balls = std::map<std::string, std::vector<Ball>>;  ///< StudyLabels::points

bool is_there(const fs::path& path) {
    std::error_code no_matter;
    return fs::exists(path, no_matter);
}

std::optional<fs::path> nifti_in(const fs::path& folder, const std::string& name) {
    for (const char* ending : {".nii.gz", ".nii"}) {
        if (is_there(folder / (name + ending))) return folder / (name + ending);
    }
    return std::nullopt;
}

/// phantom.json: {"contrast_agent": true, "points": [{"head", "name", "value", "lps_mm": [x, y, z]}]}
Result<Balls> balls_of_json(const fs::path& file) {
    Result<std::string> text = read_file(file);
    if (!text) return std::move(text).error();
    const auto wrong = [&](const std::string& what) { return reject_error(file.filename().string() + ": " + what); };
    const nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object() || !json.contains("points") || !json["points"].is_array()) return wrong("no list of points");
    const bool contrast = json.value("contrast_agent", true);
    Balls balls;
    for (const nlohmann::json& p : json["points"]) {
        const bool whole = p.is_object() && p.contains("head") && p["head"].is_string() && p.contains("value") &&
                           p["value"].is_number_integer() && p.contains("lps_mm") && p["lps_mm"].is_array() &&
                           p["lps_mm"].size() == 3;
        if (!whole) return wrong("a point without head, value or lps_mm");
        Ball ball;
        ball.value = p["value"].get<int>();
        for (std::size_t a = 0; a < 3; ++a) {
            if (!p["lps_mm"][a].is_number()) return wrong("a coordinate is no number");
            ball.at.lps_mm[a] = p["lps_mm"][a].get<double>();
        }
        if (ball.value < 1 || ball.value > 255) return wrong("a value outside 1 to 255");
        auto& list = balls[p["head"].get<std::string>()];
        if (contrast) list.push_back(ball);  // without contrast agent nobody could place them
    }
    return balls;
}

/// Adds the set of a head if it is whole; else says why not.
Result<void> add_mps(const fs::path& file, const std::string& head, std::size_t expected, Balls& balls,
                     std::vector<std::string>& remarks) {
    if (!is_there(file)) return {};
    Result<std::vector<PatientPoint>> points = read_mps(file);
    if (!points) return std::move(points).error();
    if (points->size() != expected) {
        remarks.push_back(
            fmt::format("{} holds {} points, expected {}: which ones are missing cannot be seen, left out",
                        file.filename().string(), points->size(), expected));
        return {};
    }
    balls[head].clear();
    for (std::size_t i = 0; i < expected; ++i) balls[head].push_back({static_cast<int>(i) + 1, (*points)[i]});
    return {};
}

Result<Balls> balls_in(const fs::path& folder, std::vector<std::string>& remarks) {
    Balls balls;
    for (const char* name : {"phantom.json", "points.json"}) {
        if (!is_there(folder / name)) continue;
        Result<Balls> read = balls_of_json(folder / name);
        if (!read) return read;
        for (auto& [head, list] : *read) balls[head] = std::move(list);
    }
    if (Result<void> r = add_mps(folder / "hps.mps", "hps", 5, balls, remarks); !r) return std::move(r).error();
    if (Result<void> r = add_mps(folder / "ms.mps", "ms", 2, balls, remarks); !r) return std::move(r).error();
    return balls;
}

/// Voxels whose centre lies within the radius; later balls overwrite earlier ones, as in the paper.
std::vector<std::uint8_t> draw(const std::vector<Ball>& balls, const Grid& grid, double radius_mm) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(grid.voxel_count()), 0);
    for (const Ball& ball : balls) {
        const ContinuousIndex centre = grid.to_index(ball.at);
        std::array<std::int64_t, 3> low{}, high{};
        for (std::size_t a = 0; a < 3; ++a) {
            const double reach = radius_mm / grid.spacing()[a];
            low[a] = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil(centre.ijk[a] - reach)));
            high[a] = std::min<std::int64_t>(grid.size()[a] - 1,
                                             static_cast<std::int64_t>(std::floor(centre.ijk[a] + reach)));
        }
        for (std::int64_t k = low[2]; k <= high[2]; ++k) {
            for (std::int64_t j = low[1]; j <= high[1]; ++j) {
                for (std::int64_t i = low[0]; i <= high[0]; ++i) {
                    const VoxelIndex at{{i, j, k}};
                    if (distance_mm(grid.to_patient(at), ball.at) <= radius_mm)
                        labels[static_cast<std::size_t>(grid.offset(at))] = static_cast<std::uint8_t>(ball.value);
                }
            }
        }
    }
    return labels;
}

std::size_t occurrences(const std::string& text, std::string_view word) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size()) ++count;
    return count;
}

std::optional<double> number_after(const std::string& text, std::string_view word) {
    std::size_t at = text.find(word);
    if (at == std::string::npos) return std::nullopt;
    at += word.size();
    while (at < text.size() && (text[at] == ' ' || text[at] == '+')) ++at;
    double number = 0;
    const auto parsed = std::from_chars(text.data() + at, text.data() + text.size(), number);
    if (parsed.ec != std::errc{} || !std::isfinite(number)) return std::nullopt;
    return number;
}

/// What MITK may write before the points: an IndexToWorld matrix and an Offset. The paper's tool writes the identity.
bool identity_geometry(const std::string& text) {
    const std::size_t begin = text.find("<Geometry3D"), end = text.find("</Geometry3D>");
    if (begin == std::string::npos) return true;
    if (end == std::string::npos || end < begin) return false;
    const std::string geometry = text.substr(begin, end - begin);
    for (int row = 0; row < 3; ++row) {
        for (int column = 0; column < 3; ++column) {
            const auto value = number_after(geometry, fmt::format("m_{}_{}=\"", row, column));
            if (value && *value != (row == column ? 1 : 0)) return false;
        }
    }
    const std::size_t offset = geometry.find("<Offset");
    for (const char* axis : {" x=\"", " y=\"", " z=\""}) {
        if (offset == std::string::npos) break;
        const auto value = number_after(geometry.substr(offset, geometry.find('>', offset) - offset), axis);
        if (value && *value != 0) return false;
    }
    return true;
}

struct Ct {
    Volume volume;
    std::string patient_hash, source;
};

Result<Ct> read_ct(const fs::path& input, const std::string& patient, std::vector<std::string>& remarks,
                   const ReadLimits& limits) {
    std::error_code no_matter;
    const bool folder = fs::is_directory(input, no_matter);
    const std::optional<fs::path> nifti = folder ? nifti_in(input, "ct") : std::optional<fs::path>(input);
    if (nifti) {
        Result<Volume> volume = read_nifti_ct(*nifti, &remarks);
        if (!volume) return std::move(volume).error();
        const fs::path whole = fs::weakly_canonical(folder ? input : *nifti, no_matter);
        return Ct{*std::move(volume), sha256_hex("named " + (patient.empty() ? whole.string() : patient)), "nifti"};
    }
    std::vector<StudyFile> files;
    std::error_code code;
    for (fs::recursive_directory_iterator at(input, code), end; !code && at != end; at.increment(code)) {
        const fs::path& path = at->path();
        const std::string ending = path.extension().string();
        if (!at->is_regular_file(code) || path.filename() == "DICOMDIR" || ending == ".gz" || ending == ".nii" ||
            ending == ".json" || ending == ".mps" || ending == ".png")
            continue;
        files.push_back({path, {}, {}});
    }
    if (code) return file_error("reading", input, code.value());
    if (files.empty()) return reject_error("neither ct.nii.gz nor DICOM files in it");
    std::sort(files.begin(), files.end(), [](const StudyFile& a, const StudyFile& b) { return a.file < b.file; });
    Result<CtSeries> series = read_study(files, SeriesSettings{}, limits);
    if (!series) return std::move(series).error();
    remarks.insert(remarks.end(), series->warnings.begin(), series->warnings.end());
    Result<std::string> hash = patient.empty() ? patient_hash(series->slices.front().file, limits.max_file_bytes)
                                               : Result<std::string>(sha256_hex("named " + patient));
    if (!hash) return std::move(hash).error();
    return Ct{std::move(series->volume), *std::move(hash), "dicom"};
}

/// Labels in a folder.
Result<StudyLabels> labels_in(const fs::path& folder, const train::Recipe& recipe, std::vector<std::string>& remarks) {
    StudyLabels labels;
    Result<Balls> balls = balls_in(folder, remarks);
    if (!balls) return std::move(balls).error();
    labels.points = *std::move(balls);
    for (const train::HeadRecipe& head : recipe.heads) {
        const auto file = nifti_in(folder, head.name);
        if (!file || labels.points.contains(head.name)) continue;
        Result<LabelMap> map = read_nifti_labels(*file);
        if (!map) return std::move(map).error().in(file->filename().string());
        labels.maps.emplace(head.name, *std::move(map));
    }
    return labels;
}

}  // namespace

Result<std::vector<PatientPoint>> read_mps(const fs::path& file) {
    Result<std::string> text = read_file(file);
    if (!text) return std::move(text).error();
    const auto wrong = [&](const std::string& what) { return reject_error(file.filename().string() + ": " + what); };
    if (text->size() > 1'000'000 || text->find("<point_set") == std::string::npos) return wrong("no MITK point set");
    if (occurrences(*text, "<time_series>") > 1) return wrong("more than one time step");
    if (!identity_geometry(*text)) return wrong("its geometry is not the identity, so the points lie elsewhere");
    std::map<int, PatientPoint> by_id;
    for (std::size_t at = 0; (at = text->find("<point>", at)) != std::string::npos;) {
        const std::size_t end = text->find("</point>", at);
        if (end == std::string::npos) return wrong("a point has no end");
        const std::string inside = text->substr(at, end - at);
        const auto id = number_after(inside, "<id>"), x = number_after(inside, "<x>"), y = number_after(inside, "<y>"),
                   z = number_after(inside, "<z>");
        if (!id || !x || !y || !z || *id < 0 || *id > 1e6) return wrong("a point without id, x, y or z");
        if (!by_id.emplace(static_cast<int>(*id), PatientPoint{{*x, *y, *z}}).second)
            return wrong("an id occurs twice");
        at = end;
    }
    std::vector<PatientPoint> points;
    for (const auto& [id, at] : by_id) points.push_back(at);
    return points;
}

Result<train::Study> prepare_study(const fs::path& input, const train::Recipe& recipe, const std::string& patient,
                                   std::vector<std::string>& remarks, const ReadLimits& limits) {
    if (!is_there(input)) return config_error("no such file or folder");
    Result<Ct> ct = read_ct(input, patient, remarks, limits);
    if (!ct) return std::move(ct).error();
    StudyLabels labels;
    std::error_code no_matter;
    if (fs::is_directory(input, no_matter)) {
        Result<StudyLabels> found = labels_in(input, recipe, remarks);
        if (!found) return std::move(found).error();
        labels = *std::move(found);
    }
    return make_study(ct->volume, recipe, labels, ct->patient_hash, ct->source);
}

Result<train::Study> make_study(const Volume& ct_hu, const train::Recipe& recipe, const StudyLabels& known,
                                const std::string& patient_hash, const std::string& source) {
    Result<Volume> image = to_network_grid(ct_hu, recipe.input);
    if (!image) return std::move(image).error();
    const Grid& grid = image->grid;
    train::Study study;
    study.facts.patient_hash = patient_hash;
    study.facts.source = source;
    study.facts.size = {grid.size()[2], grid.size()[1], grid.size()[0]};
    study.facts.spacing_mm = {grid.spacing()[0], grid.spacing()[1], grid.spacing()[2]};
    study.facts.origin_lps_mm = grid.origin().lps_mm;
    study.facts.input = train::input_words(recipe.input);
    for (const train::HeadRecipe& head : recipe.heads) {
        std::vector<std::uint8_t> labels;
        if (const auto points = known.points.find(head.name); points != known.points.end()) {
            labels =
                draw(points->second, grid, head.name == "ms" ? recipe.septum_ball_radius_mm : recipe.ball_radius_mm);
        } else if (const auto map = known.maps.find(head.name); map != known.maps.end()) {
            labels = labels_on_source(map->second, grid).voxels;
        } else {
            continue;
        }
        const int most = *std::max_element(labels.begin(), labels.end());
        if (most > head.classes) {
            return reject_error(
                fmt::format("{} holds label {}, the recipe's head has {} classes", head.name, most, head.classes));
        }
        study.labels[head.name] = std::move(labels);
    }
    study.image = std::move(image->voxels);
    return study;
}

Result<void> prepare_studies(const PrepareOptions& options) {
    const auto print = [&](const std::string& line) {
        if (options.print) options.print(line);
    };
    Result<train::Recipe> recipe = train::load_recipe(options.recipe);
    if (!recipe) return std::move(recipe).error();
    if (Result<void> made = make_folder(options.out); !made) return made;
    std::size_t failed = 0;
    for (const fs::path& input : options.inputs) {
        std::vector<std::string> remarks;
        Result<train::Study> study = prepare_study(input, *recipe, options.patient, remarks);
        for (const std::string& remark : remarks) print(input.string() + ": " + remark);
        Result<void> written;
        if (study) {
            std::string heads;
            for (const auto& [head, labels] : study->labels) heads += (heads.empty() ? "" : ", ") + head;
            const fs::path file = options.out / (train::hash_of_voxels(study->image).substr(0, 16) + ".safetensors");
            const train::Sides size = study->facts.size;
            written = train::write_study(file, *std::move(study), options.half);
            if (written) {
                print(fmt::format("{}: {} ({} x {} x {} voxels, {})", input.string(), file.string(), size[2], size[1],
                                  size[0], heads.empty() ? "no label" : "labels " + heads));
            }
        }
        if (!study || !written) {
            const Error& error = study ? written.error() : study.error();
            if (error.kind == ErrorKind::Retry)
                return Error(error).in(input.string());  // a full disk is no study's fault
            print(input.string() + ": " + error.message);
            ++failed;
        }
    }
    if (failed > 0) return reject_error(fmt::format("{} of {} inputs failed", failed, options.inputs.size()));
    return {};
}

}  // namespace cardionode
