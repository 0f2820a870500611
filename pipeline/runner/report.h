// What the operator sees of a study that was analysed: one line, and JSON for `cardionode show`.
//
// No patient data, no DICOM UID. Thread safety: pure functions.
#pragma once

#include <filesystem>
#include <string>

#include "pipeline/runner/analyse.h"

namespace cardionode {

/// "7 of 7 landmarks, annulus 492 mm2, 6 outputs; no contrast agent seen ..."
std::string summary_of(const Analysis& analysis);

/// {"landmarks": [{"name", "title", "found", "lps_mm": [x, y, z] | null, "confidence", "reason"}],
///  "measurements": [{"name", "title", "value": number | null, "uncertainty": number | null, "unit", "rests_on",
///                    "reason"}],
///  "warnings": [text], "series": "why chosen", "not_chosen": [text], "model": "name version", "device",
///  "outputs": [{"kind", "file"}], "notes": [text], "overview": "path of the PNG", "seconds": {stage: number}}
/// @param work_folder  paths in the JSON begin with it
std::string to_json(const Analysis& analysis, const std::filesystem::path& work_folder);

}  // namespace cardionode
