// Labels that people gave: radiologists' SEG and SR of a study become label maps and points of a bundle's heads.
//
// What counts: an object that a person drew or corrected (pipeline/read/annotation.h), or that refers to one of the
// node's own outputs and is none itself: a correction. What the node or another program computed by itself does not.
// A head gets a label only when every class of it is marked: a structure that nobody drew must not be learned as
// absent. Classes are found by their code, else by their name. Of several objects the newest wins, object by object.
// Thread safety: pure functions on files. Errors: Retry where a file cannot be read for the moment; what is damaged or
// does not fit is left out with a remark.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/prepare/prepare_study.h"
#include "pipeline/read/ct_series.h"
#include "pipeline/read/read_study.h"

namespace cardionode {

/// Where the label of a head comes from. Nothing of it names a person or a patient.
struct LabelOrigin {
    std::string head;
    std::string kind;  ///< SEG | SR
    std::string sop_class_uid;
    std::string author;    ///< person | correction
    std::string software;  ///< manufacturer and model
    std::string made_at;   ///< "20261121204311" as the object says
};

struct PeopleLabels {
    StudyLabels labels;
    std::vector<LabelOrigin> origins;  ///< one a head
    std::vector<std::string> remarks;  ///< for people: what was left out, and why
};

/// @param files  of the study, of any class; @param own_outputs  SOP Instance UIDs that the node made itself
Result<PeopleLabels> read_people_labels(const std::vector<StudyFile>& files, const CtSeries& ct,
                                        const std::vector<HeadManifest>& heads,
                                        const std::set<std::string>& own_outputs, const ReadLimits& limits = {});

}  // namespace cardionode
