// CTs and their labels into study files for training (models/train/study_file.h): `cardionode train prepare`, and the
// federated client's local data.
//
// An input is a DICOM folder of one study, a folder with ct.nii.gz (or ct.nii), or a NIfTI file. In such a folder
// <head>.nii.gz are labels on any grid of the same patient; points come from phantom.json (as `cardionode phantom`
// writes it) or points.json of the same form, and from hps.mps and ms.mps (MITK point sets of the FedKD paper's
// folders, world LPS mm: hinge points right, left, non-coronary, ostia right, left; septum upper, lower). Points become
// balls of the recipe's radius and take the place of a label map of the same head. The CT is read and brought to the
// network's grid by the pipeline's own code. Thread safety: free functions without state.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/train/recipe.h"
#include "models/train/study_file.h"
#include "pipeline/read/read_study.h"

namespace cardionode {

struct PrepareOptions {
    std::filesystem::path recipe, out;
    std::vector<std::filesystem::path> inputs;
    std::string patient;  ///< for NIfTI: whose images these are; empty: each input's folder is a patient of its own
    bool half = false;    ///< images as float16
    std::function<void(std::string)> print;  ///< a line for people
};

/// Each input becomes OUT/<study hash>.safetensors. Inputs that fail do not keep the others from being written.
/// Reject: at least one input failed (each was printed with its reason). Config: the recipe, the folder.
Result<void> prepare_studies(const PrepareOptions& options);

/// One input, not yet written. @param remarks  what a person should know: labels that were left out, and why
Result<train::Study> prepare_study(const std::filesystem::path& input, const train::Recipe& recipe,
                                   const std::string& patient, std::vector<std::string>& remarks,
                                   const ReadLimits& limits = {});

/// A point of a head, to become a ball.
struct LabelPoint {
    int value = 0;
    PatientPoint at;
};

/// What is known about a CT, in the patient's place; a head in neither has no label.
struct StudyLabels {
    std::map<std::string, LabelMap> maps;  ///< on any grid
    /// By head; one with no point is labelled all the same: nothing of it is there. Comes before a map of that head.
    std::map<std::string, std::vector<LabelPoint>> points;
};

/// From a CT in Hounsfield units; the heads are the recipe's. Reject: a label that the recipe has no class for.
Result<train::Study> make_study(const Volume& ct_hu, const train::Recipe& recipe, const StudyLabels& labels,
                                const std::string& patient_hash, const std::string& source);

/// The points of a MITK point set, in their order. Reject: no point set.
Result<std::vector<PatientPoint>> read_mps(const std::filesystem::path& file);

}  // namespace cardionode
