// The report for people who plan: one HTML page that prints on one sheet of A4, with everything in it (pictures as
// data), no script and nothing that is fetched from anywhere.
//
// Shows the numbers with their uncertainty and what each rests on, the points, what was not found and why, warnings,
// pictures, model and settings. No patient identity unless the caller hands it in.
// Thread safety: pure function.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "conf/base/time.h"
#include "pipeline/read/ct_series.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct ReportFacts {
    using Rows = std::vector<std::pair<std::string, std::string>>;  ///< name, value; UTF-8
    std::string software_version;
    Moment moment{};
    std::string images;  ///< which images were read, for people
    Rows identity;       ///< name, ID and the like; empty: none is shown
    Rows settings;       ///< how the model was run
};

/// UTF-8. Text from images or manifests is escaped.
/// @param source  only the volume is looked at
std::string html_report(const CtSeries& source, const Findings& findings, const ReportFacts& facts);

}  // namespace cardionode
