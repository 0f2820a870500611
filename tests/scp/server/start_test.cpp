// How the receiver starts and stops.
#include <csignal>
#include <fstream>

#include "tests/scp/server/receiver.h"
#include "tests/scp/server/small_disk.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::seconds;

TEST(Start, SaysWhatIsWrongAndEndsWithTwo) {
    Receiver running;
    running.start();
    const auto ends_with_two = [](Receiver& receiver, const std::string& reason) {
        const Finished finished = receiver.run_to_end();
        EXPECT_EQ(finished.ending.exit_code, 2) << finished.errors;
        EXPECT_NE(finished.errors.find(reason), std::string::npos) << finished.errors;
    };
    Receiver bad_key("  prot: 1\n");
    ends_with_two(bad_key, "prot");
    const TemporaryFolder folder;
    std::ofstream(folder / "file") << "x";
    Receiver no_folder({}, folder / "file");
    ends_with_two(no_folder, (folder / "file").string());
    Receiver forbidden({}, "/proc/cardionode");
    ends_with_two(forbidden, "/proc/cardionode");
    Receiver same_spool({}, running.spool());
    ends_with_two(same_spool, "another receiver");
    const SmallDisk disk(folder / "disk", "8m");
    if (disk.mounted() && disk.make_read_only()) {
        Receiver read_only({}, folder / "disk/spool");
        ends_with_two(read_only, "Read-only file system");
    }
}

TEST(Start, APortInUseIsNamed) {
    Receiver running;
    running.start();
    Receiver second;
    second.write_settings();
    std::ifstream in(second.folder() / "node.yaml");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const std::string own = "port: " + std::to_string(second.port());
    text.replace(text.find(own), own.size(), "port: " + std::to_string(running.port()));
    std::ofstream(second.folder() / "busy.yaml") << text;
    const Finished finished = run({program("cardionode-scp"), "--config", (second.folder() / "busy.yaml").string()});
    EXPECT_EQ(finished.ending.exit_code, 2);
    EXPECT_NE(finished.errors.find("port " + std::to_string(running.port()) + ": Address already in use"),
              std::string::npos)
        << finished.errors;
}

TEST(Stop, OpenAssociationsFinish) {
    Receiver receiver;
    receiver.start();
    const std::vector<Instance> slices = {made_slice(1), made_slice(2)};
    RawPeer silent(receiver.port());
    Scanner scanner(receiver.port(), slices);
    ASSERT_EQ(scanner.store(slices[0]), 0);
    receiver.process().signal_all(SIGTERM);  // as systemd does it
    ASSERT_TRUE(receiver.wait_for_log("receiver_stopping"));
    EXPECT_TRUE(silent.closed_within(seconds(3)));
    EXPECT_THROW(RawPeer(receiver.port()), std::runtime_error);
    EXPECT_EQ(scanner.store(slices[1]), 0);
    scanner.release();
    const auto ending = receiver.process().wait(seconds(20));
    ASSERT_TRUE(ending.has_value());
    EXPECT_EQ(ending->exit_code, 0);
    EXPECT_EQ(receiver.stored().size(), 2U);
    EXPECT_EQ(receiver.files_in("ingest"), 0U);
}
