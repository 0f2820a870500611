#include "pipeline/evaluate/overlap.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <itkImage.h>
#include <itkSignedMaurerDistanceMapImageFilter.h>

#include "pipeline/evaluate/statistics.h"

namespace cardionode {
namespace {

using Mask = itk::Image<std::uint8_t, 3>;
using Distances = itk::Image<float, 3>;

/// Voxels [low, high) along each axis.
struct Box {
    std::array<std::int64_t, 3> low{}, high{};
    bool empty() const { return high[0] <= low[0]; }
};

/// Around every voxel of either mask.
Box box_of(const LabelMap& found, int found_label, const LabelMap& truth, int truth_label) {
    const auto& size = found.grid.size();
    Box box{size, {0, 0, 0}};
    std::int64_t o = 0;
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i, ++o) {
                const auto at = static_cast<std::size_t>(o);
                if (found.voxels[at] != found_label && truth.voxels[at] != truth_label) continue;
                const std::array<std::int64_t, 3> ijk = {i, j, k};
                for (std::size_t a = 0; a < 3; ++a) {
                    box.low[a] = std::min(box.low[a], ijk[a]);
                    box.high[a] = std::max(box.high[a], ijk[a] + 1);
                }
            }
        }
    }
    return box;
}

/// The surface inside the box as an ITK image whose first voxel is the box's, and the surface voxels' places in it.
struct Surface {
    Mask::Pointer mask;
    std::vector<Mask::IndexType> voxels;
};

Surface surface_of(const LabelMap& map, int label, const Box& box) {
    Surface surface;
    surface.mask = Mask::New();
    Mask::SizeType size;
    Mask::SpacingType spacing;
    for (unsigned a = 0; a < 3; ++a) {
        size[a] = static_cast<itk::SizeValueType>(box.high[a] - box.low[a]);
        spacing[a] = map.grid.spacing()[a];
    }
    surface.mask->SetRegions(size);
    surface.mask->SetSpacing(spacing);
    surface.mask->Allocate(true);
    const auto is = [&](const VoxelIndex& v) {
        return map.voxels[static_cast<std::size_t>(map.grid.offset(v))] == label;
    };
    for (std::int64_t k = box.low[2]; k < box.high[2]; ++k) {
        for (std::int64_t j = box.low[1]; j < box.high[1]; ++j) {
            for (std::int64_t i = box.low[0]; i < box.high[0]; ++i) {
                if (!is({{i, j, k}})) continue;
                bool border = false;
                for (std::size_t a = 0; a < 3 && !border; ++a) {
                    for (const std::int64_t step : {-1, 1}) {
                        VoxelIndex next{{i, j, k}};
                        next.ijk[a] += step;
                        if (map.grid.contains(next) && !is(next)) border = true;
                    }
                }
                if (!border) continue;
                const Mask::IndexType at = {{i - box.low[0], j - box.low[1], k - box.low[2]}};
                surface.mask->SetPixel(at, 1);
                surface.voxels.push_back(at);
            }
        }
    }
    return surface;
}

/// Distance of each surface voxel of `from` to the nearest of `to`, mm.
std::vector<double> distances(const Surface& from, const Surface& to) {
    using Filter = itk::SignedMaurerDistanceMapImageFilter<Mask, Distances>;
    const auto filter = Filter::New();
    filter->SetInput(to.mask);
    filter->SetSquaredDistance(false);
    filter->SetUseImageSpacing(true);
    filter->SetNumberOfWorkUnits(1);
    filter->Update();
    std::vector<double> mm;
    mm.reserve(from.voxels.size());
    // A surface is at most two voxels thick, so inside it the signed distance is zero; outside it is positive.
    for (const auto& at : from.voxels) {
        mm.push_back(std::max(0.0, static_cast<double>(filter->GetOutput()->GetPixel(at))));
    }
    return mm;
}

Result<void> same_grid(const LabelMap& found, const LabelMap& truth) {
    if (!found.grid.same_as(truth.grid)) return bug_error("masks on different grids cannot be compared");
    return {};
}

}  // namespace

VoxelCounts& VoxelCounts::operator+=(const VoxelCounts& other) {
    both += other.both;
    found += other.found;
    truth += other.truth;
    return *this;
}

std::optional<double> VoxelCounts::dice() const {
    if (found + truth == 0) return std::nullopt;
    return 2.0 * static_cast<double>(both) / static_cast<double>(found + truth);
}

Result<VoxelCounts> count_voxels(const LabelMap& found, int found_label, const LabelMap& truth, int truth_label) {
    if (auto ok = same_grid(found, truth); !ok) return std::move(ok).error();
    VoxelCounts counts;
    for (std::size_t v = 0; v < found.voxels.size(); ++v) {
        const bool a = found.voxels[v] == found_label, b = truth.voxels[v] == truth_label;
        counts.both += a && b;
        counts.found += a;
        counts.truth += b;
    }
    return counts;
}

Result<std::optional<SurfaceDistances>> surface_distances(const LabelMap& found, int found_label, const LabelMap& truth,
                                                          int truth_label) {
    if (auto ok = same_grid(found, truth); !ok) return std::move(ok).error();
    const std::optional<SurfaceDistances> none;
    const Box box = box_of(found, found_label, truth, truth_label);
    if (box.empty()) return none;
    try {
        const Surface a = surface_of(found, found_label, box), b = surface_of(truth, truth_label, box);
        if (a.voxels.empty() && b.voxels.empty()) return none;
        if (a.voxels.empty() || b.voxels.empty()) return std::optional(SurfaceDistances{kMissed, kMissed});
        std::vector<double> there = distances(a, b), back = distances(b, a);
        SurfaceDistances result;
        result.hausdorff95_mm = std::max(quantile(there, 0.95), quantile(back, 0.95));
        for (const std::vector<double>* way : {&there, &back}) {
            for (const double mm : *way) result.average_mm += mm;
        }
        result.average_mm /= static_cast<double>(there.size() + back.size());
        return std::optional(result);
    } catch (const itk::ExceptionObject& failure) {
        return bug_error(std::string("surface distance: ") + failure.GetDescription());
    } catch (const std::bad_alloc&) {
        return retry_error("not enough memory for surface distances");
    }
}

}  // namespace cardionode
