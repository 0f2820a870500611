// The pages of the key image series: which cuts are shown, and what is drawn on each.
//
//   summary              table of landmarks and measurements
//   annulus              cut through the annular plane, seen from the feet: contours, hinge points, what lies above
//   root_left_ostium,    lengthwise through the root: the plane's normal is upwards, and the cut goes through the
//   root_right_ostium    ostium, so that its height above the annular plane is drawn in its true length
//   coronal, sagittal    through the aortic root
//   axial                one source slice for each found landmark (neighbours share one), one for the most calcium
// Each page is square, carries "RESEARCH USE ONLY", orientation letters and a scale bar, and no patient data.
// Used inside pipeline/outputs only. Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pipeline/outputs/canvas.h"
#include "pipeline/outputs/view.h"
#include "pipeline/read/ct_series.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct Page {
    std::string id;                     ///< stable: "axial_hinge_left"; part of the instance UID
    std::string title;                  ///< on the picture and in the image comments
    std::string place;                  ///< second line: where the cut lies
    std::optional<View> view;           ///< none: the summary
    std::optional<std::int64_t> slice;  ///< of the source, for an axial page
    bool annulus = false;               ///< shows what lies above the cut, too
    bool lists_annulus = false;         ///< lists the measurements of the annulus
    std::string height_of;              ///< landmark whose height above the annular plane is drawn; empty: none
};

std::vector<Page> plan_pages(const CtSeries& source, const Findings& findings);

/// @param side        pixels, 512 to 1024
/// @param text_scale  of text, lines and marks; above 1 for a picture that is shown small
Canvas draw_page(const Page& page, const CtSeries& source, const Findings& findings, const Window& window, int side,
                 double text_scale = 1);

/// "RCC nadir": the name that planners use and pictures show; a point that has none keeps its title.
std::string short_title(const Landmark& landmark);

/// The colour of the n-th of Findings::landmarks in every picture.
Rgb landmark_colour(std::size_t n);

/// The window that shows this study's blood and muscle: from the HU round the heart.
Window choose_window(const CtSeries& source, const Findings& findings);

/// The pages of a report for one sheet of paper, the most important one first: annulus, root, calcium. At most `most`;
/// without lists of numbers, which stand beside them.
std::vector<Page> pages_for_report(const CtSeries& source, const Findings& findings, std::size_t most);

/// All pages in one picture, for people.
Canvas draw_mosaic(const std::vector<Page>& pages, const CtSeries& source, const Findings& findings,
                   const Window& window);

}  // namespace cardionode
