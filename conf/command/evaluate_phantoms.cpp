#include "conf/command/evaluate_phantoms.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include <fmt/format.h>

#include "conf/command/evaluate_folder.h"
#include "conf/command/evaluate_model.h"
#include "models/bundle.h"
#include "models/train/phantom.h"
#include "models/train/random.h"
#include "pipeline/evaluate/phantom_truth.h"
#include "pipeline/evaluate/pictures.h"
#include "pipeline/evaluate/summary.h"
#include "pipeline/evaluate/tables.h"
#include "pipeline/outputs/png_file.h"

namespace cardionode {
namespace {

/// Stream of the evaluation's seeds: training takes them from mix(recipe.seed), the trainer's own validation from
/// another constant.
constexpr std::uint64_t kEvaluation = 0x6576616c75617465ULL;

std::uint64_t seed_of(std::uint64_t number) { return train::mix_bits(train::mix_bits(kEvaluation) + number); }

std::string name_of(std::uint64_t number) { return fmt::format("phantom-{:06}", number); }

/// The scan of a case: the heart is not always in its middle.
train::PhantomGrid grid_of(std::uint64_t number, const EvaluatePhantomsOptions& options) {
    train::Random random(seed_of(number), 7);
    const train::Vec centre{15 + random.uniform(-8, 8), 2 + random.uniform(-8, 8), -8 + random.uniform(-8, 8)};
    const auto voxels = [&](double mm) { return static_cast<int>(std::lround(mm / options.spacing_mm)); };
    return train::PhantomGrid::around(
        centre, {voxels(options.size_mm[2]), voxels(options.size_mm[1]), voxels(options.size_mm[0])},
        static_cast<float>(options.spacing_mm));
}

train::Phantom draw_case(std::uint64_t number, const EvaluatePhantomsOptions& options,
                         const train::PhantomAtlas& atlas) {
    train::PhantomOptions drawn;
    drawn.edition = options.edition;
    drawn.profiles = options.profiles == "held_out" ? train::ProfileSet::HeldOut
                     : options.profiles == "all"    ? train::ProfileSet::All
                                                    : train::ProfileSet::Training;
    drawn.non_contrast = static_cast<float>(options.non_contrast);
    return train::draw_phantom(atlas, seed_of(number), grid_of(number, options), drawn);
}

Result<CaseScore> run_case(std::uint64_t number, const EvaluatePhantomsOptions& options,
                           const train::PhantomAtlas& atlas, const BundleManifest& manifest, EvaluatedModel& model) {
    std::map<std::string, double> seconds;
    StageClock clock(seconds);
    const train::Phantom phantom = draw_case(number, options, atlas);
    auto ct = ct_of(phantom);
    if (!ct) return std::move(ct).error();
    clock.stage("draw");
    auto found = model.run(*ct);
    if (!found) return std::move(found).error();
    clock.stage("node");
    const auto truth = truth_of(phantom, *ct, manifest);
    if (!truth) return truth.error();
    clock.stage("truth");
    auto score = score_case(found->findings, *truth, structures_of(*truth));
    if (!score) return score;
    clock.stage("score");
    score->name = name_of(number);
    score->profile = phantom.profile.empty() ? "-" : phantom.profile;
    score->contrast = phantom.contrast;
    seconds.erase("node");  // told stage by stage
    seconds.merge(found->seconds);
    score->seconds = std::move(seconds);
    return score;
}

nlohmann::json what_is_asked(const EvaluatePhantomsOptions& options, const Bundle& bundle) {
    return {{"kind", "phantoms"},
            {"bundle", bundle.manifest.name + " " + bundle.manifest.version},
            {"weights_sha256", weights_identity(bundle.manifest)},
            {"edition", options.edition},
            {"profiles", options.edition == 1 ? "none" : options.profiles},
            {"non_contrast", options.non_contrast},
            {"test_time_shifts", options.test_time_shifts},
            {"first_seed", options.first_seed},
            {"size_mm", options.size_mm},
            {"spacing_mm", options.spacing_mm}};
}

/// One thread: a predictor of its own, cases by a common counter.
class Worker {
public:
    Worker(const EvaluatePhantomsOptions& options, const train::PhantomAtlas& atlas, const Bundle& bundle,
           EvaluationFolder& folder, std::vector<std::uint64_t> numbers)
        : options_(options), atlas_(atlas), bundle_(bundle), folder_(folder), numbers_(std::move(numbers)) {}

    void run() {
        auto model = EvaluatedModel::load(bundle_, options_.device, 1, options_.test_time_shifts);
        if (!model) return give_up(std::move(model).error());
        for (std::size_t n; (n = next_++) < numbers_.size() && !stopped_;) {
            if (options_.stop && options_.stop()) return give_up(retry_error("stopped"));
            const auto start = std::chrono::steady_clock::now();
            auto score = run_case(numbers_[n], options_, atlas_, bundle_.manifest, *model);
            if (!score) return give_up(std::move(score).error().in(name_of(numbers_[n])));
            const CaseScore done = *score;
            if (auto added = folder_.add(std::move(*score)); !added) return give_up(std::move(added).error());
            report(done, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
    }
    std::optional<Error> error() const { return error_; }

private:
    void give_up(Error error) {
        const std::scoped_lock lock(mutex_);
        if (!error_) error_ = std::move(error);
        stopped_ = true;
    }
    void report(const CaseScore& score, double seconds) {
        const std::scoped_lock lock(mutex_);
        ++done_;
        if (!options_.print) return;
        const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
        const double left = passed / done_ * static_cast<double>(numbers_.size() - static_cast<std::size_t>(done_));
        const auto largest = score.largest_error_mm();
        options_.print(fmt::format(
            "{:>4} of {}  {}  {}  {:.1f} s  {} min left", done_, numbers_.size(), score.name,
            !score.contrast ? (score.gives_root() ? "unenhanced, a root was given" : "unenhanced, no root was given")
            : !largest      ? std::string("no point there")
            : std::isinf(*largest) ? std::string("a point was missed")
                                   : fmt::format("largest error {:.1f} mm", *largest),
            seconds, static_cast<int>(std::ceil(left / 60))));
    }

    const EvaluatePhantomsOptions& options_;
    const train::PhantomAtlas& atlas_;
    const Bundle& bundle_;
    EvaluationFolder& folder_;
    const std::vector<std::uint64_t> numbers_;
    std::atomic<std::size_t> next_ = 0;
    std::atomic<bool> stopped_ = false;
    std::mutex mutex_;
    std::optional<Error> error_;
    int done_ = 0;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Result<void> write_worst(const EvaluatePhantomsOptions& options, const train::PhantomAtlas& atlas,
                         const EvaluationFolder& folder) {
    int n = 0;
    for (const std::string& name : worst_first(folder.cases())) {
        if (n == options.worst) break;
        for (const CaseScore& score : folder.cases()) {
            if (score.name != name) continue;
            const std::uint64_t number = std::stoull(name.substr(name.find('-') + 1));
            const auto ct = ct_of(draw_case(number, options, atlas));
            if (!ct) return ct.error();
            const auto file = folder.path() / fmt::format("worst_{}.png", ++n);
            if (auto r = write_png(worst_case_picture(*ct, score, "A phantom, no patient."), file); !r) return r;
        }
    }
    return {};
}

}  // namespace

Result<void> evaluate_phantoms(const EvaluatePhantomsOptions& options) {
    const auto bundle = load_bundle(options.bundle);
    if (!bundle) return bundle.error();
    auto folder = EvaluationFolder::open(options.out, what_is_asked(options, *bundle));
    if (!folder) return std::move(folder).error();
    EvaluationFolder& results = **folder;
    const auto atlas = train::PhantomAtlas::load(options.shapes);
    if (!atlas) return atlas.error();

    std::vector<std::uint64_t> numbers;
    for (int n = 0; n < options.count; ++n) {
        const std::uint64_t number = options.first_seed + static_cast<std::uint64_t>(n);
        if (!results.has(name_of(number))) numbers.push_back(number);
    }
    if (!results.cases().empty() && options.print) {
        options.print(fmt::format("{} cases stand in the folder, {} are left", results.cases().size(), numbers.size()));
    }
    if (!numbers.empty()) {
        Worker worker(options, *atlas, *bundle, results, numbers);
        {
            std::vector<std::jthread> threads;
            for (int job = 1; job < options.jobs; ++job) threads.emplace_back([&] { worker.run(); });
            worker.run();
        }
        if (auto error = worker.error()) {
            return std::move(*error).in(
                fmt::format("after {} cases (the same command goes on)", results.cases().size()));
        }
    }
    const std::string title =
        fmt::format("{} {} on {} phantoms, {} mm voxels (phantoms, no patients)", bundle->manifest.name,
                    bundle->manifest.version, results.cases().size(), options.spacing_mm);
    if (auto r = results.write_summary(title); !r) return r;
    if (auto r = write_worst(options, *atlas, results); !r) return r;
    if (options.print) options.print(short_text(summarise(results.cases()).all) + "written to " + options.out.string());
    return {};
}

}  // namespace cardionode
