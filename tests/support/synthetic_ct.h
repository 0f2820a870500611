// Writes CT series whose voxels are a known function of the place in the patient, so that a test can ask the volume
// that was read whether every voxel is where it belongs.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/read/read_study.h"
#include "pipeline/volume/grid.h"

namespace cardionode::test {

/// HU at a patient point.
using Field = std::function<double(const Vec3& lps_mm)>;

struct SyntheticSlice {
    Vec3 position{};
    Vec3 row{1, 0, 0};
    Vec3 column{0, 1, 0};
    std::array<double, 2> spacing{2, 1.5};  ///< between columns, between rows
    int columns = 8;
    int rows = 6;
    double thickness = 1;  ///< 0: not written
    double slope = 1;
    double intercept = -1024;
    bool rescaled = true;  ///< false: no slope and intercept
    std::string rescale_type = "HU";
    std::string study_uid = "1.2.3.100";
    std::string series_uid = "1.2.3.200";
    std::string frame_of_reference_uid = "1.2.3.300";
    std::string sop_uid;  ///< empty: made from a counter
    std::string sop_class = "1.2.840.10008.5.1.4.1.1.2";
    std::string modality = "CT";
    std::string transfer_syntax = "1.2.840.10008.1.2.1";
    int series_number = 4;
    std::string description;
    std::string image_type = "ORIGINAL\\PRIMARY\\AXIAL";
    std::string kernel = "B26f";
    std::string agent = "IOMERON";
    int instance_number = 1;
    std::optional<double> phase_percent, trigger_ms, tilt;
    std::optional<int> acquisition;
    std::string acquisition_time;
    std::optional<int> padding;  ///< stored value that marks voxels outside
    std::function<bool(int column, int row)> is_padding;
    int bits_stored = 16;
    bool is_signed = true;
};

/// `count` planes from `first` on, `step` apart along the normal, as one series.
std::vector<SyntheticSlice> stack(int count, double step, SyntheticSlice first = {});

/// One Part 10 file a slice, shuffled names; the values are `field` at each voxel's centre, rounded to stored values.
std::vector<StudyFile> write_slices(const std::filesystem::path& folder, const std::vector<SyntheticSlice>& slices,
                                    const Field& field);
/// One Enhanced CT file with a frame a slice; the common values are those of the first.
StudyFile write_enhanced(const std::filesystem::path& file, const std::vector<SyntheticSlice>& slices,
                         const Field& field);

/// Settings that let small synthetic series pass.
SeriesSettings small_series();

/// The largest difference between the volume and the field over all voxels.
double worst_difference(const Volume& volume, const Field& field);

}  // namespace cardionode::test
