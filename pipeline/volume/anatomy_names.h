// Names of points and labels that the code gives a meaning to: a manifest that wants measurements uses these names.
//
// A manifest may hold other names too; they are decoded and drawn, but nothing is measured from them.
#pragma once

#include <array>
#include <string_view>

namespace cardionode::names {

// Points. Hinge points are the lowest points (nadirs) of the three aortic cusps.
inline constexpr std::string_view kHingeRight = "hinge_right";
inline constexpr std::string_view kHingeLeft = "hinge_left";
inline constexpr std::string_view kHingeNoncoronary = "hinge_noncoronary";
inline constexpr std::string_view kOstiumRight = "ostium_right";
inline constexpr std::string_view kOstiumLeft = "ostium_left";
inline constexpr std::string_view kSeptumUpper = "septum_upper";
inline constexpr std::string_view kSeptumLower = "septum_lower";
inline constexpr std::array<std::string_view, 3> kHinges = {kHingeRight, kHingeLeft, kHingeNoncoronary};

// Labels of the heart head.
inline constexpr std::string_view kLeftVentricle = "left_ventricle";
inline constexpr std::string_view kAorta = "aorta";
/// Their sum is the heart's volume; the great vessels run out of the picture and are left out.
inline constexpr std::array<std::string_view, 5> kHeartParts = {"myocardium", "left_atrium", kLeftVentricle,
                                                                "right_atrium", "right_ventricle"};

// Heads and groups of segments.
inline constexpr std::string_view kHeartHead = "heart";
inline constexpr std::string_view kCalciumHead = "calc";
inline constexpr std::string_view kValveCalcium = "valve_calcium";

}  // namespace cardionode::names
