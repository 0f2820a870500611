// What the header of one CT instance says: per instance and per frame. No pixels.
//
// Classic CT has one frame an instance; Enhanced CT (PS3.3 C.8.15, A.38) has many, with their geometry in functional
// groups. Both end up as the same FrameFacts. A value that is absent or is no finite number is absent here.
// Thread safety: values; free functions without shared state. DCMTK stays inside the .cpp.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/grid.h"

namespace cardionode {

/// One image plane.
struct FrameFacts {
    int frame = 0;                                    ///< 1-based in a multi-frame instance; 0: single-frame
    std::optional<Vec3> position;                     ///< (0020,0032): centre of the first voxel, LPS mm
    std::optional<Vec3> row;                          ///< (0020,0037) first three: direction of increasing column
    std::optional<Vec3> column;                       ///< last three: direction of increasing row
    std::optional<std::array<double, 2>> spacing_mm;  ///< (0028,0030): between columns, between rows
    std::optional<double> slice_thickness_mm;         ///< (0018,0050)
    std::optional<double> slope;                      ///< (0028,1053)
    std::optional<double> intercept;                  ///< (0028,1052)
    std::string rescale_type;                         ///< (0028,1054); empty: HU by default for CT
    std::string image_type;                           ///< (0008,0008) or (0008,9007), values joined by a backslash
    std::string kernel;                               ///< (0018,1210)
    std::string stack_id;                             ///< (0020,9056), Enhanced only
    std::optional<double> gantry_tilt_degrees;        ///< (0018,1120)
    std::optional<double> phase_percent;              ///< (0020,9241), or trigger time by nominal interval, 0..100
    std::optional<double> trigger_time_ms;            ///< (0018,1060) or (0020,9153)
    std::optional<int> temporal_index;                ///< (0020,0100) or (0020,9128)
    std::optional<int> acquisition_number;            ///< (0020,0012)
    std::string acquisition_time;                     ///< (0008,0032), digits as they stand
    bool localizer = false;                           ///< image type LOCALIZER, or no plane at all (a scout)
};

/// How stored values lie in the pixel data.
struct PixelLayout {
    int rows = 0;
    int columns = 0;
    int bits_allocated = 0;  ///< 8 or 16
    int bits_stored = 0;
    int high_bit = 0;
    bool is_signed = false;
    int samples = 1;
    std::optional<std::int32_t> padding_low, padding_high;  ///< (0028,0120) and (0028,0121), stored values, inclusive
};

struct InstanceFacts {
    std::filesystem::path file;
    std::string transfer_syntax_uid;
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string study_instance_uid;
    std::string series_instance_uid;
    std::string frame_of_reference_uid;
    std::string modality;
    std::optional<int> series_number;
    std::string series_description;  ///< printable ASCII, at most 40 characters
    bool multi_frame_class = false;  ///< Enhanced CT or Legacy Converted Enhanced CT
    bool contrast_agent = false;     ///< (0018,0010), (0018,0012) or (0018,9341) name one
    bool lossy = false;              ///< (0028,2110)
    PixelLayout pixels;
    std::vector<FrameFacts> frames;
};

/// CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image.
bool is_ct_class(const std::string& sop_class_uid);

/// The SOP class and modality of any DICOM file.
struct ClassAndModality {
    std::string sop_class_uid;
    std::string modality;
};
Result<ClassAndModality> read_class(const std::filesystem::path& file, std::uintmax_t max_file_bytes);

/// Reads the header up to the pixel data.
/// Reject: no DICOM Part 10 file, damaged, nested too deeply, too large, no rows and columns, other than one 8 or 16
/// bit sample a pixel. Retry: the file cannot be read for the moment.
Result<InstanceFacts> read_instance(const std::filesystem::path& file, std::uintmax_t max_file_bytes);

/// "35 %", "Best Diast 75%": a percentage in a description, 0..100, that is not the strength of ASIR.
std::optional<double> percent_in(const std::string& description);

}  // namespace cardionode
