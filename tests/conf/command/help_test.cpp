// Every command of the program explains itself, with an example that would be understood.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "conf/command/command.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

/// Calls use(command, its words as typed) for each command that does something, however deep it stands.
template <class Use>
void for_each_command(CLI::App& app, const std::string& words, const Use& use) {
    for (CLI::App* command : app.get_subcommands({})) {
        const std::string all = words + " " + command->get_name();
        if (command->get_subcommands({}).empty()) use(*command, all);
        else {
            EXPECT_FALSE(command->get_description().empty()) << all;
            for_each_command(*command, all, use);
        }
    }
}

TEST(Help, EveryCommandSaysWhatItIsForAndGivesAnExample) {
    CLI::App app("", "cardionode");
    register_all_commands(app);
    int commands = 0;
    for_each_command(app, "cardionode", [&](CLI::App& command, const std::string& words) {
        SCOPED_TRACE(words);
        ++commands;
        EXPECT_GT(command.get_description().size(), 10U);
        const std::string footer = command.get_footer();
        EXPECT_THAT(footer, HasSubstr("Example"));
        EXPECT_THAT(footer, HasSubstr(words));
        // The options of the example are options of the command. Other commands may stand before or after it.
        std::size_t at = 0;
        while ((at = footer.find(words + " ", at)) != std::string::npos) {
            const std::size_t begin = at + words.size();
            at = std::min(footer.find("cardionode ", begin), footer.find("; ", begin));
            std::istringstream example(footer.substr(begin, at == std::string::npos ? at : at - begin));
            for (std::string word; example >> word;) {
                if (word.size() < 2 || word[0] != '-' || (word[1] != '-' && !std::isalpha(word[1]))) continue;
                EXPECT_NE(command.get_option_no_throw(word.substr(0, word.find('='))), nullptr) << word;
            }
        }
        for (const CLI::Option* option : command.get_options()) {
            EXPECT_FALSE(option->get_description().empty()) << option->get_name();
        }
        EXPECT_THAT(command.help(), HasSubstr("Example"));
    });
    EXPECT_GE(commands, 9);
}

TEST(Help, IsPrintedForEveryCommandWithExitCode0) {
    CLI::App app("", "cardionode");
    register_all_commands(app);
    for_each_command(app, "cardionode", [&](CLI::App&, const std::string& words) {
        std::vector<std::string> typed;
        std::istringstream split(words);
        for (std::string word; split >> word;) typed.push_back(word);
        typed.push_back("--help");
        std::vector<const char*> argv;
        for (const std::string& word : typed) argv.push_back(word.c_str());
        ::testing::internal::CaptureStdout();
        const int code = run_cardionode(static_cast<int>(argv.size()), argv.data());
        const std::string out = ::testing::internal::GetCapturedStdout();
        EXPECT_EQ(code, 0) << words;
        EXPECT_THAT(out, HasSubstr("Example")) << words;
    });
}

TEST(Help, AWrongOptionIsWrongUsage) {
    const char* argv[] = {"cardionode", "predict", "x", "-o", "y", "--no-such-option"};
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(run_cardionode(6, argv), 2);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("--no-such-option"));
}

}  // namespace
}  // namespace cardionode
