#include "scp/store/indexer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "conf/base/hash.h"
#include "scp/dicom/part10.h"
#include "scp/store/instance_file.h"
#include "tests/support/data_set.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> view(const Instance& instance) { return std::as_bytes(std::span(instance.dataset)); }

ReceivedInstance received(const Instance& instance, const std::string& study, const std::string& calling = "CT1") {
    ReceivedInstance made;
    made.study_instance_uid = study;
    made.series_instance_uid = study + ".1";
    made.sop_instance_uid = instance.sop_instance_uid;
    made.sop_class_uid = instance.sop_class_uid;
    made.transfer_syntax_uid = instance.transfer_syntax_uid;
    made.modality = "CT";
    made.calling_ae_title = calling;
    made.called_ae_title = "CARDIONODE";
    made.peer_address = "127.0.0.1";
    made.received_at = Moment(Milliseconds(1'700'000'000'000));
    return made;
}

class IndexerTest : public ::testing::Test {
protected:
    void SetUp() override { make_node(folder_ / "node"); }

    void make_node(const fs::path& root) {
        spool_ = prepare_spool(root / "spool").value();
        database_ = root / "queue.db";
    }
    void store(SegmentWriter& writer, const Instance& instance, const std::string& study = "1.2.3.1",
               const std::string& calling = "CT1") {
        ASSERT_TRUE(writer.begin().ok());
        ASSERT_TRUE(writer.append(view(instance)).ok());
        ASSERT_TRUE(writer.commit(received(instance, study, calling)).ok());
    }
    Queue queue() { return Queue::open(database_, clock_).value(); }
    Indexer indexer(Queue& queue, std::function<void(std::string_view)> on_step = {}) {
        IndexerOptions options;
        options.batch_records = 4;
        options.clock = &clock_;
        options.on_step = std::move(on_step);
        auto opened = Indexer::open(spool_, options, queue);
        EXPECT_TRUE(opened.ok()) << opened.error().message;
        return std::move(opened).value();
    }
    static void run_all(Indexer& indexer) {
        bool more = true;
        while (more) {
            auto stepped = indexer.step();
            ASSERT_TRUE(stepped.ok()) << stepped.error().message;
            more = *stepped > 0;
        }
    }
    static int count(const fs::path& folder) {
        int files = 0;
        for (const auto& entry : fs::recursive_directory_iterator(folder)) files += entry.is_regular_file() ? 1 : 0;
        return files;
    }
    std::string data_set_of(const std::string& file) const {
        const std::string whole = read_file(spool_.root / file).value();
        const auto parsed = parse_file_meta(std::as_bytes(std::span(whole.data(), whole.size())));
        EXPECT_TRUE(parsed.ok());
        return whole.substr(parsed->data_set_offset);
    }
    static std::string text(const Instance& instance) { return {instance.dataset.begin(), instance.dataset.end()}; }

    TemporaryFolder folder_;
    FakeClock clock_;
    Spool spool_;
    fs::path database_;
};

}  // namespace

TEST_F(IndexerTest, MakesFilesWithTheDataSetUnchangedAndRemovesTheSegment) {
    SegmentWriter writer(spool_);
    std::vector<Instance> slices;
    for (int i = 0; i < 10; ++i) store(writer, slices.emplace_back(made_slice(i)));
    Queue q = queue();
    Indexer index = indexer(q);
    run_all(index);
    EXPECT_EQ(count(spool_.ingest()), 1);  // its writer lives
    const auto studies = q.studies().value();
    ASSERT_EQ(studies.size(), 1U);
    const auto rows = q.instances_of(studies[0].study_key).value();
    ASSERT_EQ(rows.size(), 10U);
    for (const Instance& slice : slices) {
        const auto row = q.find_instance(slice.sop_instance_uid).value();
        ASSERT_TRUE(row.has_value());
        EXPECT_EQ(data_set_of(row->file), text(slice));
        EXPECT_EQ(row->sha256, sha256_hex(text(slice)));
    }
    store(writer, slices.emplace_back(made_slice(10)));
    run_all(index);
    EXPECT_EQ(q.instances_of(studies[0].study_key)->size(), 11U);
    writer.close();
    run_all(index);
    EXPECT_EQ(count(spool_.ingest()), 0);
    EXPECT_EQ(count(spool_.instances()), 11);
}

TEST_F(IndexerTest, ADuplicateMakesNoSecondFileAndAConflictIsKeptBeside) {
    SegmentWriter writer(spool_);
    const Instance first = made_slice(1), other = made_slice(1, "1.2.3.1", 2000, 77);
    store(writer, first);
    store(writer, first, "1.2.3.1", "CT2");
    store(writer, other);
    store(writer, other);
    writer.close();
    Queue q = queue();
    Indexer index = indexer(q);
    run_all(index);
    EXPECT_EQ(count(spool_.instances()), 2);
    const auto row = q.find_instance(first.sop_instance_uid).value();
    EXPECT_EQ(data_set_of(row->file), text(first));
    const auto status = q.status().value();
    EXPECT_EQ(status.conflicts, 1);
    EXPECT_EQ(q.known_files()->size(), 2U);
}

// Two segments with new instances, a duplicate and a conflict; the indexer is killed at each of its steps in turn.
TEST_F(IndexerTest, KilledAtEachStepLosesNothingAndDoublesNothing) {
    int kills = 0;
    for (int step = 0;; ++step) {
        const fs::path root = folder_ / ("kill" + std::to_string(step));
        make_node(root);
        {
            SegmentWriter one(spool_), two(spool_);
            for (int i = 0; i < 5; ++i) store(one, made_slice(i));
            store(two, made_slice(2));
            store(two, made_slice(3, "1.2.3.1", 2000, 99));
            store(two, made_slice(1, "1.2.3.2"), "1.2.3.2");
        }
        const pid_t child = ::fork();
        if (child == 0) {
            int seen = 0;
            auto q = Queue::open(database_, clock_);
            IndexerOptions options;
            options.batch_records = 4;
            options.on_step = [&](std::string_view) {
                if (seen++ == step) ::raise(SIGKILL);
            };
            auto index = Indexer::open(spool_, options, *q);
            const auto recovered = index->recover();
            ::_exit(recovered.ok() ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        const bool killed = WIFSIGNALED(status);
        ASSERT_TRUE(killed || WEXITSTATUS(status) == 0);
        kills += killed ? 1 : 0;

        Queue q = queue();
        Indexer index = indexer(q);
        const auto recovered = index.recover();
        ASSERT_TRUE(recovered.ok()) << recovered.error().message;
        SCOPED_TRACE("killed at step " + std::to_string(step));
        EXPECT_EQ(recovered->damaged, 0);
        EXPECT_EQ(count(spool_.ingest()), 0);
        EXPECT_EQ(count(spool_.damaged()), 0);
        EXPECT_EQ(count(spool_.instances()), 7);
        EXPECT_EQ(q.known_files()->size(), 7U);
        EXPECT_EQ(q.status()->conflicts, 1);
        const std::vector<std::string> known = q.known_files().value();
        for (const std::string& file : known) EXPECT_TRUE(fs::exists(spool_.root / file));
        for (int i = 0; i < 5; ++i) {
            const auto row = q.find_instance(made_slice(i).sop_instance_uid).value();
            ASSERT_TRUE(row.has_value());
            EXPECT_EQ(data_set_of(row->file), text(made_slice(i)));
        }
        EXPECT_EQ(q.studies()->size(), 2U);
        if (!killed) break;
    }
    EXPECT_GT(kills, 20);
}

TEST_F(IndexerTest, AdoptsFilesThatTheQueueDoesNotKnow) {
    {
        SegmentWriter writer(spool_);
        for (int i = 0; i < 3; ++i) store(writer, made_slice(i));
        writer.close();
        Queue q = queue();
        Indexer index = indexer(q);
        run_all(index);
    }
    for (const char* end : {"", "-wal", "-shm"}) fs::remove(database_.string() + end);
    ASSERT_TRUE(write_file_durably(spool_.instances() / "broken.dcm", "this is no DICOM").ok());
    ASSERT_TRUE(write_file_durably(spool_.instances() / ".tmp-left", "half").ok());
    Queue q = queue();
    Indexer index = indexer(q);
    const auto counts = index.recover();
    ASSERT_TRUE(counts.ok()) << counts.error().message;
    EXPECT_EQ(counts->files_adopted, 3);
    EXPECT_EQ(counts->temporary_files, 1);
    EXPECT_EQ(counts->damaged, 1);
    EXPECT_TRUE(fs::exists(spool_.damaged() / "broken.dcm"));
    const auto row = q.find_instance(made_slice(1).sop_instance_uid).value();
    ASSERT_TRUE(row.has_value());
    EXPECT_EQ(row->modality, "CT");
    EXPECT_EQ(q.studies()->at(0).calling_ae_title, "CT1");
}

TEST_F(IndexerTest, CutsATornTailButKeepsADamagedMiddleForAPerson) {
    struct Case {
        const char* name;
        std::size_t record, offset;
        bool damaged;
        int records;
    };
    for (const Case& c : {Case{"tail", 2, 4600, false, 2}, Case{"tail_header", 2, 100, false, 2},
                          Case{"middle", 1, 4600, true, 2}, Case{"middle_header", 1, 100, true, 1}}) {
        SCOPED_TRACE(c.name);
        make_node(folder_ / c.name);
        fs::path path;
        {
            SegmentWriter writer(spool_);
            for (int i = 0; i < 3; ++i) store(writer, made_slice(i));
            path = fs::directory_iterator(spool_.ingest())->path();
        }
        std::string bytes = read_file(path).value();
        const std::size_t record = kRecordBlock + whole_blocks(made_slice(0).dataset.size());
        bytes[record * c.record + c.offset] ^= 1;
        ASSERT_TRUE(write_file_durably(path, bytes).ok());
        Queue q = queue();
        Indexer index = indexer(q);
        const auto counts = index.recover();
        ASSERT_TRUE(counts.ok()) << counts.error().message;
        EXPECT_EQ(counts->records, c.records);
        EXPECT_EQ(counts->torn_tails, c.damaged ? 0 : 1);
        EXPECT_EQ(counts->damaged, c.damaged ? 1 : 0);
        EXPECT_EQ(count(spool_.damaged()), c.damaged ? 1 : 0);
        EXPECT_EQ(count(spool_.ingest()), 0);
    }
}

TEST_F(IndexerTest, AFullDiskKeepsTheSegmentAndIsTriedAgain) {
    {
        SegmentWriter writer(spool_);
        store(writer, made_slice(1, "1.2.3.1", 9'000'000));
    }
    Queue q = queue();
    Indexer index = indexer(q);
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit tight{5'000'000, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &tight);
    const auto failed = index.step();
    ::setrlimit(RLIMIT_FSIZE, &before);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().kind, ErrorKind::Retry);
    EXPECT_EQ(count(spool_.instances()), 0);
    EXPECT_EQ(count(spool_.ingest()), 1);
    run_all(index);
    EXPECT_EQ(count(spool_.instances()), 1);
    EXPECT_EQ(count(spool_.ingest()), 0);
}

TEST_F(IndexerTest, ClosesAStudyOnlyWhenEverythingThatCameIsIndexedAndNothingComes) {
    SegmentWriter writer(spool_);
    store(writer, made_slice(1));
    Queue q = queue();
    Indexer index = indexer(q);
    run_all(index);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_TRUE(writer.append(view(made_slice(2))).ok());  // slowly coming in
    EXPECT_TRUE(index.close_quiet()->empty());
    clock_.advance(std::chrono::seconds(100));
    ASSERT_TRUE(writer.append(view(made_slice(2))).ok());
    EXPECT_TRUE(index.close_quiet()->empty());
    clock_.advance(std::chrono::seconds(100));
    store(writer, made_slice(3));
    EXPECT_TRUE(index.close_quiet()->empty());  // waits to be indexed
    run_all(index);
    (void)index.close_quiet();
    clock_.advance(std::chrono::seconds(100));
    EXPECT_EQ(index.close_quiet()->size(), 1U);  // open association, but nothing comes
}

TEST_F(IndexerTest, ClosesAStudyThoughImagesOfAnotherAlwaysWait) {
    SegmentWriter quiet(spool_), busy(spool_);
    store(quiet, made_slice(1));
    quiet.close();
    Queue q = queue();
    Indexer index = indexer(q);
    run_all(index);
    int number = 0;
    for (int i = 0; i < 6; ++i) {  // another image waits whenever it looks
        clock_.advance(std::chrono::seconds(10));
        store(busy, made_slice(++number, "1.2.3.2"), "1.2.3.2");
        run_all(index);
        store(busy, made_slice(++number, "1.2.3.2"), "1.2.3.2");
        EXPECT_EQ(index.close_quiet()->size(), i < 5 ? 0U : 1U) << "after " << 10 * (i + 1) << " s";
    }
    EXPECT_EQ(q.studies()->size(), 2U);
}

TEST_F(IndexerTest, WorksAloneOnItsSpool) {
    Queue q = queue();
    Indexer index = indexer(q);
    const auto second = Indexer::open(spool_, {}, q);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, ErrorKind::Retry);
}

TEST_F(IndexerTest, DeletesFinishedStudiesByAgeAndBySpaceAndFinishesAfterACrash) {
    const auto finish = [&](Queue& q, const std::string& key) {
        ASSERT_TRUE(q.force_complete(key).ok());
        const auto claimed = q.claim_study("w", std::chrono::seconds(60)).value();
        ASSERT_TRUE(claimed.has_value());
        ASSERT_TRUE(q.finish_study(*claimed, {"found", "{}"}, {}, {}).value());
    };
    Queue q = queue();
    Indexer index = indexer(q);
    const auto receive = [&](const std::string& study, int slices) {
        SegmentWriter writer(spool_);
        for (int i = 0; i < slices; ++i) store(writer, made_slice(i, study), study);
        writer.close();
        run_all(index);
        return q.studies(1)->front().study_key;
    };
    const std::string old = receive("1.2.3.1", 3);
    finish(q, old);
    clock_.advance(std::chrono::hours(48));
    const std::string young = receive("1.2.3.2", 2);
    finish(q, young);
    clock_.advance(std::chrono::hours(1));
    const std::string open = receive("1.2.3.3", 1);
    ASSERT_EQ(count(spool_.instances()), 6);

    Retention retention;
    retention.free_bytes = [] { return Result<std::uint64_t>(100); };
    EXPECT_EQ(index.remove_finished(retention).value(), 0);
    retention.keep = std::chrono::hours(24);
    EXPECT_EQ(index.remove_finished(retention).value(), 1);
    EXPECT_FALSE(q.study(old)->has_value());
    EXPECT_EQ(count(spool_.instances()), 3);

    // The disk is short: what is done goes, what is not stays, and it ends there.
    retention.keep_at_least = std::chrono::hours(2);
    retention.wanted_free = 1000;
    EXPECT_EQ(index.remove_finished(retention).value(), 0);
    retention.keep_at_least = std::chrono::minutes(10);
    EXPECT_EQ(index.remove_finished(retention).value(), 1);
    EXPECT_TRUE(q.study(open)->has_value());
    EXPECT_EQ(count(spool_.instances()), 1);

    // Cut off between the queue and the files: the files are not taken for unknown ones at the next start.
    finish(q, open);
    ASSERT_TRUE(q.remove_study(open)->has_value());
    EXPECT_EQ(count(spool_.instances()), 1);
    const auto counts = index.recover();
    ASSERT_TRUE(counts.ok()) << counts.error().message;
    EXPECT_EQ(counts->files_adopted, 0);
    EXPECT_EQ(count(spool_.instances()), 0);
    EXPECT_TRUE(q.studies()->empty());
}

TEST_F(IndexerTest, WritesNothingWhereTheSpoolIsNotInItsPlace) {
    SegmentWriter writer(spool_);
    store(writer, made_slice(1));
    Queue q = queue();
    Indexer index = indexer(q);
    const fs::path away = spool_.root.string() + "-away";
    fs::rename(spool_.root, away);
    fs::create_directories(spool_.ingest());  // the empty mount point
    fs::create_directories(spool_.instances());
    SegmentWriter another(spool_);
    ASSERT_FALSE(another.begin().ok());
    EXPECT_EQ(another.begin().error().kind, ErrorKind::Retry);
    (void)index.step();
    EXPECT_EQ(count(spool_.root), 0);
    fs::remove_all(spool_.root);
    fs::rename(away, spool_.root);
    run_all(index);
    EXPECT_EQ(count(spool_.instances()), 1);
}
