// The subcommands of `cardionode fed` (status, history, consent, dry-run), and promote, rollback and history of
// `cardionode models`.
#pragma once

#include <CLI/CLI.hpp>

namespace cardionode {

void register_fed_commands(CLI::App& app);
void add_promotion(CLI::App& models);

}  // namespace cardionode
