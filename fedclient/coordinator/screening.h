// The updates of one aggregation, opened and looked through: which may count, and with what weight for which group.
//
// Internal to aggregate.h. Thread safety: one caller. Errors as there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fedclient/coordinator/aggregate.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {

inline constexpr const char* kBodyGroup = "body";

/// "body" or the head of a tensor.
std::string group_of(const TensorEntry& entry);

/// An update whose tensors fit the base.
struct OpenUpdate {
    SiteUpdate update;
    TensorFile file;
    std::map<std::string, double> weights;  ///< group -> weight before division by the sum; only those above 0
};

/// W and the W_k of one slice of a tensor, as doubles.
struct Slice {
    const TensorEntry& entry;  ///< of the base
    std::string group;
    std::vector<double> base;
    std::vector<std::vector<double>> updates;  ///< one for each update; empty: that update has not this tensor
};

class Screening {
public:
    static Result<Screening> open(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                  const AggregationRules& rules);

    const TensorFile& base() const { return base_; }
    const std::vector<OpenUpdate>& updates() const { return updates_; }  ///< that may count, by site
    const AggregationReport& report() const { return report_; }

    /// Calls `visit` for each slice of a floating tensor of the base, in the order of the file.
    Result<void> each_slice(const std::function<Result<void>(Slice&)>& visit) const;
    /// The same for one tensor.
    Result<void> each_slice_of(const TensorEntry& entry, const std::function<Result<void>(Slice&)>& visit) const;

private:
    Screening(TensorFile base, const AggregationRules& rules) : base_(std::move(base)), rules_(rules) {}

    Result<void> admit(const SiteUpdate& update);
    Result<void> drop_by_values();
    void drop_by_norm();
    Result<bool> drop_worst_direction();
    void drop(std::size_t index, std::string reason);
    void weigh();

    TensorFile base_;
    AggregationRules rules_;
    std::vector<OpenUpdate> updates_;
    AggregationReport report_;
};

}  // namespace cardionode::fed
