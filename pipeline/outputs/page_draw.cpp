#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "pipeline/outputs/pages.h"
#include "pipeline/outputs/pen.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

constexpr Rgb kWhite{240, 240, 240}, kGrey{170, 175, 182}, kAmber{255, 176, 32}, kBlack{0, 0, 0},
    kOutline{255, 255, 255};
constexpr std::array<Rgb, 8> kLandmarkColours = {{{90, 225, 110},
                                                  {255, 95, 95},
                                                  {255, 225, 70},
                                                  {80, 205, 255},
                                                  {255, 155, 70},
                                                  {235, 130, 255},
                                                  {150, 255, 225},
                                                  {200, 200, 255}}};
constexpr double kNearMm = 5;  ///< points this far off the cut still show, faintly

std::string with_unit(const Measurement& measurement) {
    const std::string unit =
        measurement.unit.value == "1" || measurement.unit.value.starts_with("{") ? "" : " " + measurement.unit.value;
    const int digits = std::abs(*measurement.value) < 10 ? 2 : std::abs(*measurement.value) < 100 ? 1 : 0;
    if (!measurement.uncertainty) return fmt::format("{:.{}f}{}", *measurement.value, digits, unit);
    return fmt::format("{:.{}f} +- {:.{}f}{}", *measurement.value, digits, *measurement.uncertainty, digits, unit);
}

/// Cut at the width, with dots.
std::string fitted(std::string text, double cap, double width) {
    if (Canvas::text_width(text, cap) <= width) return text;
    while (!text.empty() && Canvas::text_width(text + "...", cap) > width) text.pop_back();
    return text + "...";
}

void draw_frame(Pen& pen, const Page& page, const Findings& findings) {
    const double u = pen.unit();
    const double right = pen.side() - 16 * u;
    pen.write_right(right, 34 * u, "RESEARCH USE ONLY", 13 * u, kAmber);
    pen.write(16 * u, 34 * u, fitted(page.title, 15 * u, pen.side() - 250 * u), 15 * u, kWhite);
    if (!page.place.empty()) pen.write(16 * u, 60 * u, page.place, 11 * u, kGrey);
    const std::string model = fitted(findings.model.name + " " + findings.model.version, 9 * u, 300 * u);
    pen.write_right(right, pen.side() - 14 * u, model, 9 * u, kGrey);
}

void draw_directions(Pen& pen, const View& view) {
    const double u = pen.unit(), cap = 16 * u, middle = pen.side() / 2;
    pen.write_right(pen.side() - 14 * u, middle + cap / 2, direction_letters(view.right), cap, kWhite);
    pen.write(14 * u, middle + cap / 2, direction_letters(scale(view.right, -1)), cap, kWhite);
    pen.write_middle(middle, 88 * u, direction_letters(scale(view.down, -1)), cap, kWhite);
    pen.write_middle(middle, pen.side() - 16 * u, direction_letters(view.down), cap, kWhite);
}

void draw_scale_bar(Pen& pen, const View& view) {
    const double u = pen.unit(), pixels_per_mm = pen.side() / view.width_mm;
    const double length_mm = view.width_mm > 100 ? 30 : 20;
    const double x1 = pen.side() - 18 * u, x0 = x1 - length_mm * pixels_per_mm, y = pen.side() - 38 * u;
    const Pixel bar[2] = {{x0, y}, {x1, y}};
    pen.canvas().polyline(bar, 5 * u, kBlack, 0.7);
    pen.canvas().polyline(bar, 2 * u, kWhite);
    for (double mm = 0; mm <= length_mm + 0.1; mm += 10) {
        const double x = x0 + mm * pixels_per_mm;
        const Pixel tick[2] = {{x, y - 6 * u}, {x, y}};
        pen.canvas().polyline(tick, 2 * u, kWhite);
    }
    pen.write_right(x1, y - 14 * u, fmt::format("{:.0f} mm", length_mm), 11 * u, kWhite);
    pen.take({x0, y - 8 * u, x1, y + 4 * u});
}

/// Contours of every group, and a legend of what is in the picture.
void draw_structures(Pen& pen, const View& view, const Findings& findings) {
    std::vector<const Segment*> shown;
    for (const SegmentGroup& group : findings.groups) {
        const auto shares = label_shares(group.labels, view, static_cast<int>(pen.side()));
        for (const Segment& segment : group.segments) {
            const auto share = shares.find(segment.label);
            if (share == shares.end()) continue;
            if (std::none_of(share->second.begin(), share->second.end(), [](float s) { return s > 0.5F; })) continue;
            const Rgb colour{segment.rgb[0], segment.rgb[1], segment.rgb[2]};
            draw_contour(pen.canvas(), share->second, 2 * pen.unit(), colour, 0.07);
            shown.push_back(&segment);
        }
    }
    const double u = pen.unit();
    double y = pen.side() - 14 * u - static_cast<double>(shown.size()) * 19 * u;
    for (const Segment* segment : shown) {
        y += 19 * u;
        const Rgb colour{segment->rgb[0], segment->rgb[1], segment->rgb[2]};
        pen.canvas().rectangle(15 * u, y - 12 * u, 29 * u, y + 2 * u, kBlack, 0.8);
        pen.canvas().rectangle(17 * u, y - 10 * u, 27 * u, y, colour, 1);
        pen.write(36 * u, y, segment->title, 10 * u, kWhite);
    }
}

/// Where the annular plane crosses the cut, 30 mm to either side.
void draw_annular_line(Pen& pen, const View& view, const Plane& plane) {
    const Vec3 along = cross(plane.normal, view.normal());
    if (norm(along) < 0.2) return;  // almost parallel: the crossing says nothing
    const Vec3 direction = normalised(along);
    // The point of the crossing that is nearest to the plane's own point.
    const Vec3 in_plane = cross(plane.normal, direction);
    const double off = dot(subtract(view.centre.lps_mm, plane.point.lps_mm), view.normal());
    const Vec3 foot = add(plane.point.lps_mm, scale(in_plane, off / dot(in_plane, view.normal())));
    const int side = static_cast<int>(pen.side());
    const Pixel a = project(view, side, {add(foot, scale(direction, -30))}).pixel;
    const Pixel b = project(view, side, {add(foot, scale(direction, 30))}).pixel;
    pen.canvas().dashed_line(a, b, 7 * pen.unit(), 3.5 * pen.unit(), kBlack, 0.5);
    pen.canvas().dashed_line(a, b, 7 * pen.unit(), 1.6 * pen.unit(), kWhite, 0.9);
    pen.label(a.x > b.x ? a : b, 8 * pen.unit(), "annular plane", 10 * pen.unit(), kWhite);
}

/// What was measured on: the outline itself where it lies in the cut, else a line between where it crosses the cut.
void draw_outlines(Pen& pen, const Page& page, const Findings& findings) {
    const double u = pen.unit();
    const int side = static_cast<int>(pen.side());
    for (const Outline& outline : findings.outlines) {
        std::vector<Pixel> in_cut, crossings;
        Projected last;
        for (std::size_t n = 0; n <= outline.points.size() && !outline.points.empty(); ++n) {
            const Projected at = project(*page.view, side, outline.points[n % outline.points.size()]);
            if (std::abs(at.off_mm) < 0.5) in_cut.push_back(at.pixel);
            if (n > 0 && (at.off_mm < 0) != (last.off_mm < 0)) {
                const double share = last.off_mm / (last.off_mm - at.off_mm);
                crossings.push_back({last.pixel.x + share * (at.pixel.x - last.pixel.x),
                                     last.pixel.y + share * (at.pixel.y - last.pixel.y)});
            }
            last = at;
        }
        if (in_cut.size() > outline.points.size()) {
            pen.canvas().polyline(in_cut, 4 * u, kBlack, 0.5);
            pen.canvas().polyline(in_cut, 2 * u, kOutline, 0.95);
        } else if (!page.height_of.empty() && crossings.size() == 2 && outline.name != "annulus") {
            pen.canvas().polyline(crossings, 3.5 * u, kBlack, 0.4);
            pen.canvas().polyline(crossings, 1.6 * u, kOutline, 0.8);
            for (const Pixel& end : crossings) pen.canvas().disc(end, 2.6 * u, kOutline, 0.9);
            const Pixel& right = crossings[0].x > crossings[1].x ? crossings[0] : crossings[1];
            pen.label(right, 8 * u, outline.title, 10 * u, kWhite);
        }
    }
}

/// The perpendicular from a landmark to the annular plane, with its length.
void draw_height(Pen& pen, const Page& page, const Findings& findings) {
    const Landmark* landmark = findings.landmark(page.height_of);
    if (landmark == nullptr || !landmark->position || !findings.annular_plane) return;
    const Plane& plane = *findings.annular_plane;
    const double height = dot(subtract(landmark->position->lps_mm, plane.point.lps_mm), plane.normal);
    const PatientPoint foot{subtract(landmark->position->lps_mm, scale(plane.normal, height))};
    const int side = static_cast<int>(pen.side());
    const Pixel top = project(*page.view, side, *landmark->position).pixel;
    const Pixel bottom = project(*page.view, side, foot).pixel;
    const Pixel line[2] = {top, bottom};
    pen.canvas().polyline(line, 3.5 * pen.unit(), kBlack, 0.5);
    pen.canvas().polyline(line, 1.6 * pen.unit(), kWhite, 0.95);
    for (const Pixel& end : line) {
        const Pixel tick[2] = {{end.x - 6 * pen.unit(), end.y}, {end.x + 6 * pen.unit(), end.y}};
        pen.canvas().polyline(tick, 1.6 * pen.unit(), kWhite, 0.95);
    }
    pen.label({(top.x + bottom.x) / 2, (top.y + bottom.y) / 2}, 12 * pen.unit(), fmt::format("{:.1f} mm", height),
              13 * pen.unit(), kWhite);
}

void draw_landmarks(Pen& pen, const Page& page, const CtSeries& source, const Findings& findings) {
    const double u = pen.unit();
    const double on_cut_mm = std::max(1.0, page.slice ? source.volume.grid.spacing()[2] / 2 + 1e-6 : 1.0);
    struct Mark {
        Pixel at;
        std::string text;
        Rgb colour;
    };
    std::vector<Mark> marks;
    for (std::size_t n = 0; n < findings.landmarks.size(); ++n) {
        const Landmark& landmark = findings.landmarks[n];
        if (!landmark.position) continue;
        const Projected at = project(*page.view, static_cast<int>(pen.side()), *landmark.position);
        const double away = std::abs(at.off_mm);
        if (at.pixel.x < 0 || at.pixel.y < 0 || at.pixel.x >= pen.side() || at.pixel.y >= pen.side()) continue;
        if (away > (page.annulus ? 30 : kNearMm)) continue;
        const Rgb colour = landmark_colour(n);
        const bool on_cut = away <= on_cut_mm;
        const double radius = (on_cut ? 8 : 5) * u;
        pen.canvas().ring(at.pixel, radius, 4.5 * u, kBlack, 0.55);
        pen.canvas().ring(at.pixel, radius, 2 * u, colour, on_cut ? 1 : 0.75);
        if (on_cut) pen.canvas().disc(at.pixel, 1.8 * u, colour);
        pen.take({at.pixel.x - radius, at.pixel.y - radius, at.pixel.x + radius, at.pixel.y + radius});
        if (on_cut) marks.push_back({at.pixel, short_title(landmark), colour});
        else if (page.annulus) {
            marks.push_back({at.pixel, fmt::format("{} ({:+.1f} mm)", short_title(landmark), at.off_mm), colour});
        }
    }
    for (const Mark& mark : marks) pen.label(mark.at, 14 * u, mark.text, 11 * u, mark.colour);
}

/// A title for the page that is about nothing but the annulus: its whole title would be cut off where it differs.
std::string title_on_annulus_page(const Measurement& measurement) {
    if (measurement.name == "annulus_tilt_deg") return "Tilt to axial plane";
    std::string title = measurement.title.substr(0, measurement.title.find(" ("));
    constexpr std::string_view kAnnulus = "Annulus ";
    if (title.starts_with(kAnnulus)) title.erase(0, kAnnulus.size());
    if (!title.empty()) title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(title[0])));
    return title;
}

/// The annulus in numbers, at the right under the banner. The rest stands on the summary page: a longer list would
/// cover the root, and heights stand beside their points.
void draw_measurements(Pen& pen, const Findings& findings) {
    const double u = pen.unit();
    double y = 60 * u;
    for (const Measurement& measurement : findings.measurements) {
        if (!measurement.value || !measurement.name.starts_with("annulus_") || y > pen.side() * 0.3) continue;
        const std::string value = "  " + with_unit(measurement);
        const double room = 280 * u - Canvas::text_width(value, 10 * u);
        pen.write_right(pen.side() - 16 * u, y, fitted(title_on_annulus_page(measurement), 10 * u, room) + value,
                        10 * u, kWhite);
        y += 20 * u;
    }
}

struct Row {
    std::string left, right;
    Rgb colour;
    bool heading = false;
};

std::vector<Row> summary_rows(const Findings& findings) {
    std::vector<Row> rows;
    rows.push_back({"Landmarks", "left  back  head, mm      probability", kAmber, true});
    for (std::size_t n = 0; n < findings.landmarks.size(); ++n) {
        const Landmark& landmark = findings.landmarks[n];
        if (landmark.position) {
            const Vec3& p = landmark.position->lps_mm;
            rows.push_back({landmark.title,
                            fmt::format("{:.1f}  {:.1f}  {:.1f}      {:.2f}", p[0], p[1], p[2], landmark.confidence),
                            landmark_colour(n)});
        } else {
            const std::string reason = landmark.reason.empty() ? "" : ": " + landmark.reason;
            rows.push_back({landmark.title, "not found" + reason, kGrey});
        }
    }
    if (!findings.measurements.empty()) rows.push_back({"Measurements", "", kAmber, true});
    for (const Measurement& measurement : findings.measurements) {
        if (measurement.value) rows.push_back({measurement.title, with_unit(measurement), kWhite});
        else {
            const std::string reason = measurement.reason.empty() ? "" : ": " + measurement.reason;
            rows.push_back({measurement.title, "not measured" + reason, kGrey});
        }
    }
    for (const SegmentGroup& group : findings.groups) {
        rows.push_back({group.title, "volume", kAmber, true});
        for (const Segment& segment : group.segments) {
            const Rgb colour{segment.rgb[0], segment.rgb[1], segment.rgb[2]};
            if (segment.volume_ml) {
                const int digits = *segment.volume_ml < 1 ? 3 : 1;
                rows.push_back({segment.title, fmt::format("{:.{}f} ml", *segment.volume_ml, digits), colour});
            } else rows.push_back({segment.title, "not found", kGrey});
        }
    }
    for (const std::string& warning : findings.warnings) rows.push_back({"Note: " + warning, "", kAmber});
    return rows;
}

Canvas draw_summary(const Page& page, const Findings& findings, int side) {
    Canvas canvas(side, side, {14, 17, 22});
    Pen pen(canvas, side);
    draw_frame(pen, page, findings);
    const double u = pen.unit();
    pen.write(16 * u, side - 14 * u, "Made by software, not verified by a physician. Not for diagnosis.", 9 * u,
              kAmber);
    const std::vector<Row> rows = summary_rows(findings);
    double height = 0;
    for (const Row& row : rows) height += row.heading ? 1.45 : 1;
    const double line = std::min(26 * u, (side - 110 * u) / std::max(1.0, height));
    const double cap = std::min(11.5 * u, line * 0.5);
    double y = 52 * u;
    for (const Row& row : rows) {
        y += row.heading ? 1.45 * line : line;
        const double left = row.heading ? 16 * u : 28 * u;
        const double split = row.right.empty() ? side - 32 * u : std::max(side * 0.42, left);
        canvas.text({left, y}, fitted(row.left, cap, split - left), cap, row.colour);
        if (row.right.empty()) continue;
        const std::string right = fitted(row.right, cap, side - split - 36 * u);
        canvas.text({side - 16 * u - Canvas::text_width(right, cap), y}, right, cap, row.heading ? kGrey : row.colour);
        if (row.heading) {
            const Pixel rule[2] = {{16 * u, y + 7 * u}, {side - 16 * u, y + 7 * u}};
            canvas.polyline(rule, 1 * u, kGrey, 0.4);
        }
    }
    return canvas;
}

}  // namespace

std::string short_title(const Landmark& landmark) {
    static const std::map<std::string_view, const char*> kShort = {
        {names::kHingeRight, "RCC nadir"},       {names::kHingeLeft, "LCC nadir"},
        {names::kHingeNoncoronary, "NCC nadir"}, {names::kOstiumRight, "RCA ostium"},
        {names::kOstiumLeft, "LCA ostium"},      {names::kSeptumUpper, "MS upper"},
        {names::kSeptumLower, "MS lower"}};
    const auto known = kShort.find(landmark.name);
    return known == kShort.end() ? landmark.title : known->second;
}

Rgb landmark_colour(std::size_t n) { return kLandmarkColours[n % kLandmarkColours.size()]; }

Canvas draw_page(const Page& page, const CtSeries& source, const Findings& findings, const Window& window, int side,
                 double text_scale) {
    if (!page.view) return draw_summary(page, findings, side);
    Canvas canvas = draw_ct(source.volume, *page.view, side, window);
    Pen pen(canvas, side, text_scale);
    draw_structures(pen, *page.view, findings);
    draw_frame(pen, page, findings);
    draw_directions(pen, *page.view);
    draw_scale_bar(pen, *page.view);
    if (page.lists_annulus) draw_measurements(pen, findings);
    else if (!page.annulus && findings.annular_plane && !page.slice)
        draw_annular_line(pen, *page.view, *findings.annular_plane);
    draw_outlines(pen, page, findings);
    if (!page.height_of.empty()) draw_height(pen, page, findings);
    draw_landmarks(pen, page, source, findings);
    return canvas;
}

}  // namespace cardionode
