// cardionode predict.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "conf/command/command.h"
#include "conf/command/predict.h"

namespace cardionode {
namespace {

/// One line that is written over, on a terminal alone.
class ProgressLine {
public:
    void show(const std::string& doing, int done, int total) {
        if (!terminal_) return;
        std::string line = total > 0 ? fmt::format("{} {} %", doing, 100 * done / total) : doing;
        if (line == last_) return;
        fmt::print(stderr, "\r\033[K{} ...", line);
        std::fflush(stderr);
        last_ = std::move(line);
    }
    void clear() {
        if (terminal_ && !last_.empty()) fmt::print(stderr, "\r\033[K");
        last_.clear();
    }

private:
    bool terminal_ = ::isatty(STDERR_FILENO) == 1;
    std::string last_;
};

}  // namespace

void register_predict_commands(CLI::App& app) {
    CLI::App* command = app.add_subcommand("predict", "Find and measure the aortic root in a CT, and write a report");
    auto options = std::make_shared<PredictOptions>();
    command->add_option("input", options->input, "Folder with DICOM files, one file of a series, or a NIfTI file")
        ->required();
    command->add_option("-o,--out", options->output, "Folder for the results; new, or empty")->required();
    command->add_option("--model", options->bundle, "Model bundle (default: the one that is shipped)");
    command->add_option("--device", options->device, "auto (default), cpu, cuda or cuda:N");
    command
        ->add_option_function<std::string>(
            "--tta", [options](const std::string& word) { options->augmentation = augmentation_from(word); },
            "Look several times, a little shifted (and scaled): none, shift or shift_scale; 5 times as long, and says "
            "how much each point moves (default, as the node: shift for a bundle with a second look)")
        ->check(CLI::IsMember({"none", "shift", "shift_scale"}));
    command->add_option("--threads", options->threads, "CPU threads; 0 (default): all cores")
        ->check(CLI::Range(0, 256));
    command->add_option("--study", options->choice.study, "Which study, where the folder holds several")
        ->check(CLI::Range(1, 100000));
    command->add_option("--series", options->choice.series, "Number of the DICOM series to read (default: the best)");
    command->add_flag("--overwrite", options->overwrite, "Replace the results of an earlier run in the folder");
    command->add_flag("--with-identity", options->with_identity, "Patient's name and ID in the report (DICOM only)");
    add_example(*command,
                "cardionode predict cta.nii.gz -o result\n"
                "  cardionode predict /media/dvd -o result --series 4\n"
                "Then open result/report.html.");
    command->callback([options] {
        // The log is for services; a person gets progress, a summary, or one error.
        set_log_level(LogLevel::Error);
        auto progress = std::make_shared<ProgressLine>();
        options->stop = stop_on_signal();
        options->show = [progress](const std::string& doing, int done, int total) {
            progress->show(doing, done, total);
        };
        const auto summary = run_predict(*options);
        progress->clear();
        if (!summary) fail(summary.error());
        fmt::print("{}", *summary);
    });
}

}  // namespace cardionode
