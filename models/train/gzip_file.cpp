#include "models/train/gzip_file.h"

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <memory>

namespace cardionode::train {

Result<std::string> inflate_file(const std::filesystem::path& file) {
    const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
    if (!in) return config_error("cannot open " + file.string());
    std::string bytes;
    char buffer[1 << 16];
    for (int n = 0; (n = gzread(in.get(), buffer, sizeof buffer)) != 0;) {
        if (n < 0 || bytes.size() > (1U << 28)) return config_error("damaged file " + file.string());
        bytes.append(buffer, static_cast<std::size_t>(n));
    }
    return bytes;
}

Result<SmallVolume> read_small_volume(const std::filesystem::path& file, int type) {
    Result<std::string> bytes = inflate_file(file);
    if (!bytes) return std::move(bytes).error();
    // NIfTI-1: dim at 40, datatype at 70, pixdim at 76, vox_offset at 108.
    if (bytes->size() < 352) return config_error(file.string() + " is too short for NIfTI");
    std::int16_t dim[8], found = 0;
    float spacing[8], offset = 0;
    std::memcpy(dim, bytes->data() + 40, sizeof dim);
    std::memcpy(&found, bytes->data() + 70, sizeof found);
    std::memcpy(spacing, bytes->data() + 76, sizeof spacing);
    std::memcpy(&offset, bytes->data() + 108, sizeof offset);
    const auto sane = [](std::int16_t n) { return n > 0 && n < 1024; };
    if (dim[0] != 3 || !sane(dim[1]) || !sane(dim[2]) || !sane(dim[3]) || found != type || !(offset >= 352) ||
        !(offset < 1e6F)) {
        return config_error(file.string() + " is not a NIfTI volume of the expected kind");
    }
    SmallVolume volume;
    volume.size = {dim[1], dim[2], dim[3]};
    volume.spacing = {spacing[1], spacing[2], spacing[3]};
    volume.offset = static_cast<std::size_t>(offset);
    const std::size_t voxel = type == 4 ? 2 : 1;
    if (bytes->size() < volume.offset + voxel * static_cast<std::size_t>(dim[1]) * dim[2] * dim[3]) {
        return config_error(file.string() + " ends too early");
    }
    volume.bytes = *std::move(bytes);
    return volume;
}

}  // namespace cardionode::train
