// What somebody marked in a CT: DICOM Segmentation (PS3.3 A.51; BINARY, FRACTIONAL) and structured reports by TID 1500
// (PS3.16), read as voxels and points in the patient's place, with who made them as far as it matters.
//
// Who: a person or a device, and with what software. Names of people are not read. A segment's own algorithm type says
// whether it was drawn (MANUAL), corrected (SEMIAUTOMATIC) or computed (AUTOMATIC); a report says whether its observer
// is a person, and whether it was verified.
// Thread safety: values; const functions of Segmentation may run at once. DCMTK stays inside the .cpp.
// Errors: Reject for a damaged file or one of another kind; Retry for one that cannot be read for the moment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

struct AnnotationFacts {
    enum class Author { Unknown, Person, Device };
    std::string sop_class_uid, sop_instance_uid;
    Author author = Author::Unknown;
    bool verified = false;            ///< SR: a person has verified it
    std::string software;             ///< manufacturer and model, printable ASCII, at most 80 characters
    std::string made_at;              ///< content date and time, "20261121204311"; empty: not said
    std::set<std::string> refers_to;  ///< SOP Instance UIDs that stand anywhere in it
    std::string frame_of_reference_uid;
};

bool is_segmentation(const std::string& sop_class_uid);
bool is_report(const std::string& sop_class_uid);  ///< SR classes that may hold TID 1500

struct MarkedSegment {
    int number = 0;
    std::string label;  ///< printable ASCII
    Code type;
    std::string algorithm;  ///< MANUAL | SEMIAUTOMATIC | AUTOMATIC
};

class Segmentation {
public:
    static Result<Segmentation> open(const std::filesystem::path& file, std::uintmax_t max_file_bytes);
    Segmentation(Segmentation&&) noexcept;
    ~Segmentation();

    const AnnotationFacts& facts() const;
    const std::vector<MarkedSegment>& segments() const;
    /// Gives the voxels of a segment the value. Reject: planes that are coarser than the map's grid (more than 1.5
    /// times), or none of whose voxels lies in it although it has some.
    Result<void> paint(int segment, std::uint8_t value, LabelMap& map) const;

private:
    struct State;
    explicit Segmentation(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

struct MarkedPoint {
    Code finding;
    std::string label;  ///< tracking identifier, printable ASCII
    PatientPoint at;
};

struct PointReport {
    AnnotationFacts facts;
    std::vector<MarkedPoint>
        points;  ///< of the measurement groups, in their order; groups without a point are left out
};
Result<PointReport> read_report(const std::filesystem::path& file, std::uintmax_t max_file_bytes);

}  // namespace cardionode
