// A drawn phantom as the measurements see it, and what is true of it.
//
// True points and labels: what remains is the error of the measuring alone. Phantoms are phantoms: nothing here says
// how the node measures patients.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "models/train/phantom.h"
#include "models/train/phantom_scene.h"
#include "pipeline/volume/findings.h"

namespace cardionode::test {

struct PhantomRoot {
    Volume ct;
    Findings findings;         ///< landmarks, heart group, annular plane
    train::Scene scene;        ///< its root holds the truth
    train::PhantomGrid drawn;  ///< grid of the phantom
};

/// @param label_mm   voxel side of the labels; larger than `spacing`: as of a coarse network, copied to the CT's grid
/// @param ragged_mm  sd of a smooth displacement of the labels' border, 4 mm grain
PhantomRoot phantom_root(const train::PhantomAtlas& atlas, std::uint64_t seed, float spacing, int side,
                         float label_mm = 0, float ragged_mm = 0);

/// What measure() should say, by name; from the drawn root's own radius.
std::map<std::string, double> truth_of(const PhantomRoot& root);

}  // namespace cardionode::test
