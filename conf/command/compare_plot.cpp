#include "conf/command/compare_plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "models/train/comparison.h"
#include "pipeline/outputs/png_file.h"
#include "pipeline/outputs/stroke_font.h"

namespace cardionode {
namespace {

using nlohmann::json;

constexpr Rgb kInk{30, 30, 30}, kFaint{205, 205, 205}, kPaper{255, 255, 255};
constexpr std::array<Rgb, 6> kSeedColours = {Rgb{31, 119, 180}, {214, 90, 20},  {44, 140, 60},
                                             {190, 40, 60},     {120, 80, 170}, {120, 85, 70}};
constexpr double kPanelWidth = 620, kPanelHeight = 430, kMargin = 64, kHeadRoom = 50, kFootRoom = 66, kText = 9;

/// Dark text on white: Canvas::text has a dark rim, which is for pictures.
void write(Canvas& canvas, double x, double y, const std::string& text, double height = kText) {
    const double scale = height / kCapHeight;
    for (const char c : text) {
        const Glyph& glyph = glyph_of(c);
        for (const auto& stroke : glyph.strokes) {
            std::vector<Pixel> points;
            for (const GlyphPoint& p : stroke) points.push_back({x + p.x * scale, y - p.y * scale});
            if (points.size() == 1) canvas.disc(points.front(), 0.9, kInk);
            else canvas.polyline(points, 1.3, kInk);
        }
        x += glyph.advance * scale;
    }
}

void write_middle(Canvas& canvas, double x, double y, const std::string& text) {
    write(canvas, x - Canvas::text_width(text, kText) / 2, y, text);
}

/// A step of 1, 2 or 5 times a power of ten that gives at most six lines.
double tick_step(double range) {
    for (double power = 1e-4;; power *= 10) {
        for (const double step : {1.0, 2.0, 5.0}) {
            if (range / (step * power) <= 6) return step * power;
        }
    }
}

void draw_panel(Canvas& canvas, const json& seeds, const std::vector<std::string>& arms, const PlotPanel& panel,
                double left) {
    double highest = 0;
    for (const json& seed : seeds) {
        for (const std::string& arm : arms) highest = std::max(highest, seed["arms"][arm][panel.measure].get<double>());
    }
    const double step = tick_step(std::max(highest, 1e-3));
    const double top_value = (std::floor(highest / step) + 1) * step;
    const double x0 = left + kMargin, x1 = left + kPanelWidth - 16, y0 = kPanelHeight - kFootRoom, y1 = kHeadRoom;
    const auto y_of = [&](double value) { return y0 + (y1 - y0) * value / top_value; };
    const auto x_of = [&](std::size_t i) {
        return x0 + (x1 - x0) * (static_cast<double>(i) + 0.5) / static_cast<double>(arms.size());
    };
    write(canvas, x0, 26, panel.title, 11);
    for (double v = 0; v <= top_value + step / 2; v += step) {
        const std::array<Pixel, 2> line = {Pixel{x0, y_of(v)}, Pixel{x1, y_of(v)}};
        canvas.polyline(line, 1, kFaint);
        const std::string label = fmt::format("{:.4g}", v);
        write(canvas, x0 - 8 - Canvas::text_width(label, kText), y_of(v) + kText / 2, label);
    }
    std::vector<double> means(arms.size(), 0);
    for (std::size_t s = 0; s < seeds.size(); ++s) {
        const Rgb colour = kSeedColours[s % kSeedColours.size()];
        const auto at = [&](std::size_t i) {
            // Seeds side by side: equal values must not hide one another.
            const double shift = 5 * (static_cast<double>(s) - static_cast<double>(seeds.size() - 1) / 2);
            return Pixel{x_of(i) + shift, y_of(seeds[s]["arms"][arms[i]][panel.measure].get<double>())};
        };
        for (std::size_t i = 0; i < arms.size(); ++i) {
            means[i] += seeds[s]["arms"][arms[i]][panel.measure].get<double>() / static_cast<double>(seeds.size());
            const bool pair = i + 1 < arms.size() && arms[i].substr(0, 4) == arms[i + 1].substr(0, 4);
            if (pair || arms.size() == 2) {
                if (i + 1 == arms.size()) continue;
                const std::array<Pixel, 2> line = {at(i), at(i + 1)};
                canvas.polyline(line, 1.2, colour, 0.7);
            }
        }
        for (std::size_t i = 0; i < arms.size(); ++i) canvas.disc(at(i), 4, colour);
    }
    for (std::size_t i = 0; i < arms.size(); ++i) {
        const std::array<Pixel, 2> mean = {Pixel{x_of(i) - 24, y_of(means[i])}, Pixel{x_of(i) + 24, y_of(means[i])}};
        canvas.polyline(mean, 2, kInk);
        const std::size_t dash = arms[i].find('-');
        write_middle(canvas, x_of(i), y0 + 20, arms[i].substr(0, dash));
        if (dash != std::string::npos) write_middle(canvas, x_of(i), y0 + 36, arms[i].substr(dash + 1));
    }
}

}  // namespace

Result<void> write_arms_plot(const json& seeds, const std::vector<std::string>& arms,
                             const std::vector<PlotPanel>& panels, const std::filesystem::path& file) {
    Canvas canvas(static_cast<int>(kPanelWidth) * static_cast<int>(panels.size()), static_cast<int>(kPanelHeight),
                  kPaper);
    for (std::size_t i = 0; i < panels.size(); ++i)
        draw_panel(canvas, seeds, arms, panels[i], kPanelWidth * static_cast<double>(i));
    write(canvas, kMargin, kPanelHeight - 10,
          fmt::format("Phantoms, {} seeds: a colour is a seed, a bar the mean. No evidence about patients.",
                      seeds.size()));
    return write_png(canvas, file);
}

Result<void> write_comparison_plot(const json& results, const std::filesystem::path& file) {
    std::vector<std::string> arms;
    std::vector<PlotPanel> panels;
    if (results["kind"] == "distillation") {
        arms = {train::kTeachers, train::kStudentLabelled, train::kStudentPseudo, train::kBaselineLabelled,
                train::kBaselinePseudo};
        panels = {
            {"mean_error_mm", fmt::format("Landmark error, mm (a miss is {:.0f})", results["missed_mm"].get<double>())},
            {"calc_dice", "Calcium Dice"}};
    } else {
        arms = {train::kFrozenStudent, train::kFrozenBaseline};
        for (const auto& [key, value] : results["seeds"][0]["arms"][arms[0]].items()) {
            if (key.ends_with("_dice")) panels.push_back({key, key.substr(0, key.size() - 5) + " Dice"});
        }
    }
    std::erase_if(arms, [&](const std::string& arm) { return !results["seeds"][0]["arms"].contains(arm); });
    return write_arms_plot(results["seeds"], arms, panels, file);
}

}  // namespace cardionode
