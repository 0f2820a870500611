// How good a network is on held-out phantoms: Dice per class and the error of each landmark.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/network.h"
#include "models/train/samples.h"
#include "models/train/study_source.h"

namespace cardionode::train {

struct LandmarkScore {
    int present = 0, found = 0, false_finds = 0;  ///< in the grid; of them found; found although absent
    std::vector<double> errors_mm;                ///< of the found ones; a miss is counted in present, never dropped
    double median_mm() const;                     ///< of all present ones, a miss counts as infinitely far
};

struct ValidationResult {
    std::map<std::string, double> dice;  ///< "heart/aorta": over all voxels of all cases
    std::map<std::string, LandmarkScore> landmarks;
    bool has(const std::string& head) const;  ///< a class of it was counted
    double mean_dice(const std::string& head) const;
    nlohmann::json to_json() const;
};

/// @param cases  validation phantoms 0..cases-1 of the source. A point counts as found when its peak is >= 0.3.
/// The network is set to eval mode and left so.
ValidationResult validate(Network& network, const PhantomSource& source, int cases, torch::Device device);

/// The same on studies with labels: each whole, by overlapping windows (with placement root in one window round the
/// root), and a point's true place is the centre of its ball. A head without label is not counted. Throws BadSample.
ValidationResult validate(Network& network, const StudySource& studies, const Recipe& recipe, torch::Device device);

}  // namespace cardionode::train
