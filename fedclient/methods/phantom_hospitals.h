// Hospitals that exist in memory alone: phantoms of one scanner profile each, with labels of some heads on some of
// them. For the simulation of a federation (fedclient/simulate), which needs no torch.
//
// Everything follows from the seed, the hospital's number and the study's number. A hospital's first studies are
// labelled: study i has the label of a head if i is below the hospital's number for that head; the rest have none. Test
// studies are drawn besides and are never trained on. Thread safety: one object belongs to one thread. torch's
// exceptions do not leave it. Errors: Config for weights, profiles or shapes that do not fit; Retry when stopped.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/train/recipe.h"

namespace cardionode::fed {

struct HospitalOptions {
    std::string name, profile;            ///< profile: of phantom_profiles()
    std::map<std::string, int> labelled;  ///< head -> studies with its label
    int unlabelled = 0;                   ///< studies without any label
    int test = 0;                         ///< studies to test on
    bool trains = true;                   ///< false: held out, has test studies alone
};

struct PhantomHospitalsOptions {
    std::vector<HospitalOptions> hospitals;
    std::array<int, 3> study{40, 40, 40};            ///< voxels; training windows are cut out of it
    double root_jitter_mm = 6, test_jitter_mm = 10;  ///< of the centre round the root's, along each axis
    double missed_mm = 20;                           ///< what a missing point counts, and the most that one counts
    double labelled_share = 0.25;  ///< least share of windows of labelled studies, where teachers labelled others
    double gain = 0, offset = 0, noise = 0;  ///< largest changes of a training window's intensities, normalised units
};

class PhantomHospitals {
public:
    /// @param input    of the phantoms: spacing, intensities, heads, ball radii, edition; of every network that is
    ///                 trained or scored here
    /// @param shapes   folder of the phantoms' sources
    static Result<PhantomHospitals> draw(const PhantomHospitalsOptions& options, const train::Recipe& input,
                                         const std::filesystem::path& shapes, std::uint64_t seed);
    PhantomHospitals(PhantomHospitals&&) noexcept;
    PhantomHospitals& operator=(PhantomHospitals&&) noexcept;
    ~PhantomHospitals();

    /// Head -> studies with its label: people's, or with what the teachers added.
    std::map<std::string, std::int64_t> labelled(std::size_t hospital, bool with_teachers) const;
    std::int64_t studies(std::size_t hospital) const;

    /// Random weights of the recipe's network, from the seed.
    static Result<void> fresh_weights(const train::Recipe& recipe, std::uint64_t seed,
                                      const std::filesystem::path& out);

    struct Training {
        train::Recipe recipe;
        std::size_t hospital = 0;
        bool with_teachers = false;  ///< learn from the teachers' labels too: ask_teachers() came first
        std::filesystem::path pulled, trained;
        std::int64_t steps = 1;
        double learning_rate = 0, proximal_mu = 0;
        std::uint64_t seed = 1;      ///< of the order of windows and what is done to them
        std::function<bool()> stop;  ///< asked after each step; true: Retry, nothing is written
    };
    struct Trained {
        double loss = 0, cpu_seconds = 0;
    };
    /// One round at one hospital, from the weights `pulled` to the weights `trained`, written durably.
    Result<Trained> learn(const Training& training) const;

    /// Teachers label what people did not, at every hospital that trains.
    /// @param weights  by head; the network of a head is the recipe's with that head alone
    /// @return         head -> studies that it labelled
    Result<std::map<std::string, std::int64_t>> ask_teachers(
        const train::Recipe& teacher, const std::map<std::string, std::filesystem::path>& weights,
        const std::filesystem::path& cache);

    struct Asked {
        train::Recipe recipe;
        std::filesystem::path weights;
        std::vector<std::string> heads;  ///< the network is asked for
    };
    struct Score {
        std::map<std::string, std::vector<double>> error_mm;  ///< by head: every point of every case
        std::map<std::string, std::int64_t> present, found;   ///< points by head
        std::map<std::string, std::vector<double>> dice;      ///< by mask head: every case that has some of it
        std::map<std::string, std::array<double, 3>>
            overlap;  ///< by mask head: both, predicted, true voxels, all cases
        void add(const Score& other);
        double mean_mm(const std::string& head) const;
        double pooled_dice(const std::string& head) const;
    };
    /// The hospital's test studies. Every head is answered by one of the networks.
    Result<Score> score(const std::vector<Asked>& networks, std::size_t hospital) const;
    /// Of the point heads: an answer that never looks, the mean place of the training studies' points.
    Score score_of_mean_place(std::size_t hospital) const;

private:
    struct State;
    explicit PhantomHospitals(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::fed
