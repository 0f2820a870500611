#include "fedclient/simulate/simulation_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/base/settings.h"

namespace cardionode::fed {
namespace {

SimulatedNetwork read_network(Section section, const std::string& name, const std::filesystem::path& folder,
                              std::string& files) {
    SimulatedNetwork network;
    network.name = name;
    RoundSchedule& s = network.schedule;
    section.integer("rounds", s.rounds, 1, 10'000);
    section.integer("steps", s.steps, 1, 1'000'000);
    section.number("learning_rate", s.learning_rate, 1e-9, 10);
    section.number("last_share", s.last_share, 0, 1);
    section.required("recipe", "a recipe file");
    std::filesystem::path path;
    section.path("recipe", path);
    if (!path.empty()) {
        Result<train::Recipe> recipe = train::load_recipe(folder / path);
        if (!recipe) {
            section.problem("recipe", "a recipe that can be read: " + recipe.error().message);
        } else {
            network.recipe = *std::move(recipe);
            if (const Result<std::string> text = read_file(folder / path)) files += *text;
        }
    }
    section.no_other_keys();
    return network;
}

bool is_word(std::string_view name) {
    return !name.empty() && name.size() <= 40 &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}

HospitalOptions read_hospital(Section section, const std::vector<train::HeadRecipe>& heads) {
    HospitalOptions h;
    section.required("name", "a name");
    section.text("name", h.name, is_word, "a name of small letters, digits and _");
    section.required("profile", "a scanner profile of the phantoms");
    section.text("profile", h.profile);
    section.boolean("trains", h.trains);
    section.integer("unlabelled", h.unlabelled, 0, 10'000);
    section.integer("test", h.test, 0, 10'000);
    Section labelled = section.section("labelled");
    for (const train::HeadRecipe& head : heads) {
        int n = 0;
        labelled.integer(head.name, n, 0, 10'000);
        if (n > 0) h.labelled[head.name] = n;
    }
    labelled.no_other_keys();
    if (!h.trains && (!h.labelled.empty() || h.unlabelled > 0))
        section.problem("trains", "true, or no studies to train on");
    section.no_other_keys();
    return h;
}

SimulationConfig read(Section root, const std::filesystem::path& folder, std::string& files) {
    SimulationConfig c;
    PhantomHospitalsOptions& p = c.hospitals;
    std::vector<std::int64_t> study = {p.study[0], p.study[1], p.study[2]};
    root.integers("study", study);
    if (study.size() != 3 || std::any_of(study.begin(), study.end(), [](auto s) { return s < 8 || s > 512; })) {
        root.problem("study", "three whole numbers from 8 to 512");
    } else {
        for (std::size_t i = 0; i < 3; ++i) p.study[i] = static_cast<int>(study[i]);
    }
    root.number("root_jitter_mm", p.root_jitter_mm, 0, 100);
    root.number("test_jitter_mm", p.test_jitter_mm, 0, 100);
    root.number("missed_mm", p.missed_mm, 1, 1000);
    root.number("hit_mm", c.hit_mm, 0.1, 1000);
    root.number("labelled_share", p.labelled_share, 0, 1);
    root.number("proximal_mu", c.proximal_mu, 0, 100);
    Section jitter = root.section("jitter");
    jitter.number("gain", p.gain, 0, 0.9);
    jitter.number("offset", p.offset, 0, 10);
    jitter.number("noise", p.noise, 0, 10);
    jitter.no_other_keys();
    root.texts("few_label_heads", c.few_label_heads);
    const std::vector<std::string> known = c.arms;
    root.texts(
        "arms", c.arms, [&](std::string_view arm) { return std::find(known.begin(), known.end(), arm) != known.end(); },
        "local, fed, fedavg or kd");

    root.required("teacher", "recipe, rounds, steps, learning_rate");
    c.teacher = read_network(root.section("teacher"), "teacher", folder, files);
    for (const char* name : {"unet", "swin"}) {
        if (root.has(name)) c.networks.push_back(read_network(root.section(name), name, folder, files));
    }
    if (c.networks.empty()) root.problem("unet", "a network: unet, swin or both");

    root.required("hospitals", "a list of hospitals");
    std::set<std::string> names;
    bool trains = false, held_out = false;
    for (Section& section : root.sections("hospitals")) {
        p.hospitals.push_back(read_hospital(section, c.teacher.recipe.heads));
        const HospitalOptions& h = p.hospitals.back();
        if (!names.insert(h.name).second) section.problem("name", "a name that no other hospital has");
        trains |= h.trains && !h.labelled.empty();
        held_out |= !h.trains && h.test > 0;
    }
    if (!trains) root.problem("hospitals", "one that trains and has labels");
    if (!held_out) root.problem("hospitals", "one that does not train and has test studies");
    root.no_other_keys();
    return c;
}

}  // namespace

double RoundSchedule::rate_of(std::int64_t round) const {
    if (rounds < 2) return learning_rate;
    const double t = static_cast<double>(round - 1) / static_cast<double>(rounds - 1);
    return learning_rate * (last_share + (1 - last_share) * 0.5 * (1 + std::cos(std::numbers::pi * t)));
}

Result<SimulationConfig> load_simulation(const std::filesystem::path& path) {
    const Result<std::string> text = read_file(path);
    if (!text) return text.error();
    Problems problems;
    const SettingsFile file = SettingsFile::load(path, problems);
    std::string files = *text;
    SimulationConfig config = read(file.root(), path.parent_path(), files);
    if (const Result<void> fine = problems.result(); !fine) return fine.error();
    config.fingerprint = sha256_hex(files);
    return config;
}

}  // namespace cardionode::fed
