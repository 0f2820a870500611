#include "fedclient/coordinator/aggregate.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "fedclient/coordinator/screening.h"

namespace cardionode::fed {
namespace {

constexpr std::size_t kCopyBytes = 256 * 1024;

Result<void> copy_tensor(const TensorFile& base, const TensorEntry& entry, TensorFileWriter& writer) {
    std::vector<std::byte> buffer;
    for (std::uint64_t offset = 0; offset < entry.bytes; offset += buffer.size()) {
        buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, entry.bytes - offset)));
        if (auto read = base.read(entry, offset, buffer); !read) return read;
        if (auto written = writer.append(std::span<const std::byte>(buffer)); !written) return written;
    }
    return {};
}

/// W + weighted or trimmed mean of the changes.
void combine(Slice& slice, const std::vector<std::pair<std::size_t, double>>& members, double trim,
             std::vector<double>& result) {
    result.resize(slice.base.size());
    if (trim > 0) {
        const auto cut = static_cast<std::size_t>(trim * static_cast<double>(members.size()));
        std::vector<double> changes(members.size());
        for (std::size_t i = 0; i < result.size(); ++i) {
            for (std::size_t m = 0; m < members.size(); ++m)
                changes[m] = slice.updates[members[m].first][i] - slice.base[i];
            std::sort(changes.begin(), changes.end());
            double sum = 0;
            for (std::size_t m = cut; m < changes.size() - cut; ++m) sum += changes[m];
            result[i] = slice.base[i] + sum / static_cast<double>(changes.size() - 2 * cut);
        }
        return;
    }
    std::fill(result.begin(), result.end(), 0.0);
    double weights = 0;
    for (const auto& [k, weight] : members) {
        weights += weight;
        for (std::size_t i = 0; i < result.size(); ++i) result[i] += weight * (slice.updates[k][i] - slice.base[i]);
    }
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = slice.base[i] + result[i] / weights;
}

Result<void> average_tensor(const Screening& screening, const TensorEntry& entry, double trim,
                            TensorFileWriter& writer) {
    std::vector<std::pair<std::size_t, double>> members;
    const auto group = group_of(entry);
    for (std::size_t k = 0; k < screening.updates().size(); ++k) {
        const auto& weights = screening.updates()[k].weights;
        if (const auto weight = weights.find(group); weight != weights.end()) members.emplace_back(k, weight->second);
    }
    if (members.empty()) return copy_tensor(screening.base(), entry, writer);
    std::vector<double> result;
    std::vector<float> single;
    return screening.each_slice_of(entry, [&](Slice& slice) {
        combine(slice, members, trim, result);
        if (entry.dtype == "F64") return writer.append(std::as_bytes(std::span<const double>(result)));
        single.assign(result.begin(), result.end());
        return writer.append(std::span<const float>(single));
    });
}

}  // namespace

Result<AggregationReport> screen_updates(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                         const AggregationRules& rules) {
    auto screening = Screening::open(base, updates, rules);
    if (!screening) return std::move(screening).error();
    return screening->report();
}

Result<AggregationReport> aggregate(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                    const AggregationRules& rules, const std::filesystem::path& out) {
    auto screening = Screening::open(base, updates, rules);
    if (!screening) return std::move(screening).error();
    const auto usable = std::count_if(screening->updates().begin(), screening->updates().end(),
                                      [](const OpenUpdate& open) { return !open.weights.empty(); });
    if (usable < std::max(1, rules.quorum)) {
        auto message = fmt::format("{} of {} updates can be used, the quorum is {}", usable, updates.size(),
                                   std::max(1, rules.quorum));
        for (const auto& dropped : screening->report().dropped)
            message += fmt::format("; {}: {}", dropped.site, dropped.reason);
        return reject_error(std::move(message));
    }
    auto writer = TensorFileWriter::create(out, screening->base().entries(), screening->base().metadata());
    if (!writer) return std::move(writer).error();
    for (const auto& entry : screening->base().entries()) {
        auto written = entry.floating() ? average_tensor(*screening, entry, rules.trim, *writer)
                                        : copy_tensor(screening->base(), entry, *writer);
        if (!written) return std::move(written).error().in("writing the new global model");
    }
    if (auto done = writer->commit(); !done) return std::move(done).error().in("writing the new global model");
    return screening->report();
}

}  // namespace cardionode::fed
