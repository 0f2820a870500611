// Who is on an image, for a report that a person asked to carry names. Nothing else reads these attributes.
//
// Never log what comes from here, and never put it into an error message.
// Thread safety: pure function.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

/// Patient's name, ID, birth date, study date and accession number as far as the file has them, with titles for
/// people; UTF-8. Reject, Retry: as read_instance.
Result<std::vector<std::pair<std::string, std::string>>> read_identity(const std::filesystem::path& file,
                                                                       std::uintmax_t max_file_bytes);

}  // namespace cardionode
