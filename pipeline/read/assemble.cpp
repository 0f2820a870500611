#include "pipeline/read/assemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "pipeline/read/pixels.h"

namespace cardionode {

namespace {

struct Shift {
    double columns = 0, rows = 0;  // of a plane against the first one, in pixels along row and column direction
};

Shift shift_of(const Stack& s, const Plane2d& p) {
    const Vec3 d = subtract(*p.frame->position, *s.planes.front().frame->position);
    const auto& px = *s.planes.front().frame->spacing_mm;
    return {dot(d, s.row) / px[0], dot(d, s.column) / px[1]};
}

/// One plane moved by a fraction of pixels onto the grid's own pixels; what it does not reach is air.
void place(std::span<const float> plane, int columns, int rows, double column_shift, double row_shift,
           std::span<float> out, std::int64_t out_columns, std::int64_t out_rows) {
    std::fill(out.begin(), out.end(), kAirHu);
    constexpr double kEdge = 1e-6;
    for (std::int64_t j = 0; j < out_rows; ++j) {
        const double y = static_cast<double>(j) - row_shift;
        if (y < -kEdge || y > rows - 1 + kEdge) continue;
        const int j0 = std::clamp(static_cast<int>(std::floor(y)), 0, std::max(0, rows - 2));
        const auto fy = static_cast<float>(std::clamp(y - j0, 0.0, 1.0));
        const float* upper = plane.data() + static_cast<std::ptrdiff_t>(j0) * columns;
        const float* lower = rows > 1 ? upper + columns : upper;
        for (std::int64_t i = 0; i < out_columns; ++i) {
            const double x = static_cast<double>(i) - column_shift;
            if (x < -kEdge || x > columns - 1 + kEdge) continue;
            const int i0 = std::clamp(static_cast<int>(std::floor(x)), 0, std::max(0, columns - 2));
            const int i1 = columns > 1 ? i0 + 1 : i0;
            const auto fx = static_cast<float>(std::clamp(x - i0, 0.0, 1.0));
            const float top = upper[i0] + fx * (upper[i1] - upper[i0]);
            const float bottom = lower[i0] + fx * (lower[i1] - lower[i0]);
            out[static_cast<std::size_t>(j * out_columns + i)] = top + fy * (bottom - top);
        }
    }
}

/// How far the grid reaches beyond the first plane on the low side, in whole pixels, so that every plane fits in.
std::array<std::int64_t, 2> low_margin(const Stack& s) {
    double columns = 0;
    double rows = 0;
    for (const Plane2d& p : s.planes) {
        const Shift d = shift_of(s, p);
        columns = std::min(columns, d.columns);
        rows = std::min(rows, d.rows);
    }
    return {static_cast<std::int64_t>(std::ceil(-columns - 1e-6)), static_cast<std::int64_t>(std::ceil(-rows - 1e-6))};
}

}  // namespace

Result<Grid> grid_of(const Stack& s, std::int64_t max_voxels) {
    const Plane2d& first = s.planes.front();
    const auto& px = *first.frame->spacing_mm;
    std::array<std::int64_t, 3> size = {first.instance->pixels.columns, first.instance->pixels.rows,
                                        static_cast<std::int64_t>(s.planes.size())};
    const double length = s.planes.back().position_mm - first.position_mm;
    double step = length / static_cast<double>(s.planes.size() - 1);
    PatientPoint origin{*first.frame->position};
    if (s.uneven) {
        // The whole number of steps that fits the stack's length best.
        const auto steps = std::max<std::int64_t>(1, std::llround(length / s.spacing_mm));
        step = length / static_cast<double>(steps);
        size[2] = steps + 1;
    }
    if (s.tilted) {
        const auto low = low_margin(s);
        double columns = 0;
        double rows = 0;
        for (const Plane2d& p : s.planes) {
            const Shift d = shift_of(s, p);
            columns = std::max(columns, d.columns);
            rows = std::max(rows, d.rows);
        }
        size[0] += low[0] + static_cast<std::int64_t>(std::ceil(columns - 1e-6));
        size[1] += low[1] + static_cast<std::int64_t>(std::ceil(rows - 1e-6));
        origin.lps_mm = subtract(origin.lps_mm, scale(s.row, px[0] * static_cast<double>(low[0])));
        origin.lps_mm = subtract(origin.lps_mm, scale(s.column, px[1] * static_cast<double>(low[1])));
    }
    const double voxels = static_cast<double>(size[0]) * static_cast<double>(size[1]) * static_cast<double>(size[2]);
    if (voxels > static_cast<double>(max_voxels)) {
        return reject_error(
            fmt::format("{} x {} x {} voxels are more than this node reads", size[0], size[1], size[2]));
    }
    return Grid::create(origin, {s.row, s.column, s.normal}, {px[0], px[1], step}, size);
}

Result<Volume> assemble(const Stack& s, const Grid& grid, const ReadPlane& read) {
    Volume volume(grid, kAirHu);
    const auto slice = static_cast<std::size_t>(grid.size()[0] * grid.size()[1]);
    const auto out = [&](std::int64_t k) {
        return std::span<float>(volume.voxels).subspan(static_cast<std::size_t>(k) * slice, slice);
    };
    if (!s.needs_resampling()) {
        // Frames of one file together: it is opened once.
        std::vector<std::size_t> order(s.planes.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return std::less<>()(s.planes[a].instance, s.planes[b].instance);
        });
        for (const std::size_t k : order) {
            if (Result<void> done = read(k, out(static_cast<std::int64_t>(k))); !done) return std::move(done).error();
        }
        return volume;
    }
    const PixelLayout& px = s.planes.front().instance->pixels;
    std::vector<float> plane(static_cast<std::size_t>(px.rows) * static_cast<std::size_t>(px.columns));
    const auto low = s.tilted ? low_margin(s) : std::array<std::int64_t, 2>{0, 0};
    std::vector<float> before(slice);
    std::vector<float> after(slice);
    const auto load = [&](std::size_t k, std::vector<float>& to) -> Result<void> {
        if (Result<void> done = read(k, plane); !done) return done;
        const Shift d = s.tilted ? shift_of(s, s.planes[k]) : Shift{};
        place(plane, px.columns, px.rows, d.columns + static_cast<double>(low[0]), d.rows + static_cast<double>(low[1]),
              to, grid.size()[0], grid.size()[1]);
        return {};
    };
    std::size_t k = 0;
    if (Result<void> done = load(0, before); !done) return std::move(done).error();
    if (Result<void> done = load(1, after); !done) return std::move(done).error();
    const double first = s.planes.front().position_mm;
    for (std::int64_t z = 0; z < grid.size()[2]; ++z) {
        const double at = first + grid.spacing()[2] * static_cast<double>(z);
        while (k + 2 < s.planes.size() && s.planes[k + 1].position_mm < at - 1e-9) {
            ++k;
            std::swap(before, after);
            if (Result<void> done = load(k + 1, after); !done) return std::move(done).error();
        }
        const double gap = s.planes[k + 1].position_mm - s.planes[k].position_mm;
        const auto f = static_cast<float>(std::clamp((at - s.planes[k].position_mm) / gap, 0.0, 1.0));
        const std::span<float> to = out(z);
        for (std::size_t v = 0; v < slice; ++v) to[v] = before[v] + f * (after[v] - before[v]);
    }
    return volume;
}

}  // namespace cardionode
