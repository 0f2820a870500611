#include "pipeline/outputs/pages.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include <fmt/format.h>

#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

constexpr double kRootWidthMm = 120;
constexpr double kLengthwiseWidthMm = 80;
constexpr double kAnnulusWidthMm = 70;

PatientPoint centre_of_volume(const Grid& grid) {
    ContinuousIndex index;
    for (std::size_t a = 0; a < 3; ++a) index.ijk[a] = (static_cast<double>(grid.size()[a]) - 1) / 2;
    return grid.to_patient(index);
}

/// Centre of all labelled voxels of the first group that has any.
std::optional<PatientPoint> centre_of_labels(const Findings& findings) {
    for (const SegmentGroup& group : findings.groups) {
        const Grid& grid = group.labels.grid;
        std::array<double, 3> sum{};
        double count = 0;
        std::size_t n = 0;
        for (std::int64_t k = 0; k < grid.size()[2]; ++k) {
            for (std::int64_t j = 0; j < grid.size()[1]; ++j) {
                for (std::int64_t i = 0; i < grid.size()[0]; ++i, ++n) {
                    if (group.labels.voxels[n] == 0) continue;
                    sum[0] += static_cast<double>(i);
                    sum[1] += static_cast<double>(j);
                    sum[2] += static_cast<double>(k);
                    ++count;
                }
            }
        }
        if (count > 0) return grid.to_patient(ContinuousIndex{{sum[0] / count, sum[1] / count, sum[2] / count}});
    }
    return std::nullopt;
}

/// The aortic root, or the best guess of where to look.
PatientPoint centre_of_interest(const CtSeries& source, const Findings& findings) {
    Vec3 sum{};
    double count = 0;
    for (const Landmark& landmark : findings.landmarks) {
        if (!landmark.position) continue;
        sum = add(sum, landmark.position->lps_mm);
        ++count;
    }
    if (count > 0) return {scale(sum, 1 / count)};
    if (findings.annular_plane) return findings.annular_plane->point;
    if (const auto labels = centre_of_labels(findings)) return *labels;
    return centre_of_volume(source.volume.grid);
}

/// Axes of the slices, turned and mirrored in their plane so that an axial one has the patient's left on the right.
std::pair<Vec3, Vec3> slice_axes(const Grid& grid) {
    const Vec3 row = grid.axes()[0], column = grid.axes()[1];
    const Vec3 wanted_right = {1, 0, 0}, wanted_down = {0, 1, -1};
    std::pair<Vec3, Vec3> best{row, column};
    double best_fit = -10;
    for (const auto& [a, b] : {std::pair{row, column}, std::pair{column, row}}) {
        for (const double sa : {1.0, -1.0}) {
            for (const double sb : {1.0, -1.0}) {
                const Vec3 right = scale(a, sa), down = scale(b, sb);
                const double fit = dot(right, wanted_right) + dot(down, wanted_down);
                if (fit > best_fit + 1e-9) {
                    best_fit = fit;
                    best = {right, down};
                }
            }
        }
    }
    return best;
}

Page slice_page(const CtSeries& source, const PatientPoint& centre, std::int64_t k, std::string id, std::string title) {
    const Grid& grid = source.volume.grid;
    ContinuousIndex index = grid.to_index(centre);
    index.ijk[2] = static_cast<double>(k);
    const auto [right, down] = slice_axes(grid);
    Page page;
    page.id = std::move(id);
    page.title = std::move(title);
    page.view = View{grid.to_patient(index), right, down, kRootWidthMm};
    page.slice = k;
    page.place = fmt::format("slice {} of {}, z {:.1f} mm", k + 1, grid.size()[2], page.view->centre.lps_mm[2]);
    return page;
}

/// The slice with the most voxels of abnormal structures (calcium).
std::optional<std::int64_t> slice_of_most_calcium(const Findings& findings) {
    std::optional<std::int64_t> best;
    std::int64_t most = 0;
    for (const SegmentGroup& group : findings.groups) {
        std::array<bool, 256> abnormal{};
        for (const Segment& segment : group.segments) {
            if (segment.category.value == "49755003") abnormal[static_cast<std::size_t>(segment.label)] = true;
        }
        const Grid& grid = group.labels.grid;
        const std::int64_t per_slice = grid.size()[0] * grid.size()[1];
        for (std::int64_t k = 0; k < grid.size()[2]; ++k) {
            const auto* begin = group.labels.voxels.data() + k * per_slice;
            const auto count = std::count_if(begin, begin + per_slice, [&](std::uint8_t v) { return abnormal[v]; });
            if (count > most) {
                most = count;
                best = k;
            }
        }
    }
    return best;
}

void add_landmark_slices(const CtSeries& source, const Findings& findings, const PatientPoint& centre,
                         std::vector<Page>& pages) {
    std::vector<Page> slices;
    for (const Landmark& landmark : findings.landmarks) {
        if (!landmark.position) continue;
        const auto voxel = source.volume.grid.nearest_voxel(*landmark.position);
        if (!voxel) continue;
        const std::int64_t k = voxel->ijk[2];
        const auto same = std::find_if(slices.begin(), slices.end(), [&](const Page& p) { return p.slice == k; });
        if (same != slices.end()) same->title += "; " + landmark.title;
        else slices.push_back(slice_page(source, centre, k, "axial_" + landmark.name, landmark.title));
    }
    std::sort(slices.begin(), slices.end(), [](const Page& a, const Page& b) { return *a.slice > *b.slice; });
    std::move(slices.begin(), slices.end(), std::back_inserter(pages));
}

/// The patient's left as far as it lies in the plane; his back where the plane is a sagittal one.
Vec3 left_in_plane(const Vec3& normal) {
    Vec3 left = subtract({1, 0, 0}, scale(normal, normal[0]));
    if (norm(left) < 0.1) left = subtract({0, 1, 0}, scale(normal, normal[1]));
    return normalised(left);
}

/// The cut that holds the annular plane's normal and an ostium. None: the ostium lies above the plane's own point.
std::optional<Page> lengthwise_page(const Plane& plane, const Landmark& ostium, std::string id, std::string title) {
    const Vec3 away = subtract(ostium.position->lps_mm, plane.point.lps_mm);
    const Vec3 sideways = subtract(away, scale(plane.normal, dot(away, plane.normal)));
    if (norm(sideways) < 2) return std::nullopt;
    Vec3 right = normalised(sideways);
    if (dot(right, left_in_plane(plane.normal)) < 0) right = scale(right, -1);
    Page page;
    page.id = std::move(id);
    page.title = std::move(title);
    page.place = "along the root's axis, through the ostium";
    // A third of the picture below the plane: the outflow tract; the rest reaches beyond the sinotubular junction.
    const PatientPoint centre{add(plane.point.lps_mm, scale(plane.normal, kLengthwiseWidthMm / 6))};
    page.view = View{centre, right, scale(plane.normal, -1), kLengthwiseWidthMm};
    page.height_of = ostium.name;
    return page;
}

}  // namespace

Window choose_window(const CtSeries& source, const Findings& findings) {
    const Grid& grid = source.volume.grid;
    const ContinuousIndex centre = grid.to_index(centre_of_interest(source, findings));
    std::vector<float> hu;
    std::array<std::int64_t, 3> low{}, high{}, step{};
    for (std::size_t a = 0; a < 3; ++a) {
        const double reach = 40 / grid.spacing()[a];
        low[a] = std::max<std::int64_t>(0, std::lround(centre.ijk[a] - reach));
        high[a] = std::min<std::int64_t>(grid.size()[a], std::lround(centre.ijk[a] + reach) + 1);
        step[a] = std::max<std::int64_t>(1, (high[a] - low[a]) / 40);
    }
    for (std::int64_t k = low[2]; k < high[2]; k += step[2]) {
        for (std::int64_t j = low[1]; j < high[1]; j += step[1]) {
            for (std::int64_t i = low[0]; i < high[0]; i += step[0]) {
                const float value = source.volume.at({{i, j, k}});
                if (value > -200 && value < 1500) hu.push_back(value);
            }
        }
    }
    if (hu.size() < 100) return {};
    const auto bright = hu.begin() + static_cast<std::ptrdiff_t>(hu.size() * 95 / 100);
    std::nth_element(hu.begin(), bright, hu.end());
    return {-160, std::clamp(static_cast<double>(*bright) + 220, 300.0, 900.0)};  // blood light grey, calcium white
}

std::vector<Page> plan_pages(const CtSeries& source, const Findings& findings) {
    const PatientPoint centre = centre_of_interest(source, findings);
    std::vector<Page> pages;
    Page summary;
    summary.id = "summary";
    summary.title = "Automatic findings";
    pages.push_back(summary);
    if (findings.annular_plane) {
        const Vec3 normal = findings.annular_plane->normal;
        Page page;
        page.id = "annulus";
        page.title = "Annular plane";
        const Vec3 right = left_in_plane(normal);
        page.view = View{findings.annular_plane->point, right, cross(normal, right), kAnnulusWidthMm};
        page.place = "through the hinge points, seen from the ventricle";
        page.annulus = page.lists_annulus = true;
        pages.push_back(page);
        for (const auto& [name, id, title] : {std::tuple{names::kOstiumLeft, "root_left_ostium", "Root, left ostium"},
                                              {names::kOstiumRight, "root_right_ostium", "Root, right ostium"}}) {
            const Landmark* ostium = findings.landmark(name);
            if (ostium == nullptr || !ostium->position) continue;
            if (auto cut = lengthwise_page(*findings.annular_plane, *ostium, id, title)) pages.push_back(*cut);
        }
    }
    const auto root = [&](const char* id, const char* title, Vec3 right, const char* axis, std::size_t a) {
        Page page;
        page.id = id;
        page.title = title;
        page.view = View{centre, right, {0, 0, -1}, kRootWidthMm};
        page.place = fmt::format("{} {:.1f} mm", axis, centre.lps_mm[a]);
        pages.push_back(page);
    };
    root("coronal", "Coronal, root", {1, 0, 0}, "y", 1);
    root("sagittal", "Sagittal, root", {0, 1, 0}, "x", 0);
    const std::size_t before = pages.size();
    add_landmark_slices(source, findings, centre, pages);
    if (const auto k = slice_of_most_calcium(findings)) {
        const bool shown = std::any_of(pages.begin(), pages.end(), [&](const Page& p) { return p.slice == *k; });
        if (!shown) pages.push_back(slice_page(source, centre, *k, "axial_calcium", "Most calcification"));
    }
    if (pages.size() == before) {
        const auto voxel = source.volume.grid.nearest_voxel(centre);
        const std::int64_t k = voxel ? voxel->ijk[2] : source.volume.grid.size()[2] / 2;
        pages.push_back(slice_page(source, centre, k, "axial_centre", "No landmark found"));
    }
    return pages;
}

std::vector<Page> pages_for_report(const CtSeries& source, const Findings& findings, std::size_t most) {
    const std::vector<Page> all = plan_pages(source, findings);
    std::vector<Page> chosen;
    const auto take = [&](auto wanted) {
        for (const Page& page : all) {
            const bool taken =
                std::any_of(chosen.begin(), chosen.end(), [&](const Page& other) { return other.id == page.id; });
            if (chosen.size() < most && page.view && !taken && wanted(page)) chosen.push_back(page);
        }
    };
    take([](const Page& page) { return page.annulus || !page.height_of.empty(); });
    if (const auto k = slice_of_most_calcium(findings)) take([&](const Page& page) { return page.slice == *k; });
    take([](const Page& page) { return !page.slice; });
    take([](const Page&) { return true; });
    for (Page& page : chosen) page.lists_annulus = false;
    return chosen;
}

Canvas draw_mosaic(const std::vector<Page>& pages, const CtSeries& source, const Findings& findings,
                   const Window& window) {
    constexpr int kSide = 576, kGap = 6;
    const int columns = std::min<int>(4, static_cast<int>(pages.size()));
    const int rows = (static_cast<int>(pages.size()) + columns - 1) / columns;
    Canvas mosaic(columns * (kSide + kGap) + kGap, rows * (kSide + kGap) + kGap, {30, 34, 40});
    for (std::size_t n = 0; n < pages.size(); ++n) {
        const int column = static_cast<int>(n) % columns, row = static_cast<int>(n) / columns;
        mosaic.paste(draw_page(pages[n], source, findings, window, kSide), kGap + column * (kSide + kGap),
                     kGap + row * (kSide + kGap));
    }
    return mosaic;
}

}  // namespace cardionode
