// From the updates of several hospitals to the next global weights: per head, weighted by that head's own label count.
//
// W' = W + sum_k w_k (W_k - W) / sum_k w_k for every floating tensor, over the sites whose update counts for the
// tensor's group: a head (models/weights/head_of_tensor.h) with w_k = n/<head> of site k, the body with w_k = sum of
// n/<head> + beta * n/unlabelled. A head that nobody trained, or fewer than min_sites_per_head, stays as it was.
// Integer tensors are never averaged. (Why per head: facts of FedKD's partial labels; a site without labels of a head
// would dilute it.) Before that an update is dropped, with its reason, if it is not finite, has a wrong or missing
// tensor, its norm of W_k - W (per head and body) is more than max_norm_ratio times the median, or its cosine to the
// median direction (per head and body) is below min_cosine - 3/sqrt(values): so little that small heads, where
// independent directions differ by chance, cannot cost an honest site its update. The sums run in the sites'
// alphabetical order: the same updates give the same bits. Memory: a slice of 64 Ki values of every site at a time.
// Thread safety: pure functions on files. Errors: Reject when fewer than quorum updates with a weight are left (the
// message says which were dropped and why); Config for a base that is not F32 or F64 and for rules out of range;
// Config, Retry as models/weights/tensor_file.h. An update's own damaged file costs only that update.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

struct SiteUpdate {
    std::string site;                        ///< a name that may stand in logs
    std::filesystem::path weights;           ///< safetensors; a head may be absent where n of it is 0
    std::map<std::string, double> labelled;  ///< n/<head>
    double unlabelled = 0;
};

struct AggregationRules {
    bool per_head = true;        ///< false: every tensor with the weight of the body, as FedAvg does
    double beta = 0;             ///< weight of an unlabelled study for the body
    int quorum = 2;              ///< updates that must be left
    int min_sites_per_head = 1;  ///< before a head changes
    double max_norm_ratio = 3;   ///< times the median norm; 0: no check. Needs three updates
    double min_cosine = -0.2;    ///< to the median of the others' directions; -1: no check. Needs three updates
    double trim = 0;             ///< share of sites cut off at each end, value by value, unweighted; 0: weighted mean
};

struct DroppedUpdate {
    std::string site, reason;
};

struct AggregationReport {
    std::vector<DroppedUpdate> dropped;
    std::map<std::string, std::map<std::string, double>> weights;  ///< group ("body" or head) -> site -> share
    std::map<std::string, std::map<std::string, double>> norms;    ///< group -> site -> |W_k - W|
    std::vector<std::string> unchanged_heads;
};

/// Which updates are dropped, what the others weigh, without a quorum and without writing anything.
Result<AggregationReport> screen_updates(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                         const AggregationRules& rules);

/// Writes the new weights to `out`, durably. `out` is untouched on an error.
Result<AggregationReport> aggregate(const std::filesystem::path& base, const std::vector<SiteUpdate>& updates,
                                    const AggregationRules& rules, const std::filesystem::path& out);

}  // namespace cardionode::fed
