// A federation in a folder: a server that hands messages out once and takes replies, and methods that learn by writing
// numbers. Everything lies in files, so that a process that was killed and the next one meet the same federation.
//
//   server/inbox/<id>     messages not handed out yet; server/replies/<id> what was pushed; log: a line an event
// Weights are texts: "heart 0.90" is a model of that Dice. Kill points: SIGKILL to the own process at a named place.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/round/consent.h"
#include "fedclient/round/night.h"
#include "fedclient/round/round.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

namespace fs = std::filesystem;
using namespace cardionode::fed;

inline std::string text_of(const fs::path& file) {
    std::ifstream in(file);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

/// What a server asks.
struct Ask {
    std::string id, type = "train", model = "tavi", signature = "good", architecture = "arch", weights = "heart 0.90";
    std::string record = "record-1", method = "fedavg";
    std::int64_t round = 1, schema = 1, steps = 10;
    std::uint64_t run = 7;
    double created_at = 0, ttl = 3600, deadline = 0, learning_rate = 0;
};

struct World {
    TemporaryFolder folder;
    FakeClock clock;
    FederatedSettings settings;
    std::string kill_at;  ///< "push<" before, "push>" after the effect
    bool clinic = false;
    int clinic_pauses = 0;                                                   ///< left until the clinic is idle again
    std::function<void(const std::string&)> at = [](const std::string&) {};  ///< at each named place
    std::string trained = "heart 0.92";
    std::int64_t patients = 12;
    double seconds_a_step = 1;
    std::map<std::string, Error> errors;  ///< by tool: returned instead of work
    std::vector<std::string> lines;
    bool stop = false;

    World() {
        settings.enabled = true;
        settings.state = folder / "state";
        settings.least_free_mib = 0;
        settings.transport.address = "https://fed.example.org";
        settings.transport.poll_seconds = 1;
        settings.window = {"00:00", "00:00", 1, 10};
        settings.promotion.folder = folder / "models";
        std::ofstream(folder / "recipe.yaml") << "steps: 5\ndata:\n  studies: elsewhere\n  share: 0.1\nheads: []\n";
        ModelSettings model;
        model.id = "tavi";
        model.recipe = folder / "recipe.yaml";
        model.bundle = std::string(CARDIONODE_SOURCE_DIR) + "/tests/data/quick_bundle";
        settings.models.push_back(model);
        fs::create_directories(server() / "inbox");
        fs::create_directories(server() / "replies");
        fs::create_directories(settings.state);
        agree();
    }
    fs::path server() const { return folder / "server"; }
    double now() const { return static_cast<double>(clock.now().time_since_epoch().count()) / 1000; }
    void agree(bool yes = true) {
        Consent consent{yes, "tester", clock.now(), sha256_hex(what_would_leave(settings))};
        if (!write_consent(settings.state, consent)) throw std::runtime_error("consent");
    }
    void note(const std::string& line) const { std::ofstream(server() / "log", std::ios::app) << line << "\n"; }
    std::string log() const { return text_of(server() / "log"); }
    int count(const std::string& line) const {
        int found = 0;
        std::istringstream in(log());
        for (std::string one; std::getline(in, one);) found += one == line;
        return found;
    }
    /// A named place: a kill, or what a test does there.
    void place(const std::string& name) {
        at(name);
        if (name == kill_at) ::kill(::getpid(), SIGKILL);
    }
    void ask(Ask a) {
        if (a.created_at == 0) a.created_at = now();
        const nlohmann::json json = {{"id", a.id},
                                     {"type", a.type},
                                     {"model", a.model},
                                     {"signature", a.signature},
                                     {"arch", a.architecture},
                                     {"weights", a.weights},
                                     {"record", a.record},
                                     {"round", a.round},
                                     {"schema", a.schema},
                                     {"steps", a.steps},
                                     {"run", a.run},
                                     {"created_at", a.created_at},
                                     {"ttl", a.ttl},
                                     {"deadline", a.deadline},
                                     {"rate", a.learning_rate},
                                     {"method", a.method}};
        std::ofstream(server() / "inbox" / a.id) << json;
    }
    nlohmann::json reply(const std::string& id) const {
        return nlohmann::json::parse(text_of(server() / "replies" / id), nullptr, false);
    }
    /// Reason of an error reply; empty: none.
    std::string reason(const std::string& id) const {
        const auto json = reply(id);
        return json.is_object() ? json.value("failure", "") : "no reply";
    }
    std::vector<std::string> states(const std::string& id) const {
        std::vector<std::string> out;
        auto store = RoundStore::open(store_file(settings), RoundStore::Mode::ReadOnly);
        if (!store) return out;
        const auto rows = store->transitions(id);
        for (const TransitionRow& row : *rows) out.push_back(row.state);
        return out;
    }
    NightEnd night(const NightOptions& options = {});
    /// In a process of its own. @return its exit code, or -signal
    int night_in_a_child();
};

class FakeTransport final : public Transport {
public:
    explicit FakeTransport(World& world) : w_(world) {}
    Result<void> join() override {
        w_.note("join");
        return {};
    }
    Result<std::optional<Incoming>> poll() override {
        // What a former process got and did not finish comes first, once.
        std::error_code none;
        for (const auto& entry : fs::directory_iterator(messages_folder(w_.settings), none)) {
            const std::string id = entry.path().filename().string();
            if (!fs::exists(entry.path() / "finished") && handed_.insert(id).second) return incoming(id);
        }
        for (const auto& entry : fs::directory_iterator(w_.server() / "inbox")) {
            const std::string id = entry.path().filename().string();
            fs::create_directories(folder(id));
            fs::rename(entry.path(), folder(id) / "message");  // at most once
            handed_.insert(id);
            w_.place("poll>");
            return incoming(id);
        }
        return std::optional<Incoming>();
    }
    Result<Pulled> fetch(const Incoming& m) override {
        w_.place("fetch<");
        if (const auto e = w_.errors.find("fetch"); e != w_.errors.end()) return Error(e->second);
        const auto json = message(m.message_id);
        Pulled pulled;
        const fs::path file = m.folder / "weights.safetensors";
        if (!write_file_durably(file, json["weights"].get<std::string>())) return retry_error("disk");
        totals_.bytes_received += 100;
        pulled.arrays["arrays"] = {file, json["record"].get<std::string>()};
        pulled.configs["config"] = {
            {"fed-schema", json["schema"].get<std::int64_t>()},  {"model-id", json["model"].get<std::string>()},
            {"round", json["round"].get<std::int64_t>()},        {"arch-sha256", json["arch"].get<std::string>()},
            {"signature", json["signature"].get<std::string>()}, {"steps", json["steps"].get<std::int64_t>()},
            {"method", json["method"].get<std::string>()},       {"learning-rate", json["rate"].get<double>()},
            {"deadline", json["deadline"].get<double>()}};
        w_.place("fetch>");
        return pulled;
    }
    Result<std::string> prepare(const Incoming& m, const Reply& reply) override {
        w_.place("prepare<");
        nlohmann::json json = nlohmann::json::object();
        if (reply.failure) json["failure"] = reply.failure->reason, json["code"] = reply.failure->code;
        if (reply.weights) json["weights"] = text_of(*reply.weights);
        for (const auto& [key, value] : reply.metrics) json["metrics"][key] = *number_of(reply.metrics, key);
        if (!write_file_durably(m.folder / "reply", json.dump())) return retry_error("disk");
        w_.place("prepare>");
        return sha256_hex(json.dump());
    }
    Result<PushOutcome> push(const Incoming& m) override {
        w_.place("push<");
        if (const auto e = w_.errors.find("push"); e != w_.errors.end()) return Error(e->second);
        fs::copy_file(m.folder / "reply", w_.server() / "replies" / m.message_id, fs::copy_options::overwrite_existing);
        w_.note("push " + m.message_id);
        totals_.bytes_sent += 100;
        w_.place("push>");
        return PushOutcome::Stored;
    }
    Result<Receipt> receipt(const Incoming& m) override {
        w_.place("receipt<");
        std::ofstream(m.folder / "finished") << "";
        w_.place("receipt>");
        return Receipt::Taken;
    }
    Result<void> leave() override { return {}; }
    TransferTotals totals() const override { return totals_; }

private:
    fs::path folder(const std::string& id) const { return messages_folder(w_.settings) / id; }
    nlohmann::json message(const std::string& id) const {
        return nlohmann::json::parse(text_of(folder(id) / "message"));
    }
    std::optional<Incoming> incoming(const std::string& id) const {
        const auto json = message(id);
        return Incoming{id,
                        "g",
                        json["type"].get<std::string>(),
                        json["run"].get<std::uint64_t>(),
                        json["created_at"].get<double>(),
                        json["ttl"].get<double>(),
                        folder(id)};
    }
    World& w_;
    std::set<std::string> handed_;
    TransferTotals totals_;
};

/// "heart 0.90" as a validation.
inline Validation validation_of(const fs::path& weights) {
    std::istringstream in(text_of(weights));
    Validation v;
    v.studies = 6;
    for (std::string head, dice; in >> head >> dice;) v.dice[head] = std::stod(dice);
    return v;
}

inline RoundTools fake_tools(World& w) {
    RoundTools tools;
    const auto failing = [&w](const std::string& tool) -> std::optional<Error> {
        const auto e = w.errors.find(tool);
        return e == w.errors.end() ? std::nullopt : std::optional<Error>(e->second);
    };
    tools.architecture_hash = [](const fs::path&) -> Result<std::string> { return std::string("arch"); };
    tools.reference = [](const ModelSettings& m) -> Result<fs::path> { return m.recipe; };
    tools.verify = [&w](const std::string&, std::int64_t, const std::string&, const std::string& text) -> Result<void> {
        w.place("verify<");
        if (text != "good") return reject_error("the signature does not fit");
        return {};
    };
    tools.check_inbound = [failing](const fs::path&, const fs::path&, const fs::path&, std::int64_t version,
                                    const InboundHistory& history) -> Result<double> {
        if (auto e = failing("inbound")) return *e;
        if (history.round && version <= *history.round) return reject_error("an old round");
        return 1.0;
    };
    tools.validate = [&w, failing](const fs::path&, const fs::path& weights) -> Result<Validation> {
        w.place("validate<");
        if (auto e = failing("validate")) return *e;
        return validation_of(weights);
    };
    tools.train = [&w, failing](const LocalRound& round) -> Result<LocalResult> {
        w.place("train<");
        if (auto e = failing("train")) return *e;
        const fs::path checkpoint = round.work / "checkpoint";
        std::int64_t step = fs::exists(checkpoint) ? std::stoll(text_of(checkpoint)) : 0;
        while (step < round.plan.steps) {
            if (step == 5) w.place("train-");
            w.note("step " + std::to_string(step));
            w.clock.advance(Milliseconds(static_cast<std::int64_t>(w.seconds_a_step * 1000)));
            if (!write_file_durably(checkpoint, std::to_string(++step))) return retry_error("disk");
            if (round.stop && round.stop()) return retry_error("stopped");
            if (round.enough && round.enough()) break;
        }
        LocalResult result;
        result.trained = round.work / "trained.safetensors";
        if (!write_file_durably(result.trained, w.trained)) return retry_error("disk");
        result.labelled = {{"heart", 17}};
        result.unlabelled = 4, result.patients = w.patients, result.steps = step, result.loss = 0.5;
        result.before = validation_of(round.pulled), result.after = validation_of(result.trained);
        w.note("trained");
        w.place("train>");
        return result;
    };
    tools.filter = [&w, failing](const fs::path&, const fs::path& trained, const std::vector<std::string>&,
                                 std::int64_t patients, const fs::path& out) -> Result<FilteredUpdate> {
        w.place("filter<");
        if (auto e = failing("filter")) return *e;
        if (patients < w.settings.privacy.outbound.minimum_patients) return reject_error("too few patients");
        if (!write_file_durably(out, "filtered " + text_of(trained))) return retry_error("disk");
        w.place("filter>");
        FilteredUpdate update;
        update.report.norm_before["body"] = 12, update.report.norm_after["body"] = 10;
        return update;
    };
    tools.book = [&w, failing](const Booking& entry) -> Result<void> {
        w.place("book<");
        if (auto e = failing("book")) return *e;
        if (w.count("book " + entry.message_id) == 0) w.note("book " + entry.message_id);
        w.place("book>");
        return {};
    };
    tools.sent_count = [](std::int64_t n) { return (n + 4) / 5 * 5; };
    return tools;
}

inline NightEnd World::night(const NightOptions& options) {
    NightParts parts;
    parts.open_transport = [this]() -> Result<std::unique_ptr<Transport>> {
        return std::unique_ptr<Transport>(std::make_unique<FakeTransport>(*this));
    };
    parts.tools = fake_tools(*this);
    parts.clinic_busy = [this] { return clinic; };
    parts.stop = [this] { return stop; };
    parts.pause = [this](Milliseconds time) {
        clock.advance(std::max(time, Milliseconds(1)));
        if (clinic && --clinic_pauses <= 0) clinic = false;
    };
    parts.print = [this](const std::string& line) { lines.push_back(line); };
    return run_night(settings, parts, options, clock);
}

}  // namespace cardionode::test
