// What `cardionode predict` is pointed at: a folder with DICOM files, one file of a series, or a NIfTI file.
//
// Messages are for the person at the terminal and name what to do.
// Thread safety: free functions without state.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/read/read_study.h"

namespace cardionode {

struct InputChoice {
    std::optional<int> study;   ///< 1-based, in the order of the list that a folder of many studies is refused with
    std::optional<int> series;  ///< (0020,0011) Series Number
};

struct PredictInput {
    CtSeries series;     ///< of a NIfTI file: volume, why_chosen and warnings alone
    bool dicom = false;  ///< SEG and SR can refer to the images
    std::vector<std::pair<std::string, std::string>> identity;  ///< title and value; only when asked for
};

/// Called with done and total while files are read; false: stop.
using InputProgress = std::function<bool(int done, int total)>;

/// A folder is searched with all folders below it. Of a single DICOM file, the series that it belongs to is read from
/// its own folder. The series is chosen by the node's own rules (read_study), which say why.
/// Config: no such path, not readable. Reject: nothing usable, several studies and no choice, a choice that is not
/// there, slices too thick. Retry: cancelled, not readable for the moment.
Result<PredictInput> read_input(const std::filesystem::path& path, const InputChoice& choice, bool with_identity,
                                const ReadLimits& limits, const InputProgress& progress);

}  // namespace cardionode
