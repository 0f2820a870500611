// The summary as Markdown tables, for a bundle's card and for the terminal. Thread safety: pure function.
#pragma once

#include <string>

#include "pipeline/evaluate/summary.h"

namespace cardionode {

/// Points, structures, measurements, unenhanced cases, profiles (the worst one named), and how each figure is defined.
std::string markdown(const Summary& summary);
/// The points and structures of one group in a form for the terminal.
std::string short_text(const GroupSummary& group);

}  // namespace cardionode
