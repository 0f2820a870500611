#include "conf/base/sqlite.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

using namespace cardionode;

TEST(Sqlite, BindsAndReadsBackEveryType) {
    const test::TemporaryFolder folder;
    auto db = Database::open(folder / "a.db", true);
    ASSERT_TRUE(db) << db.error().message;
    ASSERT_TRUE(db->execute("CREATE TABLE t(i INTEGER, r REAL, s TEXT, n TEXT)"));
    auto insert = db->prepare("INSERT INTO t VALUES(?,?,?,?)");
    ASSERT_TRUE(insert);
    ASSERT_TRUE(insert->bind(std::int64_t{7}, 1.5, std::string("text"), std::optional<std::string>()).run());
    auto select = db->prepare("SELECT i, r, s, n FROM t");
    ASSERT_TRUE(select);
    ASSERT_TRUE(*select->step());
    EXPECT_EQ(select->integer(0), 7);
    EXPECT_EQ(select->real(1), 1.5);
    EXPECT_EQ(select->text(2), "text");
    EXPECT_FALSE(select->optional_text(3).has_value());
    EXPECT_FALSE(*select->step());
}

TEST(Sqlite, ATransactionThatIsNotCommittedLeavesNothing) {
    const test::TemporaryFolder folder;
    auto db = Database::open(folder / "a.db", true);
    ASSERT_TRUE(db);
    ASSERT_TRUE(db->execute("CREATE TABLE t(i INTEGER)"));
    {
        auto transaction = Transaction::begin(*db);
        ASSERT_TRUE(transaction);
        ASSERT_TRUE(db->execute("INSERT INTO t VALUES(1)"));
    }
    auto count = db->prepare("SELECT count(*) FROM t");
    ASSERT_TRUE(*count->step());
    EXPECT_EQ(count->integer(0), 0);
}

TEST(Sqlite, AFileThatIsNoDatabaseIsAConfigError) {
    const test::TemporaryFolder folder;
    FILE* file = fopen((folder / "a.db").c_str(), "w");
    fputs("this is no database, this is a text that is long enough to be looked at as a header of one............",
          file);
    fclose(file);
    const auto db = Database::open(folder / "a.db", true);
    ASSERT_FALSE(db);
    EXPECT_EQ(db.error().kind, ErrorKind::Config);
}
