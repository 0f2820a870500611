#include "conf/base/log.h"

#include <gtest/gtest.h>

using namespace cardionode;

TEST(Log, WritesOneReadableLine) {
    EXPECT_EQ(format_log_line("T", LogLevel::Info, "instance_stored", {{"study", "S1"}, {"bytes", 528384}}),
              "T info  instance_stored study=S1 bytes=528384");
}

TEST(Log, APeerCannotForgeALine) {
    EXPECT_EQ(format_log_line("T", LogLevel::Warning, "refused", {{"peer", "EVIL\nT info ok study=\"x\""}}),
              R"(T warn  refused peer="EVIL\nT info ok study=\"x\"")");
    EXPECT_EQ(format_log_line("T", LogLevel::Error, "e", {{"v", "a\x1b[2J"}}), "T error e v=\"a\\x1b[2J\"");
}

TEST(Log, EmptyValuesAreQuoted) {
    EXPECT_EQ(format_log_line("T", LogLevel::Debug, "e", {{"v", ""}}), "T debug e v=\"\"");
}
