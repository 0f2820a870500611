// Pictures of a phantom or a label map, to look at: a PNG mosaic of slices with labels in colour.
//
// Thread safety: pure functions. zlib inside.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "conf/base/result.h"
#include "models/train/phantom.h"

namespace cardionode::train {

struct Picture {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb;
    Picture(int w, int h) : width(w), height(h), rgb(static_cast<std::size_t>(w) * h * 3, 0) {}
    void put(int x, int y, std::array<std::uint8_t, 3> colour);
};

/// Retry: disk full; Config: the folder is not there.
Result<void> write_png(const Picture& picture, const std::filesystem::path& file);

/// Rows of axial, coronal and sagittal slices; below each, the same with the labels of all heads.
/// Window: HU -200 to 600.
Picture phantom_mosaic(const Phantom& phantom, int columns = 8);

}  // namespace cardionode::train
