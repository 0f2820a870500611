// Which of several usable stacks is read: one criterion after the other, each with its words for people.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <map>

#include "pipeline/read/stacks.h"

namespace cardionode {

namespace {

/// A convolution kernel for bone or lung, whose noise and overshoot hide soft tissue. By the makers' names: words (GE),
/// B50 and above (Siemens), FC30-39 and FC50-89 (Canon). An unknown kernel counts as soft.
bool is_sharp(const std::string& kernel) {
    std::string k;
    for (const char c : kernel) k += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    for (const char* word : {"BONE", "LUNG", "EDGE", "ULTRA", "SHARP"}) {
        if (k.find(word) != std::string::npos) return true;
    }
    const auto digit = std::find_if(k.begin(), k.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (digit == k.end()) return false;
    const int number = std::atoi(&*digit);
    if (k.rfind("FC", 0) == 0) return (number >= 30 && number < 40) || (number >= 50 && number < 90);
    if (k[0] == 'B' || k[0] == 'I' || k[0] == 'Q' || k[0] == 'H') return number >= 50 && number < 100;
    return false;
}

double effective_thickness(const Stack& s) { return std::max(s.thickness_mm, s.spacing_mm); }

/// Reconstructions of about the same sharpness along the patient count as equal: 0.6 and 0.75 mm.
double thickness_class(const Stack& s) {
    const double t = effective_thickness(s);
    return t <= 1.05 ? 0 : std::ceil((t - 1.05) / 0.5);
}

double phase_distance(const Stack& s, double wanted) {
    if (!s.phase_percent) return 51;  // farther than any: without gating the root is blurred
    const double d = std::abs(*s.phase_percent - wanted);
    return std::min(d, 100 - d);  // the cycle is a circle
}

std::string phase_words(const Stack& s) {
    return s.phase_percent ? fmt::format("phase {:.0f} %", *s.phase_percent) : std::string("no cardiac phase given");
}

struct Criterion {
    std::function<double(const Stack&)> value;  ///< lower is better
    std::function<std::string(const Stack& other, const Stack& best)> words;
};

std::vector<Criterion> criteria(const SeriesSettings& settings) {
    std::vector<Criterion> c;
    if (settings.prefer_contrast) {
        c.push_back({[](const Stack& s) { return static_cast<double>(s.contrast); },
                     [](const Stack& o, const Stack&) {
                         return std::string(o.contrast == Contrast::Unknown ? "no contrast agent named"
                                                                            : "described as native");
                     }});
    }
    c.push_back({[](const Stack& s) { return s.needs_resampling() ? 1.0 : 0.0; },
                 [](const Stack& o, const Stack&) {
                     return std::string(o.tilted ? "tilted gantry" : "slices unevenly spaced");
                 }});
    c.push_back({thickness_class, [](const Stack& o, const Stack& b) {
                     return fmt::format("thicker slices ({:.2f} mm against {:.2f} mm)", effective_thickness(o),
                                        effective_thickness(b));
                 }});
    const double wanted = settings.prefer_phase_percent;
    c.push_back({[wanted](const Stack& s) { return phase_distance(s, wanted); },
                 [wanted](const Stack& o, const Stack& b) {
                     return fmt::format("{}; {} is closer to the wanted {:.0f} %", phase_words(o), phase_words(b),
                                        wanted);
                 }});
    c.push_back({[](const Stack& s) { return is_sharp(s.kernel) ? 1.0 : 0.0; },
                 [](const Stack& o, const Stack&) { return fmt::format("sharp kernel {}", o.kernel); }});
    c.push_back({[](const Stack& s) { return s.field_of_view_mm > 300 ? 1.0 : 0.0; },
                 [](const Stack& o, const Stack& b) {
                     return fmt::format("larger field of view, coarser pixels ({:.0f} mm against {:.0f} mm)",
                                        o.field_of_view_mm, b.field_of_view_mm);
                 }});
    c.push_back({[](const Stack& s) { return s.original ? 0.0 : 1.0; },
                 [](const Stack&, const Stack&) { return std::string("derived images, not the original ones"); }});
    c.push_back({effective_thickness, [](const Stack& o, const Stack& b) {
                     return fmt::format("thicker slices ({:.2f} mm against {:.2f} mm)", effective_thickness(o),
                                        effective_thickness(b));
                 }});
    c.push_back({[](const Stack& s) { return -static_cast<double>(s.planes.size()); },
                 [](const Stack& o, const Stack& b) {
                     return fmt::format("fewer slices ({} against {})", o.planes.size(), b.planes.size());
                 }});
    return c;
}

std::string in_words(const Stack& s) {
    std::string words = fmt::format("{}, {:.2f} mm", s.label, effective_thickness(s));
    if (s.contrast == Contrast::Named) words += ", contrast agent";
    if (s.phase_percent && s.label.find("phase") == std::string::npos) words += ", " + phase_words(s);
    return words + fmt::format(", {} slices", s.planes.size());
}

std::string joined(const std::vector<std::string>& parts) {
    std::string all;
    for (const std::string& p : parts) all += (all.empty() ? "" : "; ") + p;
    return all;
}

}  // namespace

Choice choose_stack(std::span<const Stack> stacks, const SeriesSettings& settings) {
    const std::vector<Criterion> rules = criteria(settings);
    // The first rule on which two stacks differ; rules.size(): none, the earlier one stays.
    const auto differ = [&](const Stack& a, const Stack& b) {
        std::size_t r = 0;
        while (r < rules.size() && rules[r].value(a) == rules[r].value(b)) ++r;
        return r;
    };
    Choice choice;
    std::size_t usable = 0;
    for (std::size_t n = 0; n < stacks.size(); ++n) {
        if (!stacks[n].reasons.empty()) continue;
        ++usable;
        if (!choice.best) {
            choice.best = n;
            continue;
        }
        const std::size_t r = differ(stacks[n], stacks[*choice.best]);
        if (r < rules.size() && rules[r].value(stacks[n]) < rules[r].value(stacks[*choice.best])) choice.best = n;
    }
    constexpr std::size_t kMostLinesASeries = 4;  // a rotating reformat is a hundred "volumes"
    std::map<std::string, std::size_t> lines;
    for (std::size_t n = 0; n < stacks.size(); ++n) {
        if (choice.best == n) continue;
        const Stack& s = stacks[n];
        const std::string series = s.label.substr(0, s.label.find(", orientation"));
        if (++lines[series] > kMostLinesASeries) continue;
        std::string why;
        if (!s.reasons.empty()) why = joined(s.reasons);
        else {
            const std::size_t r = differ(s, stacks[*choice.best]);
            why = r < rules.size() ? rules[r].words(s, stacks[*choice.best])
                                   : "as good as the chosen one, which came first";
        }
        choice.not_chosen.push_back(s.label + ": " + why);
    }
    for (const auto& [series, count] : lines) {
        if (count > kMostLinesASeries) {
            choice.not_chosen.push_back(
                fmt::format("{}: and {} more parts that cannot be used", series, count - kMostLinesASeries));
        }
    }
    if (choice.best) {
        choice.why =
            in_words(stacks[*choice.best]) +
            (stacks.size() == 1 ? ": the only CT volume"
                                : fmt::format(": best of {} CT volumes, {} of them usable", stacks.size(), usable));
    }
    return choice;
}

}  // namespace cardionode
