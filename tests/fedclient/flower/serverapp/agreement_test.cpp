// The server app's rules in numpy against the coordinator's in C++: the same inputs, the same model, the same updates
// dropped, with random weights and counts and every kind of bad update.
#include <gtest/gtest.h>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include <fmt/format.h>

#include "fedclient/coordinator/aggregate.h"
#include "models/weights/tensor_file.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using Tensors = std::map<std::string, std::vector<float>>;

const std::map<std::string, std::vector<std::int64_t>> kShapes = {
    {"encoder.0.conv.weight", {8, 4, 3, 3, 3}}, {"encoder.0.norm.bias", {8}},     {"decoder.scale", {}},
    {"seg_layers.heart.0.weight", {8, 16}},     {"seg_layers.heart.0.bias", {8}}, {"seg_layers.hps.0.weight", {6, 40}},
    {"outs.calc.conv.conv.weight", {2, 30}}};

std::int64_t elements(const std::vector<std::int64_t>& shape) {
    std::int64_t product = 1;
    for (const std::int64_t side : shape) product *= side;
    return product;
}

void write(const fs::path& file, const Tensors& tensors) {
    std::vector<TensorEntry> entries;
    for (const auto& [name, values] : tensors) {
        const auto shape = kShapes.find(name);
        const auto fits = shape != kShapes.end() && elements(shape->second) == std::ssize(values);
        entries.push_back({name, "F32", fits ? shape->second : std::vector<std::int64_t>{std::ssize(values)}});
    }
    auto writer = TensorFileWriter::create(file, entries);
    ASSERT_TRUE(writer) << writer.error().message;
    for (const auto& [name, values] : tensors) ASSERT_TRUE(writer->append(std::span<const float>(values)));
    ASSERT_TRUE(writer->commit());
}

struct Site {
    std::string name;
    Tensors weights;
    std::map<std::string, double> labelled;
    double unlabelled = 0;
};

/// Sites that moved about as far in about one direction, with label counts of which some are 0.
std::vector<Site> honest_sites(const Tensors& base, int count, std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    std::uniform_int_distribution<int> labels(0, 9);
    Tensors shared;
    for (const auto& [name, values] : base) {
        for (std::size_t i = 0; i < values.size(); ++i) shared[name].push_back(0.1F * normal(random));
    }
    std::vector<Site> sites;
    for (int k = 0; k < count; ++k) {
        Site site{fmt::format("site{}", k), {}, {}, static_cast<double>(labels(random))};
        for (const auto& [name, values] : base) {
            for (std::size_t i = 0; i < values.size(); ++i)
                site.weights[name].push_back(values[i] + shared[name][i] + 0.03F * normal(random));
        }
        site.labelled = {
            {"heart", std::max(0, labels(random) - 3)}, {"hps", labels(random) + 1}, {"calc", labels(random)}};
        sites.push_back(std::move(site));
    }
    return sites;
}

void each(Site& site, const Tensors& base, const std::function<float(float, float)>& change) {
    for (auto& [name, values] : site.weights) {
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = change(base.at(name)[i], values[i]);
    }
}

class Agreement : public testing::TestWithParam<int> {};

TEST_P(Agreement, OfServerAppAndCoordinator) {
    std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
    std::normal_distribution<float> normal;
    Tensors base;
    for (const auto& [name, shape] : kShapes) {
        for (std::int64_t i = 0; i < elements(shape); ++i) base[name].push_back(normal(random));
    }
    auto sites = honest_sites(base, 3 + GetParam() % 4, random);
    AggregationRules rules;
    rules.quorum = 1 + GetParam() % 3;
    rules.beta = GetParam() % 2 ? 0.3 : 0;
    rules.per_head = GetParam() % 5 != 0;
    rules.min_sites_per_head = 1 + GetParam() % 2;
    rules.trim = GetParam() % 7 == 0 ? 0.25 : 0;
    Site& bad = sites[1];
    switch (GetParam() % 8) {
        case 0: each(bad, base, [](float w, float v) { return w + 100 * (v - w); }); break;
        case 1: each(bad, base, [](float w, float v) { return w - (v - w); }); break;
        case 2: bad.weights["seg_layers.hps.0.weight"][3] = std::numeric_limits<float>::quiet_NaN(); break;
        case 3: bad.weights["encoder.0.norm.bias"].push_back(0); break;
        case 4: bad.weights.erase("encoder.0.norm.bias"); break;
        case 5:  // a head without labels may be absent
            bad.weights.erase("outs.calc.conv.conv.weight");
            bad.labelled["calc"] = 0;
            break;
        case 6: each(bad, base, [](float w, float) { return w; }); break;  // learned nothing
        default: break;
    }

    const test::TemporaryFolder folder;
    write(folder / "base.safetensors", base);
    json described = {{"rules",
                       {{"per_head", rules.per_head},
                        {"beta", rules.beta},
                        {"quorum", rules.quorum},
                        {"min_sites_per_head", rules.min_sites_per_head},
                        {"max_norm_ratio", rules.max_norm_ratio},
                        {"min_cosine", rules.min_cosine},
                        {"trim", rules.trim}}},
                      {"updates", json::array()}};
    std::vector<SiteUpdate> updates;
    for (const Site& site : sites) {
        write(folder / (site.name + ".safetensors"), site.weights);
        updates.push_back({site.name, folder / (site.name + ".safetensors"), site.labelled, site.unlabelled});
        described["updates"].push_back({{"site", site.name},
                                        {"file", site.name + ".safetensors"},
                                        {"labelled", site.labelled},
                                        {"unlabelled", site.unlabelled}});
    }
    std::ofstream(folder / "case.json") << described;

    const auto report = aggregate(folder / "base.safetensors", updates, rules, folder / "coordinator.safetensors");
    const auto ended = test::run(
        {"/usr/bin/python3", "-B", CARDIONODE_SOURCE_DIR "/tests/fedclient/flower/serverapp/aggregate_case.py",
         fs::path(folder / "case.json").parent_path().string()},
        std::chrono::seconds(60));
    if (ended.ending == test::Ending{77, 0}) GTEST_SKIP() << "python3-numpy is not installed";
    ASSERT_EQ(ended.ending, (test::Ending{0, 0})) << ended.errors;
    const json other = json::parse(std::ifstream(folder / "report.json"));
    ASSERT_EQ(other["refused"].get<bool>(), !report) << (report ? "" : report.error().message);
    if (!report) return;

    std::vector<std::string> dropped;
    for (const DroppedUpdate& update : report->dropped) dropped.push_back(update.site);
    EXPECT_EQ(other["dropped"].get<std::vector<std::string>>(), dropped);
    EXPECT_EQ(other["unchanged_heads"].get<std::vector<std::string>>(), report->unchanged_heads);
    const auto near = [](const json& theirs, const std::map<std::string, std::map<std::string, double>>& ours) {
        EXPECT_EQ(theirs.size(), ours.size());
        for (const auto& [group, values] : ours) {
            ASSERT_TRUE(theirs.contains(group)) << group;
            EXPECT_EQ(theirs[group].size(), values.size()) << group;
            for (const auto& [site, value] : values)
                EXPECT_NEAR(theirs[group].value(site, -1.0), value, 1e-6 * (1 + value)) << group << " " << site;
        }
    };
    near(other["weights"], report->weights);
    near(other["norms"], report->norms);

    const auto ours = TensorFile::open(folder / "coordinator.safetensors");
    const auto theirs = TensorFile::open(folder / "out.safetensors");
    ASSERT_TRUE(ours && theirs);
    ASSERT_EQ(ours->entries().size(), theirs->entries().size());
    bool changed = false;
    for (const TensorEntry& entry : ours->entries()) {
        const TensorEntry* const same = theirs->find(entry.name);
        ASSERT_NE(same, nullptr) << entry.name;
        EXPECT_EQ(same->shape, entry.shape) << entry.name;
        const auto a = ours->floats(entry), b = theirs->floats(*same);
        ASSERT_TRUE(a && b) << entry.name;
        for (std::size_t i = 0; i < a->size(); ++i) {
            ASSERT_NEAR((*a)[i], (*b)[i], 1e-6) << entry.name << " " << i;
            changed = changed || (*a)[i] != base.at(entry.name)[i];
        }
    }
    EXPECT_TRUE(changed);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Agreement, testing::Range(0, 24));

}  // namespace
}  // namespace cardionode::fed
