// `cardionode predict`: from images to a report in one command, without queue, settings or network.
//
// The same stages as the node, on a DICOM folder or a NIfTI file. Results in the folder:
//   report.html                  one page for people, prints on one sheet of A4
//   overview.png                 all cuts in one picture
//   landmarks.json               every point: found or why not, where, how sure
//   measurements.json, .csv      every number with what it rests on, or why there is none
//   hps.mps, ms.mps              MITK point sets, whole sets only
//   heart.nii.gz, ...            a label map for each group of structures, on the grid of the images
//   dicom/                       SEG, SR and key images, where the images are DICOM
//   run.json                     what was run on what; without paths and without identity
// No patient identity in any but the DICOM objects, unless it was asked for (then in report.html).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "conf/command/predict_input.h"
#include "pipeline/runner/looks.h"

namespace cardionode {

struct PredictOptions {
    std::filesystem::path input, output;
    std::filesystem::path bundle;              ///< empty: the shipped one
    std::string device = "auto";               ///< as DeviceChoice::device
    int threads = 0;                           ///< 0: all cores
    std::optional<Augmentation> augmentation;  ///< none: as a node does, Shift where the bundle has a second look
    bool overwrite = false;                    ///< replace the results of an earlier run
    bool with_identity = false;                ///< patient's name and ID in the report
    InputChoice choice;
    std::function<bool()> stop = [] { return false; };  ///< asked again and again; true: end, leave nothing
    /// Progress for people: what is being done, and how far; total 0 where that is not known.
    std::function<void(const std::string& doing, int done, int total)> show = [](const std::string&, int, int) {};
};

/// @return the summary for standard output. Errors: of read_input, load_bundle, Predictor, analyse, ResultFolder; on
/// any of them, nothing is left and what was there before is as it was.
Result<std::string> run_predict(const PredictOptions& options);

}  // namespace cardionode
