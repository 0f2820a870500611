#include "conf/command/train_curves.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "pipeline/outputs/canvas.h"
#include "pipeline/outputs/png_file.h"

namespace cardionode {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// Light on dark: the canvas gives text a dark rim.
constexpr Rgb kInk = {225, 225, 225}, kGrid = {58, 61, 66}, kPaper = {24, 26, 30}, kFrame = {140, 140, 140};
constexpr std::array<Rgb, 8> kColours = {{{90, 170, 255},
                                          {255, 110, 100},
                                          {110, 210, 110},
                                          {255, 180, 70},
                                          {190, 150, 250},
                                          {210, 160, 130},
                                          {80, 215, 215},
                                          {200, 200, 200}}};

void add_validation(const nlohmann::json& json, double step, std::map<std::string, Curve>& dice,
                    std::map<std::string, Curve>& mm) {
    std::map<std::string, std::pair<double, int>> sums;
    if (json.contains("dice")) {
        for (const auto& [name, value] : json["dice"].items()) {
            auto& [sum, count] = sums[name.substr(0, name.find('/'))];
            sum += value.get<double>();
            ++count;
        }
    }
    for (const auto& [head, sum] : sums) dice[head].push_back({step, sum.first / sum.second});
    if (!json.contains("landmarks")) return;
    for (const auto& [name, score] : json["landmarks"].items()) {
        if (score.value("present", 0) == 0) continue;
        const auto& median = score.at("median_mm");
        mm[name].push_back({step, median.is_number() ? median.get<double>() : kInfinite});
    }
}

/// Means over stretches of steps, so that a noisy curve of thousands of steps shows its course.
Curve smoothed(const Curve& curve, std::size_t points = 160) {
    const std::size_t stretch = std::max<std::size_t>(1, curve.size() / points);
    Curve out;
    for (std::size_t i = 0; i < curve.size(); i += stretch) {
        CurvePoint sum;
        const std::size_t end = std::min(curve.size(), i + stretch);
        for (std::size_t k = i; k < end; ++k) sum.step += curve[k].step, sum.value += curve[k].value;
        const auto n = static_cast<double>(end - i);
        out.push_back({sum.step / n, sum.value / n});
    }
    return out;
}

/// 1, 2 or 5 times a power of ten.
double nice_step(double range, int parts) {
    const double raw = range / parts, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= raw) return factor * power;
    }
    return 10 * power;
}

struct Line {
    std::string name;
    Curve curve;
    Rgb colour;
    bool dashed = false;
    bool marks = false;
};

struct Panel {
    std::string title, unit;
    double x = 0, y = 0, width = 0, height = 0;
    bool logarithmic = false;
    double low = kInfinite, high = -kInfinite;  ///< of the value axis; given, or found from the lines
    std::string beyond;                         ///< what a value that is infinite means
    std::vector<Line> lines;
};

void draw(Canvas& canvas, Panel p, double last_step) {
    constexpr double kLeft = 70, kRight = 190, kTop = 34, kBottom = 46, kText = 10;
    const double x0 = p.x + kLeft, x1 = p.x + p.width - kRight, y0 = p.y + kTop, y1 = p.y + p.height - kBottom;
    const bool fixed = p.low < p.high;
    for (const Line& line : p.lines) {
        for (const CurvePoint& point : line.curve) {
            if (fixed || !std::isfinite(point.value) || (p.logarithmic && point.value <= 0)) continue;
            p.low = std::min(p.low, point.value), p.high = std::max(p.high, point.value);
        }
    }
    canvas.text({x0, p.y + 22}, p.title + (p.unit.empty() ? "" : ", " + p.unit), 12, kInk);
    if (!(p.low <= p.high)) {
        canvas.text({x0 + 20, (y0 + y1) / 2}, "nothing yet", kText, kFrame);
        return;
    }
    if (p.logarithmic)
        p.low = std::floor(std::log10(p.low)), p.high = std::max(p.low + 1, std::ceil(std::log10(p.high)));
    const double step = p.logarithmic ? 1 : nice_step(std::max(p.high - p.low, 1e-9), 5);
    if (!fixed && !p.logarithmic) p.low = std::floor(p.low / step) * step, p.high = std::ceil(p.high / step) * step;
    if (p.high <= p.low) p.high = p.low + step;
    const auto at = [&](double s, double value) {
        const double v = p.logarithmic ? std::log10(std::max(value, 1e-30)) : value;
        const double share = std::clamp((v - p.low) / (p.high - p.low), 0.0, 1.0);
        return Pixel{x0 + (x1 - x0) * s / std::max(last_step, 1.0), y1 - (y1 - y0) * share};
    };
    for (int i = 0;; ++i) {
        const double v = p.low + i * step;
        if (v > p.high + 1e-6 * step) break;
        const double y = y1 - (y1 - y0) * (v - p.low) / (p.high - p.low);
        const std::string label =
            p.logarithmic ? fmt::format("1e{:.0f}", v) : fmt::format("{:g}", std::round(v / step) * step);
        canvas.rectangle(x0, y, x1, y + 1, kGrid, 1);
        canvas.text({x0 - 8 - Canvas::text_width(label, kText), y + 5}, label, kText, kInk);
    }
    const double step_x = nice_step(std::max(last_step, 1.0), 6);
    for (double s = 0; s <= last_step + 1e-9; s += step_x) {
        const Pixel foot = at(s, p.low);
        const std::string label = fmt::format("{:g}", s);
        canvas.rectangle(foot.x, y0, foot.x + 1, y1, kGrid, 1);
        canvas.text({foot.x - Canvas::text_width(label, kText) / 2, y1 + 18}, label, kText, kInk);
    }
    const std::string axis = "step";
    canvas.text({(x0 + x1) / 2 - Canvas::text_width(axis, kText) / 2, y1 + 36}, axis, kText, kInk);
    const std::array<Pixel, 5> frame = {{{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}, {x0, y0}}};
    canvas.polyline(frame, 1, kFrame);
    double legend = y0 + 8;
    bool beyond = false;
    for (const Line& line : p.lines) {
        std::vector<Pixel> pixels;
        for (const CurvePoint& point : line.curve) {
            const bool infinite = !std::isfinite(point.value);
            beyond = beyond || infinite || (fixed && point.value > p.high);
            pixels.push_back(at(point.step, infinite ? p.high : point.value));
        }
        if (line.dashed) {
            for (std::size_t i = 1; i < pixels.size(); ++i)
                canvas.dashed_line(pixels[i - 1], pixels[i], 6, 2, line.colour);
        } else if (pixels.size() > 1) {
            canvas.polyline(pixels, 2, line.colour);
        }
        if (line.marks || pixels.size() == 1) {
            for (const Pixel& pixel : pixels) canvas.disc(pixel, 3, line.colour);
        }
        const std::array<Pixel, 2> sample = {{{x1 + 12, legend}, {x1 + 32, legend}}};
        if (line.dashed) canvas.dashed_line(sample[0], sample[1], 6, 2, line.colour);
        else canvas.polyline(sample, 2, line.colour);
        canvas.text({x1 + 38, legend + 5}, line.name, kText, kInk);
        legend += 20;
    }
    if (beyond && !p.beyond.empty()) canvas.text({x1 + 12, legend + 10}, p.beyond, kText, kFrame);
}

std::vector<Line> lines_of(const std::map<std::string, Curve>& solid, const std::map<std::string, Curve>& dashed,
                           bool smooth) {
    std::vector<Line> lines;
    std::map<std::string, Rgb> colours;
    for (const auto* group : {&solid, &dashed}) {
        for (const auto& [name, curve] : *group) {
            const auto [colour, fresh] = colours.emplace(name, kColours[colours.size() % kColours.size()]);
            const bool dash = group == &dashed;
            lines.push_back(
                {name + (dash ? " (studies)" : ""), smooth ? smoothed(curve) : curve, colour->second, dash, !smooth});
        }
    }
    return lines;
}

}  // namespace

Result<RunMetrics> read_metrics(const std::filesystem::path& file) {
    std::ifstream in(file);
    if (!in) return config_error(file.string() + ": no metrics of a training run");
    RunMetrics m;
    std::string line;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_object() || !json.contains("step")) continue;
        try {
            const auto step = json["step"].get<double>();
            m.last_step = std::max(m.last_step, static_cast<std::int64_t>(step));
            if (json.contains("loss")) {
                m.loss.push_back({step, json["loss"].get<double>()});
                m.rate.push_back({step, json.value("rate", 0.0)});
                m.seconds.push_back({step, json.value("seconds", 0.0)});
                if (json.contains("heads")) {
                    for (const auto& [head, loss] : json["heads"].items())
                        m.head_loss[head].push_back({step, loss.get<double>()});
                }
            }
            if (json.contains("validation")) add_validation(json["validation"], step, m.phantom_dice, m.phantom_mm);
            if (json.contains("holdout")) add_validation(json["holdout"], step, m.holdout_dice, m.holdout_mm);
        } catch (const nlohmann::json::exception& e) {
            return config_error(file.string() + ": a line is not of a training run: " + e.what());
        }
    }
    return m;
}

Result<void> draw_curves(const RunMetrics& m, const std::filesystem::path& png) {
    constexpr int kWidth = 1400, kHeight = 1000;
    Canvas canvas(kWidth, kHeight, kPaper);
    const auto last = static_cast<double>(m.last_step);
    const auto panel = [&](int column, int row, const std::string& title, const std::string& unit) {
        Panel p;
        p.title = title, p.unit = unit;
        p.x = column * kWidth / 2.0, p.y = row * kHeight / 2.0, p.width = kWidth / 2.0, p.height = kHeight / 2.0;
        return p;
    };
    Panel loss = panel(0, 0, "Loss by head: CE - Dice, mean over stretches", "");
    loss.lines = lines_of(m.head_loss, {}, true);
    draw(canvas, loss, last);
    Panel rate = panel(1, 0, "Learning rate", "");
    rate.logarithmic = true;
    rate.lines = {{"rate", m.rate, kColours[0], false, false}};
    draw(canvas, rate, last);
    Panel dice = panel(0, 1, "Validation: Dice, mean over classes", "");
    dice.low = 0, dice.high = 1;
    dice.lines = lines_of(m.phantom_dice, m.holdout_dice, false);
    draw(canvas, dice, last);
    Panel points = panel(1, 1, "Validation: landmark error, median", "mm");
    // Early errors of a whole heart's width would hide the millimetres that matter.
    double worst = 5;
    for (const auto* group : {&m.phantom_mm, &m.holdout_mm}) {
        for (const auto& [name, curve] : *group) {
            for (const CurvePoint& point : curve)
                worst = std::max(worst, std::isfinite(point.value) ? point.value : 15);
        }
    }
    points.low = 0, points.high = std::min(std::ceil(worst), 15.0);
    points.beyond = "at the top: " + fmt::format("{:g} mm or more", std::round(points.high));
    if (worst < 15) points.beyond.clear();
    points.lines = lines_of(m.phantom_mm, m.holdout_mm, false);
    draw(canvas, points, last);
    return write_png(canvas, png);
}

}  // namespace cardionode
