#include "scp/dicom/uid.h"

#include <gtest/gtest.h>

using namespace cardionode;

TEST(Uid, RefusesWhatCouldBeAPathOrIsNoUid) {
    EXPECT_TRUE(is_valid_uid("1.2.840.10008.1.1"));
    EXPECT_TRUE(is_valid_uid("2.25.0"));
    for (const char* bad : {"", ".", "1.", "1..2", "1.02", "../etc", "1.2.a", "1.2\n", "1/2"})
        EXPECT_FALSE(is_valid_uid(bad)) << bad;
    EXPECT_FALSE(is_valid_uid(std::string(65, '1')));
    EXPECT_TRUE(is_valid_uid(std::string(64, '1')));
}

TEST(Uid, DerivedUidsAreValidStableAndTellPartsApart) {
    EXPECT_TRUE(is_valid_uid(derive_uid({"study", "1"})));
    EXPECT_EQ(derive_uid({"study", "1"}), derive_uid({"study", "1"}));
    EXPECT_NE(derive_uid({"ab", "c"}), derive_uid({"a", "bc"}));
}
