// The files that `cardionode predict` leaves, and how they come to their place all at once.
//
// Thread safety: values and pure functions; a ResultFolder belongs to one thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

/// The file that tells a folder of results from any other folder.
inline constexpr std::string_view kRunFile = "run.json";

/// A folder that is there whole or not at all: everything is written into a hidden folder beside it, which takes its
/// place at the end. The destructor removes what was not published.
class ResultFolder {
public:
    /// Config: the parent folder is missing or cannot be written; `target` is a file, or holds something and
    /// `overwrite` was not asked for, or holds something else than results of an earlier run: those alone are replaced.
    static Result<ResultFolder> create(const std::filesystem::path& target, bool overwrite);
    ResultFolder(ResultFolder&& other) noexcept;
    ResultFolder& operator=(ResultFolder&&) = delete;
    ~ResultFolder();

    /// Write here until publish().
    const std::filesystem::path& path() const { return hidden_; }
    const std::filesystem::path& target() const { return target_; }
    /// Puts the folder in its place, durably; what was there before is removed afterwards. Retry, Config: it cannot be.
    Result<void> publish();

private:
    ResultFolder(std::filesystem::path hidden, std::filesystem::path target);
    std::filesystem::path hidden_, target_;
    bool published_ = false;
};

/// {"coordinates": "...", "model": {...}, "landmarks": [{"name", "title", "found", "lps_mm": [x, y, z] | null,
/// "ras_mm",
///  "confidence", "component_voxels", "component_mm3", "look", "expected_error_mm": number | null, "spread_mm",
///  "reason"}]}
std::string landmarks_json(const Findings& findings);
/// {"model": {...}, "measurements": [{"name", "title", "value": number | null, "unit", "uncertainty": number | null,
///  "rests_on", "reason"}], "warnings": [text]}
std::string measurements_json(const Findings& findings);
/// The same as a table, RFC 4180: name,title,value,unit,uncertainty,rests_on,reason.
std::string measurements_csv(const Findings& findings);

}  // namespace cardionode
