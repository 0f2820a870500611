// A font of straight strokes for ASCII 32 to 126, drawn for this project, readable from 8 pixels of cap height.
//
// Thread safety: constants.
#pragma once

#include <vector>

namespace cardionode {

struct GlyphPoint {
    double x = 0, y = 0;  ///< font units; y upwards from the baseline; descenders are negative
};

struct Glyph {
    double advance = 4;                            ///< to the next glyph, font units
    std::vector<std::vector<GlyphPoint>> strokes;  ///< a stroke of one point is a dot
};

inline constexpr double kCapHeight = 6;  ///< font units

/// The glyph of a character; '?' for one that is not printable ASCII.
const Glyph& glyph_of(char c);

}  // namespace cardionode
