// The measurements that are taken from outlines of the lumen.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "pipeline/measure/measurement_list.h"
#include "pipeline/measure/root_sections.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

/// Standard deviation of the radius of a whole outline: edge in the CT, and border of the labels. From phantoms
/// (README.md): what stays of the error of the area when points and labels are true.
constexpr double kEdgeSdMm = 0.3, kLabelSdMm = 0.6;
/// Of the place along the aorta where its area stops falling.
constexpr double kJunctionSdMm = 1.5;

double edge_sd(const LumenContour& c) { return c.basis == LumenContour::Basis::Ct ? kEdgeSdMm : kLabelSdMm; }

double area(const LumenContour& c) { return c.area_mm2; }
double perimeter(const LumenContour& c) { return c.perimeter_mm; }
double min_diameter(const LumenContour& c) { return c.min_diameter_mm; }
double max_diameter(const LumenContour& c) { return c.max_diameter_mm; }
double area_diameter(const LumenContour& c) { return 2 * std::sqrt(c.area_mm2 / M_PI); }
double perimeter_diameter(const LumenContour& c) { return c.perimeter_mm / M_PI; }
double eccentricity(const LumenContour& c) { return 1 - c.min_diameter_mm / c.max_diameter_mm; }

/// What an outline rests on, for people; no comma (Measurement::rests_on is a list).
std::string basis_of(const LumenContour& c) {
    if (c.basis == LumenContour::Basis::Labels) return "labels alone (no clear edge in the CT)";
    return fmt::format("edge in the CT ({:.0f} % of the outline)", 100 * c.edge_share);
}

/// The same sections where the hinge points are a little off.
struct Sample {
    std::optional<LumenContour> annulus, outflow, sinus;
    std::array<PatientPoint, 3> hinges{};
};

std::optional<LumenContour> kept(Result<LumenContour> contour) {
    if (!contour) return std::nullopt;
    return std::move(*contour);
}

/// The plane moved in itself to where it is nearest to `centre`, and along its normal by `height`.
Plane parallel_to(const Plane& plane, double height, const PatientPoint& centre) {
    const double off = dot(subtract(centre.lps_mm, plane.point.lps_mm), plane.normal) - height;
    return {{subtract(centre.lps_mm, scale(plane.normal, off))}, plane.normal};
}

std::vector<Sample> samples_of(const LumenTracer& tracer, const RootSections& sections, const Hinges& hinges,
                               const Plane& plane, const MeasureRules& rules) {
    std::vector<Sample> samples;
    if (!sections.annulus) return samples;
    const PatientPoint centre = sections.annulus->centroid();
    for (const Hinges& m : moved(hinges, rules.samples, rules.seed)) {
        const Plane p = m.plane(plane.normal);
        Sample s;
        s.hinges = m.at;
        s.annulus = kept(tracer.trace(parallel_to(p, 0, centre), kRingStyle));
        if (sections.outflow) s.outflow = kept(tracer.trace(parallel_to(p, -kOutflowDepthMm, centre), kRingStyle));
        if (sections.sinus) {
            s.sinus = kept(tracer.trace(parallel_to(p, sections.sinus->height_mm, sections.sinus->contour.centroid()),
                                        kSinusStyle));
        }
        samples.push_back(std::move(s));
    }
    return samples;
}

class RootList {
public:
    RootList(MeasurementList& list, const RootSections& sections, const std::vector<Sample>& samples)
        : list_(list), sections_(sections), samples_(samples) {}

    using Number = double (*)(const LumenContour&);
    /// @param edge  what one mm of radius all round does to the number
    Value value(const Result<LumenContour>& contour, std::optional<LumenContour> Sample::*of, Number number,
                const std::function<double(const LumenContour&)>& edge) const {
        if (!contour) return {std::nullopt, std::nullopt, contour.error().message};
        Value v{number(*contour), std::nullopt, {}};
        std::vector<double> values;
        for (const Sample& s : samples_) {
            if (s.*of) values.push_back(number(*(s.*of)));
        }
        if (const auto sd = spread(values, samples_.size())) v.sd = combined({*sd, edge(*contour) * edge_sd(*contour)});
        return v;
    }

    void add_annulus(const std::string& plane) {
        const auto& c = sections_.annulus;
        const std::string on =
            fmt::format("{}, {}, {}{}", plane, names::kAorta, names::kLeftVentricle, c ? ", " + basis_of(*c) : "");
        const auto add = [&](const char* name, const char* title, Code code, const Code& unit, Number number,
                             const std::function<double(const LumenContour&)>& edge) {
            list_.add(name, title, std::move(code), unit, value(c, &Sample::annulus, number, edge), on);
        };
        const auto diameter = [](const LumenContour&) { return 2.0; };
        add("annulus_area_mm2", "Annulus area", own("ANNULUS_AREA", "Aortic annulus area"), kMm2, area, perimeter);
        add("annulus_perimeter_mm", "Annulus perimeter", dcm("131145", "Annulus Perimeter"), kMm, perimeter,
            [](const LumenContour&) { return 2 * M_PI; });
        add("annulus_area_diameter_mm", "Annulus diameter from area",
            own("ANNULUS_D_AREA", "Aortic annulus diameter derived from area"), kMm, area_diameter, diameter);
        add("annulus_perimeter_diameter_mm", "Annulus diameter from perimeter",
            own("ANNULUS_D_PERI", "Aortic annulus diameter derived from perimeter"), kMm, perimeter_diameter, diameter);
        add("annulus_min_diameter_mm", "Annulus minimum diameter", dcm("131144", "Annulus Minimum Diameter"), kMm,
            min_diameter, diameter);
        add("annulus_max_diameter_mm", "Annulus maximum diameter", dcm("131143", "Annulus Maximum Diameter"), kMm,
            max_diameter, diameter);
        // Minimum and maximum err on their own: two diameters over one.
        add("annulus_eccentricity", "Annulus eccentricity (1 - min/max diameter)",
            own("ANNULUS_ECC", "Aortic annulus eccentricity index"), kRatio, eccentricity,
            [](const LumenContour& k) { return 2 * M_SQRT2 / k.max_diameter_mm; });
    }

    void add_outflow(const std::string& plane) {
        const auto& c = sections_.outflow;
        const std::string on =
            fmt::format("{}, {}, {}{}", plane, names::kLeftVentricle, names::kAorta, c ? ", " + basis_of(*c) : "");
        list_.add("outflow_area_mm2", "Outflow tract area, 4 mm below the annulus",
                  own("LVOT_AREA", "Area of left ventricular outflow tract"), kMm2,
                  value(c, &Sample::outflow, area, perimeter), on);
        const auto diameter = [](const LumenContour&) { return 2.0; };
        list_.add("outflow_min_diameter_mm", "Outflow tract minimum diameter",
                  own("LVOT_D_MIN", "Minimum diameter of left ventricular outflow tract"), kMm,
                  value(c, &Sample::outflow, min_diameter, diameter), on);
        list_.add("outflow_max_diameter_mm", "Outflow tract maximum diameter",
                  own("LVOT_D_MAX", "Maximum diameter of left ventricular outflow tract"), kMm,
                  value(c, &Sample::outflow, max_diameter, diameter), on);
    }

    /// @return mean diameter
    std::optional<double> add_sinuses(const std::string& plane, const std::optional<Hinges>& hinges) {
        const auto& s = sections_.sinus;
        std::string on = fmt::format("{}, {}", plane, names::kAorta);
        std::array<double, 3> diameters{};
        if (s) {
            on += fmt::format(", {}, widest section {:.0f} mm above the annulus", basis_of(s->contour), s->height_mm);
            diameters = sinus_diameters(s->contour, hinges->at);
        }
        const auto mean = [](const std::array<double, 3>& d) { return (d[0] + d[1] + d[2]) / 3; };
        const auto most = [](const std::array<double, 3>& d) { return std::max({d[0], d[1], d[2]}); };
        const auto add = [&](const char* name, const char* title, Code code,
                             const std::function<double(const std::array<double, 3>&)>& number) {
            Value v;
            if (!s) {
                v.reason = s.error().message;
            } else {
                v.number = number(diameters);
                std::vector<double> values;
                for (const Sample& sample : samples_) {
                    if (sample.sinus) values.push_back(number(sinus_diameters(*sample.sinus, sample.hinges)));
                }
                if (const auto sd = spread(values, samples_.size())) v.sd = combined({*sd, 2 * edge_sd(s->contour)});
            }
            list_.add(name, title, std::move(code), kMm, std::move(v), on);
        };
        add("sinus_right_mm", "Right sinus to opposite commissure",
            own("SOV_RIGHT", "Diameter of right sinus of Valsalva"), [](const auto& d) { return d[0]; });
        add("sinus_left_mm", "Left sinus to opposite commissure", own("SOV_LEFT", "Diameter of left sinus of Valsalva"),
            [](const auto& d) { return d[1]; });
        add("sinus_noncoronary_mm", "Non-coronary sinus to opposite commissure",
            own("SOV_NON", "Diameter of non-coronary sinus of Valsalva"), [](const auto& d) { return d[2]; });
        add("sinus_mean_mm", "Sinuses of Valsalva, mean diameter",
            own("SOV_MEAN", "Mean diameter of sinuses of Valsalva"), mean);
        add("sinus_max_mm", "Sinuses of Valsalva, largest diameter",
            own("SOV_MAX", "Largest diameter of sinuses of Valsalva"), most);
        if (!s) return std::nullopt;
        return mean(diameters);
    }

    void add_junction(const std::string& plane, const std::optional<Hinges>& hinges) {
        const auto& j = sections_.junction;
        const std::string on = fmt::format("{}, {}{}", plane, names::kAorta, j ? ", " + basis_of(j->contour) : "");
        const auto value = [&](auto&& number, auto&& sd) {
            return j ? Value{number(*j), sd(*j), {}} : Value{std::nullopt, std::nullopt, j.error().message};
        };
        const auto edge = [](const Section& s) { return 2 * edge_sd(s.contour); };
        list_.add("junction_height_mm", "Height of the sinotubular junction",
                  own("STJ_HEIGHT", "Height of sinotubular junction above annulus"), kMm,
                  value([](const Section& s) { return s.height_mm; },
                        [&](const Section& s) {
                            return combined({kJunctionSdMm, hinges->height_sd(s.contour.centroid())});
                        }),
                  on);
        list_.add("junction_mean_diameter_mm", "Sinotubular junction, mean diameter (from area)",
                  dcm("131149", "Sinotubular Junction Diameter"), kMm,
                  value([](const Section& s) { return area_diameter(s.contour); }, edge), on);
        list_.add("junction_min_diameter_mm", "Sinotubular junction, minimum diameter",
                  own("STJ_D_MIN", "Minimum diameter of sinotubular junction"), kMm,
                  value([](const Section& s) { return s.contour.min_diameter_mm; }, edge), on);
        list_.add("junction_max_diameter_mm", "Sinotubular junction, maximum diameter",
                  own("STJ_D_MAX", "Maximum diameter of sinotubular junction"), kMm,
                  value([](const Section& s) { return s.contour.max_diameter_mm; }, edge), on);
    }

    void add_ascending(const std::string& plane) {
        const auto& a = sections_.ascending;
        list_.add("ascending_aorta_diameter_mm", "Ascending aorta 40 mm above the annulus, diameter (from area)",
                  own("ASC_AORTA_D", "Diameter of ascending aorta 40 mm above annulus"), kMm,
                  a ? Value{area_diameter(a->contour), 2 * edge_sd(a->contour), {}}
                    : Value{std::nullopt, std::nullopt, a.error().message},
                  fmt::format("{}, {}{}", plane, names::kAorta, a ? ", " + basis_of(a->contour) : ""));
    }

private:
    MeasurementList& list_;
    const RootSections& sections_;
    const std::vector<Sample>& samples_;
};

RootSections none(const std::string& why) {
    const Error error = reject_error(why);
    return {error, error, error, error, error};
}

void keep_outline(Measured& measured, const char* name, const char* title, const LumenContour& contour) {
    Outline outline{name, title, {}};
    for (int i = 0; i < LumenContour::kPoints; i += 3) outline.points.push_back(contour.point_at(i * M_PI / 180));
    measured.outlines.push_back(std::move(outline));
}

}  // namespace

std::optional<double> add_root(MeasurementList& list, const Findings& findings, const Volume& ct,
                               const MeasureRules& rules, Measured& measured) {
    const auto hinges = hinges_of(findings, rules);
    const SegmentGroup* heart = group_of(findings, names::kHeartHead);
    std::vector<int> lumen;
    if (heart) {
        for (const Segment& s : heart->segments) {
            if (s.name == names::kAorta || s.name == names::kLeftVentricle) lumen.push_back(s.label);
        }
    }
    RootSections sections = none("");
    std::vector<Sample> samples;
    if (!hinges) {
        sections = none(no_plane(findings));
    } else if (!heart) {
        sections = none("the heart was not segmented");
    } else if (lumen.empty()) {
        sections = none("the model marks neither aorta nor left ventricle");
    } else {
        const LumenTracer tracer(&ct, heart->labels, lumen);
        sections = find_sections(tracer, *findings.annular_plane);
        samples = samples_of(tracer, sections, *hinges, *findings.annular_plane, rules);
    }
    if (sections.annulus) keep_outline(measured, "annulus", "Annulus", *sections.annulus);
    if (sections.outflow) keep_outline(measured, "outflow_tract", "Outflow tract", *sections.outflow);
    if (sections.sinus) keep_outline(measured, "sinus", "Sinuses of Valsalva", sections.sinus->contour);
    if (sections.junction) keep_outline(measured, "junction", "Sinotubular junction", sections.junction->contour);
    if (sections.ascending) keep_outline(measured, "ascending_aorta", "Ascending aorta", sections.ascending->contour);

    const std::string plane =
        fmt::format("{}, {}, {}", names::kHingeRight, names::kHingeLeft, names::kHingeNoncoronary);
    RootList root(list, sections, samples);
    root.add_annulus(plane);
    root.add_outflow(plane);
    const auto sinus_mean = root.add_sinuses(plane, hinges);
    root.add_junction(plane, hinges);
    root.add_ascending(plane);
    return sinus_mean;
}

}  // namespace cardionode
