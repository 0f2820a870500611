// A phantom on disk: NIfTI volumes, points as JSON, a picture.
//
// ct.nii.gz (int16 HU), heart.nii.gz, hps.nii.gz, ms.nii.gz, calc.nii.gz (uint8 labels), phantom.json (seed, points in
// LPS millimetres of the same frame, label names), phantom.png. The NIfTI affine says RAS, as the format wants it.
#pragma once

#include <filesystem>

#include "conf/base/result.h"
#include "models/train/phantom.h"

namespace cardionode::train {

/// @param folder  made if it is not there. Config: it cannot be made; Retry: disk full.
Result<void> write_phantom(const Phantom& phantom, std::uint64_t seed, const std::filesystem::path& folder);

}  // namespace cardionode::train
