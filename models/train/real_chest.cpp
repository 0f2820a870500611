#include "models/train/real_chest.h"

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/train/gzip_file.h"

namespace cardionode::train {

Result<std::vector<RealChest>> RealChest::load_all(const std::filesystem::path& folder) {
    const std::filesystem::path list = folder / "chests.json";
    std::ifstream in(list);
    if (!in) return config_error("cannot open " + list.string());
    std::vector<RealChest> chests;
    try {
        const nlohmann::json json = nlohmann::json::parse(in);
        for (const nlohmann::json& entry : json.at("chests")) {
            RealChest chest;
            const auto vec = [&](const char* key) {
                const auto v = entry.at(key).get<std::array<float, 3>>();
                return Vec{v[0], v[1], v[2]};
            };
            chest.heart = vec("heart");
            chest.heart_half = vec("heart_half");
            const auto spine = entry.at("spine").get<std::array<float, 2>>();
            chest.spine_x = spine[0], chest.spine_y = spine[1];
            chest.lung_hu = entry.at("lung_hu").get<float>();
            constexpr int kInt16 = 4;
            Result<SmallVolume> volume = read_small_volume(folder / entry.at("file").get<std::string>(), kInt16);
            if (!volume) return std::move(volume).error().in("reading the chests of phantoms");
            for (const float s : volume->spacing) {
                if (s != kSpacing) return config_error(list.string() + ": a chest is not of 2 mm");
            }
            chest.size_ = volume->size;
            for (const int n : chest.size_) {
                if (n < 2) return config_error(list.string() + ": a chest is flat");
            }
            chest.packed_.resize(static_cast<std::size_t>(chest.size_[0]) * chest.size_[1] * chest.size_[2]);
            std::memcpy(chest.packed_.data(), volume->bytes.data() + volume->offset, chest.packed_.size() * 2);
            chests.push_back(std::move(chest));
        }
    } catch (const nlohmann::json::exception& e) {
        return config_error(list.string() + ": " + e.what());
    }
    if (chests.empty()) return config_error(list.string() + " names no chest");
    return chests;
}

RealChest::Sample RealChest::at(Vec v) const {
    const auto [nx, ny, nz] = size_;
    if (v.x < 0 || v.y < 0 || v.x > static_cast<float>(nx - 1) || v.y > static_cast<float>(ny - 1)) return {};
    const float cz = std::clamp(v.z, 0.0F, static_cast<float>(nz) - 1.001F);
    const int x = std::min(static_cast<int>(v.x), nx - 2), y = std::min(static_cast<int>(v.y), ny - 2);
    const auto z = static_cast<int>(cz);
    const float tx = v.x - static_cast<float>(x), ty = v.y - static_cast<float>(y), tz = cz - static_cast<float>(z);
    const std::size_t row = static_cast<std::size_t>(nx), slice = row * ny;
    const std::int16_t* base = &packed_[z * slice + y * row + static_cast<std::size_t>(x)];
    float level = 0, hollow = 0;
    for (int corner = 0; corner < 8; ++corner) {
        const std::int16_t value = base[(corner >> 2) * slice + ((corner >> 1) & 1) * row + (corner & 1)];
        const float w = ((corner & 1) ? tx : 1 - tx) * ((corner & 2) ? ty : 1 - ty) * ((corner & 4) ? tz : 1 - tz);
        level += w * static_cast<float>(value >> 1);
        hollow += w * static_cast<float>(value & 1);
    }
    return {level * 16, hollow};
}

Vec ChestPlacement::to_voxel(const RealChest& c, Vec p) const {
    const Vec bent = p + Vec{bend[0].at(p), bend[1].at(p), bend[2].at(p)} * bend_mm;
    const float across = (mirrored ? -1.0F : 1.0F) * (bent.x - middle) / (RealChest::kSpacing * scale.x);
    return {c.spine_x + across, c.heart.y + (bent.y - heart.y) / (RealChest::kSpacing * scale.y),
            c.heart.z + (bent.z - heart.z) / (RealChest::kSpacing * scale.z)};
}

}  // namespace cardionode::train
