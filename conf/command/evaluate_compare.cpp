#include "conf/command/evaluate_compare.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/command/evaluate_folder.h"
#include "models/train/phantom.h"
#include "pipeline/evaluate/case_score.h"
#include "pipeline/evaluate/summary.h"
#include "pipeline/evaluate/tables.h"
#include "pipeline/measure/measure.h"
#include "pipeline/postprocess/plausibility.h"
#include "pipeline/read/nifti.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kResults = "landmarks.json";
constexpr const char* kPhantom = "phantom.json";

bool has(const fs::path& folder, const char* file) {
    std::error_code no_matter;
    return fs::is_regular_file(folder / file, no_matter);
}
bool is_case(const fs::path& folder) { return has(folder, kResults) || has(folder, kPhantom); }

/// Cases by name; one that is the folder itself has the empty name.
Result<std::map<std::string, fs::path>> cases_in(const fs::path& folder) {
    std::error_code error;
    if (!fs::is_directory(folder, error)) return config_error(folder.string() + ": no such folder");
    std::map<std::string, fs::path> cases;
    if (is_case(folder)) cases[""] = folder;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (cases.count("")) break;
        if (entry.is_directory() && is_case(entry.path())) cases[entry.path().filename().string()] = entry.path();
    }
    if (error) return file_error("reading", folder, error.value());
    if (cases.empty()) {
        return config_error(folder.string() + ": neither a case (" + kResults + " or " + kPhantom +
                            ") nor folders of cases");
    }
    return cases;
}

Result<json> read_json(const fs::path& file) {
    const auto text = read_file(file);
    if (!text) return text.error();
    json j = json::parse(*text, nullptr, false);
    if (!j.is_object()) return config_error(file.string() + ": no JSON object");
    return j;
}

/// Label maps carry no names: the numbers are those of the phantoms' heads, which every bundle trained here has.
std::vector<const char*> classes_of(std::string_view head) {
    for (const train::PhantomHead& h : train::phantom_heads()) {
        if (head == h.name) return h.classes;
    }
    return {};
}

/// Adds the group of a label map, where the file is there.
Result<void> add_group(Findings& findings, const fs::path& file, std::string_view group, std::string_view head) {
    std::error_code no_matter;
    if (!fs::is_regular_file(file, no_matter)) return {};
    auto labels = read_nifti_labels(file);
    if (!labels) return std::move(labels).error().in(file.string());
    SegmentGroup added{std::string(group), "", std::move(*labels), {}};
    std::array<std::int64_t, 256> counts{};
    for (const std::uint8_t v : added.labels.voxels) ++counts[v];
    int value = 0;
    for (const char* name : classes_of(head)) {
        Segment s;
        s.label = ++value;
        s.name = name;
        if (counts[static_cast<std::size_t>(value)] > 0) {
            s.volume_ml = static_cast<double>(counts[static_cast<std::size_t>(value)]) *
                          added.labels.grid.voxel_volume_mm3() / 1000;
        }
        added.segments.push_back(std::move(s));
    }
    findings.groups.push_back(std::move(added));
    return {};
}

struct Truth {
    Findings findings;
    bool contrast = true;
    std::string profile = "-";
};

/// The plane through the hinge points; its normal as postprocessing takes it: towards the aorta when they are in order.
void add_plane(Findings& findings) {
    const auto centre = hinge_centroid(findings.landmarks);
    if (!centre) return;
    const auto at = [&](std::string_view name) { return findings.landmark(name)->position->lps_mm; };
    const Vec3 perpendicular = cross(subtract(at(names::kHingeLeft), at(names::kHingeRight)),
                                     subtract(at(names::kHingeNoncoronary), at(names::kHingeRight)));
    if (norm(perpendicular) > 1e-6) findings.annular_plane = Plane{*centre, normalised(perpendicular)};
}

Result<Findings> read_results(const fs::path& folder) {
    auto j = read_json(folder / kResults);
    if (!j) return std::move(j).error();
    Findings findings;
    try {
        for (const json& l : j->at("landmarks")) {
            Landmark landmark;
            landmark.name = landmark.title = l.at("name");
            if (!l.at("lps_mm").is_null()) landmark.position = PatientPoint{l["lps_mm"].get<Vec3>()};
            landmark.confidence = l.value("confidence", 0.0);
            landmark.reason = l.value("reason", "");
            findings.landmarks.push_back(std::move(landmark));
        }
        if (has(folder, "measurements.json")) {
            auto numbers = read_json(folder / "measurements.json");
            if (!numbers) return std::move(numbers).error();
            for (const json& m : numbers->at("measurements")) {
                Measurement measurement;
                measurement.name = m.at("name");
                if (!m.at("value").is_null()) measurement.value = m["value"].get<double>();
                measurement.reason = m.value("reason", "");
                findings.measurements.push_back(std::move(measurement));
            }
            findings.warnings = numbers->value("warnings", std::vector<std::string>{});
        }
    } catch (const json::exception& wrong) {
        return config_error(folder.string() + ": not as `cardionode predict` writes it: " + wrong.what());
    }
    add_plane(findings);
    if (auto r = add_group(findings, folder / "heart.nii.gz", names::kHeartHead, names::kHeartHead); !r) {
        return std::move(r).error();
    }
    if (auto r = add_group(findings, folder / "valve_calcium.nii.gz", names::kValveCalcium, names::kCalciumHead); !r) {
        return std::move(r).error();
    }
    return findings;
}

Result<Truth> read_phantom(const fs::path& folder) {
    auto j = read_json(folder / kPhantom);
    if (!j) return std::move(j).error();
    Truth truth;
    try {
        truth.contrast = j->at("contrast_agent");
        truth.profile = j->value("scanner_profile", "-");
        if (truth.profile.empty()) truth.profile = "-";
        for (const json& p : j->at("points")) {
            Landmark landmark;
            landmark.name = landmark.title = p.at("name");
            if (p.at("inside") && truth.contrast) landmark.position = PatientPoint{p.at("lps_mm").get<Vec3>()};
            truth.findings.landmarks.push_back(std::move(landmark));
        }
        if (const auto centre = hinge_centroid(truth.findings.landmarks)) {
            truth.findings.annular_plane = Plane{*centre, normalised(j->at("annulus_normal_lps").get<Vec3>())};
        }
    } catch (const json::exception& wrong) {
        return config_error(folder.string() + ": not as `cardionode phantom` writes it: " + wrong.what());
    }
    if (auto r = add_group(truth.findings, folder / "heart.nii.gz", names::kHeartHead, names::kHeartHead); !r) {
        return std::move(r).error();
    }
    if (has(folder, "ct.nii.gz")) {
        const auto ct = read_nifti_ct(folder / "ct.nii.gz");
        if (!ct) return Error(ct.error()).in((folder / "ct.nii.gz").string());
        MeasureRules exact;
        exact.samples = 0;
        // Calcium is compared as a mask: a drawn label is no threshold on the image.
        for (Measurement& m : measure(truth.findings, *ct, {"drawn, not measured", 0, ""}, exact).measurements) {
            if (m.name.find("calcium") == std::string::npos) truth.findings.measurements.push_back(std::move(m));
        }
    }
    if (auto r = add_group(truth.findings, folder / "calc.nii.gz", names::kValveCalcium, names::kCalciumHead); !r) {
        return std::move(r).error();
    }
    return truth;
}

Result<Truth> read_truth(const fs::path& folder) {
    if (has(folder, kPhantom)) return read_phantom(folder);
    auto findings = read_results(folder);
    if (!findings) return std::move(findings).error();
    return Truth{std::move(*findings), true, "-"};
}

Result<CaseScore> compare_case(const std::string& name, const fs::path* predicted, const fs::path& truth_folder) {
    auto truth = read_truth(truth_folder);
    if (!truth) return std::move(truth).error();
    Findings found;
    if (predicted) {
        auto results = read_results(*predicted);
        if (!results) return std::move(results).error();
        found = std::move(*results);
    } else {
        for (const Landmark& l : truth->findings.landmarks) {
            found.landmarks.push_back(l);
            found.landmarks.back().position.reset();
            found.landmarks.back().reason = "there is no result of this case";
        }
    }
    for (const SegmentGroup& t : truth->findings.groups) {
        for (const SegmentGroup& f : found.groups) {
            if (f.name == t.name && !f.labels.grid.same_as(t.labels.grid, 0.01)) {
                return reject_error(
                    fmt::format("{}: the label maps \"{}\" of result and truth lie on different grids; "
                                "both must be on the grid of the same images",
                                name, f.name));
            }
        }
    }
    auto score = score_case(found, truth->findings, structures_of(truth->findings));
    if (!score) return std::move(score).error().in(name);
    score->name = name;
    score->contrast = truth->contrast;
    score->profile = truth->profile;
    return score;
}

}  // namespace

Result<void> evaluate_compare(const EvaluateCompareOptions& options) {
    auto predicted = cases_in(options.predicted);
    if (!predicted) return std::move(predicted).error();
    auto truth = cases_in(options.truth);
    if (!truth) return std::move(truth).error();
    if (predicted->count("") != truth->count("")) {
        return config_error("one folder is a case by itself and the other holds folders of cases; name two alike");
    }
    const auto say = [&](const std::string& line) {
        if (options.print) options.print(line);
    };
    for (const auto& [name, folder] : *predicted) {
        if (!truth->count(name)) say("without truth, left out: " + name);
    }
    std::vector<CaseScore> scores;
    for (const auto& [name, folder] : *truth) {
        const auto found = predicted->find(name);
        const std::string shown = name.empty() ? folder.filename().string() : name;
        if (found == predicted->end()) say("without result, counted as missed: " + shown);
        auto score = compare_case(shown, found == predicted->end() ? nullptr : &found->second, folder);
        if (!score) return std::move(score).error();
        scores.push_back(std::move(*score));
    }
    if (!options.out.empty()) {
        auto folder = EvaluationFolder::open(options.out, {{"kind", "compare"}});
        if (!folder) return std::move(folder).error();
        if (!(*folder)->cases().empty()) {
            return config_error(options.out.string() + " holds a comparison already; name another folder");
        }
        for (CaseScore& score : scores) {
            if (auto added = (*folder)->add(score); !added) return added;
        }
        if (auto r = (*folder)->write_summary(fmt::format("{} cases compared", scores.size())); !r) return r;
        say("written to " + options.out.string());
    }
    say(markdown(summarise(scores)));
    return {};
}

}  // namespace cardionode
