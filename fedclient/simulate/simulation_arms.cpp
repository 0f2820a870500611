#include "fedclient/simulate/simulation_arms.h"

#include <algorithm>
#include <chrono>

#include "conf/base/files.h"
#include "models/train/random.h"

namespace cardionode::fed {

using nlohmann::json;
namespace fs = std::filesystem;

std::vector<std::string> Bench::heads() const {
    std::vector<std::string> names;
    for (const auto& h : config.teacher.recipe.heads) names.push_back(h.name);
    return names;
}

std::vector<std::size_t> Bench::training(bool labelled, const std::string& head) const {
    std::vector<std::size_t> those;
    for (std::size_t k = 0; k < sites().size(); ++k) {
        const HospitalOptions& h = sites()[k];
        if (!h.trains || (labelled && h.labelled.empty())) continue;
        if (!head.empty() && !h.labelled.count(head)) continue;
        if (hospitals.studies(k) > 0) those.push_back(k);
    }
    return those;
}

std::vector<std::string> Bench::own_heads(std::size_t site) const {
    std::vector<std::string> those;
    for (const auto& [head, n] : sites()[site].labelled) those.push_back(head);
    return those;
}

std::uint64_t Bench::stream(std::uint64_t which) const {
    return train::mix_bits(train::mix_bits(static_cast<std::uint64_t>(seed)) + which) >> 4;
}

Result<fs::path> Bench::start(const std::string& name, const train::Recipe& recipe, std::uint64_t which) const {
    const fs::path file = folder / ("start-" + name + ".safetensors");
    std::error_code no_matter;
    if (!fs::exists(file, no_matter)) {
        if (Result<void> made = PhantomHospitals::fresh_weights(recipe, stream(which), file); !made)
            return made.error();
    }
    return file;
}

Federation Bench::federation(const SimulatedNetwork& network, const std::string& arm) const {
    Federation f;
    f.recipe = network.recipe;
    f.schedule = network.schedule;
    f.rules.max_norm_ratio = 0;  // every hospital here is honest: nothing may be dropped
    f.rules.min_cosine = -1;
    f.proximal_mu = config.proximal_mu;
    f.seed = stream(7);
    f.folder = folder / arm;
    f.stop = run.stop;
    f.print = run.print;
    return f;
}

namespace {

using Score = PhantomHospitals::Score;
using Asked = PhantomHospitals::Asked;

/// Scores by head, "other" and "train".
struct Scores {
    Score other, train;
};

/// @param asked  the networks that answer for the heads
Result<Scores> score_shared(const Bench& bench,
                            const std::function<std::vector<Asked>(const std::vector<std::string>&)>& asked) {
    Scores scores;
    for (std::size_t k = 0; k < bench.sites().size(); ++k) {
        const HospitalOptions& h = bench.sites()[k];
        const std::vector<std::string> heads = h.trains ? bench.own_heads(k) : bench.heads();
        if (h.test == 0 || heads.empty()) continue;
        Result<Score> score = bench.hospitals.score(asked(heads), k);
        if (!score) return std::move(score).error();
        (h.trains ? scores.train : scores.other).add(*score);
    }
    return scores;
}

void put(json& j, const std::string& scope, const std::string& head, bool point, double value) {
    j[scope + "_" + head + (point ? "_mm" : "_dice")] = value;
}

/// Values of a score under flat names, and every case for the quartiles.
json to_json(const Scores& scores, double hit_mm) {
    json j;
    for (const auto& [scope, score] :
         {std::pair<std::string, const Score&>{"other", scores.other}, {"train", scores.train}}) {
        for (const auto& [head, errors] : score.error_mm) {
            put(j, scope, head, true, score.mean_mm(head));
            j["cases"][scope][head] = errors;
            const auto hits = std::count_if(errors.begin(), errors.end(), [&](double mm) { return mm <= hit_mm; });
            j[scope + "_" + head + "_hit"] =
                static_cast<double>(hits) / static_cast<double>(std::max<std::size_t>(1, errors.size()));
            j[scope + "_" + head + "_found"] = static_cast<double>(score.found.at(head)) /
                                               static_cast<double>(std::max<std::int64_t>(1, score.present.at(head)));
        }
        for (const auto& [head, voxels] : score.overlap) {
            put(j, scope, head, false, score.pooled_dice(head));
            const auto cases = score.dice.find(head);
            j["cases"][scope][head] = cases == score.dice.end() ? std::vector<double>{} : cases->second;
        }
    }
    return j;
}

json to_json(const FederationAccount& a) {
    return {{"rounds", a.rounds},           {"steps", a.steps},
            {"bytes_down", a.bytes_down},   {"bytes_up", a.bytes_up},
            {"cpu_seconds", a.cpu_seconds}, {"slowest_seconds", a.slowest_seconds}};
}

/// Means over heads, each with the same weight: of the point heads their errors and their hits; of the heads with few
/// labels the share of hits or the Dice ("few"), for both run from 0 to 1.
void add_means(json& j, const SimulationConfig& config) {
    for (const std::string scope : {"other_", "train_"}) {
        const auto mean = [&](const std::string& name, const std::vector<std::string>& heads,
                              const std::vector<const char*>& suffixes) {
            double sum = 0;
            int n = 0;
            for (const std::string& head : heads) {
                for (const char* suffix : suffixes) {
                    if (j.contains(scope + head + suffix)) sum += j[scope + head + suffix].get<double>(), ++n;
                }
            }
            if (n > 0) j[scope + name] = sum / n;
        };
        std::vector<std::string> heads;
        for (const train::HeadRecipe& head : config.teacher.recipe.heads) heads.push_back(head.name);
        mean("points_mm", heads, {"_mm"});
        mean("points_hit", heads, {"_hit"});
        mean("few", config.few_label_heads, {"_hit", "_dice"});
    }
}

/// An arm that is done is read; else it is made and kept.
Result<json> arm(const Bench& bench, const std::string& name, const std::function<Result<json>()>& make) {
    const fs::path done = bench.folder / name / "score.json";
    if (const Result<std::string> text = read_file(done); text.ok()) {
        json kept = json::parse(*text, nullptr, false);
        if (!kept.is_discarded()) return kept;
    }
    bench.print("seed " + std::to_string(bench.seed) + ": " + name);
    const auto begun = std::chrono::steady_clock::now();
    Result<json> made = make();
    if (!made) return std::move(made).error().in(name + " of seed " + std::to_string(bench.seed));
    json j = *std::move(made);
    add_means(j, bench.config);
    j["wall_seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    if (Result<void> folder = make_folder(done.parent_path()); !folder) return folder.error();
    if (Result<void> written = write_file_durably(done, j.dump(1)); !written) return written.error();
    json shown = j;
    shown.erase("cases");
    bench.print("    " + shown.dump());
    return j;
}

/// Every hospital that has labels, alone; per head the mean over those that have its label.
Result<json> local_arm(const Bench& bench, const SimulatedNetwork& network, const fs::path& start) {
    Scores all;
    FederationAccount account;
    std::map<std::string, std::vector<double>> each;  // flat name -> one value a hospital
    for (const std::size_t site : bench.training(true)) {
        Federation f = bench.federation(network, network.name + "-local/" + bench.sites()[site].name);
        f.hospitals = {site};
        f.start = start;
        f.first_round = bench.folder / (network.name + "-first-round");
        f.print = {};
        Result<Federated> federated = federate(bench.hospitals, f);
        if (!federated) return std::move(federated).error();
        account.add(federated->account);
        const std::vector<Asked> asked = {{network.recipe, federated->weights, bench.own_heads(site)}};
        Scores own;
        for (std::size_t k = 0; k < bench.sites().size(); ++k) {
            const HospitalOptions& h = bench.sites()[k];
            if (h.test == 0 || (h.trains && k != site)) continue;
            Result<Score> score = bench.hospitals.score(asked, k);
            if (!score) return std::move(score).error();
            (h.trains ? own.train : own.other).add(*score);
        }
        const json measured = to_json(own, bench.config.hit_mm);
        for (const auto& [key, value] : measured.items()) {
            if (value.is_number()) each[key].push_back(value.get<double>());
        }
        all.other.add(own.other);
        all.train.add(own.train);
    }
    json j = to_json(all, bench.config.hit_mm);
    for (const auto& [key, values] : each) {
        double sum = 0;
        for (const double v : values) sum += v;
        j[key] = sum / static_cast<double>(values.size());
    }
    j["account"] = to_json(account);
    return j;
}

/// One global model for all.
Result<json> shared_arm(const Bench& bench, const SimulatedNetwork& network, const Federation& f,
                        std::int64_t bytes_of_teachers) {
    Result<Federated> federated = federate(bench.hospitals, f);
    if (!federated) return std::move(federated).error();
    Result<Scores> scores = score_shared(bench, [&](const std::vector<std::string>& heads) {
        return std::vector<Asked>{{network.recipe, federated->weights, heads}};
    });
    if (!scores) return std::move(scores).error();
    json j = to_json(*scores, bench.config.hit_mm);
    federated->account.bytes_down += bytes_of_teachers;
    j["account"] = to_json(federated->account);
    return j;
}

using TeacherFiles = std::map<std::string, fs::path>;

train::Recipe of_head(const train::Recipe& recipe, const std::string& head) {
    train::Recipe one = recipe;
    std::erase_if(one.heads, [&](const train::HeadRecipe& h) { return h.name != head; });
    return one;
}

/// One network a label type, federated over the hospitals that have it. Sets `files`.
Result<json> teachers_arm(const Bench& bench, TeacherFiles& files) {
    FederationAccount account;
    std::uint64_t which = 20;
    for (const std::string& head : bench.heads()) {
        SimulatedNetwork network = bench.config.teacher;
        network.recipe = of_head(network.recipe, head);
        Result<fs::path> start = bench.start("teacher-" + head, network.recipe, which++);
        if (!start) return std::move(start).error();
        Federation f = bench.federation(network, "unet-teachers/" + head);
        f.hospitals = bench.training(true, head);
        if (f.hospitals.empty()) return config_error("no hospital has labels of head " + head);
        f.start = *start;
        f.rules.quorum = static_cast<int>(std::min<std::size_t>(2, f.hospitals.size()));
        Result<Federated> federated = federate(bench.hospitals, f);
        if (!federated) return std::move(federated).error().in("teacher of " + head);
        account.add(federated->account);
        files[head] = federated->weights;
    }
    Result<Scores> scores = score_shared(bench, [&](const std::vector<std::string>& heads) {
        std::vector<Asked> asked;
        for (const std::string& head : heads)
            asked.push_back({of_head(bench.config.teacher.recipe, head), files.at(head), {head}});
        return asked;
    });
    if (!scores) return std::move(scores).error();
    json j = to_json(*scores, bench.config.hit_mm);
    j["account"] = to_json(account);
    for (const auto& [head, file] : files) j["weights"][head] = file.filename().string();
    return j;
}

}  // namespace

Result<json> run_arms(const Bench& bench) {
    json arms, labelled_by_teachers = json::object();
    TeacherFiles files;
    Result<json> taught = arm(bench, "unet-teachers", [&] { return teachers_arm(bench, files); });
    if (!taught) return taught;
    arms["unet-teachers"] = *taught;
    std::int64_t teacher_bytes = 0;
    for (const std::string& head : bench.heads()) {  // as they lie on disk, also after a restart
        files[head] = bench.folder / "unet-teachers" / head / taught->at("weights").at(head).get<std::string>();
        std::error_code trouble;
        teacher_bytes += static_cast<std::int64_t>(fs::file_size(files[head], trouble));
        if (trouble) return config_error(files[head].string() + ": " + trouble.message());
    }
    Result<std::map<std::string, std::int64_t>> labelled =
        bench.hospitals.ask_teachers(bench.config.teacher.recipe, files, bench.folder / "answers");
    if (!labelled) return std::move(labelled).error().in("asking the teachers");
    for (const auto& [head, n] : *labelled) labelled_by_teachers[head] = n;
    bench.print("    labelled by teachers: " + labelled_by_teachers.dump());

    for (const SimulatedNetwork& network : bench.config.networks) {
        Result<fs::path> start = bench.start(network.name, network.recipe, network.name == "unet" ? 1 : 2);
        if (!start) return std::move(start).error();
        for (const std::string& kind : bench.config.arms) {
            const std::string name = network.name + "-" + kind;
            if (kind == "local") {
                Result<json> local = arm(bench, name, [&] { return local_arm(bench, network, *start); });
                if (!local) return local;
                arms[name] = *local;
                continue;
            }
            Federation f = bench.federation(network, name);
            f.with_teachers = kind == "kd";
            f.hospitals = bench.training(!f.with_teachers);
            f.rules.quorum = static_cast<int>(std::min<std::size_t>(2, f.hospitals.size()));
            f.rules.per_head = kind != "fedavg";
            f.start = *start;
            if (!f.with_teachers) f.first_round = bench.folder / (network.name + "-first-round");
            const std::int64_t broadcast =
                f.with_teachers ? teacher_bytes * static_cast<std::int64_t>(f.hospitals.size()) : 0;
            Result<json> done = arm(bench, name, [&] { return shared_arm(bench, network, f, broadcast); });
            if (!done) return done;
            arms[name] = *done;
        }
    }
    // An answer that never looks at the image: what every error has to be compared with.
    Scores blind;
    for (std::size_t k = 0; k < bench.sites().size(); ++k) {
        const HospitalOptions& h = bench.sites()[k];
        if (h.test > 0) (h.trains ? blind.train : blind.other).add(bench.hospitals.score_of_mean_place(k));
    }
    json j = to_json(blind, bench.config.hit_mm);
    add_means(j, bench.config);
    return json{{"seed", bench.seed}, {"arms", arms}, {"blind", j}, {"labelled_by_teachers", labelled_by_teachers}};
}

}  // namespace cardionode::fed
