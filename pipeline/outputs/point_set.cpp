#include "pipeline/outputs/point_set.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "pipeline/volume/anatomy_names.h"

namespace cardionode {

std::string point_set_mps(std::span<const PatientPoint> points) {
    Vec3 low{}, high{};
    for (std::size_t n = 0; n < points.size(); ++n) {
        for (std::size_t a = 0; a < 3; ++a) {
            const double x = points[n].lps_mm[a];
            low[a] = n == 0 ? x : std::min(low[a], x);
            high[a] = n == 0 ? x : std::max(high[a], x);
        }
    }
    const auto vector = [](const char* name, const Vec3& v) {
        return fmt::format("<{} type=\"Vector3D\" x=\"{:.6f}\" y=\"{:.6f}\" z=\"{:.6f}\"/>", name, v[0], v[1], v[2]);
    };
    std::string text = R"(<?xml version="1.0" encoding="UTF-8"?>
<point_set_file>
  <file_version>0.1</file_version>
  <point_set>
    <time_series>
      <time_series_id>0</time_series_id>
      <Geometry3D ImageGeometry="false" FrameOfReferenceID="0">
        <IndexToWorld type="Matrix3x3" m_0_0="1" m_0_1="0" m_0_2="0" m_1_0="0" m_1_1="1" m_1_2="0" m_2_0="0" m_2_1="0" m_2_2="1"/>
)";
    text += "        " + vector("Offset", {0, 0, 0}) + "\n        <Bounds>\n          " + vector("Min", low) +
            "\n          " + vector("Max", high) + "\n        </Bounds>\n      </Geometry3D>\n";
    for (std::size_t n = 0; n < points.size(); ++n) {
        const Vec3& p = points[n].lps_mm;
        text += fmt::format(
            "      <point>\n        <id>{}</id>\n        <specification>0</specification>\n        <x>{:.6f}</x>\n"
            "        <y>{:.6f}</y>\n        <z>{:.6f}</z>\n      </point>\n",
            n, p[0], p[1], p[2]);
    }
    return text + "    </time_series>\n  </point_set>\n</point_set_file>\n";
}

std::vector<PointSet> point_sets(const Findings& findings) {
    using namespace names;
    const std::array<std::pair<const char*, std::vector<std::string_view>>, 2> wanted = {
        {{"hps", {kHingeRight, kHingeLeft, kHingeNoncoronary, kOstiumRight, kOstiumLeft}},
         {"ms", {kSeptumUpper, kSeptumLower}}}};
    std::vector<PointSet> sets;
    for (const auto& [name, members] : wanted) {
        PointSet set{name, {}, {}};
        for (const std::string_view member : members) {
            const Landmark* landmark = findings.landmark(member);
            if (landmark != nullptr && landmark->position) {
                set.points.push_back(*landmark->position);
            } else {
                set.missing +=
                    (set.missing.empty() ? "" : ", ") +
                    (landmark != nullptr && !landmark->title.empty() ? landmark->title : std::string(member));
            }
        }
        if (!set.missing.empty()) set.points.clear();
        sets.push_back(std::move(set));
    }
    return sets;
}

}  // namespace cardionode
