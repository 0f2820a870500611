#include "pipeline/read/dicom_file.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcfilefo.h>
#include <dcmtk/dcmdata/dcistrmb.h>
#include <dcmtk/dcmdata/dcmetinf.h>
#include <dcmtk/dcmdata/dcuid.h>
#include <dcmtk/oflog/oflog.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <vector>

#include "conf/base/files.h"
#include "scp/dicom/part10.h"
#include "scp/dicom/scan.h"
#include "scp/dicom/syntaxes.h"
#include "scp/dicom/uid.h"

namespace cardionode {

namespace {

constexpr std::uint64_t kMaxElements = 1'000'000;  // an Enhanced CT of 4000 frames has some 300,000

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

std::string cannot_decode(const std::string& uid) {
    std::string name = find_transfer_syntax(uid) ? std::string(find_transfer_syntax(uid)->name) : std::string();
    if (uid.starts_with("1.2.840.10008.1.2.4.20")) name = "High-Throughput JPEG 2000";
    return fmt::format(
        "the images are in the transfer syntax {}{}, which this node does not decode: send them uncompressed, or as "
        "JPEG, JPEG-LS, JPEG 2000 or RLE",
        is_valid_uid(uid) ? uid : "(not a UID)", name.empty() ? "" : " (" + name + ")");
}

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

    std::vector<std::byte> start(std::min<std::uintmax_t>(bytes, kMaxFileMetaBytes));
    for (std::size_t have = 0; have < start.size();) {
        const ssize_t n = ::pread(fd.get(), start.data() + have, start.size() - have, static_cast<off_t>(have));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return file_error("reading", file.filename(), n < 0 ? errno : EIO);
        have += static_cast<std::size_t>(n);
    }
    Result<ParsedFileMeta> meta = parse_file_meta(start);
    if (!meta) return std::move(meta).error();
    const TransferSyntax* syntax = find_transfer_syntax(meta->meta.transfer_syntax_uid);
    if (syntax == nullptr) return reject_error(cannot_decode(meta->meta.transfer_syntax_uid));

    const std::uintmax_t may_grow_to = std::min<std::uintmax_t>(max_file_bytes, (64U << 20) + 20 * bytes);
    ScanLimits limits;
    limits.max_elements = kMaxElements;
    limits.max_bytes = syntax->encoding == Encoding::Deflated ? may_grow_to : max_file_bytes;
    DataSetScanner scanner(*syntax, limits);
    Result<void> scanned = for_each_piece(fd.get(), meta->data_set_offset, file, [&](std::span<unsigned char> piece) {
        return scanner.feed(std::as_bytes(piece));
    });
    if (!scanned) return std::move(scanned).error();
    if (Result<DataSetFacts> facts = scanner.finish(); !facts) return std::move(facts).error();

    // DCMTK's own log quotes values of the data set, names of patients among them: it is silent in this process.
    static std::once_flag silenced;
    std::call_once(silenced, [] { OFLog::configure(OFLogger::OFF_LOG_LEVEL); });

    auto state = std::make_unique<State>();
    state->transfer_syntax_uid = meta->meta.transfer_syntax_uid;
    OFCondition read;
    try {
        if (syntax->encoding == Encoding::Deflated) {
            Result<std::vector<unsigned char>> plain =
                inflate_bounded(fd.get(), meta->data_set_offset, file, may_grow_to);
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
