#include <csignal>
#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/fed_commands.h"

namespace cardionode {
namespace {

constexpr int kFailure = 1, kUsage = 2;
volatile std::sig_atomic_t stop_asked = 0;

}  // namespace

void register_all_commands(CLI::App& app) {
    register_operator_commands(app);
    register_predict_commands(app);
    register_models_commands(app);
    register_train_commands(app);
    register_phantom_commands(app);
    register_evaluate_commands(app);
    register_compare_commands(app);
    register_fed_commands(app);
    register_simulate_commands(app);
}

void fail(const Error& error) {
    fmt::print(stderr, "cardionode: {}\n", error.message);
    throw CLI::RuntimeError(error.kind == ErrorKind::Config ? kUsage : kFailure);
}

void finish(const Result<void>& result) {
    if (!result) fail(result.error());
}

std::function<bool()> stop_on_signal() {
    stop_asked = 0;
    for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stop_asked = 1; });
    return [] { return stop_asked != 0; };
}

void add_example(CLI::App& command, const std::string& example) { command.footer("Example:\n  " + example); }

int run_cardionode(int argc, const char* const* argv) {
    CLI::App app("cardionode: cardiac CT in, findings out. Research software, not a medical device.", "cardionode");
    app.require_subcommand(1);
    app.failure_message(CLI::FailureMessage::help);
    app.footer("Help for one command: cardionode COMMAND --help");
    try {
        register_all_commands(app);
        app.parse(argc, argv);
        return 0;
    } catch (const CLI::RuntimeError& ended) {
        return ended.get_exit_code();
    } catch (const CLI::Success& help) {  // --help, --version
        return app.exit(help);
    } catch (const CLI::ParseError& wrong) {
        fmt::print(stderr, "cardionode: {}\nHelp: cardionode [COMMAND] --help\n", wrong.what());
        return kUsage;
    } catch (const std::exception& error) {
        fmt::print(stderr, "cardionode: a defect of this program: {}\n", error.what());
        return kFailure;
    }
}

}  // namespace cardionode
