// Whether a candidate is worse than the model before: per head, weighted over the sites that saw both.
//
// Thread safety: pure functions.
#pragma once

#include <map>
#include <string>

namespace cardionode::fed {

/// site -> numbers of its reply
using SiteMetrics = std::map<std::string, std::map<std::string, double>>;

struct HeadValidation {
    double before = 0, after = 0;  ///< weighted means; higher is better
    int sites = 0;
};

/// @param trained    train replies: before/<head> of the old model
/// @param evaluated  evaluate replies: after/<head>, else before/<head>, of the candidate; weight: num-examples,
/// else 1.
///                   A value that is not finite counts as minus infinity: a fall
/// @return           heads that at least one site measured on both
std::map<std::string, HeadValidation> compare_validation(const SiteMetrics& trained, const SiteMetrics& evaluated);

/// The heads that fell by more than `tolerance`, in words; empty: none.
std::string falls_of(const std::map<std::string, HeadValidation>& heads, double tolerance);

}  // namespace cardionode::fed
