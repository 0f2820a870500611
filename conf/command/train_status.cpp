// `cardionode train status`: the state of a run's folder in words.
#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "conf/command/train_curves.h"
#include "models/train/recipe.h"

namespace cardionode {
namespace {

constexpr std::size_t kRecent = 50;

double mean_of_last(const Curve& curve, std::size_t count) {
    const std::size_t n = std::min(count, curve.size());
    double sum = 0;
    for (std::size_t i = curve.size() - n; i < curve.size(); ++i) sum += curve[i].value;
    return n ? sum / static_cast<double>(n) : 0;
}

double median_of_last(const Curve& curve, std::size_t count) {
    std::vector<double> values;
    for (std::size_t i = curve.size() - std::min(count, curve.size()); i < curve.size(); ++i)
        values.push_back(curve[i].value);
    if (values.empty()) return 0;
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

std::string duration(double seconds) {
    const auto s = static_cast<long long>(seconds);
    if (s < 90) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{} min", (s + 30) / 60);
    return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

std::string validation(const char* title, const std::map<std::string, Curve>& dice,
                       const std::map<std::string, Curve>& mm) {
    if (dice.empty() && mm.empty()) return {};
    std::string line;
    for (const auto& [head, curve] : dice) line += fmt::format("{} {:.3f}  ", head, curve.back().value);
    std::string text = fmt::format("{:<14} Dice at step {}: {}\n", title,
                                   dice.empty() ? 0 : static_cast<long long>(dice.begin()->second.back().step), line);
    line.clear();
    for (const auto& [name, curve] : mm) {
        const double value = curve.back().value;
        line += std::isfinite(value) ? fmt::format("{} {:.1f} mm  ", name, value) : fmt::format("{} missed  ", name);
    }
    if (!line.empty()) text += fmt::format("{:<14} {}\n", "", line);
    return text;
}

}  // namespace

Result<std::string> run_status(const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "metrics.jsonl";
    Result<RunMetrics> metrics = read_metrics(file);
    if (!metrics) return std::move(metrics).error();
    std::error_code code;
    const auto changed = std::filesystem::last_write_time(file, code);
    const double age = std::chrono::duration<double>(std::filesystem::file_time_type::clock::now() - changed).count();
    std::int64_t steps = 0;
    if (std::filesystem::exists(folder / "recipe.yaml", code)) {
        Result<train::Recipe> recipe = train::load_recipe(folder / "recipe.yaml");
        if (!recipe) return std::move(recipe).error();
        steps = recipe->steps;
    }
    const double seconds = median_of_last(metrics->seconds, 2 * kRecent);
    const std::int64_t done = metrics->last_step;
    std::string text = fmt::format(
        "{:<14} {}{}\n", "steps", done,
        steps ? fmt::format(" of {} ({:.0f} %)", steps, 100.0 * static_cast<double>(done) / static_cast<double>(steps))
              : "");
    if (steps && done >= steps) text += fmt::format("{:<14} finished\n", "time left");
    else if (steps)
        text += fmt::format("{:<14} {} at {:.2f} s a step, without validations\n", "time left",
                            duration(seconds * static_cast<double>(steps - done)), seconds);
    text += fmt::format("{:<14} {} ago{}\n", "last step", duration(age),
                        !(steps && done >= steps) && age > std::max(600.0, 20 * seconds)
                            ? ": the run seems to have stopped; `cardionode train ... --resume` goes on"
                            : "");
    text += fmt::format("{:<14} {:.3f} (mean of the last {})\n", "loss", mean_of_last(metrics->loss, kRecent),
                        std::min(kRecent, metrics->loss.size()));
    for (const auto& [head, curve] : metrics->head_loss)
        text += fmt::format("  {:<12} {:.3f}\n", head, mean_of_last(curve, kRecent));
    if (!metrics->rate.empty()) text += fmt::format("{:<14} {:.2e}\n", "learning rate", metrics->rate.back().value);
    text += validation("phantoms", metrics->phantom_dice, metrics->phantom_mm);
    text += validation("held out", metrics->holdout_dice, metrics->holdout_mm);
    return text;
}

}  // namespace cardionode
