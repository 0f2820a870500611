// The power goes out at any change of a file: what was acknowledged is there afterwards, once, byte for byte.
// CARDIONODE_POWER_CUTS sets the number of cuts, CARDIONODE_SEED repeats a run.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <set>

#include "conf/base/hash.h"
#include "scp/store/indexer.h"
#include "tests/scp/store/losing_disk.h"
#include "tests/support/data_set.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
namespace fs = std::filesystem;

namespace {

unsigned number_from(const char* variable, unsigned otherwise) {
    const char* text = std::getenv(variable);
    return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : otherwise;
}

constexpr std::uint64_t kSpares = 1ULL << 30;

ReceivedInstance received(const Instance& instance) {
    ReceivedInstance made;
    made.study_instance_uid = "1.2.3.1";
    made.series_instance_uid = "1.2.3.1.1";
    made.sop_instance_uid = instance.sop_instance_uid;
    made.sop_class_uid = instance.sop_class_uid;
    made.transfer_syntax_uid = instance.transfer_syntax_uid;
    made.modality = "CT";
    made.calling_ae_title = "CT1";
    made.called_ae_title = "CARDIONODE";
    made.peer_address = "127.0.0.1";
    return made;
}

Instance slice(int number) { return made_slice(number, "1.2.3.1", 3000 + 700 * static_cast<std::size_t>(number % 7)); }

/// What the receiver does, over and over; each acknowledged number goes into `answers`, as an answer to the scanner.
[[noreturn]] void receive_until_the_power_is_out(const fs::path& node, const fs::path& stash, long changes, int first,
                                                 int answers) {
    Spool spool = prepare_spool(node / "spool").value();
    lose_power_after(node, stash, changes);
    auto queue = Queue::open(node / "queue.db");
    if (!queue) ::_exit(1);
    IndexerOptions options;
    options.batch_records = 3;
    options.spare_bytes = kSpares;
    auto indexer = Indexer::open(spool, options, *queue);
    if (!indexer || !indexer->recover()) ::_exit(2);
    int number = first;
    while (true) {
        SegmentWriter writer(spool, 40'000);
        for (int i = 0; i < 8; ++i, ++number) {
            const Instance instance = slice(number);
            if (!writer.begin() || !writer.append(std::as_bytes(std::span(instance.dataset))) ||
                !writer.commit(received(instance)))
                ::_exit(3);
            if (::write(answers, &number, sizeof number) != sizeof number) ::_exit(4);
            if (i % 3 == 2 && !indexer->step()) ::_exit(5);
        }
        writer.close();
        for (int i = 0; i < 4; ++i)
            if (!indexer->step()) ::_exit(6);
    }
}

}  // namespace

TEST(PowerCut, LosesNothingThatWasAcknowledged) {
    const unsigned seed = number_from("CARDIONODE_SEED", std::random_device{}());
    const unsigned cuts = number_from("CARDIONODE_POWER_CUTS", 60);
    std::cout << "CARDIONODE_SEED=" << seed << " CARDIONODE_POWER_CUTS=" << cuts << "\n";
    std::mt19937 random(seed);
    const TemporaryFolder folder;
    const fs::path node = folder / "node";
    fs::create_directories(node / "spool");
    std::set<int> acknowledged;
    int next = 0;
    for (unsigned cut = 0; cut < cuts; ++cut) {
        const fs::path stash = folder / ("stash" + std::to_string(cut));
        fs::create_directories(stash);
        int answers[2];
        ASSERT_EQ(::pipe(answers), 0);
        const long changes = random() % 400;  // drawn here: in the child every cut would be the first one again
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) receive_until_the_power_is_out(node, stash, changes, next, answers[1]);
        ::close(answers[1]);
        for (int number = 0; ::read(answers[0], &number, sizeof number) == sizeof number; next = number + 1)
            acknowledged.insert(number);
        ::close(answers[0]);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kPowerIsOut) << "cut " << cut << " status " << status;
        fs::remove_all(stash);
        next += 100;  // what was being received is sent again as something else
    }
    Queue queue = Queue::open(node / "queue.db").value();
    auto indexer = Indexer::open(prepare_spool(node / "spool").value(), {}, queue);
    ASSERT_TRUE(indexer.ok());
    const auto counts = indexer->recover();
    ASSERT_TRUE(counts.ok()) << counts.error().message;
    EXPECT_GT(acknowledged.size(), cuts);
    for (const int number : acknowledged) {
        const auto row = queue.find_instance(slice(number).sop_instance_uid).value();
        ASSERT_TRUE(row.has_value()) << number;
        const auto& data = slice(number).dataset;
        EXPECT_EQ(row->sha256, sha256_hex({reinterpret_cast<const char*>(data.data()), data.size()}));
        const std::string file = read_file(node / "spool" / row->file).value();
        EXPECT_TRUE(file.ends_with(std::string(data.begin(), data.end()))) << number;
    }
    EXPECT_EQ(queue.status()->conflicts, 0);
    EXPECT_EQ(std::distance(fs::directory_iterator(node / "spool/damaged"), fs::directory_iterator()), 0);
    std::cout << acknowledged.size() << " acknowledged in " << cuts << " power cuts\n";
}
