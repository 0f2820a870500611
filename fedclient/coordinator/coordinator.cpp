#include "fedclient/coordinator/coordinator.h"

#include <sys/file.h>

#include <fcntl.h>

#include <cerrno>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/fleet_calls.h"
#include "fedclient/coordinator/http_server.h"
#include "fedclient/coordinator/rounds.h"
#include "fedclient/coordinator/status.h"
#include "fedclient/flower/object_store.h"

namespace cardionode::fed {
namespace {

/// Two coordinators on one folder would count twice.
Result<FileDescriptor> lock_folder(const std::filesystem::path& folder) {
    const auto path = folder / "lock";
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file.valid()) return file_error("opening", path, errno);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
        return config_error(folder.string() + ": another coordinator works in this folder");
    return file;
}

}  // namespace

std::filesystem::path coordinator_database(const std::filesystem::path& folder) { return folder / "coordinator.db"; }

struct Coordinator::State {
    CoordinatorOptions options;
    const Clock* clock = nullptr;
    FileDescriptor lock;
    Faults faults;
    std::unique_ptr<CoordinatorStore> store;
    std::optional<ObjectStore> objects;
    std::unique_ptr<FleetCalls> calls;
    std::unique_ptr<Rounds> rounds;
    std::mutex ticking;  // Rounds has one caller
    std::unique_ptr<HttpServer> server, status_server;

    std::mutex mutex;
    std::condition_variable wake;
    bool stop = false;
    std::thread ticks;

    Result<void> tick() {
        const std::lock_guard lock_(ticking);
        return rounds->tick();
    }

    void tick_until_stopped() {
        const Milliseconds pause(static_cast<std::int64_t>(options.settings.rounds.poll_seconds * 1000));
        std::unique_lock guard(mutex);
        while (!stop) {
            guard.unlock();
            try {
                if (const auto done = tick(); !done)
                    log_error("rounds", {{"kind", to_string(done.error().kind)}, {"reason", done.error().message}});
            } catch (const std::exception& e) {
                log_error("rounds", {{"kind", "bug"}, {"reason", e.what()}});
            }
            guard.lock();
            wake.wait_for(guard, pause, [this] { return stop; });
        }
    }

    HttpReply status_page(const HttpQuestion& question) {
        if (question.target != "/status") return {404, "text/plain", "Not Found\n"};
        auto json = status_json(*store, clock->now(), &faults);
        if (!json) return {500, "text/plain", json.error().message + "\n"};
        return {200, "application/json", *json + "\n"};
    }
};

Result<std::unique_ptr<Coordinator>> Coordinator::start(CoordinatorOptions options) {
    auto state = std::make_unique<State>();
    state->clock = options.clock ? options.clock : &system_clock();
    state->options = std::move(options);
    State& s = *state;
    const RunSettings& settings = s.options.settings;
    for (const auto& fault : s.options.faults)
        if (auto ordered = s.faults.order(fault); !ordered) return std::move(ordered).error();
    if (auto made = make_folder(s.options.folder); !made) return std::move(made).error();
    auto lock = lock_folder(s.options.folder);
    if (!lock) return std::move(lock).error();
    s.lock = std::move(*lock);
    auto store = CoordinatorStore::open(coordinator_database(s.options.folder));
    if (!store) return std::move(store).error();
    s.store = std::move(*store);
    auto objects = ObjectStore::open(s.options.folder / "objects");
    if (!objects) return std::move(objects).error();
    s.objects = std::move(*objects);
    auto calls = FleetCalls::create(settings, *s.store, *s.objects, s.faults, *s.clock);
    if (!calls) return std::move(calls).error();
    s.calls = std::move(*calls);
    auto rounds = Rounds::open(settings, *s.store, *s.objects, s.faults, *s.clock, s.options.folder);
    if (!rounds) return std::move(rounds).error();
    s.rounds = std::move(*rounds);

    const auto& c = settings.server;
    // First, so that whoever finds the node's port open finds the page as well.
    if (c.status_port > 0) {
        HttpServerOptions page;
        page.port = c.status_port;
        page.threads = 1;
        auto status = HttpServer::start(page, [&s](const HttpQuestion& question) { return s.status_page(question); });
        if (!status) return std::move(status).error();
        s.status_server = std::move(*status);
    }
    HttpServerOptions http;
    http.bind_address = c.bind_address;
    http.port = c.port;
    http.certificate = c.certificate;
    http.key = c.key;
    http.client_ca = c.client_ca;
    http.client_crl = c.client_crl;
    http.clock = s.clock;
    auto server = HttpServer::start(http, [&s](const HttpQuestion& question) { return s.calls->handle(question); });
    if (!server) return std::move(server).error();
    s.server = std::move(*server);
    if (s.options.own_ticks) s.ticks = std::thread([&s] { s.tick_until_stopped(); });
    std::unique_ptr<Coordinator> coordinator(new Coordinator(std::move(state)));
    log_info("coordinator_ready", {{"url", coordinator->url()}, {"model", settings.model_id}});
    return coordinator;
}

Coordinator::Coordinator(std::unique_ptr<State> state) : state_(std::move(state)) {}

Coordinator::~Coordinator() {
    state_->status_server.reset();
    state_->server.reset();
    {
        const std::lock_guard guard(state_->mutex);
        state_->stop = true;
    }
    state_->wake.notify_all();
    if (state_->ticks.joinable()) state_->ticks.join();
}

int Coordinator::port() const { return state_->server->port(); }

std::string Coordinator::url() const {
    const auto& server = state_->options.settings.server;
    return fmt::format("{}://{}:{}", server.certificate.empty() ? "http" : "https", server.bind_address, port());
}

Result<void> Coordinator::tick() { return state_->tick(); }

Result<std::string> Coordinator::status() const {
    return status_json(*state_->store, state_->clock->now(), &state_->faults);
}

bool Coordinator::finished() const {
    const auto run = state_->store->run();
    return run && *run && (*run)->status != "running";
}

Result<std::filesystem::path> Coordinator::model() const {
    const auto text = status();
    if (!text) return text.error();
    const auto file = nlohmann::json::parse(*text)["global"]["file"].get<std::string>();
    if (file.empty()) return state_->options.folder / "models" / "initial.safetensors";
    return std::filesystem::path(file);
}

Faults& Coordinator::faults() { return state_->faults; }

}  // namespace cardionode::fed
