// A CT volume as a DICOM series of single-frame CT images: what `cardionode phantom --format dicom` writes, so that a
// phantom can be sent to the node like a study. Source: PS3.3 A.3 (CT Image IOD).
//
// The patient is named PHANTOM, Quality Control Image says YES, and every UID is derived from `identity` under 2.25, so
// that the same volume gets the same UIDs again. Never for patients' data. Thread safety: free function.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conf/base/result.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

struct CtSeriesText {
    std::string identity;    ///< decides every UID
    std::string patient_id;  ///< at most 64 characters, as the two below
    std::string study_description;
    std::string series_description;
    bool contrast = false;  ///< names a contrast agent in the header
};

/// Writes 0001.dcm and so on, slice 0 first: int16 Hounsfield units, rounded. The grid is kept as it is.
/// Config: the folder cannot be made or written. Retry: disk full. Reject: a value beyond int16, more than 9999 slices,
/// or more than 65535 rows or columns.
Result<void> write_ct_series(const Volume& volume, const CtSeriesText& text, const std::filesystem::path& folder);

}  // namespace cardionode
