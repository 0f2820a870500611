// The node's own finished studies as study files for training, in <state>/studies/<model id>/.
//
//   S00AM.safetensors   models/train/study_file.h: image and label maps; nothing in it names a patient
//   S00AM.json          what it was made from, which labels it has and where they come from; also of a study that is
//                       of no use, with the reason, so that it is not read each night
// A study is made anew when its images or annotations changed, or the recipe's input or the bundle's heads. The newest
// stay within the bounds of the settings; older ones go. Study files outlive the node's copy of the images. A patient
// is on the side of training or of the hold-out by a hash (models/train/study_source.h), whatever else comes and goes.
// A process that dies leaves whole files. Thread safety: one call a state folder (the client's lock).
// Errors: Retry (queue busy, disk full), Config (recipe, bundle, folders). A study that cannot be used is none.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/round/settings.h"

namespace cardionode::fed {

struct LocalDataHooks {
    std::function<bool()> stop;         ///< asked before each study; true: leave it at what is there
    std::function<bool()> clinic_busy;  ///< while true no study is begun
    std::function<void(Milliseconds)> pause;
    std::function<void(std::string)> print;  ///< a line for people; study keys, no UIDs
    std::filesystem::path decoder;           ///< cardionode-decode; empty: beside the program
};

struct LocalDataReport {
    std::int64_t studies = 0, patients = 0, held_out = 0;  ///< usable; held_out: studies
    std::map<std::string, std::int64_t> labelled;          ///< head -> studies
    std::int64_t made = 0, removed = 0, of_no_use = 0;
    std::int64_t bytes = 0;
};

Result<LocalDataReport> refresh_local_data(const FederatedNode& settings, const ModelSettings& model,
                                           const LocalDataHooks& hooks, const Clock& clock = system_clock());
/// What is there, without a look at the queue.
Result<LocalDataReport> local_data(const FederatedSettings& settings, const ModelSettings& model);
/// "42 studies of 31 patients (9 held out), labels: heart 12, hps 8; 3 made, 1 removed, 4.1 GiB"
std::string in_words(const LocalDataReport& report);

}  // namespace cardionode::fed
