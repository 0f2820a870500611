#include "models/train/comparison_config.h"

#include <algorithm>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/base/settings.h"

namespace cardionode::train {
namespace {

/// Reads the recipe that `key` names, from the comparison's folder on; its problems become problems of that key.
void read_recipe(Section& section, std::string_view key, const std::filesystem::path& folder, Recipe& recipe,
                 std::string& files) {
    section.required(key, "a recipe file");
    if (!section.has(key)) return;
    std::filesystem::path path;
    section.path(key, path);
    Result<Recipe> loaded = load_recipe(folder / path);
    if (!loaded) {
        section.problem(key, "a recipe that can be read: " + loaded.error().message);
        return;
    }
    recipe = *std::move(loaded);
    if (const Result<std::string> text = read_file(folder / path)) files += *text;
}

void read_pseudo(Section section, PseudoLabelOptions& p) {
    section.boolean("soft", p.soft);
    section.boolean("leave_out_uncertain", p.leave_out_uncertain);
    section.number("highest_uncertainty", p.highest_uncertainty, 0, 1);
    section.one_of("look", p.look, {"once", "dropout", "flips"});
    section.integer("passes", p.passes, 2, 100);
    section.number("shortest_side_mm", p.shortest_side_mm, 0, 1000);
    section.number("longest_side_mm", p.longest_side_mm, 0, 1000);
    section.no_other_keys();
}

ComparisonConfig read(Section root, const std::filesystem::path& folder, std::string& files) {
    ComparisonConfig c;
    root.integer("first_seed", c.first_seed, 0, std::int64_t{1} << 40);
    std::vector<std::int64_t> study = {c.study[0], c.study[1], c.study[2]};
    root.integers("study", study);
    if (study.size() != 3 || std::any_of(study.begin(), study.end(), [](auto s) { return s < 8 || s > 512; })) {
        root.problem("study", "three whole numbers from 8 to 512");
    } else {
        for (std::size_t i = 0; i < 3; ++i) c.study[i] = static_cast<int>(study[i]);
    }
    root.number("root_jitter_mm", c.root_jitter_mm, 0, 100);
    root.integer("labelled", c.labelled, 1, 10'000);
    root.integer("labels_each", c.labels_each, 1, 100);
    root.integer("unlabelled", c.unlabelled, 1, 100'000);
    root.integer("test", c.test, 1, 10'000);
    root.number("missed_mm", c.missed_mm, 1, 1000);
    root.number("labelled_share", c.labelled_share, 0, 1);
    Section jitter = root.section("jitter");
    jitter.number("gain", c.jitter.gain, 0, 0.9);
    jitter.number("offset", c.jitter.offset, 0, 10);
    jitter.number("noise", c.jitter.noise, 0, 10);
    jitter.no_other_keys();
    read_pseudo(root.section("pseudo_labels"), c.pseudo);
    const std::vector<std::string> known = c.arms;
    root.texts(
        "arms", c.arms, [&](std::string_view arm) { return std::find(known.begin(), known.end(), arm) != known.end(); },
        "student-labelled, student-pseudo, baseline-labelled or baseline-pseudo");
    Section recipes = root.section("recipes");
    read_recipe(recipes, "teacher", folder, c.teacher, files);
    read_recipe(recipes, "student", folder, c.student, files);
    read_recipe(recipes, "baseline", folder, c.baseline, files);
    recipes.no_other_keys();
    c.frozen.given = root.has("frozen_head");
    if (c.frozen.given) {
        Section frozen = root.section("frozen_head");
        frozen.integer("labelled", c.frozen.labelled, 1, 10'000);
        frozen.integer("test", c.frozen.test, 1, 10'000);
        read_recipe(frozen, "student", folder, c.frozen.student, files);
        read_recipe(frozen, "baseline", folder, c.frozen.baseline, files);
        frozen.no_other_keys();
    }
    root.no_other_keys();
    return c;
}

}  // namespace

Result<ComparisonConfig> load_comparison(const std::filesystem::path& path) {
    const Result<std::string> text = read_file(path);
    if (!text) return text.error();
    Problems problems;
    const SettingsFile file = SettingsFile::load(path, problems);
    std::string files = *text;
    ComparisonConfig config = read(file.root(), path.parent_path(), files);
    if (const Result<void> fine = problems.result(); !fine) return fine.error();
    config.fingerprint = sha256_hex(files);
    return config;
}

}  // namespace cardionode::train
