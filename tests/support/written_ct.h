// CT series written by the test itself, and series read by a reader that shares no code with the node's.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/outputs/outputs.h"

namespace cardionode::test {

struct CtShape {
    std::int64_t columns = 64, rows = 48, slices = 20;
    Vec3 spacing{0.8, 0.7, 1.5};         ///< along column, row, slice
    Vec3 row{1, 0, 0}, column{0, 1, 0};  ///< unit vectors; slices follow row x column
    PatientPoint origin{{-31.5, -120.25, 40}};
    bool files_backwards = false;  ///< the first file holds the last slice
    std::string character_set = "ISO_IR 100";
    std::string patient_name = "Phantom^J\xF6rg";  ///< in the character set above
    bool bad_attributes = false;                   ///< wrong VRs, empty code sequences, missing type 2
    std::vector<double> jitter_mm{};               ///< of slice positions along the normal; empty: none
};

/// Three rotations about different axes: no direction cosine is 0 or 1.
CtShape oblique(CtShape shape);

/// Writes one file a slice and returns the series as the reader would. HU: a soft ball in the middle, air round it.
CtSeries write_ct(const std::filesystem::path& folder, const CtShape& shape);

/// Writes the series that write_ct made once more, as one Enhanced CT file, and returns it with frames as slices.
CtSeries as_enhanced_ct(const CtSeries& single, const std::filesystem::path& file);

/// Reads a folder of single-frame CT files that are known to be regular. Compressed pixels are taken as -1000 HU.
CtSeries read_ct(const std::filesystem::path& folder);

/// A NIfTI mask (gzip) that covers `grid`: label 1 where it is not 0. Throws std::runtime_error for what it cannot
/// read.
std::vector<std::uint8_t> read_mask(const std::filesystem::path& file, const Grid& grid);

/// Two groups with balls and boxes, seven landmarks of which one is not found, measurements with and without value.
Findings findings_for(const CtSeries& source);

/// Puts volume_ml of every segment from its voxels.
void measure_volumes(SegmentGroup& group);

OutputRequest request_for(const std::filesystem::path& work_folder);

}  // namespace cardionode::test
