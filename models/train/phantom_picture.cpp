#include "models/train/phantom_picture.h"

#include <zlib.h>

#include <string>

#include "conf/base/files.h"

namespace cardionode::train {
namespace {

void append_big_endian(std::string& out, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

void append_chunk(std::string& out, const std::string& type, const std::string& data) {
    append_big_endian(out, static_cast<std::uint32_t>(data.size()));
    const std::string body = type + data;
    out += body;
    append_big_endian(out, static_cast<std::uint32_t>(
                               crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}

using Colour = std::array<std::uint8_t, 3>;
constexpr Colour kHeart[8] = {{0, 0, 0},      {150, 110, 90}, {255, 170, 60}, {255, 70, 70},
                              {70, 200, 255}, {70, 90, 255},  {255, 60, 255}, {80, 230, 80}};
constexpr Colour kPoints[6] = {{0, 0, 0}, {255, 255, 0}, {0, 255, 255}, {255, 255, 255}, {255, 128, 0}, {0, 255, 0}};

}  // namespace

void Picture::put(int x, int y, Colour colour) {
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    std::copy(colour.begin(), colour.end(), rgb.begin() + (static_cast<std::ptrdiff_t>(y) * width + x) * 3);
}

Result<void> write_png(const Picture& picture, const std::filesystem::path& file) {
    std::string raw;
    const std::size_t row = static_cast<std::size_t>(picture.width) * 3;
    for (int y = 0; y < picture.height; ++y) {
        raw.push_back(0);
        raw.append(reinterpret_cast<const char*>(picture.rgb.data()) + y * row, row);
    }
    uLongf size = compressBound(raw.size());
    std::string packed(size, 0);
    if (compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(raw.data()),
                  raw.size(), 6) != Z_OK) {
        return bug_error("compressing a picture failed");
    }
    packed.resize(size);
    std::string header;
    append_big_endian(header, static_cast<std::uint32_t>(picture.width));
    append_big_endian(header, static_cast<std::uint32_t>(picture.height));
    header += std::string("\x08\x02\x00\x00\x00", 5);
    std::string png = "\x89PNG\r\n\x1a\n";
    append_chunk(png, "IHDR", header);
    append_chunk(png, "IDAT", packed);
    append_chunk(png, "IEND", "");
    return write_file_durably(file, png);
}

Picture phantom_mosaic(const Phantom& phantom, int columns) {
    const auto [depth, height, width] = phantom.grid.size;
    const int tile = std::max({depth, height, width});
    Picture picture(columns * tile, 6 * tile);
    for (int plane = 0; plane < 3; ++plane) {
        const int slices = phantom.grid.size[plane];
        for (int c = 0; c < columns; ++c) {
            const int slice = (2 * c + 1) * slices / (2 * columns);
            for (int v = 0; v < tile; ++v) {
                for (int h = 0; h < tile; ++h) {
                    // Axial: rows to the back; coronal and sagittal: rows to the feet.
                    int z = slice, y = v, x = h;
                    if (plane == 1) z = depth - 1 - v, y = slices - 1 - slice;
                    if (plane == 2) z = depth - 1 - v, y = h, x = slice;
                    if (plane == 1) x = h;
                    if (plane == 0) z = depth - 1 - slice;
                    if (z < 0 || z >= depth || y >= height || x >= width) continue;
                    const std::size_t i = (static_cast<std::size_t>(z) * height + y) * width + x;
                    const auto grey =
                        static_cast<std::uint8_t>(std::clamp((phantom.hu[i] + 200) / 800, 0.0F, 1.0F) * 255);
                    picture.put(c * tile + h, 2 * plane * tile + v, {grey, grey, grey});
                    Colour colour{grey, grey, grey};
                    const auto tint = [&](Colour with, int share) {
                        for (int k = 0; k < 3; ++k)
                            colour[k] = static_cast<std::uint8_t>((colour[k] * (4 - share) + with[k] * share) / 4);
                    };
                    if (phantom.heart[i]) tint(kHeart[phantom.heart[i]], 2);
                    if (!phantom.coronaries.empty() && phantom.coronaries[i]) tint({255, 90, 90}, 3);
                    if (phantom.calc[i]) tint({255, 0, 0}, 4);
                    if (phantom.hps[i]) tint(kPoints[phantom.hps[i]], 3);
                    if (phantom.ms[i]) tint(phantom.ms[i] == 1 ? Colour{160, 0, 255} : Colour{255, 0, 128}, 3);
                    picture.put(c * tile + h, (2 * plane + 1) * tile + v, colour);
                }
            }
        }
    }
    return picture;
}

}  // namespace cardionode::train
