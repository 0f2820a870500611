#include "pipeline/read/nifti_header.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>

namespace cardionode::nifti {
namespace {

// Offsets of the fields (nifti1.h).
constexpr std::size_t kDim = 40, kDatatype = 70, kBitpix = 72, kPixdim = 76, kVoxOffset = 108, kSlope = 112,
                      kIntercept = 116, kUnits = 123, kDescription = 148, kQformCode = 252, kSformCode = 254,
                      kQuaternion = 256, kQoffset = 268, kSrow = 280, kMagic = 344;

using Matrix = std::array<std::array<double, 4>, 3>;  ///< voxel index to RAS mm

/// Reads fields in the file's byte order.
class Fields {
public:
    Fields(std::span<const std::byte> bytes, bool swapped) : bytes_(bytes), swapped_(swapped) {}
    template <class T>
    T get(std::size_t at) const {
        std::array<std::byte, sizeof(T)> raw;
        std::memcpy(raw.data(), &bytes_[at], sizeof(T));
        if (swapped_) std::reverse(raw.begin(), raw.end());
        T value;
        std::memcpy(&value, raw.data(), sizeof(T));
        return value;
    }
    double real(std::size_t at, std::size_t index = 0) const { return get<float>(at + 4 * index); }
    int whole(std::size_t at, std::size_t index = 0) const { return get<std::int16_t>(at + 2 * index); }

private:
    std::span<const std::byte> bytes_;
    bool swapped_;
};

Error no_nifti() {
    return reject_error("this is no NIfTI file; give a .nii or .nii.gz file, or a folder with DICOM files");
}

/// Is it a single NIfTI-1 file, and in which byte order?
Result<bool> byte_order(std::span<const std::byte> bytes) {
    if (bytes.size() < kHeaderBytes) {
        return reject_error("the file ends within its header: it is empty or was cut off; copy it again");
    }
    const auto size = Fields(bytes, false).get<std::int32_t>(0);
    const auto swapped_size = Fields(bytes, true).get<std::int32_t>(0);
    if (size == 540 || swapped_size == 540) {
        return reject_error("this is a NIfTI-2 file; save it as NIfTI-1 (.nii or .nii.gz)");
    }
    if (size != 348 && swapped_size != 348) return no_nifti();
    const std::string magic(reinterpret_cast<const char*>(&bytes[kMagic]), 3);
    if (magic == "ni1") {
        return reject_error("this is one half of a .hdr/.img pair; save it as a single .nii or .nii.gz file");
    }
    if (magic != "n+1") {
        return reject_error(
            "this is an ANALYZE file, which does not say where left and right are; convert the DICOM "
            "images to NIfTI");
    }
    return swapped_size == 348;
}

Result<std::array<std::int64_t, 3>> size_of(const Fields& fields, std::int64_t min_side, const NiftiLimits& limits) {
    const int dimensions = fields.whole(kDim);
    if (dimensions < 1 || dimensions > 7) return reject_error("the header is damaged: its number of dimensions");
    std::array<std::int64_t, 3> size = {1, 1, 1};
    for (int d = 1; d <= dimensions; ++d) {
        const int n = fields.whole(kDim, static_cast<std::size_t>(d));
        if (n < 1) return reject_error("the image has no voxels along one axis; export it again");
        if (d <= 3) size[static_cast<std::size_t>(d - 1)] = n;
        else if (n > 1) {
            return reject_error(
                fmt::format("the file holds {} images in its dimension {} (phases or channels); save "
                            "the one to be analysed as a file of three dimensions",
                            n, d));
        }
    }
    if (*std::min_element(size.begin(), size.end()) < min_side) {
        return reject_error(
            fmt::format("the image has {} x {} x {} voxels; a CT has three dimensions", size[0], size[1], size[2]));
    }
    if (size[0] * size[1] * size[2] > limits.max_voxels) {
        return reject_error(
            fmt::format("the image has {} x {} x {} voxels, more than the {} million that are read; "
                        "crop it to the chest or resample it",
                        size[0], size[1], size[2], limits.max_voxels / 1'000'000));
    }
    return size;
}

std::optional<Matrix> sform_of(const Fields& fields) {
    if (fields.whole(kSformCode) <= 0) return std::nullopt;
    Matrix m{};
    for (std::size_t row = 0; row < 3; ++row) {
        for (std::size_t c = 0; c < 4; ++c) m[row][c] = fields.real(kSrow + 16 * row, c);
    }
    return m;
}

std::optional<Matrix> qform_of(const Fields& fields) {
    if (fields.whole(kQformCode) <= 0) return std::nullopt;
    double b = fields.real(kQuaternion), c = fields.real(kQuaternion, 1), d = fields.real(kQuaternion, 2);
    double a = 1 - (b * b + c * c + d * d);
    if (a < 1e-7) {  // half a turn: the rest is rounding
        const double length = std::sqrt(b * b + c * c + d * d);
        b /= length, c /= length, d /= length;
        a = 0;
    } else {
        a = std::sqrt(a);
    }
    // A pixdim[0] of 0 is read as 1, as nifti1.h asks for.
    const double handed = fields.real(kPixdim) < 0 ? -1 : 1;
    const double x = fields.real(kPixdim, 1), y = fields.real(kPixdim, 2), z = handed * fields.real(kPixdim, 3);
    return Matrix{
        {{(a * a + b * b - c * c - d * d) * x, 2 * (b * c - a * d) * y, 2 * (b * d + a * c) * z, fields.real(kQoffset)},
         {2 * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, 2 * (c * d - a * b) * z,
          fields.real(kQoffset, 1)},
         {2 * (b * d - a * c) * x, 2 * (c * d + a * b) * y, (a * a + d * d - b * b - c * c) * z,
          fields.real(kQoffset, 2)}}};
}

/// Largest distance between the two places of a corner.
double disagreement_mm(const Matrix& p, const Matrix& q, const std::array<std::int64_t, 3>& size, double to_mm) {
    double worst = 0;
    for (unsigned corner = 0; corner < 8; ++corner) {
        Vec3 d{};
        for (std::size_t row = 0; row < 3; ++row) {
            d[row] = p[row][3] - q[row][3];
            for (std::size_t c = 0; c < 3; ++c) {
                if ((corner >> c & 1U) != 0) d[row] += (p[row][c] - q[row][c]) * static_cast<double>(size[c] - 1);
            }
        }
        worst = std::max(worst, to_mm * norm(d));
    }
    return worst;
}

Result<Grid> grid_of(const Matrix& ras, const std::array<std::int64_t, 3>& size, double to_mm,
                     const NiftiLimits& limits) {
    constexpr std::array<double, 3> kRasToLps = {-1, -1, 1};
    PatientPoint origin;
    std::array<Vec3, 3> axes{};
    Vec3 spacing{};
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t row = 0; row < 3; ++row) axes[c][row] = kRasToLps[row] * to_mm * ras[row][c];
        origin.lps_mm[c] = kRasToLps[c] * to_mm * ras[c][3];
        spacing[c] = norm(axes[c]);
        if (!std::isfinite(spacing[c]) || !std::isfinite(origin.lps_mm[c])) {
            return reject_error("the affine of the header holds values that are not numbers; convert the DICOM again");
        }
        if (spacing[c] < limits.min_spacing_mm || spacing[c] > limits.max_spacing_mm) {
            return reject_error(
                fmt::format("a voxel would be {:.4g} mm long, and {} to {} mm is plausible; check the "
                            "spacing and its unit in the header",
                            spacing[c], limits.min_spacing_mm, limits.max_spacing_mm));
        }
        axes[c] = scale(axes[c], 1 / spacing[c]);
    }
    double cosine = 0;
    for (std::size_t c = 0; c < 3; ++c) cosine = std::max(cosine, std::abs(dot(axes[c], axes[(c + 1) % 3])));
    if (cosine > 1e-3) {
        return reject_error(
            fmt::format("the axes of the image are sheared by {:.2g} degrees (a tilted gantry, or a "
                        "registration); resample it to a grid with right angles",
                        std::asin(std::min(1.0, cosine)) * 180 / std::acos(-1.0)));
    }
    return Grid::create(origin, axes, spacing, size);
}

/// Millimetres per unit of the header. The units of time in the higher bits do not matter.
Result<double> millimetres(const Fields& fields) {
    switch (fields.get<std::uint8_t>(kUnits) & 7) {
        case 0:  // not said; everybody means millimetres
        case 2: return 1.0;
        case 1: return 1000.0;
        case 3: return 0.001;
        default: return reject_error("the header names a unit of length that NIfTI does not know");
    }
}

}  // namespace

std::size_t bytes_of(Type type) {
    switch (type) {
        case Type::Uint8:
        case Type::Int8: return 1;
        case Type::Int16:
        case Type::Uint16: return 2;
        case Type::Int32:
        case Type::Uint32:
        case Type::Float32: return 4;
        case Type::Float64:
        case Type::Int64:
        case Type::Uint64: return 8;
    }
    return 0;
}

Result<Header> parse_header(std::span<const std::byte> bytes, std::int64_t min_side, const NiftiLimits& limits) {
    const Result<bool> swapped = byte_order(bytes);
    if (!swapped) return swapped.error();
    const Fields fields(bytes, *swapped);
    const auto type = static_cast<Type>(fields.whole(kDatatype));
    if (bytes_of(type) == 0) {
        return reject_error(
            fmt::format("voxels of the NIfTI type {} (colour, complex numbers or bits) are no CT; save "
                        "the image as int16 or float32",
                        fields.whole(kDatatype)));
    }
    const auto size = size_of(fields, min_side, limits);
    if (!size) return size.error();
    const auto to_mm = millimetres(fields);
    if (!to_mm) return to_mm.error();

    const std::optional<Matrix> sform = sform_of(fields), qform = qform_of(fields);
    if (!sform && !qform) {
        return reject_error(
            "the header does not say where left and right are (sform and qform are unset); convert the "
            "DICOM images again with a converter that writes them");
    }
    auto grid = grid_of(sform ? *sform : *qform, *size, *to_mm, limits);
    if (!grid) return std::move(grid).error();
    Header header{std::move(*grid), type, *swapped, kFirstVoxel, 1, 0, {}};
    if (sform && qform) {
        const double apart = disagreement_mm(*sform, *qform, *size, *to_mm);
        if (!(apart < 1)) {
            header.warnings.push_back(fmt::format(
                "the two orientations of the NIfTI header (sform and qform) are {:.0f} mm apart; the sform is used",
                apart));
        }
    }
    for (std::size_t c = 0; c < 3; ++c) {
        const double said = std::abs(fields.real(kPixdim, c + 1)) * *to_mm;
        if (sform && !(std::abs(said - header.grid.spacing()[c]) < 0.01 * header.grid.spacing()[c])) {
            header.warnings.push_back("the voxel size of the NIfTI header contradicts its affine; the affine is used");
            break;
        }
    }
    const double offset = fields.real(kVoxOffset);
    if (!(offset >= kFirstVoxel && offset <= (1 << 30) && offset == std::floor(offset))) {
        return reject_error("the header is damaged: it does not say where the voxels begin");
    }
    header.first_voxel = static_cast<std::size_t>(offset);
    // A slope of 0 means that there is none, and some writers put NaN for that.
    const double slope = fields.real(kSlope), intercept = fields.real(kIntercept);
    if (std::isfinite(slope) && slope != 0) {
        if (!std::isfinite(intercept)) return reject_error("the header is damaged: scl_inter is not a number");
        header.slope = slope;
        header.intercept = intercept;
    }
    return header;
}

Result<std::array<std::byte, kFirstVoxel>> make_header(const Grid& grid, Type type) {
    std::array<std::byte, kFirstVoxel> bytes{};
    const auto put = [&](std::size_t at, auto value) { std::memcpy(&bytes[at], &value, sizeof value); };
    const auto real = [&](std::size_t at, double value) { put(at, static_cast<float>(value)); };
    put(0, std::int32_t{kHeaderBytes});
    put(kDim, std::int16_t{3});
    for (std::size_t a = 0; a < 7; ++a) {
        const std::int64_t n = a < 3 ? grid.size()[a] : 1;
        if (n > std::numeric_limits<std::int16_t>::max()) {
            return reject_error("NIfTI-1 holds at most 32767 voxels along an axis");
        }
        put(kDim + 2 + 2 * a, static_cast<std::int16_t>(n));
        real(kPixdim + 4 + 4 * a, a < 3 ? grid.spacing()[a] : 1);
    }
    put(kDatatype, type);
    put(kBitpix, static_cast<std::int16_t>(8 * bytes_of(type)));
    real(kVoxOffset, kFirstVoxel);
    real(kSlope, 1);
    put(kUnits, std::uint8_t{2});
    std::memcpy(&bytes[kDescription], "cardionode", 10);
    put(kQformCode, std::int16_t{1});
    put(kSformCode, std::int16_t{1});

    constexpr std::array<double, 3> kLpsToRas = {-1, -1, 1};
    std::array<Vec3, 3> r{};  // r[row][column], rotation in RAS
    for (std::size_t row = 0; row < 3; ++row) {
        for (std::size_t c = 0; c < 3; ++c) {
            r[row][c] = kLpsToRas[row] * grid.axes()[c][row];
            real(kSrow + 16 * row + 4 * c, r[row][c] * grid.spacing()[c]);
        }
        real(kSrow + 16 * row + 12, kLpsToRas[row] * grid.origin().lps_mm[row]);
        real(kQoffset + 4 * row, kLpsToRas[row] * grid.origin().lps_mm[row]);
    }
    // The quaternion is that of a rotation: left-handed axes have their third one turned round, and pixdim[0] says so.
    const bool left_handed = dot(cross(grid.axes()[0], grid.axes()[1]), grid.axes()[2]) < 0;
    real(kPixdim, left_handed ? -1 : 1);
    if (left_handed) {
        for (Vec3& row : r) row[2] = -row[2];
    }
    std::array<double, 4> q{};  // a, b, c, d; from the largest of them, so that nothing is divided by a small number
    const std::array<double, 4> squares = {1 + r[0][0] + r[1][1] + r[2][2], 1 + r[0][0] - r[1][1] - r[2][2],
                                           1 - r[0][0] + r[1][1] - r[2][2], 1 - r[0][0] - r[1][1] + r[2][2]};
    const auto largest = static_cast<std::size_t>(std::max_element(squares.begin(), squares.end()) - squares.begin());
    const double four = 2 * std::sqrt(squares[largest]);  // four times that component
    switch (largest) {
        case 0:
            q = {four / 4, (r[2][1] - r[1][2]) / four, (r[0][2] - r[2][0]) / four, (r[1][0] - r[0][1]) / four};
            break;
        case 1:
            q = {(r[2][1] - r[1][2]) / four, four / 4, (r[0][1] + r[1][0]) / four, (r[0][2] + r[2][0]) / four};
            break;
        case 2:
            q = {(r[0][2] - r[2][0]) / four, (r[0][1] + r[1][0]) / four, four / 4, (r[1][2] + r[2][1]) / four};
            break;
        default: q = {(r[1][0] - r[0][1]) / four, (r[0][2] + r[2][0]) / four, (r[1][2] + r[2][1]) / four, four / 4};
    }
    const double sign = q[0] < 0 ? -1 : 1;
    for (std::size_t n = 0; n < 3; ++n) real(kQuaternion + 4 * n, sign * q[n + 1]);
    std::memcpy(&bytes[kMagic], "n+1", 4);
    return bytes;
}

}  // namespace cardionode::nifti
