// NIfTI-1 files (.nii, .nii.gz): a CT in Hounsfield units, and label maps; read and written.
//
// NIfTI says RAS (+x right), this project LPS: the signs of x and y change here and nowhere else. The grid is the
// file's own: order, direction and spacing of its axes are kept, so that a label map on that grid fits the file voxel
// by voxel; left-handed axes are right. The affine is the sform where the file has one, else the qform.
// Source: nifti1.h of the NIfTI Data Format Working Group (2007), methods 2 and 3.
//
// Everything is checked before it is believed: header, sizes before memory is taken, the length of the data, and the
// checksum of a compressed file. What is refused says what to do about it. Messages name no file: a file may be named
// after a patient; a caller that speaks to a person adds the name with Error::in().
// Thread safety: free functions, no shared state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

struct NiftiLimits {
    std::int64_t max_voxels = 768'000'000;  ///< as ReadLimits::max_voxels
    double min_spacing_mm = 0.05;           ///< below: the unit is wrong
    double max_spacing_mm = 20;             ///< above: nothing of a heart could be measured
};

/// A CT. Integers of 8 to 64 bits and floats of 32 and 64 bits, either byte order, with scl_slope and scl_inter.
/// @param warnings  gets what a person should know, when not null: values that do not look like Hounsfield units,
///                  sform and qform that disagree, voxel sizes that contradict the affine
/// Reject: no NIfTI-1, NIfTI-2, a .hdr/.img pair, more or less than three dimensions, fewer than two voxels along an
/// axis, too many voxels, colour or complex voxels, no orientation, sheared axes, spacing outside the limits, truncated
/// or damaged data, values that are not numbers, the same value everywhere. Config: no such file, or not allowed.
/// Retry: cannot be read for the moment.
Result<Volume> read_nifti_ct(const std::filesystem::path& file, std::vector<std::string>* warnings = nullptr,
                             const NiftiLimits& limits = {});

/// A label map: whole numbers from 0 to 255, whatever type they are stored as; one slice is enough.
/// Reject: as read_nifti_ct, and values that are no labels. Config, Retry: as there.
Result<LabelMap> read_nifti_labels(const std::filesystem::path& file, const NiftiLimits& limits = {});

/// Writes `file`, gzip-compressed if its name ends in .gz, durably: whole, or not at all. int16 where every value is a
/// whole number that fits, else float32. sform and qform (code 1, scanner) hold the same grid; reading gives it back
/// within the precision of float32.
/// Reject: an axis of more than 32767 voxels. Retry: disk full, no memory. Config: the folder cannot be written.
Result<void> write_nifti(const Volume& volume, const std::filesystem::path& file);
/// The same for labels, as uint8.
Result<void> write_nifti(const LabelMap& labels, const std::filesystem::path& file);

}  // namespace cardionode
