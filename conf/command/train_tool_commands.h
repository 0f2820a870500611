// The subcommands of `cardionode train`: prepare, status.
#pragma once

#include <CLI/CLI.hpp>

namespace cardionode {

void add_train_tools(CLI::App& train);

}  // namespace cardionode
