#include "conf/base/files.h"

#include <gtest/gtest.h>

#include "conf/base/hash.h"
#include "conf/base/time.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;

TEST(Files, DurableWriteReplacesTheOldContentAndLeavesNothingBeside) {
    const test::TemporaryFolder folder;
    ASSERT_TRUE(write_file_durably(folder / "a.txt", "one"));
    ASSERT_TRUE(write_file_durably(folder / "a.txt", "two"));
    EXPECT_EQ(*read_file(folder / "a.txt"), "two");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, AMissingFolderIsAConfigError) {
    const auto written = write_file_durably("/nonexistent/folder/a", "x");
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().kind, ErrorKind::Config);
}

TEST(Files, AFullDiskIsARetry) {
    const auto error = file_error("writing", "/x", 28 /* ENOSPC */);
    EXPECT_EQ(error.kind, ErrorKind::Retry);
    EXPECT_EQ(error.message, "writing /x: No space left on device");
}

TEST(Files, MakesFoldersWithTheirParents) {
    const test::TemporaryFolder folder;
    ASSERT_TRUE(make_folder(folder / "a/b/c"));
    ASSERT_TRUE(make_folder(folder / "a/b/c"));
    EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
}

TEST(Hash, MatchesTheStandardsExample) {  // FIPS 180-2, B.1
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Time, IsoAndDicomForms) {
    const Moment moment(Milliseconds(1'700'000'000'042));
    EXPECT_EQ(to_iso8601(moment), "2023-11-14T22:13:20.042Z");
    EXPECT_EQ(to_dicom_date(moment), "20231114");
    EXPECT_EQ(to_dicom_time(moment), "221320.042000");
}
