// kill -9 at random moments, of the receiver, of its processes and of the pipeline, while scanners send and a PACS
// takes the results: every instance that was acknowledged is there and is processed once, and the PACS holds each
// output once.
//
//   kill_run [--kills N] [--seed S] [--pause-ms M]      default: 25 kills, a new seed, 1500 ms between kills on average
//
// The seed is printed first; the same seed draws the same victims and pauses (the programs' own timing is theirs).
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>

#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

using std::chrono::milliseconds;

struct RunOptions {
    unsigned kills = 25;
    unsigned seed = std::random_device{}();
    unsigned pause_ms = 1500;
};
RunOptions run_options;

/// Sends whole studies, each instance until it is acknowledged. While enough studies wait for the pipeline, the last
/// one is sent once more: load for the receiver, and nothing new for the pipeline.
class Sender {
public:
    Sender(const Node& node, const std::vector<Instance>& images)
        : node_(&node), images_(&images), thread_([this] { run(); }) {}
    ~Sender() { finish(); }

    /// The study at hand is sent to its end.
    void finish() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    int studies() const { return studies_; }
    long acknowledged() const { return acknowledged_; }
    long broken() const { return broken_; }

private:
    static constexpr int kMostUnfinished = 2;

    int unfinished() const {
        try {
            int number = 0;
            for (const StudyRow& row : node_->studies())
                number += row.state != StudyState::Done && row.state != StudyState::SetAside ? 1 : 0;
            return number;
        } catch (const std::exception&) {
            return kMostUnfinished;  // the queue is busy: ask again later
        }
    }

    void send_study(int number) {
        const std::vector<Instance> instances = as_other_study(*images_, number);
        for (std::size_t next = 0; next < instances.size();) {
            try {
                Scanner scanner(node_->port(), instances);
                while (next < instances.size()) {
                    const auto status = scanner.store(instances[next]);
                    if (!status) break;
                    ASSERT_EQ(*status, 0) << "an instance was refused";
                    ++next;
                    ++acknowledged_;
                    pause_for(milliseconds(5));  // a load, not a measurement
                }
                if (next == instances.size()) scanner.release();
                else ++broken_;
            } catch (const std::exception&) {
                ++broken_;
            }
            if (next < instances.size()) pause_for(milliseconds(20));  // the receiver is down for a moment
        }
    }

    void run() {
        while (!stop_) {
            const bool again = studies_ > 0 && (studies_ == 999 || unfinished() >= kMostUnfinished);
            const int number = again ? studies_.load() : studies_ + 1;
            send_study(number);
            studies_ = number;
        }
    }

    const Node* node_;
    const std::vector<Instance>* images_;
    std::atomic<int> studies_{0};
    std::atomic<long> acknowledged_{0}, broken_{0};
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

enum Victim { WholeReceiver, Supervisor, OneChild, Pipeline, Both, kVictims };
constexpr std::string_view kNames[kVictims] = {"receiver with its children", "its supervisor alone", "one child of it",
                                               "pipeline", "receiver and pipeline at once"};

void kill(Node& node, Victim victim, std::mt19937& random) {
    if (victim == WholeReceiver || victim == Both) node.receiver().kill_hard();
    if (victim == Pipeline || victim == Both) node.pipeline().kill_hard();
    if (victim == Supervisor) {
        node.receiver().signal(SIGKILL);
        ASSERT_TRUE(node.receiver().wait(seconds(10)).has_value());
    }
    if (victim == OneChild) {
        const auto children = children_of(node.receiver().pid());
        if (!children.empty()) ::kill(children[random() % children.size()], SIGKILL);
    }
    if (victim == WholeReceiver || victim == Supervisor || victim == Both) node.start_receiver();
    if (victim == Pipeline || victim == Both) node.start_pipeline();
}

/// Each result was stored once, and each of its outputs was sent and stands in the PACS once.
void expect_processed_once(const Node& node, const Orthanc& pacs, int studies) {
    Queue queue = node.queue();
    std::map<std::string, std::multiset<std::string>> held;  // by study
    for (const Orthanc::Held& h : pacs.instances()) held[h.study_instance_uid].insert(h.sop_instance_uid);
    const auto rows = node.studies();
    EXPECT_EQ(static_cast<int>(rows.size()), studies);
    int more_revisions = 0, tries = 0;
    for (const StudyRow& study : rows) {
        EXPECT_EQ(study.state, StudyState::Done) << study.study_key << ": " << study.last_error;
        EXPECT_EQ(study.instances, 164) << study.study_key;
        EXPECT_EQ(study.conflicts, 0) << study.study_key;
        const auto outputs = queue.outputs_of(study.study_key);
        const auto events = queue.events_of(study.study_key, 500);
        ASSERT_TRUE(outputs.ok() && events.ok());
        std::multiset<std::string> sent;
        std::set<int> revisions;
        for (const OutputRow& row : *outputs) {
            revisions.insert(row.revision);
            if (row.state == "sent") sent.insert(row.output.sop_instance_uid);
            EXPECT_TRUE(row.state == "sent" || row.revision < study.revision) << study.study_key << ": " << row.state;
        }
        EXPECT_TRUE(revisions.contains(study.revision)) << study.study_key << ": the newest revision has no result";
        EXPECT_EQ(held[study.study_instance_uid], sent) << study.study_key << ": PACS against outbox";
        std::size_t results = 0;
        for (const EventRow& event : *events) {
            results += event.event == "sending" ? 1 : 0;
            tries += event.event == "processing" ? 1 : 0;
        }
        EXPECT_EQ(results, revisions.size()) << study.study_key << ": results stored for its revisions";
        more_revisions += study.revision > 1 ? 1 : 0;
    }
    std::cout << rows.size() << " studies done, " << more_revisions << " with more than one revision, " << tries
              << " tries of the pipeline\n";
}

TEST(KillRun, EveryAcknowledgedInstanceIsThereAndProcessedOnceAndThePacsHoldsEachOutputOnce) {
    std::cout << "--kills " << run_options.kills << " --seed " << run_options.seed << " --pause-ms "
              << run_options.pause_ms << std::endl;
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    std::mt19937 random(run_options.seed);
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    NodeOptions options = options_with(quick_bundle(), {destination(pacs)});
    options.series_quiet_seconds = options.study_quiet_seconds = 5;  // longer than most restarts
    options.max_attempts = 100;                                      // each kill may be a try
    Node node(options);
    node.start();
    const auto images = cta();
    const auto begun = std::chrono::steady_clock::now();
    unsigned killed[kVictims] = {};
    int studies = 0;
    {
        Sender sender(node, images);
        for (unsigned i = 0; i < run_options.kills && !::testing::Test::HasFatalFailure(); ++i) {
            pause_for(milliseconds(random() % (2 * run_options.pause_ms + 1)));
            const auto victim = static_cast<Victim>(random() % kVictims);
            ++killed[victim];
            kill(node, victim, random);
        }
        sender.finish();
        studies = sender.studies();
        std::cout << sender.acknowledged() << " acknowledged, " << sender.broken() << " associations broken\n";
    }
    for (int v = 0; v < kVictims; ++v) std::cout << "killed " << kNames[v] << ": " << killed[v] << "\n";
    ASSERT_FALSE(::testing::Test::HasFatalFailure());
    node.wait_until_settled(studies, seconds(600));
    for (int number = 1; number <= studies; ++number) expect_kept(node, as_other_study(images, number));
    expect_processed_once(node, pacs, studies);
    std::size_t damaged = 0;
    for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(node.spool() / "damaged")) ++damaged;
    EXPECT_EQ(damaged, 0U);
    const auto took = std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now() - begun);
    std::cout << took.count() << " s\n";
    if (::testing::Test::HasFailure())
        std::cout << "FAILED with --kills " << run_options.kills << " --seed " << run_options.seed << std::endl;
}

}  // namespace
}  // namespace cardionode::test

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    using cardionode::test::run_options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string_view word = argv[i];
        const auto value = static_cast<unsigned>(std::strtoul(argv[i + 1], nullptr, 10));
        if (word == "--kills") run_options.kills = value;
        else if (word == "--seed") run_options.seed = value;
        else if (word == "--pause-ms") run_options.pause_ms = value;
        else return std::cerr << "unknown option " << word << "\n", 2;
    }
    return RUN_ALL_TESTS();
}
