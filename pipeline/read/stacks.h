// From the frames of a study to stacks of parallel planes, each judged: may it be read, as what grid, and if not, why.
//
// A stack is one volume: planes of one series with one orientation, matrix, pixel spacing and frame of reference.
// Where positions occur twice, the series holds several volumes (cardiac phases, reconstructions); it is split by the
// first attribute that tells all of them apart.
// Thread safety: values and pure functions. A Stack points into the InstanceFacts it was made from, which must outlive
// it and may not move.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "pipeline/read/instance.h"
#include "pipeline/volume/grid.h"

namespace cardionode {

/// One plane of a stack.
struct Plane2d {
    const InstanceFacts* instance = nullptr;
    const FrameFacts* frame = nullptr;
    double position_mm = 0;  ///< of the first voxel along the normal
};

enum class Contrast { Named, Unknown, DescribedAsNative };

struct Stack {
    std::string label;            ///< for people: "series 4 (CTA), phase 35 %"
    std::vector<Plane2d> planes;  ///< by position, ascending
    Vec3 row{}, column{}, normal{};
    double spacing_mm = 0;        ///< between neighbouring planes, the median
    double thickness_mm = 0;      ///< Slice Thickness, the largest; the spacing where it is not given
    double coverage_mm = 0;       ///< along the normal, half a slice at each end included
    double field_of_view_mm = 0;  ///< the smaller side
    Contrast contrast = Contrast::Unknown;
    std::optional<double> phase_percent;
    std::string kernel;
    bool original = false;  ///< ORIGINAL\PRIMARY
    bool tilted = false;    ///< planes are shifted sideways along the stack (gantry tilt)
    double tilt_degrees = 0;
    bool uneven = false;               ///< positions off a regular grid by more than the settings allow
    std::vector<std::string> reasons;  ///< why it may not be read; empty: it may
    std::vector<std::string> warnings;
    bool needs_resampling() const { return tilted || uneven; }
};

/// All stacks of a study's CT instances, judged by `settings`; in the order of their series.
std::vector<Stack> make_stacks(std::span<const InstanceFacts> instances, const SeriesSettings& settings);

/// Index of the best stack that may be read, and for people why it and why not each other one.
struct Choice {
    std::optional<std::size_t> best;
    std::string why;
    std::vector<std::string> not_chosen;
};
Choice choose_stack(std::span<const Stack> stacks, const SeriesSettings& settings);

/// "series 4 (CTA thorax)"; without a number or description what there is.
std::string series_label(const InstanceFacts& instance);

}  // namespace cardionode
