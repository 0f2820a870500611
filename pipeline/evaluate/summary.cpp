#include "pipeline/evaluate/summary.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

using Cases = std::vector<const CaseScore*>;
using ByCase = std::vector<std::vector<double>>;

/// "implausible: 12.3 mm from the aorta" of two cases is one reason.
std::string without_figures(const std::string& reason) {
    std::string text;
    for (std::size_t i = 0; i < reason.size(); ++i) {
        const bool digit = std::isdigit(static_cast<unsigned char>(reason[i])) != 0;
        const bool point = reason[i] == '.' && i + 1 < reason.size() &&
                           std::isdigit(static_cast<unsigned char>(reason[i + 1])) != 0 && !text.empty() &&
                           text.back() == '#';
        if (!digit && !point) text += reason[i];
        else if (digit && (text.empty() || text.back() != '#')) text += '#';
    }
    return text;
}

void add_bias(PointSummary& s, const std::vector<const PointScore*>& points) {
    Vec3 lps{}, root{};
    double n = 0, n_root = 0;
    for (const PointScore* p : points) {
        if (!p->truth || !p->found) continue;
        lps = add(lps, subtract(p->found->lps_mm, p->truth->lps_mm));
        ++n;
        if (!p->offset_root) continue;
        root = add(root, *p->offset_root);
        ++n_root;
    }
    if (n > 0) s.bias_lps_mm = scale(lps, 1 / n);
    if (n_root == 0) return;
    s.bias_root_mm = scale(root, 1 / n_root);
    double sum = 0;
    for (const PointScore* p : points) {
        if (!p->offset_root) continue;
        const Vec3 rest = subtract(*p->offset_root, *s.bias_root_mm);
        sum += dot(rest, rest);
    }
    s.spread_root_mm = std::sqrt(sum / n_root);
}

template <class Wanted>
PointSummary summarise_points(const std::string& name, const Cases& cases, const Wanted& wanted, std::uint64_t seed) {
    PointSummary s;
    s.name = name;
    ByCase errors;
    std::vector<double> all;
    std::vector<const PointScore*> points;
    for (const CaseScore* c : cases) {
        errors.emplace_back();
        for (const PointScore& p : c->points) {
            if (!wanted(p.name)) continue;
            points.push_back(&p);
            if (!p.present()) {
                ++s.absent;
                s.false_finds += p.false_find();
                continue;
            }
            ++s.present;
            s.found += p.found.has_value();
            if (!p.found) ++s.why_missed[without_figures(p.reason)];
            errors.back().push_back(*p.error_mm());
            all.push_back(*p.error_mm());
        }
    }
    s.error_mm = distribution_of(errors, seed);
    s.within_2mm = share_within(all, 2);
    s.within_3mm = share_within(all, 3);
    s.within_5mm = share_within(all, 5);
    add_bias(s, points);
    return s;
}

StructureSummary summarise_structure(const std::string& name, const Cases& cases, std::uint64_t seed) {
    StructureSummary s;
    s.name = name;
    VoxelCounts pooled;
    ByCase dice, surface, hausdorff, ml, percent;
    for (const CaseScore* c : cases) {
        for (const StructureScore& t : c->structures) {
            if (t.name != name) continue;
            ++s.cases;
            pooled += t.voxels;
            if (const auto d = t.voxels.dice()) dice.push_back({*d});
            else ++s.agreed_none;
            s.only_found += t.voxels.found > 0 && t.voxels.truth == 0;
            s.only_true += t.voxels.found == 0 && t.voxels.truth > 0;
            if (t.surface) {
                surface.push_back({t.surface->average_mm});
                hausdorff.push_back({t.surface->hausdorff95_mm});
            }
            ml.push_back({t.found_ml() - t.true_ml()});
            if (t.voxels.truth > 0) percent.push_back({100 * (t.found_ml() / t.true_ml() - 1)});
        }
    }
    s.pooled_dice = pooled.dice();
    s.dice = distribution_of(dice, seed);
    s.surface_mm = distribution_of(surface, seed);
    s.hausdorff95_mm = distribution_of(hausdorff, seed);
    s.volume_error_ml = distribution_of(ml, seed);
    s.volume_error_percent = distribution_of(percent, seed);
    return s;
}

NumberSummary summarise_number(const std::string& name, const Cases& cases, std::uint64_t seed) {
    NumberSummary s;
    s.name = name;
    ByCase absolute, signed_error, percent;
    for (const CaseScore* c : cases) {
        const auto found = c->numbers.find(name);
        if (found == c->numbers.end()) continue;
        const NumberScore& n = found->second;
        if (!n.truth) {
            s.invented += n.found.has_value();
            continue;
        }
        const double error = n.found ? *n.found - *n.truth : kMissed;
        s.both += n.found.has_value();
        s.not_given += !n.found;
        if (!n.found) ++s.why_not_given[without_figures(n.reason)];
        absolute.push_back({std::abs(error)});
        if (n.found) signed_error.push_back({error});
        if (*n.truth > 0) percent.push_back({100 * std::abs(error) / *n.truth});
    }
    s.absolute_error = distribution_of(absolute, seed);
    s.error = distribution_of(signed_error, seed);
    s.absolute_percent = distribution_of(percent, seed);
    return s;
}

/// In the order of their first appearance.
template <class Each>
std::vector<std::string> names_in(const Cases& cases, const Each& each) {
    std::vector<std::string> names;
    std::set<std::string> seen;
    for (const CaseScore* c : cases) {
        each(*c, [&](const std::string& name) {
            if (seen.insert(name).second) names.push_back(name);
        });
    }
    return names;
}

void add_points(GroupSummary& group, const Cases& contrast, std::uint64_t seed) {
    const auto is_septum = [](const std::string& n) { return n == names::kSeptumUpper || n == names::kSeptumLower; };
    const auto is_root = [](const std::string& n) {
        return std::find(names::kHinges.begin(), names::kHinges.end(), n) != names::kHinges.end() ||
               n == names::kOstiumRight || n == names::kOstiumLeft;
    };
    const auto names = names_in(contrast, [](const CaseScore& c, const auto& add) {
        for (const PointScore& p : c.points) add(p.name);
    });
    if (names.empty()) return;
    group.points.push_back(summarise_points(
        "all points", contrast, [](const std::string&) { return true; }, seed));
    if (std::any_of(names.begin(), names.end(), is_root)) {
        group.points.push_back(summarise_points("hinge points and ostia", contrast, is_root, seed));
    }
    if (std::any_of(names.begin(), names.end(), is_septum)) {
        group.points.push_back(summarise_points("septum points", contrast, is_septum, seed));
    }
    for (const std::string& name : names) {
        group.points.push_back(summarise_points(
            name, contrast, [&](const std::string& n) { return n == name; }, seed));
    }
}

GroupSummary summarise_group(const std::string& title, const Cases& cases, std::uint64_t seed) {
    GroupSummary group;
    group.title = title;
    group.cases = static_cast<int>(cases.size());
    Cases contrast;
    ByCase seconds, angle, centre;
    for (const CaseScore* c : cases) {
        double sum = 0;
        for (const auto& [stage, s] : c->seconds) sum += s;
        if (sum > 0) seconds.push_back({sum});
        if (!c->contrast) {
            ++group.without_contrast;
            group.invented_root += c->gives_root();
            continue;
        }
        contrast.push_back(c);
        // A plane that could not be made is missed like a point; where the truth has none, nothing is asked.
        const bool has_plane = std::all_of(names::kHinges.begin(), names::kHinges.end(), [&](std::string_view hinge) {
            return std::any_of(c->points.begin(), c->points.end(),
                               [&](const PointScore& p) { return p.name == hinge && p.present(); });
        });
        if (!has_plane) continue;
        angle.push_back({c->plane_angle_deg.value_or(kMissed)});
        centre.push_back({c->centre_error_mm.value_or(kMissed)});
    }
    group.with_contrast = static_cast<int>(contrast.size());
    add_points(group, contrast, seed);
    for (const std::string& name : names_in(contrast, [](const CaseScore&c, const auto&add) {
             for (const StructureScore& s : c.structures) add(s.name);
         })) {
        group.structures.push_back(summarise_structure(name, contrast, seed));
    }
    for (const std::string& name : names_in(contrast, [](const CaseScore&c, const auto&add) {
             for (const auto& [n, value] : c.numbers) add(n);
         })) {
        NumberSummary number = summarise_number(name, contrast, seed);
        if (number.both + number.not_given + number.invented > 0) group.numbers.push_back(std::move(number));
    }
    group.plane_angle_deg = distribution_of(angle, seed);
    group.centre_error_mm = distribution_of(centre, seed);
    group.seconds = distribution_of(seconds, seed);
    return group;
}

}  // namespace

Summary summarise(const std::vector<CaseScore>& cases, std::uint64_t seed) {
    Cases all;
    std::map<std::string, Cases> by_profile;
    for (const CaseScore& c : cases) {
        all.push_back(&c);
        by_profile[c.profile].push_back(&c);
    }
    Summary summary;
    summary.all = summarise_group("all", all, seed);
    if (by_profile.size() < 2) return summary;
    const GroupSummary* worst = nullptr;
    for (const auto& [profile, members] : by_profile) {
        summary.profiles.push_back(summarise_group(profile, members, seed));
    }
    for (const GroupSummary& g : summary.profiles) {
        if (g.points.empty() || g.points[0].present == 0) continue;
        const auto rank = [](const PointSummary& p) {
            return std::pair{p.error_mm.median, -static_cast<double>(p.found) / p.present};
        };
        if (!worst || rank(g.points[0]) > rank(worst->points[0])) worst = &g;
    }
    if (worst) summary.worst_profile = worst->title;
    return summary;
}

std::vector<std::string> worst_first(const std::vector<CaseScore>& cases) {
    struct Rank {
        int missed;
        double largest;
        const CaseScore* score;
    };
    std::vector<Rank> ranks;
    for (const CaseScore& c : cases) {
        if (!c.contrast || !c.largest_error_mm()) continue;
        Rank rank{0, 0, &c};
        for (const PointScore& p : c.points) {
            const auto error = p.error_mm();
            if (!error) continue;
            if (std::isfinite(*error)) rank.largest = std::max(rank.largest, *error);
            else ++rank.missed;
        }
        ranks.push_back(rank);
    }
    std::stable_sort(ranks.begin(), ranks.end(), [](const Rank& a, const Rank& b) {
        return std::pair{a.missed, a.largest} > std::pair{b.missed, b.largest};
    });
    std::vector<std::string> names;
    for (const Rank& rank : ranks) names.push_back(rank.score->name);
    return names;
}

}  // namespace cardionode
