// The operator's program `cardionode`: one register function a group of commands, one file each.
//
// To add a group: write conf/command/<group>_commands.cpp with a function that adds its subcommands, declare it here,
// call it in register_all_commands() (commands.cpp), and list the file in CMakeLists.txt. A subcommand's callback does
// its work and ends with finish(result):
//
//   CLI::App* retry = app.add_subcommand("retry", "Work on a study again");
//   auto study = std::make_shared<std::string>();
//   retry->add_option("study", *study, "Key of the study, as `cardionode studies` shows it")->required();
//   add_example(*retry, "cardionode retry S7Q2");
//   retry->callback([study] { finish(run_retry(*study)); });
//
// Exit codes of the program: 0 success, 1 failure, 2 wrong usage or configuration.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "conf/base/result.h"

namespace cardionode {

/// Returns after success; else writes the error to standard error and ends the program's run with the exit code of its
/// kind (by CLI::RuntimeError, which run_cardionode catches).
void finish(const Result<void>& result);
/// The same for an error at hand.
[[noreturn]] void fail(const Error& error);

/// From here on Ctrl-C and SIGTERM do not end the process; the returned question answers true after the first of them.
/// One command at a time.
std::function<bool()> stop_on_signal();

/// The text under "Example:" at the end of the command's --help.
void add_example(CLI::App& command, const std::string& example);

/// Reads the arguments, runs one command, returns the exit code. Catches everything.
int run_cardionode(int argc, const char* const* argv);

void register_all_commands(CLI::App& app);
void register_compare_commands(CLI::App& app);   ///< compare distillation, compare frozen-head
void register_models_commands(CLI::App& app);    ///< models forward, show, export, import
void register_operator_commands(CLI::App& app);  ///< status, studies, show, retry, check
void register_predict_commands(CLI::App& app);   ///< predict
void register_train_commands(CLI::App& app);     ///< train
void register_phantom_commands(CLI::App& app);   ///< phantom
void register_evaluate_commands(CLI::App& app);  ///< evaluate
void register_simulate_commands(CLI::App& app);  ///< simulate

}  // namespace cardionode
