#include "models/train/study_augment.h"

#include <cmath>
#include <numbers>

#include "models/train/random.h"

namespace cardionode::train {
namespace {

namespace F = torch::nn::functional;

/// Streams of one seed: a change that is added later moves no other.
enum Stream : std::uint64_t { kRotate = 31, kScale, kBlur, kLowResolution, kContrast, kGamma, kNoise };

constexpr Turn kIdentity = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};

Turn times(const Turn& a, const Turn& b) {
    Turn c{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            for (std::size_t k = 0; k < 3; ++k) c[i][j] += a[i][k] * b[k][j];
        }
    }
    return c;
}

torch::Tensor blurred(const torch::Tensor& image, double sigma) {
    const auto reach = static_cast<std::int64_t>(std::ceil(3 * sigma));
    const torch::Tensor at = torch::arange(-reach, reach + 1, torch::kFloat);
    torch::Tensor kernel = torch::exp(at.square() / (-2 * sigma * sigma));
    kernel = kernel / kernel.sum();
    torch::Tensor x = image.unsqueeze(0).unsqueeze(0);
    for (std::int64_t axis = 0; axis < 3; ++axis) {
        std::vector<std::int64_t> shape = {1, 1, 1, 1, 1}, pad = {0, 0, 0, 0, 0, 0};
        shape[static_cast<std::size_t>(axis + 2)] = 2 * reach + 1;
        pad[static_cast<std::size_t>(2 * (2 - axis))] = pad[static_cast<std::size_t>(2 * (2 - axis) + 1)] = reach;
        x = torch::conv3d(F::pad(x, F::PadFuncOptions(pad).mode(torch::kReplicate)), kernel.view(shape));
    }
    return x.squeeze(0).squeeze(0);
}

torch::Tensor coarsened(const torch::Tensor& image, double factor) {
    std::vector<std::int64_t> small, full;
    for (const std::int64_t side : image.sizes()) {
        full.push_back(side);
        small.push_back(std::max<std::int64_t>(1, std::llround(static_cast<double>(side) / factor)));
    }
    const torch::Tensor low =
        F::interpolate(image.unsqueeze(0).unsqueeze(0), F::InterpolateFuncOptions().size(small).mode(torch::kNearest));
    return F::interpolate(low, F::InterpolateFuncOptions().size(full).mode(torch::kTrilinear).align_corners(false))
        .squeeze(0)
        .squeeze(0);
}

}  // namespace

bool is_identity(const Turn& turn) { return turn == kIdentity; }

Turn draw_turn(const AugmentRecipe& recipe, std::uint64_t seed) {
    Turn turn = kIdentity;
    Random rotate(seed, kRotate), scale(seed, kScale);
    if (rotate.chance(static_cast<float>(recipe.rotate))) {
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const double angle = rotate.normal(0, static_cast<float>(recipe.rotate_degrees)) * std::numbers::pi / 180;
            const std::size_t a = (axis + 1) % 3, b = (axis + 2) % 3;
            Turn one = kIdentity;
            one[a][a] = one[b][b] = std::cos(angle);
            one[b][a] = std::sin(angle);
            one[a][b] = -one[b][a];
            turn = times(one, turn);
        }
    }
    if (scale.chance(static_cast<float>(recipe.scale))) {
        const double factor = std::exp(scale.uniform(-1, 1) * std::log(recipe.scale_most));
        for (auto& row : turn) {
            for (double& value : row) value *= factor;
        }
    }
    return turn;
}

std::array<std::int64_t, 3> sides_before_turn(const Turn& turn, const std::array<int, 3>& window) {
    std::array<std::int64_t, 3> sides{};
    for (std::size_t i = 0; i < 3; ++i) {
        double reach = 0;
        for (std::size_t j = 0; j < 3; ++j) reach += std::abs(turn[i][j]) * 0.5 * (window[j] - 1);
        const double more = std::max(0.0, reach - 0.5 * (window[i] - 1));
        sides[i] = window[i] + 2 * static_cast<std::int64_t>(std::ceil(more));
    }
    return sides;
}

torch::Tensor turned(const torch::Tensor& source, const Turn& turn, const std::array<int, 3>& window, bool labels) {
    // affine_grid counts in halves of the sides, and in the order x, y, z.
    torch::Tensor theta = torch::zeros({1, 3, 4});
    for (std::int64_t i = 0; i < 3; ++i) {
        for (std::int64_t j = 0; j < 3; ++j) {
            const double half_source = 0.5 * static_cast<double>(std::max<std::int64_t>(source.size(i) - 1, 1));
            theta[0][2 - i][2 - j] = turn[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] * 0.5 *
                                     (window[static_cast<std::size_t>(j)] - 1) / half_source;
        }
    }
    const torch::Tensor grid = F::affine_grid(theta, {1, 1, window[0], window[1], window[2]}, /*align_corners=*/true);
    auto options = F::GridSampleFuncOptions().padding_mode(torch::kBorder).align_corners(true);
    if (labels) options.mode(torch::kNearest);
    else options.mode(torch::kBilinear);
    return F::grid_sample(source.unsqueeze(0).unsqueeze(0), grid, options).squeeze(0).squeeze(0);
}

torch::Tensor changed(torch::Tensor image, const AugmentRecipe& recipe, std::uint64_t seed, float low, float high) {
    Random blur(seed, kBlur), coarse(seed, kLowResolution), contrast(seed, kContrast), gamma(seed, kGamma),
        noise(seed, kNoise);
    const torch::Tensor untouched = image;
    if (blur.chance(static_cast<float>(recipe.blur)))
        image = blurred(image, blur.uniform(0.3F, static_cast<float>(recipe.blur_voxels)));
    if (coarse.chance(static_cast<float>(recipe.low_resolution)))
        image = coarsened(image, coarse.uniform(1, static_cast<float>(recipe.low_resolution_most)));
    if (contrast.chance(static_cast<float>(recipe.contrast))) {
        const torch::Tensor mean = image.mean();
        image = (image - mean) * std::exp(contrast.normal(0, static_cast<float>(recipe.contrast_width))) + mean;
    }
    if (!image.is_same(untouched)) image = image.clamp(low, high);
    if (gamma.chance(static_cast<float>(recipe.gamma))) {
        const float exponent = std::exp(gamma.uniform(-1, 1) * std::log(static_cast<float>(recipe.gamma_most)));
        image = ((image - low) / (high - low)).clamp(0, 1).pow(exponent) * (high - low) + low;
    }
    if (noise.chance(static_cast<float>(recipe.noise))) {
        const float sd = noise.uniform(0, static_cast<float>(recipe.noise_most)) * (high - low);
        image = image.contiguous().clone();
        auto* values = image.data_ptr<float>();
        for (std::int64_t i = 0; i < image.numel(); ++i) values[i] += sd * noise.normal();
    }
    return image.is_same(untouched) ? image : image.clamp(low, high);  // what nothing changed stays bit for bit
}

}  // namespace cardionode::train
