// What the world does to a queue: races, kill -9, a full disk, a folder that may not be written.
#include <csignal>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include <grp.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

std::int64_t number(Database& database, std::string_view sql) {
    auto query = must(database.prepare(sql));
    return must(query.step()) ? query.integer(0) : -1;
}

/// Everything that must hold between any two transactions.
void expect_whole(const std::filesystem::path& file) {
    Database db = must(Database::open(file, true));
    auto check = must(db.prepare("PRAGMA integrity_check"));
    must(check.step());
    EXPECT_EQ(check.text(0), "ok");
    EXPECT_EQ(number(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    const std::pair<const char*, const char*> facts[] = {
        {"a counter differs from its rows",
         "SELECT count(*) FROM studies s WHERE instances <> (SELECT count(*) FROM instances i WHERE i.study_id = s.id "
         "AND conflict = 0) OR conflicts <> (SELECT count(*) FROM instances i WHERE i.study_id = s.id AND conflict = "
         "1)"},
        {"a study still has the name of its UID", "SELECT count(*) FROM studies WHERE key = study_instance_uid"},
        {"a study beyond receiving has no job",
         "SELECT count(*) FROM studies s WHERE state <> 'receiving' AND instances > 0 AND NOT EXISTS (SELECT 1 FROM "
         "jobs j WHERE j.study_id = s.id AND j.revision = s.revision)"},
        {"study and job disagree",
         "SELECT count(*) FROM studies s JOIN jobs j ON j.study_id = s.id AND j.revision = s.revision WHERE "
         "(s.state = 'ready') <> (j.state = 'ready') OR (s.state = 'processing') <> (j.state = 'processing') OR "
         "(s.state IN ('sending', 'done') AND j.state <> 'done')"},
        {"a lease without its work, or work without its lease",
         "SELECT (SELECT count(*) FROM jobs WHERE (state = 'processing') <> (lease_token IS NOT NULL)) + (SELECT "
         "count(*) FROM outbox WHERE (state = 'sending') <> (lease_token IS NOT NULL))"},
        {"a done study has something to send",
         "SELECT count(*) FROM outbox b JOIN studies s ON s.id = b.study_id WHERE s.state = 'done' AND b.state IN "
         "('waiting', 'sending') AND b.revision = s.revision"},
        {"a sending study has nothing to send",
         "SELECT count(*) FROM studies s WHERE state = 'sending' AND NOT EXISTS (SELECT 1 FROM outbox b WHERE "
         "b.study_id = s.id AND b.revision = s.revision AND b.state IN ('waiting', 'sending'))"},
    };
    for (const auto& [what, sql] : facts) EXPECT_EQ(number(db, sql), 0) << what;
}

/// Runs `body` in a child process. @return its exit status; -1: it was ended by a signal
int in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

constexpr int kBatch = 5;
constexpr int kOutputs = 3;

/// Works without end on the queue as receiver, pipeline and sender do. Tells each acknowledged batch through the pipe.
void work_until_killed(const std::filesystem::path& file, int round, int acknowledged) {
    Queue queue = must(Queue::open(file));
    const std::vector<std::string> destinations = {"pacs", "archive"};
    for (int batch = 0;; ++batch) {
        const std::string study = std::to_string(round) + std::string("9") + std::to_string(batch);
        must(queue.add_instances(make_series(study, "1", kBatch)));
        if (::write(acknowledged, (study + "\n").data(), study.size() + 1) < 0) return;
        must(queue.close_quiet(Milliseconds(0), Milliseconds(0)));
        const auto claim = must(queue.claim_study("w", Milliseconds(1)));
        if (claim) {
            std::vector<OutputFile> outputs;
            for (int i = 0; i < kOutputs; ++i) {
                outputs.push_back(make_output("9." + claim->study_instance_uid + "." + std::to_string(claim->revision) +
                                              "." + std::to_string(i)));
            }
            must(queue.finish_study(*claim, {"found", "{}"}, outputs, destinations));
        }
        for (int i = 0; i < 4; ++i) {
            const auto output = must(queue.claim_output("s", Milliseconds(1)));
            if (output) must(queue.output_sent(*output, ""));
        }
        if (batch % 3 == 2) {
            const auto late = make_instance(study, "2", 1);
            must(queue.add_instances({&late, 1}));
        }
    }
}

}  // namespace

TEST(Races, NobodyGetsTheSameStudyOrOutputTwice) {
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    constexpr int kStudies = 40;
    {
        Queue queue = must(Queue::open(file));
        for (int i = 0; i < kStudies; ++i) {
            const auto series = make_series(std::to_string(i), "1", 2);
            must(queue.force_complete(must(queue.add_instances(series)).at(0).study_key));
        }
    }
    std::mutex mutex;
    std::multiset<std::string> studies;
    std::multiset<std::int64_t> outputs;
    const auto worker = [&](const std::string& name) {
        Queue queue = must(Queue::open(file));
        const std::string destination = "pacs";
        while (const auto claim = must(queue.claim_study(name, minutes(10)))) {
            {
                const std::lock_guard lock(mutex);
                studies.insert(claim->study_key);
            }
            const std::vector<OutputFile> made = {make_output("9." + claim->study_instance_uid)};
            EXPECT_TRUE(must(queue.finish_study(*claim, {"", ""}, made, {&destination, 1})));
            if (const auto output = must(queue.claim_output(name, minutes(10)))) {
                const std::lock_guard lock(mutex);
                outputs.insert(output->outbox_id);
            }
        }
    };
    std::vector<std::thread> threads;
    for (const char* name : {"a", "b", "c"}) threads.emplace_back(worker, name);
    // A receiver writes beside them.
    Queue receiver = must(Queue::open(file));
    for (int i = 0; i < 30; ++i) must(receiver.add_instances(make_series("7" + std::to_string(i + 100), "1", 3)));
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(studies.size(), static_cast<std::size_t>(kStudies));
    EXPECT_EQ(std::set<std::string>(studies.begin(), studies.end()).size(), studies.size());
    EXPECT_EQ(std::set<std::int64_t>(outputs.begin(), outputs.end()).size(), outputs.size());
    expect_whole(file);
}

TEST(Kill9, LeavesNothingHalfVisibleAndNothingAcknowledgedMissing) {
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::set<std::string> acknowledged;
    for (int round = 1; round <= 40; ++round) {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            ::close(ends[0]);
            work_until_killed(file, round, ends[1]);
            ::_exit(1);
        }
        ::close(ends[1]);
        // Three rounds of four wait until the child got somewhere, however slow the machine is; the fourth hits its
        // start.
        struct pollfd told_something {
            .fd = ends[0], .events = POLLIN, .revents = 0
        };
        if (round % 4 != 0) {
            ASSERT_EQ(::poll(&told_something, 1, 60'000), 1) << "the child does not get on";
        }
        std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<int>(500, 60'000)(random)));
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
        std::string told;
        char buffer[4096];
        ssize_t n = 0;
        while ((n = ::read(ends[0], buffer, sizeof buffer)) > 0) told.append(buffer, static_cast<std::size_t>(n));
        ::close(ends[0]);
        for (std::size_t begin = 0, end = 0; (end = told.find('\n', begin)) != std::string::npos; begin = end + 1)
            acknowledged.insert(told.substr(begin, end - begin));
    }
    ASSERT_GT(acknowledged.size(), 10U) << "the children hardly ran";
    must(Queue::open(file));
    expect_whole(file);
    Database db = must(Database::open(file, true));
    EXPECT_EQ(number(db,
                     "SELECT count(*) FROM (SELECT study_id, count(*) AS n FROM instances WHERE file NOT LIKE "
                     "'%-2-1-a.dcm' GROUP BY study_id) WHERE n <> 5"),
              0)
        << "half of a batch is visible";
    EXPECT_EQ(number(db,
                     "SELECT count(*) FROM (SELECT study_id, revision, count(*) AS n FROM outbox GROUP BY 1, 2) "
                     "WHERE n <> 6"),
              0)
        << "half of a result is visible";
    for (const std::string& study : acknowledged) {
        auto count = must(db.prepare("SELECT count(*) FROM instances WHERE file LIKE ?"));
        must(count.bind(study + "-1-%").step());
        EXPECT_EQ(count.integer(0), kBatch) << "an acknowledged batch is missing";
    }
}

TEST(FullDisk, IsARetryErrorAndTheQueueWorksAfterwards) {
    // A limit on the size of files stands for the disk: it needs no rights. SQLite sees a write that fails.
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    Queue queue = must(Queue::open(file));
    must(queue.add_instances(make_series("1", "1", 3)));
    struct rlimit before {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    struct rlimit tight = before;
    tight.rlim_cur = std::filesystem::file_size(file.string() + "-wal") + 20'000;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    const auto big = make_series("2", "1", 2000);
    const auto refused = queue.add_instances(big);
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, old_handler);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Retry) << refused.error().message;
    EXPECT_EQ(must(queue.status()).instances, 3) << "half of the batch is visible";
    EXPECT_EQ(must(queue.add_instances(big)).size(), 2000U);
    expect_whole(file);
}

TEST(FullDisk, ARealFullFileSystemIsARetryErrorToo) {
    const TemporaryFolder folder;
    const int result = in_child([&] {
        constexpr int kCannotMount = 77;
        if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=400k") != 0)
            return kCannotMount;
        Queue queue = must(Queue::open(folder / "queue.db"));
        must(queue.add_instances(make_series("1", "1", 3)));
        const auto big = make_series("2", "1", 2000);
        const auto refused = queue.add_instances(big);
        if (refused || refused.error().kind != ErrorKind::Retry) return 1;
        if (must(queue.status()).instances != 3) return 2;
        if (::mount("tmpfs", folder.path().c_str(), "tmpfs", MS_REMOUNT, "size=10m") != 0) return 3;
        if (must(queue.add_instances(big)).size() != 2000U) return 4;
        return 0;
    });
    if (result == 77) GTEST_SKIP() << "this user may not mount a small file system";
    EXPECT_EQ(result, 0);
}

TEST(ReadOnlyFolder, IsAConfigErrorThatNamesTheFile) {
    const TemporaryFolder folder;
    const auto refusal_of = [&](const std::filesystem::path& file) {
        return in_child([&] {
            // Rights do not bind root.
            if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0))
                return 77;
            const auto refused = Queue::open(file);
            if (refused) return 1;
            if (refused.error().kind != ErrorKind::Config) return 2;
            return refused.error().message.find(file.string()) == std::string::npos ? 3 : 0;
        });
    };
    { must(must(Queue::open(folder / "old.db")).status()); }
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
    std::filesystem::permissions(folder / "old.db", std::filesystem::perms(0444));
    EXPECT_EQ(refusal_of(folder / "new.db"), 0) << "a file that would have to be made";
    EXPECT_EQ(refusal_of(folder / "old.db"), 0) << "a file that is there";
    EXPECT_EQ(refusal_of("/nonexistent/queue.db"), 0);
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
}

TEST(RootLooksIn, WithoutTakingTheFileAwayFromTheService) {
    // A shell of root while the services are down makes SQLite's side files; the service's user must be able to use
    // them.
    if (::geteuid() != 0) GTEST_SKIP() << "only root can act for another user";
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    int number = 0;
    const auto as_service = [&] {
        ++number;
        return in_child([&] {
            if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return 77;
            auto queue = Queue::open(file);
            if (!queue) return 1;
            const auto instance = make_instance(std::to_string(number), "1", 1);
            return queue->add_instances({&instance, 1}).ok() ? 0 : 2;
        });
    };
    ASSERT_EQ(::chown(folder.path().c_str(), 65534, 65534), 0);
    EXPECT_EQ(as_service(), 0);
    for (const auto mode : {QueueOptions::Mode::ReadOnly, QueueOptions::Mode::MustExist}) {
        Queue root = must(Queue::open(file, system_clock(), {.mode = mode}));
        must(root.status());
        EXPECT_EQ(as_service(), 0) << "while root looks";
    }
    EXPECT_EQ(as_service(), 0);
}

TEST(RepeatedRun, OfOneRevisionUsesItsRowsAgainAndSendsNothingTwice) {
    // No method runs a finished revision again today; a restored backup or a hand on the file may.
    const TemporaryFolder folder;
    const auto file = folder / "queue.db";
    Queue queue = must(Queue::open(file));
    const std::string key = must(queue.add_instances(make_series("1", "1", 3))).at(0).study_key;
    must(queue.force_complete(key));
    const std::vector<OutputFile> outputs = {make_output("9.1"), make_output("9.2")};
    const std::vector<std::string> destinations = {"pacs"};
    must(queue.finish_study(*must(queue.claim_study("w", kLease)), {"", ""}, outputs, destinations));
    must(queue.output_sent(*must(queue.claim_output("s", kLease)), ""));
    {
        Database hand = must(Database::open(file, true));
        must(hand.execute("UPDATE jobs SET state = 'ready'; UPDATE studies SET state = 'ready'"));
    }
    must(queue.finish_study(*must(queue.claim_study("w", kLease)), {"", ""}, outputs, destinations));
    EXPECT_EQ(must(queue.outputs_of(key)).size(), 2U);
    const auto left = must(queue.claim_output("s", kLease));
    ASSERT_TRUE(left);
    EXPECT_EQ(left->output.sop_instance_uid, "9.2");
    EXPECT_EQ(must(queue.claim_output("s", kLease)), std::nullopt);
    must(queue.output_sent(*left, ""));
    EXPECT_EQ(must(queue.study(key))->state, StudyState::Done);
}
