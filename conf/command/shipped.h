// What is installed beside the programs, or lies in the source tree that a program was built in.
//
// Thread safety: pure functions.
#pragma once

#include <filesystem>
#include <string>

namespace cardionode {

/// <folder of the running program>/../share/cardionode/<name>; where that does not exist, `in_source_tree`.
std::filesystem::path shipped_folder(const std::string& name, const std::filesystem::path& in_source_tree);

/// The bundle that the node runs by default (PipelineSettings::bundle), wherever this program finds it.
std::filesystem::path shipped_bundle();

}  // namespace cardionode
