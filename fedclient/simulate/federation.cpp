#include "fedclient/simulate/federation.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "models/train/random.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

fs::path weights_of(const fs::path& folder, std::int64_t round) {
    return folder / ("global-" + std::to_string(round) + ".safetensors");
}

std::string site_name(std::size_t hospital) {  // two digits: the sums run in the order of the names
    return (hospital < 10 ? "0" : "") + std::to_string(hospital);
}

std::int64_t size_of(const fs::path& file) {
    std::error_code trouble;
    const auto bytes = fs::file_size(file, trouble);
    return trouble ? 0 : static_cast<std::int64_t>(bytes);
}

json to_json(const FederationAccount& a) {
    return {{"rounds", a.rounds},           {"steps", a.steps},
            {"bytes_down", a.bytes_down},   {"bytes_up", a.bytes_up},
            {"cpu_seconds", a.cpu_seconds}, {"slowest_seconds", a.slowest_seconds}};
}

FederationAccount account_from(const json& j) {
    FederationAccount a;
    a.rounds = j.value("rounds", std::int64_t{0});
    a.steps = j.value("steps", std::int64_t{0});
    a.bytes_down = j.value("bytes_down", std::int64_t{0});
    a.bytes_up = j.value("bytes_up", std::int64_t{0});
    a.cpu_seconds = j.value("cpu_seconds", 0.0);
    a.slowest_seconds = j.value("slowest_seconds", 0.0);
    return a;
}

/// What it took to make a complete file of weights, if it is there.
std::optional<PhantomHospitals::Trained> made_before(const fs::path& file) {
    std::error_code no_matter;
    if (!fs::exists(file, no_matter)) return std::nullopt;
    const Result<TensorFile> opened = TensorFile::open(file);
    if (!opened) return std::nullopt;
    const auto seconds = opened->metadata().find("cpu_seconds"), loss = opened->metadata().find("loss");
    if (seconds == opened->metadata().end() || loss == opened->metadata().end()) return std::nullopt;
    return PhantomHospitals::Trained{std::strtod(loss->second.c_str(), nullptr),
                                     std::strtod(seconds->second.c_str(), nullptr)};
}

/// One hospital's part of a round. Sets `trained`.
Result<PhantomHospitals::Trained> local_part(const PhantomHospitals& hospitals, const Federation& f,
                                             std::size_t hospital, std::int64_t round, const fs::path& pulled,
                                             fs::path& trained) {
    const bool shared = round == 1 && !f.first_round.empty();
    const fs::path folder = shared ? f.first_round : f.folder;
    trained = folder / ("site-" + site_name(hospital) + ".safetensors");
    if (shared) {
        if (const auto before = made_before(trained)) return *before;
        if (Result<void> made = make_folder(folder); !made) return made.error();
    }
    using train::mix_bits;
    PhantomHospitals::Training training;
    training.recipe = f.recipe;
    training.hospital = hospital;
    training.with_teachers = f.with_teachers;
    training.pulled = pulled;
    training.trained = trained;
    training.steps = f.schedule.steps;
    training.learning_rate = f.schedule.rate_of(round);
    training.proximal_mu = f.proximal_mu;
    training.seed = mix_bits(mix_bits(mix_bits(f.seed) + hospital) + static_cast<std::uint64_t>(round)) >> 4;
    training.stop = f.stop;
    Result<PhantomHospitals::Trained> done = hospitals.learn(training);
    if (!done) return std::move(done).error().in("round " + std::to_string(round));
    return done;
}

}  // namespace

void FederationAccount::add(const FederationAccount& other) {
    rounds += other.rounds;
    steps += other.steps;
    bytes_down += other.bytes_down;
    bytes_up += other.bytes_up;
    cpu_seconds += other.cpu_seconds;
    slowest_seconds += other.slowest_seconds;
}

Result<Federated> federate(const PhantomHospitals& hospitals, const Federation& f) {
    if (Result<void> made = make_folder(f.folder); !made) return made.error();
    const fs::path progress = f.folder / "progress.json";
    FederationAccount account;
    if (const Result<std::string> text = read_file(progress); text.ok()) {
        const json kept = json::parse(*text, nullptr, false);
        if (kept.is_object()) account = account_from(kept);
    }
    const bool alone = f.hospitals.size() == 1;
    std::error_code no_matter;
    while (account.rounds < f.schedule.rounds) {
        const std::int64_t round = account.rounds + 1;
        const fs::path pulled = round == 1 ? f.start : weights_of(f.folder, round - 1);
        const fs::path next = weights_of(f.folder, round);
        std::vector<SiteUpdate> updates;
        double slowest = 0, loss = 0;
        for (const std::size_t hospital : f.hospitals) {
            SiteUpdate update;
            update.site = site_name(hospital);
            const Result<PhantomHospitals::Trained> done =
                local_part(hospitals, f, hospital, round, pulled, update.weights);
            if (!done) return done.error();
            for (const auto& [head, n] : hospitals.labelled(hospital, f.with_teachers)) {
                const bool has = std::any_of(f.recipe.heads.begin(), f.recipe.heads.end(),
                                             [&, name = head](const auto& h) { return h.name == name; });
                if (has) update.labelled[head] = static_cast<double>(n);
            }
            account.cpu_seconds += done->cpu_seconds;
            loss += done->loss / static_cast<double>(f.hospitals.size());
            account.steps += f.schedule.steps;
            slowest = std::max(slowest, done->cpu_seconds);
            if (!alone) {
                account.bytes_down += size_of(pulled);
                account.bytes_up += size_of(update.weights);
            }
            updates.push_back(std::move(update));
        }
        if (alone) {
            std::error_code trouble;  // the shared first round stays for the others
            fs::copy_file(updates.front().weights, next, fs::copy_options::overwrite_existing, trouble);
            if (trouble) return retry_error("copying to " + next.string() + ": " + trouble.message());
        } else {
            Result<AggregationReport> report = aggregate(pulled, updates, f.rules, next);
            if (!report) return std::move(report).error().in("round " + std::to_string(round));
            for (const DroppedUpdate& dropped : report->dropped)
                return bug_error("round " + std::to_string(round) +
                                 ": an honest update was dropped: " + dropped.reason);
        }
        account.slowest_seconds += slowest;
        account.rounds = round;
        if (Result<void> written = write_file_durably(progress, to_json(account).dump()); !written)
            return written.error();
        if (round > 1) fs::remove(pulled, no_matter);
        if (f.print)
            f.print("    round " + std::to_string(round) + " of " + std::to_string(f.schedule.rounds) + ", loss " +
                    std::to_string(loss));
    }
    for (const std::size_t hospital : f.hospitals)
        fs::remove(f.folder / ("site-" + site_name(hospital) + ".safetensors"), no_matter);
    return Federated{weights_of(f.folder, account.rounds), account};
}

}  // namespace cardionode::fed
