#include "models/train/phantom_files.h"

#include <zlib.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "conf/base/files.h"
#include "models/train/phantom_picture.h"

namespace cardionode::train {
namespace {

Result<std::string> gzip(const std::string& raw) {
    z_stream stream{};
    if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return retry_error("no memory to compress");
    }
    std::string packed(deflateBound(&stream, raw.size()), 0);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(raw.data()));
    stream.avail_in = static_cast<uInt>(raw.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    const int code = deflate(&stream, Z_FINISH);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    if (code != Z_STREAM_END) return bug_error("compressing failed");
    return packed;
}

/// NIfTI-1: 348 bytes of header, 4 of extension flag, voxels with x fastest.
template <class Voxel>
Result<void> write_nifti(const PhantomGrid& grid, const std::vector<Voxel>& voxels, std::int16_t type,
                         const std::filesystem::path& file) {
    std::string bytes(352, 0);
    // By reference: by value an array would become a pointer.
    const auto put = [&](std::size_t at, const auto& value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
    put(0, std::int32_t{348});
    const std::int16_t dim[8] = {3,
                                 static_cast<std::int16_t>(grid.size[2]),
                                 static_cast<std::int16_t>(grid.size[1]),
                                 static_cast<std::int16_t>(grid.size[0]),
                                 1,
                                 1,
                                 1,
                                 1};
    put(40, dim);
    put(70, type);
    put(72, static_cast<std::int16_t>(8 * sizeof(Voxel)));
    const float pixdim[8] = {1, grid.spacing, grid.spacing, grid.spacing, 1, 1, 1, 1};
    put(76, pixdim);
    put(108, 352.0F);
    put(112, 1.0F);
    bytes[123] = 2;             // millimetres
    put(254, std::int16_t{1});  // the affine below is scanner coordinates
    // LPS to RAS: x and y change their sign.
    const float affine[12] = {
        -grid.spacing, 0, 0, -grid.origin.x, 0, -grid.spacing, 0, -grid.origin.y, 0, 0, grid.spacing, grid.origin.z};
    put(280, affine);
    std::memcpy(bytes.data() + 344, "n+1", 4);
    bytes.append(reinterpret_cast<const char*>(voxels.data()), voxels.size() * sizeof(Voxel));
    const Result<std::string> packed = gzip(bytes);
    if (!packed) return packed.error();
    return write_file_durably(file, *packed);
}

}  // namespace

Result<void> write_phantom(const Phantom& phantom, std::uint64_t seed, const std::filesystem::path& folder) {
    if (Result<void> made = make_folder(folder); !made) return made;
    std::vector<std::int16_t> hu(phantom.hu.size());
    for (std::size_t i = 0; i < hu.size(); ++i) hu[i] = static_cast<std::int16_t>(std::lround(phantom.hu[i]));
    constexpr std::int16_t kUint8 = 2, kInt16 = 4;
    if (Result<void> r = write_nifti(phantom.grid, hu, kInt16, folder / "ct.nii.gz"); !r) return r;
    std::vector<std::pair<const char*, const std::vector<std::uint8_t>*>> maps = {
        {"heart", &phantom.heart}, {"hps", &phantom.hps}, {"ms", &phantom.ms}, {"calc", &phantom.calc}};
    if (!phantom.coronaries.empty()) maps.emplace_back("coronaries", &phantom.coronaries);
    for (const auto& [name, labels] : maps) {
        if (Result<void> r = write_nifti(phantom.grid, *labels, kUint8, folder / (std::string(name) + ".nii.gz")); !r)
            return r;
    }
    nlohmann::json json = {{"seed", seed},
                           {"contrast_agent", phantom.contrast},
                           {"scanner_profile", phantom.profile},
                           {"contrast_phase", phantom.phase}};
    json["annulus_normal_lps"] = {phantom.annulus_normal.x, phantom.annulus_normal.y, phantom.annulus_normal.z};
    for (const PhantomPoint& p : phantom.points) {
        json["points"].push_back({{"head", p.head},
                                  {"name", p.name},
                                  {"value", p.value},
                                  {"lps_mm", {p.at.x, p.at.y, p.at.z}},
                                  {"inside", p.inside}});
    }
    for (const PhantomHead& head : phantom_heads()) json["labels"][head.name] = head.classes;
    if (Result<void> r = write_file_durably(folder / "phantom.json", json.dump(2) + "\n"); !r) return r;
    return write_png(phantom_mosaic(phantom), folder / "phantom.png");
}

}  // namespace cardionode::train
