// `cardionode evaluate compare`: folders of results against folders of the truth.
//
// A folder of results is one that `cardionode predict` wrote: landmarks.json, measurements.json where there is one,
// heart.nii.gz, valve_calcium.nii.gz. A folder of the truth is one that `cardionode phantom` wrote (phantom.json,
// heart.nii.gz, calc.nii.gz, ct.nii.gz), or another folder of results. Either may be a case by itself or hold one
// folder a case; cases belong together by name. A case without results counts as missed in everything.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "conf/base/result.h"

namespace cardionode {

struct EvaluateCompareOptions {
    std::filesystem::path predicted, truth;
    std::filesystem::path out;  ///< empty: the table is printed alone
    std::function<void(const std::string&)> print;
};

/// Config: a folder is missing, no case is in it, a file is not as expected; Reject: label maps on different grids.
Result<void> evaluate_compare(const EvaluateCompareOptions& options);

}  // namespace cardionode
