#include "pipeline/evaluate/pictures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "pipeline/evaluate/statistics.h"

namespace cardionode {
namespace {

constexpr Rgb kDot{90, 160, 255}, kBad{255, 70, 60};
constexpr Rgb kTrue{0, 230, 60}, kFound{255, 70, 60}, kWhite{255, 255, 255}, kGrey{170, 170, 170};

void ink(Canvas& canvas, Pixel at, const std::string& text, double height, Rgb colour = kWhite) {
    canvas.text(at, text, height, colour);
}

struct Row {
    std::string name;
    std::vector<double> values;  ///< kMissed allowed
};

std::vector<Row> rows_of(const std::vector<CaseScore>& cases, bool points) {
    std::vector<Row> rows;
    std::map<std::string, std::size_t> place;
    const auto add = [&](const std::string& name, double value) {
        const auto [at, added] = place.try_emplace(name, rows.size());
        if (added) rows.push_back({name, {}});
        rows[at->second].values.push_back(value);
    };
    for (const CaseScore& c : cases) {
        if (!c.contrast) continue;
        if (points) {
            for (const PointScore& p : c.points) {
                if (const auto error = p.error_mm()) add(p.name, *error);
            }
        } else {
            for (const StructureScore& s : c.structures) {
                if (const auto dice = s.voxels.dice()) add(s.name, *dice);
            }
        }
    }
    return rows;
}

struct Axis {
    double left, right, low, high;
    double at(double v) const { return left + (right - left) * (std::clamp(v, low, high) - low) / (high - low); }
};

constexpr double kRowHeight = 34, kLeft = 215, kText = 9;

/// One row: dots in four lanes, box of the quartiles, line at the median.
void draw_row(Canvas& canvas, const Row& row, const Axis& axis, double y, double missed_x) {
    ink(canvas, {12, y + 4}, row.name, kText);
    int n = 0, missed = 0, beyond = 0;
    for (const double v : row.values) {
        const double lane = y - 9 + 6 * (n++ % 4);
        if (std::isinf(v)) {
            ++missed;
            continue;
        }
        beyond += v > axis.high;
        canvas.disc({axis.at(v), lane}, 2.2, v > axis.high ? kBad : kDot, 0.75);
    }
    const double q1 = quantile(row.values, 0.25), q2 = quantile(row.values, 0.5), q3 = quantile(row.values, 0.75);
    const double x1 = axis.at(q1), x2 = axis.at(q2), x3 = axis.at(q3);
    const std::array<Pixel, 5> box = {{{x1, y - 12}, {x3, y - 12}, {x3, y + 12}, {x1, y + 12}, {x1, y - 12}}};
    canvas.polyline(box, 1.5, kWhite);
    const std::array<Pixel, 2> middle = {{{x2, y - 12}, {x2, y + 12}}};
    canvas.polyline(middle, 3, {255, 170, 0});
    if (missed_x > 0) {
        ink(canvas, {missed_x, y + 4},
            fmt::format("{}{}", missed ? fmt::format("{} missed", missed) : "none missed",
                        beyond ? fmt::format(", {} beyond", beyond) : ""),
            kText, missed ? kFound : kGrey);
    }
}

void draw_scale(Canvas& canvas, const Axis& axis, const std::vector<double>& ticks, int digits, double top,
                double bottom, const std::string& label) {
    for (const double t : ticks) {
        const std::array<Pixel, 2> line = {{{axis.at(t), top}, {axis.at(t), bottom}}};
        canvas.polyline(line, 1, {70, 70, 78});
        const std::string text = fmt::format("{:.{}f}", t, digits);
        ink(canvas, {axis.at(t) - Canvas::text_width(text, kText) / 2, bottom + 16}, text, kText, kGrey);
    }
    ink(canvas, {axis.left, top - 8}, label, kText, kGrey);
}

/// A window of the CT around a place, seen along one axis of the patient.
class Slice {
public:
    static constexpr int kSide = 420;
    static constexpr double kWidthMm = 60;

    /// @param across, down  patient axes of the picture's columns and rows
    Slice(const Volume& ct, PatientPoint centre, Vec3 across, Vec3 down)
        : canvas(kSide, kSide, {0, 0, 0}), centre_(centre), across_(across), down_(down) {
        for (int y = 0; y < kSide; ++y) {
            for (int x = 0; x < kSide; ++x) {
                const PatientPoint p{add(centre.lps_mm, add(scale(across, mm(x + 0.5)), scale(down, mm(y + 0.5))))};
                const auto hu = value_at(ct, p);
                if (!hu) continue;
                const auto grey = static_cast<std::uint8_t>(std::clamp((*hu + 200) / 900, 0.0, 1.0) * 255);
                canvas.set(x, y, {grey, grey, grey});
            }
        }
    }
    Pixel at(PatientPoint p) const {
        const Vec3 d = subtract(p.lps_mm, centre_.lps_mm);
        return {kSide / 2.0 + dot(d, across_) * kSide / kWidthMm, kSide / 2.0 + dot(d, down_) * kSide / kWidthMm};
    }
    double off_mm(PatientPoint p) const {
        return std::abs(dot(subtract(p.lps_mm, centre_.lps_mm), cross(across_, down_)));
    }
    Canvas canvas;

private:
    static double mm(double pixel) { return (pixel / kSide - 0.5) * kWidthMm; }
    static std::optional<double> value_at(const Volume& ct, PatientPoint p) {
        const Vec3 index = ct.grid.to_index(p).ijk;
        std::array<std::int64_t, 3> low{};
        Vec3 part{};
        for (std::size_t a = 0; a < 3; ++a) {
            const auto top = static_cast<double>(ct.grid.size()[a] - 1);
            if (index[a] < -0.5 || index[a] > top + 0.5) return std::nullopt;
            const double inside = std::clamp(index[a], 0.0, top);
            low[a] = std::min(static_cast<std::int64_t>(inside), std::max<std::int64_t>(ct.grid.size()[a] - 2, 0));
            part[a] = inside - static_cast<double>(low[a]);
        }
        double sum = 0;
        for (int corner = 0; corner < 8; ++corner) {
            double weight = 1;
            VoxelIndex v{low};
            for (std::size_t a = 0; a < 3; ++a) {
                const bool up = ((corner >> a) & 1) != 0;
                weight *= up ? part[a] : 1 - part[a];
                v.ijk[a] += up && v.ijk[a] + 1 < ct.grid.size()[a];
            }
            if (weight > 0) sum += weight * ct.at(v);
        }
        return sum;
    }
    PatientPoint centre_;
    Vec3 across_, down_;
};

void cross_at(Canvas& canvas, Pixel p, double alpha) {
    const std::array<Pixel, 2> a = {{{p.x - 8, p.y}, {p.x + 8, p.y}}}, b = {{{p.x, p.y - 8}, {p.x, p.y + 8}}};
    canvas.polyline(a, 2, kTrue, alpha);
    canvas.polyline(b, 2, kTrue, alpha);
}

void draw_points(Slice& slice, const CaseScore& score, const PointScore& worst) {
    for (const PointScore& p : score.points) {
        const bool is_worst = &p == &worst;
        if (p.truth) {
            cross_at(slice.canvas, slice.at(*p.truth), is_worst || slice.off_mm(*p.truth) < 3 ? 1 : 0.3);
        }
        if (p.found) {
            const double alpha = is_worst || slice.off_mm(*p.found) < 3 ? 1 : 0.3;
            slice.canvas.ring(slice.at(*p.found), 7, 2, kFound, alpha);
        }
    }
    if (worst.truth && worst.found) {
        slice.canvas.dashed_line(slice.at(*worst.truth), slice.at(*worst.found), 4, 1.5, {255, 220, 0});
    }
}

const PointScore* worst_point(const CaseScore& score) {
    const PointScore* worst = nullptr;
    for (const PointScore& p : score.points) {
        const auto error = p.error_mm();
        if (error && (!worst || *error > *worst->error_mm())) worst = &p;
    }
    return worst;
}

std::string error_text(const PointScore& p) {
    const auto error = p.error_mm();
    if (!error) return p.found ? "found although it is not there" : "not there, not found";
    return std::isinf(*error) ? "missed" : fmt::format("{:.1f} mm", *error);
}

}  // namespace

Canvas distribution_picture(const std::vector<CaseScore>& cases, const std::string& title) {
    const std::vector<Row> points = rows_of(cases, true), structures = rows_of(cases, false);
    constexpr int kWidth = 1100;
    const auto height = static_cast<int>(170 + kRowHeight * static_cast<double>(points.size() + structures.size()));
    Canvas canvas(kWidth, std::max(height, 200), {24, 24, 28});
    ink(canvas, {12, 26}, title, 11);
    double y = 62;
    if (!points.empty()) {
        const Axis axis{kLeft, kWidth - 190, 0, 15};
        const double bottom = y + kRowHeight * static_cast<double>(points.size());
        draw_scale(canvas, axis, {0, 1, 2, 3, 5, 10, 15}, 0, y, bottom,
                   "distance of found and true point, mm (box: quartiles, orange: median; red: beyond the scale)");
        for (const Row& row : points) draw_row(canvas, row, axis, (y += kRowHeight) - kRowHeight / 2, axis.right + 14);
        y += 56;
    }
    if (!structures.empty()) {
        const Axis axis{kLeft, kWidth - 190, 0, 1};
        const double bottom = y + kRowHeight * static_cast<double>(structures.size());
        draw_scale(canvas, axis, {0, 0.2, 0.4, 0.6, 0.72, 0.8, 0.9, 1}, 2, y, bottom, "Dice of each case");
        for (const Row& row : structures) draw_row(canvas, row, axis, (y += kRowHeight) - kRowHeight / 2, 0);
    }
    return canvas;
}

Canvas worst_case_picture(const Volume& ct, const CaseScore& score, const std::string& note) {
    constexpr int kGap = 8, kCaption = 86;
    const int lines = static_cast<int>(score.points.size() + 1) / 2;
    Canvas page(3 * Slice::kSide + 4 * kGap, kCaption + Slice::kSide + 30 + 22 * lines, {24, 24, 28});
    const PointScore* worst = worst_point(score);
    ink(page, {12, 26},
        fmt::format("{}, scanner profile {}, {} contrast agent", score.name, score.profile,
                    score.contrast ? "with" : "without"),
        11);
    if (!worst) {
        ink(page, {12, 52}, "no point is there to be found", 10, kGrey);
        return page;
    }
    ink(page, {12, 50},
        fmt::format("worst: {}, {}{}", worst->name, error_text(*worst),
                    worst->reason.empty() ? "" : " (" + worst->reason + ")"),
        9, kGrey);
    ink(page, {12, 72}, "Green cross: true; red ring: found; faint: more than 3 mm off the slice. " + note, 9, kGrey);
    const std::array<std::pair<const char*, std::array<Vec3, 2>>, 3> views = {
        {{"axial", {Vec3{1, 0, 0}, Vec3{0, 1, 0}}},
         {"coronal", {Vec3{1, 0, 0}, Vec3{0, 0, -1}}},
         {"sagittal", {Vec3{0, 1, 0}, Vec3{0, 0, -1}}}}};
    int x = kGap;
    for (const auto& [name, axes] : views) {
        Slice slice(ct, *worst->truth, axes[0], axes[1]);
        draw_points(slice, score, *worst);
        slice.canvas.text({10, Slice::kSide - 12}, name, 10, kWhite);
        page.paste(slice.canvas, x, kCaption);
        x += Slice::kSide + kGap;
    }
    for (std::size_t n = 0; n < score.points.size(); ++n) {
        const PointScore& p = score.points[n];
        const double left = n % 2 ? page.width() / 2.0 : 12;
        ink(page, {left, kCaption + Slice::kSide + 26 + 22.0 * static_cast<double>(n / 2)},
            fmt::format("{}: {}, confidence {:.2f}", p.name, error_text(p), p.confidence), 9,
            &p == worst ? kFound : kGrey);
    }
    return page;
}

}  // namespace cardionode
