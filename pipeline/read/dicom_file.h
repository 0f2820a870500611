// Opening a Part 10 file with every limit in place before DCMTK sees it. Only for .cpp files of this folder: the
// caller includes DCMTK's headers itself.
//
// Limits: size of the file; depth and lengths of its structure; the size a deflated data set may grow to (64 MiB and
// 20 times the file, far above what any CT needs), so that a small file cannot fill the memory.
// Thread safety: one object belongs to one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "conf/base/result.h"

class DcmDataset;

namespace cardionode {

/// Why images in a transfer syntax without a decoder here are refused, and what to do about it.
std::string cannot_decode(const std::string& transfer_syntax_uid);

class DicomFile {
public:
    enum class Part { Header, Whole };  ///< Header: up to, and without, the pixel data

    /// Reject: not Part 10, damaged or beyond a limit. Retry: cannot be read for the moment.
    static Result<DicomFile> open(const std::filesystem::path& file, Part part, std::uintmax_t max_file_bytes);
    DicomFile(DicomFile&&) noexcept;
    DicomFile& operator=(DicomFile&&) noexcept;
    ~DicomFile();

    DcmDataset& dataset();  ///< lives as long as this object
    const std::string& transfer_syntax_uid() const;

private:
    struct State;
    explicit DicomFile(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
