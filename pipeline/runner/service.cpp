#include "pipeline/runner/service.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "conf/base/node_settings.h"
#include "conf/base/service_manager.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/runner/pipeline_stats.h"
#include "pipeline/runner/study_worker.h"
#include "pipeline/send/send_audit.h"
#include "pipeline/send/send_worker.h"
#include "scp/audit/trail.h"
#include "scp/metrics/responder.h"
#include "scp/queue/queue.h"

namespace cardionode {
namespace {

constexpr const char* kProgram = "cardionode-pipeline";
using SteadyClock = std::chrono::steady_clock;

/// Longest time that a thread may be silent: one window of the model on a slow CPU, the writing of all outputs, or one
/// object to a slow PACS. Longer than the watchdog's own time, so that it fires only for a thread that hangs.
constexpr auto kLongestSilence = std::chrono::minutes(10);
/// What is on its way when the program is asked to stop may take this long; then it is sent again at the next start.
constexpr auto kLongestGoodbye = std::chrono::seconds(40);

/// When a thread was last seen.
class Pulse {
public:
    void beat() { last_ = SteadyClock::now().time_since_epoch().count(); }
    bool alive() const {
        const SteadyClock::time_point last{SteadyClock::duration(last_.load())};
        return SteadyClock::now() - last < kLongestSilence;
    }

private:
    std::atomic<SteadyClock::rep> last_{SteadyClock::now().time_since_epoch().count()};
};

/// One thread of the service.
struct Worker {
    Pulse pulse;
    std::atomic<bool> ended{false};
    std::optional<Error> error;  ///< read it after `ended`
    std::jthread thread;
};

/// Only one pipeline may work in a work folder: it takes over what it finds claimed under its name.
Result<FileDescriptor> lock_work_folder(const std::filesystem::path& work) {
    const auto path = work / ".pipeline.lock";
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (!file.valid()) return file_error("opening", path, errno);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return config_error("another cardionode-pipeline works in " + work.string());
    }
    return file;
}

class Service {
public:
    /// Everything that can be wrong is found here, before any study is touched.
    static Result<std::unique_ptr<Service>> create(NodeSettings settings) {
        if (auto made = make_folder(settings.node.work); !made) return std::move(made).error();
        auto lock = lock_work_folder(settings.node.work);
        if (!lock) return std::move(lock).error();
        auto bundle = load_bundle(settings.pipeline.bundle);
        if (!bundle) return std::move(bundle).error().in("model bundle");
        auto predictor = Predictor::load(
            *bundle, {settings.pipeline.device, settings.pipeline.mixed_precision, settings.pipeline.threads});
        if (!predictor) return std::move(predictor).error().in("model bundle");
        auto audit = AuditTrail::open(settings, kProgram);
        if (!audit) return std::move(audit).error();
        auto service = std::unique_ptr<Service>(new Service(std::move(settings), std::move(*lock), std::move(*bundle),
                                                            std::move(*predictor), std::move(*audit)));
        if (auto started = service->start(); !started) return std::move(started).error();
        return service;
    }

    ~Service() { stop(); }

    /// Waits for SIGTERM, SIGINT, or a thread that gave up. none: a signal
    std::optional<Error> wait(const sigset_t& signals) {
        auto manager = ServiceManager::from_environment();
        manager.ready(fmt::format("model {} {}", bundle_.manifest.name, bundle_.manifest.version));
        while (true) {
            const timespec pause{0, 200'000'000};
            const int signal = sigtimedwait(&signals, nullptr, &pause);
            if (signal > 0) {
                log_info("pipeline_stopping", {{"signal", signal}});
                manager.stopping("stopping");
                stop();
                return std::nullopt;
            }
            bool all_alive = true;
            for (const auto& worker : workers_) {
                if (worker->ended) {
                    stop();
                    return worker->error ? *worker->error : bug_error("a thread of the pipeline ended");
                }
                all_alive = all_alive && worker->pulse.alive();
            }
            if (all_alive) manager.alive();
        }
    }

private:
    Service(NodeSettings settings, FileDescriptor lock, Bundle bundle, Predictor predictor, AuditTrail audit)
        : settings_(std::move(settings)),
          lock_(std::move(lock)),
          bundle_(std::move(bundle)),
          predictor_(std::move(predictor)),
          audit_(std::move(audit)),
          stats_(bundle_.manifest.name, bundle_.manifest.version, CARDIONODE_VERSION) {}

    Result<void> start() {
        if (auto analyser = start_analyser(); !analyser) return analyser;
        for (const DestinationSettings& destination : settings_.destinations) {
            if (auto sender = start_sender(destination); !sender) return sender;
        }
        if (auto metrics = start_metrics(); !metrics) return metrics;
        audit_.record(application_started(kProgram, settings_.scp.ae_title));
        started_ = true;
        return warn_of_unknown_destinations();
    }

    /// From here on workers_ does not change until stop().
    Result<void> start_metrics() {
        if (settings_.metrics.pipeline_port == 0) return {};
        auto listener = Responder::listen(settings_.metrics.bind_address, settings_.metrics.pipeline_port);
        if (!listener) return std::move(listener).error();
        auto responder = Responder::create(std::move(*listener),
                                           observe([this] { return stats_.metrics(); }, [this] { return health(); }));
        if (!responder) return std::move(responder).error();
        metrics_ = std::jthread([r = std::move(*responder)](const std::stop_token& stop) mutable {
            r.run([&stop] { return stop.stop_requested(); });
        });
        return {};
    }

    Health health() const {
        Health health;
        for (const auto& worker : workers_)
            if (worker->ended || !worker->pulse.alive()) health.why_not_live = "a thread ended or hangs";
        health.why_not_ready = health.why_not_live;
        return health;
    }

    /// @param work  gets the stop token; its error ends the program
    template <class Work>
    void start_thread(std::unique_ptr<Worker> worker, Work work) {
        Worker* w = worker.get();
        workers_.push_back(std::move(worker));
        w->thread = std::jthread([w, work = std::move(work)](const std::stop_token& stop) mutable {
            const Result<void> result = work(stop);
            if (!result) w->error = result.error();
            w->ended = true;
        });
    }

    Result<void> start_analyser() {
        auto worker = std::make_unique<Worker>();
        StudyWorkerOptions options;
        options.database = settings_.node.database;
        options.spool = settings_.node.spool;
        options.analysis.series = settings_.series;
        options.analysis.outputs = settings_.outputs;
        options.analysis.augmentation = usual_augmentation(
            bundle_.manifest, augmentation_from(settings_.pipeline.test_time_shifts).value_or(Augmentation::None));
        options.analysis.work_folder = settings_.node.work;
        options.analysis.device_name = settings_.scp.ae_title;
        options.analysis.software_version = CARDIONODE_VERSION;
        options.manifest = bundle_.manifest;
        options.pipeline = settings_.pipeline;
        for (const DestinationSettings& d : settings_.destinations) options.destinations.push_back(d.name);
        options.alive = [pulse = &worker->pulse] { pulse->beat(); };
        options.observe = [this](const Result<Analysis>& analysis) { stats_.study(analysis); };
        auto analyser = StudyWorker::create(std::move(options), model_of(predictor_));
        if (!analyser) return std::move(analyser).error();
        start_thread(std::move(worker),
                     [a = std::move(*analyser)](const std::stop_token& stop) mutable { return a.run(stop); });
        return {};
    }

    Result<void> start_sender(const DestinationSettings& destination) {
        auto worker = std::make_unique<Worker>();
        SendWorkerOptions options;
        options.database = settings_.node.database;
        options.work_folder = settings_.node.work;
        options.destination = destination;
        options.poll =
            std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(settings_.pipeline.poll_seconds));
        options.alive = [pulse = &worker->pulse] { pulse->beat(); };
        options.observe = [this, destination](const ClaimedOutput& claim, const Result<std::string>& sent) {
            stats_.output(destination.name, sent);
            audit_output(audit_, settings_.node.database, destination, claim, sent);
        };
        options.committed = [this, destination](const CommitmentAnswer& answer) {
            audit_commitment(audit_, destination, answer);
        };
        auto sender = SendWorker::create(std::move(options));
        if (!sender) return std::move(sender).error();
        start_thread(std::move(worker), [s = std::move(*sender)](const std::stop_token& stop) mutable -> Result<void> {
            s.run(stop);
            return {};
        });
        return {};
    }

    Result<void> warn_of_unknown_destinations() {
        auto queue = Queue::open(settings_.node.database);
        if (!queue) return std::move(queue).error();
        const auto status = queue->status();
        if (!status) return status.error();
        for (const DestinationStatus& waiting : status->destinations) {
            bool known = waiting.waiting == 0 || waiting.destination.empty();
            for (const DestinationSettings& d : settings_.destinations) known = known || d.name == waiting.destination;
            if (known) continue;
            log_warning("outputs_without_destination", {{"destination", waiting.destination},
                                                        {"outputs", waiting.waiting},
                                                        {"why", "no destination of this name is in the settings"}});
        }
        return {};
    }

    void stop() {
        if (std::exchange(started_, false)) audit_.record(application_stopped(kProgram, settings_.scp.ae_title));
        metrics_ = {};
        for (const auto& worker : workers_) worker->thread.request_stop();
        const auto deadline = SteadyClock::now() + kLongestGoodbye;
        for (const auto& worker : workers_) {
            while (!worker->ended && SteadyClock::now() < deadline)
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
            if (worker->ended) continue;
            // Its lease ends with this process; the next start takes the work over and sends the same instance again.
            log_warning("pipeline_left_work", {{"why", "a thread did not end in time"}});
            std::_Exit(0);
        }
        workers_.clear();
    }

    NodeSettings settings_;
    FileDescriptor lock_;
    Bundle bundle_;
    Predictor predictor_;  // of the analyser's thread, once that runs
    AuditTrail audit_;
    PipelineStats stats_;
    bool started_ = false;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::jthread metrics_;  // last: it looks at all of the above
};

int exit_code(const Error& error) {
    log_error("pipeline_failed", {{"kind", to_string(error.kind)}});
    // As it stands: the problems of a settings file are one line each.
    fmt::print(stderr, "cardionode-pipeline: {}\n", error.message);
    return error.kind == ErrorKind::Config ? 2 : 1;
}

}  // namespace

int run_pipeline_service(const std::filesystem::path& config_file) {
    // Before any thread: they inherit the mask, so that only wait() gets the signals.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    prepare_dicom_network();

    auto settings = load_node_settings(config_file);
    if (!settings) return exit_code(settings.error());
    if (const auto level = log_level_from(settings->node.log_level)) set_log_level(*level);
    const auto start = SteadyClock::now();
    auto service = Service::create(std::move(*settings));
    if (!service) return exit_code(service.error());
    log_info("pipeline_started",
             {{"seconds", fmt::format("{:.1f}", std::chrono::duration<double>(SteadyClock::now() - start).count())}});
    if (const auto error = (*service)->wait(signals)) return exit_code(*error);
    log_info("pipeline_stopped");
    return 0;
}

}  // namespace cardionode
