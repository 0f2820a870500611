// Runs tools that are not ours over written outputs.
#pragma once

#include <filesystem>
#include <string>

#include "pipeline/outputs/outputs.h"

namespace cardionode::test {

/// read_back.py (pydicom) over SEG and SR. @return what it found different, or "" when all is the same
std::string read_back(const std::filesystem::path& ct_folder, const Findings& findings, const WrittenOutputs& outputs,
                      const std::filesystem::path& work_folder);

/// Runs a command in a shell. @return its exit status and what it printed (both streams)
std::pair<int, std::string> run_command(const std::string& command);

}  // namespace cardionode::test
