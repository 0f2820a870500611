// The short name of a study in logs, on the screen and in file names: "S00AM". It is made from the study's row number
// and says nothing about the patient; its last character is a check against misreading and swapped characters.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cardionode {

/// @param row  1 or more. "S", at least three digits of base 32 (0-9 A-Z without I, L, O, U), a check character.
std::string make_study_key(std::int64_t row);

/// The key as the queue writes it, from what a person typed: lower case, O for 0, I or L for 1. None: not a key.
std::optional<std::string> read_study_key(std::string_view typed);

}  // namespace cardionode
