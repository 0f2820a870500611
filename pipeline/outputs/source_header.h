// What the source files themselves say: attributes to inherit, and where each slice lies.
//
// Read from the files and not from CtSeries, so that outputs lie exactly on the source planes (a regular grid may be a
// fraction of a millimetre off them) and so that the geometry check does not trust what it checks.
// Thread safety: a value that may be read from several threads; first() belongs to one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/read/ct_series.h"

class DcmItem;

namespace cardionode {

/// Plane of one source slice (PS3.3 C.7.6.2): the centre of its first pixel, its axes, its pixels.
struct SourcePlane {
    PatientPoint position;
    Vec3 row{};                 ///< unit vector along increasing column
    Vec3 column{};              ///< unit vector along increasing row
    double row_spacing = 0;     ///< mm between rows
    double column_spacing = 0;  ///< mm between columns
    int rows = 0;
    int columns = 0;
};

class SourceHeader {
public:
    /// Reads every slice's file but for its pixel data. Reject: a file is missing, is no DICOM, or lacks its geometry.
    static Result<SourceHeader> read(const CtSeries& source);
    SourceHeader(SourceHeader&&) noexcept;
    SourceHeader& operator=(SourceHeader&&) noexcept;
    ~SourceHeader();

    /// The data set of the first slice, without pixel data.
    DcmItem& first() const;
    /// One per CtSeries::slices, in their order.
    const std::vector<SourcePlane>& planes() const { return planes_; }

private:
    struct File;
    SourceHeader();
    std::unique_ptr<File> first_;
    std::vector<SourcePlane> planes_;
};

}  // namespace cardionode
