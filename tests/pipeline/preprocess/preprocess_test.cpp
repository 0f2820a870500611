#include "pipeline/preprocess/preprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

namespace cardionode {
namespace {

using Field = std::function<double(const Vec3&)>;

Volume sampled(const Grid& grid, const Field& field) {
    Volume v(grid, 0.0F);
    for (std::int64_t k = 0; k < grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < grid.size()[1]; ++j) {
            for (std::int64_t i = 0; i < grid.size()[0]; ++i) {
                v.at({{i, j, k}}) = static_cast<float>(field(grid.to_patient(VoxelIndex{{i, j, k}}).lps_mm));
            }
        }
    }
    return v;
}

Grid grid(Vec3 origin, std::array<Vec3, 3> axes, Vec3 spacing, std::array<std::int64_t, 3> size) {
    return *Grid::create({origin}, axes, spacing, size);
}

constexpr std::array<Vec3, 3> kLps = {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};

/// Hands HU through unchanged.
InputManifest plain_input(double spacing) {
    InputManifest m;
    m.spacing_mm = {spacing, spacing, spacing};
    m.hu_low = -1e6;
    m.hu_high = 1e6;
    return m;
}

double ramp(const Vec3& p) { return 3 * p[0] - 2 * p[1] + 5 * p[2] + 40; }

/// The largest difference over the voxels that lie at least `margin_mm` inside the source.
double worst(const Volume& v, const Grid& source, const Field& field, double margin_mm,
             std::int64_t* compared = nullptr) {
    double most = 0;
    std::int64_t count = 0;
    for (std::int64_t k = 0; k < v.grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < v.grid.size()[1]; ++j) {
            for (std::int64_t i = 0; i < v.grid.size()[0]; ++i) {
                const PatientPoint p = v.grid.to_patient(VoxelIndex{{i, j, k}});
                const Vec3 at = source.to_index(p).ijk;
                bool inside = true;
                for (std::size_t a = 0; a < 3; ++a) {
                    const double m = margin_mm / source.spacing()[a] - 1e-6;
                    inside = inside && at[a] >= m && at[a] <= static_cast<double>(source.size()[a] - 1) - m;
                }
                if (!inside) continue;
                ++count;
                most = std::max(most, std::abs(v.at({{i, j, k}}) - field(p.lps_mm)));
            }
        }
    }
    if (compared != nullptr) *compared = count;
    return most;
}

TEST(Preprocess, CopiesAVolumeThatLiesOnTheNetworksGridVoxelForVoxel) {
    std::mt19937 random(3);
    const Grid g = grid({-71.6582, -255.658, 540.2}, kLps, {1.5, 1.5, 1.5}, {20, 17, 13});
    Volume v(g, 0.0F);
    for (float& x : v.voxels) x = static_cast<float>(static_cast<int>(random() % 3000) - 1000);
    const auto out = to_network_grid(v, plain_input(1.5));
    ASSERT_TRUE(out.ok());
    EXPECT_TRUE(out->grid.same_as(g));
    EXPECT_EQ(out->voxels, v.voxels);
}

TEST(Preprocess, PutsEveryOrientationOntoTheSameAxes) {
    const std::vector<std::array<Vec3, 3>> orientations = {
        kLps,
        {Vec3{-1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, -1}},
        {Vec3{0, 1, 0}, Vec3{0, 0, -1}, Vec3{-1, 0, 0}},  // sagittal
        {Vec3{1, 0, 0}, Vec3{0, 0, -1}, Vec3{0, 1, 0}},   // coronal
        {Vec3{0, 0, 1}, Vec3{1, 0, 0}, Vec3{0, 1, 0}},
        {Vec3{std::cos(0.5), std::sin(0.5), 0}, Vec3{-std::sin(0.5), std::cos(0.5), 0}, Vec3{0, 0, 1}},
        {Vec3{std::cos(0.01), 0, std::sin(0.01)}, Vec3{0, 1, 0}, Vec3{-std::sin(0.01), 0, std::cos(0.01)}}};
    for (const auto& axes : orientations) {
        const Grid source = grid({10, -20, 30}, axes, {1.2, 1.4, 1.6}, {21, 25, 23});
        const auto out = to_network_grid(sampled(source, ramp), plain_input(1.5));
        ASSERT_TRUE(out.ok());
        EXPECT_EQ(out->grid.axes(), kLps);
        EXPECT_EQ(out->grid.spacing(), (Vec3{1.5, 1.5, 1.5}));
        std::int64_t compared = 0;
        EXPECT_LT(worst(*out, source, ramp, 0, &compared), 1e-3);
        EXPECT_GT(compared, 3000);
    }
}

TEST(Preprocess, OutsideIsAir) {
    const double c = std::cos(0.6);
    const double s = std::sin(0.6);
    const Grid source = grid({0, 0, 0}, {Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}, {1, 1, 1}, {20, 20, 5});
    const auto out = to_network_grid(Volume(source, 100.0F), plain_input(1));
    ASSERT_TRUE(out.ok());
    EXPECT_EQ(out->at({{0, 0, 2}}), -1024.0F);  // a corner of the bounding box that the rotated source does not reach
    const auto middle = out->grid.nearest_voxel(source.to_patient(ContinuousIndex{{9.5, 9.5, 2}}));
    EXPECT_FLOAT_EQ(out->at(*middle), 100);
}

TEST(Preprocess, AWindowHasItsMiddleWhereItWasAskedForAndSizesOfTheTensor) {
    const auto window = window_grid({{10, 20, 30}}, {4, 8, 16}, {1, 1, 2});
    ASSERT_TRUE(window.ok());
    EXPECT_EQ(window->size(), (std::array<std::int64_t, 3>{16, 8, 4}));
    EXPECT_EQ(window->to_patient(ContinuousIndex{{7.5, 3.5, 1.5}}).lps_mm, (Vec3{10, 20, 30}));
    EXPECT_EQ(window->origin().lps_mm, (Vec3{2.5, 16.5, 27}));
}

TEST(Preprocess, AWindowSeesTheNativeVoxelsWhateverTheSourcesAxesAndAirOutside) {
    const std::vector<std::array<Vec3, 3>> orientations = {
        kLps,
        {Vec3{0, 1, 0}, Vec3{0, 0, -1}, Vec3{-1, 0, 0}},
        {Vec3{std::cos(0.5), std::sin(0.5), 0}, Vec3{-std::sin(0.5), std::cos(0.5), 0}, Vec3{0, 0, 1}}};
    for (const auto& axes : orientations) {
        const Grid source = grid({10, -20, 30}, axes, {0.8, 0.9, 0.7}, {60, 70, 80});
        const Volume ct = sampled(source, ramp);
        const auto middle = window_grid(source.to_patient(VoxelIndex{{30, 35, 40}}), {16, 16, 16}, {1, 1, 1});
        const auto inside = to_network_grid(ct, plain_input(1), *middle);
        ASSERT_TRUE(inside.ok());
        EXPECT_TRUE(inside->grid.same_as(*middle));
        std::int64_t compared = 0;
        EXPECT_LT(worst(*inside, source, ramp, 0, &compared), 1e-3);
        EXPECT_EQ(compared, 16 * 16 * 16);
        const auto corner = window_grid(source.origin(), {16, 16, 16}, {1, 1, 1});
        const auto partly = to_network_grid(ct, plain_input(1), *corner);
        ASSERT_TRUE(partly.ok());
        EXPECT_LT(worst(*partly, source, ramp, 0, &compared), 1e-3);
        EXPECT_GT(compared, 300);
        EXPECT_GT(std::count(partly->voxels.begin(), partly->voxels.end(), -1024.0F), 1000);
        const auto away = window_grid({{1000, 1000, 1000}}, {8, 8, 8}, {1, 1, 1});
        EXPECT_EQ(to_network_grid(ct, plain_input(1), *away)->voxels, std::vector<float>(512, -1024.0F));
    }
}

TEST(Preprocess, APartOfARotatedFineSourceIsSmoothedAsTheWholeIs) {
    std::mt19937 random(5);
    const double c = std::cos(0.3), s = std::sin(0.3);
    const Grid source = grid({0, 0, 0}, {Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}, {0.4, 0.4, 0.5}, {90, 90, 60});
    Volume ct(source, 0.0F);
    for (float& x : ct.voxels) x = static_cast<float>(random() % 1000);
    const auto whole = to_network_grid(ct, plain_input(1));
    ASSERT_TRUE(whole.ok());
    const VoxelIndex first{{10, 20, 12}};
    const Grid part = grid(whole->grid.to_patient(first).lps_mm, kLps, {1, 1, 1}, {8, 8, 8});
    const auto window = to_network_grid(ct, plain_input(1), part);
    ASSERT_TRUE(window.ok());
    for (std::int64_t k = 0; k < 8; ++k) {
        for (std::int64_t i = 0; i < 8; ++i) {
            EXPECT_NEAR(window->at({{i, 3, k}}), whole->at({{10 + i, 23, 12 + k}}), 0.01);
        }
    }
}

TEST(Preprocess, ClipsAndScales) {
    InputManifest m;
    m.spacing_mm = {1, 1, 1};
    m.hu_low = -1024;
    m.hu_high = 696;
    m.mean = -440;
    m.sd = 520;
    Volume v(grid({0, 0, 0}, kLps, {1, 1, 1}, {3, 1, 1}), 0.0F);
    v.voxels = {-3000, 80, 3000};
    const auto out = to_network_grid(v, m);
    ASSERT_TRUE(out.ok());
    EXPECT_FLOAT_EQ(out->voxels[0], (-1024 + 440) / 520.0F);
    EXPECT_FLOAT_EQ(out->voxels[1], (80 + 440) / 520.0F);
    EXPECT_FLOAT_EQ(out->voxels[2], (696 + 440) / 520.0F);
}

TEST(Preprocess, SmoothsAwayWhatTheCoarserGridCannotShow) {
    const double c = std::cos(0.02);
    const double s = std::sin(0.02);
    // Straight and slightly rotated sources take different ways through the code.
    for (const auto& axes : {kLps, std::array<Vec3, 3>{Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}}) {
        const Grid source = grid({0, 0, 0}, axes, {0.5, 0.5, 0.5}, {60, 60, 60});
        Volume checkers(source, 0.0F);
        for (std::int64_t k = 0; k < 60; ++k) {
            for (std::int64_t j = 0; j < 60; ++j) {
                for (std::int64_t i = 0; i < 60; ++i) checkers.at({{i, j, k}}) = (i + j + k) % 2 == 0 ? 500 : -500;
            }
        }
        auto out = to_network_grid(checkers, plain_input(2));
        ASSERT_TRUE(out.ok());
        EXPECT_LT(worst(
                      *out, source, [](const Vec3&) { return 0.0; }, 4),
                  1);
        // And a slope keeps its height, away from the edges.
        out = to_network_grid(sampled(source, ramp), plain_input(2));
        ASSERT_TRUE(out.ok());
        EXPECT_LT(worst(*out, source, ramp, 4), 1e-2);
    }
}

TEST(Preprocess, BothWaysThroughTheCodeAgree) {
    const auto waves = [](const Vec3& p) {
        return 300 * std::sin(p[0] / 3) * std::cos(p[1] / 4) + 100 * std::sin(p[2] / 2.5);
    };
    const double a = 0.0015;  // just too much for the straight way
    const Grid straight = grid({0, 0, 0}, kLps, {0.6, 0.6, 0.8}, {80, 80, 60});
    const Grid turned =
        grid({0, 0, 0}, {Vec3{std::cos(a), std::sin(a), 0}, Vec3{-std::sin(a), std::cos(a), 0}, Vec3{0, 0, 1}},
             {0.6, 0.6, 0.8}, {80, 80, 60});
    const auto one = to_network_grid(sampled(straight, waves), plain_input(1.7));
    const auto two = to_network_grid(sampled(turned, waves), plain_input(1.7));
    ASSERT_TRUE(one.ok() && two.ok());
    const Grid& g = one->grid;
    double most = 0;
    for (std::int64_t k = 3; k < g.size()[2] - 3; ++k) {
        for (std::int64_t j = 3; j < g.size()[1] - 3; ++j) {
            for (std::int64_t i = 3; i < g.size()[0] - 3; ++i) {
                const PatientPoint p = g.to_patient(VoxelIndex{{i, j, k}});
                // The turned box begins a tenth of a millimetre further out: the same place, by interpolation's slope.
                const Vec3 at = two->grid.to_index(p).ijk;
                const auto near = two->grid.nearest_voxel(p);
                const double off = std::abs(at[0] - std::round(at[0])) * 1.7 * 100;
                most = std::max(most, std::abs(one->at({{i, j, k}}) - two->at(*near)) - off);
            }
        }
    }
    EXPECT_LT(most, 3);
}

TEST(Preprocess, RefusesWhatItCannotDo) {
    const Volume v(grid({0, 0, 0}, kLps, {1, 1, 1}, {10, 10, 10}), 0.0F);
    auto m = plain_input(1);
    m.orientation = "RAS";
    EXPECT_EQ(to_network_grid(v, m).error().kind, ErrorKind::Reject);
    m = plain_input(1);
    m.sd = 0;
    EXPECT_EQ(to_network_grid(v, m).error().kind, ErrorKind::Reject);
    EXPECT_EQ(to_network_grid(v, plain_input(0)).error().kind, ErrorKind::Reject);
    EXPECT_EQ(to_network_grid(v, plain_input(1e-4)).error().kind, ErrorKind::Reject);
    EXPECT_EQ(network_grid(v.grid, {1, 1, 1}, 999).error().kind, ErrorKind::Reject);
    EXPECT_TRUE(network_grid(v.grid, {1, 1, 1}, 1000).ok());
    EXPECT_EQ(labels_on_source({}, v.grid).error().kind, ErrorKind::Reject);
}

/// Soft probabilities of two balls and the rest.
std::vector<ScoreMap> balls(const Grid& net) {
    const auto ball = [](const Vec3& centre, double radius) {
        return
            [centre, radius](const Vec3& p) { return 1 / (1 + std::exp((norm(subtract(p, centre)) - radius) / 0.8)); };
    };
    const ScoreMap one = sampled(net, ball({12, 14, 10}, 6));
    const ScoreMap two = sampled(net, ball({22, 16, 12}, 5));
    ScoreMap rest(net, 0.0F);
    for (std::size_t v = 0; v < rest.voxels.size(); ++v)
        rest.voxels[v] = std::max(0.0F, 1 - one.voxels[v] - two.voxels[v]);
    return {rest, one, two};
}

/// Trilinear interpolation written once more, the slow way.
double interpolated(const ScoreMap& m, const PatientPoint& p) {
    const Vec3 at = m.grid.to_index(p).ijk;
    double sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
        double w = 1;
        VoxelIndex v;
        for (std::size_t a = 0; a < 3; ++a) {
            const double x = std::clamp(at[a], 0.0, static_cast<double>(m.grid.size()[a] - 1));
            const double low = std::floor(x);
            const bool high = ((corner >> a) & 1) != 0;
            w *= high ? x - low : 1 - (x - low);
            v.ijk[a] = std::min<std::int64_t>(static_cast<std::int64_t>(low) + (high ? 1 : 0), m.grid.size()[a] - 1);
        }
        sum += w * m.at(v);
    }
    return sum;
}

TEST(LabelsOnSource, AreTheLargestInterpolatedProbability) {
    const Grid net = grid({0, 0, 0}, kLps, {2, 2, 2}, {18, 16, 12});
    const auto channels = balls(net);
    const double c = std::cos(0.3);
    const double s = std::sin(0.3);
    for (const Grid& source :
         {grid({3, 2, 1}, kLps, {0.7, 0.7, 0.9}, {40, 35, 20}),
          grid({33, 29, 20}, {Vec3{-1, 0, 0}, Vec3{0, 0, -1}, Vec3{0, -1, 0}}, {0.7, 0.8, 0.9}, {40, 22, 28}),
          grid({10, 3, 2}, {Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}, {0.9, 0.9, 1.1}, {20, 20, 15})}) {
        const auto labels = labels_on_source(channels, source);
        ASSERT_TRUE(labels.ok());
        std::int64_t foreground = 0;
        std::int64_t different = 0;
        for (std::int64_t k = 0; k < source.size()[2]; ++k) {
            for (std::int64_t j = 0; j < source.size()[1]; ++j) {
                for (std::int64_t i = 0; i < source.size()[0]; ++i) {
                    const PatientPoint p = source.to_patient(VoxelIndex{{i, j, k}});
                    std::array<double, 3> v{};
                    for (std::size_t ch = 0; ch < 3; ++ch) v[ch] = interpolated(channels[ch], p);
                    const auto best = static_cast<int>(std::max_element(v.begin(), v.end()) - v.begin());
                    const int got = labels->at({{i, j, k}});
                    foreground += best != 0 ? 1 : 0;
                    different += got != best && std::abs(v[static_cast<std::size_t>(got)] -
                                                         v[static_cast<std::size_t>(best)]) > 1e-6
                                     ? 1
                                     : 0;
                }
            }
        }
        EXPECT_GT(foreground, 500);
        EXPECT_EQ(different, 0);
    }
}

TEST(LabelsOnSource, KeepVolumeAndPlace) {
    const Grid net = grid({0, 0, 0}, kLps, {2, 2, 2}, {18, 16, 12});
    const Grid source = grid({0, 0, 0}, kLps, {0.5, 0.5, 0.5}, {69, 61, 45});
    const auto labels = labels_on_source(balls(net), source);
    ASSERT_TRUE(labels.ok());
    Vec3 sum{};
    double count = 0;
    for (std::int64_t k = 0; k < source.size()[2]; ++k) {
        for (std::int64_t j = 0; j < source.size()[1]; ++j) {
            for (std::int64_t i = 0; i < source.size()[0]; ++i) {
                if (labels->at({{i, j, k}}) != 1) continue;
                sum = add(sum, source.to_patient(VoxelIndex{{i, j, k}}).lps_mm);
                ++count;
            }
        }
    }
    EXPECT_NEAR(count * source.voxel_volume_mm3(), 4.0 / 3 * M_PI * 216,
                45);  // 905 mm3; linear interpolation cuts bulges off
    EXPECT_LT(norm(subtract(scale(sum, 1 / count), {12, 14, 10})), 0.2);
}

TEST(LabelsOnSource, AreBackgroundOutsideTheNetworksGrid) {
    const Grid net = grid({0, 0, 0}, kLps, {2, 2, 2}, {5, 5, 5});
    const std::vector<ScoreMap> channels = {ScoreMap(net, 0.1F), ScoreMap(net, 0.9F)};
    const Grid source = grid({-4, 0, 0}, kLps, {1, 1, 1}, {20, 9, 9});
    const auto labels = labels_on_source(channels, source);
    ASSERT_TRUE(labels.ok());
    EXPECT_EQ(labels->at({{0, 4, 4}}), 0);
    EXPECT_EQ(labels->at({{4, 4, 4}}), 1);
    EXPECT_EQ(labels->at({{12, 4, 4}}), 1);
    EXPECT_EQ(labels->at({{14, 4, 4}}), 0);
}

TEST(LabelsOnSource, PreferTheLowerChannelWhenEqual) {
    const Grid net = grid({0, 0, 0}, kLps, {2, 2, 2}, {3, 3, 3});
    const std::vector<ScoreMap> channels = {ScoreMap(net, 0.2F), ScoreMap(net, 0.4F), ScoreMap(net, 0.4F)};
    const auto labels = labels_on_source(channels, net);
    ASSERT_TRUE(labels.ok());
    EXPECT_THAT(labels->voxels, testing::Each(1));
}

TEST(LabelsOnSource, OfALabelMapAreTheNearestVoxels) {
    const Grid net = grid({0, 0, 0}, kLps, {2, 2, 2}, {4, 4, 4});
    LabelMap labels(net, std::uint8_t{0});
    labels.at({{2, 1, 3}}) = 7;
    const LabelMap out = labels_on_source(labels, grid({0, 0, 0}, kLps, {1, 1, 1}, {8, 8, 8}));
    EXPECT_EQ(out.at({{4, 2, 6}}), 7);
    EXPECT_EQ(out.at({{1, 2, 6}}), 0);
    EXPECT_EQ(out.at({{4, 2, 3}}), 0);
}

TEST(LabelsInto, ChangesOnlyWhatLiesInsideTheMargin) {
    const Grid window = grid({10, 10, 10}, kLps, {1, 1, 1}, {11, 11, 11});
    std::vector<ScoreMap> channels = {ScoreMap(window, 0.2F), ScoreMap(window, 0.8F)};
    channels[0].at({{5, 5, 5}}) = 0.9F;
    channels[1].at({{5, 5, 5}}) = 0.1F;
    LabelMap labels(grid({0, 0, 0}, kLps, {0.5, 0.5, 0.5}, {60, 60, 60}), std::uint8_t{7});
    ASSERT_TRUE(labels_into(channels, 3, labels).ok());
    for (const auto& [mm, expected] :
         {std::pair{12.5, 7}, std::pair{13.0, 1}, std::pair{15.0, 0}, std::pair{17.0, 1}, std::pair{17.5, 7}}) {
        const auto i = static_cast<std::int64_t>(mm * 2);
        EXPECT_EQ(labels.at({{i, 30, 30}}), expected) << mm;
        EXPECT_EQ(labels.at({{30, 30, i}}), expected) << mm;
    }
    EXPECT_EQ(labels.at({{0, 0, 0}}), 7);
}

TEST(ScoresOn, InterpolatesAndSaysWhatLiesOutside) {
    ScoreMap scores(grid({0, 0, 0}, kLps, {2, 2, 2}, {3, 3, 3}), 0.0F);
    for (std::int64_t k = 0; k < 3; ++k) {
        for (std::int64_t j = 0; j < 3; ++j) scores.at({{1, j, k}}) = 1;
    }
    const ScoreMap fine = scores_on(scores, grid({-2, 2, 2}, kLps, {1, 1, 1}, {7, 1, 1}), -5.0F);
    EXPECT_EQ(fine.voxels, (std::vector<float>{-5, 0, 0, 0.5, 1, 0.5, 0}));
}

}  // namespace
}  // namespace cardionode
