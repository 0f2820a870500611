#include "pipeline/evaluate/tables.h"

#include <cmath>

#include <fmt/format.h>

namespace cardionode {
namespace {

std::string figure(double value, int digits = 2) {
    if (std::isnan(value)) return "-";
    if (std::isinf(value)) return "missed";
    return fmt::format("{:.{}f}", value, digits);
}

/// "missed" makes no sense for signed values, and a quantile of theirs is finite.
std::string signed_figure(double value, int digits = 1) {
    return std::isnan(value) ? "-" : fmt::format("{:+.{}f}", value, digits);
}

std::string percent(double share) { return std::isnan(share) ? "-" : fmt::format("{:.0f} %", 100 * share); }

std::string median_with_quartiles(const Distribution& d, int digits = 2) {
    if (d.count == 0) return "-";
    return fmt::format("{} [{} - {}]", figure(d.median, digits), figure(d.q1, digits), figure(d.q3, digits));
}

std::string interval(const Distribution& d, int digits = 2) {
    if (!d.median_interval) return "-";
    return fmt::format("{} - {}", figure(d.median_interval->low, digits), figure(d.median_interval->high, digits));
}

std::string points_table(const GroupSummary& g) {
    std::string text =
        "| point | found | median mm [quartiles] | 95 % of the median | mean of the found | max | within 2 mm | 3 mm | "
        "5 mm | false finds |\n|---|---|---|---|---|---|---|---|---|---|\n";
    for (const PointSummary& p : g.points) {
        text += fmt::format(
            "| {} | {} of {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", p.name, p.found, p.present,
            median_with_quartiles(p.error_mm), interval(p.error_mm),
            p.error_mm.infinite ? fmt::format("{} ({} missed)", figure(p.error_mm.mean), p.error_mm.infinite)
                                : figure(p.error_mm.mean),
            figure(p.error_mm.max, 1), percent(p.within_2mm), percent(p.within_3mm), percent(p.within_5mm),
            p.absent ? fmt::format("{} of {}", p.false_finds, p.absent) : std::string("-"));
    }
    return text;
}

std::string bias_table(const GroupSummary& g) {
    std::string text =
        "| point | mean offset: up the axis, outwards, round it (mm) | left, back, head (mm) | spread about it (mm) "
        "|\n|---|---|---|---|\n";
    for (const PointSummary& p : g.points) {
        if (!p.bias_lps_mm) continue;
        const auto three = [](const std::optional<Vec3>& v) {
            return v ? fmt::format("{:+.1f}, {:+.1f}, {:+.1f}", (*v)[0], (*v)[1], (*v)[2]) : std::string("-");
        };
        text += fmt::format("| {} | {} | {} | {} |\n", p.name, three(p.bias_root_mm), three(p.bias_lps_mm),
                            p.spread_root_mm ? figure(*p.spread_root_mm) : "-");
    }
    return text;
}

std::string structures_table(const GroupSummary& g) {
    std::string text =
        "| structure | Dice, all voxels | Dice, median a case [quartiles] | surface distance mm | Hausdorff 95 % mm | "
        "volume error ml | volume error % | none on both sides / only found / only true |\n"
        "|---|---|---|---|---|---|---|---|\n";
    for (const StructureSummary& s : g.structures) {
        const int digits = std::abs(s.volume_error_ml.max) < 5 ? 2 : 1;
        text += fmt::format("| {} | {} | {} | {} | {} | {} [{} - {}] | {} | {} / {} / {} |\n", s.name,
                            s.pooled_dice ? figure(*s.pooled_dice, 3) : "-", median_with_quartiles(s.dice, 3),
                            median_with_quartiles(s.surface_mm), median_with_quartiles(s.hausdorff95_mm, 1),
                            signed_figure(s.volume_error_ml.median, digits),
                            signed_figure(s.volume_error_ml.q1, digits), signed_figure(s.volume_error_ml.q3, digits),
                            signed_figure(s.volume_error_percent.median, 0), s.agreed_none, s.only_found, s.only_true);
    }
    return text;
}

std::string numbers_table(const GroupSummary& g) {
    std::string text =
        "| measurement | given | error, median [quartiles] | absolute error, median | absolute, % of the truth | "
        "invented |\n|---|---|---|---|---|---|\n";
    text += fmt::format("| annular plane, degrees off | {} of {} | | {} | | |\n",
                        g.plane_angle_deg.count - g.plane_angle_deg.infinite, g.plane_angle_deg.count,
                        median_with_quartiles(g.plane_angle_deg, 1));
    text += fmt::format("| centre of the annulus, mm off | {} of {} | | {} | | |\n",
                        g.centre_error_mm.count - g.centre_error_mm.infinite, g.centre_error_mm.count,
                        median_with_quartiles(g.centre_error_mm, 1));
    for (const NumberSummary& n : g.numbers) {
        text +=
            fmt::format("| {} | {} of {} | {} [{} - {}] | {} | {} | {} |\n", n.name, n.both, n.both + n.not_given,
                        signed_figure(n.error.median, 2), signed_figure(n.error.q1, 2), signed_figure(n.error.q3, 2),
                        figure(n.absolute_error.median), figure(n.absolute_percent.median, 1), n.invented);
    }
    for (const NumberSummary& n : g.numbers) {
        if (n.name != "annulus_area_mm2" || n.why_not_given.empty()) continue;
        text += "\nWhy there was no annulus area (# stands for a figure):\n";
        for (const auto& [why, count] : n.why_not_given) text += fmt::format("- {} times: {}\n", count, why);
    }
    return text;
}

std::string profiles_table(const Summary& summary) {
    std::string text =
        "| scanner profile | cases | found | median mm [quartiles] | within 5 mm | mean of the "
        "structures' Dice |\n|---|---|---|---|---|---|\n";
    for (const GroupSummary& g : summary.profiles) {
        double dice = 0;
        int n = 0;
        for (const StructureSummary& s : g.structures) {
            if (!s.pooled_dice) continue;
            dice += *s.pooled_dice;
            ++n;
        }
        const PointSummary* p = g.points.empty() ? nullptr : &g.points[0];
        text += fmt::format("| {}{} | {} | {} | {} | {} | {} |\n", g.title,
                            g.title == summary.worst_profile ? " (the worst)" : "", g.cases,
                            p ? fmt::format("{} of {}", p->found, p->present) : "-",
                            p ? median_with_quartiles(p->error_mm) : "-", p ? percent(p->within_5mm) : "-",
                            n ? figure(dice / n, 3) : "-");
    }
    return text;
}

std::string misses(const GroupSummary& g) {
    if (g.points.empty() || g.points[0].why_missed.empty()) return {};
    std::string text = "\nWhy points were missed (all points; # stands for a figure):\n";
    for (const auto& [why, count] : g.points[0].why_missed) text += fmt::format("- {} times: {}\n", count, why);
    return text;
}

}  // namespace

std::string short_text(const GroupSummary& g) {
    std::string text = fmt::format("{} cases, {} with contrast agent\n", g.cases, g.with_contrast);
    for (const PointSummary& p : g.points) {
        text += fmt::format("  {:<24} found {:>4} of {:<4}  median {:>9}  within 5 mm {:>5}\n", p.name, p.found,
                            p.present, std::isinf(p.error_mm.median) ? "missed" : figure(p.error_mm.median) + " mm",
                            percent(p.within_5mm));
    }
    for (const StructureSummary& s : g.structures) {
        text += fmt::format("  {:<24} Dice {:>6}  surface {:>6} mm\n", s.name,
                            s.pooled_dice ? figure(*s.pooled_dice, 3) : "-", figure(s.surface_mm.median));
    }
    if (g.plane_angle_deg.count > 0) {
        text += fmt::format("  annular plane {} degrees off, its centre {} mm (medians)\n",
                            figure(g.plane_angle_deg.median, 1), figure(g.centre_error_mm.median, 1));
    }
    if (g.without_contrast > 0) {
        text += fmt::format("  {} of {} unenhanced cases: a root was given that nobody can see\n", g.invented_root,
                            g.without_contrast);
    }
    return text;
}

std::string markdown(const Summary& summary) {
    const GroupSummary& g = summary.all;
    std::string text =
        fmt::format("{} cases: {} with contrast agent, {} without.\n\n", g.cases, g.with_contrast, g.without_contrast);
    if (!g.points.empty()) {
        text +=
            "**Points** (cases with contrast agent; a missed point has an infinite error, in shares and quantiles "
            "alike)\n\n" +
            points_table(g) + misses(g) + "\n**Where the points lie that were found**\n\n" + bias_table(g) + "\n";
    }
    if (!g.structures.empty()) {
        text +=
            "**Structures** (Dice 2|A and B| / (|A| + |B|); none on both sides is left out of the median, one side "
            "empty is 0 with an infinite distance; surface distance: mean over both surfaces, centres of border "
            "voxels; Hausdorff: the larger of both directions' 95th percentiles)\n\n" +
            structures_table(g) + "\n";
    }
    if (!g.numbers.empty()) {
        text +=
            "**Measurements** (the truth measured by the same code from true labels and points; a number that was "
            "not given counts as infinitely wrong in the absolute errors)\n\n" +
            numbers_table(g) + "\n";
    }
    if (g.without_contrast > 0) {
        text += fmt::format(
            "**Without contrast agent**: in {} of {} cases the node gave no point and no number of the "
            "root; in {} it invented something.\n\n",
            g.without_contrast - g.invented_root, g.without_contrast, g.invented_root);
    }
    if (!summary.profiles.empty()) text += "**Scanner profiles**\n\n" + profiles_table(summary);
    return text;
}

}  // namespace cardionode
