// What phantoms are drawn from, read once a test program; a phantom in one number.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "models/train/phantom.h"

namespace cardionode::test {

inline const train::PhantomAtlas& phantom_atlas() {
    static const train::PhantomAtlas loaded = [] {
        Result<train::PhantomAtlas> result = train::PhantomAtlas::load(CARDIONODE_SOURCE_DIR "/models/train/shapes");
        if (!result) throw std::runtime_error(result.error().message);
        return *std::move(result);
    }();
    return loaded;
}

/// FNV-1a over the labels and over HU rounded to whole numbers. An edition never changes: runs that began with it are
/// resumed and repeated.
inline std::uint64_t fingerprint(const train::Phantom& p) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3ULL; };
    for (const auto* labels : {&p.heart, &p.hps, &p.ms, &p.calc, &p.coronaries}) {
        for (const std::uint8_t v : *labels) add(v);
    }
    for (const float v : p.hu) add(static_cast<std::uint64_t>(std::lround(v) + 4096));
    return hash;
}

/// Seeds and fingerprints of an edition on a coarse grid, and of seed 77 on a fine one.
struct EditionFingerprints {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> coarse;
    std::uint64_t fine_77 = 0;
};

inline void expect_edition_stays(int edition, const EditionFingerprints& expected) {
    train::PhantomOptions options;
    options.edition = edition;
    const auto drawn = [&](std::uint64_t seed, const train::PhantomGrid& grid) {
        return fingerprint(draw_phantom(phantom_atlas(), seed, grid, options));
    };
    for (const auto& [seed, hash] : expected.coarse)
        EXPECT_EQ(drawn(seed, train::PhantomGrid::around({0, 5, -5}, {48, 48, 48}, 4)), hash) << seed;
    EXPECT_EQ(drawn(77, train::PhantomGrid::around({0, 0, 5}, {48, 48, 48}, 1)), expected.fine_77);
}

}  // namespace cardionode::test
