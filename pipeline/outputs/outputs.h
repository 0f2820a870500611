// What goes back to the PACS: SEG, SR and key images of one study, as DICOM Part 10 files in the work folder.
//
//   one BINARY SEG per structure group    seg.h
//   one SR with landmarks and measurements, one SR with the volumes of the segments    sr.h
//   one series of secondary-capture key images, and overview.png for people    key_images.h
//
// A run that is repeated (same study, revision, model and moment) writes the same bytes under the same UIDs, so that a
// PACS never holds two results of one run. Everything is written durably before the call returns.
// Thread safety: safe for different studies at once. No queue, no network, no torch.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/time.h"
#include "pipeline/read/ct_series.h"
#include "pipeline/volume/findings.h"
#include "scp/queue/queue.h"

namespace cardionode {

struct OutputRequest {
    std::filesystem::path work_folder;  ///< files go to work_folder/<study_key>/r<revision>/
    std::string study_key;              ///< [A-Za-z0-9_-]+: becomes a folder name
    int revision = 1;                   ///< >= 1; outputs of a later one say which they replace
    OutputSettings settings;
    std::string software_version;  ///< of this program: "0.1.0"
    std::string device_name;       ///< what the node calls itself in the SR: its AE title; empty: "CARDIONODE"
    Moment moment{};               ///< content time: when the study's revision became ready, so that a repeat is stable
};

struct WrittenOutputs {
    std::vector<OutputFile> files;   ///< to be sent, in this order (SEG before the SR that refers to it);
                                     ///< OutputFile::file is relative to work_folder
    std::filesystem::path overview;  ///< PNG for people, relative to work_folder; never sent
    std::vector<std::string> notes;  ///< for people: "valve_calcium: nothing found, no SEG written"
};

/// Writes all outputs. Files of an earlier run of the same revision are replaced, each atomically.
/// Reject: the source has no frame of reference or no study UID, or one of its files cannot be read any more.
/// Retry: disk full or I/O error. Config: the work folder cannot be written.
/// Bug: findings that contradict themselves (label map on another grid, label without segment, no study key).
Result<WrittenOutputs> write_outputs(const CtSeries& source, const Findings& findings, const OutputRequest& request);

/// The overview picture alone, as a PNG file; for any volume: only source.volume is looked at. Errors as
/// write_file_durably.
Result<void> write_overview_png(const CtSeries& source, const Findings& findings, const std::filesystem::path& file);

}  // namespace cardionode
