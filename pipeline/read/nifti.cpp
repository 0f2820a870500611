#include "pipeline/read/nifti.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "pipeline/read/nifti_header.h"

namespace cardionode {
namespace {

// Fields and voxels are written as they lie in memory.
static_assert(std::endian::native == std::endian::little);

struct CloseGzip {
    void operator()(gzFile file) const noexcept { gzclose(file); }
};
using GzipFile = std::unique_ptr<gzFile_s, CloseGzip>;

/// Bytes of a file, compressed or not, as zlib gives them.
class Bytes {
public:
    static Result<Bytes> open(const std::filesystem::path& file) {
        std::error_code no_matter;
        if (std::filesystem::is_directory(file, no_matter)) return reject_error("this is a folder, not a NIfTI file");
        errno = 0;
        GzipFile opened(gzopen(file.c_str(), "rbe"));
        if (!opened) return file_error("reading", file, errno != 0 ? errno : ENOMEM);
        gzbuffer(opened.get(), 1U << 18);
        return Bytes(std::move(opened));
    }

    /// @return how many bytes came; fewer than asked for: the end. Reject: damaged or cut off. Retry: cannot be read.
    Result<std::size_t> read(std::span<std::byte> into) {
        std::size_t done = 0;
        while (done < into.size()) {
            const auto want = static_cast<unsigned>(std::min<std::size_t>(into.size() - done, 1U << 30));
            const int got = gzread(file_.get(), &into[done], want);
            if (got < 0) return failure();
            done += static_cast<std::size_t>(got);
            if (static_cast<unsigned>(got) < want) {
                int code = Z_OK;
                gzerror(file_.get(), &code);
                if (code == Z_BUF_ERROR) return cut_off();
                if (code != Z_OK && code != Z_STREAM_END) return failure();
                break;
            }
        }
        return done;
    }
    /// Reads on to the end, where the checksum of a compressed file is verified. What follows the voxels is left out,
    /// and is not followed for ever.
    Result<void> to_the_end() {
        std::vector<std::byte> rest(1U << 16);
        for (int pieces = 0; pieces < 1024; ++pieces) {
            const auto got = read(rest);
            if (!got) return got.error();
            if (*got < rest.size()) return {};
        }
        return reject_error("the file holds far more than its header says; export it again");
    }
    static Error cut_off() { return reject_error("the file ends before its voxels do: it was cut off; copy it again"); }

private:
    explicit Bytes(GzipFile file) : file_(std::move(file)) {}
    Error failure() const {
        int code = Z_OK;
        gzerror(file_.get(), &code);
        if (code == Z_ERRNO) return retry_error(std::string("the file cannot be read: ") + std::strerror(errno));
        if (code == Z_MEM_ERROR) return retry_error("no memory to read the file");
        return reject_error("the compressed data is damaged; copy the file again");
    }
    GzipFile file_;
};

template <class Stored>
void convert(std::span<const std::byte> raw, bool swapped, double slope, double intercept, float* into) {
    for (std::size_t n = 0; n < raw.size() / sizeof(Stored); ++n) {
        std::array<std::byte, sizeof(Stored)> bytes;
        std::memcpy(bytes.data(), &raw[n * sizeof(Stored)], sizeof(Stored));
        if (swapped) std::reverse(bytes.begin(), bytes.end());
        Stored value;
        std::memcpy(&value, bytes.data(), sizeof(Stored));
        into[n] = static_cast<float>(static_cast<double>(value) * slope + intercept);
    }
}

void convert(const nifti::Header& header, std::span<const std::byte> raw, float* into) {
    const auto as = [&]<class Stored>(Stored) {
        convert<Stored>(raw, header.swapped, header.slope, header.intercept, into);
    };
    switch (header.type) {
        case nifti::Type::Uint8: return as(std::uint8_t{});
        case nifti::Type::Int8: return as(std::int8_t{});
        case nifti::Type::Uint16: return as(std::uint16_t{});
        case nifti::Type::Int16: return as(std::int16_t{});
        case nifti::Type::Uint32: return as(std::uint32_t{});
        case nifti::Type::Int32: return as(std::int32_t{});
        case nifti::Type::Uint64: return as(std::uint64_t{});
        case nifti::Type::Int64: return as(std::int64_t{});
        case nifti::Type::Float32: return as(float{});
        case nifti::Type::Float64: return as(double{});
    }
}

struct Opened {
    nifti::Header header;
    Bytes bytes;  ///< stands at the first voxel
};

Result<Opened> open_nifti(const std::filesystem::path& file, std::int64_t min_side, const NiftiLimits& limits) {
    auto bytes = Bytes::open(file);
    if (!bytes) return std::move(bytes).error();
    std::array<std::byte, nifti::kHeaderBytes> raw{};
    const auto got = bytes->read(raw);
    if (!got) return got.error();
    auto header = nifti::parse_header(std::span(raw).first(*got), min_side, limits);
    if (!header) return std::move(header).error();
    std::vector<std::byte> extension(header->first_voxel - nifti::kHeaderBytes);
    const auto skipped = bytes->read(extension);
    if (!skipped) return skipped.error();
    if (*skipped < extension.size()) return Bytes::cut_off();
    return Opened{std::move(*header), std::move(*bytes)};
}

/// Calls use(first, values) for pieces of at most 256k voxels in the file's order.
template <class Use>
Result<void> for_each_piece(Opened& opened, const Use& use) {
    constexpr std::int64_t kPiece = 1 << 18;
    const std::int64_t count = opened.header.grid.voxel_count();
    const std::size_t size = nifti::bytes_of(opened.header.type);
    std::vector<std::byte> raw(static_cast<std::size_t>(std::min(kPiece, count)) * size);
    std::vector<float> values(raw.size() / size);
    for (std::int64_t first = 0; first < count; first += kPiece) {
        const auto n = static_cast<std::size_t>(std::min(kPiece, count - first));
        const auto got = opened.bytes.read(std::span(raw).first(n * size));
        if (!got) return got.error();
        if (*got < n * size) return Bytes::cut_off();
        convert(opened.header, std::span(raw).first(n * size), values.data());
        if (Result<void> used = use(first, std::span<const float>(values).first(n)); !used) return used;
    }
    return opened.bytes.to_the_end();
}

/// What hints at values that are no Hounsfield units: air around or in a patient has -1000, bone more than 200.
std::optional<std::string> unlike_ct(float low, float high) {
    if (low < -200 && high > 200) return std::nullopt;
    std::string hint = "the values were not made from a CT, or were rescaled";
    if (low >= 0 && high > 1200) hint = "they may be stored with 1024 added";
    return fmt::format(
        "the voxels have values from {:.4g} to {:.4g}, which do not look like Hounsfield units of a "
        "chest ({}); nothing found in them can be relied on",
        low, high, hint);
}

/// Compresses (or copies) bytes that come in pieces.
class Packer {
public:
    static Result<Packer> create(bool compress) {
        Packer packer;
        if (!compress) return packer;
        packer.stream_.reset(new (std::nothrow) z_stream{});
        // Level 4: label maps and CTs pack nearly as well as with 6, in a third of the time. 16: a gzip header.
        if (!packer.stream_ ||
            deflateInit2(packer.stream_.get(), 4, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            return retry_error("no memory to compress");
        return packer;
    }
    void add(std::span<const std::byte> bytes) {
        if (stream_) deflate_all(bytes, Z_NO_FLUSH);
        else packed_.insert(packed_.end(), bytes.begin(), bytes.end());
    }
    std::vector<std::byte> finish() && {
        if (stream_) deflate_all({}, Z_FINISH);
        return std::move(packed_);
    }

private:
    struct End {
        void operator()(z_stream* stream) const noexcept {
            deflateEnd(stream);
            delete stream;
        }
    };
    void deflate_all(std::span<const std::byte> bytes, int flush) {
        // zlib's interface asks for a pointer to non-const, and does not write there.
        stream_->next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
        stream_->avail_in = static_cast<uInt>(bytes.size());
        do {
            stream_->next_out = reinterpret_cast<Bytef*>(out_.data());
            stream_->avail_out = static_cast<uInt>(out_.size());
            deflate(stream_.get(), flush);
            packed_.insert(packed_.end(), out_.begin(), out_.end() - stream_->avail_out);
        } while (stream_->avail_out == 0);
    }
    std::unique_ptr<z_stream, End> stream_;
    std::vector<std::byte> out_ = std::vector<std::byte>(1U << 16);
    std::vector<std::byte> packed_;
};

template <class Stored, class Voxel>
Result<void> write_as(nifti::Type type, const GridArray<Voxel>& array, const std::filesystem::path& file) try {
    const auto header = nifti::make_header(array.grid, type);
    if (!header) return header.error();
    auto packer = Packer::create(file.extension() == ".gz");
    if (!packer) return packer.error();
    packer->add(*header);
    constexpr std::size_t kPiece = 1 << 18;
    std::vector<Stored> piece;
    for (std::size_t first = 0; first < array.voxels.size(); first += kPiece) {
        const auto begin = array.voxels.begin() + static_cast<std::ptrdiff_t>(first);
        const auto n = std::min(kPiece, array.voxels.size() - first);
        piece.assign(begin, begin + static_cast<std::ptrdiff_t>(n));
        packer->add(std::as_bytes(std::span(piece)));
    }
    return write_file_durably(file, std::move(*packer).finish());
} catch (const std::bad_alloc&) {
    return retry_error("no memory to write a NIfTI file");
}

bool fits_int16(const Volume& volume) {
    return std::all_of(volume.voxels.begin(), volume.voxels.end(), [](float v) {
        return v >= std::numeric_limits<std::int16_t>::min() && v <= std::numeric_limits<std::int16_t>::max() &&
               v == std::floor(v);
    });
}

}  // namespace

Result<Volume> read_nifti_ct(const std::filesystem::path& file, std::vector<std::string>* warnings,
                             const NiftiLimits& limits) try {
    auto opened = open_nifti(file, 2, limits);
    if (!opened) return std::move(opened).error();
    // Memory is touched as the data comes, not as the header promises.
    std::vector<float> voxels;
    std::int64_t not_numbers = 0;
    float low = std::numeric_limits<float>::max(), high = std::numeric_limits<float>::lowest();
    Result<void> read = for_each_piece(*opened, [&](std::int64_t, std::span<const float> values) -> Result<void> {
        for (const float v : values) {
            if (!std::isfinite(v)) ++not_numbers;
            low = std::min(low, v);
            high = std::max(high, v);
        }
        if (voxels.empty()) voxels.reserve(static_cast<std::size_t>(opened->header.grid.voxel_count()));
        voxels.insert(voxels.end(), values.begin(), values.end());
        return {};
    });
    if (!read) return std::move(read).error();
    if (not_numbers > 0) {
        return reject_error(
            fmt::format("{} voxels hold no number (NaN or infinite); fill them with the value of air, "
                        "-1024",
                        not_numbers));
    }
    if (low == high) return reject_error(fmt::format("every voxel has the value {:.4g}: there is no image", low));
    if (warnings != nullptr) {
        warnings->insert(warnings->end(), opened->header.warnings.begin(), opened->header.warnings.end());
        if (auto warning = unlike_ct(low, high)) warnings->push_back(std::move(*warning));
    }
    return Volume(std::move(opened->header.grid), std::move(voxels));
} catch (const std::bad_alloc&) {
    return retry_error("no memory for the voxels of the file");
}

Result<LabelMap> read_nifti_labels(const std::filesystem::path& file, const NiftiLimits& limits) try {
    auto opened = open_nifti(file, 1, limits);
    if (!opened) return std::move(opened).error();
    std::vector<std::uint8_t> labels;
    Result<void> read = for_each_piece(*opened, [&](std::int64_t, std::span<const float> values) -> Result<void> {
        for (const float v : values) {
            if (!(v >= 0 && v <= 255 && v == std::floor(v))) {
                return reject_error(
                    fmt::format("a label map holds whole numbers from 0 to 255, and this file the "
                                "value {:.4g}; is it an image or a probability map?",
                                v));
            }
            labels.push_back(static_cast<std::uint8_t>(v));
        }
        return {};
    });
    if (!read) return std::move(read).error();
    return LabelMap(std::move(opened->header.grid), std::move(labels));
} catch (const std::bad_alloc&) {
    return retry_error("no memory for the labels of the file");
}

Result<void> write_nifti(const Volume& volume, const std::filesystem::path& file) {
    if (fits_int16(volume)) return write_as<std::int16_t>(nifti::Type::Int16, volume, file);
    return write_as<float>(nifti::Type::Float32, volume, file);
}

Result<void> write_nifti(const LabelMap& labels, const std::filesystem::path& file) {
    return write_as<std::uint8_t>(nifti::Type::Uint8, labels, file);
}

}  // namespace cardionode
