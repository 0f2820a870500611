#include "fedclient/coordinator/screening.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "models/weights/head_of_tensor.h"

namespace cardionode::fed {
namespace {

constexpr std::uint64_t kSliceValues = 64 * 1024;

/// Values [first, first + target.size()) of an F32 or F64 tensor.
Result<void> read_values(const TensorFile& file, const TensorEntry& entry, std::uint64_t first,
                         std::span<double> target) {
    if (entry.dtype == "F64") return file.read(entry, first * sizeof(double), std::as_writable_bytes(target));
    std::vector<float> values(target.size());
    auto read = file.read(entry, first * sizeof(float), std::as_writable_bytes(std::span(values)));
    if (!read) return read;
    std::copy(values.begin(), values.end(), target.begin());
    return {};
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double count_of(const SiteUpdate& update, const std::string& head) {
    const auto found = update.labelled.find(head);
    return found == update.labelled.end() ? 0 : found->second;
}

std::string described(const TensorEntry& entry) {
    return fmt::format("{} [{}]", entry.dtype, fmt::join(entry.shape, ", "));
}

/// Why an update cannot be used with this base; nothing when it fits.
std::optional<std::string> misfit(const TensorFile& base, const SiteUpdate& update, const TensorFile& file) {
    for (const auto& [head, n] : update.labelled)
        if (!std::isfinite(n) || n < 0) return fmt::format("n/{} is {}, not a count", head, n);
    if (!std::isfinite(update.unlabelled) || update.unlabelled < 0)
        return fmt::format("n/unlabelled is {}, not a count", update.unlabelled);
    for (const auto& entry : file.entries()) {
        const auto* const expected = base.find(entry.name);
        if (!expected) return fmt::format("tensor {} is not in the model", entry.name);
        if (entry.dtype != expected->dtype || entry.shape != expected->shape)
            return fmt::format("tensor {} is {}, expected {}", entry.name, described(entry), described(*expected));
    }
    for (const auto& entry : base.entries()) {
        if (!entry.floating() || file.find(entry.name)) continue;
        const auto head = head_of_tensor(entry.name);
        if (head.empty() || count_of(update, head) > 0) return fmt::format("tensor {} is missing", entry.name);
    }
    return std::nullopt;
}

/// Group -> weight, without groups that the update does not hold or that weigh nothing.
std::map<std::string, double> weights_of(const TensorFile& base, const SiteUpdate& update, const TensorFile& file,
                                         const AggregationRules& rules) {
    double body = rules.beta * update.unlabelled;
    for (const auto& [head, n] : update.labelled) body += n;
    std::map<std::string, double> weights;
    for (const auto& entry : base.entries()) {
        if (!entry.floating()) continue;
        const auto group = group_of(entry);
        weights[group] = rules.per_head && group != kBodyGroup ? count_of(update, group) : body;
    }
    for (const auto& entry : base.entries())
        if (entry.floating() && !file.find(entry.name)) weights.erase(group_of(entry));
    std::erase_if(weights, [](const auto& item) { return item.second <= 0; });
    return weights;
}

/// For each of the sorted `order`'s members the median of all the others' values.
void medians_of_others(const std::vector<double>& values, std::vector<std::size_t>& order,
                       std::vector<double>& target) {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
    const std::size_t others = order.size() - 1;
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
        const auto at = [&](std::size_t place) { return values[order[place >= rank ? place + 1 : place]]; };
        target[order[rank]] = others % 2 ? at(others / 2) : (at(others / 2 - 1) + at(others / 2)) / 2;
    }
}

}  // namespace

std::string group_of(const TensorEntry& entry) {
    auto head = head_of_tensor(entry.name);
    return head.empty() ? kBodyGroup : head;
}

Result<Screening> Screening::open(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                  const AggregationRules& rules) {
    if (!(rules.trim >= 0 && rules.trim < 0.5)) return config_error("trim must be from 0 to below 0.5");
    if (!(rules.beta >= 0 && std::isfinite(rules.beta))) return config_error("beta must not be below 0");
    auto file = TensorFile::open(base);
    if (!file) return std::move(file).error().in("global model");
    for (const auto& entry : file->entries())
        if (entry.floating() && entry.dtype != "F32" && entry.dtype != "F64")
            return config_error(fmt::format("global model: tensor {} is {}; only F32 and F64 can be averaged",
                                            entry.name, entry.dtype));
    Screening screening(std::move(*file), rules);

    auto sorted = updates;
    std::sort(sorted.begin(), sorted.end(), [](const SiteUpdate& a, const SiteUpdate& b) {
        return std::tie(a.site, a.weights) < std::tie(b.site, b.weights);
    });
    for (const auto& update : sorted)
        if (auto admitted = screening.admit(update); !admitted) return std::move(admitted).error();
    if (auto done = screening.drop_by_values(); !done) return std::move(done).error();
    screening.drop_by_norm();
    while (true) {  // one at a time: a flipped update turns the others' median round as well
        auto dropped = screening.drop_worst_direction();
        if (!dropped) return std::move(dropped).error();
        if (!*dropped) break;
    }
    screening.weigh();
    return screening;
}

Result<void> Screening::admit(const SiteUpdate& update) {
    const auto refuse = [&](std::string reason) {
        report_.dropped.push_back({update.site, std::move(reason)});
        return Result<void>();
    };
    if (!updates_.empty() && updates_.back().update.site == update.site) return refuse("a second update of one site");
    auto file = TensorFile::open(update.weights);
    if (!file && file.error().kind == ErrorKind::Retry) return std::move(file).error();
    if (!file) return refuse(file.error().message);
    if (auto reason = misfit(base_, update, *file)) return refuse(std::move(*reason));
    auto weights = weights_of(base_, update, *file, rules_);
    updates_.push_back({update, std::move(*file), std::move(weights)});
    return {};
}

Result<void> Screening::each_slice_of(const TensorEntry& entry,
                                      const std::function<Result<void>(Slice&)>& visit) const {
    Slice slice{entry, group_of(entry), {}, {}};
    slice.updates.resize(updates_.size());
    for (std::uint64_t first = 0; first < entry.elements(); first += kSliceValues) {
        const auto count = static_cast<std::size_t>(std::min(kSliceValues, entry.elements() - first));
        slice.base.resize(count);
        if (auto read = read_values(base_, entry, first, slice.base); !read) return read;
        for (std::size_t k = 0; k < updates_.size(); ++k) {
            const auto* const own = updates_[k].file.find(entry.name);
            slice.updates[k].resize(own ? count : 0);
            if (!own) continue;
            if (auto read = read_values(updates_[k].file, *own, first, slice.updates[k]); !read)
                return std::move(read).error().in("update of " + updates_[k].update.site);
        }
        if (auto visited = visit(slice); !visited) return visited;
    }
    return {};
}

Result<void> Screening::each_slice(const std::function<Result<void>(Slice&)>& visit) const {
    for (const auto& entry : base_.entries()) {
        if (!entry.floating()) continue;
        if (auto done = each_slice_of(entry, visit); !done) return done;
    }
    return {};
}

/// Drops what is not finite and notes the norms of the rest.
Result<void> Screening::drop_by_values() {
    std::vector<std::string> infinite(updates_.size());
    std::vector<std::map<std::string, double>> squares(updates_.size());
    auto done = each_slice([&](Slice& slice) -> Result<void> {
        if (!std::all_of(slice.base.begin(), slice.base.end(), [](double w) { return std::isfinite(w); }))
            return config_error(fmt::format("global model: tensor {} is not finite", slice.entry.name));
        for (std::size_t k = 0; k < updates_.size(); ++k) {
            double sum = 0;
            for (std::size_t i = 0; i < slice.updates[k].size(); ++i) {
                const double change = slice.updates[k][i] - slice.base[i];
                sum += change * change;
            }
            if (!std::isfinite(sum) && infinite[k].empty()) infinite[k] = slice.entry.name;
            if (updates_[k].weights.contains(slice.group)) squares[k][slice.group] += sum;
        }
        return {};
    });
    if (!done) return done;
    for (std::size_t k = updates_.size(); k-- > 0;) {
        if (!infinite[k].empty()) {
            drop(k, fmt::format("tensor {} is not finite", infinite[k]));
            continue;
        }
        for (const auto& [group, square] : squares[k])
            report_.norms[group][updates_[k].update.site] = std::sqrt(square);
    }
    return {};
}

void Screening::drop_by_norm() {
    if (rules_.max_norm_ratio <= 0) return;
    std::map<std::string, std::string> reasons;  // site -> reason
    for (const auto& [group, norms] : report_.norms) {
        std::vector<double> changed;  // a site that learned nothing says nothing about how far the others may go
        for (const auto& [site, norm] : norms)
            if (norm > 0) changed.push_back(norm);
        if (changed.size() < 3) continue;
        const double middle = median(changed);
        for (const auto& [site, norm] : norms)
            if (norm > rules_.max_norm_ratio * middle && !reasons.contains(site))
                reasons[site] = fmt::format("{}: the change is {:.4g} times the median, more than {:.4g}", group,
                                            norm / middle, rules_.max_norm_ratio);
    }
    for (std::size_t k = updates_.size(); k-- > 0;)
        if (const auto reason = reasons.find(updates_[k].update.site); reason != reasons.end()) drop(k, reason->second);
}

/// Drops the one update that points away from the others the most, if it is far enough; false: none was.
Result<bool> Screening::drop_worst_direction() {
    if (rules_.min_cosine <= -1 || updates_.size() < 3) return false;
    struct GroupSums {
        std::vector<std::size_t> members;  // indices of updates
        std::vector<double> norms;         // of the members
        std::vector<double> dots, squares;
        double values = 0;
    };
    std::map<std::string, GroupSums> groups;
    for (const auto& [group, norms] : report_.norms) {
        auto& sums = groups[group];
        for (std::size_t k = 0; k < updates_.size(); ++k) {
            const auto norm = norms.find(updates_[k].update.site);
            if (norm == norms.end() || norm->second <= 0) continue;
            sums.members.push_back(k);
            sums.norms.push_back(norm->second);
        }
        if (sums.members.size() < 3) groups.erase(group);
        else sums.dots = sums.squares = std::vector<double>(sums.members.size());
    }
    if (groups.empty()) return false;

    std::vector<double> directions, medians;
    std::vector<std::size_t> order;
    auto done = each_slice([&](Slice& slice) -> Result<void> {
        const auto found = groups.find(slice.group);
        if (found == groups.end()) return {};
        auto& [members, norms, dots, squares, values] = found->second;
        values += static_cast<double>(slice.base.size());
        directions.resize(members.size());
        medians.resize(members.size());
        order.resize(members.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        for (std::size_t i = 0; i < slice.base.size(); ++i) {
            for (std::size_t m = 0; m < members.size(); ++m)
                directions[m] = (slice.updates[members[m]][i] - slice.base[i]) / norms[m];
            medians_of_others(directions, order, medians);
            for (std::size_t m = 0; m < members.size(); ++m) {
                dots[m] += directions[m] * medians[m];
                squares[m] += medians[m] * medians[m];
            }
        }
        return {};
    });
    if (!done) return std::move(done).error();

    std::optional<std::size_t> worst;
    double worst_margin = 0;
    std::string reason;
    for (const auto& [group, sums] : groups) {
        const double lowest = rules_.min_cosine - 3 / std::sqrt(sums.values);
        for (std::size_t m = 0; m < sums.members.size(); ++m) {
            if (sums.squares[m] <= 0) continue;
            const double cosine = sums.dots[m] / std::sqrt(sums.squares[m]);
            if (cosine - lowest >= worst_margin) continue;
            worst = sums.members[m];
            worst_margin = cosine - lowest;
            reason = fmt::format("{}: the change points away from the others', cosine {:.3f}, below {:.3f}", group,
                                 cosine, lowest);
        }
    }
    if (worst) drop(*worst, reason);
    return worst.has_value();
}

void Screening::drop(std::size_t index, std::string reason) {
    report_.dropped.push_back({updates_[index].update.site, std::move(reason)});
    updates_.erase(updates_.begin() + static_cast<std::ptrdiff_t>(index));
}

/// Notes the shares and the heads that stay, and takes from the updates the weights that do not count.
void Screening::weigh() {
    std::sort(report_.dropped.begin(), report_.dropped.end(), [](const DroppedUpdate& a, const DroppedUpdate& b) {
        return std::tie(a.site, a.reason) < std::tie(b.site, b.reason);
    });
    std::set<std::string> groups;
    for (const auto& entry : base_.entries())
        if (entry.floating()) groups.insert(group_of(entry));
    for (const auto& group : groups) {
        double sum = 0;
        int sites = 0;
        for (const auto& open : updates_) {
            const auto weight = open.weights.find(group);
            if (weight == open.weights.end()) continue;
            sum += weight->second;
            ++sites;
        }
        if (group != kBodyGroup && sites < std::max(1, rules_.min_sites_per_head)) {
            report_.unchanged_heads.push_back(group);
            for (auto& open : updates_) open.weights.erase(group);
            continue;
        }
        for (const auto& open : updates_)
            if (const auto weight = open.weights.find(group); weight != open.weights.end())
                report_.weights[group][open.update.site] = weight->second / sum;
    }
}

}  // namespace cardionode::fed
