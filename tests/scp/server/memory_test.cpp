// Memory of the receiver over thousands of associations, a third of each kind: good ones that store an image, ones that
// the peer aborts at some point, and malformed ones. What stays must not grow from the first thousand on.
// CARDIONODE_ASSOCIATIONS sets how many (10000).
#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>

#include "tests/scp/server/receiver.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::seconds;

namespace {

struct Memory {
    long rss_kib = 0;
    long pss_kib = 0;
};

/// none: the process is gone.
std::optional<Memory> memory_of(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
    Memory memory;
    std::string word;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        long kib = 0;
        words >> word >> kib;
        if (word == "Rss:") memory.rss_kib = kib;
        if (word == "Pss:") memory.pss_kib = kib;
    }
    if (memory.rss_kib == 0) return std::nullopt;
    return memory;
}

/// The supervisor and its helpers, by process id, while no connection is open and all is indexed.
std::map<pid_t, Memory> at_rest(const Receiver& receiver, pid_t supervisor) {
    EXPECT_TRUE(eventually(seconds(60),
                           [&] { return receiver.children().size() == kHelpers && receiver.files_in("ingest") == 0; }));
    std::map<pid_t, Memory> all;
    std::vector<pid_t> processes = receiver.children();
    processes.insert(processes.begin(), supervisor);
    for (const pid_t pid : processes)
        if (const auto memory = memory_of(pid)) all[pid] = *memory;
    return all;
}

void good(int port, int number) {
    const Instance image = made_slice(number % 300, "1.2.3." + std::to_string(number % 7));
    Scanner scanner(port, {image});
    ASSERT_TRUE(scanner.accepted());
    ASSERT_EQ(scanner.store(image), 0);
    scanner.release();
}

void aborted(int port, int number) {
    RawPeer peer(port);
    peer.send(associate_request({{1, std::string(kCtImage), {std::string(kExplicit)}}}));
    if (number % 3 == 0) return;  // gone before the answer
    ASSERT_FALSE(peer.receive_pdu().empty());
    const Instance image = made_slice(1);
    if (number % 3 == 1) peer.send(data_pdu(1, 3, store_command(image)) + data_pdu(1, 0, "half an image"));
    peer.send(pdu(7, std::string(4, '\0')));
}

void malformed(int port, int number) {
    RawPeer peer(port);
    const std::string request = associate_request({{1, std::string(kCtImage), {std::string(kExplicit)}}});
    switch (number % 5) {
        case 0: peer.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); break;
        case 1: peer.send(request.substr(0, 100) + std::string(request.size() - 100, '\xff')); break;
        case 2: peer.send(std::string("\x01\x00\xff\xff\xff\xff", 6)); break;
        case 3: peer.send(request + data_pdu(99, 3, echo_command())); break;
        default: peer.send(request + pdu(4, std::string("\x7f\xff\xff\xff\x01\x03", 6))); break;
    }
    peer.receive_all(seconds(5));
}

int number_of_associations() {
    const char* text = std::getenv("CARDIONODE_ASSOCIATIONS");
    return text ? std::atoi(text) : 10'000;
}

}  // namespace

TEST(Memory, OfTheReceiverStaysTheSameOverThousandsOfAssociations) {
    const int most = number_of_associations();
    Receiver receiver(
        "  min_free_mib: 0\n  journal_spare_mib: 0\n  max_associations: 64\n"
        "  max_associations_per_address: 64\n");
    receiver.start();
    const pid_t supervisor = receiver.process().pid();
    std::atomic<int> next{0};
    const auto until = [&](int number) {
        std::vector<std::thread> peers;
        for (int t = 0; t < 4; ++t) {
            peers.emplace_back([&] {
                for (int i = next++; i < number; i = next++) {
                    if (i % 3 == 0) good(receiver.port(), i);
                    else if (i % 3 == 1) aborted(receiver.port(), i / 3);
                    else malformed(receiver.port(), i / 3);
                }
            });
        }
        for (std::thread& peer : peers) peer.join();
        next = number;
    };
    const auto begun = std::chrono::steady_clock::now();
    until(most / 10);
    const auto first = at_rest(receiver, supervisor);
    until(most);
    const auto last = at_rest(receiver, supervisor);
    const auto took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    std::cout << most << " associations in " << std::fixed << std::setprecision(1) << took << " s; KiB after "
              << most / 10 << " and after " << most << "\n";
    ASSERT_EQ(first.size(), kHelpers + 1);
    for (const auto& [pid, before] : first) {
        ASSERT_TRUE(last.contains(pid)) << "a helper ended and was started again";
        const Memory& after = last.at(pid);
        const std::string name = pid == supervisor ? "supervisor" : "helper " + std::to_string(pid - supervisor);
        std::cout << "  " << name << ": RSS " << before.rss_kib << " " << after.rss_kib << ", PSS " << before.pss_kib
                  << " " << after.pss_kib << "\n";
        // PSS is told, not judged: it changes with the number of processes that share the same pages.
        EXPECT_LE(after.rss_kib, before.rss_kib * 1.05) << name;
    }
    EXPECT_EQ(Scanner(receiver.port(), {}).echo(), 0);
}
