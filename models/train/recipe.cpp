#include "models/train/recipe.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "conf/base/settings.h"

namespace cardionode::train {
namespace {

template <std::size_t N, class T>
void fixed(Section& section, std::string_view key, std::array<T, N>& target, double lowest) {
    if (!section.has(key)) return;
    std::vector<double> values;
    section.numbers(key, values);
    if (values.size() != N || std::any_of(values.begin(), values.end(), [&](double v) { return v < lowest; })) {
        std::string expected = std::to_string(N);
        expected += " numbers, none below " + std::to_string(lowest);
        section.problem(key, expected);
        return;
    }
    for (std::size_t i = 0; i < N; ++i) target[i] = static_cast<T>(values[i]);
}

bool is_head_name(std::string_view name) {
    return !name.empty() && name.size() <= 40 && name.front() >= 'a' && name.front() <= 'z' &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}
constexpr std::string_view kHeadName = "a name of small letters, digits and _, like calc";

void read_start(Section root, Recipe& r, const std::filesystem::path& folder) {
    Section init = root.section("init");
    init.path("weights", r.init_weights);
    init.no_other_keys();
    if (!r.init_weights.empty()) r.init_weights = folder / r.init_weights;
    root.boolean("freeze_backbone", r.freeze_backbone);
    if (r.freeze_backbone && r.init_weights.empty()) {
        root.problem("freeze_backbone", "true only beside init.weights: a body that never learned cannot be frozen");
    }
    root.texts("train_heads", r.train_heads, is_head_name, kHeadName);
    for (const std::string& name : r.train_heads) {
        const auto named = [&](const HeadRecipe& h) { return h.name == name; };
        if (std::any_of(r.heads.begin(), r.heads.end(), named)) continue;
        r.heads.push_back({});
        r.heads.back().name = name;
    }
}

void read_data(Section root, Recipe& r, const std::filesystem::path& folder) {
    Section data = root.section("data");
    data.path("studies", r.data.studies);
    if (!r.data.studies.empty()) r.data.studies = folder / r.data.studies;
    data.number("share", r.data.share, 0, 1);
    data.number("holdout", r.data.holdout, 0, 0.9);
    data.integer("split_seed", r.data.split_seed, 0, std::int64_t{1} << 60);
    data.number("rare_share", r.data.rare_share, 0, 1);
    data.no_other_keys();

    Section all = root.section("augment");
    AugmentRecipe& a = r.augment;
    const auto kind = [&](const char* name, double& probability, const char* width, double& value, double low,
                          double high) {
        Section one = all.section(name);
        one.number("probability", probability, 0, 1);
        one.number(width, value, low, high);
        one.no_other_keys();
    };
    kind("rotate", a.rotate, "degrees", a.rotate_degrees, 0, 45);
    kind("scale", a.scale, "most", a.scale_most, 1, 2);
    kind("blur", a.blur, "voxels", a.blur_voxels, 0.3, 5);
    kind("low_resolution", a.low_resolution, "most", a.low_resolution_most, 1, 8);
    kind("gamma", a.gamma, "most", a.gamma_most, 1, 4);
    kind("noise", a.noise, "most", a.noise_most, 0, 1);
    kind("contrast", a.contrast, "width", a.contrast_width, 0, 1);
    all.no_other_keys();
}

Recipe read_recipe(Section root, const std::filesystem::path& folder) {
    Recipe r;
    std::int64_t seed = 1;
    root.integer("seed", seed, 0, std::int64_t{1} << 60);
    r.seed = static_cast<std::uint64_t>(seed);
    root.integer("steps", r.steps, 1, 100'000'000);
    root.integer("batch", r.batch, 1, 1024);
    fixed(root, "window", r.window, 8);
    root.one_of("placement", r.placement, {"chest", "root"});
    root.number("root_jitter_mm", r.root_jitter_mm, 0, 100);
    root.one_of("precision", r.precision, {"float32", "bfloat16"});

    Section architecture = root.section("architecture");
    architecture.one_of("type", r.architecture.type, {"plain_conv_unet", "swin_unetr"});
    architecture.required("type", "plain_conv_unet or swin_unetr");
    architecture.integer("feature_size", r.architecture.feature_size, 12, 480);
    architecture.one_of("patch_merging", r.architecture.patch_merging, {"monai_0_9", "monai_1_5", "v2"});
    architecture.integers("features", r.architecture.features);
    if (architecture.has("strides")) {
        std::vector<std::int64_t> strides;  // one a stage, equal along the axes
        architecture.integers("strides", strides);
        for (const std::int64_t s : strides) r.architecture.strides.push_back({s, s, s});
    }
    if (r.architecture.type == "plain_conv_unet" && r.architecture.features.size() != r.architecture.strides.size()) {
        architecture.problem("strides", "one stride for each of the features");
    }
    architecture.no_other_keys();

    Section input = root.section("input");
    double spacing = 2;
    input.number("spacing_mm", spacing, 0.3, 8);
    r.input.spacing_mm = {spacing, spacing, spacing};
    input.number("hu_low", r.input.hu_low, -2000, 3000);
    input.number("hu_high", r.input.hu_high, -1000, 4000);
    input.number("mean", r.input.mean, -2000, 3000);
    input.number("sd", r.input.sd, 1e-3, 3000);
    if (r.input.hu_low >= r.input.hu_high) input.problem("hu_high", "a value above hu_low");
    input.no_other_keys();

    root.required("heads", "a list of heads");
    for (Section& head : root.sections("heads")) {
        HeadRecipe h;
        head.required("name", "heart, hps, ms, calc or another");
        head.text("name", h.name, is_head_name, kHeadName);
        head.integer("classes", h.classes, 1, 200);
        head.number("weight", h.weight, 0, 1000);
        head.number("foreground_weight", h.foreground_weight, 1e-3, 1000);
        for (Section& change : head.sections("later")) {
            std::int64_t from = 0;
            double weight = h.foreground_weight;
            change.required("from_step", "a step");
            change.integer("from_step", from, 0, 100'000'000);
            change.required("foreground_weight", "a weight");
            change.number("foreground_weight", weight, 1e-3, 1000);
            change.no_other_keys();
            h.later[from] = weight;
        }
        head.no_other_keys();
        r.heads.push_back(h);
    }
    read_start(root, r, folder);
    read_data(root, r, folder);
    root.numbers("level_weights", r.level_weights);

    Section optimiser = root.section("optimiser");
    optimiser.number("learning_rate", r.learning_rate, 0, 10);
    optimiser.number("weight_decay", r.weight_decay, 0, 10);
    optimiser.number("clip_norm", r.clip_norm, 0, 1e9);
    optimiser.integer("warm_up", r.warm_up, 0, 1'000'000);
    optimiser.one_of("schedule", r.schedule, {"constant", "linear", "cosine"});
    optimiser.integer("decay_from", r.decay_from, 0, 100'000'000);
    for (Section& part : optimiser.sections("fine_tune")) {
        Recipe::FineTune f;
        for (const char* key : {"from_step", "learning_rate", "until"}) part.required(key, "a number");
        part.integer("from_step", f.from_step, 0, 100'000'000);
        part.number("learning_rate", f.learning_rate, 0, 10);
        part.integer("until", f.until, 1, 100'000'000);
        if (f.until <= f.from_step) part.problem("until", "a step after from_step");
        if (!r.fine_tune.empty() && f.from_step <= r.fine_tune.back().from_step) {
            part.problem("from_step", "a step after that of the part before");
        }
        part.no_other_keys();
        r.fine_tune.push_back(f);
    }
    optimiser.number("ema_decay", r.ema_decay, 0, 0.99999);
    optimiser.no_other_keys();

    Section phantoms = root.section("phantoms");
    phantoms.number("ball_radius_mm", r.ball_radius_mm, 1, 20);
    phantoms.number("septum_ball_radius_mm", r.septum_ball_radius_mm, 1, 20);
    phantoms.number("non_contrast_share", r.non_contrast_share, 0, 1);
    const auto which = [](Section& section, PhantomRecipe& part) {
        section.integer("edition", part.edition, 1, 4);
        section.one_of("profiles", part.profiles, {"training", "held_out", "all"});
    };
    which(phantoms, r.phantoms);
    PhantomRecipe part = r.phantoms;  // what a later part does not name stays as it was
    std::int64_t before = 0;
    for (Section& change : phantoms.sections("later")) {
        std::int64_t from = 0;
        change.required("from_step", "a step");
        change.integer("from_step", from, 0, 100'000'000);
        if (from <= before) change.problem("from_step", "a step after that of the part before");
        before = from;
        which(change, part);
        change.no_other_keys();
        r.later_phantoms[from] = part;
    }
    phantoms.no_other_keys();

    root.integer("checkpoint_every", r.checkpoint_every, 1, 1'000'000);
    root.integer("validate_every", r.validate_every, 1, 1'000'000);
    root.integer("validation_phantoms", r.validation_phantoms, 1, 10'000);
    root.no_other_keys();
    return r;
}

Result<Recipe> finish(const SettingsFile& file, Problems& problems, const std::filesystem::path& folder) {
    Recipe recipe = read_recipe(file.root(), folder);
    const Result<void> result = problems.result();
    if (!result) return result.error();
    return recipe;
}

}  // namespace

Result<Recipe> load_recipe(const std::filesystem::path& path) {
    Problems problems;
    return finish(SettingsFile::load(path, problems), problems, path.parent_path());
}

Result<Recipe> parse_recipe(std::string_view yaml, const std::string& name, const std::filesystem::path& folder) {
    Problems problems;
    return finish(SettingsFile::parse(yaml, name, problems), problems, folder);
}

double learning_rate_at(const Recipe& r, std::int64_t step) {
    const auto cosine = [&](std::int64_t from, std::int64_t to) {
        const double t = static_cast<double>(step - from) / static_cast<double>(to - from);
        return 0.5 * (1 + std::cos(std::numbers::pi * std::min(t, 1.0)));
    };
    constexpr double kFloor = 0.01;  // of the rate: the last steps still move
    for (auto part = r.fine_tune.rbegin(); part != r.fine_tune.rend(); ++part) {
        if (step >= part->from_step) {
            return part->learning_rate * std::max(cosine(part->from_step, part->until), kFloor);
        }
    }
    const double rise =
        r.warm_up > 0 ? std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(r.warm_up)) : 1.0;
    const std::int64_t end = r.fine_tune.empty() ? r.steps : r.fine_tune.front().from_step;
    double fall = 1;
    if (r.schedule != "constant" && step >= r.decay_from && end > r.decay_from) {
        fall = r.schedule == "linear"
                   ? 1 - static_cast<double>(step - r.decay_from) / static_cast<double>(end - r.decay_from)
                   : cosine(r.decay_from, end);
    }
    return r.learning_rate * rise * std::max(fall, kFloor);
}

}  // namespace cardionode::train
