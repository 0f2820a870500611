#include "scp/store/segment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "conf/base/hash.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using test::TemporaryFolder;

namespace {

std::vector<std::byte> bytes_of(std::size_t size, unsigned seed) {
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
    return bytes;
}

ReceivedInstance instance(int number) {
    ReceivedInstance made;
    made.study_instance_uid = "1.2.3";
    made.series_instance_uid = "1.2.3.1";
    made.sop_instance_uid = "1.2.3.1." + std::to_string(number);
    made.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
    made.transfer_syntax_uid = "1.2.840.10008.1.2.1";
    made.modality = "CT";
    made.calling_ae_title = "CT1";
    made.called_ae_title = "CARDIONODE";
    made.peer_address = "10.0.0.1";
    made.received_at = Moment(Milliseconds(1'700'000'000'123));
    return made;
}

class Segment : public ::testing::Test {
protected:
    void SetUp() override { spool_ = prepare_spool(folder_.path()).value(); }
    void write(SegmentWriter& writer, int number, std::span<const std::byte> data) {
        ASSERT_TRUE(writer.begin().ok());
        for (std::size_t at = 0; at < data.size(); at += 1000)
            ASSERT_TRUE(writer.append(data.subspan(at, std::min<std::size_t>(1000, data.size() - at))).ok());
        const auto committed = writer.commit(instance(number));
        ASSERT_TRUE(committed.ok()) << committed.error().message;
    }
    std::vector<std::filesystem::path> segments() const {
        std::vector<std::filesystem::path> found;
        for (const auto& entry : std::filesystem::directory_iterator(spool_.ingest())) found.push_back(entry.path());
        return found;
    }
    /// How many whole records a recovery would find.
    static int sound_records(const std::filesystem::path& path) {
        auto reader = SegmentReader::open(path);
        int count = 0;
        while (true) {
            auto record = reader->peek();
            if (!record || !record->has_value() || !reader->verify(**record).value()) return count;
            reader->advance(**record);
            ++count;
        }
    }

    /// A copy under the same name, which carries the key, in another folder.
    std::filesystem::path copy_of(const std::filesystem::path& segment, const std::string& bytes) const {
        std::filesystem::create_directories(folder_ / "copy");
        const auto path = folder_ / "copy" / segment.filename();
        std::ofstream(path, std::ios::binary) << bytes;
        return path;
    }

    TemporaryFolder folder_;
    Spool spool_;
};

}  // namespace

TEST_F(Segment, GivesBackWhatWasCommitted) {
    SegmentWriter writer(spool_);
    const auto first = bytes_of(10'000, 1), second = bytes_of(0, 2), third = bytes_of(4096, 3);
    write(writer, 1, first);
    write(writer, 2, second);
    write(writer, 3, third);
    ASSERT_EQ(segments().size(), 1U);
    auto reader = SegmentReader::open(segments()[0]);
    ASSERT_TRUE(reader.ok());
    int number = 0;
    for (const auto& data : {first, second, third}) {
        auto record = reader->peek();
        ASSERT_TRUE(record.ok() && record->has_value()) << number;
        const ReceivedInstance expected = instance(++number), &got = (*record)->instance;
        EXPECT_EQ(got.sop_instance_uid, expected.sop_instance_uid);
        EXPECT_EQ(got.study_instance_uid, expected.study_instance_uid);
        EXPECT_EQ(got.transfer_syntax_uid, expected.transfer_syntax_uid);
        EXPECT_EQ(got.calling_ae_title, expected.calling_ae_title);
        EXPECT_EQ(got.peer_address, expected.peer_address);
        EXPECT_EQ(got.received_at, expected.received_at);
        EXPECT_EQ(got.bytes, static_cast<std::int64_t>(data.size()));
        EXPECT_TRUE(reader->verify(**record).value());
        EXPECT_EQ((*record)->instance.sha256, sha256_hex({reinterpret_cast<const char*>(data.data()), data.size()}));
        std::vector<std::byte> back(data.size());
        EXPECT_EQ(::pread(reader->fd(), back.data(), back.size(), static_cast<off_t>((*record)->data_offset)),
                  static_cast<ssize_t>(back.size()));
        EXPECT_EQ(back, data);
        reader->advance(**record);
    }
    EXPECT_FALSE(reader->peek()->has_value());
}

TEST_F(Segment, ShowsARecordOnlyOnceItIsCommitted) {
    SegmentWriter writer(spool_);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_TRUE(writer.append(bytes_of(5000, 1)).ok());
    auto reader = SegmentReader::open(segments().at(0));
    EXPECT_FALSE(reader->peek()->has_value());
    EXPECT_FALSE(reader->writer_gone());
    ASSERT_TRUE(writer.commit(instance(1)).ok());
    EXPECT_TRUE(reader->peek()->has_value());
    EXPECT_FALSE(reader->writer_gone());
    writer.close();
    EXPECT_TRUE(reader->writer_gone());
}

TEST_F(Segment, NothingThatWasGivenUpComesBack) {
    SegmentWriter writer(spool_);
    write(writer, 1, bytes_of(100, 1));
    // A data set full of copies of the first record's header: what a peer could send who had seen it.
    std::vector<std::byte> header(kRecordBlock);
    {
        const FileDescriptor file(::open(segments()[0].c_str(), O_RDONLY));
        ASSERT_EQ(::pread(file.get(), header.data(), header.size(), 0), static_cast<ssize_t>(header.size()));
    }
    ASSERT_TRUE(writer.begin().ok());
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(writer.append(header).ok());
    writer.discard();
    write(writer, 2, bytes_of(100, 2));
    EXPECT_EQ(sound_records(segments()[0]), 2);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_TRUE(writer.append(bytes_of(100, 3)).ok());
    writer.close();
    EXPECT_EQ(sound_records(segments()[0]), 2);
}

TEST_F(Segment, AnEmptyOneLeavesNoFile) {
    SegmentWriter writer(spool_);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_TRUE(writer.append(bytes_of(100, 1)).ok());
    EXPECT_EQ(segments().size(), 1U);
    writer.close();
    EXPECT_TRUE(segments().empty());
}

TEST_F(Segment, CutOffAnywhereKeepsTheWholeRecordsAndNoOther) {
    SegmentWriter writer(spool_);
    write(writer, 1, bytes_of(5000, 1));
    write(writer, 2, bytes_of(3000, 2));
    writer.close();
    const std::size_t first_end = 4096 + 5000, second_end = 12288 + 4096 + 3000;
    const auto whole = read_file(segments()[0]).value().substr(0, second_end + 4096);
    for (std::size_t length = 0; length <= whole.size(); length += 97) {
        const auto cut = copy_of(segments()[0], whole.substr(0, length));
        EXPECT_EQ(sound_records(cut), length < first_end ? 0 : length < second_end ? 1 : 2) << length;
    }
}

TEST_F(Segment, NoticesAChangedByteEverywhere) {
    SegmentWriter writer(spool_);
    write(writer, 1, bytes_of(3000, 1));
    writer.close();
    const auto whole = read_file(segments()[0]).value().substr(0, 8192);
    for (std::size_t at = 0; at < 4096 + 3000; at += 31) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 1);
        const auto file = copy_of(segments()[0], changed);
        EXPECT_EQ(sound_records(file), 0) << at;
    }
}

TEST_F(Segment, RollsOver) {
    SegmentWriter writer(spool_, 20'000);
    for (int i = 0; i < 6; ++i) write(writer, i, bytes_of(8000, 1));
    EXPECT_EQ(segments().size(), 3U);
    int records = 0;
    for (const auto& path : segments()) records += sound_records(path);
    EXPECT_EQ(records, 6);
}

TEST_F(Segment, AFullDiskIsSaidAndTheNextRecordFindsRoomAgain) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    SegmentWriter writer(spool_);
    write(writer, 1, bytes_of(10'000, 1));
    const rlimit tight{100'000, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &tight);
    ASSERT_TRUE(writer.begin().ok());
    const auto appended = writer.append(bytes_of(200'000, 2));
    const auto committed = writer.commit(instance(2));
    ::setrlimit(RLIMIT_FSIZE, &before);
    ASSERT_FALSE(appended.ok());
    EXPECT_EQ(appended.error().kind, ErrorKind::Retry);
    EXPECT_FALSE(committed.ok());
    write(writer, 3, bytes_of(200'000, 3));
    EXPECT_EQ(sound_records(segments()[0]), 2);
}

TEST(Spool, SaysThatItCannotBeUsed) {
    const TemporaryFolder folder;
    ASSERT_TRUE(write_file_durably(folder / "file", "x").ok());
    for (const std::filesystem::path& root : {folder / "file", std::filesystem::path("/proc/cardionode")}) {
        const auto spool = prepare_spool(root);
        ASSERT_FALSE(spool.ok());
        EXPECT_EQ(spool.error().kind, ErrorKind::Config);
        EXPECT_NE(spool.error().message.find(root.string()), std::string::npos);
    }
}

TEST(Lock, IsHeldByOneAtATime) {
    const TemporaryFolder folder;
    auto first = take_lock(folder / "lock");
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(take_lock(folder / "lock").error().kind, ErrorKind::Retry);
    first->reset();
    EXPECT_TRUE(take_lock(folder / "lock").ok());
}

TEST_F(Segment, AUsedFileServesAgainAndGivesBackNothingOld) {
    constexpr std::uint64_t kRoom = 1ULL << 30;
    std::filesystem::path used;
    {
        SegmentWriter writer(spool_);
        for (int i = 0; i < 5; ++i) write(writer, i, bytes_of(100'000, 1));
        used = segments()[0];
    }
    const auto inode = [](const std::filesystem::path& path) {
        struct stat info {};
        EXPECT_EQ(::stat(path.c_str(), &info), 0);
        return info.st_ino;
    };
    const auto first = inode(used);
    ASSERT_TRUE(keep_as_spare(spool_, used, kRoom).ok());
    EXPECT_TRUE(segments().empty());

    SegmentWriter writer(spool_);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_EQ(segments().size(), 1U);
    EXPECT_EQ(inode(segments()[0]), first);
    EXPECT_NE(segments()[0].filename(), used.filename());
    EXPECT_EQ(sound_records(segments()[0]), 0) << "records of the former use";
    writer.close();  // nothing was committed: a spare again
    EXPECT_TRUE(segments().empty());

    // The same sizes, so that old headers stand exactly where the next record would begin.
    write(writer, 7, bytes_of(100'000, 2));
    ASSERT_EQ(inode(segments()[0]), first);
    EXPECT_EQ(sound_records(segments()[0]), 1);
    ASSERT_TRUE(writer.begin().ok());
    ASSERT_TRUE(writer.append(bytes_of(50'000, 3)).ok());  // torn here by a crash
    auto reader = SegmentReader::open(segments()[0]);
    auto record = reader->peek();
    ASSERT_TRUE(record->has_value());
    EXPECT_EQ((*record)->instance.sop_instance_uid, instance(7).sop_instance_uid);
    reader->advance(**record);
    EXPECT_FALSE(reader->peek()->has_value());
    EXPECT_EQ(reader->rest().value(), SegmentReader::Rest::Nothing);
}

TEST_F(Segment, SparesHaveALimitAndAreTakenByOneAtATime) {
    const auto made = [&](const char* name, std::uint64_t bytes) {
        const auto path = spool_.ingest() / name;
        std::ofstream(path).put('x');
        std::filesystem::resize_file(path, bytes);
        return path;
    };
    const auto spares = [&] {
        return std::distance(std::filesystem::directory_iterator(spool_.spare()),
                             std::filesystem::directory_iterator());
    };
    ASSERT_TRUE(keep_as_spare(spool_, made("1-small.seg", kSegmentBytes / 8), 8 * kSegmentBytes).ok());
    ASSERT_TRUE(keep_as_spare(spool_, made("2-huge.seg", 3 * kSegmentBytes), 8 * kSegmentBytes).ok());
    EXPECT_EQ(spares(), 0);
    for (const char* name : {"3-a.seg", "4-b.seg", "5-c.seg"})
        ASSERT_TRUE(keep_as_spare(spool_, made(name, kSegmentBytes), 2 * kSegmentBytes).ok());
    EXPECT_EQ(spares(), 2);
    EXPECT_TRUE(segments().empty());
    auto one = take_spare(spool_, spool_.ingest() / "one"), two = take_spare(spool_, spool_.ingest() / "two");
    ASSERT_TRUE(one->has_value() && two->has_value());
    EXPECT_EQ((*one)->bytes, kSegmentBytes);
    EXPECT_FALSE(take_spare(spool_, spool_.ingest() / "three")->has_value());
    ASSERT_TRUE(return_spare(spool_, spool_.ingest() / "one"));
    EXPECT_FALSE(take_spare(spool_, spool_.ingest() / "four")->has_value()) << "its user lives";
    one->reset();
    EXPECT_TRUE(take_spare(spool_, spool_.ingest() / "five")->has_value());
}

TEST_F(Segment, SparesAreMadeInQuietTimesAndGivenUpWhenTheyAreNot) {
    int asked = 0;
    EXPECT_TRUE(prepare_spare(spool_, kSegmentBytes, [&] { return ++asked < 3; }).value());
    EXPECT_TRUE(std::filesystem::is_empty(spool_.spare()));
    EXPECT_TRUE(prepare_spare(spool_, kSegmentBytes, [] { return true; }).value());
    EXPECT_FALSE(prepare_spare(spool_, kSegmentBytes, [] { return true; }).value());
    EXPECT_EQ(drop_spares(spool_, std::chrono::hours(1)).value(), 0U);
    EXPECT_EQ(drop_spares(spool_, std::chrono::seconds(0)).value(), kSegmentBytes);
    EXPECT_TRUE(std::filesystem::is_empty(spool_.spare()));
}

TEST_F(Segment, ADataSetCannotPretendToBeARecord) {
    // Header blocks that are right in everything but the id, which no peer knows; one of another version besides.
    SegmentWriter writer(spool_);
    RecordHeader header;
    header.segment_id = 0x1234;
    header.number = 1;
    header.instance = instance(9);
    auto forged = write_header(header).value();
    ASSERT_TRUE(writer.begin().ok());
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer.append(forged).ok());
    auto reader = SegmentReader::open(segments()[0]);
    EXPECT_FALSE(reader->peek()->has_value());
    EXPECT_EQ(reader->rest().value(), SegmentReader::Rest::Nothing);
    EXPECT_FALSE(SegmentReader::open(spool_.ingest() / "123-0123456789abcdef.seg").ok());
}
