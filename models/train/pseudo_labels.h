// What teachers say about studies that nobody labelled, as targets for a student (facts: FedKD paper, 1.6).
//
// A teacher predicts on a study once; its answer is kept on disk under the hashes of study and teacher. Targets are
// made from the answer each time: hard ones as the paper has them (points -> balls, masks as they are), or the
// teacher's probabilities with the voxels left out where it was not sure. A head whose points cannot be (missing, or a
// nadir triangle that no root has) gets no target from this study; its other heads do. Thread safety: a Teacher and a
// PseudoLabelCache belong to one thread each; processes may share a cache folder. torch's exceptions do not leave
// make_pseudo_labels.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/network.h"
#include "models/train/pseudo_labels_cache.h"
#include "models/train/recipe.h"
#include "models/train/samples.h"

namespace cardionode::train {

/// How a head's answer becomes a target.
struct PseudoHead {
    std::string name;
    int classes = 1;       ///< without background
    bool points = false;   ///< each class is a point, taught as a ball; else each voxel's class
    double radius_mm = 4;  ///< of the balls
    /// The first three points are the cusp nadirs: the sides of their triangle must be plausible.
    bool nadirs_first = false;
};

/// The heads of a recipe as pseudo-labels: hps and ms are points, with the recipe's radii; all others are masks.
std::vector<PseudoHead> pseudo_heads(const Recipe& recipe);

struct Teacher {
    std::shared_ptr<Network> network;  ///< set to eval mode while it answers
    std::vector<PseudoHead> heads;     ///< which of the network's heads it answers for
    WindowManifest window;             ///< as it was trained
    std::string precision = "float32";
    std::string hash;  ///< of all that decides its answers
};

/// @param precision  float32 | bfloat16. Config: a head that the network does not have.
Result<Teacher> make_teacher(std::shared_ptr<Network> network, std::vector<PseudoHead> heads,
                             const WindowManifest& window, const std::string& precision = "float32");

/// One CT on the network's grid, with the labels that people made, if any: those stay.
struct StudyToLabel {
    std::string hash;                           ///< study_hash(sample.image)
    Sample sample;                              ///< image float32 [C, D, H, W]
    std::array<double, 3> spacing_mm{2, 2, 2};  ///< along D, H, W
};
/// SHA-256 of the shape and the voxels.
std::string study_hash(const torch::Tensor& image);

class StudiesToLabel {
public:
    virtual ~StudiesToLabel() = default;
    virtual std::size_t count() const = 0;
    virtual Result<StudyToLabel> study(std::size_t i) const = 0;
};

struct PseudoLabelOptions {
    bool soft = false;  ///< probabilities (float16) as targets instead of labels
    /// Leaves out voxels whose uncertainty is above highest_uncertainty.
    bool leave_out_uncertain = false;
    /// Entropy of the mean probabilities over its largest possible value, 0..1.
    double highest_uncertainty = 0.5;
    /// What the probabilities are the mean of. once: one pass, nothing random. dropout: `passes` passes with the
    /// teacher's dropout. flips: also the image mirrored along each axis; points have sides and are taken from one
    /// pass.
    std::string look = "once";
    int passes = 5;
    double shortest_side_mm = 10, longest_side_mm = 50;  ///< of the nadir triangle
};

struct PseudoLabelReport {
    std::int64_t studies = 0;
    std::int64_t predicted = 0, from_cache = 0, damaged = 0;  ///< answers; damaged ones were predicted again
    std::map<std::string, std::int64_t> labelled;             ///< heads that got a target, by name
    struct LeftOut {
        std::string study, head, reason;  ///< the study's hash
    };
    std::vector<LeftOut> left_out;
    /// Lines for people: how many of each, and the reasons with their number.
    std::string summary() const;
};

/// Asks every teacher about every study and hands on the study's own labels joined with what the teachers said.
/// @param cache  null: nothing is kept
/// @param take   gets the number of the study and its sample; an error ends the work
/// Config: a teacher without dropout was asked for it, two teachers for one head, an unknown look. Errors of the
/// source, the cache and `take` are passed on. Bug: a study and a teacher that do not fit.
Result<PseudoLabelReport> make_pseudo_labels(const std::vector<Teacher>& teachers, const StudiesToLabel& studies,
                                             PseudoLabelCache* cache, const PseudoLabelOptions& options,
                                             const std::function<Result<void>(std::size_t, Sample)>& take);

/// The target that an answer gives, added to the sample; or why there is none.
/// @return  empty: the sample has it
std::string add_target(const TeacherAnswer& answer, const PseudoHead& head, const std::array<double, 3>& spacing_mm,
                       const PseudoLabelOptions& options, Sample& sample);

}  // namespace cardionode::train
