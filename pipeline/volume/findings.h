// What the node found in one study: the values that travel from the model to SEG, SR and pictures.
//
// Units: mm, mm2, mm3, ml; points LPS. A value that is not known is absent, never zero.
// Thread safety: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/volume/volume.h"

namespace cardionode {

/// A coded concept (PS3.3 8.8): value, scheme designator, meaning.
struct Code {
    std::string value;
    std::string scheme;
    std::string meaning;
};

/// One point the model was asked for.
struct Landmark {
    std::string name;                      ///< as in the manifest: "hinge_left", "ostium_right", "septum_upper" ...
    std::string title;                     ///< for people: "Left coronary cusp nadir"
    Code finding;                          ///< what it is
    Code finding_site;                     ///< the anatomy it lies on
    std::optional<PatientPoint> position;  ///< none: not found
    double confidence = 0;                 ///< peak probability 0..1, also when not found
    std::int64_t component_voxels = 0;     ///< of the largest component, on the network's grid
    std::string reason;                    ///< why it is not found, for people; empty when found
    double component_mm3 = 0;              ///< the same as a volume
    int look = 1;                          ///< 1: seen by the first network, 2: by the second one at finer voxels
    /// Median error of this point on phantoms that the model never saw: a phantom figure, no clinical one.
    std::optional<double> expected_error_mm = {};
    /// Test-time augmentation only: root mean square distance of the passes' points from their mean, and how many of
    /// the passes found the point.
    std::optional<double> spread_mm = {};
    int passes_found = 0, passes = 0;
};

/// One number derived from points or labels.
struct Measurement {
    std::string name;   ///< "annulus_area_mm2": unit in the name, for JSON
    std::string title;  ///< "Annulus area"
    Code concept_name;
    Code unit;                               ///< UCUM
    std::optional<double> value;             ///< none: what it rests on was not found
    std::string rests_on;                    ///< names of landmarks or labels, comma separated
    std::string reason;                      ///< why there is no value
    std::optional<double> uncertainty = {};  ///< one standard deviation, same unit; none: not known, or no value
};

/// A closed curve in the patient that a measurement was taken from, for pictures: a reader must be able to check it.
struct Outline {
    std::string name;   ///< "annulus", "outflow_tract", "sinus", "junction", "ascending_aorta"
    std::string title;  ///< "Annulus"
    std::vector<PatientPoint> points;
};

/// One structure that is drawn: a label of a label map.
struct Segment {
    int label = 0;      ///< value in the label map, >= 1
    std::string name;   ///< "left_ventricle"
    std::string title;  ///< "Left ventricle"
    Code category;      ///< 91723000 SCT or 49755003 SCT
    Code type;
    std::array<std::uint8_t, 3> rgb{};  ///< recommended display colour
    std::optional<double> volume_ml;    ///< none: label is empty
};

/// Structures that belong together and share one label map on the source grid: one SEG object.
struct SegmentGroup {
    std::string name;   ///< "heart", "valve_calcium"
    std::string title;  ///< series description of the SEG
    LabelMap labels;    ///< on the grid of the source series
    std::vector<Segment> segments;
};

/// A plane in the patient: a point on it and its unit normal (for the annular plane: towards the ascending aorta).
struct Plane {
    PatientPoint point;
    Vec3 normal{};
};

/// Which model made the findings.
struct ModelIdentity {
    std::string name;     ///< bundle name
    std::string version;  ///< bundle version
    std::string sha256;   ///< of the weights
    std::string device;   ///< "cpu" or the CUDA device's name
};

struct Findings {
    std::vector<SegmentGroup> groups;
    std::vector<Landmark> landmarks;
    std::vector<Measurement> measurements;
    std::vector<Outline> outlines;       ///< of the lumen, where measurements were taken
    std::optional<Plane> annular_plane;  ///< none: a hinge point is missing or the triangle is implausible
    std::vector<std::string> warnings;   ///< for people: "no contrast agent seen"
    ModelIdentity model;

    const Landmark* landmark(std::string_view name) const {
        for (const Landmark& l : landmarks) {
            if (l.name == name) return &l;
        }
        return nullptr;
    }
};

}  // namespace cardionode
