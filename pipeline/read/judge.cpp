#include "pipeline/read/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "scp/dicom/uid.h"

namespace cardionode {

std::size_t positions_held_twice(const std::vector<Plane2d>& planes) {
    std::size_t twice = 0;
    for (std::size_t k = 1; k < planes.size(); ++k) {
        if (planes[k].position_mm - planes[k - 1].position_mm < kSamePositionMm) ++twice;
    }
    return twice;
}

namespace {

constexpr double kStraightMm = 0.1;        // sideways drift over the whole stack that is rounding, not tilt
constexpr double kSidewaysJitterMm = 0.3;  // of single planes off the line of a tilted stack

std::string lower(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

Contrast contrast_of(const InstanceFacts& instance) {
    const std::string words = lower(instance.series_description);
    for (const char* native : {"native", "nativ ", "non-contrast", "noncontrast", "non contrast", "without contrast",
                               "w/o", "calcium sc", "casc", "ca score", "unenhanced"}) {
        if ((words + " ").find(native) != std::string::npos) return Contrast::DescribedAsNative;
    }
    if (instance.contrast_agent) return Contrast::Named;
    for (const char* word : {"cta", "angio", "contrast", "arterial", "coronary"}) {
        if (words.find(word) != std::string::npos) return Contrast::Named;
    }
    return Contrast::Unknown;
}

/// The phase of a stack: none where its planes are more than 10 % apart.
std::optional<double> common_phase(const std::vector<Plane2d>& planes) {
    double low = 100;
    double high = 0;
    for (const Plane2d& p : planes) {
        if (!p.frame->phase_percent) return std::nullopt;
        low = std::min(low, *p.frame->phase_percent);
        high = std::max(high, *p.frame->phase_percent);
    }
    if (high - low > 10) return std::nullopt;
    return planes[planes.size() / 2].frame->phase_percent;
}

double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
}

/// How far sideways the planes go along the stack, and whether each lies on that line.
void judge_tilt(Stack& s, const SeriesSettings& settings) {
    const Plane2d& first = s.planes.front();
    const Plane2d& last = s.planes.back();
    const double length = last.position_mm - first.position_mm;
    const auto sideways = [&](const Plane2d& p) {
        const Vec3 d = subtract(*p.frame->position, *first.frame->position);
        return std::array<double, 2>{dot(d, s.row), dot(d, s.column)};
    };
    const auto drift = sideways(last);
    double worst = 0;
    for (const Plane2d& p : s.planes) {
        const double t = (p.position_mm - first.position_mm) / length;
        const auto here = sideways(p);
        worst = std::max(worst, std::hypot(here[0] - t * drift[0], here[1] - t * drift[1]));
    }
    if (worst > kSidewaysJitterMm) {
        s.reasons.push_back(fmt::format("slices are shifted sideways against each other by up to {:.1f} mm", worst));
        return;
    }
    const double total = std::hypot(drift[0], drift[1]);
    if (total <= kStraightMm) {
        const double named = first.frame->gantry_tilt_degrees.value_or(0);
        if (std::abs(named) > 0.5) {
            s.warnings.push_back(fmt::format(
                "the header names a gantry tilt of {:.1f} degrees that the slices' positions do not show", named));
        }
        return;
    }
    s.tilted = true;
    s.tilt_degrees = std::atan2(total, length) * 180 / M_PI;
    if (settings.gantry_tilt == "refuse") {
        s.reasons.push_back(fmt::format("the gantry is tilted by {:.1f} degrees", s.tilt_degrees));
    } else {
        s.warnings.push_back(
            fmt::format("the gantry is tilted by {:.1f} degrees: resampled to upright slices", s.tilt_degrees));
    }
}

void judge_spacing(Stack& s, const SeriesSettings& settings) {
    std::vector<double> steps;
    for (std::size_t k = 1; k < s.planes.size(); ++k)
        steps.push_back(s.planes[k].position_mm - s.planes[k - 1].position_mm);
    s.spacing_mm = median(steps);
    const double first = s.planes.front().position_mm;
    const double even = (s.planes.back().position_mm - first) / static_cast<double>(s.planes.size() - 1);
    s.coverage_mm = s.planes.back().position_mm - first + s.spacing_mm;

    std::size_t holes = 0;
    std::string hole;
    double widest = 0;
    for (std::size_t k = 0; k < steps.size(); ++k) {
        if (steps[k] < 1.5 * s.spacing_mm) continue;
        ++holes;
        widest = std::max(widest, steps[k]);
        if (hole.empty()) {
            hole = fmt::format("slice missing at {:.1f} mm: a gap of {:.1f} mm where slices are {:.1f} mm apart",
                               s.planes[k].position_mm + s.spacing_mm, steps[k], s.spacing_mm);
        }
    }
    if (holes > 1) hole += fmt::format(" (and {} more)", holes - 1);
    double jitter = 0;
    for (std::size_t k = 0; k < s.planes.size(); ++k) {
        jitter = std::max(jitter, std::abs(s.planes[k].position_mm - first - even * static_cast<double>(k)));
    }
    if (widest > settings.max_gap_mm) {
        s.reasons.push_back(hole);
        return;
    }
    if (holes == 0 && s.spacing_mm > settings.max_gap_mm) {
        s.reasons.push_back(fmt::format("there are gaps of {:.1f} mm between the slices", s.spacing_mm));
    }
    if (jitter <= settings.max_spacing_jitter_mm && holes == 0) return;
    s.uneven = true;
    const std::string what = holes > 0 ? hole
                                       : fmt::format("slices are unevenly spaced: {:.2f} to {:.2f} mm apart",
                                                     *std::min_element(steps.begin(), steps.end()),
                                                     *std::max_element(steps.begin(), steps.end()));
    if (settings.uneven_spacing == "refuse") s.reasons.push_back(what);
    else s.warnings.push_back(what + ": interpolated");
}

void judge_values(Stack& s) {
    std::set<std::string> types;
    bool unscaled = false;
    for (const Plane2d& p : s.planes) {
        types.insert(p.frame->rescale_type);
        unscaled = unscaled || !p.frame->slope || !p.frame->intercept || *p.frame->slope == 0;
    }
    if (unscaled)
        s.reasons.push_back("no rescale slope and intercept: the pixels cannot be turned into Hounsfield units");
    for (const std::string& t : types) {
        if (t.empty() || t == "HU") continue;
        if (t == "US") s.warnings.push_back("the unit of the pixels is not given; Hounsfield units are assumed");
        else s.reasons.push_back("the pixels are not Hounsfield units (rescale type " + t + ")");
    }
}

/// What other systems need to tell these images apart; without it no result could be linked to them.
void judge_identity(Stack& s) {
    bool uid = true;
    std::set<std::string> instances;
    for (const Plane2d& p : s.planes) {
        const InstanceFacts& i = *p.instance;
        uid = uid && is_valid_uid(i.study_instance_uid) && is_valid_uid(i.series_instance_uid) &&
              is_valid_uid(i.sop_instance_uid);
        if (p.frame->frame == 0) instances.insert(i.sop_instance_uid);
    }
    const auto single = static_cast<std::size_t>(
        std::count_if(s.planes.begin(), s.planes.end(), [](const Plane2d& p) { return p.frame->frame == 0; }));
    if (!uid)
        s.reasons.push_back(
            "the images carry no valid study, series or image UID: results could not be linked to them");
    else if (instances.size() != single) s.reasons.push_back("several images carry the same UID");
    if (!is_valid_uid(s.planes.front().instance->frame_of_reference_uid)) {
        s.reasons.push_back("the images name no frame of reference: results could not be laid over them");
    }
}

}  // namespace

void judge(Stack& s, const SeriesSettings& settings) {
    const Plane2d& first = s.planes.front();
    s.row = normalised(*first.frame->row);
    s.normal = normalised(cross(s.row, *first.frame->column));
    s.column = cross(s.normal, s.row);  // exactly perpendicular; within 1e-3 of what is written
    s.contrast = contrast_of(*first.instance);
    s.phase_percent = common_phase(s.planes);
    s.kernel = first.frame->kernel;
    s.original = first.frame->image_type.rfind("ORIGINAL\\PRIMARY", 0) == 0;
    s.field_of_view_mm = std::min(first.instance->pixels.columns * (*first.frame->spacing_mm)[0],
                                  first.instance->pixels.rows * (*first.frame->spacing_mm)[1]);
    for (const std::string& word : settings.exclude_descriptions) {
        if (!word.empty() && lower(first.instance->series_description).find(lower(word)) != std::string::npos) {
            s.reasons.push_back(fmt::format("its description says \"{}\"", word));
            break;
        }
    }
    judge_identity(s);
    judge_values(s);
    const auto count = static_cast<int>(s.planes.size());
    if (count < settings.min_slices) {
        s.reasons.push_back(
            fmt::format("only {} slice{}; at least {} are needed", count, count == 1 ? "" : "s", settings.min_slices));
    }
    for (const Plane2d& p : s.planes)
        s.thickness_mm = std::max(s.thickness_mm, p.frame->slice_thickness_mm.value_or(0));
    const std::size_t twice = positions_held_twice(s.planes);
    if (twice > 0) {
        s.reasons.push_back(
            fmt::format("{} positions hold more than one slice, and nothing in the images tells them apart", twice));
    }
    const double max = settings.max_slice_thickness_mm;
    if (s.thickness_mm > max + 1e-6) {
        s.reasons.push_back(fmt::format(
            "slices are {:.1f} mm thick; at most {:.1f} mm are useful for these measurements", s.thickness_mm, max));
    }
    if (count > 1 && twice == 0) {
        judge_spacing(s, settings);
        judge_tilt(s, settings);
        if (s.spacing_mm > max + 1e-6 && s.thickness_mm <= max + 1e-6) {
            s.reasons.push_back(fmt::format(
                "slices are {:.1f} mm apart; at most {:.1f} mm are useful for these measurements", s.spacing_mm, max));
        }
        if (s.thickness_mm == 0) s.thickness_mm = s.spacing_mm;
        if (s.coverage_mm < settings.min_coverage_mm - 1e-6) {
            s.reasons.push_back(
                fmt::format("it covers {:.0f} mm; a heart needs {:.0f} mm", s.coverage_mm, settings.min_coverage_mm));
        }
    }
    if (s.field_of_view_mm < settings.min_field_of_view_mm - 1e-6) {
        s.reasons.push_back(fmt::format("the field of view is {:.0f} mm; a heart needs {:.0f} mm", s.field_of_view_mm,
                                        settings.min_field_of_view_mm));
    }
}

}  // namespace cardionode
