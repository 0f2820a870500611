#include "pipeline/outputs/stroke_font.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace cardionode {
namespace {

// One entry a character from ' ' on. Points are two digits, x then y; y 2 is the baseline, 8 the cap height, 6 the
// height of small letters. '|' begins a new stroke.
constexpr std::array<std::string_view, 95> kStrokes = {
    "",                                                 // space
    "08 04|02",                                         // !
    "08 06|28 26",                                      // "
    "12 18|32 38|04 44|06 46",                          // #
    "47 38 18 07 06 15 35 44 43 32 12 03|29 21",        // $
    "02 48|07 08 18 17 07|33 32 42 43 33",              // %
    "42 06 07 18 28 37 36 04 03 12 22 44",              // &
    "08 06",                                            // '
    "19 07 03 11",                                      // (
    "09 17 13 01",                                      // )
    "27 23|06 44|04 46",                                // *
    "23 27|05 45",                                      // +
    "13 12 01",                                         // ,
    "05 35",                                            // -
    "02",                                               // .
    "02 38",                                            // /
    "12 32 43 47 38 18 07 03 12",                       // 0
    "07 18 12|02 22",                                   // 1
    "07 18 38 47 46 02 42",                             // 2
    "07 18 38 47 46 35 44 43 32 12 03|15 35",           // 3
    "32 38 04 44",                                      // 4
    "48 08 05 35 44 43 32 12 03",                       // 5
    "47 38 18 07 03 12 32 43 44 35 15 04",              // 6
    "08 48 12",                                         // 7
    "15 35 46 47 38 18 07 06 15 04 03 12 32 43 44 35",  // 8
    "03 12 32 43 47 38 18 07 06 15 35 46",              // 9
    "02|05",                                            // :
    "16|13 12 01",                                      // ;
    "37 05 33",                                         // <
    "04 34|06 36",                                      // =
    "07 35 03",                                         // >
    "07 18 38 47 46 24|22",                             // ?
    "43 32 12 03 07 18 38 47 44 34 36 16 14 34",        // @
    "02 28 42|14 34",                                   // A
    "02 08 38 47 46 35 05|35 44 43 32 02",              // B
    "47 38 18 07 03 12 32 43",                          // C
    "02 08 28 46 44 22 02",                             // D
    "48 08 02 42|05 35",                                // E
    "48 08 02|05 35",                                   // F
    "47 38 18 07 03 12 32 43 45 25",                    // G
    "02 08|42 48|05 45",                                // H
    "02 08",                                            // I
    "38 33 22 12 03",                                   // J
    "02 08|48 05 42",                                   // K
    "08 02 42",                                         // L
    "02 08 24 48 42",                                   // M
    "02 08 42 48",                                      // N
    "12 32 43 47 38 18 07 03 12",                       // O
    "02 08 38 47 46 35 05",                             // P
    "12 32 43 47 38 18 07 03 12|24 41",                 // Q
    "02 08 38 47 46 35 05|25 42",                       // R
    "47 38 18 07 06 15 35 44 43 32 12 03",              // S
    "08 48|28 22",                                      // T
    "08 03 12 32 43 48",                                // U
    "08 22 48",                                         // V
    "08 12 26 32 48",                                   // W
    "02 48|08 42",                                      // X
    "08 25 48|25 22",                                   // Y
    "08 48 02 42",                                      // Z
    "19 09 01 11",                                      // [
    "08 32",                                            // backslash
    "09 19 11 01",                                      // ]
    "06 28 46",                                         // ^
    "01 41",                                            // _
    "08 17",                                            // `
    "36 32|35 26 16 05 03 12 22 33",                    // a
    "08 02|03 12 22 33 35 26 16 05",                    // b
    "35 26 16 05 03 12 22 33",                          // c
    "38 32|33 22 12 03 05 16 26 35",                    // d
    "04 34 35 26 16 05 03 12 22 33",                    // e
    "28 18 07 02|06 26",                                // f
    "36 31 20 10 01|33 22 12 03 05 16 26 35",           // g
    "08 02|05 16 26 35 32",                             // h
    "06 02|08",                                         // i
    "16 11 00|18",                                      // j
    "08 02|36 04 32",                                   // k
    "08 02",                                            // l
    "06 02|05 16 25 22|25 36 45 42",                    // m
    "06 02|05 16 26 35 32",                             // n
    "12 22 33 35 26 16 05 03 12",                       // o
    "06 00|05 16 26 35 33 22 12 03",                    // p
    "36 30|35 26 16 05 03 12 22 33",                    // q
    "06 02|04 16 26",                                   // r
    "36 16 05 14 24 33 22 02",                          // s
    "18 13 22|06 26",                                   // t
    "06 03 12 22 33|36 32",                             // u
    "06 22 46",                                         // v
    "06 12 24 32 46",                                   // w
    "06 32|02 36",                                      // x
    "06 22|46 10",                                      // y
    "06 36 02 32",                                      // z
    "29 18 16 05 14 12 21",                             // {
    "09 01",                                            // |
    "09 18 16 25 14 12 01",                             // }
    "05 16 34 45",                                      // ~
};

Glyph parse(std::string_view strokes) {
    Glyph glyph;
    double right = 0;
    std::size_t at = 0;
    while (at + 1 < strokes.size()) {
        if (at == 0 || strokes[at - 1] == '|') glyph.strokes.emplace_back();
        const GlyphPoint point{static_cast<double>(strokes[at] - '0'), static_cast<double>(strokes[at + 1] - '2')};
        glyph.strokes.back().push_back(point);
        right = std::max(right, point.x);
        at += 3;
    }
    glyph.advance = strokes.empty() ? 3 : right + 1.9;
    return glyph;
}

}  // namespace

const Glyph& glyph_of(char c) {
    static const std::vector<Glyph> kGlyphs = [] {
        std::vector<Glyph> glyphs;
        for (const std::string_view strokes : kStrokes) glyphs.push_back(parse(strokes));
        return glyphs;
    }();
    const int index = static_cast<unsigned char>(c) - ' ';
    return kGlyphs[static_cast<std::size_t>(index >= 0 && index < 95 ? index : '?' - ' ')];
}

}  // namespace cardionode
