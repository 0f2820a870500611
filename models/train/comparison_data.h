// Phantoms of a comparison and how good networks are on them.
//
// Every phantom follows from the seed of the comparison's run, the use it is put to and its number. Test phantoms are
// the same for all seeds and are never trained on. Thread safety: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/network.h"
#include "models/train/comparison_config.h"
#include "models/train/phantom.h"

namespace cardionode::train {

/// A study with what is known about it.
struct TestCase {
    Sample sample;
    struct Point {
        std::string head, name;
        int value = 0;
        std::array<double, 3> at{};  ///< continuous index (D, H, W)
    };
    std::vector<Point> points;  ///< those inside
};

enum class PhantomUse : std::uint64_t { labelled = 1, unlabelled = 2, test = 3, new_head = 4, new_head_test = 5 };

/// @param size    voxels, on the recipe's spacing, the root's middle within jitter_mm of the centre
/// @param recipe  input, heads, radii and edition
TestCase draw_case(const std::shared_ptr<const PhantomAtlas>& atlas, const Recipe& recipe, std::array<int, 3> size,
                   double jitter_mm, PhantomUse use, std::uint64_t seed, std::uint64_t number);

/// A network and the heads it is asked for.
struct Answerer {
    std::shared_ptr<Network> network;
    std::vector<PseudoHead> heads;
};

struct ArmScore {
    std::map<std::string, std::vector<double>> errors_mm;  ///< by point: each case; a miss counts missed_mm
    std::map<std::string, std::int64_t> present, found;    ///< by point
    std::map<std::string, std::array<double, 3>> overlap;  ///< by mask head: both, predicted, true voxels of all cases
    double mean_error_mm() const;                          ///< of all points of all cases
    double mean_error_mm(const std::string& point) const;
    double found_share() const;
    double dice(const std::string& head) const;
};

/// Every head is answered by one of the networks. torch's exceptions pass through.
/// @param missed_mm  what a missing point counts, and the most that a found one counts
ArmScore score(const std::vector<Answerer>& answerers, const std::vector<TestCase>& cases,
               const std::array<double, 3>& spacing_mm, double missed_mm);

}  // namespace cardionode::train
