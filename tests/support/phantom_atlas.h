// What phantoms are drawn from, read once a test program.
#pragma once

#include <stdexcept>

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

}  // namespace cardionode::test
