#include "pipeline/read/dicom_file.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcfilefo.h>
#include <dcmtk/dcmdata/dcistrmb.h>
#include <dcmtk/dcmdata/dcmetinf.h>
#include <dcmtk/dcmdata/dcuid.h>
#include <dcmtk/oflog/oflog.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <vector>

#include "conf/base/files.h"
#include "scp/dicom/scan.h"
#include "scp/dicom/syntaxes.h"

namespace cardionode {

namespace {

constexpr std::size_t kPreamble = 128 + 4;
constexpr std::size_t kMaxMeta = 64 << 10;
constexpr std::uint64_t kMaxElements = 1'000'000;  // an Enhanced CT of 4000 frames has some 300,000

struct Meta {
    std::string transfer_syntax_uid;
    std::size_t data_offset = 0;
};

std::uint32_t little_endian(const unsigned char* p, int bytes) {
    std::uint32_t v = 0;
    for (int b = bytes - 1; b >= 0; --b) v = v << 8 | p[b];
    return v;
}

/// The file meta information (PS3.10 7.1): always explicit little endian, group 0002, no sequences.
Result<Meta> parse_meta(std::span<const unsigned char> start) {
    if (start.size() < kPreamble || std::memcmp(start.data() + 128, "DICM", 4) != 0) {
        return reject_error("not a DICOM file (no Part 10 header)");
    }
    Meta meta;
    std::size_t at = kPreamble;
    while (at + 8 <= start.size() && little_endian(start.data() + at, 2) == 0x0002) {
        const std::uint32_t element = little_endian(start.data() + at + 2, 2);
        const std::string vr(reinterpret_cast<const char*>(start.data() + at + 4), 2);
        const bool long_form = vr == "OB" || vr == "OW" || vr == "UN" || vr == "UT" || vr == "SQ";
        if (vr == "SQ") return reject_error("damaged DICOM file (a sequence in the file header)");
        std::size_t value = at + 8;
        std::size_t length = little_endian(start.data() + at + 6, 2);
        if (long_form) {
            if (at + 12 > start.size()) break;
            length = little_endian(start.data() + at + 8, 4);
            value = at + 12;
        }
        if (length > start.size() - std::min(value, start.size())) {
            return reject_error("damaged DICOM file (the file header is cut off)");
        }
        if (element == 0x0010) {
            meta.transfer_syntax_uid.assign(reinterpret_cast<const char*>(start.data() + value), length);
            while (!meta.transfer_syntax_uid.empty() &&
                   (meta.transfer_syntax_uid.back() == '\0' || meta.transfer_syntax_uid.back() == ' ')) {
                meta.transfer_syntax_uid.pop_back();
            }
        }
        at = value + length;
    }
    meta.data_offset = at;
    if (meta.transfer_syntax_uid.empty()) return reject_error("damaged DICOM file (no transfer syntax in its header)");
    return meta;
}

/// Every byte of the data set through `take`, 1 MiB at a time.
template <class Take>
Result<void> for_each_piece(int fd, std::size_t offset, const std::filesystem::path& file, const Take& take) {
    std::vector<unsigned char> piece(1 << 20);
    auto at = static_cast<off_t>(offset);
    while (true) {
        const ssize_t n = ::pread(fd, piece.data(), piece.size(), at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_error("reading", file.filename(), errno);
        if (n == 0) return {};
        Result<void> taken = take(std::span<unsigned char>(piece.data(), static_cast<std::size_t>(n)));
        if (!taken) return taken;
        at += n;
    }
}

/// A raw deflate stream (PS3.5 A.5) of at most `limit` bytes when inflated.
Result<std::vector<unsigned char>> inflate_bounded(int fd, std::size_t offset, const std::filesystem::path& file,
                                                   std::size_t limit) {
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return retry_error("no memory for inflating a deflated file");
    struct End {
        z_stream* s;
        ~End() { inflateEnd(s); }
    } end{&stream};
    std::vector<unsigned char> out;
    std::vector<unsigned char> piece(1 << 20);
    int state = Z_OK;
    Result<void> fed = for_each_piece(fd, offset, file, [&](std::span<unsigned char> in) -> Result<void> {
        stream.next_in = in.data();
        stream.avail_in = static_cast<uInt>(in.size());
        while (stream.avail_in > 0 && state == Z_OK) {
            stream.next_out = piece.data();
            stream.avail_out = static_cast<uInt>(piece.size());
            state = inflate(&stream, Z_NO_FLUSH);
            const std::size_t n = piece.size() - stream.avail_out;
            if (out.size() + n > limit) return reject_error("a deflated file grows beyond every sensible size");
            out.insert(out.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(n));
            if (state == Z_BUF_ERROR && n == 0) return reject_error("a deflated file is damaged");
        }
        if (state != Z_OK && state != Z_STREAM_END) return reject_error("a deflated file is damaged");
        return {};
    });
    if (!fed) return std::move(fed).error();
    if (state != Z_STREAM_END) return reject_error("a deflated file is cut off");
    return out;
}

}  // namespace

struct DicomFile::State {
    DcmFileFormat format;
    std::string transfer_syntax_uid;
};

DicomFile::DicomFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
DicomFile::DicomFile(DicomFile&&) noexcept = default;
DicomFile& DicomFile::operator=(DicomFile&&) noexcept = default;
DicomFile::~DicomFile() = default;
DcmDataset& DicomFile::dataset() { return *state_->format.getDataset(); }
const std::string& DicomFile::transfer_syntax_uid() const { return state_->transfer_syntax_uid; }

Result<DicomFile> DicomFile::open(const std::filesystem::path& file, Part part, std::uintmax_t max_file_bytes) {
    const FileDescriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
        // A file that the queue knows and the disk does not have may come back with its mount: never a reason to
        // refuse the study for good.
        return retry_error("cannot open a received file: " + std::string(std::strerror(errno)));
    }
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return file_error("reading", file.filename(), errno);
    if (!S_ISREG(info.st_mode)) return reject_error("not a regular file");
    const auto bytes = static_cast<std::uintmax_t>(info.st_size);
    if (bytes > max_file_bytes) return reject_error("the file is larger than this node reads");

    std::vector<unsigned char> start(std::min<std::uintmax_t>(bytes, kMaxMeta));
    for (std::size_t have = 0; have < start.size();) {
        const ssize_t n = ::pread(fd.get(), start.data() + have, start.size() - have, static_cast<off_t>(have));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return file_error("reading", file.filename(), n < 0 ? errno : EIO);
        have += static_cast<std::size_t>(n);
    }
    Result<Meta> meta = parse_meta(start);
    if (!meta) return std::move(meta).error();
    const TransferSyntax* syntax = find_transfer_syntax(meta->transfer_syntax_uid);
    if (syntax == nullptr) return reject_error("the images are encoded in a way that this node does not read");

    const std::uintmax_t may_grow_to = std::min<std::uintmax_t>(max_file_bytes, (64U << 20) + 20 * bytes);
    ScanLimits limits;
    limits.max_elements = kMaxElements;
    limits.max_bytes = syntax->encoding == Encoding::Deflated ? may_grow_to : max_file_bytes;
    DataSetScanner scanner(*syntax, limits);
    Result<void> scanned = for_each_piece(fd.get(), meta->data_offset, file, [&](std::span<unsigned char> piece) {
        return scanner.feed(std::as_bytes(piece));
    });
    if (!scanned) return std::move(scanned).error();
    if (Result<DataSetFacts> facts = scanner.finish(); !facts) return std::move(facts).error();

    // DCMTK's own log quotes values of the data set, names of patients among them: it is silent in this process.
    static std::once_flag silenced;
    std::call_once(silenced, [] { OFLog::configure(OFLogger::OFF_LOG_LEVEL); });

    auto state = std::make_unique<State>();
    state->transfer_syntax_uid = meta->transfer_syntax_uid;
    OFCondition read;
    try {
        if (syntax->encoding == Encoding::Deflated) {
            Result<std::vector<unsigned char>> plain = inflate_bounded(fd.get(), meta->data_offset, file, may_grow_to);
            if (!plain) return std::move(plain).error();
            DcmInputBufferStream stream;
            stream.setBuffer(plain->data(), static_cast<offile_off_t>(plain->size()));
            stream.setEos();
            DcmDataset& dataset = *state->format.getDataset();
            dataset.transferInit();
            read = part == Part::Header ? dataset.readUntilTag(stream, EXS_LittleEndianExplicit, EGL_noChange,
                                                               DCM_MaxReadLength, DCM_PixelData)
                                        : dataset.read(stream, EXS_LittleEndianExplicit);
            dataset.transferEnd();
            dataset.loadAllDataIntoMemory();
        } else {
            read = part == Part::Header ? state->format.loadFileUntilTag(file.c_str(), EXS_Unknown, EGL_noChange,
                                                                         DCM_MaxReadLength, ERM_fileOnly, DCM_PixelData)
                                        : state->format.loadFile(file.c_str(), EXS_Unknown, EGL_noChange,
                                                                 DCM_MaxReadLength, ERM_fileOnly);
        }
    } catch (const std::bad_alloc&) {
        return retry_error("no memory for reading a file");
    } catch (const std::exception&) {
        return reject_error("damaged DICOM file");
    }
    // DCMTK answers "stopped at the tag" with a condition of its own where nothing follows.
    if (read.bad()) return reject_error(std::string("damaged DICOM file (") + read.text() + ")");
    return DicomFile(std::move(state));
}

}  // namespace cardionode
