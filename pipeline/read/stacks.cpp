#include "pipeline/read/stacks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "pipeline/read/judge.h"

namespace cardionode {

namespace {

constexpr double kSameSpacingMm = 1e-3;
constexpr std::size_t kKeysTogether = 6;  // attributes that may be combined to tell volumes apart

bool near(const Vec3& a, const Vec3& b, double tolerance) {
    return std::abs(a[0] - b[0]) <= tolerance && std::abs(a[1] - b[1]) <= tolerance &&
           std::abs(a[2] - b[2]) <= tolerance;
}

bool usable_plane(const FrameFacts& f) {
    if (!f.position || !f.row || !f.column || !f.spacing_mm) return false;
    if ((*f.spacing_mm)[0] <= 0 || (*f.spacing_mm)[1] <= 0) return false;
    return std::abs(norm(*f.row) - 1) < kSameDirection && std::abs(norm(*f.column) - 1) < kSameDirection &&
           std::abs(dot(*f.row, *f.column)) < kSameDirection;
}

/// Planes that may lie in one volume.
bool same_volume(const Plane2d& a, const Plane2d& b) {
    return a.instance->pixels.rows == b.instance->pixels.rows &&
           a.instance->pixels.columns == b.instance->pixels.columns &&
           a.instance->frame_of_reference_uid == b.instance->frame_of_reference_uid &&
           a.frame->stack_id == b.frame->stack_id && near(*a.frame->row, *b.frame->row, kSameDirection) &&
           near(*a.frame->column, *b.frame->column, kSameDirection) &&
           std::abs((*a.frame->spacing_mm)[0] - (*b.frame->spacing_mm)[0]) <= kSameSpacingMm &&
           std::abs((*a.frame->spacing_mm)[1] - (*b.frame->spacing_mm)[1]) <= kSameSpacingMm;
}

void sort_by_position(std::vector<Plane2d>& planes) {
    const Vec3 normal = normalised(cross(*planes.front().frame->row, *planes.front().frame->column));
    for (Plane2d& p : planes) p.position_mm = dot(*p.frame->position, normal);
    std::stable_sort(planes.begin(), planes.end(),
                     [](const Plane2d& a, const Plane2d& b) { return a.position_mm < b.position_mm; });
}

std::size_t most_at_one_position(const std::vector<Plane2d>& planes) {
    std::size_t most = 1;
    std::size_t here = 1;
    for (std::size_t k = 1; k < planes.size(); ++k) {
        here = planes[k].position_mm - planes[k - 1].position_mm < kSamePositionMm ? here + 1 : 1;
        most = std::max(most, here);
    }
    return most;
}

struct Part {
    std::string name;  ///< what tells it from its sisters; empty for the only one
    std::vector<Plane2d> planes;
};

using Key = std::function<std::string(const Plane2d&)>;

std::string number_key(const std::optional<double>& v) { return v ? fmt::format("{:g}", *v) : std::string(); }

/// Splits where positions are held twice. The first attribute that leaves no part with a position twice decides.
std::vector<Part> split_volumes(std::vector<Plane2d> planes) {
    sort_by_position(planes);
    if (positions_held_twice(planes) == 0) return {{"", std::move(planes)}};
    const std::vector<std::pair<std::string, Key>> keys = {
        {"phase {} %", [](const Plane2d& p) { return number_key(p.frame->phase_percent); }},
        {"temporal position {}",
         [](const Plane2d& p) { return p.frame->temporal_index ? std::to_string(*p.frame->temporal_index) : ""; }},
        {"kernel {}", [](const Plane2d& p) { return p.frame->kernel; }},
        {"thickness {} mm", [](const Plane2d& p) { return number_key(p.frame->slice_thickness_mm); }},
        {"image type {}", [](const Plane2d& p) { return p.frame->image_type; }},
        {"acquisition {}",
         [](const Plane2d& p) {
             return p.frame->acquisition_number ? std::to_string(*p.frame->acquisition_number) : "";
         }},
        {"trigger time {} ms", [](const Plane2d& p) { return number_key(p.frame->trigger_time_ms); }},
        {"", [](const Plane2d& p) { return p.frame->acquisition_time; }},
    };
    const auto split_by = [&](const std::function<std::string(const Plane2d&)>& key) {
        std::map<std::string, std::vector<Plane2d>> parts;
        for (const Plane2d& p : planes) parts[key(p)].push_back(p);
        return parts;
    };
    // More parts than a position holds planes, twice over, is an attribute that differs from slice to slice.
    const std::size_t most_parts = 2 * most_at_one_position(planes);
    const auto clean = [&](const std::map<std::string, std::vector<Plane2d>>& parts) {
        return parts.size() > 1 && parts.size() <= most_parts &&
               std::all_of(parts.begin(), parts.end(),
                           [](const auto& p) { return positions_held_twice(p.second) == 0; });
    };
    for (const auto& [name, key] : keys) {
        auto parts = split_by(key);
        if (!clean(parts)) continue;
        std::vector<Part> out;
        for (auto& [value, held] : parts) {
            // No time of day in words for people: "1 of 3 by time".
            if (name.empty()) {
                out.push_back(
                    {fmt::format("acquisition {} of {} by time", out.size() + 1, parts.size()), std::move(held)});
                continue;
            }
            out.push_back(
                {value.empty() ? "without " + name.substr(0, name.find(" {")) : fmt::format(fmt::runtime(name), value),
                 std::move(held)});
        }
        return out;
    }
    // Several attributes at once: two phases, each with two kernels.
    const auto together = [&](const Plane2d& p) {
        std::string all;
        for (std::size_t k = 0; k < kKeysTogether; ++k) all += keys[k].second(p) + "|";
        return all;
    };
    if (auto parts = split_by(together); clean(parts)) {
        std::vector<Part> out;
        for (auto& [value, held] : parts) {
            std::string name;
            for (std::size_t k = 0; k < kKeysTogether; ++k) {
                const auto& [words, key] = keys[k];
                const std::string v = key(held.front());
                const bool tells =
                    std::any_of(planes.begin(), planes.end(), [&](const Plane2d& p) { return key(p) != v; });
                if (tells && !v.empty()) name += (name.empty() ? "" : ", ") + fmt::format(fmt::runtime(words), v);
            }
            out.push_back({name, std::move(held)});
        }
        return out;
    }
    // Trigger times that jitter from beat to beat: the n-th at each position belongs to the n-th phase, provided that
    // every position is there equally often and every plane has a time.
    const bool timed = std::all_of(planes.begin(), planes.end(),
                                   [](const Plane2d& p) { return p.frame->trigger_time_ms.has_value(); });
    if (timed) {
        std::vector<std::vector<Plane2d>> groups;
        for (const Plane2d& p : planes) {
            if (groups.empty() || p.position_mm - groups.back().front().position_mm >= kSamePositionMm)
                groups.emplace_back();
            groups.back().push_back(p);
        }
        const std::size_t often = groups.front().size();
        if (std::all_of(groups.begin(), groups.end(), [&](const auto& g) { return g.size() == often; })) {
            std::vector<Part> out(often);
            for (auto& g : groups) {
                std::stable_sort(g.begin(), g.end(), [](const Plane2d& a, const Plane2d& b) {
                    return *a.frame->trigger_time_ms < *b.frame->trigger_time_ms;
                });
                for (std::size_t n = 0; n < often; ++n) out[n].planes.push_back(g[n]);
            }
            for (std::size_t n = 0; n < often; ++n) {
                out[n].name = fmt::format("phase {} of {} by trigger time", n + 1, often);
            }
            return out;
        }
    }
    return {{"", std::move(planes)}};
}

}  // namespace

std::string series_label(const InstanceFacts& i) {
    std::string label =
        i.series_number ? fmt::format("series {}", *i.series_number) : std::string("a series without number");
    if (!i.series_description.empty()) label += " (" + i.series_description + ")";
    return label;
}

std::vector<Stack> make_stacks(std::span<const InstanceFacts> instances, const SeriesSettings& settings) {
    // In the order in which series appear; an empty UID is a series of its own and refused as such.
    std::vector<std::string> order;
    std::map<std::string, std::vector<const InstanceFacts*>> series;
    for (const InstanceFacts& i : instances) {
        auto& held = series[i.series_instance_uid];
        if (held.empty()) order.push_back(i.series_instance_uid);
        held.push_back(&i);
    }
    std::vector<Stack> stacks;
    for (const std::string& uid : order) {
        std::vector<std::vector<Plane2d>> volumes;
        std::size_t unplaced = 0;
        for (const InstanceFacts* i : series[uid]) {
            for (const FrameFacts& f : i->frames) {
                if (f.localizer) continue;
                if (!usable_plane(f)) {
                    ++unplaced;
                    continue;
                }
                const Plane2d plane{i, &f, 0};
                auto home = std::find_if(volumes.begin(), volumes.end(),
                                         [&](const auto& v) { return same_volume(v.front(), plane); });
                if (home == volumes.end()) volumes.push_back({plane});
                else home->push_back(plane);
            }
        }
        const std::string label = series_label(*series[uid].front());
        const std::size_t before = stacks.size();
        std::size_t number = 0;
        for (auto& v : volumes) {
            ++number;
            for (Part& part : split_volumes(std::move(v))) {
                Stack s;
                s.label = label;
                if (volumes.size() > 1)
                    s.label += fmt::format(", orientation or matrix {} of {}", number, volumes.size());
                if (!part.name.empty()) s.label += ", " + part.name;
                s.planes = std::move(part.planes);
                judge(s, settings);
                if (unplaced > 0)
                    s.warnings.push_back(
                        fmt::format("{} images of the series have no usable position and were left out", unplaced));
                stacks.push_back(std::move(s));
            }
        }
        if (stacks.size() == before) {
            Stack s;
            s.label = label;
            s.reasons.push_back(unplaced == 0 ? "it holds only localizers (scout views)"
                                              : "its images have no usable position, orientation or pixel spacing");
            stacks.push_back(std::move(s));
        }
    }
    return stacks;
}

}  // namespace cardionode
