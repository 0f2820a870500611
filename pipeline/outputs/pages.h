// The pages of the key image series: which cuts are shown, and what is drawn on each.
//
//   summary              table of landmarks and measurements
//   annulus              cut through the annular plane, seen from the feet: contours, hinge points, what lies above
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
    bool annulus = false;               ///< lists the measurements of the annulus
};

std::vector<Page> plan_pages(const CtSeries& source, const Findings& findings);

/// @param side  pixels, 512 to 1024
Canvas draw_page(const Page& page, const CtSeries& source, const Findings& findings, const Window& window, int side);

/// The window that shows this study's blood and muscle: from the HU round the heart.
Window choose_window(const CtSeries& source, const Findings& findings);

/// All pages in one picture, for people.
Canvas draw_mosaic(const std::vector<Page>& pages, const CtSeries& source, const Findings& findings,
                   const Window& window);

}  // namespace cardionode
