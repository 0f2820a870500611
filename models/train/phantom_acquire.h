// The scanner's part of a phantom: kernel, slice blur, streaks, noise, gating step, field of view. Internal.
#pragma once

#include "models/train/phantom_scene.h"

namespace cardionode::train {

/// Changes phantom.hu, and for a gating step also the labels and nothing else; where the scan does not reach, the
/// padding value stands and the labels are cleared (nobody could place them there).
void acquire(const Acquisition& acquisition, std::uint64_t seed, Phantom& phantom);
/// The same for the profiles of edition 2; displacements are part of the scene there (Acquisition::source_of).
void acquire_by_profile(const Acquisition& acquisition, std::uint64_t seed, Phantom& phantom);

}  // namespace cardionode::train
