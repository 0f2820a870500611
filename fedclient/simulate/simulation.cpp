#include "fedclient/simulate/simulation.h"

#include <algorithm>

#include "conf/base/files.h"
#include "fedclient/methods/cpu_threads.h"
#include "fedclient/simulate/simulation_arms.h"
#include "fedclient/simulate/simulation_config.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// All seeds of the folder that are done, by number.
json gather(const fs::path& out) {
    std::map<std::int64_t, json> done;
    std::error_code trouble;
    for (const auto& entry : fs::directory_iterator(out, trouble)) {
        const Result<std::string> text = read_file(entry.path() / "seed.json");
        if (!text) continue;
        json seed = json::parse(*text, nullptr, false);
        if (!seed.is_object()) continue;
        const std::int64_t number = seed.value("seed", std::int64_t{0});  // first: the assignment empties `seed`
        done[number] = std::move(seed);
    }
    json seeds = json::array();
    for (auto& [number, seed] : done) seeds.push_back(std::move(seed));
    return seeds;
}

Result<void> mark(const SimulationRun& run, const SimulationConfig& config) {
    if (Result<void> made = make_folder(run.out); !made) return made;
    const fs::path file = run.out / "simulation.txt";
    if (const Result<std::string> before = read_file(file); before.ok()) {
        if (*before != config.fingerprint + "\n")
            return config_error(run.out.string() + " holds a simulation of another configuration");
        return {};
    }
    return write_file_durably(file, config.fingerprint + "\n");
}

json about(const SimulationConfig& config) {
    json hospitals = json::array();
    for (const HospitalOptions& h : config.hospitals.hospitals)
        hospitals.push_back({{"name", h.name},
                             {"profile", h.profile},
                             {"labelled", h.labelled},
                             {"unlabelled", h.unlabelled},
                             {"test", h.test},
                             {"trains", h.trains}});
    json schedules;
    const auto add = [&](const SimulatedNetwork& n) {
        schedules[n.name] = {
            {"rounds", n.schedule.rounds}, {"steps", n.schedule.steps}, {"learning_rate", n.schedule.learning_rate}};
    };
    add(config.teacher);
    for (const SimulatedNetwork& n : config.networks) add(n);
    json heads = json::array();
    for (const auto& h : config.teacher.recipe.heads)
        heads.push_back({{"name", h.name}, {"points", h.name == "hps" || h.name == "ms"}});
    return {{"fingerprint", config.fingerprint},
            {"missed_mm", config.hospitals.missed_mm},
            {"hit_mm", config.hit_mm},
            {"hospitals", hospitals},
            {"heads", heads},
            {"schedules", schedules}};
}

}  // namespace

std::vector<std::string> simulated_arms(const json& results) {
    std::vector<std::string> arms;
    if (results["seeds"].empty()) return arms;
    for (const char* arm : {"unet-teachers", "unet-local", "unet-fed", "unet-fedavg", "unet-kd", "swin-local",
                            "swin-fed", "swin-fedavg", "swin-kd"}) {
        if (results["seeds"][0]["arms"].contains(arm)) arms.push_back(arm);
    }
    return arms;
}

Result<json> simulate(const SimulationRun& run) {
    Result<SimulationConfig> config = load_simulation(run.config);
    if (!config) return std::move(config).error();
    if (Result<void> marked = mark(run, *config); !marked) return marked.error();
    if (Result<void> set = set_threads(run.threads); !set) return set.error();
    for (int i = 0; i < run.seeds; ++i) {
        const std::int64_t seed = run.first_seed + i;
        const fs::path folder = run.out / ("seed-" + std::to_string(seed)), done = folder / "seed.json";
        std::error_code no_matter;
        if (fs::exists(done, no_matter)) continue;
        if (Result<void> made = make_folder(folder); !made) return made.error();
        if (run.print) run.print("seed " + std::to_string(seed) + ": drawing the hospitals");
        Result<PhantomHospitals> hospitals = PhantomHospitals::draw(config->hospitals, config->teacher.recipe,
                                                                    run.shapes, static_cast<std::uint64_t>(seed));
        if (!hospitals) return std::move(hospitals).error();
        Result<json> arms = run_arms({run, *config, *hospitals, seed, folder});
        if (!arms) return arms;
        if (Result<void> written = write_file_durably(done, arms->dump(1)); !written) return written.error();
        for (const SimulatedNetwork& n : config->networks)
            fs::remove_all(folder / (n.name + "-first-round"), no_matter);
    }
    json results = about(*config);
    results["seeds"] = gather(run.out);
    results["tests"] = simulation_tests(results["seeds"], config->few_label_heads);
    if (Result<void> written = write_file_durably(run.out / "results.json", results.dump(1)); !written)
        return written.error();
    if (Result<void> written = write_file_durably(run.out / "results.md", simulation_markdown(results)); !written)
        return written.error();
    return results;
}

}  // namespace cardionode::fed
