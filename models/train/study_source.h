// Training windows out of studies on disk (study_file.h), alone or mixed with phantoms.
//
// A window depends on its number alone. A share of the windows holds a rare structure: a class of less than 20 ml, such
// as the balls round points, calcium or coronary arteries, chosen among those that the study is labelled for; the rest
// lies anywhere. With placement `root` each window lies round the middle of the points of head "hps".
// Which patients are held out is decided once and for ever by the patient's hash and data.split_seed: more studies move
// nobody from one side to the other.
// Thread safety: const functions may run at once.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "models/train/holdout.h"
#include "models/train/samples.h"
#include "models/train/study_file.h"

namespace cardionode::train {

class StudySource final : public SampleSource {
public:
    enum class Part { Training, HeldOut };

    /// Reads every label map once. Config: the folder or a file cannot be read, a study's image was made for another
    /// input, a label beyond its head's classes; each by the file's name. An empty part is none.
    static Result<StudySource> open(const Recipe& recipe, Part part);
    StudySource(StudySource&&) noexcept;
    ~StudySource() override;

    /// Throws BadSample, which names the file.
    Sample sample(std::uint64_t number) const override;
    std::string identity() const override;

    std::size_t size() const;
    std::size_t patients() const;
    /// Heads of the recipe that at least one study is labelled for.
    std::set<std::string> labelled_heads() const;
    const StudyFile& study(std::size_t index) const;
    /// First voxel of a window round the root of a study.
    Sides root_window(std::size_t index) const;
    /// For people: studies that are of no use here, and why.
    const std::vector<std::string>& remarks() const;

private:
    struct State;
    explicit StudySource(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Of each number one source, by chance: a study's window with probability `share`, else a phantom's.
class MixedSource final : public SampleSource {
public:
    MixedSource(const SampleSource& phantoms, const SampleSource& studies, double share, std::uint64_t seed)
        : phantoms_(phantoms), studies_(studies), share_(share), seed_(seed) {}
    Sample sample(std::uint64_t number) const override;
    std::string identity() const override { return phantoms_.identity() + studies_.identity(); }

private:
    const SampleSource& phantoms_;
    const SampleSource& studies_;
    double share_;
    std::uint64_t seed_;
};

}  // namespace cardionode::train
