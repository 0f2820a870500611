// Who is held out, for programs that include no torch. The rule and its definition stand with study_source.h.
#pragma once

#include <cstdint>
#include <string>

namespace cardionode::train {

/// Whether a patient's studies are never trained on.
bool is_held_out(const std::string& patient_hash, double share, std::int64_t split_seed);

}  // namespace cardionode::train
