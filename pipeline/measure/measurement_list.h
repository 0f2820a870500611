// Collects measurements: codes, and the rule that there is a number or a reason, never both and never neither.
// Used inside pipeline/measure only. Thread safety: values and pure functions.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/measure/measure.h"
#include "pipeline/measure/uncertainty.h"

namespace cardionode {

inline const Code kMm{"mm", "UCUM", "millimeter"};
inline const Code kMm2{"mm2", "UCUM", "square millimeter"};
inline const Code kMm3{"mm3", "UCUM", "cubic millimeter"};
inline const Code kMl{"ml", "UCUM", "milliliter"};
inline const Code kDegree{"deg", "UCUM", "degree"};
inline const Code kRatio{"1", "UCUM", "no units"};

inline Code dcm(const char* value, const char* meaning) { return {value, "DCM", meaning}; }
inline Code own(const char* value, const char* meaning) { return {value, std::string(kPrivateScheme), meaning}; }

/// A number with its standard deviation, or why there is none.
struct Value {
    std::optional<double> number;
    std::optional<double> sd;
    std::string reason;
};

class MeasurementList {
public:
    void add(std::string name, std::string title, Code concept_name, Code unit, Value value, std::string rests_on);
    std::vector<Measurement> take() && { return std::move(measurements_); }

private:
    std::vector<Measurement> measurements_;
};

/// Why the named points cannot be used together; empty: all are found.
std::string missing_points(const Findings& findings, std::initializer_list<std::string_view> needed);
/// Why there is no annular plane.
std::string no_plane(const Findings& findings);
const SegmentGroup* group_of(const Findings& findings, std::string_view name);
/// Expected error of a point that is found, along one axis.
double axis_sd_of(const Findings& findings, std::string_view point, const MeasureRules& rules);
/// None: no annular plane.
std::optional<Hinges> hinges_of(const Findings& findings, const MeasureRules& rules);

/// Annulus, outflow tract, sinuses, junction, ascending aorta; their outlines go into `measured`.
/// @return mean sinus diameter in mm, where it is known
std::optional<double> add_root(MeasurementList& list, const Findings& findings, const Volume& ct,
                               const MeasureRules& rules, Measured& measured);

}  // namespace cardionode
