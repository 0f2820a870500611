#include "models/train/comparison.h"

#include <algorithm>
#include <ctime>

#include "conf/base/files.h"
#include "models/device.h"
#include "models/train/comparison_config.h"
#include "models/train/comparison_data.h"
#include "models/train/statistics.h"
#include "models/train/teacher.h"

namespace cardionode::train {
namespace {

using nlohmann::json;
using AtlasPtr = std::shared_ptr<const PhantomAtlas>;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// What is common to all arms of a run.
struct Bench {
    ComparisonRun run;
    ComparisonConfig config;
    AtlasPtr atlas;
    std::vector<TestCase> test;  ///< drawn when the first arm needs it

    void print(const std::string& line) const {
        if (run.print) run.print(line);
    }
    const std::array<double, 3> spacing() const {
        const auto& xyz = config.teacher.input.spacing_mm;
        return {xyz[2], xyz[1], xyz[0]};
    }
    std::filesystem::path folder(std::int64_t seed, const std::string& arm) const {
        return run.out / ("seed-" + std::to_string(seed)) / arm;
    }
    TrainingCall call(const std::filesystem::path& folder, std::int64_t steps) const {
        TrainingCall c;
        c.checkpoint = folder / "checkpoint.safetensors";
        c.on_step = [this, steps](const StepReport& r) {
            if (r.step % 50 == 0 || r.step == steps)
                print("    step " + std::to_string(r.step) + " of " + std::to_string(steps) + ", loss " +
                      std::to_string(r.loss));
            return !(run.stop && run.stop());
        };
        return c;
    }
};

Result<Bench> open_bench(const ComparisonRun& run, const char* kind) {
    Result<ComparisonConfig> config = load_comparison(run.config);
    if (!config) return std::move(config).error();
    if (Result<void> made = make_folder(run.out); !made) return made.error();
    const std::filesystem::path mark = run.out / "comparison.txt";
    const std::string line = std::string(kind) + " " + config->fingerprint + "\n";
    if (const Result<std::string> before = read_file(mark); before.ok()) {
        if (*before != line)
            return config_error(run.out.string() + " holds a comparison of another kind or configuration");
    } else if (Result<void> written = write_file_durably(mark, line); !written) {
        return written.error();
    }
    Result<PhantomAtlas> atlas = PhantomAtlas::load(run.shapes);
    if (!atlas) return std::move(atlas).error().in("loading the heart shape");
    set_cpu_threads(std::max(1, run.threads));
    return Bench{run, *std::move(config), std::make_shared<const PhantomAtlas>(*std::move(atlas)), {}};
}

json measures(const ArmScore& score) {
    json j;
    if (!score.errors_mm.empty()) {
        j["mean_error_mm"] = score.mean_error_mm();
        j["found_share"] = score.found_share();
        for (const auto& [point, errors] : score.errors_mm) {
            j["points"][point] = {{"mean_error_mm", score.mean_error_mm(point)},
                                  {"found", score.found.at(point)},
                                  {"present", score.present.at(point)}};
        }
    }
    for (const auto& [head, counts] : score.overlap) j[head + "_dice"] = score.dice(head);
    return j;
}

/// One arm of one seed: read if it is done; else made, kept and scored.
/// @param make  trains (with checkpoints in the folder) and returns the arm's networks
Result<json> arm(const Bench& bench, std::int64_t seed, const std::string& name, const std::vector<TestCase>& test,
                 const std::function<Result<std::vector<Answerer>>(const std::filesystem::path&)>& make) {
    const std::filesystem::path folder = bench.folder(seed, name), done = folder / "score.json";
    if (const Result<std::string> text = read_file(done); text.ok()) {
        const json kept = json::parse(*text, nullptr, false);
        if (!kept.is_discarded()) return kept;
    }
    bench.print("seed " + std::to_string(seed) + ": " + name);
    if (Result<void> made = make_folder(folder); !made) return made.error();
    const double started = cpu_seconds();
    Result<std::vector<Answerer>> answerers = make(folder);
    if (!answerers) return std::move(answerers).error().in(name + " of seed " + std::to_string(seed));
    const double trained = cpu_seconds();
    try {
        json j = measures(score(*answerers, test, bench.spacing(), bench.config.missed_mm));
        j["cpu_seconds"] = trained - started;
        for (std::size_t i = 0; i < answerers->size(); ++i) {
            const std::string file = answerers->size() == 1 ? "weights" : "weights-" + answerers->at(i).heads[0].name;
            if (Result<void> saved = save_weights(*answerers->at(i).network, folder / (file + ".safetensors")); !saved)
                return saved.error();
        }
        if (Result<void> written = write_file_durably(done, j.dump(1)); !written) return written.error();
        std::error_code no_matter;  // moments and averages are of no use any more
        for (const auto& entry : std::filesystem::directory_iterator(folder, no_matter)) {
            if (entry.path().filename().string().find("checkpoint") != std::string::npos)
                std::filesystem::remove(entry.path(), no_matter);
        }
        bench.print("    " + j.dump());
        return j;
    } catch (const std::exception& e) {
        return bug_error("scoring " + name + ": " + e.what());
    }
}

/// The paired test of two arms under one measure; `better` says which direction is.
json paired(const json& seeds, const std::string& arm, const std::string& against, const std::string& measure,
            bool lower_is_better, const std::string& role) {
    std::vector<double> gains;
    for (const json& seed : seeds) {
        const double a = seed["arms"][arm][measure], b = seed["arms"][against][measure];
        gains.push_back(lower_is_better ? b - a : a - b);
    }
    const SignFlip test = sign_flip_test(gains);
    return {{"arm", arm},
            {"against", against},
            {"measure", measure},
            {"role", role},
            {"gains", test.differences},
            {"mean_gain", test.mean},
            {"p_one_sided", test.one_sided},
            {"p_two_sided", test.two_sided}};
}

Result<json> finished(const Bench& bench, const char* kind, json seeds, json tests) {
    const ComparisonConfig& c = bench.config;
    json result = {
        {"kind", kind},
        {"config", bench.run.config.filename().string()},
        {"fingerprint", c.fingerprint},
        {"missed_mm", c.missed_mm},
        {"labelled", kind == std::string("frozen-head") ? c.frozen.labelled : c.labelled},
        {"labels_each", c.labels_each},
        {"unlabelled", c.unlabelled},
        {"test", kind == std::string("frozen-head") ? c.frozen.test : c.test},
        {"steps", {{"teacher", c.teacher.steps}, {"student", c.student.steps}, {"baseline", c.baseline.steps}}},
        {"seeds", std::move(seeds)},
        {"tests", std::move(tests)}};
    if (Result<void> written = write_file_durably(bench.run.out / "results.json", result.dump(1)); !written)
        return written.error();
    if (Result<void> written = write_file_durably(bench.run.out / "results.md", comparison_markdown(result)); !written)
        return written.error();
    return result;
}

/// The phantoms of one seed.
class SeedData final : public StudiesToLabel {
public:
    SeedData(const Bench& bench, std::int64_t seed) : spacing_(bench.spacing()) {
        const ComparisonConfig& c = bench.config;
        const auto draw = [&](PhantomUse use, int i) {
            return draw_case(bench.atlas, c.student, c.study, c.root_jitter_mm, use, static_cast<std::uint64_t>(seed),
                             static_cast<std::uint64_t>(i))
                .sample;
        };
        const auto heads = static_cast<int>(c.teacher.heads.size());
        for (int i = 0; i < c.labelled; ++i) {
            Sample s = draw(PhantomUse::labelled, i);
            std::map<std::string, torch::Tensor> kept;
            for (int k = 0; k < std::min(c.labels_each, heads); ++k) {
                const std::string& head = c.teacher.heads[static_cast<std::size_t>((i + k) % heads)].name;
                kept[head] = s.targets.at(head);
            }
            s.targets = std::move(kept);
            labelled.push_back(std::move(s));
        }
        for (int i = 0; i < c.unlabelled; ++i) {
            Sample s = draw(PhantomUse::unlabelled, i);
            s.targets.clear();
            unlabelled_.push_back(std::move(s));
        }
    }
    std::vector<Sample> with_label(const std::string& head) const {
        std::vector<Sample> those;
        for (const Sample& s : labelled) {
            if (s.targets.count(head)) those.push_back(s);
        }
        return those;
    }
    std::size_t count() const override { return labelled.size() + unlabelled_.size(); }
    Result<StudyToLabel> study(std::size_t i) const override {
        const Sample& s = i < labelled.size() ? labelled[i] : unlabelled_[i - labelled.size()];
        return StudyToLabel{study_hash(s.image), s, spacing_};
    }
    std::vector<Sample> labelled;

private:
    std::vector<Sample> unlabelled_;
    std::array<double, 3> spacing_;
};

Recipe of_seed(Recipe recipe, std::int64_t seed, std::uint64_t stream) {
    recipe.seed = mix_bits(recipe.seed + static_cast<std::uint64_t>(seed) * 64 + stream) >> 4;
    return recipe;
}

WindowManifest whole_study(const ComparisonConfig& c) {
    WindowManifest window;
    for (std::size_t i = 0; i < 3; ++i) window.size[i] = c.study[i];
    return window;
}

/// All arms of one seed.
Result<json> distil_seed(Bench& bench, std::int64_t seed) {
    const ComparisonConfig& c = bench.config;
    if (bench.test.empty()) {
        for (int i = 0; i < c.test; ++i)
            bench.test.push_back(draw_case(bench.atlas, c.student, c.student.window, c.root_jitter_mm, PhantomUse::test,
                                           0, static_cast<std::uint64_t>(i)));
    }
    const SeedData data(bench, seed);
    json arms;
    std::vector<Teacher> teachers;
    const auto teach = [&](const std::filesystem::path& folder) -> Result<std::vector<Answerer>> {
        std::vector<Answerer> answerers;
        for (std::size_t i = 0; i < c.teacher.heads.size(); ++i) {
            const std::string& head = c.teacher.heads[i].name;
            Result<Recipe> recipe = recipe_for_head(of_seed(c.teacher, seed, i), head);
            if (!recipe) return std::move(recipe).error();
            const StudyWindows windows(data.with_label(head), {}, 1, recipe->window, recipe->seed, c.jitter);
            TrainingCall call = bench.call(folder, recipe->steps);
            call.checkpoint = folder / ("checkpoint-" + head + ".safetensors");
            Result<Teacher> teacher = train_teacher(*recipe, windows, whole_study(c), call);
            if (!teacher) return std::move(teacher).error();
            answerers.push_back({teacher->network, teacher->heads});
        }
        return answerers;
    };
    Result<json> taught = arm(bench, seed, kTeachers, bench.test, teach);
    if (!taught) return taught;
    arms[kTeachers] = *taught;
    for (std::size_t i = 0; i < c.teacher.heads.size(); ++i) {  // as they lie on disk, also after a restart
        const std::string& head = c.teacher.heads[i].name;
        const std::string file = c.teacher.heads.size() == 1 ? "weights" : "weights-" + head;
        Result<Recipe> recipe = recipe_for_head(of_seed(c.teacher, seed, i), head);
        Result<Trainer> shell = recipe ? Trainer::create(*recipe) : Result<Trainer>(std::move(recipe).error());
        if (!shell) return std::move(shell).error();
        Result<std::shared_ptr<Network>> network = shell->averaged();
        if (!network) return std::move(network).error();
        if (Result<void> loaded = load_weights(**network, bench.folder(seed, kTeachers) / (file + ".safetensors"));
            !loaded)
            return loaded.error();
        Result<Teacher> teacher =
            make_teacher(*std::move(network), pseudo_heads(*recipe), whole_study(c), recipe->precision);
        if (!teacher) return std::move(teacher).error();
        teachers.push_back(*std::move(teacher));
    }

    StudentSamples alone{data.labelled, {}, 1, c.jitter}, both{{}, {}, c.labelled_share, c.jitter};
    Result<PseudoLabelCache> cache = PseudoLabelCache::open(bench.run.out / "answers", std::uint64_t{1} << 30);
    if (!cache) return std::move(cache).error();
    Result<PseudoLabelReport> report =
        make_pseudo_labels(teachers, data, &*cache, c.pseudo, [&](std::size_t i, Sample sample) -> Result<void> {
            (i < data.labelled.size() ? both.labelled : both.pseudo).push_back(std::move(sample));
            return {};
        });
    if (!report) return std::move(report).error();
    bench.print("    " + report->summary());

    struct Plan {
        const char* name;
        const Recipe& recipe;
        const StudentSamples& samples;
    };
    const Plan plans[] = {{kStudentLabelled, c.student, alone},
                          {kStudentPseudo, c.student, both},
                          {kBaselineLabelled, c.baseline, alone},
                          {kBaselinePseudo, c.baseline, both}};
    for (const Plan& plan : plans) {
        if (std::find(c.arms.begin(), c.arms.end(), plan.name) == c.arms.end()) continue;
        const Recipe recipe = of_seed(plan.recipe, seed, 16);
        Result<json> made = arm(bench, seed, plan.name, bench.test, [&](const std::filesystem::path& folder) {
            Result<std::shared_ptr<Network>> network =
                train_student(recipe, plan.samples, bench.call(folder, recipe.steps));
            if (!network) return Result<std::vector<Answerer>>(std::move(network).error());
            return Result<std::vector<Answerer>>({{*std::move(network), pseudo_heads(recipe)}});
        });
        if (!made) return made;
        arms[plan.name] = *made;
    }
    json left_out = json::object();
    for (const auto& l : report->left_out) left_out[l.head] = left_out.value(l.head, 0) + 1;
    return json{{"seed", seed}, {"arms", arms}, {"pseudo_labels", report->labelled}, {"left_out", left_out}};
}

}  // namespace

Result<json> compare_distillation(const ComparisonRun& run) {
    Result<Bench> bench = open_bench(run, "distillation");
    if (!bench) return std::move(bench).error();
    json seeds = json::array();
    for (int i = 0; i < run.seeds; ++i) {
        try {
            Result<json> seed = distil_seed(*bench, bench->config.first_seed + i);
            if (!seed) return seed;
            seeds.push_back(*std::move(seed));
        } catch (const std::exception& e) {
            return bug_error(std::string("comparing: ") + e.what());
        }
    }
    json tests = json::array();
    const auto compare = [&](const char* arm, const char* against, const char* role) {
        const json& run_arms = seeds[0]["arms"];
        if (!run_arms.contains(arm) || !run_arms.contains(against)) return;
        tests.push_back(paired(seeds, arm, against, "mean_error_mm", true, role));
        tests.push_back(paired(seeds, arm, against, "calc_dice", false, role[0] == 'p' ? "second" : role));
    };
    compare(kStudentPseudo, kStudentLabelled, "primary");
    compare(kBaselinePseudo, kBaselineLabelled, "baseline");
    compare(kStudentPseudo, kBaselinePseudo, "student against UNet");
    compare(kStudentPseudo, kTeachers, "student against teachers");
    return finished(*bench, "distillation", std::move(seeds), std::move(tests));
}

Result<json> compare_frozen_head(const ComparisonRun& run) {
    Result<Bench> bench = open_bench(run, "frozen-head");
    if (!bench) return std::move(bench).error();
    const ComparisonConfig& c = bench->config;
    if (!c.frozen.given) return config_error(run.config.string() + " has no section frozen_head");
    const std::string head = c.frozen.student.heads.front().name;
    json seeds = json::array();
    try {
        std::vector<TestCase> test;
        for (int i = 0; i < c.frozen.test; ++i)
            test.push_back(draw_case(bench->atlas, c.frozen.student, c.frozen.student.window, c.root_jitter_mm,
                                     PhantomUse::new_head_test, 0, static_cast<std::uint64_t>(i)));
        for (int i = 0; i < run.seeds; ++i) {
            const std::int64_t seed = c.first_seed + i;
            std::vector<Sample> labelled;
            for (int n = 0; n < c.frozen.labelled; ++n)
                labelled.push_back(draw_case(bench->atlas, c.frozen.student, c.study, c.root_jitter_mm,
                                             PhantomUse::new_head, static_cast<std::uint64_t>(seed),
                                             static_cast<std::uint64_t>(n))
                                       .sample);
            struct Plan {
                const char *name, *body;
                const Recipe& recipe;
            };
            json arms;
            for (const Plan& plan : {Plan{kFrozenStudent, kStudentPseudo, c.frozen.student},
                                     Plan{kFrozenBaseline, kBaselinePseudo, c.frozen.baseline}}) {
                const Recipe recipe = of_seed(plan.recipe, seed, 32);
                const std::filesystem::path body =
                    run.bodies / ("seed-" + std::to_string(seed)) / plan.body / "weights.safetensors";
                if (!std::filesystem::exists(body))
                    return config_error(body.string() + " is missing: run `cardionode compare distillation` first");
                const StudyWindows windows(labelled, {}, 1, recipe.window, recipe.seed, c.jitter);
                Result<json> made = arm(*bench, seed, plan.name, test, [&](const std::filesystem::path& folder) {
                    Result<std::shared_ptr<Network>> network =
                        fine_tune(recipe, body, head, true, windows, bench->call(folder, recipe.steps));
                    if (!network) return Result<std::vector<Answerer>>(std::move(network).error());
                    return Result<std::vector<Answerer>>({{*std::move(network), pseudo_heads(recipe)}});
                });
                if (!made) return made;
                arms[plan.name] = *made;
            }
            seeds.push_back({{"seed", seed}, {"arms", arms}});
        }
    } catch (const std::exception& e) {
        return bug_error(std::string("comparing: ") + e.what());
    }
    json tests = json::array();
    tests.push_back(paired(seeds, kFrozenStudent, kFrozenBaseline, head + "_dice", false, "primary"));
    return finished(*bench, "frozen-head", std::move(seeds), std::move(tests));
}

}  // namespace cardionode::train
