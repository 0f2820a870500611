// The one real CTA beside the checkout, with its reference masks as if a model had found them.
#pragma once

#include <filesystem>

#include "tests/support/written_ct.h"

namespace cardionode::test {

struct RealCase {
    std::filesystem::path ct_folder;
    CtSeries ct;
    Findings findings;
};

/// @param cta_folder  shared("data/cta")
RealCase real_cta(const std::filesystem::path& cta_folder);

/// Where a test leaves its outputs for people: $CARDIONODE_KEEP_OUTPUTS, or `otherwise`.
std::filesystem::path kept_folder(const std::filesystem::path& otherwise);

}  // namespace cardionode::test
