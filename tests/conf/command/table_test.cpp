#include "conf/command/table.h"

#include <gtest/gtest.h>

using namespace cardionode;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(Table, AlignsCellsByCharactersNotBytes) {
    Table table({"NAME", ">COUNT", "TEXT"});
    EXPECT_TRUE(table.empty());
    table.add({"Gefäß", "7", "short"});
    table.add({"b", "1234", ""});
    table.add({"c"});
    EXPECT_EQ(table.text(),
              "NAME   COUNT  TEXT\n"
              "Gefäß      7  short\n"
              "b       1234\n"
              "c\n");
}

TEST(Table, WhatAPeerSentDoesNotDriveTheTerminal) {
    EXPECT_EQ(printable("a\x1b[2Jb\nc\x7f"), "a?[2Jb c?");
    EXPECT_EQ(printable("\xC2\x9B"
                        "2J"),
              "?2J");
    EXPECT_EQ(printable("Gefäß µ"), "Gefäß µ");
}

TEST(InWords, TellsTheLargestUnitThatFits) {
    EXPECT_EQ(in_words(Milliseconds(999)), "0 s");
    EXPECT_EQ(in_words(seconds(59)), "59 s");
    EXPECT_EQ(in_words(minutes(12) + seconds(59)), "12 min");
    EXPECT_EQ(in_words(hours(1)), "1 h");
    EXPECT_EQ(in_words(hours(47)), "47 h");
    EXPECT_EQ(in_words(hours(72)), "3 d");
    EXPECT_EQ(in_words(-hours(1)), "0 s");
    const Moment now(hours(1000));
    EXPECT_EQ(ago(now - minutes(5), now), "5 min ago");
    EXPECT_EQ(due(now + minutes(5), now), "in 5 min");
    EXPECT_EQ(due(now, now), "now");
    EXPECT_EQ(in_bytes(0), "0 bytes");
    EXPECT_EQ(in_bytes(1536), "1.5 KiB");
    EXPECT_EQ(in_bytes(std::int64_t{640} << 20), "640 MiB");
    EXPECT_EQ(date_and_time(Moment(Milliseconds(1'700'000'000'000))), "2023-11-14 22:13:20 UTC");
    EXPECT_EQ(counted(1, "image", "images"), "1 image");
    EXPECT_EQ(counted(0, "image", "images"), "0 images");
}
