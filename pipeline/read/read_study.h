// From the files of one study to one CT volume in Hounsfield units: which series, which order, and is it usable.
//
// Slices are ordered by their position along the normal (row axis x column axis), never by InstanceNumber. A series
// that holds several volumes (cardiac phases, reconstructions) is taken apart first. Every volume of the study is then
// judged by the rules of SeriesSettings, and the best usable one is read.
// Every reason is written for the people at the scanner: "slices are 8.0 mm thick; at most 3.0 mm are useful for
// these measurements". No message holds a UID or a name.
// Thread safety: free functions, no shared state; two calls may run at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "pipeline/read/ct_series.h"

namespace cardionode {

/// One received Part 10 file. Only `file` must be there; an empty class is looked up in the file.
struct StudyFile {
    std::filesystem::path file;
    std::string sop_class_uid;
    std::string modality;
};

/// Called after each file and each slice with done and total; returning false cancels.
using ReadProgress = std::function<bool(int done, int total)>;

struct ReadLimits {
    std::int64_t max_voxels = 768'000'000;  ///< of the volume, checked before any of it is allocated (4 bytes each)
    std::uintmax_t max_file_bytes =
        2ull << 30;                  ///< a larger file is not opened; also the most a deflated one may grow to
    int frame_timeout_seconds = 60;  ///< wall clock for one compressed frame
    std::filesystem::path decoder;   ///< cardionode-decode; empty: beside the running program
};

/// Reads the best CT volume of a study.
/// Reject: no CT, no usable series (one message with a line per series), pixels that cannot be decoded.
/// Retry: a file cannot be read for the moment, the decoder was killed from outside or gave no answer, cancelled by
/// `progress`. Config: cardionode-decode is missing although a series is compressed.
Result<CtSeries> read_study(std::span<const StudyFile> files, const SeriesSettings& settings,
                            const ReadLimits& limits = {}, const ReadProgress& progress = {});

}  // namespace cardionode
