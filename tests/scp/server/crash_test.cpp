// kill -9 of the supervisor, an association or the indexer at random moments under load: what was acknowledged is in
// the queue afterwards, once. CARDIONODE_CRASH_ROUNDS sets the number of rounds, CARDIONODE_SEED repeats a run.
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <random>
#include <thread>

#include "tests/scp/server/receiver.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

unsigned number_from(const char* variable, unsigned otherwise) {
    const char* text = std::getenv(variable);
    return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : otherwise;
}

/// Sends instances over and over, each until it is acknowledged.
class Load {
public:
    Load(int port, int sender) : port_(port), sender_(sender), thread_([this] { run(); }) {}
    ~Load() { stop(); }
    void stop() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    std::vector<std::string> acknowledged() {
        const std::lock_guard lock(mutex_);
        return acknowledged_;
    }

private:
    void run() {
        int number = 0;
        while (!stop_) {
            std::vector<Instance> batch;
            const std::string study = "1.2.3." + std::to_string(sender_);
            for (int i = 0; i < 20; ++i) {
                const int n = number + i;  // the same number is the same instance when it is sent again
                batch.push_back(made_slice(n, study, 20'000 + 1000 * static_cast<std::size_t>(n % 20),
                                           static_cast<std::uint8_t>(n)));
            }
            try {
                Scanner scanner(port_, batch);
                for (const Instance& instance : batch) {
                    if (stop_ || scanner.store(instance) != 0) break;
                    const std::lock_guard lock(mutex_);
                    acknowledged_.push_back(sha256_of(instance));
                    ++number;
                    if (number % 20 == 0) pause_for(milliseconds(50));  // a load, not a measurement
                }
            } catch (const std::exception&) {
                pause_for(milliseconds(20));  // the receiver is down for a moment
            }
        }
    }

    int port_;
    int sender_;
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::vector<std::string> acknowledged_;
    std::thread thread_;
};

}  // namespace

TEST(Crash, NothingAcknowledgedIsLostOrDoubled) {
    const unsigned seed = number_from("CARDIONODE_SEED", std::random_device{}());
    const unsigned rounds = number_from("CARDIONODE_CRASH_ROUNDS", 20);
    std::cout << "CARDIONODE_SEED=" << seed << " CARDIONODE_CRASH_ROUNDS=" << rounds << "\n";
    std::mt19937 random(seed);
    Receiver receiver;
    receiver.start();
    std::vector<std::string> acknowledged;
    std::size_t kills[3] = {};
    {
        Load one(receiver.port(), 1), two(receiver.port(), 2), three(receiver.port(), 3);
        for (unsigned round = 0; round < rounds; ++round) {
            pause_for(milliseconds(random() % 400));
            const unsigned victim = random() % 3;
            const std::vector<pid_t> children = receiver.children();
            ++kills[victim];
            if (victim == 0) {
                ::kill(receiver.process().pid(), SIGKILL);
                ASSERT_TRUE(receiver.process().wait(seconds(10)).has_value());
                receiver.start();
            } else if (victim == 1 && !children.empty()) {
                ::kill(children.front(), SIGKILL);  // the oldest: the indexer, unless it was started again
            } else if (!children.empty()) {
                ::kill(children[random() % children.size()], SIGKILL);
            }
        }
        for (Load* load : {&one, &two, &three}) {
            load->stop();
            const auto more = load->acknowledged();
            acknowledged.insert(acknowledged.end(), more.begin(), more.end());
        }
    }
    std::cout << acknowledged.size() << " acknowledged; killed: supervisor " << kills[0] << ", oldest child "
              << kills[1] << ", any child " << kills[2] << "\n";
    receiver.process().kill_hard();
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_stored(acknowledged.size(), seconds(120)));
    ASSERT_TRUE(eventually(seconds(60), [&] { return receiver.files_in("ingest") == 0; }));
    const std::multiset<std::string> stored = receiver.stored();
    std::size_t missing = 0, doubled = 0;
    for (const std::string& hash : acknowledged) {
        missing += stored.count(hash) == 0 ? 1 : 0;
        doubled += stored.count(hash) > 1 ? 1 : 0;
    }
    EXPECT_GT(acknowledged.size(), 50U);
    EXPECT_EQ(missing, 0U);
    EXPECT_EQ(doubled, 0U);
    EXPECT_EQ(receiver.files_in("instances"), stored.size());
    EXPECT_EQ(receiver.files_in("damaged"), 0U);
    EXPECT_EQ(receiver.queue().status()->conflicts, 0);
}
