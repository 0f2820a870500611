#include "models/train/heart_shape.h"

#include "models/train/gzip_file.h"

namespace cardionode::train {
namespace {

constexpr int kPad = 12;      // voxels of 1 mm around the labels, so that distances grow smoothly out of the box
constexpr int kStep = 2;      // of the table, in voxels of 1 mm
constexpr float kLimit = 40;  // distances beyond are cut: nothing asks for them
// Centre of the nadirs in LPS voxels of the labels (columns to the left, rows to the back, slices to the head).
constexpr Vec kCentre{76.9F, 75.0F, 69.5F};

// One line of the exact Euclidean distance transform: lower envelope of parabolas (Felzenszwalb, Huttenlocher 2012).
struct LineTransform {
    std::vector<float> f, z;
    std::vector<int> v;
    explicit LineTransform(int n) : f(n), z(n + 1), v(n) {}
    void run(float* line, int n, std::ptrdiff_t stride) {
        constexpr float kFar = 1e12F;
        for (int i = 0; i < n; ++i) f[i] = line[i * stride];
        int k = 0;
        v[0] = 0;
        z[0] = -kFar;
        z[1] = kFar;
        for (int q = 1; q < n; ++q) {
            float s = 0;
            while (true) {
                const int p = v[k];
                s = ((f[q] + static_cast<float>(q) * q) - (f[p] + static_cast<float>(p) * p)) / (2.0F * (q - p));
                if (s > z[k] || k == 0) break;
                --k;
            }
            if (s <= z[k]) {  // only at k == 0
                v[0] = q;
                continue;
            }
            ++k;
            v[k] = q;
            z[k] = s;
            z[k + 1] = kFar;
        }
        for (int q = 0, j = 0; q < n; ++q) {
            while (z[j + 1] < static_cast<float>(q)) ++j;
            line[q * stride] = static_cast<float>(q - v[j]) * (q - v[j]) + f[v[j]];
        }
    }
};

void squared_distance(std::vector<float>& a, int nx, int ny, int nz) {
    LineTransform line(std::max({nx, ny, nz}));
    for (int z = 0; z < nz; ++z) {
        for (int y = 0; y < ny; ++y) line.run(&a[(static_cast<std::size_t>(z) * ny + y) * nx], nx, 1);
        for (int x = 0; x < nx; ++x) line.run(&a[static_cast<std::size_t>(z) * ny * nx + x], ny, nx);
    }
    for (int y = 0; y < ny; ++y) {
        for (int x = 0; x < nx; ++x) {
            line.run(&a[static_cast<std::size_t>(y) * nx + x], nz, static_cast<std::ptrdiff_t>(ny) * nx);
        }
    }
}

}  // namespace

Result<HeartShape> HeartShape::load(const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "labels_1mm.nii.gz";
    constexpr int kUint8 = 2;
    const Result<SmallVolume> volume = read_small_volume(file, kUint8);
    if (!volume) return Error(volume.error()).in("reading the heart shape");
    const auto [ni, nj, nk] = volume->size;
    if (volume->spacing != std::array<float, 3>{1, 1, 1}) return config_error(file.string() + " is not of 1 mm");
    const auto* labels = reinterpret_cast<const unsigned char*>(volume->bytes.data()) + volume->offset;

    // i runs to the right, j to the head, k to the back: x (left) = ni-1-i, y (back) = k, z (head) = j.
    const int nx = ni + 2 * kPad, ny = nk + 2 * kPad, nz = nj + 2 * kPad;
    HeartShape shape;
    shape.size_ = {(nx + kStep - 1) / kStep, (ny + kStep - 1) / kStep, (nz + kStep - 1) / kStep};
    shape.table_.assign(static_cast<std::size_t>(shape.size_[0]) * shape.size_[1] * shape.size_[2] * 8, 0);
    const std::size_t count = static_cast<std::size_t>(nx) * ny * nz;
    std::vector<float> outside(count), inside(count);
    for (int chamber = 0; chamber < kChambers; ++chamber) {
        std::fill(outside.begin(), outside.end(), 1e6F);
        std::fill(inside.begin(), inside.end(), 0.0F);
        for (int j = 0; j < nj; ++j) {
            for (int k = 0; k < nk; ++k) {
                for (int i = 0; i < ni; ++i) {
                    if (labels[(static_cast<std::size_t>(k) * nj + j) * ni + i] != chamber + 1) continue;
                    const std::size_t at =
                        (static_cast<std::size_t>(j + kPad) * ny + (k + kPad)) * nx + (ni - 1 - i + kPad);
                    outside[at] = 0;
                    inside[at] = 1e6F;
                }
            }
        }
        squared_distance(outside, nx, ny, nz);
        squared_distance(inside, nx, ny, nz);
        for (int z = 0; z < shape.size_[2]; ++z) {
            for (int y = 0; y < shape.size_[1]; ++y) {
                for (int x = 0; x < shape.size_[0]; ++x) {
                    // The mean of 2 x 2 x 2 smooths trabeculae; its centre lies half a voxel further (see distances).
                    float sum = 0;
                    for (int c = 0; c < 8; ++c) {
                        const int px = std::min(x * kStep + (c & 1), nx - 1),
                                  py = std::min(y * kStep + ((c >> 1) & 1), ny - 1);
                        const int pz = std::min(z * kStep + (c >> 2), nz - 1);
                        const std::size_t at = (static_cast<std::size_t>(pz) * ny + py) * nx + px;
                        // Half a voxel on either side of the wall, so that it lies between the two centres.
                        sum += outside[at] > 0 ? std::sqrt(outside[at]) - 0.5F : 0.5F - std::sqrt(inside[at]);
                    }
                    shape.table_[((static_cast<std::size_t>(z) * shape.size_[1] + y) * shape.size_[0] + x) * 8 +
                                 chamber] = std::clamp(sum / 8, -kLimit, kLimit);
                }
            }
        }
    }
    return shape;
}

std::array<float, 8> HeartShape::distances(Vec canonical) const {
    const float px = (canonical.x + kCentre.x + kPad - 0.5F) / kStep,
                py = (canonical.y + kCentre.y + kPad - 0.5F) / kStep;
    const float pz = (canonical.z + kCentre.z + kPad - 0.5F) / kStep;
    const float cx = std::clamp(px, 0.0F, static_cast<float>(size_[0]) - 1.001F);
    const float cy = std::clamp(py, 0.0F, static_cast<float>(size_[1]) - 1.001F);
    const float cz = std::clamp(pz, 0.0F, static_cast<float>(size_[2]) - 1.001F);
    const float beyond = static_cast<float>(kStep) * length({px - cx, py - cy, pz - cz});
    const auto ix = static_cast<int>(cx), iy = static_cast<int>(cy), iz = static_cast<int>(cz);
    const float tx = cx - static_cast<float>(ix), ty = cy - static_cast<float>(iy), tz = cz - static_cast<float>(iz);
    const std::size_t row = static_cast<std::size_t>(size_[0]) * 8, slice = row * size_[1];
    const float* base = &table_[iz * slice + iy * row + static_cast<std::size_t>(ix) * 8];
    std::array<float, 8> result;
    const float w[8] = {
        (1 - tx) * (1 - ty) * (1 - tz), tx * (1 - ty) * (1 - tz), (1 - tx) * ty * (1 - tz), tx * ty * (1 - tz),
        (1 - tx) * (1 - ty) * tz,       tx * (1 - ty) * tz,       (1 - tx) * ty * tz,       tx * ty * tz};
    const float* corner[8] = {base,         base + 8,         base + row,         base + row + 8,
                              base + slice, base + slice + 8, base + slice + row, base + slice + row + 8};
    for (int c = 0; c < 8; ++c) {
        float sum = beyond;
        for (int k = 0; k < 8; ++k) sum += w[k] * corner[k][c];
        result[c] = sum;
    }
    return result;
}

}  // namespace cardionode::train
