#include "scp/queue/schema.h"

#include <thread>

#include "conf/base/files.h"
#include "scp/queue/study_key.h"
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

constexpr Moment kNow{Milliseconds(1'700'000'000'000)};

// A queue as an invented program of long ago left it, and the way from there to an invented version 3.
constexpr auto kInventedOne =
    "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL);"
    "CREATE TABLE studies (id INTEGER PRIMARY KEY, name TEXT);"
    "CREATE TABLE instances (id INTEGER PRIMARY KEY, study INTEGER);"
    "INSERT INTO schema_version VALUES (1, 5);"
    "INSERT INTO studies VALUES (1, 'first'), (2, 'second');";
constexpr Migration kInventedWay[] = {
    {2, "ALTER TABLE studies ADD COLUMN state TEXT NOT NULL DEFAULT 'done';"},
    {3, "CREATE TABLE jobs (id INTEGER PRIMARY KEY); INSERT INTO jobs SELECT id FROM studies WHERE state = 'done';"}};
const Schema kInvented{.newest = 3, .oldest = 1, .fresh = "", .migrations = kInventedWay};

Database open_plain(const std::filesystem::path& file) { return must(Database::open(file, true)); }

std::int64_t number(Database& database, std::string_view sql) {
    auto query = must(database.prepare(sql));
    return must(query.step()) ? query.integer(0) : -1;
}

}  // namespace

TEST(Schema, ANewFileGetsTheNewestVersionAndIsLeftAloneAfterwards) {
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    { EXPECT_EQ(must(must(Queue::open(file)).status()).schema_version, queue_schema().newest); }
    { EXPECT_EQ(must(must(Queue::open(file)).status()).schema_version, queue_schema().newest); }
    Database database = open_plain(file);
    EXPECT_EQ(number(database, "SELECT count(*) FROM schema_version"), 1);
}

TEST(Schema, AnOlderFileIsMigratedStepByStepAndKeepsItsRows) {
    const TemporaryFolder folder;
    Database database = open_plain(folder / "old.db");
    must(database.execute(kInventedOne));
    must(migrate(database, kInvented, kNow));
    EXPECT_EQ(must(schema_version(database)), 3);
    EXPECT_EQ(number(database, "SELECT count(*) FROM studies WHERE state = 'done'"), 2);
    EXPECT_EQ(number(database, "SELECT count(*) FROM jobs"), 2);
    EXPECT_EQ(number(database, "SELECT applied_at FROM schema_version WHERE version = 1"), 5);
    EXPECT_EQ(number(database, "SELECT applied_at FROM schema_version WHERE version = 3"), 1'700'000'000'000);
    must(migrate(database, kInvented, kNow));
    EXPECT_EQ(number(database, "SELECT count(*) FROM jobs"), 2) << "a migration ran twice";
}

/// Names of tables and indexes, and of each table its columns with type, default and key, as SQLite sees them.
std::string shape(Database& database) {
    std::string all;
    std::vector<std::string> tables;
    auto query =
        must(database.prepare("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"));
    while (must(query.step())) {
        all += query.text(0) + " " + query.text(1) + "\n";
        if (query.text(0) == "table") tables.push_back(query.text(1));
    }
    for (const std::string& table : tables) {
        auto columns = must(database.prepare(
            "SELECT name, type, \"notnull\", coalesce(dflt_value, ''), pk FROM pragma_table_info('" + table + "')"));
        while (must(columns.step())) {
            all += table;
            for (int c = 0; c < 5; ++c) all += " " + columns.text(c);
            all += "\n";
        }
    }
    return all;
}

/// A file of version 2 with a study whose output is sent.
void make_version_2(const std::filesystem::path& file) {
    Database database = open_plain(file);
    must(database.execute(
        must(read_file(std::filesystem::path(CARDIONODE_SOURCE_DIR) / "tests/scp/queue/schema_2.sql"))));
    must(database.execute(
        "INSERT INTO schema_version VALUES (2, 5);"
        "INSERT INTO studies (id, key, study_instance_uid, state, first_received, last_received, quiet_since, "
        "state_since) VALUES (7, 'S00AM', '1.2', 'done', 1, 1, 1, 1);"
        "INSERT INTO outputs VALUES (3, 7, 1, 'SEG', '1.2.3', '1.2.4', 'a.dcm', 1);"
        "INSERT INTO outbox (output_id, study_id, revision, destination, state, made_at, not_before, sent_at) VALUES "
        "(3, 7, 1, 'pacs', 'sent', 1, 1, 2)"));
}

TEST(Schema, VersionTwoIsBroughtUpToDateKeepsItsRowsAndIsThenAsANewFile) {
    const TemporaryFolder folder;
    { must(Queue::open(folder / "new.db")); }
    make_version_2(folder / "old.db");
    {
        Queue queue = must(Queue::open(folder / "old.db"));
        EXPECT_EQ(must(queue.status()).schema_version, queue_schema().newest);
        const auto outputs = must(queue.outputs_of("S00AM"));
        ASSERT_EQ(outputs.size(), 1U);
        EXPECT_EQ(outputs[0].state, "sent");
        EXPECT_EQ(outputs[0].commitment, "none") << "nobody asks afterwards for what was done before";
        EXPECT_EQ(must(queue.finished_studies(Milliseconds(0))), std::vector<std::string>{"S00AM"});
    }
    Database fresh = open_plain(folder / "new.db"), migrated = open_plain(folder / "old.db");
    EXPECT_EQ(shape(migrated), shape(fresh));
    EXPECT_FALSE(migrated.execute("UPDATE outbox SET commitment = 'perhaps'")) << "the check came along";
}

TEST(Schema, TheFirstVersionIsBroughtUpToDateAndIsThenAsANewFile) {
    const TemporaryFolder folder;
    { must(Queue::open(folder / "new.db")); }
    make_version_2(folder / "old.db");
    {
        Database database = open_plain(folder / "old.db");
        must(database.execute("DROP TABLE removals; UPDATE schema_version SET version = 1"));
    }
    { EXPECT_EQ(must(must(Queue::open(folder / "old.db")).status()).schema_version, queue_schema().newest); }
    Database fresh = open_plain(folder / "new.db"), migrated = open_plain(folder / "old.db");
    EXPECT_EQ(shape(migrated), shape(fresh));
}

TEST(Schema, VersionThreeIsBroughtUpToDateAndItsStudiesGoOn) {
    const TemporaryFolder folder;
    { must(Queue::open(folder / "new.db")); }
    make_version_2(folder / "old.db");
    {
        Database database = open_plain(folder / "old.db");
        const auto to_three = queue_schema().migrations.subspan(0, 2);
        must(migrate(database, {.newest = 3, .oldest = 1, .fresh = "", .migrations = to_three}, kNow));
        must(database.execute(
            "INSERT INTO studies (id, key, study_instance_uid, state, instances, first_received, last_received, "
            "quiet_since, state_since) VALUES (8, 'S0087', '1.3', 'receiving', 1, 1, 900, 900, 500);"
            "INSERT INTO series VALUES (5, 8, '1.3.1', 'CT', 900, NULL);"
            "INSERT INTO instances VALUES (6, 8, 5, '1.3.1.1', '1', '1', 'CT', 'abc', 'a.dcm', 1, 0, 1, '', '', 1)"));
    }
    FakeClock clock(Moment(Milliseconds(1'000)));
    {
        Queue queue = must(Queue::open(folder / "old.db", clock));
        EXPECT_EQ(must(queue.study("S0087"))->late, 0);
        EXPECT_EQ(must(queue.study("S0087"))->other_patient, 0);
        const ArrivalRules rules{.longest_study = Milliseconds(600)};
        EXPECT_TRUE(must(queue.close_quiet(rules)).empty()) << "its hour began when its state did, at 500";
        clock.advance(Milliseconds(100));
        EXPECT_EQ(must(queue.close_quiet(rules)), std::vector<std::string>{"S0087"});
    }
    Database fresh = open_plain(folder / "new.db"), migrated = open_plain(folder / "old.db");
    EXPECT_EQ(shape(migrated), shape(fresh));
    EXPECT_FALSE(migrated.execute("UPDATE instances SET other_patient = 2")) << "the check came along";
}

TEST(Schema, AMigrationThatFailsHalfwayLeavesTheFileAsItWas) {
    const TemporaryFolder folder;
    Database database = open_plain(folder / "old.db");
    must(database.execute(kInventedOne));
    const Migration broken[] = {kInventedWay[0], {3, "CREATE TABLE jobs (id INTEGER); INSERT INTO nowhere VALUES (1)"}};
    const auto failed = migrate(database, {.newest = 3, .oldest = 1, .fresh = "", .migrations = broken}, kNow);
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().message, HasSubstr("migrating the queue to schema version 3"));
    EXPECT_EQ(must(schema_version(database)), 1);
    EXPECT_EQ(number(database, "SELECT count(*) FROM sqlite_master WHERE name = 'jobs'"), 0);
    EXPECT_EQ(number(database, "SELECT count(*) FROM pragma_table_info('studies') WHERE name = 'state'"), 0);
}

TEST(Schema, AHoleInTheMigrationsIsABug) {
    const TemporaryFolder folder;
    Database database = open_plain(folder / "old.db");
    must(database.execute(kInventedOne));
    const auto hole = migrate(
        database, {.newest = 3, .oldest = 1, .fresh = "", .migrations = std::span(kInventedWay).subspan(1)}, kNow);
    EXPECT_EQ(hole.error().kind, ErrorKind::Bug);
}

TEST(Schema, AVersionBeforeTheOldestKnownIsRefused) {
    const TemporaryFolder folder;
    Database database = open_plain(folder / "old.db");
    must(database.execute(kInventedOne));
    const auto old = migrate(
        database, {.newest = 3, .oldest = 2, .fresh = "", .migrations = std::span(kInventedWay).subspan(1)}, kNow);
    EXPECT_EQ(old.error().kind, ErrorKind::Config);
    EXPECT_THAT(old.error().message, HasSubstr("schema version 1"));
}

TEST(Schema, AFileOfANewerProgramIsRefusedInEveryMode) {
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    must(Queue::open(file));
    { must(open_plain(file).execute("INSERT INTO schema_version VALUES (99, 0)")); }
    for (const auto mode :
         {QueueOptions::Mode::MakeOrMigrate, QueueOptions::Mode::MustExist, QueueOptions::Mode::ReadOnly}) {
        const auto refused = Queue::open(file, system_clock(), {.mode = mode});
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().kind, ErrorKind::Config);
        EXPECT_THAT(refused.error().message, HasSubstr("schema version 99"));
        EXPECT_THAT(refused.error().message, HasSubstr(file.string()));
    }
}

TEST(Schema, ThoseWhoMayNotChangeTheFileDoNotMigrateIt) {
    const TemporaryFolder folder;
    Database database = open_plain(folder / "old.db");
    must(database.execute(kInventedOne));
    EXPECT_EQ(require_current(database, kInvented).error().kind, ErrorKind::Config);
    EXPECT_EQ(must(schema_version(database)), 1);
}

TEST(Schema, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
    const TemporaryFolder folder;
    const auto file = folder / "orthanc.db";
    { must(open_plain(file).execute("CREATE TABLE Resources (internalId INTEGER)")); }
    const auto refused = Queue::open(file);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Config);
    EXPECT_THAT(refused.error().message, HasSubstr("not a queue of cardionode"));
    Database database = open_plain(file);
    EXPECT_EQ(number(database, "SELECT count(*) FROM sqlite_master WHERE type = 'table'"), 1);
}

TEST(Schema, AnAbsentFileIsNamedAndNotMadeByTheOperatorsModes) {
    const TemporaryFolder folder;
    for (const auto mode : {QueueOptions::Mode::MustExist, QueueOptions::Mode::ReadOnly}) {
        const auto absent = Queue::open(folder / "queue.db", system_clock(), {.mode = mode});
        ASSERT_FALSE(absent);
        EXPECT_EQ(absent.error().kind, ErrorKind::Config);
        EXPECT_THAT(absent.error().message, HasSubstr("has cardionode-scp been started?"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "queue.db"));
}

TEST(Schema, TheReadOnlyModeReadsBesideARunningServiceAndCannotWrite) {
    const TemporaryFolder folder;
    Queue service = must(Queue::open(folder / "queue.db"));
    const auto instance = make_instance("1", "1", 1);
    const std::string key = must(service.add_instances({&instance, 1})).at(0).study_key;
    Queue reader = must(Queue::open(folder / "queue.db", system_clock(), {.mode = QueueOptions::Mode::ReadOnly}));
    EXPECT_EQ(must(reader.study(key))->instances, 1);
    EXPECT_FALSE(reader.force_complete(key));
    EXPECT_EQ(must(service.study(key))->state, StudyState::Receiving);
}

TEST(Schema, SeveralProgramsMayMakeTheFileAtTheSameTime) {
    const TemporaryFolder folder;
    for (int round = 0; round < 5; ++round) {
        const auto file = folder / (std::to_string(round) + ".db");
        std::atomic<int> opened = 0;
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                auto queue = Queue::open(file);
                if (queue) ++opened;
                else ADD_FAILURE() << queue.error().message;
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(opened, 4);
    }
}

TEST(StudyKey, IsShortReadableAndDifferentForEachRow) {
    EXPECT_EQ(make_study_key(10), "S00AM");
    std::set<std::string> keys;
    for (std::int64_t row = 1; row <= 40'000; ++row) {
        const std::string key = make_study_key(row);
        EXPECT_LE(key.size(), 6U);
        EXPECT_TRUE(keys.insert(key).second);
        EXPECT_EQ(read_study_key(key), key);
    }
    EXPECT_EQ(read_study_key(make_study_key(INT64_MAX >> 4)), make_study_key(INT64_MAX >> 4));
}

TEST(StudyKey, TakesWhatPeopleTypeAndFindsMistypedOnes) {
    EXPECT_EQ(read_study_key("s00am"), "S00AM");
    EXPECT_EQ(read_study_key("SOOAM"), "S00AM");
    for (const char* wrong : {"", "S", "S00A", "S00AN", "S0A0M", "S00BM", "X00AM", "S00A*", "1.2.840.113619", "S0 0AM"})
        EXPECT_EQ(read_study_key(wrong), std::nullopt) << wrong;
}
