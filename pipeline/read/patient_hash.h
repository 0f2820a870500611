// Which patient a DICOM file is of, without saying who: for sorting studies into training and hold-out.
//
// SHA-256 over issuer and Patient ID (0010,0020); where there is no ID, over the study's UID. One patient of one
// hospital always has the same hash. It hides a name from a glance, not from somebody who tries all IDs: files that
// hold it stay in the hospital. Thread safety: pure function.
#pragma once

#include <filesystem>
#include <string>

#include "conf/base/result.h"

namespace cardionode {

/// Reject: no DICOM file, or neither ID nor study UID in it. Retry: it cannot be read for the moment.
Result<std::string> patient_hash(const std::filesystem::path& file, std::uintmax_t max_file_bytes);

}  // namespace cardionode
